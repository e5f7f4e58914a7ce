//! HTTP/1.1 and 1.0 with a client, strictly: what other servers may read in another way is refused, since what two
//! readers of one connection read differently is how requests are smuggled.
//!
//! One task drives a connection: it reads a head, hands the request to the pipeline, and sends the response, whose body
//! and whose request's body are read on the way. What must not live here: what a request means beyond HTTP/1, timers
//! (see [`State`]), and HTTP/2.

mod at_close;
mod authority;
mod chunked;
pub(in crate::serve) mod class;
mod close;
mod date;
mod head;
mod input;
mod interim;
mod output;
mod request;
mod sniff;
mod state;
mod violation;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::request::Parts;
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::{BodyError, BodySource, Offered, RequestBody};
use super::http2_stalls::Progress;
pub use at_close::{AtClose, Closable};
use close::Closing;
use input::{Arrived, Input, Recipient};
pub use interim::Interim;
use output::{Output, SendError};
pub use sniff::{Prefixed, Protocol, sniff};
pub use state::{Phase, State};
pub use violation::Violation;

/// How much a client may send before its request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of header lines in a request, without the request line; also of trailers, of which at most 16 KiB are taken.
    pub header_bytes: usize,
    /// Header lines in a request; also of trailers, of which at most 100 are taken.
    pub header_count: usize,
    /// Bytes of the request's target; `http::Uri` takes at most 65,534.
    pub uri_bytes: usize,
}

/// A request as it arrived.
#[derive(Debug)]
pub struct Received {
    /// Its head; where a violation is set, a stand-in that says nothing about the client's request.
    pub head: Parts,
    /// Its body, read from the client as it is asked for.
    pub body: RequestBody,
    /// Why its head was refused, if it was. The connection closes after the answer.
    pub violation: Option<Violation>,
    /// The stream that it came on, over HTTP/2.
    pub stream: Option<Rc<Progress>>,
}

/// A response to be sent.
pub trait Respond {
    /// Why its body may break off.
    type Error: std::error::Error + 'static;

    /// Its status.
    fn status(&self) -> StatusCode;

    /// Header lines that are written already, each with its end.
    fn lines(&self) -> &[u8];

    /// Whether `Date` is among its lines.
    fn has_date(&self) -> bool;

    /// When it is from, to a second or so: for `Date`, if it has none.
    fn time(&self) -> SystemTime {
        SystemTime::now()
    }

    /// Its other header lines, name and value at a time, without those of this connection. Either these or
    /// [`lines`](Self::lines) have `Content-Length` if [`remaining`](Self::remaining) knows the length.
    fn write_fields(&self, write: &mut impl FnMut(&[u8], &[u8]));

    /// The number of bytes of its body still to come, if that is known.
    fn remaining(&self) -> Option<u64>;

    /// Whether it is known that nothing of its body is still to come.
    fn is_over(&self) -> bool {
        self.remaining() == Some(0)
    }

    /// Whether the connection is to end with it.
    fn closes(&self) -> bool;

    /// What is spoken behind it, if it is a `101 Switching Protocols`.
    fn protocol(&self) -> &str;

    /// The next frame of its body; `None` at its end.
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>>;
}

/// A client's connection.
#[derive(Debug)]
struct Http1<S> {
    stream: RefCell<S>,
    input: RefCell<Input>,
}

/// Serves a connection to its end, request by request, beginning with bytes that have been read from it already.
///
/// Fails as the stream does, or when a response breaks off: the connection is then of no more use.
pub async fn serve<S, R>(
    stream: S,
    read: BytesMut,
    limits: Limits,
    state: Rc<State>,
    handler: impl AsyncFn(Received) -> R,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Closable + Unpin + std::fmt::Debug + 'static,
    R: Respond,
{
    let input = RefCell::new(Input::new(limits, Rc::clone(&state), read));
    let connection = Rc::new(Http1 { stream: RefCell::new(stream), input });
    loop {
        let Some(arrived) = poll_fn(|context| connection.poll_head(context)).await? else { break };
        let Arrived { head, violation, recipient, .. } = arrived;
        let received = Received { head, body: connection.body(), violation, stream: None };
        let mut serving = pin!(handler(received));
        // Large: it is made here, and stays here while it is sent.
        let mut response = None;
        let answered = poll_fn(|context| match serving.as_mut().poll(context) {
            Poll::Ready(answer) => {
                response = Some(answer);
                Poll::Ready(())
            }
            // The client may go away before there is one.
            Poll::Pending => match connection.poll_interim(&state, context) {
                Poll::Ready(Err(_)) => Poll::Ready(()),
                Poll::Ready(Ok(())) | Poll::Pending => connection.poll_gone(context),
            },
        });
        answered.await;
        let Some(response) = &mut response else { return Ok(()) };
        match connection.send(response, recipient, &state).await? {
            After::GoOn => {}
            After::Close => break,
            // Without a goodbye: half a response must not look like a whole one.
            After::Gone => return Ok(()),
        }
    }
    let mut closing = Closing::Open;
    poll_fn(|context| connection.poll_close(&mut closing, context)).await
}

/// What becomes of a connection after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    GoOn,
    Close,
    /// The client went away amid it.
    Gone,
}

impl<S: AsyncRead + AsyncWrite + Closable + Unpin + std::fmt::Debug + 'static> Http1<S> {
    fn poll_head(&self, context: &mut Context<'_>) -> Poll<io::Result<Option<Arrived>>> {
        self.input.borrow_mut().poll_head(&mut *self.stream.borrow_mut(), context)
    }

    fn body(self: &Rc<Self>) -> RequestBody {
        if let Some(offered) = self.input.borrow().offered() {
            RequestBody::Tunnel(Rc::clone(self) as Rc<dyn BodySource>, offered)
        } else if self.input.borrow().is_body_complete() {
            RequestBody::Empty
        } else {
            RequestBody::Http1(Rc::clone(self) as Rc<dyn BodySource>)
        }
    }

    async fn send<R: Respond>(
        self: &Rc<Self>,
        response: &mut R,
        recipient: Recipient,
        state: &State,
    ) -> io::Result<After> {
        let mut output = None;
        let sent = poll_fn(|context| {
            let output = match &mut output {
                Some(output) => output,
                None => {
                    match self.poll_interim(state, context) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                        Poll::Pending => return self.poll_gone(context).map(|()| Ok(After::Gone)),
                    }
                    let keeps_alive =
                        recipient.keeps_alive && !state.is_last() && self.can_go_on(response, context);
                    self.input.borrow_mut().forget_continue()?;
                    self.settle_upgrade(response.status());
                    let output = output.insert(Output::new(response, recipient, keeps_alive));
                    if output.ends_with_connection() {
                        self.stream.borrow().at_close(AtClose::Reset);
                    }
                    output
                }
            };
            let polled = output.poll(&self.stream, context, response);
            match polled {
                Poll::Pending => self.poll_gone(context).map(|()| Ok(After::Gone)),
                Poll::Ready(Ok(())) if output.keeps_alive() && self.skip_body(context) => {
                    Poll::Ready(Ok(After::GoOn))
                }
                Poll::Ready(Ok(())) => {
                    if output.ends_with_connection() {
                        self.stream.borrow().at_close(AtClose::End);
                    }
                    Poll::Ready(Ok(After::Close))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            }
        });
        match sent.await {
            Ok(after) => Ok(after),
            Err(SendError::Connection(error)) => Err(error),
            Err(error @ SendError::Body(_)) => Err(io::Error::other(error.to_string())),
        }
    }

    /// Whether the client will be in step after this response. A body that nobody reads any more has to have come already;
    /// one that is held back until the client is told to send it may come or not.
    fn can_go_on<R: Respond>(self: &Rc<Self>, response: &R, context: &mut Context<'_>) -> bool {
        if self.input.borrow().owes_continue() {
            return false;
        }
        let is_wanted = Rc::strong_count(self) > 1 && response.remaining() != Some(0);
        is_wanted || self.skip_body(context)
    }

    /// Only an offer that was made can have been taken: no other response has this status.
    fn settle_upgrade(&self, status: StatusCode) {
        let mut input = self.input.borrow_mut();
        if status == StatusCode::SWITCHING_PROTOCOLS {
            input.accept_upgrade();
        } else {
            input.decline_upgrade();
        }
    }

    fn skip_body(&self, context: &mut Context<'_>) -> bool {
        let mut input = self.input.borrow_mut();
        input.is_body_complete() || input.skip_body(&mut *self.stream.borrow_mut(), context)
    }

    #[inline]
    fn poll_interim(&self, state: &State, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nearly always: nothing is borrowed for that.
        if state.interim().is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.input.borrow().poll_interim(&mut *self.stream.borrow_mut(), context)
    }

    fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        self.input.borrow_mut().poll_gone(&mut *self.stream.borrow_mut(), context)
    }

    fn poll_close(&self, closing: &mut Closing, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = self.stream.borrow_mut();
        closing.poll(Pin::new(&mut *stream), context, || self.input.borrow().is_mid_message())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + std::fmt::Debug> BodySource for Http1<S> {
    fn poll_body(&self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.input.borrow_mut().poll_body(&mut *self.stream.borrow_mut(), context)
    }
}

/// Whether a value is `host[:port]`. For HTTP/2, where another reader has read the head: what is refused on HTTP/1 must
/// not reach an upstream, which speaks it, on another way.
pub fn is_host(value: &[u8]) -> bool {
    authority::Authority::parse(value).is_some()
}

/// Whether only bytes that a target's query may have are in one. For HTTP/2, as [`is_host`].
pub fn is_query(query: &[u8]) -> bool {
    class::run(query, class::QUERY) == query.len()
}

/// Whether a value is one plain number of bytes. For HTTP/2, as [`is_host`].
pub fn is_content_length(value: &[u8]) -> bool {
    head::number(value).is_some()
}
