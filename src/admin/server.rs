//! The listener of the management API: accepting, TLS, HTTP/1.1 and HTTP/2, deadlines, and each request's name.
//!
//! It runs on the control runtime and never on a worker. What must not live here: anything about resources.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::MatchedPath;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, CACHE_CONTROL};
use http::{HeaderValue, Request, StatusCode};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::{Admin, ApiError, router};
use crate::error::response::REQUEST_ID;
use crate::listen::Shortage;

/// Connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 512;
/// Connections at a time from one source: one alone must not keep all others out. A reverse proxy that is trusted brings
/// everybody's and is not counted.
const CONNECTIONS_OF_ONE: usize = CONNECTIONS / 2;
/// From a connection's opening, or the end of the last request, to the end of a request's head; and for a TLS handshake.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may stay without a request, also one that HTTP/2 keeps alive, or whose client does not read.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// For a whole request, its body and the store included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of a request's head.
const HEAD_BYTES: usize = 64 * 1024;
/// Requests at a time on one HTTP/2 connection.
const STREAMS: u32 = 64;
/// How long finishing may take once the process drains.
const GRACE: Duration = Duration::from_secs(5);
/// Pause after a failed accept, so that a lack of descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The other end of a request's connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// The name of a request, in its answer and in the logs.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub(super) String);

/// Serves until `shutdown` resolves and what runs then has finished, which takes no longer than five seconds.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>, shutdown: impl Future<Output = ()>) {
    let router = router(Arc::clone(&admin)).layer(middleware::from_fn(name_and_log));
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let sources = Sources::default();
    let closing = watch::Sender::new(false);
    let (mut connections, mut shortage) = (JoinSet::new(), Shortage::default());
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (stream, peer, slot) = accept(&listener, &slots, &mut shortage) => {
                let Some(place) = sources.enter(&admin, peer) else { continue };
                let serving = serve_connection(stream, peer, Arc::clone(&admin), router.clone(), closing.subscribe());
                connections.spawn(async move {
                    serving.await;
                    drop((slot, place));
                });
            }
        }
    }
    drop(listener);
    closing.send_replace(true);
    while connections.join_next().await.is_some() {}
}

/// How many connections each source has; a network of IPv6 is one.
#[derive(Clone, Debug, Default)]
struct Sources(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of a source's connections, until it is dropped.
#[derive(Debug)]
struct Place {
    sources: Sources,
    source: IpAddr,
}

impl Sources {
    fn enter(&self, admin: &Admin, peer: SocketAddr) -> Option<Place> {
        let source = match peer.ip().to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        };
        let mut counts = self.0.lock();
        let count = counts.entry(source).or_default();
        if *count >= CONNECTIONS_OF_ONE && !admin.settings().admin.trusted_proxies.trust(peer.ip()) {
            tracing::debug!(%peer, "this source has too many connections to the management API");
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Place { sources: self.clone(), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.sources.0.lock();
        if let Entry::Occupied(mut count) = counts.entry(self.source) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// The next connection and its slot; cancelling loses neither.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    shortage: &mut Shortage,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let slot = Arc::clone(slots).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, slot),
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                if let Some(failures) = shortage.note(Instant::now()) {
                    tracing::warn!(%error, failures, "the management API cannot accept connections; it goes on trying");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    admin: Arc<Admin>,
    router: Router,
    closing: watch::Receiver<bool>,
) {
    let Some(tls) = admin.settings().tls.clone() else {
        return serve_stream(stream, peer, router, closing).await;
    };
    match tokio::time::timeout(HEAD_TIMEOUT, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => serve_stream(stream, peer, router, closing).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake with the management API failed"),
        Err(_) => tracing::debug!(%peer, "a TLS handshake with the management API took too long"),
    }
}

async fn serve_stream(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    router: Router,
    mut closing: watch::Receiver<bool>,
) {
    let router = TowerToHyperService::new(router);
    let activity = Arc::new(Mutex::new(Activity { running: 0, idle_until: Instant::now() + HEAD_TIMEOUT }));
    let noted = Arc::clone(&activity);
    let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let running = Running::begin(&noted);
        let answer = router.call(request);
        async move {
            let _running = running;
            let answer = tokio::time::timeout(REQUEST_TIMEOUT, answer).await;
            let Ok(response) = answer.unwrap_or_else(|_| Ok(too_slow().into_response()));
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_BYTES as u32)
        .keep_alive_interval(HEAD_TIMEOUT);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = closed(&mut closing) => None,
        () = idle(&activity) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(GRACE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error = %error, "a connection of the management API ended early");
    }
}

/// What happens on a connection. The libraries' own deadlines begin with a connection's first bytes and end with HTTP/1.
#[derive(Debug)]
struct Activity {
    running: usize,
    idle_until: Instant,
}

/// A request that is being served.
struct Running(Arc<Mutex<Activity>>);

impl Running {
    fn begin(activity: &Arc<Mutex<Activity>>) -> Self {
        activity.lock().running += 1;
        Self(Arc::clone(activity))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut activity = self.0.lock();
        activity.running -= 1;
        activity.idle_until = Instant::now() + IDLE_TIMEOUT;
    }
}

/// Resolves when the connection has had no request for too long.
async fn idle(activity: &Mutex<Activity>) {
    loop {
        let (is_running, until) = {
            let activity = activity.lock();
            (activity.running > 0, activity.idle_until)
        };
        let now = Instant::now();
        if !is_running && until <= now {
            return;
        }
        // What runs now ends later, and is then followed by as long again.
        tokio::time::sleep_until(until.max(now + Duration::from_secs(1)).into()).await;
    }
}

async fn closed(closing: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the server.
    let _ = closing.wait_for(|closing| *closing).await;
}

fn too_slow() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "timeout",
        "The request took too long. Whether it had an effect is to be seen by asking for its object.",
    )
}

/// Gives a request its name, and says in the log what became of it: by the path's pattern, since a path may hold a token.
async fn name_and_log(mut request: Request<Body>, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId(new_request_id());
    request.extensions_mut().insert(id.clone());
    // So that no log of a library shows it.
    if let Some(value) = request.headers_mut().get_mut(AUTHORIZATION) {
        value.set_sensitive(true);
    }
    let method = request.method().clone();
    let pattern = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    let mut response = next.run(request).await;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    tracing::info!(
        request_id = id.0,
        method = %method,
        path = pattern.as_deref().unwrap_or("none"),
        status = response.status().as_u16(),
        peer = peer.map(tracing::field::display),
        duration_ms = started.elapsed().as_millis() as u64,
        "management request"
    );
    response
}

fn new_request_id() -> String {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the operating system has random bytes");
    data_encoding::HEXLOWER.encode(&random)
}
