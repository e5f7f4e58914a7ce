//! WebSockets over HTTP/2 (RFC 8441): a request of the pipeline's like HTTP/1.1's offer, and what passes once it is taken.
//!
//! An extended CONNECT becomes the GET that HTTP/1.1 begins a WebSocket with, so that nothing behind this has to know of it.
//! What must not live here: who may open one, and frames of WebSockets.

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use http::request::Parts;
use http::{Method, StatusCode};
use http_body::Frame;
use http_body_util::{Either, Empty};
use hyper::ext::Protocol;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWrite};

use super::body::{BodyError, BodySource};
use super::http1::Respond as _;
use super::http2_stalls::{Progress, Stall, StreamExecutor};
use crate::pipeline::response::Response;

/// The protocol that is taken, as `:protocol` names it.
const WEBSOCKET: &str = "websocket";

/// Bytes read at once.
const READ_BYTES: usize = 8 * 1024;

/// Bytes written at once: whether a slow client takes anything shows in less than this.
const WRITTEN_BYTES: usize = 16 * 1024;

/// What an HTTP/2 stream is answered: a body of the pipeline's, or none where the stream goes on otherwise.
pub(super) type StreamBody = Either<Response, Empty<Bytes>>;

/// A stream on which a client offers to go on as a WebSocket.
#[derive(Debug)]
pub(super) struct Tunnel {
    stream: RefCell<Stream>,
}

#[derive(Debug)]
enum Stream {
    /// Nothing comes of it before the offer is taken.
    Offered(OnUpgrade),
    Open(TokioIo<Upgraded>),
    /// It broke, or was never taken.
    Gone,
}

impl Tunnel {
    /// The offer in a request's head, which becomes HTTP/1.1's; `None` for any other request, other uses of CONNECT included.
    pub(super) fn offered(head: &mut Parts) -> Option<Rc<Self>> {
        if head.method != Method::CONNECT
            || head.extensions.get::<Protocol>().is_none_or(|protocol| protocol.as_str() != WEBSOCKET)
            || head.headers.contains_key(CONTENT_LENGTH)
        {
            return None;
        }
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).ok()?;
        // Base64 is visible ASCII.
        let key = HeaderValue::from_str(&data_encoding::BASE64.encode(&nonce)).ok()?;
        let upgrade = head.extensions.remove::<OnUpgrade>()?;
        head.method = Method::GET;
        head.headers.insert(SEC_WEBSOCKET_KEY, key);
        Some(Rc::new(Self { stream: RefCell::new(Stream::Offered(upgrade)) }))
    }

    /// What the stream is answered. If the offer was taken, what passes on it then has a task of its own.
    pub(super) fn answer(
        self: Rc<Self>,
        response: Response,
        executor: &StreamExecutor,
        progress: &Rc<Progress>,
    ) -> http::Response<StreamBody> {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            *self.stream.borrow_mut() = Stream::Gone;
            return response.into_http2().map(Either::Left);
        }
        let (mut head, response) = response.into_http2().into_parts();
        head.status = StatusCode::OK;
        head.headers.remove(SEC_WEBSOCKET_ACCEPT);
        // Its writer is spawned by hyper when it has this answer.
        let stall = executor.go_on(progress);
        tokio::task::spawn_local(self.pass(response, stall));
        http::Response::from_parts(head, Either::Right(Empty::new()))
    }

    /// Passes on both ways: what the client says is read by whoever polls the response, as its request's body.
    async fn pass(self: Rc<Self>, mut response: Response, mut stall: Stall) {
        let mut said = Bytes::new();
        let passed = poll_fn(|context| {
            ready!(self.poll_open(context))?;
            self.poll_pass(&mut response, &mut said, &mut stall, context)
        });
        let ended = match passed.await {
            Ok(()) => poll_fn(|context| self.poll_stream(context, AsyncWrite::poll_shutdown)).await,
            Err(error) => {
                // Its writer may wait for the client, and keeps the stream for as long.
                stall.progress().give_up();
                Err(error)
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error = %error, "a WebSocket's stream ended early");
        }
    }

    fn poll_pass(
        &self,
        response: &mut Response,
        said: &mut Bytes,
        stall: &mut Stall,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            while !said.is_empty() {
                let write = |stream: Pin<&mut _>, context: &mut Context<'_>| {
                    AsyncWrite::poll_write(stream, context, &said[..said.len().min(WRITTEN_BYTES)])
                };
                let Poll::Ready(written) = self.poll_stream(context, write) else {
                    stall.progress().wait_for_client(true);
                    ready!(stall.poll(context));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                };
                said.advance(written?);
                stall.progress().step();
            }
            stall.progress().wait_for_client(false);
            match response.poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => *said = frame.into_data().unwrap_or_default(),
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(io::Error::other(error.to_string())));
                }
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    // A client that has reset its stream is seen by who writes.
                    return match self.poll_stream(context, AsyncWrite::poll_flush) {
                        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                        Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }

    /// Ready once the client has been told that its offer was taken.
    fn poll_open(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = self.stream.borrow_mut();
        if let Stream::Offered(upgrade) = &mut *stream {
            match ready!(Pin::new(upgrade).poll(context)) {
                Ok(upgraded) => *stream = Stream::Open(TokioIo::new(upgraded)),
                Err(error) => {
                    *stream = Stream::Gone;
                    return Poll::Ready(Err(io::Error::other(error)));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_stream<T>(
        &self,
        context: &mut Context<'_>,
        operation: impl FnOnce(Pin<&mut TokioIo<Upgraded>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut *self.stream.borrow_mut() {
            Stream::Open(stream) => operation(Pin::new(stream), context),
            Stream::Offered(_) | Stream::Gone => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl BodySource for Tunnel {
    fn poll_body(&self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self.stream.borrow_mut() {
            // Who asks for the response's next frame, which tells that it was taken, asks here again.
            Stream::Offered(_) => Poll::Pending,
            Stream::Gone => Poll::Ready(None),
            Stream::Open(stream) => {
                let mut read = BytesMut::with_capacity(READ_BYTES);
                match ready!(pin!(stream.read_buf(&mut read)).poll(context)) {
                    Ok(0) => Poll::Ready(None),
                    Ok(_) => Poll::Ready(Some(Ok(Frame::data(read.freeze())))),
                    Err(error) => Poll::Ready(Some(Err(BodyError::Disconnected(error)))),
                }
            }
        }
    }
}
