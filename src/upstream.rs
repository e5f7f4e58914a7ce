//! Upstreams: which endpoint is asked, over which connection, and what happens when that fails.
//!
//! An [`Upstream`] is what the configuration says and all workers share; a [`WorkerUpstream`] adds one worker's own
//! idle connections, so that no worker waits for another. A request is sent and its response's head awaited in the
//! task that serves it: no channel to another task, no wake-up in between.
//! Nothing here decides who may pass: [`crate::pipeline`] only sends what holds an admission.

pub mod connect;
pub mod exchange;
pub mod pool;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, Method, Request, Response, Uri};
use hyper::body::Incoming;

use crate::config::UpstreamConfig;
use crate::pipeline::body::ForwardBody;
use crate::telemetry::metrics::{EndpointMetrics, UpstreamOutcome};
use connect::{ConnectError, Connector};
use exchange::{Exchange, ExchangeError};
use pool::IdlePool;

/// A service behind, as configured; shared by all workers.
#[derive(Debug)]
pub struct Upstream {
    /// Name for logs.
    pub name: Arc<str>,
    /// Its configuration.
    pub config: UpstreamConfig,
    /// Opens connections to it.
    pub connector: Connector,
    /// Its endpoints, in the configuration's order; at least one.
    pub endpoints: Vec<Endpoint>,
}

/// One address of a service.
#[derive(Debug)]
pub struct Endpoint {
    /// `host:port` as configured.
    pub label: Arc<str>,
    /// What is counted about it.
    pub metrics: Arc<EndpointMetrics>,
}

/// One worker's view of an upstream.
#[derive(Debug)]
pub struct WorkerUpstream {
    /// What all workers share.
    pub shared: Arc<Upstream>,
    worker: usize,
    pools: Vec<Rc<IdlePool>>,
    next_endpoint: std::cell::Cell<usize>,
}

/// A response's head with the connection its body still comes over.
#[derive(Debug)]
pub struct Reply {
    /// Head and body.
    pub response: Response<Incoming>,
    /// The connection, to be read on and then kept or dropped.
    pub lease: Lease,
}

/// A connection in use: goes back to its pool when its response has been read to the end, else is closed.
#[derive(Debug)]
pub struct Lease {
    exchange: Option<Box<Exchange>>,
    pool: Rc<IdlePool>,
}

/// What is to be sent. Parts instead of a request, so that a safe request can be sent again.
#[derive(Debug)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// Origin-form.
    pub uri: Uri,
    /// Complete: nothing is added on the way.
    pub headers: HeaderMap,
    /// The client's body.
    pub body: ForwardBody,
}

/// Why no response's head came.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No connection to any endpoint.
    #[error("could not connect to the upstream")]
    Unreachable(#[source] ConnectError),
    /// Connected, but no head in time.
    #[error("the upstream did not answer within its response_header_seconds")]
    Timeout,
    /// The connection broke, or the upstream does not speak HTTP.
    /// A client's broken body shows up like this too: its [`crate::pipeline::body::Upload`] tells the two apart.
    #[error("the upstream's connection failed before its response")]
    Failed(#[source] hyper::Error),
}

impl Upstream {
    /// Whether connections made for the one can serve the other. With TLS, the files behind the same settings may
    /// have changed.
    pub fn is_same_service(&self, other: &Self) -> bool {
        self.config == other.config && self.config.tls.is_none()
    }
}

impl WorkerUpstream {
    /// A view without connections yet.
    pub fn new(shared: Arc<Upstream>, worker: usize) -> Self {
        let pools = shared
            .endpoints
            .iter()
            .enumerate()
            .map(|(position, endpoint)| {
                Rc::new(IdlePool::new(
                    position,
                    worker,
                    shared.config.idle_connections,
                    shared.config.idle_timeout,
                    Arc::clone(&endpoint.metrics),
                ))
            })
            .collect();
        Self { shared, worker, pools, next_endpoint: std::cell::Cell::new(worker) }
    }

    /// Chooses the next endpoint in turn.
    pub fn next_endpoint(&self) -> usize {
        let position = self.next_endpoint.get();
        self.next_endpoint.set(position.wrapping_add(1));
        position % self.pools.len()
    }

    /// Sends a request to an endpoint and waits for the response's head.
    ///
    /// A reused connection may turn out to be closed by the upstream. What was not sent at all is sent again; what
    /// may have been sent only if sending twice does no harm (RFC 9110, section 9.2.2) and nothing of a body is gone.
    /// A connection that cannot be opened moves on to the next endpoint.
    pub async fn send(&self, endpoint: &mut usize, mut outgoing: Outgoing) -> Result<Reply, UpstreamError> {
        loop {
            let pool = &self.pools[*endpoint];
            let Some(mut exchange) = pool.take() else { break };
            let spare = is_safe_to_repeat(&outgoing).then(|| outgoing.head());
            match exchange.send(outgoing.into_request(), self.shared.config.response_header_timeout).await {
                Ok(response) => return Ok(Reply { response, lease: Lease::new(exchange, pool) }),
                Err(ExchangeError::NotSent(request)) => outgoing = Outgoing::from_request(*request),
                Err(ExchangeError::Failed(error)) => match spare {
                    Some(head) => outgoing = head.with_no_body(),
                    None => return Err(UpstreamError::Failed(error)),
                },
                Err(ExchangeError::Timeout) => return Err(UpstreamError::Timeout),
            }
            pool.metrics().record(self.worker, UpstreamOutcome::Retried, None);
        }
        let mut exchange = self.connect(endpoint).await?;
        match exchange.send(outgoing.into_request(), self.shared.config.response_header_timeout).await {
            Ok(response) => Ok(Reply { response, lease: Lease::new(exchange, &self.pools[*endpoint]) }),
            Err(ExchangeError::NotSent(_)) => Err(UpstreamError::Unreachable(ConnectError::ClosedAtOnce)),
            Err(ExchangeError::Failed(error)) => Err(UpstreamError::Failed(error)),
            Err(ExchangeError::Timeout) => Err(UpstreamError::Timeout),
        }
    }

    /// Opens a connection to this endpoint, or else to the others in turn.
    async fn connect(&self, endpoint: &mut usize) -> Result<Box<Exchange>, UpstreamError> {
        let mut tried = 0;
        loop {
            match Exchange::open(&self.shared, *endpoint, self.pools[*endpoint].active()).await {
                Ok(exchange) => return Ok(Box::new(exchange)),
                Err(error) => {
                    tried += 1;
                    if tried == self.pools.len() {
                        return Err(UpstreamError::Unreachable(error));
                    }
                    self.pools[*endpoint].metrics().record(self.worker, UpstreamOutcome::Unreachable, None);
                    *endpoint = (*endpoint + 1) % self.pools.len();
                }
            }
        }
    }

    /// Closes connections that are idle for too long or were closed by the other side.
    pub fn sweep(&self, now: Instant) {
        self.pools.iter().for_each(|pool| pool.sweep(now));
    }
}

impl Lease {
    fn new(exchange: Box<Exchange>, pool: &Rc<IdlePool>) -> Self {
        Self { exchange: Some(exchange), pool: Rc::clone(pool) }
    }

    /// The connection, as long as the lease has not ended.
    pub fn exchange(&mut self) -> Option<&mut Exchange> {
        self.exchange.as_deref_mut()
    }

    /// The response was read to its end: the connection can serve another request, if it still can.
    pub fn finish(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            self.pool.put(exchange);
        }
    }
}

/// Method, target and headers, for a request without body that may be sent twice.
struct SpareHead {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl SpareHead {
    fn with_no_body(self) -> Outgoing {
        Outgoing { method: self.method, uri: self.uri, headers: self.headers, body: ForwardBody::empty() }
    }
}

impl Outgoing {
    fn head(&self) -> SpareHead {
        SpareHead { method: self.method.clone(), uri: self.uri.clone(), headers: self.headers.clone() }
    }

    fn into_request(self) -> Request<ForwardBody> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        request
    }

    fn from_request(request: Request<ForwardBody>) -> Self {
        let (parts, body) = request.into_parts();
        Self { method: parts.method, uri: parts.uri, headers: parts.headers, body }
    }
}

/// Idempotent, and without a body that a first try would use up.
fn is_safe_to_repeat(outgoing: &Outgoing) -> bool {
    outgoing.body.is_empty() && (outgoing.method.is_idempotent())
}
