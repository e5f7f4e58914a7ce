//! Bodies on their way through: frames pass as they come, counted, never collected.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::outcome::Outcome;
use crate::headers;
use crate::telemetry::record::Ending;
use crate::upstream::Lease;
use crate::upstream::exchange::BodyError;

/// A client's body on its way to the upstream.
#[derive(Debug)]
pub struct ForwardBody {
    streaming: Option<Streaming>,
}

#[derive(Debug)]
struct Streaming {
    incoming: Incoming,
    version: Version,
    upload: Rc<Upload>,
}

/// Why a client's body did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The connection or HTTP's rules were broken.
    #[error("the client's body broke off")]
    Broken(#[source] hyper::Error),
    /// HTTP/2: the client gave up its stream.
    #[error("the client reset its stream before its body's end")]
    Reset,
    /// It is shorter or longer than its `Content-Length`.
    #[error("the client's body is not as long as its Content-Length says")]
    Length,
}

/// How far a client's body has come; shared between the body and who waits for the response.
#[derive(Debug)]
pub struct Upload {
    bytes: Cell<u64>,
    last: Cell<Instant>,
    state: Cell<UploadState>,
}

/// What a body waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadState {
    /// For the client to send more.
    WaitingForClient,
    /// For the upstream to take more.
    WaitingForUpstream,
    /// Nothing: it is complete.
    Complete,
    /// Nothing: the client's side broke off or broke HTTP's rules.
    Broken,
}

impl ForwardBody {
    /// No body.
    pub const fn empty() -> Self {
        Self { streaming: None }
    }

    /// The body of a request of this version, and how to ask how far it has come.
    pub fn streaming(incoming: Incoming, version: Version) -> (Self, Option<Rc<Upload>>) {
        if incoming.is_end_stream() {
            return (Self::empty(), None);
        }
        let upload = Rc::new(Upload {
            bytes: Cell::new(0),
            last: Cell::new(Instant::now()),
            state: Cell::new(UploadState::WaitingForUpstream),
        });
        (Self { streaming: Some(Streaming { incoming, version, upload: Rc::clone(&upload) }) }, Some(upload))
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.streaming.is_none()
    }

    /// How far it has come; `None` without a body.
    pub fn upload(&self) -> Option<Rc<Upload>> {
        self.streaming.as_ref().map(|streaming| Rc::clone(&streaming.upload))
    }
}

impl Streaming {
    /// hyper takes a stream that the client reset with `NO_ERROR` for one that has ended. It has not: what came so
    /// far must never look like the whole body.
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(context).map_err(UploadError::Broken);
        match polled {
            Poll::Ready(None) if self.version == Version::HTTP_2 && !self.incoming.is_end_stream() => {
                Poll::Ready(Some(Err(UploadError::Reset)))
            }
            polled => polled,
        }
    }
}

impl Upload {
    /// Bytes passed on so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// When it last came on.
    pub fn last(&self) -> Instant {
        self.last.get()
    }

    /// What it waits for.
    pub fn state(&self) -> UploadState {
        self.state.get()
    }
}

impl Body for ForwardBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Some(streaming) = &mut self.streaming else { return Poll::Ready(None) };
        let polled = streaming.poll_frame(context);
        let upload = &streaming.upload;
        match &polled {
            Poll::Pending => upload.state.set(UploadState::WaitingForClient),
            Poll::Ready(Some(Ok(frame))) => {
                upload.state.set(UploadState::WaitingForUpstream);
                upload.last.set(Instant::now());
                upload.bytes.set(upload.bytes.get() + frame.data_ref().map_or(0, Bytes::len) as u64);
            }
            Poll::Ready(Some(Err(_))) => upload.state.set(UploadState::Broken),
            Poll::Ready(None) => {
                upload.state.set(UploadState::Complete);
                upload.last.set(Instant::now());
            }
        }
        polled.map_ok(|frame| match frame.into_trailers() {
            Ok(trailers) => Frame::trailers(headers::request_trailers(&trailers)),
            Err(frame) => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.streaming.as_ref().is_none_or(|streaming| streaming.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.streaming
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), |streaming| streaming.incoming.size_hint())
    }
}

/// A response's body on its way to the client.
#[derive(Debug)]
pub enum ResponseBody {
    /// Postern's own answer.
    Local(LocalBody),
    /// The upstream's response.
    Forwarded(ForwardedBody),
}

/// Bytes that are all there. The outcome is recorded when it is dropped with them.
#[derive(Debug)]
pub struct LocalBody {
    bytes: Bytes,
    _outcome: Outcome,
}

/// An upstream's body, with the connection it comes over.
#[derive(Debug)]
pub struct ForwardedBody {
    lease: Lease,
    outcome: Outcome,
}

impl ResponseBody {
    /// Postern's own answer; the outcome is recorded when it has been handed over.
    pub fn local(bytes: Bytes, mut outcome: Outcome) -> Self {
        outcome.sent(bytes.len());
        Self::Local(LocalBody { bytes, _outcome: outcome })
    }

    /// The upstream's response; the outcome is recorded at its end.
    pub fn forwarded(lease: Lease, outcome: Outcome) -> Self {
        Self::Forwarded(ForwardedBody { lease, outcome })
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Local(local) if local.bytes.is_empty() => Poll::Ready(None),
            Self::Local(local) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut local.bytes))))),
            Self::Forwarded(forwarded) => forwarded.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Local(local) => local.bytes.is_empty(),
            Self::Forwarded(forwarded) => forwarded.lease.is_complete(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Local(local) => SizeHint::with_exact(local.bytes.len() as u64),
            Self::Forwarded(forwarded) => {
                forwarded.lease.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}

impl ForwardedBody {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.lease.poll_frame(context);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                self.outcome.sent(frame.data_ref().map_or(0, Bytes::len));
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(error = %error, "the upstream's response broke off");
                self.outcome.end(Ending::UpstreamAborted);
            }
            Poll::Ready(None) => self.outcome.end(Ending::Completed),
        }
        polled
    }
}

impl Drop for ForwardedBody {
    /// The server stops asking once it knows that nothing more comes.
    fn drop(&mut self) {
        if self.lease.is_complete() {
            self.outcome.end(Ending::Completed);
        }
    }
}
