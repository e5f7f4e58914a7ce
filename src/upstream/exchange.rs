//! One HTTP/1.1 connection to an endpoint, driven by whoever uses it: there is no task of its own to wake, and no
//! channel to cross. Sending and receiving go on side by side, so that an early response is seen while a body is still
//! being sent.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{Method, StatusCode};
use http_body::Frame;
use tokio::io::AsyncReadExt;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep};

use super::InterimWay;
use super::ahead::Ahead;
use super::connect::{ConnectError, UpstreamStream};
use super::decode::{self, Body, DecodeError, Fields, Offer};
use super::encode::{SendError, Sending};
use super::pool::ConnectionGauge;
use super::target::WorkerTarget;
use crate::headers::change::HeaderChanges;
use crate::pipeline::body::{ForwardBody, UploadError};

/// Bytes read at once: at first, and when a body keeps filling the buffer.
const READ_BYTES: usize = 8 * 1024;
const MOST_READ_BYTES: usize = 256 * 1024;

/// A connection to an endpoint.
#[derive(Debug)]
pub struct Exchange {
    stream: UpstreamStream,
    read: BytesMut,
    read_bytes: usize,
    /// What lies about of answers that share the client's connection with this one.
    ahead: Option<Rc<Ahead>>,
    sending: Option<Sending>,
    /// What the request under way offers.
    offer: Offer,
    status: StatusCode,
    fields: Fields,
    body: Body,
    keeps_alive: bool,
    /// Whether the response's body has broken off.
    is_broken: bool,
    /// Rings at the deadline of the request for which it was last set; reset only when it rings too early.
    alarm: Pin<Box<Sleep>>,
    /// When it was last put back.
    pub idle_since: std::time::Instant,
    /// Counts the connection as active or idle for as long as it lives.
    pub gauge: ConnectionGauge,
}

/// Why no response's head came over this connection.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// The upstream had closed the connection before anything of a response came.
    Closed {
        /// The request, if nothing of it was sent.
        unsent: Option<Box<Sending>>,
        /// Else its body, if there is one and nothing of it was read.
        whole_body: Option<ForwardBody>,
        /// What the system said.
        source: io::Error,
    },
    /// The client's body broke off.
    ClientBody(UploadError),
    /// Not a response that can be passed on.
    Malformed(DecodeError),
    /// The connection broke amid the response's head.
    Broken(io::Error),
    /// No head in time.
    Timeout,
}

/// Why a response's body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection ended or failed.
    #[error("the upstream's connection ended amid its response")]
    Connection(#[from] io::Error),
    /// The framing is broken.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The whole took longer than its route allows.
    #[error("the response was not complete within its route's total_seconds")]
    Overdue,
    /// The request would not be let in any more.
    #[error("the request is no longer permitted")]
    Withdrawn,
    /// The client's body broke off while the response was coming.
    #[error("the client's body broke off amid the response")]
    Client(#[source] UploadError),
}

impl Exchange {
    /// Opens a connection to one target.
    pub(super) async fn open(target: &WorkerTarget) -> Result<Self, ConnectError> {
        let stream = target.connect().await?;
        let (gauge, upstream) = (target.pool.active(), &target.upstream);
        Ok(Self {
            stream,
            read: BytesMut::new(),
            read_bytes: READ_BYTES,
            ahead: None,
            sending: None,
            offer: Offer::Nothing,
            status: StatusCode::OK,
            fields: Fields::default(),
            body: Body::Length(0),
            keeps_alive: true,
            is_broken: false,
            alarm: Box::pin(tokio::time::sleep(upstream.config.response_header_timeout)),
            idle_since: std::time::Instant::now(),
            gauge,
        })
    }

    /// Sends a request and waits for the response's head. The timeout counts from the last of the request's body.
    ///
    /// Not `async`: the request is put in its place at once, and what waits is small.
    pub(super) fn send<'a>(
        &'a mut self,
        method: &'a Method,
        sending: Sending,
        started: std::time::Instant,
        timeout: Duration,
        interim: Option<InterimWay<'a>>,
    ) -> impl Future<Output = Result<(), ExchangeError>> + 'a {
        let upload = sending.upload();
        self.offer = sending.offer();
        self.sending = Some(sending);
        self.keeps_alive = false;
        // One request may have less time than the one before.
        let due = Instant::from(started) + timeout;
        if self.alarm.deadline() > due {
            self.alarm.as_mut().reset(due);
        }
        poll_fn(move |context| {
            if let Poll::Ready(result) = self.poll_head(method, interim, context) {
                return Poll::Ready(result);
            }
            // Out of turn: an upstream that keeps sending could else use up the task's budget each time, and with it
            // the alarm's turn.
            while pin!(unconstrained(self.alarm.as_mut())).poll(context).is_ready() {
                let due = upload.as_ref().map_or_else(|| started.into(), |upload| upload.last()) + timeout;
                if due <= Instant::now() {
                    return Poll::Ready(Err(ExchangeError::Timeout));
                }
                self.alarm.as_mut().reset(due);
            }
            Poll::Pending
        })
    }

    fn poll_head(
        &mut self,
        method: &Method,
        interim: Option<InterimWay<'_>>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ExchangeError>> {
        let send_failure = self.poll_sending(context);
        if let Some(SendError::Body(error)) = send_failure {
            return Poll::Ready(Err(ExchangeError::ClientBody(error)));
        }
        loop {
            let head = decode::head(&mut self.read, &mut self.fields, method, &self.offer, interim);
            if let Some(head) = head.map_err(ExchangeError::Malformed)? {
                self.status = head.status;
                self.body = head.body;
                self.keeps_alive = head.keeps_alive;
                self.settle_offer();
                return Poll::Ready(Ok(()));
            }
            let had_read = !self.read.is_empty();
            // Even if sending failed: what the upstream said before it closed counts.
            let failure = match ready!(self.poll_read(context)) {
                Ok(0) => io::Error::from(io::ErrorKind::UnexpectedEof),
                Ok(_) => continue,
                Err(error) => error,
            };
            if had_read {
                return Poll::Ready(Err(ExchangeError::Broken(failure)));
            }
            let (unsent, whole_body) = match self.sending.take() {
                Some(sending) if sending.is_unsent() => (Some(Box::new(sending)), None),
                sending => (None, sending.and_then(Sending::into_whole_body)),
            };
            return Poll::Ready(Err(ExchangeError::Closed { unsent, whole_body, source: failure }));
        }
    }

    /// Of an offer that the upstream has not taken nothing more is to be sent.
    fn settle_offer(&mut self) {
        if !matches!(self.offer, Offer::Nothing)
            && self.status != StatusCode::SWITCHING_PROTOCOLS
            && let Some(sending) = self.sending.take()
        {
            self.keeps_alive &= sending.is_head_sent();
        }
    }

    /// Sends on; says once why it cannot.
    fn poll_sending(&mut self, context: &mut Context<'_>) -> Option<SendError> {
        let sending = self.sending.as_mut()?;
        match sending.poll(&mut self.stream, context) {
            Poll::Pending => None,
            Poll::Ready(Ok(())) => {
                self.sending = None;
                None
            }
            Poll::Ready(Err(error)) => {
                tracing::debug!(error = %error, "a request was not sent to its end");
                Some(error)
            }
        }
    }

    /// The next frame of the response's body; `None` at its end.
    pub fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.sending.is_some()
            && let Some(failure) = self.poll_sending(context)
        {
            self.sending = None;
            self.keeps_alive = false;
            match failure {
                // The upstream answered without taking the whole body; its response may still come whole.
                SendError::Connection(_) => {}
                // It would wait for the rest for ever.
                SendError::Body(error) => {
                    self.is_broken = true;
                    return Poll::Ready(Some(Err(BodyError::Client(error))));
                }
            }
        }
        if self.is_broken {
            return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::BrokenPipe).into())));
        }
        loop {
            match self.body.decode(&mut self.read) {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if self.body.is_complete() => return Poll::Ready(None),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
            match ready!(self.poll_read(context)) {
                Ok(0) if self.body == Body::UntilClose => {
                    self.body = Body::Length(0);
                    return Poll::Ready(None);
                }
                Ok(0) => {
                    let end = io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Poll::Ready(Some(Err(end.into())));
                }
                Ok(_) => {}
                Err(error) => {
                    // Said once by the system, which then tells of an end: that must not pass for the body's.
                    self.is_broken = true;
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
        }
    }

    /// The response's status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The response's header lines.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// What is spoken behind the response, if the upstream has switched protocols.
    pub fn protocol(&self) -> &str {
        self.offer.protocol()
    }

    /// Adds header lines to the response's, each with its end.
    pub(super) fn add_fields(&mut self, lines: &[u8]) {
        self.fields.add_lines(lines);
    }

    /// Reads from now on no more of the response at once than may lie about for its client.
    pub(super) fn read_ahead_as(&mut self, ahead: &Rc<Ahead>) {
        self.ahead = Some(Rc::clone(ahead));
    }

    /// Changes the response's header lines as a route says.
    pub(super) fn change_fields(&mut self, changes: &HeaderChanges) {
        self.fields.change(changes);
    }

    /// Whether the response has come to its end.
    pub fn is_complete(&self) -> bool {
        self.body.is_complete()
    }

    /// The number of body bytes still to come, where the head told.
    pub fn remaining(&self) -> Option<u64> {
        self.body.remaining()
    }

    /// Whether another request can be sent: it is at rest, and the upstream has neither closed the connection nor sent
    /// anything since.
    pub fn is_reusable(&mut self) -> bool {
        self.is_at_rest() && self.has_nothing_to_read()
    }

    /// Whether everything of the last request is sent and received, nothing is left over, and the upstream has not said
    /// that it will close the connection.
    pub fn is_at_rest(&self) -> bool {
        self.keeps_alive
            && !self.is_broken
            && self.sending.is_none()
            && self.body.is_complete()
            && self.read.is_empty()
    }

    /// One look, whatever the task has used of its budget: without any left, every read seems to have to wait.
    fn has_nothing_to_read(&mut self) -> bool {
        // What comes is not kept, for neither is the connection: idle ones need no buffer.
        let mut byte = [0];
        let look = pin!(unconstrained(self.stream.read(&mut byte)));
        look.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Lets go of memory that an idle connection does not need.
    pub fn rest(&mut self) {
        self.read = BytesMut::new();
        self.read_bytes = READ_BYTES;
        self.ahead = None;
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let room = self.make_room();
        let read = ready!(pin!(self.stream.read_buf(&mut (&mut self.read).limit(room))).poll(context))?;
        if read == room && self.read_bytes < MOST_READ_BYTES {
            self.read_bytes *= 2;
        }
        Poll::Ready(Ok(read))
    }

    /// Bytes to read next, for which there is room.
    fn make_room(&mut self) -> usize {
        let Some(ahead) = &self.ahead else {
            self.read.reserve(self.read_bytes);
            return self.read.capacity() - self.read.len();
        };
        let wanted = self.read_bytes.min(ahead.read_bytes());
        let room = self.read.capacity() - self.read.len();
        // What is left of a buffer is used first: a small piece that nobody takes would else keep all of it.
        if room < wanted && !self.read.try_reclaim(wanted) && room < wanted / 4 {
            self.read.reserve(wanted);
        }
        wanted.min(self.read.capacity() - self.read.len())
    }
}
