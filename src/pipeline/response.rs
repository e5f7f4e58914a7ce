//! What a client is answered: Postern's own words, or the upstream's, streamed back. The outcome is recorded when it is
//! dropped with the response.
//!
//! What must not live here: how a protocol frames a response.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::outcome::Outcome;
use crate::error::response::{REQUEST_ID, Rendered};
use crate::headers;
use crate::serve::http1::Respond;
use crate::telemetry::record::Ending;
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
    request_id: HeaderValue,
    closes: bool,
    _outcome: Outcome,
}

/// An upstream's response, with the connection its body comes over.
#[derive(Debug)]
pub struct ForwardedReply {
    reply: Reply,
    outcome: Outcome,
}

impl Response {
    /// Postern's own answer, after which the connection may have to close.
    pub fn own(rendered: Rendered, request_id: HeaderValue, closes: bool, mut outcome: Outcome) -> Self {
        outcome.sent(rendered.body.len());
        Self::Own(OwnAnswer { rendered, request_id, closes, _outcome: outcome })
    }

    /// The upstream's response.
    pub fn forwarded(reply: Reply, outcome: Outcome) -> Self {
        Self::Forwarded(ForwardedReply { reply, outcome })
    }

    /// The same for HTTP/2, which frames bodies itself.
    pub fn into_http2(self) -> http::Response<Self> {
        let status = self.status();
        let headers = match &self {
            Self::Own(own) => {
                let mut headers = own.rendered.to_map();
                headers.insert(REQUEST_ID, own.request_id.clone());
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

    fn write_fields(&self, write: &mut impl FnMut(&[u8], &[u8])) {
        match self {
            Self::Own(own) => write(REQUEST_ID.as_str().as_bytes(), own.request_id.as_bytes()),
            Self::Forwarded(_) => {}
        }
    }

    fn remaining(&self) -> Option<u64> {
        match self {
            Self::Own(own) => Some(own.rendered.body.len() as u64),
            Self::Forwarded(forwarded) => forwarded.reply.remaining(),
        }
    }

    fn closes(&self) -> bool {
        match self {
            Self::Own(own) => own.closes,
            Self::Forwarded(_) => false,
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
        match self {
            Self::Own(own) => own.rendered.body.is_empty(),
            Self::Forwarded(forwarded) => forwarded.reply.is_complete(),
        }
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
        let polled = self.reply.poll_frame(context);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                self.outcome.sent(frame.data_ref().map_or(0, Bytes::len));
            }
            // The client's doing, which is what an outcome says unless it is told otherwise.
            Poll::Ready(Some(Err(BodyError::Client(_)))) => {}
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(error = %error, "the upstream's response broke off");
                self.outcome.end(Ending::UpstreamAborted);
            }
            Poll::Ready(None) => self.outcome.end(Ending::Completed),
        }
        polled
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
