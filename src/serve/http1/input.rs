//! What a client sends: one head after the other, and the body behind each, as far as somebody asks for it.
//!
//! What must not live here: what is sent to the client, but for the `100 Continue` that a body waits for.

use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::Method;
use http::request::Parts;
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::task::coop::unconstrained;

use super::chunked::{Chunked, Piece};
use super::head::{BodyLength, Head, HeadScan, Upgrade, Version};
use super::{BodyError, Limits, Offered, Phase, State, Violation, request};

/// What heads are read into, on the stack: an idle connection has no buffer.
const HEAD_READ_BYTES: usize = 8 * 1024;
/// Bytes of a body read at once: at first, and when a body keeps filling the buffer.
const BODY_READ_BYTES: usize = 8 * 1024;
const MOST_BODY_READ_BYTES: usize = 256 * 1024;
/// The same at first where the head tells that there is more to come.
const KNOWN_BODY_READ_BYTES: usize = 64 * 1024;
/// How much of a body that nobody wants is read to keep the connection.
const UNWANTED_BODY_BYTES: usize = 64 * 1024;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// One client's side of a connection.
#[derive(Debug)]
pub(super) struct Input {
    limits: Limits,
    state: Rc<State>,
    framing: Framing,
    scan: HeadScan,
    /// Bytes that were read and not yet taken.
    held: BytesMut,
    body_read_bytes: usize,
    /// What is still to be written of the `100 Continue` that the client waits for; empty: it is still to be flushed.
    owed_continue: Option<&'static [u8]>,
}

/// Where in which message the next byte stands.
#[derive(Debug)]
enum Framing {
    Head,
    Body(u64),
    Chunked(Box<Chunked>),
    /// Behind a head that offers another protocol: what comes is the next head's, unless the offer is taken.
    Offered(Offered),
    /// In that protocol: whatever comes, to the connection's end.
    Tunnel,
    /// Behind the end of what the client had to say in that protocol.
    TunnelEnded,
    /// Nothing is read any more.
    Refused,
}

/// A request's head, and how its response is to be written.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) head: Parts,
    /// Why the head was refused; it is then a stand-in.
    pub(super) violation: Option<Violation>,
    pub(super) recipient: Recipient,
    expects_continue: bool,
}

/// What a response has to know of who gets it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recipient {
    pub(super) version: Version,
    /// `HEAD`: the response has no body, whatever its head says.
    pub(super) wants_head_only: bool,
    /// Whether the client wants to go on after this response.
    pub(super) keeps_alive: bool,
    pub(super) takes_trailers: bool,
}

impl Input {
    /// Begins with bytes that have been read already.
    pub(super) fn new(limits: Limits, state: Rc<State>, held: BytesMut) -> Self {
        Self {
            limits,
            state,
            framing: Framing::Head,
            scan: HeadScan::new(),
            held,
            body_read_bytes: BODY_READ_BYTES,
            owed_continue: None,
        }
    }

    /// The next request's head; `None`: the client has ended, or the connection is to end and no head has begun.
    pub(super) fn poll_head<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Arrived>>> {
        loop {
            if self.state.is_timing_out() && self.scan.has_begun(self.held.len()) {
                return Poll::Ready(Ok(Some(self.refuse(Violation::HeaderTimeout))));
            }
            if let Some(arrived) = self.head_in_held() {
                return Poll::Ready(Ok(Some(arrived)));
            }
            let mut memory = [MaybeUninit::uninit(); HEAD_READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut memory);
            let polled = if self.state.is_ending() {
                // Whatever the task has used of its budget: what has arrived is served before the connection ends.
                let read = poll_fn(|context| Pin::new(&mut *stream).poll_read(context, &mut buffer));
                pin!(unconstrained(read)).poll(context)
            } else {
                Pin::new(&mut *stream).poll_read(context, &mut buffer)
            };
            match polled {
                Poll::Pending if self.scan.has_begun(self.held.len()) => {
                    self.state.enter(Phase::ReadingHead);
                    self.state.remember_reader(context.waker());
                    return Poll::Pending;
                }
                Poll::Pending if self.state.is_ending() => return Poll::Ready(Ok(None)),
                Poll::Pending => {
                    self.state.enter(Phase::Idle);
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(Ok(None)),
                Poll::Ready(Ok(())) => {}
            }
            if let Some(arrived) = self.head_in_place(buffer.filled()) {
                return Poll::Ready(Ok(Some(arrived)));
            }
        }
    }

    /// The usual case: a head that comes in one read is copied once, in its own size.
    fn head_in_place(&mut self, read: &[u8]) -> Option<Arrived> {
        if self.held.is_empty() {
            match self.scan.advance(read, &self.limits) {
                Ok(Some(head)) => {
                    let (head_bytes, behind) = read.split_at(head.length);
                    let (begun, framing) = begin(&head, &Bytes::copy_from_slice(head_bytes));
                    self.held.extend_from_slice(behind);
                    return Some(self.arrived(begun, framing));
                }
                Ok(None) => {}
                Err(violation) => return Some(self.refuse(violation)),
            }
        }
        self.held.extend_from_slice(read);
        None
    }

    fn head_in_held(&mut self) -> Option<Arrived> {
        if self.held.is_empty() {
            return None;
        }
        match self.scan.advance(&self.held, &self.limits) {
            Ok(Some(head)) => {
                let bytes = self.held.split_to(head.length).freeze();
                let (begun, framing) = begin(&head, &bytes);
                self.let_go_of_empty();
                Some(self.arrived(begun, framing))
            }
            Ok(None) => None,
            Err(violation) => Some(self.refuse(violation)),
        }
    }

    fn arrived(&mut self, begun: Result<Arrived, Violation>, framing: Framing) -> Arrived {
        self.scan.restart();
        match begun {
            Ok(arrived) => {
                let has_body = !matches!(framing, Framing::Head | Framing::Offered(_));
                self.framing = framing;
                self.state.enter(if has_body { Phase::InBody } else { Phase::Idle });
                self.owed_continue = (has_body && arrived.expects_continue).then_some(CONTINUE);
                arrived
            }
            Err(violation) => self.refuse(violation),
        }
    }

    /// Nothing behind a refused head has a meaning: it is never read as a request.
    fn refuse(&mut self, violation: Violation) -> Arrived {
        self.end_input();
        Arrived {
            head: request::refused(),
            violation: Some(violation),
            expects_continue: false,
            recipient: Recipient {
                version: Version::Http11,
                wants_head_only: false,
                keeps_alive: false,
                takes_trailers: false,
            },
        }
    }

    fn end_input(&mut self) {
        self.framing = Framing::Refused;
        self.held = BytesMut::new();
        self.state.enter(Phase::Idle);
    }

    /// Whether the client waits to be told to send its body.
    pub(super) fn owes_continue(&self) -> bool {
        self.owed_continue.is_some()
    }

    /// The response begins: no `100 Continue` may come any more. Fails if one is half written, as nothing can follow it.
    pub(super) fn forget_continue(&mut self) -> io::Result<()> {
        match self.owed_continue.take() {
            None | Some(CONTINUE | b"") => Ok(()),
            Some(_) => Err(io::Error::other("the client did not take a whole `100 Continue`")),
        }
    }

    /// Writes interim responses that wait, but not into a `100 Continue` that is half written: they follow it.
    pub(super) fn poll_interim<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if !matches!(self.owed_continue, None | Some(CONTINUE | b"")) {
            return Poll::Ready(Ok(()));
        }
        self.state.interim().poll_write(stream, context)
    }

    /// Whether nothing of the current request is still to come.
    pub(super) fn is_body_complete(&self) -> bool {
        matches!(self.framing, Framing::Head | Framing::Offered(_))
    }

    /// In which other protocol the current request offers to go on, if in any.
    pub(super) fn offered(&self) -> Option<Offered> {
        match self.framing {
            Framing::Offered(offered) => Some(offered),
            _ => None,
        }
    }

    /// The client's offer is taken: all that it sends from now on is the tunnel's.
    pub(super) fn accept_upgrade(&mut self) {
        self.framing = Framing::Tunnel;
        self.state.enter(Phase::InBody);
    }

    /// The client's offer is not taken: what it sends from now on is its next request.
    pub(super) fn decline_upgrade(&mut self) {
        if self.offered().is_some() {
            self.framing = Framing::Head;
        }
    }

    /// Whether the client may be in the middle of sending something that nobody will read.
    pub(super) fn is_mid_message(&self) -> bool {
        !self.is_body_complete() || !self.held.is_empty()
    }

    /// The next frame of the body; `None` at its end.
    pub(super) fn poll_body<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match self.body_in_held() {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                // Nothing of the tunnel before the offer is taken. Who asks for the next frame of the response, which tells
                // of that, asks here again.
                Ok(None) if self.offered().is_some() => return Poll::Pending,
                Ok(None) if self.is_body_complete() => return Poll::Ready(None),
                Ok(None) if matches!(self.framing, Framing::TunnelEnded) => return Poll::Ready(None),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            let read = match ready!(self.poll_more(stream, context)) {
                Ok(0) if matches!(self.framing, Framing::Tunnel) => {
                    self.framing = Framing::TunnelEnded;
                    return Poll::Ready(None);
                }
                Ok(0) => io::Error::from(io::ErrorKind::UnexpectedEof),
                Ok(_) => continue,
                Err(error) => error,
            };
            self.end_input();
            return Poll::Ready(Some(Err(BodyError::Disconnected(read))));
        }
    }

    fn body_in_held(&mut self) -> Result<Option<Frame<Bytes>>, BodyError> {
        let frame = match &mut self.framing {
            Framing::Head | Framing::Offered(_) | Framing::TunnelEnded => return Ok(None),
            Framing::Refused => return Err(BodyError::Refused),
            Framing::Body(_) | Framing::Chunked(_) | Framing::Tunnel if self.held.is_empty() => {
                return Ok(None);
            }
            Framing::Tunnel => Some(Frame::data(self.held.split().freeze())),
            Framing::Body(remaining) => {
                let length =
                    usize::try_from(*remaining).map_or(self.held.len(), |left| left.min(self.held.len()));
                *remaining -= length as u64;
                if *remaining == 0 {
                    self.end_body();
                }
                Some(Frame::data(self.held.split_to(length).freeze()))
            }
            Framing::Chunked(chunked) => match chunked.take(&mut self.held, &self.limits) {
                Ok(Piece::Incomplete) => None,
                Ok(Piece::Data(data)) => Some(Frame::data(data)),
                Ok(Piece::End(trailers)) => {
                    self.end_body();
                    (!trailers.is_empty()).then(|| Frame::trailers(trailers))
                }
                Err(violation) => {
                    self.end_input();
                    return Err(BodyError::Violation(violation));
                }
            },
        };
        self.let_go_of_empty();
        Ok(frame)
    }

    fn end_body(&mut self) {
        self.framing = Framing::Head;
        self.body_read_bytes = BODY_READ_BYTES;
        self.state.enter(Phase::Idle);
    }

    /// Reads more of a body, once the client has been told to send it if it waits for that.
    fn poll_more<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        while let Some(owed) = self.owed_continue {
            if owed == CONTINUE {
                // One of them may be half written.
                ready!(self.state.interim().poll_write(stream, context))?;
            }
            if owed.is_empty() {
                ready!(Pin::new(&mut *stream).poll_flush(context))?;
                self.owed_continue = None;
            } else {
                let written = ready!(Pin::new(&mut *stream).poll_write(context, owed))?;
                self.owed_continue = owed.get(written..);
            }
        }
        // All that is still to come at once, where that is known: a body of some kilobytes is one read.
        let wanted = match self.framing {
            Framing::Body(remaining) => usize::try_from(remaining)
                .map_or(KNOWN_BODY_READ_BYTES, |remaining| remaining.min(KNOWN_BODY_READ_BYTES)),
            Framing::Head
            | Framing::Chunked(_)
            | Framing::Offered(_)
            | Framing::Tunnel
            | Framing::TunnelEnded
            | Framing::Refused => 0,
        };
        self.held.reserve(self.body_read_bytes.max(wanted));
        let room = self.held.capacity() - self.held.len();
        let read = ready!(pin!(stream.read_buf(&mut self.held)).poll(context))?;
        if read == room && self.body_read_bytes < MOST_BODY_READ_BYTES {
            self.body_read_bytes *= 2;
        }
        Poll::Ready(Ok(read))
    }

    /// Reads what has come already of a body that nobody wants, if that is little: whether the body ended with it.
    pub(super) fn skip_body<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> bool {
        // A body that the client holds back until it is told to send it may come or not.
        if self.owed_continue.is_some() {
            return false;
        }
        let mut skipped = 0;
        loop {
            let frame = poll_fn(|context| self.poll_body(stream, context));
            match pin!(unconstrained(frame)).poll(context) {
                Poll::Ready(None) => return true,
                Poll::Ready(Some(Ok(frame))) => skipped += frame.data_ref().map_or(0, Bytes::len),
                Poll::Ready(Some(Err(_))) | Poll::Pending => return false,
            }
            if skipped > UNWANTED_BODY_BYTES {
                return false;
            }
        }
    }

    /// Ready once the client has gone, while it is served and has nothing more to say. What it says meanwhile is
    /// the next request, and is kept: then nothing more is read until that is its turn.
    pub(super) fn poll_gone<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        while self.is_body_complete() && self.held.is_empty() {
            let mut memory = [MaybeUninit::uninit(); HEAD_READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut memory);
            match ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => self.held.extend_from_slice(buffer.filled()),
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Most connections never hold anything again.
    fn let_go_of_empty(&mut self) {
        if self.held.is_empty() && self.is_body_complete() {
            self.held = BytesMut::new();
        }
    }
}

/// The request, and what follows its head.
fn begin(head: &Head<'_>, bytes: &Bytes) -> (Result<Arrived, Violation>, Framing) {
    let options = head.options;
    let framing = match head.body {
        BodyLength::Known(0) => offered(head, bytes).map_or(Framing::Head, Framing::Offered),
        BodyLength::Known(length) => Framing::Body(length),
        BodyLength::Chunked => Framing::Chunked(Box::new(Chunked::new())),
    };
    let arrived = request::request(head, bytes).map(|parts| Arrived {
        violation: None,
        expects_continue: options.expects_continue && head.version == Version::Http11,
        recipient: Recipient {
            version: head.version,
            wants_head_only: parts.method == Method::HEAD,
            keeps_alive: match head.version {
                Version::Http11 => !options.asks_to_close,
                Version::Http10 => options.asks_to_keep && !options.asks_to_close,
            },
            takes_trailers: options.takes_trailers && head.version == Version::Http11,
        },
        head: parts,
    });
    (arrived, framing)
}

/// In which other protocol a request without a body offers to go on.
#[inline]
fn offered(head: &Head<'_>, bytes: &Bytes) -> Option<Offered> {
    let options = head.options;
    if !options.asks_to_upgrade || head.version != Version::Http11 {
        return None;
    }
    match options.upgrade {
        // RFC 6455, section 4.1: a GET.
        Upgrade::WebSocket => (head.method.of(bytes) == b"GET").then_some(Offered::WebSocket),
        Upgrade::Named => Some(Offered::Named),
        Upgrade::None | Upgrade::Other => None,
    }
}
