//! The operators' listener: `/metrics`, `/healthz` and `/readyz`, and the keys of `/.well-known/jwks.json`, on the control runtime.
//!
//! It goes on answering while the process drains. What must not live here: anything that changes state, and anything
//! about single tokens or users; whoever can connect may read.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{debug, error, warn};

use crate::identity_token::keys::{self, IdentityKeys};
use crate::lifecycle::progress::Stuck;
use crate::lifecycle::{Progress, Readiness, Unready};
use crate::listen::Shortage;
use crate::telemetry::Metrics;

/// Connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 64;
/// From a connection's opening, or the end of the last request, to the end of a request's head.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request's head, and of what is read ahead.
const HEADER_BYTES: usize = 16 * 1024;
/// How long a connection is kept; then it finishes its request, if it has one, and closes.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(600);
/// How long finishing may take.
const CONNECTION_GRACE: Duration = Duration::from_secs(5);
/// Pause after a failed accept, so that a lack of descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const PROMETHEUS_TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JWK_SET: HeaderValue = HeaderValue::from_static("application/jwk-set+json");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Serves until `shutdown` resolves and what runs then has finished, which takes no longer than five seconds.
pub async fn serve(listener: TcpListener, told: Told, shutdown: impl Future<Output = ()>) {
    let ops = Arc::new(told);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let closing = watch::Sender::new(false);
    let (mut connections, mut shortage) = (JoinSet::new(), Shortage::default());
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (stream, slot) = accept(&listener, &slots, &mut shortage) => {
                let serving = serve_connection(stream, Arc::clone(&ops), closing.subscribe());
                connections.spawn(async move {
                    serving.await;
                    drop(slot);
                });
            }
        }
    }
    drop(listener);
    closing.send_replace(true);
    while connections.join_next().await.is_some() {}
}

/// What this listener tells.
#[derive(Debug)]
pub struct Told {
    /// Everything that is counted.
    pub metrics: Arc<Metrics>,
    /// Whether the process can serve.
    pub readiness: Arc<Readiness>,
    /// Whether its threads get on.
    pub progress: Arc<Progress>,
    /// What upstreams check statements of identity with.
    pub identity_keys: Arc<IdentityKeys>,
}

/// The next connection and its slot; cancelling loses neither.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    shortage: &mut Shortage,
) -> (TcpStream, tokio::sync::OwnedSemaphorePermit) {
    let slot = Arc::clone(slots).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, slot),
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                if let Some(failures) = shortage.note(Instant::now()) {
                    warn!(%error, failures, "the ops listener cannot accept connections; it goes on trying");
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

async fn serve_connection(stream: TcpStream, ops: Arc<Told>, mut closing: watch::Receiver<bool>) {
    let service = service_fn(move |request| {
        let ops = Arc::clone(&ops);
        async move { Ok::<_, Infallible>(ops.respond(&request)) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_READ_TIMEOUT)
            .max_buf_size(HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        result = connection.as_mut() => Some(result),
        () = end_of_serving(&mut closing) => None,
        () = tokio::time::sleep(CONNECTION_LIFETIME) => None,
    };
    let result = match ended {
        Some(result) => result,
        None => finish(connection).await,
    };
    if let Err(error) = result {
        debug!(%error, "a connection to the ops listener broke off");
    }
}

async fn end_of_serving(closing: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the server.
    let _ = closing.wait_for(|closing| *closing).await;
}

type Connection<S> = http1::Connection<TokioIo<TcpStream>, S>;

async fn finish<S>(mut connection: std::pin::Pin<&mut Connection<S>>) -> hyper::Result<()>
where
    S: hyper::service::HttpService<Incoming, ResBody = Full<Bytes>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    connection.as_mut().graceful_shutdown();
    tokio::time::timeout(CONNECTION_GRACE, connection).await.unwrap_or(Ok(()))
}

impl Told {
    fn respond<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let answer: fn(&Self) -> Response<Full<Bytes>> = match request.uri().path() {
            "/metrics" => Self::metrics,
            "/healthz" => Self::health,
            "/readyz" => Self::ready,
            "/.well-known/jwks.json" => Self::keys,
            _ => return not_found(),
        };
        match *request.method() {
            // hyper leaves out the body of an answer to HEAD, and keeps its length.
            Method::GET | Method::HEAD => answer(self),
            _ => method_not_allowed(),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        match self.metrics.encode() {
            Ok(text) => respond(StatusCode::OK, PROMETHEUS_TEXT, text),
            Err(error) => {
                error!(%error, "the metrics cannot be encoded");
                let message = "The metrics cannot be encoded; the log says why.";
                refuse(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    message,
                    &[Problem { message, code: "internal_error" }],
                )
            }
        }
    }

    fn health(&self) -> Response<Full<Bytes>> {
        self.health_at(Instant::now())
    }

    fn health_at(&self, now: Instant) -> Response<Full<Bytes>> {
        let stuck = self.progress.stuck(now);
        if stuck.is_empty() {
            return respond(StatusCode::OK, PLAIN_TEXT, "ok\n");
        }
        let who: Vec<_> = stuck.iter().map(Stuck::to_string).collect();
        let message = format!("This process should be restarted: {}.", who.join(", "));
        let problem =
            Problem { message: "A thread that the process lives by does not get on.", code: "stuck" };
        refuse(StatusCode::SERVICE_UNAVAILABLE, &message, &[problem])
    }

    fn keys(&self) -> Response<Full<Bytes>> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        match self.identity_keys.list(u32::try_from(now.as_secs()).unwrap_or(u32::MAX)) {
            Some(Ok(list)) => {
                let mut response = respond(StatusCode::OK, JWK_SET, list);
                let keep = HeaderValue::from_str(&format!("public, max-age={}", keys::LIST_SECONDS));
                response.headers_mut().insert(CACHE_CONTROL, keep.expect("a number is valid in a header"));
                response
            }
            Some(Err(error)) => {
                error!(%error, "there are no keys for statements of identity");
                let message = "There are no keys; the log says why.";
                let problem = Problem { message, code: "internal_error" };
                refuse(StatusCode::INTERNAL_SERVER_ERROR, message, &[problem])
            }
            None => {
                let message = "Nothing is signed here: the configuration has no [identity_token].";
                refuse(StatusCode::NOT_FOUND, message, &[Problem { message, code: "not_found" }])
            }
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let missing = self.readiness.missing();
        if missing.is_empty() {
            return respond(StatusCode::OK, PLAIN_TEXT, "ok\n");
        }
        let codes: Vec<_> = missing.iter().map(|it| it.code()).collect();
        let problems: Vec<_> = missing.into_iter().map(Problem::from).collect();
        let message = format!("This process is not ready: {}.", codes.join(", "));
        refuse(StatusCode::SERVICE_UNAVAILABLE, &message, &problems)
    }
}

/// One entry of an error's list.
struct Problem {
    message: &'static str,
    code: &'static str,
}

impl From<Unready> for Problem {
    fn from(unready: Unready) -> Self {
        Self { message: unready.message(), code: unready.code() }
    }
}

fn not_found() -> Response<Full<Bytes>> {
    let message =
        "There is nothing here. This listener has /metrics, /healthz, /readyz and /.well-known/jwks.json.";
    refuse(StatusCode::NOT_FOUND, message, &[Problem { message, code: "not_found" }])
}

fn method_not_allowed() -> Response<Full<Bytes>> {
    let message = "This listener answers only GET and HEAD.";
    let mut response =
        refuse(StatusCode::METHOD_NOT_ALLOWED, message, &[Problem { message, code: "method_not_allowed" }]);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

/// An error in the shape that clients of Aiven's API know.
fn refuse(status: StatusCode, message: &str, problems: &[Problem]) -> Response<Full<Bytes>> {
    let errors: Vec<_> = problems
        .iter()
        .map(|it| json!({"message": it.message, "error_code": it.code, "status": status.as_u16()}))
        .collect();
    respond(status, JSON, json!({"message": message, "errors": errors}).to_string() + "\n")
}

fn respond(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
