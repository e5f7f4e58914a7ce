//! A request's body as its connection brings it, whichever protocol that speaks: asked for frame by frame, and read from
//! the client only then.
//!
//! What must not live here: what becomes of a body, and how HTTP/1 frames one.

pub mod gathered;

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use hyper::body::Incoming;

use super::http1::Violation;
use gathered::Gathered;

/// The body of one request.
#[derive(Debug)]
pub enum RequestBody {
    /// There is none.
    Empty,
    /// It comes over an HTTP/1 connection.
    Http1(Rc<dyn BodySource>),
    /// It comes over an HTTP/2 stream.
    Http2(Gathered),
    /// There is none, but the client offers to go on in another protocol. If that is taken, this is all that it says there.
    Tunnel(Rc<dyn BodySource>, Offered),
}

/// What a client offers to go on in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// As a WebSocket.
    WebSocket,
    /// In what the one `Upgrade` line of its head names.
    Named,
}

/// A connection that brings one body at a time.
pub trait BodySource: std::fmt::Debug {
    /// The next frame; `None` at the body's end. An error is its last word.
    fn poll_body(&self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>>;
}

/// Why a body did not come to its end: always the client's doing.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It broke HTTP/1's rules.
    #[error("the client's body breaks HTTP's rules")]
    Violation(#[source] Violation),
    /// HTTP/1: the connection ended amid it.
    #[error("the client's connection ended amid its body")]
    Disconnected(#[source] io::Error),
    /// HTTP/1: it was refused before.
    #[error("the client's body was refused")]
    Refused,
    /// HTTP/2: the connection or the stream broke.
    #[error("the client's stream broke amid its body")]
    Stream(#[source] hyper::Error),
    /// HTTP/2: the client gave up its stream.
    #[error("the client reset its stream before its body's end")]
    Reset,
}

impl RequestBody {
    /// The body that came over an HTTP/2 stream.
    pub fn http2(incoming: Incoming) -> Self {
        if incoming.is_end_stream() { Self::Empty } else { Self::Http2(Gathered::new(incoming)) }
    }

    /// The next frame; `None` at the end.
    pub fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Http1(source) | Self::Tunnel(source, _) => source.poll_body(context),
            Self::Http2(incoming) => {
                let polled = incoming.poll_frame(context).map_err(BodyError::Stream);
                match polled {
                    // hyper takes a stream that the client reset with `NO_ERROR` for one that has ended. It has not:
                    // what came so far must never look like the whole body.
                    Poll::Ready(None) if !incoming.is_end_stream() => {
                        Poll::Ready(Some(Err(BodyError::Reset)))
                    }
                    polled => polled,
                }
            }
        }
    }
}
