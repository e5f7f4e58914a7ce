//! A request on its way to an upstream, as HTTP/1.1 bytes: its head, and its body in the framing the head announces
//! (RFC 9112, sections 3, 6 and 7.1).

use std::io::IoSlice;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Method, header};
use tokio::io::AsyncWrite;

use super::OutgoingHead;
use super::connect::UpstreamStream;
use super::decode::{Offer, WEBSOCKET};
use crate::headers::{self, write_field};
use crate::pipeline::body::{BodyKind, ForwardBody, Upload, UploadError};

/// Below this, a body's bytes are copied behind what goes before them, so that both leave in one packet.
const COPIED_BYTES: usize = 4 * 1024;

/// What most heads fit in.
const HEAD_BYTES: usize = 1024;

/// A buffer that has become larger is given back once what is in it was sent: heads over HTTP/2 are sent in far fewer bytes than
/// they are written in here, and an answer, or the rest of a body, may be long in coming.
const KEPT_BYTES: usize = 2 * COPIED_BYTES;

/// How the end of a request's body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// By the client's `Content-Length`, of which so many bytes are still to come. No byte more or less is sent: what
    /// the upstream would take for the rest of this body belongs to the next request.
    Length(u64),
    /// By a last chunk.
    Chunked,
    /// By the end of the sending half of the connection: a tunnel's, once the upstream has taken the client's offer.
    Tunnel,
}

/// What is still to be sent of a request.
#[derive(Debug)]
pub(super) struct Sending {
    /// Bytes that go first: the head, chunk sizes, small pieces of the body.
    buffer: Vec<u8>,
    /// So many of them are sent.
    buffer_sent: usize,
    /// A large piece of the body, behind the buffer.
    piece: Bytes,
    /// The end of a request that is as long as it should be, until it is known that nothing more comes: with it the upstream
    /// has a whole one.
    held_back: Bytes,
    body: Option<ForwardBody>,
    framing: Framing,
    offer: Offer,
    /// Bytes that the system has taken.
    sent: u64,
}

/// Why a request could not be sent to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// The connection failed.
    #[error("the connection failed while the request was being sent")]
    Connection(#[source] std::io::Error),
    /// The client's body broke off.
    #[error("the client's body broke off")]
    Body(#[source] UploadError),
}

impl Sending {
    /// A request whose head is written and of whose body nothing is read yet.
    pub(super) fn new(head: &OutgoingHead<'_>, body: ForwardBody) -> Self {
        let mut buffer = Vec::with_capacity(HEAD_BYTES);
        let framing = write_head(head, &body, &mut buffer);
        // A head that says that nothing follows is a whole request.
        let held_back = match framing {
            Framing::Length(0) if !body.is_over() => buffer.split_off(buffer.len() - "\r\n".len()).into(),
            Framing::Length(_) | Framing::Chunked | Framing::Tunnel => Bytes::new(),
        };
        let body = (!body.is_empty()).then_some(body);
        let offer = match (framing, head.protocol) {
            (Framing::Tunnel, Some(protocol)) => Offer::Protocol(Arc::clone(protocol)),
            (Framing::Tunnel, None) => Offer::WebSocket,
            (Framing::Length(_) | Framing::Chunked, _) => Offer::Nothing,
        };
        Self { buffer, buffer_sent: 0, piece: Bytes::new(), held_back, body, framing, offer, sent: 0 }
    }

    /// Whether everything was sent.
    pub(super) fn is_complete(&self) -> bool {
        self.body.is_none() && self.is_empty()
    }

    /// Whether everything was sent that has been read so far.
    fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.piece.is_empty()
    }

    /// What it offers the upstream to go on in.
    pub(super) fn offer(&self) -> Offer {
        self.offer.clone()
    }

    /// Whether its head is on its way as a whole.
    pub(super) fn is_head_sent(&self) -> bool {
        self.is_empty()
    }

    /// Whether the system has taken none of it, so that all of it can be sent over another connection.
    pub(super) fn is_unsent(&self) -> bool {
        self.sent == 0
    }

    /// The body, if there is one and nothing of it was read: then the request can be written anew.
    pub(super) fn into_whole_body(self) -> Option<ForwardBody> {
        let is_whole = self.upload().is_some_and(|upload| upload.bytes() == 0 && !upload.is_over());
        self.body.filter(|body| is_whole && body.kind() == BodyKind::Framed)
    }

    /// How far the client's body has come; `None` without one.
    pub(super) fn upload(&self) -> Option<Rc<Upload>> {
        self.body.as_ref().and_then(ForwardBody::upload)
    }

    /// Sends what can be sent now; ready once all is.
    pub(super) fn poll(
        &mut self,
        stream: &mut UpstreamStream,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        loop {
            // A small body that is there already leaves with the head.
            let read = if self.piece.is_empty() && self.buffer.len() < COPIED_BYTES {
                self.read_body(context)?
            } else {
                Poll::Pending
            };
            if self.is_empty() {
                if read.is_ready() && !self.is_complete() {
                    continue;
                }
                // Plain sockets hold nothing back. TLS may, and the client may wait for what its bytes bring about
                // before it sends more.
                let stream = Pin::new(&mut *stream);
                let polled = match self.framing {
                    // The upstream learns that the client has said all, and may still answer.
                    Framing::Tunnel if self.is_complete() => stream.poll_shutdown(context),
                    _ => stream.poll_flush(context),
                };
                ready!(polled).map_err(SendError::Connection)?;
                return if self.is_complete() { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            let written = ready!(self.write(stream, context)).map_err(SendError::Connection)?;
            if written == 0 {
                return Poll::Ready(Err(SendError::Connection(std::io::ErrorKind::WriteZero.into())));
            }
            self.advance(written);
        }
    }

    fn write(&self, stream: &mut UpstreamStream, context: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let stream = Pin::new(stream);
        let buffer = self.buffer.get(self.buffer_sent..).unwrap_or_default();
        match (buffer.is_empty(), self.piece.is_empty()) {
            (_, true) => stream.poll_write(context, buffer),
            (true, false) => stream.poll_write(context, &self.piece),
            (false, false) => {
                stream.poll_write_vectored(context, &[IoSlice::new(buffer), IoSlice::new(&self.piece)])
            }
        }
    }

    fn advance(&mut self, written: usize) {
        self.sent += written as u64;
        let of_buffer = written.min(self.buffer.len() - self.buffer_sent);
        self.buffer_sent += of_buffer;
        if self.buffer_sent == self.buffer.len() {
            self.buffer_sent = 0;
            if self.buffer.capacity() > KEPT_BYTES {
                self.buffer = Vec::new();
            } else {
                self.buffer.clear();
            }
        }
        self.piece.advance(written - of_buffer);
        if self.piece.is_empty() && written > of_buffer && self.framing == Framing::Chunked {
            self.buffer.extend_from_slice(b"\r\n");
        }
    }

    /// Takes the next frame of the body over into buffer and piece. Ready when there is something new to look at.
    fn read_body(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, SendError> {
        let Some(body) = &mut self.body else { return Ok(Poll::Ready(())) };
        let frame = match body.poll_frame(context) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(frame) => frame.transpose().map_err(SendError::Body)?,
        };
        match frame.map(http_body::Frame::into_data) {
            Some(Ok(data)) => self.push(data),
            Some(Err(frame)) => self.end(frame.trailers_ref()),
            None => self.end(None),
        }
        .map_err(SendError::Body)?;
        Ok(Poll::Ready(()))
    }

    fn push(&mut self, data: Bytes) -> Result<(), UploadError> {
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.framing {
            Framing::Length(remaining) => {
                *remaining = remaining.checked_sub(data.len() as u64).ok_or(UploadError::Length)?;
                if *remaining == 0 && !self.body.as_ref().is_none_or(ForwardBody::is_over) {
                    self.held_back = data;
                    return Ok(());
                }
            }
            Framing::Tunnel => {}
            Framing::Chunked => {
                self.buffer.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
            }
        }
        self.append(data);
        Ok(())
    }

    fn append(&mut self, data: Bytes) {
        if data.len() > COPIED_BYTES {
            self.piece = data;
            return;
        }
        self.buffer.extend_from_slice(&data);
        if self.framing == Framing::Chunked {
            self.buffer.extend_from_slice(b"\r\n");
        }
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), UploadError> {
        match self.framing {
            Framing::Length(0) if !self.held_back.is_empty() => {
                let last = std::mem::take(&mut self.held_back);
                self.append(last);
            }
            Framing::Length(0) | Framing::Tunnel => {}
            Framing::Length(_) => return Err(UploadError::Length),
            Framing::Chunked => {
                self.buffer.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    write_field(&mut self.buffer, name.as_str().as_bytes(), value.as_bytes());
                }
                self.buffer.extend_from_slice(b"\r\n");
            }
        }
        self.body = None;
        Ok(())
    }
}

/// The request line and all header lines; says how the body is framed.
fn write_head(head: &OutgoingHead<'_>, body: &ForwardBody, buffer: &mut Vec<u8>) -> Framing {
    buffer.extend_from_slice(head.method.as_str().as_bytes());
    buffer.extend_from_slice(b" ");
    buffer.extend_from_slice(head.target.as_bytes());
    buffer.extend_from_slice(b" HTTP/1.1\r\n");
    headers::write_upstream_request(head.headers, head.additions, buffer);
    let framing = match body.kind() {
        BodyKind::None if !anticipates_body(head.method) => Framing::Length(0),
        BodyKind::None | BodyKind::Framed => framing(head, body, buffer),
        BodyKind::Tunnel => {
            let protocol = head.protocol.map_or(WEBSOCKET, |protocol| &**protocol);
            buffer.extend_from_slice(b"connection: upgrade\r\n");
            write_field(buffer, b"upgrade", protocol.as_bytes());
            if anticipates_body(head.method) && !head.headers.contains_key(header::CONTENT_LENGTH) {
                write_field(buffer, b"content-length", b"0");
            }
            Framing::Tunnel
        }
    };
    buffer.extend_from_slice(b"\r\n");
    framing
}

/// The framing of a body, or of one that would be expected, with the line that tells if the client's do not.
fn framing(head: &OutgoingHead<'_>, body: &ForwardBody, buffer: &mut Vec<u8>) -> Framing {
    match head.headers.get(header::CONTENT_LENGTH) {
        // What is no number lets no byte of a body pass.
        Some(length) => {
            Framing::Length(length.to_str().ok().and_then(|length| length.parse().ok()).unwrap_or(0))
        }
        None if body.is_empty() => {
            // RFC 9110, section 8.6: says that there is none, where one would be expected.
            write_field(buffer, b"content-length", b"0");
            Framing::Length(0)
        }
        None => {
            write_field(buffer, b"transfer-encoding", b"chunked");
            Framing::Chunked
        }
    }
}

fn anticipates_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}
