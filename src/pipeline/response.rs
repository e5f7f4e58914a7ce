//! What a client is answered: Postern's own words, or the upstream's, streamed back. The outcome is recorded when it is
//! dropped with the response.
//!
//! What must not live here: how a protocol frames a response.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::Caller;
use super::outcome::Outcome;
use super::websocket::{CLOSE_POLICY_VIOLATION, Frames};
use crate::error::Answer;
use crate::error::response::{REQUEST_ID, Rendered, grpc};
use crate::headers;
use crate::serve::http1::Respond;
use crate::telemetry::record::Ending;
use crate::upstream::ahead::Ahead;
use crate::upstream::exchange::BodyError;
use crate::upstream::{Fields, Reply};

/// The response to a request.
#[derive(Debug)]
pub enum Response {
    /// Postern's own answer.
    Own(OwnAnswer),
    /// The upstream's response.
    Forwarded(ForwardedReply),
}

/// An answer that is all there.
#[derive(Debug)]
pub struct OwnAnswer {
    rendered: Rendered,
    closes: bool,
    outcome: Outcome,
}

/// An upstream's response, with the connection its body comes over.
#[derive(Debug)]
pub struct ForwardedReply {
    reply: Reply,
    outcome: Outcome,
    caller: Caller,
    /// Of a WebSocket: what has passed.
    frames: Option<Box<Frames>>,
    /// The policy would not let it in any more, and a WebSocket's client has been told.
    is_told_to_close: bool,
}

impl Response {
    /// Postern's own answer, after which the connection may have to close.
    pub fn own(rendered: Rendered, closes: bool, mut outcome: Outcome) -> Self {
        outcome.sent(rendered.body.len());
        Self::Own(OwnAnswer { rendered, closes, outcome })
    }

    /// The upstream's response.
    pub fn forwarded(reply: Reply, caller: Caller, outcome: Outcome) -> Self {
        let frames = reply.opens_websocket().then(Box::default);
        Self::Forwarded(ForwardedReply { reply, outcome, caller, frames, is_told_to_close: false })
    }

    /// Comes only so far ahead of a client with other answers on its connection.
    pub fn read_ahead_as(&mut self, ahead: &Rc<Ahead>) {
        match self {
            Self::Own(_) => {}
            Self::Forwarded(forwarded) => forwarded.reply.read_ahead_as(ahead),
        }
    }

    /// The same for HTTP/2, which frames bodies itself.
    pub fn into_http2(self) -> http::Response<Self> {
        let status = self.status();
        let headers = match &self {
            Self::Own(own) => {
                let mut headers = own.rendered.to_map();
                let request_id = HeaderValue::from_bytes(&own.outcome.request_id());
                headers.insert(REQUEST_ID, request_id.expect("hexadecimal digits are valid in a header"));
                headers
            }
            Self::Forwarded(forwarded) => headers::map_of_lines(&Bytes::copy_from_slice(forwarded.lines())),
        };
        let mut response = http::Response::new(self);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

impl Respond for Response {
    type Error = BodyError;

    fn status(&self) -> StatusCode {
        match self {
            Self::Own(own) => own.rendered.status,
            Self::Forwarded(forwarded) => forwarded.reply.status(),
        }
    }

    fn lines(&self) -> &[u8] {
        match self {
            Self::Own(own) => &own.rendered.lines,
            Self::Forwarded(forwarded) => forwarded.lines(),
        }
    }

    fn has_date(&self) -> bool {
        match self {
            Self::Own(_) => false,
            Self::Forwarded(forwarded) => forwarded.reply.fields().is_some_and(Fields::has_date),
        }
    }

    fn time(&self) -> SystemTime {
        match self {
            Self::Own(own) => own.outcome.answer_time(),
            Self::Forwarded(_) => SystemTime::now(),
        }
    }

    fn write_fields(&self, write: &mut impl FnMut(&[u8], &[u8])) {
        match self {
            Self::Own(own) => write(REQUEST_ID.as_str().as_bytes(), &own.outcome.request_id()),
            Self::Forwarded(_) => {}
        }
    }

    fn remaining(&self) -> Option<u64> {
        match self {
            Self::Own(own) => Some(own.rendered.body.len() as u64),
            Self::Forwarded(forwarded) => forwarded.reply.remaining(),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Own(own) => own.rendered.body.is_empty(),
            Self::Forwarded(forwarded) => forwarded.reply.is_complete(),
        }
    }

    fn closes(&self) -> bool {
        match self {
            Self::Own(own) => own.closes,
            Self::Forwarded(_) => false,
        }
    }

    fn protocol(&self) -> &str {
        match self {
            Self::Own(_) => "",
            Self::Forwarded(forwarded) => forwarded.reply.protocol(),
        }
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Own(own) if own.rendered.body.is_empty() => Poll::Ready(None),
            Self::Own(own) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut own.rendered.body))))),
            Self::Forwarded(forwarded) => forwarded.poll_frame(context),
        }
    }
}

/// For HTTP/2.
impl Body for Response {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Respond::poll_frame(self.get_mut(), context)
    }

    fn is_end_stream(&self) -> bool {
        self.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl ForwardedReply {
    fn lines(&self) -> &[u8] {
        self.reply.fields().map_or(b"", Fields::lines)
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.is_told_to_close {
            return Poll::Ready(None);
        }
        if let Some(why) = self.outcome.withdrawn(context) {
            return Poll::Ready(Some(self.break_off(why)));
        }
        if self.outcome.is_overdue(context) {
            return Poll::Ready(Some(self.end_overdue()));
        }
        let polled = self.reply.poll_frame(context);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                let data = frame.data_ref();
                self.outcome.sent(data.map_or(0, Bytes::len));
                if let (Some(frames), Some(data)) = (&mut self.frames, data) {
                    frames.pass(data);
                }
            }
            // The client's doing, which is what an outcome says unless it is told otherwise.
            Poll::Ready(Some(Err(BodyError::Client(_) | BodyError::Withdrawn | BodyError::Overdue))) => {}
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(error = %error, "the upstream's response broke off");
                self.outcome.end(Ending::UpstreamAborted);
            }
            Poll::Ready(None) => self.outcome.end(Ending::Completed),
        }
        polled
    }
}

impl ForwardedReply {
    /// Half a response must not look like a whole one; a gRPC call has a status for that, and a WebSocket can be told, between
    /// two of its frames.
    fn break_off(&mut self, why: Answer) -> Result<Frame<Bytes>, BodyError> {
        self.outcome.end(why.ending());
        if self.frames.as_ref().is_some_and(|frames| frames.is_between()) {
            self.is_told_to_close = true;
            return Ok(Frame::data(Bytes::from_static(CLOSE_POLICY_VIOLATION)));
        }
        if self.caller == Caller::Grpc {
            self.is_told_to_close = true;
            return Ok(Frame::trailers(grpc::trailers(why)));
        }
        Err(BodyError::Withdrawn)
    }
}

impl ForwardedReply {
    /// Its time is over, and it is not complete.
    fn end_overdue(&mut self) -> Result<Frame<Bytes>, BodyError> {
        self.outcome.end(Ending::UpstreamTimeout);
        if self.caller == Caller::Grpc {
            self.is_told_to_close = true;
            return Ok(Frame::trailers(grpc::trailers(Answer::UpstreamTimeout)));
        }
        Err(BodyError::Overdue)
    }
}

impl Drop for ForwardedReply {
    /// The server stops asking once it knows that nothing more comes.
    fn drop(&mut self) {
        if self.reply.is_complete() {
            self.outcome.end(Ending::Completed);
        }
    }
}
