//! A client's body on its way to the upstream: frames pass as they come, counted, never collected.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use tokio::time::Instant;

use crate::headers;
use crate::serve::body::{BodyError, RequestBody};

/// A client's body on its way to the upstream.
#[derive(Debug)]
pub struct ForwardBody {
    /// In a place of its own: it is handed on many times, and most requests have none.
    streaming: Option<Box<Streaming>>,
}

/// What a request's body is to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// There is none.
    None,
    /// A body, framed as HTTP frames bodies.
    Framed,
    /// What a client says in another protocol, once the upstream has taken its offer.
    Tunnel,
}

#[derive(Debug)]
struct Streaming {
    body: RequestBody,
    upload: Rc<Upload>,
    /// Bytes that it may have at most.
    limit: u64,
}

/// Why a client's body did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The connection or HTTP's rules were broken.
    #[error("the client's body broke off")]
    Broken(#[source] BodyError),
    /// It is shorter or longer than its `Content-Length`.
    #[error("the client's body is not as long as its Content-Length says")]
    Length,
    /// It is longer than its route takes.
    #[error("the client's body is longer than its route takes")]
    TooLarge,
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

    /// The body of a request, of so many bytes at most, and how to ask how far it has come. A tunnel has no limit.
    pub fn streaming(body: RequestBody, limit: Option<u64>) -> (Self, Option<Rc<Upload>>) {
        if let RequestBody::Empty = body {
            return (Self::empty(), None);
        }
        let upload = Rc::new(Upload {
            bytes: Cell::new(0),
            last: Cell::new(Instant::now()),
            state: Cell::new(UploadState::WaitingForUpstream),
        });
        let limit = match body {
            RequestBody::Tunnel(..) => u64::MAX,
            _ => limit.unwrap_or(u64::MAX),
        };
        let streaming = Streaming { body, upload: Rc::clone(&upload), limit };
        (Self { streaming: Some(Box::new(streaming)) }, Some(upload))
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.streaming.is_none()
    }

    /// What it is to the upstream.
    pub fn kind(&self) -> BodyKind {
        match self.streaming.as_deref() {
            None => BodyKind::None,
            Some(Streaming { body: RequestBody::Tunnel(..), .. }) => BodyKind::Tunnel,
            Some(_) => BodyKind::Framed,
        }
    }

    /// Whether it is known that nothing more comes. HTTP/1's reader ends a body where its length says; over HTTP/2 a client may
    /// send more than it said, until its stream ends.
    pub fn is_over(&self) -> bool {
        match self.streaming.as_deref() {
            Some(Streaming { body: RequestBody::Http2(incoming), .. }) => incoming.is_end_stream(),
            Some(_) | None => true,
        }
    }

    /// How far it has come; `None` without a body.
    pub fn upload(&self) -> Option<Rc<Upload>> {
        self.streaming.as_ref().map(|streaming| Rc::clone(&streaming.upload))
    }

    /// The next frame, without what trailers may not carry; `None` at the end.
    pub fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Some(streaming) = &mut self.streaming else { return Poll::Ready(None) };
        let polled = streaming.body.poll_frame(context);
        let upload = &streaming.upload;
        match &polled {
            // A tunnel has no end that could be waited for.
            Poll::Pending if matches!(streaming.body, RequestBody::Tunnel(..)) => {}
            Poll::Pending => upload.state.set(UploadState::WaitingForClient),
            Poll::Ready(Some(Ok(frame))) => {
                upload.state.set(UploadState::WaitingForUpstream);
                upload.last.set(Instant::now());
                let bytes = upload.bytes.get() + frame.data_ref().map_or(0, Bytes::len) as u64;
                if bytes > streaming.limit {
                    upload.state.set(UploadState::Broken);
                    return Poll::Ready(Some(Err(UploadError::TooLarge)));
                }
                upload.bytes.set(bytes);
            }
            Poll::Ready(Some(Err(_))) => upload.state.set(UploadState::Broken),
            Poll::Ready(None) => {
                upload.state.set(UploadState::Complete);
                upload.last.set(Instant::now());
            }
        }
        polled.map_err(UploadError::Broken).map_ok(|frame| match frame.into_trailers() {
            Ok(trailers) => Frame::trailers(headers::request_trailers(&trailers)),
            Err(frame) => frame,
        })
    }
}

impl Upload {
    /// Bytes passed on so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Whether nothing more will come of it.
    pub fn is_over(&self) -> bool {
        matches!(self.state.get(), UploadState::Complete | UploadState::Broken)
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
