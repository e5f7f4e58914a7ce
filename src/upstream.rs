//! Upstreams: which endpoint is asked, over which connection, and what happens when that fails.
//!
//! An [`Upstream`] is what the configuration says and all workers share; a [`WorkerUpstream`] adds one worker's own
//! idle connections, so that no worker waits for another. A request is sent and its response's head awaited in the
//! task that serves it: no channel to another task, no wake-up in between.
//! Nothing here decides who may pass: [`crate::pipeline`] only sends what holds an admission.

pub mod connect;
mod decode;
mod encode;
pub mod exchange;
pub mod http2;
pub mod pool;

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body::Frame;

use crate::config::{UpstreamConfig, UpstreamProtocol};
use crate::headers::Additions;
use crate::headers::change::HeaderChanges;
use crate::pipeline::body::{BodyKind, ForwardBody, UploadError};
use crate::telemetry::metrics::{EndpointMetrics, UpstreamOutcome};
use connect::{ConnectError, Connector};
pub use decode::{DecodeError, Fields};
use encode::Sending;
use exchange::{BodyError, Exchange, ExchangeError};
use http2::{Connections, Exchange2};
use pool::IdlePool;

/// How often a request is sent over HTTP/2 while connections refuse it unsent.
const ATTEMPTS: usize = 3;

/// How often a worker says that an upstream fails.
const BETWEEN_FAILURE_LINES: Duration = Duration::from_secs(10);

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
    /// One per endpoint; used if it is spoken to in HTTP/2.
    shared_connections: Vec<Connections>,
    next_endpoint: Cell<usize>,
    failures: Cell<u64>,
    failure_told: Cell<Option<Instant>>,
}

/// A response of which the head is there, with the connection its body still comes over: that goes back to its pool when
/// the response has been read to the end, else is closed.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    answered_at: Instant,
    /// Whether the body has kept somebody waiting: then the time of the head is not that of the end.
    has_waited: bool,
    source: Source,
}

/// What a response's body comes over.
#[derive(Debug)]
enum Source {
    /// A connection of its own, and where it goes afterwards.
    Http1(Option<Box<Exchange>>, Rc<IdlePool>),
    /// A stream of a shared one.
    Http2(Box<Exchange2>),
}

/// The head of a request that is to be sent: written anew for each attempt, so nothing is copied in case of a second.
#[derive(Clone, Copy, Debug)]
pub struct OutgoingHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// Origin-form: path and query.
    pub target: &'a str,
    /// The client's headers.
    pub headers: &'a HeaderMap,
    /// How long its client waits for the response, if it says.
    pub timeout: Option<Duration>,
    /// How long the response's head may take, if not as long as the upstream says.
    pub response_header_timeout: Option<Duration>,
    /// What is set after stripping.
    pub additions: Additions<'a>,
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
    /// The connection ended before a whole head had come.
    #[error("the upstream's connection ended before its response")]
    Closed(#[source] io::Error),
    /// What came is no response that can be passed on.
    #[error("the upstream's response is malformed")]
    Malformed(#[source] DecodeError),
    /// The client's body broke off while it was being sent on.
    #[error("the client's body broke off")]
    ClientBody(#[source] UploadError),
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
        let pools: Vec<_> = shared
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
        let shared_connections = pools.iter().map(|_| Connections::default()).collect();
        Self {
            shared,
            worker,
            pools,
            shared_connections,
            next_endpoint: Cell::new(worker),
            failures: Cell::default(),
            failure_told: Cell::default(),
        }
    }

    /// Chooses the next endpoint in turn.
    pub fn next_endpoint(&self) -> usize {
        let position = self.next_endpoint.get();
        self.next_endpoint.set(position.wrapping_add(1));
        position % self.pools.len()
    }

    /// Sends a request to an endpoint and waits for the response's head. `now` is when the request arrived.
    ///
    /// A reused connection may turn out to be closed by the upstream. What was not sent at all is sent again; what
    /// may have been sent only if sending twice does no harm (RFC 9110, section 9.2.2) and there is no body.
    /// A connection that cannot be opened moves on to the next endpoint.
    pub async fn send(
        &self,
        endpoint: &mut usize,
        head: &OutgoingHead<'_>,
        body: ForwardBody,
        now: Instant,
    ) -> Result<Reply, UpstreamError> {
        let result = match self.shared.config.protocol {
            UpstreamProtocol::Http1 => self.attempt(endpoint, head, body, now).await,
            UpstreamProtocol::Http2 => Box::pin(self.attempt_http2(endpoint, head, body, now)).await,
        };
        if let Err(error) = &result {
            self.tell(*endpoint, error);
        }
        result
    }

    /// Logs what an upstream got wrong, now and then with a count: the access log has every single request.
    fn tell(&self, endpoint: usize, error: &UpstreamError) {
        if let UpstreamError::ClientBody(_) = error {
            return;
        }
        let failures = self.failures.get() + 1;
        self.failures.set(failures);
        if self.failure_told.get().is_some_and(|told| told.elapsed() < BETWEEN_FAILURE_LINES) {
            return;
        }
        self.failure_told.set(Some(Instant::now()));
        self.failures.set(0);
        tracing::warn!(
            upstream = %self.shared.name,
            endpoint = %self.shared.endpoints[endpoint].label,
            failures,
            error = error as &dyn std::error::Error,
            "an upstream fails"
        );
    }

    async fn attempt(
        &self,
        endpoint: &mut usize,
        head: &OutgoingHead<'_>,
        body: ForwardBody,
        now: Instant,
    ) -> Result<Reply, UpstreamError> {
        let timeout = head.response_header_timeout.unwrap_or(self.shared.config.response_header_timeout);
        let is_repeatable = body.is_empty() && head.method.is_idempotent();
        let mut sending = Sending::new(head, body);
        while let Some(mut exchange) = self.pools[*endpoint].take(now) {
            let pool = &self.pools[*endpoint];
            match exchange.send(head.method, sending, now, timeout).await {
                Ok(()) => return Ok(Reply::new(exchange, pool)),
                Err(ExchangeError::Closed { unsent: Some(unsent), .. }) => sending = *unsent,
                Err(ExchangeError::Closed { unsent: None, .. }) if is_repeatable => {
                    // Once: a request that makes an upstream go away must not try every connection there is.
                    pool.metrics().record(self.worker, UpstreamOutcome::Retried, None);
                    sending = Sending::new(head, ForwardBody::empty());
                    break;
                }
                Err(error) => return Err(error.into()),
            }
            pool.metrics().record(self.worker, UpstreamOutcome::Retried, None);
        }
        // Rare, and large: a request over a kept connection does without.
        let mut exchange = Box::pin(self.connect(endpoint)).await?;
        exchange.send(head.method, sending, Instant::now(), timeout).await?;
        Ok(Reply::new(exchange, &self.pools[*endpoint]))
    }

    /// As [`Self::attempt`], over shared connections. What a connection refused unsent goes over another one, once for each
    /// endpoint; a connection that cannot be opened moves on to the next.
    async fn attempt_http2(
        &self,
        endpoint: &mut usize,
        head: &OutgoingHead<'_>,
        mut body: ForwardBody,
        now: Instant,
    ) -> Result<Reply, UpstreamError> {
        if body.kind() == BodyKind::Tunnel {
            // An offer of HTTP/1.1's: this upstream cannot take it.
            body = ForwardBody::empty();
        }
        let is_repeatable = body.is_empty() && head.method.is_idempotent();
        let (mut tried, mut unreachable) = (0, 0);
        loop {
            let (pool, connections) = (&self.pools[*endpoint], &self.shared_connections[*endpoint]);
            let stream = match connections.stream(&self.shared, *endpoint, || pool.active()).await {
                Ok(stream) => stream,
                Err(error) => {
                    unreachable += 1;
                    if unreachable == self.pools.len() {
                        return Err(UpstreamError::Unreachable(error));
                    }
                    pool.metrics().record(self.worker, UpstreamOutcome::Unreachable, None);
                    *endpoint = (*endpoint + 1) % self.pools.len();
                    continue;
                }
            };
            let failed = match http2::exchange(stream, &self.shared, head, body, now).await {
                Ok(exchange) => return Ok(Reply::over_http2(exchange)),
                Err(failed) => failed,
            };
            // A connection that its server is closing refuses; so may the next one, but not for ever.
            tried += 1;
            body = match (failed.unsent, failed.error) {
                (Some(unsent), ExchangeError::Closed { .. }) if tried < ATTEMPTS => unsent,
                (_, ExchangeError::Closed { .. }) if is_repeatable && tried < ATTEMPTS => {
                    ForwardBody::empty()
                }
                (_, error) => return Err(error.into()),
            };
            pool.metrics().record(self.worker, UpstreamOutcome::Retried, None);
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
        let timeout = self.shared.config.idle_timeout;
        self.shared_connections.iter().for_each(|connections| connections.sweep(now, timeout));
    }
}

impl Reply {
    fn new(exchange: Box<Exchange>, pool: &Rc<IdlePool>) -> Self {
        Self {
            status: exchange.status(),
            answered_at: Instant::now(),
            has_waited: false,
            source: Source::Http1(Some(exchange), Rc::clone(pool)),
        }
    }

    fn over_http2(exchange: Exchange2) -> Self {
        Self {
            status: exchange.status(),
            answered_at: Instant::now(),
            has_waited: false,
            source: Source::Http2(Box::new(exchange)),
        }
    }

    /// When the head had come.
    pub fn answered_at(&self) -> Instant {
        self.answered_at
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The header lines, without what ends at this hop; `None` once the body has been read to its end.
    pub fn fields(&self) -> Option<&Fields> {
        match &self.source {
            Source::Http1(exchange, _) => exchange.as_ref().map(|exchange| exchange.fields()),
            Source::Http2(exchange) => Some(exchange.fields()),
        }
    }

    /// Changes the header lines as a route says.
    pub fn change_fields(&mut self, changes: &HeaderChanges) {
        match &mut self.source {
            Source::Http1(Some(exchange), _) => exchange.change_fields(changes),
            Source::Http1(None, _) => {}
            Source::Http2(exchange) => exchange.change_fields(changes),
        }
    }

    /// The next frame of the response's body. With the last one the connection goes back to its pool.
    pub fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let exchange = match &mut self.source {
            Source::Http1(Some(exchange), _) => exchange,
            Source::Http1(None, _) => return Poll::Ready(None),
            Source::Http2(exchange) => return exchange.poll_frame(context),
        };
        let polled = exchange.poll_frame(context);
        self.has_waited |= polled.is_pending();
        if exchange.is_complete() && polled.is_ready() {
            self.finish();
        }
        polled
    }

    /// Whether the response has been read to its end.
    pub fn is_complete(&self) -> bool {
        match &self.source {
            Source::Http1(exchange, _) => exchange.as_ref().is_none_or(|exchange| exchange.is_complete()),
            Source::Http2(exchange) => exchange.is_complete(),
        }
    }

    /// The number of body bytes still to come, where the upstream told.
    pub fn remaining(&self) -> Option<u64> {
        match &self.source {
            Source::Http1(exchange, _) => exchange.as_ref().map_or(Some(0), |exchange| exchange.remaining()),
            Source::Http2(exchange) => exchange.remaining(),
        }
    }

    fn finish(&mut self) {
        if let Source::Http1(exchange, pool) = &mut self.source
            && let Some(exchange) = exchange.take()
        {
            let now = if self.has_waited { Instant::now() } else { self.answered_at };
            pool.put(exchange, now);
        }
    }
}

impl Drop for Reply {
    /// A response without a body is complete with its head.
    fn drop(&mut self) {
        if self.is_complete() {
            self.finish();
        }
    }
}

impl From<ExchangeError> for UpstreamError {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Closed { source, .. } | ExchangeError::Broken(source) => Self::Closed(source),
            ExchangeError::ClientBody(source) => Self::ClientBody(source),
            ExchangeError::Malformed(source) => Self::Malformed(source),
            ExchangeError::Timeout => Self::Timeout,
        }
    }
}
