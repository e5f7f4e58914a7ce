//! A response on its way to an HTTP/1 client: its head, and its body in the framing that the head announces (RFC 9112,
//! sections 4, 6 and 7.1).
//!
//! What must not live here: which headers a response has beyond those of its framing, and reading.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use tokio::io::AsyncWrite;

use super::head::Version;
use super::input::Recipient;
use super::{Respond, date};

/// Below this, a body's bytes are copied behind what goes before them, so that both leave in one write.
const COPIED_BYTES: usize = 4 * 1024;

/// What most heads with a small body fit in.
const HEAD_BYTES: usize = 1024;

/// How the end of a response's body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// It has none.
    NoBody,
    /// By its length, which the head has.
    Length,
    /// By a last chunk.
    Chunked,
    /// By the connection's end.
    UntilClose,
}

/// What is still to be sent of a response.
#[derive(Debug)]
pub(super) struct Output<E> {
    /// Bytes that go first: the head, chunk sizes, small pieces of the body.
    buffer: BytesMut,
    /// A large piece of the body, behind the buffer.
    piece: Bytes,
    framing: Framing,
    takes_trailers: bool,
    is_body_complete: bool,
    /// Whether the connection can serve another request after this response.
    keeps_alive: bool,
    /// Why the body broke off, kept until what came before is sent: it is never asked again.
    failure: Option<E>,
}

/// Why a response could not be sent to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError<E: std::error::Error + 'static> {
    /// The client's connection failed.
    #[error("the connection failed while a response was being sent")]
    Connection(#[from] io::Error),
    /// The response's body broke off.
    #[error("a response broke off")]
    Body(#[source] E),
}

impl<E: std::error::Error + 'static> Output<E> {
    /// A response whose head is written and of whose body nothing is read yet.
    pub(super) fn new<R: Respond<Error = E>>(response: &R, recipient: Recipient, keeps_alive: bool) -> Self {
        let status = response.status();
        let switches = status == StatusCode::SWITCHING_PROTOCOLS;
        let has_no_body = recipient.wants_head_only
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let framing = match (has_no_body, response.remaining(), recipient.version) {
            // What follows is in another protocol, to the connection's end.
            _ if switches => Framing::UntilClose,
            (true, _, _) => Framing::NoBody,
            (false, Some(_), _) => Framing::Length,
            (false, None, Version::Http11) => Framing::Chunked,
            (false, None, Version::Http10) => Framing::UntilClose,
        };
        let keeps_alive = keeps_alive && framing != Framing::UntilClose && !response.closes();
        let mut buffer = BytesMut::with_capacity(HEAD_BYTES);
        write_head(&mut buffer, response, recipient.version, framing, keeps_alive);
        Self {
            buffer,
            piece: Bytes::new(),
            framing,
            takes_trailers: recipient.takes_trailers,
            is_body_complete: framing == Framing::NoBody,
            keeps_alive,
            failure: None,
        }
    }

    /// Whether the connection can serve another request after this response.
    pub(super) fn keeps_alive(&self) -> bool {
        self.keeps_alive
    }

    /// Whether nothing but the connection's end tells the end of its body.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.framing == Framing::UntilClose
    }

    /// Sends what can be sent now; ready once all is. A response that breaks off fails after what came of it was sent.
    ///
    /// The stream is borrowed for each write only: the response's body may have to read the request's from it.
    pub(super) fn poll<S: AsyncWrite + Unpin, R: Respond<Error = E>>(
        &mut self,
        stream: &RefCell<S>,
        context: &mut Context<'_>,
        response: &mut R,
    ) -> Poll<Result<(), SendError<E>>> {
        loop {
            // A small body that is there already leaves with the head.
            let mut is_waiting = false;
            while !self.is_body_complete
                && !is_waiting
                && self.failure.is_none()
                && self.piece.is_empty()
                && self.buffer.len() < COPIED_BYTES
            {
                match response.poll_frame(context) {
                    Poll::Pending => is_waiting = true,
                    Poll::Ready(None) => self.end(None),
                    Poll::Ready(Some(Err(error))) => self.failure = Some(error),
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => {
                            self.push(data);
                            // The client counts: it has all of it, and may send its next request. What became of the rest of nothing, such
                            // as a token that ends just then, must not end the connection any more.
                            if self.framing == Framing::Length && response.is_over() {
                                self.end(None);
                            }
                        }
                        Err(frame) => self.end(frame.trailers_ref()),
                    },
                }
            }
            while !self.is_empty() {
                let written = ready!(self.write(&mut *stream.borrow_mut(), context))?;
                if written == 0 {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
                }
                self.advance(written);
            }
            if let Some(error) = self.failure.take() {
                return Poll::Ready(Err(SendError::Body(error)));
            }
            if self.is_body_complete || is_waiting {
                // Plain sockets hold nothing back. TLS may.
                ready!(Pin::new(&mut *stream.borrow_mut()).poll_flush(context))?;
                return if self.is_body_complete { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.piece.is_empty()
    }

    fn write<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(stream);
        match (self.buffer.is_empty(), self.piece.is_empty()) {
            (_, true) => stream.poll_write(context, &self.buffer),
            (true, false) => stream.poll_write(context, &self.piece),
            (false, false) => {
                stream.poll_write_vectored(context, &[IoSlice::new(&self.buffer), IoSlice::new(&self.piece)])
            }
        }
    }

    fn advance(&mut self, written: usize) {
        let of_buffer = written.min(self.buffer.len());
        self.buffer.advance(of_buffer);
        if written > of_buffer {
            self.piece.advance(written - of_buffer);
            if self.piece.is_empty() {
                self.piece = Bytes::new();
                if self.framing == Framing::Chunked {
                    self.buffer.extend_from_slice(b"\r\n");
                }
            }
        }
    }

    fn push(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        if self.framing == Framing::Chunked {
            write_chunk_size(&mut self.buffer, data.len());
        }
        if data.len() > COPIED_BYTES {
            self.piece = data;
            return;
        }
        self.buffer.extend_from_slice(&data);
        if self.framing == Framing::Chunked {
            self.buffer.extend_from_slice(b"\r\n");
        }
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) {
        self.is_body_complete = true;
        if self.framing == Framing::Chunked {
            self.buffer.extend_from_slice(b"0\r\n");
            for (name, value) in trailers.filter(|_| self.takes_trailers).into_iter().flatten() {
                write_field(&mut self.buffer, name.as_str().as_bytes(), value.as_bytes());
            }
            self.buffer.extend_from_slice(b"\r\n");
        }
    }
}

/// The status line and all header lines.
fn write_head<R: Respond>(
    buffer: &mut BytesMut,
    response: &R,
    version: Version,
    framing: Framing,
    keeps_alive: bool,
) {
    let status = response.status();
    buffer.extend_from_slice(b"HTTP/1.1 ");
    buffer.extend_from_slice(status.as_str().as_bytes());
    buffer.extend_from_slice(b" ");
    buffer.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    buffer.extend_from_slice(b"\r\n");
    buffer.extend_from_slice(response.lines());
    response.write_fields(&mut |name, value| write_field(buffer, name, value));
    if framing == Framing::Chunked {
        write_field(buffer, b"transfer-encoding", b"chunked");
    }
    match (version, keeps_alive) {
        _ if status == StatusCode::SWITCHING_PROTOCOLS => {
            write_field(buffer, b"connection", b"upgrade");
            write_field(buffer, b"upgrade", response.protocol().as_bytes());
        }
        (_, false) => write_field(buffer, b"connection", b"close"),
        (Version::Http10, true) => write_field(buffer, b"connection", b"keep-alive"),
        (Version::Http11, true) => {}
    }
    if !response.has_date() {
        date::with_line(response.time(), |line| buffer.extend_from_slice(line));
    }
    buffer.extend_from_slice(b"\r\n");
}

fn write_field(buffer: &mut BytesMut, name: &[u8], value: &[u8]) {
    buffer.reserve(name.len() + value.len() + 4);
    buffer.extend_from_slice(name);
    buffer.extend_from_slice(b": ");
    buffer.extend_from_slice(value);
    buffer.extend_from_slice(b"\r\n");
}

fn write_chunk_size(buffer: &mut BytesMut, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - (size | 1).leading_zeros()).div_ceil(4);
    buffer.extend((0..digits).rev().map(|digit| DIGITS[size >> (digit * 4) & 15]));
    buffer.extend_from_slice(b"\r\n");
}
