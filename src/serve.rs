//! One downstream connection, from the accepted socket to its end: TLS, protocol, deadlines, drain.
//!
//! What becomes of a request is in [`crate::pipeline`]; here is only what concerns the connection it came on.

pub mod body;
pub mod connection;
pub mod http1;
pub mod http2_floods;
pub mod http2_stalls;
mod http2_tunnel;
pub mod registry;
pub mod target;

use std::convert::Infallible;
use std::fmt::{Debug, Display};
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use http::Request;
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use crate::config::TrustedPeers;
use crate::listen::client_certificate::CertificateLines;
use crate::listen::proxy_protocol::{self, ProxyProtocolError, Source};
use crate::listen::stream::ClientStream;
use crate::listen::tls::ServerTls;
use crate::pipeline;
use crate::policy::address;
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::{ListenerMetrics, ProxyProtocolFailure, TlsOutcome};
use crate::upstream::ahead::Ahead;
use crate::worker::Worker;
use body::{BodySource, Offered, RequestBody};
use connection::{Connection, Order, Origin, Protocol};
use http1::{Closable, Limits, Prefixed, Received, State};
use http2_floods::Counted;
use http2_stalls::{Noted, StreamExecutor};
use http2_tunnel::{StreamBody, Tunnel};
use registry::Accepted;

/// HTTP/2 streams a client may have open at once: as few as clients may count on (RFC 9113, section 6.5.2), for all of their
/// answers may lie about unread.
const CONCURRENT_STREAMS: u32 = 100;

/// Streams a client may reset before they were served, beyond which it is told to go away.
const RESET_STREAMS: usize = 128;

/// What a whole HTTP/2 connection may send ahead: several uploads side by side.
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// What one HTTP/2 stream may send ahead.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// Of an answer whose client opens windows and does not read, hyper takes another piece only while less than this of the last ones is
/// left. A piece is what was read at once, which [`Ahead`] bounds.
const SEND_BUFFER_BYTES: usize = 16 * 1024;

/// Serves one accepted connection, whose peer's address is canonical, to its end.
pub async fn accepted(
    worker: Rc<Worker>,
    listener: usize,
    stream: ClientStream,
    peer: IpAddr,
    open: Accepted,
    metrics: Arc<ListenerMetrics>,
) {
    let _counted_until_the_end = open;
    let _open = metrics.connection_opened(worker.index);
    let _live = worker.drain.live();
    let snapshot = Arc::clone(&worker.snapshot().shared);
    let Some(settings) = snapshot.listeners.get(listener) else { return };
    let (stream, peer) = match &settings.proxy_protocol {
        None => (stream, peer),
        // In a place of its own, as TLS below.
        Some(trusted) => {
            match Box::pin(introduced(
                &worker,
                stream,
                peer,
                (trusted, settings.timeouts.header_read),
                &metrics,
            ))
            .await
            {
                Some(introduced) => introduced,
                None => return,
            }
        }
    };
    let origin = Origin { peer, listener, scheme: settings.scheme, certificate: CertificateLines::default() };
    match &settings.tls {
        None => serve_cleartext(worker, origin, stream, metrics, &snapshot).await,
        // Large, and in a place of its own, so that cleartext connections do without.
        Some(tls) => Box::pin(serve_tls(worker, origin, stream, tls, metrics, &snapshot)).await,
    }
}

/// Reads what a proxy says about the connection, and from whom it comes then; `None` where nobody is served.
async fn introduced(
    worker: &Worker,
    mut stream: ClientStream,
    peer: IpAddr,
    (trusted, patience): (&TrustedPeers, Duration),
    metrics: &ListenerMetrics,
) -> Option<(ClientStream, IpAddr)> {
    if !trusted.trust(peer) {
        metrics.proxy_protocol_failed(worker.index, ProxyProtocolFailure::Untrusted);
        tracing::debug!(%peer, "this peer may not speak the PROXY protocol, which the listener requires");
        return None;
    }
    let header = tokio::select! {
        biased;
        header = tokio::time::timeout(patience, proxy_protocol::read(&mut stream)) => header,
        () = worker.drain.started() => return None,
    };
    let failure = match header {
        Ok(Ok((source, read))) => {
            let client = match source {
                Source::Proxy => peer,
                Source::Client(client) => client,
                Source::Unknown => address::UNKNOWN,
            };
            return Some((stream.after(read), client));
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, %peer, "a connection without a header of the PROXY protocol was closed");
            match error {
                ProxyProtocolError::Malformed(_) => ProxyProtocolFailure::Malformed,
                ProxyProtocolError::Disconnected(_) => ProxyProtocolFailure::Aborted,
            }
        }
        Err(_elapsed) => ProxyProtocolFailure::Timeout,
    };
    metrics.proxy_protocol_failed(worker.index, failure);
    None
}

/// The handshake, and what ALPN has decided: no byte is sniffed after it.
async fn serve_tls(
    worker: Rc<Worker>,
    origin: Origin,
    stream: ClientStream,
    tls: &ServerTls,
    metrics: Arc<ListenerMetrics>,
    snapshot: &Snapshot,
) {
    let handshake = TlsAcceptor::from(Arc::clone(&tls.config)).accept(stream);
    let handshake = tokio::select! {
        biased;
        ended = tokio::time::timeout(snapshot.listeners[origin.listener].timeouts.header_read, handshake) => ended,
        // It has asked for nothing yet, and would be told to close.
        () = worker.drain.started() => return,
    };
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            metrics.handshake(worker.index, handshake_outcome(&error));
            tracing::debug!(error = %error, peer = %origin.peer, "TLS handshake failed");
            return;
        }
        Err(_elapsed) => {
            metrics.handshake(worker.index, TlsOutcome::Timeout);
            return;
        }
    };
    let origin = match tls.client_certificate(stream.get_ref().1) {
        Ok(certificate) => Origin { certificate, ..origin },
        Err(error) => {
            metrics.handshake(worker.index, TlsOutcome::Failed);
            tracing::debug!(error = %error, peer = %origin.peer, "a resumed session's certificate counts no more");
            return;
        }
    };
    metrics.handshake(worker.index, TlsOutcome::Ok);
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        serve_http2(worker, origin, stream, metrics, snapshot).await;
    } else {
        serve_http1(worker, origin, stream, BytesMut::new(), snapshot).await;
    }
}

/// Without TLS, HTTP/2 is spoken with prior knowledge: the first bytes tell.
async fn serve_cleartext(
    worker: Rc<Worker>,
    origin: Origin,
    mut stream: ClientStream,
    metrics: Arc<ListenerMetrics>,
    snapshot: &Snapshot,
) {
    let sniffed = tokio::select! {
        biased;
        sniffed = tokio::time::timeout(snapshot.listeners[origin.listener].timeouts.idle, http1::sniff(&mut stream)) => sniffed,
        () = worker.drain.started() => return,
    };
    match sniffed {
        Ok(Ok((http1::Protocol::Http1, read))) if read.is_empty() => {}
        Ok(Ok((http1::Protocol::Http1, read))) => {
            serve_http1(worker, origin, stream, read, snapshot).await;
        }
        Ok(Ok((http1::Protocol::Http2, read))) => {
            serve_http2(worker, origin, Prefixed::new(stream, read), metrics, snapshot).await;
        }
        Ok(Err(error)) => tracing::debug!(error = %error, "a connection broke before its first request"),
        Err(_elapsed) => {}
    }
}

/// HTTP/1, beginning with what has been read already.
async fn serve_http1<S>(worker: Rc<Worker>, origin: Origin, stream: S, read: BytesMut, snapshot: &Snapshot)
where
    S: AsyncRead + AsyncWrite + Closable + Unpin + Debug + 'static,
{
    let state = Rc::new(State::new());
    let protocol = Protocol::Http1(Rc::clone(&state));
    let connection = Rc::new(Connection::new(origin, protocol));
    let handler = async |received| pipeline::serve(&worker, &connection, received).await;
    let served = pin!(http1::serve(stream, read, limits(snapshot), Rc::clone(&state), handler));
    run(&worker, &connection, served, |_, order| match order {
        Order::Leave => state.end_after_next(),
        Order::GoOn | Order::Drain | Order::Close => state.end_after_this(),
    })
    .await;
}

async fn serve_http2<S>(
    worker: Rc<Worker>,
    origin: Origin,
    stream: S,
    metrics: Arc<ListenerMetrics>,
    snapshot: &Snapshot,
) where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let executor = StreamExecutor::new(snapshot.listeners[origin.listener].timeouts.idle);
    let connection = Rc::new(Connection::new(origin, Protocol::Http2));
    let head_bytes = snapshot.limits.header_bytes + snapshot.limits.uri_bytes;
    let stream = Counted::new(stream, metrics, worker.index);
    let served = http2::Builder::new(executor.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(CONCURRENT_STREAMS)
        .max_pending_accept_reset_streams(RESET_STREAMS)
        .max_local_error_reset_streams(RESET_STREAMS)
        .enable_connect_protocol()
        .max_header_list_size(u32::try_from(head_bytes).unwrap_or(u32::MAX))
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service(&worker, &connection, executor));
    // A stream that is under way meanwhile is served: the client is told which one was the last only after a round trip.
    run(&worker, &connection, pin!(served), |served, _| served.graceful_shutdown()).await;
}

/// Requests of an HTTP/2 connection go into the pipeline.
fn service(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    executor: StreamExecutor,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = http::Response<Noted<StreamBody>>,
    Error = Infallible,
    Future: 'static,
> + use<> {
    let worker = Rc::clone(worker);
    let connection = Rc::clone(connection);
    let ahead = Rc::<Ahead>::default();
    service_fn(move |request| {
        let (mut head, incoming) = request.into_parts();
        let tunnel = Tunnel::offered(&mut head);
        let body = match &tunnel {
            None => RequestBody::http2(incoming),
            Some(tunnel) => RequestBody::Tunnel(Rc::clone(tunnel) as Rc<dyn BodySource>, Offered::WebSocket),
        };
        let (progress, ahead) = (executor.begin(), Rc::clone(&ahead));
        // Decided here: what waits, and is moved to a place of its own before it is polled, is the smaller for it.
        let received = Received { head, body, violation: None, stream: Some(Rc::clone(&progress)) };
        let serving = pipeline::serve(&worker, &connection, received);
        let executor = executor.clone();
        async move {
            let mut response = serving.await;
            response.read_ahead_as(&ahead);
            let response = match tunnel {
                None => response.into_http2().map(Either::Left),
                Some(tunnel) => tunnel.answer(response, &executor, &progress),
            };
            Ok::<_, Infallible>(response.map(|body| Noted::new(body, progress, ahead)))
        }
    })
}

/// Polls a connection to its end, following the registry's orders. It is pinned where it was made: a second place for it
/// would make every idle connection larger.
async fn run<C, E>(
    worker: &Worker,
    connection: &Rc<Connection>,
    mut served: Pin<&mut C>,
    end: impl Fn(Pin<&mut C>, Order),
) where
    C: Future<Output = Result<(), E>>,
    E: Display,
{
    let _registration = worker.registry.enter(connection);
    let mut followed = Order::GoOn;
    let ended = poll_fn(|context| follow(connection, &mut followed, served.as_mut(), &end, context)).await;
    if let Err(error) = ended {
        tracing::debug!(error = %error, peer = %connection.origin.peer, "a connection ended early");
    }
}

fn follow<C, E>(
    connection: &Connection,
    followed: &mut Order,
    mut served: Pin<&mut C>,
    end: &impl Fn(Pin<&mut C>, Order),
    context: &mut Context<'_>,
) -> Poll<Result<(), E>>
where
    C: Future<Output = Result<(), E>>,
{
    let order = connection.order(context);
    if order != *followed {
        *followed = order;
        match order {
            Order::GoOn => {}
            Order::Leave | Order::Drain => {
                // A request that has arrived already is served first: an idle connection would be closed at once.
                if let Poll::Ready(ended) = served.as_mut().poll(context) {
                    return Poll::Ready(ended);
                }
                end(served.as_mut(), order);
            }
            Order::Close => return Poll::Ready(Ok(())),
        }
    }
    served.poll(context)
}

fn limits(snapshot: &Snapshot) -> Limits {
    let limits = snapshot.limits;
    Limits {
        header_bytes: limits.header_bytes,
        header_count: limits.header_count,
        uri_bytes: limits.uri_bytes,
    }
}

/// A peer that goes away amid a handshake is not a fault in it.
fn handshake_outcome(error: &std::io::Error) -> TlsOutcome {
    match error.kind() {
        std::io::ErrorKind::InvalidData => TlsOutcome::Failed,
        _ => TlsOutcome::Aborted,
    }
}

/// Spawns HTTP/2's streams on this worker's thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
