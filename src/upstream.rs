//! Upstreams: which endpoint is asked, over which connection, and what happens when that fails.
//!
//! An [`Upstream`] is what the configuration says and all workers share; a [`WorkerUpstream`] adds one worker's own
//! idle connections, so that no worker waits for another. A request is sent and its response's head awaited in the
//! task that serves it: no channel to another task, no wake-up in between.
//! Nothing here decides who may pass: [`crate::pipeline`] only sends what holds an admission.

mod balance;
pub(crate) mod check;
pub mod connect;
mod decode;
mod ejection;
mod encode;
pub mod exchange;
pub mod health;
pub mod http2;
pub mod pool;
mod state;
pub mod target;

use std::cell::{Cell, RefCell};
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
use crate::pipeline::body::{BodyKind, ForwardBody, Upload, UploadError, UploadState};
use crate::telemetry::metrics::{
    EndpointFigures, EndpointMetrics, UpstreamMetrics, UpstreamOutcome, UpstreamRefusal,
};
use balance::{Candidate, Dice, FULL_SHARE};
use connect::{ConnectError, Connector};
pub use decode::{DecodeError, Fields};
use encode::Sending;
use exchange::{BodyError, Exchange, ExchangeError};
use health::{Standing, Turn};
use http2::Exchange2;
pub use state::State;
use target::WorkerTarget;
pub use target::{Flight, Target};

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
    /// What is counted about it.
    pub metrics: Arc<UpstreamMetrics>,
    /// Where its requests can go, and how that fares.
    pub state: Arc<State>,
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
    targets: RefCell<Vec<Rc<WorkerTarget>>>,
    /// Grows with each request. Workers begin at different places.
    turn: Cell<usize>,
    dice: Dice,
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
    /// Whether its body has broken off on the upstream's side.
    is_broken: bool,
    source: Source,
    flight: Flight,
}

/// What a response's body comes over.
#[derive(Debug)]
enum Source {
    /// A connection of its own, which goes back to its target's pool.
    Http1(Option<Box<Exchange>>),
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
    /// Checks find no address healthy.
    #[error("no address of the upstream is healthy")]
    Unhealthy,
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
    /// A service with these endpoints, one for each that is configured. What is known of the same one from an earlier
    /// configuration stays known.
    pub fn new(
        config: &UpstreamConfig,
        connector: Connector,
        endpoints: Vec<Endpoint>,
        metrics: Arc<UpstreamMetrics>,
        before: Option<&Self>,
    ) -> Self {
        let known = before.filter(|before| before.config == *config).map(|before| Arc::clone(&before.state));
        Self {
            name: config.name.as_str().into(),
            config: config.clone(),
            connector,
            endpoints,
            metrics,
            state: known.unwrap_or_else(|| Arc::new(State::new(config))),
        }
    }

    /// How its addresses are, endpoint by endpoint.
    pub fn figures(&self) -> Vec<EndpointFigures> {
        let now = self.state.milliseconds(Instant::now());
        let mut figures: Vec<_> = self
            .endpoints
            .iter()
            .map(|endpoint| EndpointFigures {
                upstream: (*self.name).into(),
                endpoint: (*endpoint.label).into(),
                ..EndpointFigures::default()
            })
            .collect();
        for target in self.state.targets().iter() {
            let Some(figures) = figures.get_mut(target.endpoint) else { continue };
            if target.health.is_unhealthy() {
                figures.unhealthy += 1;
            } else if target.health.is_ejected(now) {
                figures.ejected += 1;
            } else {
                figures.healthy += 1;
            }
        }
        figures
    }

    /// How long an address takes to get all of its traffic back.
    fn return_time(&self) -> Duration {
        self.config.ejection.map_or(Duration::ZERO, |settings| settings.return_time)
    }

    /// Whether its configuration says all about it. With TLS, the files behind the same settings may have changed.
    pub fn has_no_files(&self) -> bool {
        self.config.tls.is_none()
    }
}

impl WorkerUpstream {
    /// A view without connections yet.
    pub fn new(shared: Arc<Upstream>, worker: usize) -> Self {
        let local = |target: &Arc<Target>| Rc::new(WorkerTarget::new(&shared, Arc::clone(target), worker));
        let targets = shared.state.targets().iter().map(local).collect();
        Self {
            worker,
            targets: RefCell::new(targets),
            turn: Cell::new(worker),
            dice: Dice::new(worker),
            failures: Cell::default(),
            failure_told: Cell::default(),
            shared,
        }
    }

    /// Chooses where the request that arrived at `now` goes.
    pub fn begin(&self, now: Instant) -> Result<Flight, UpstreamError> {
        match self.choose(&[], now) {
            Some(target) => Ok(Flight::begin(target)),
            None => {
                self.shared.metrics.refused(self.worker, UpstreamRefusal::Unhealthy);
                Err(UpstreamError::Unhealthy)
            }
        }
    }

    /// The next target, of those that have not been tried. Ejection is a guess: where it leaves nothing, what it has taken is
    /// used all the same. That checks find something unhealthy is none.
    fn choose(&self, tried: &[Rc<WorkerTarget>], now: Instant) -> Option<Rc<WorkerTarget>> {
        let targets = self.targets.borrow();
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let candidate = |position: usize| {
            let target = targets.get(position)?;
            let is_new = !tried.iter().any(|tried| Rc::ptr_eq(tried, target));
            is_new.then_some(target)
        };
        let standing = |target: &Rc<WorkerTarget>| {
            let milliseconds = || self.shared.state.milliseconds(now);
            target.shared.health.standing(milliseconds, self.shared.return_time())
        };
        let in_good_standing = |position: usize| {
            let target = candidate(position)?;
            match standing(target) {
                Standing::Share(share) => Some(Candidate { share, in_flight: target.in_flight.get() }),
                Standing::Ejected | Standing::Unhealthy => None,
            }
        };
        let ejected = |position: usize| {
            let target = candidate(position)?;
            let is_ejected = standing(target) == Standing::Ejected;
            is_ejected.then(|| Candidate { share: FULL_SHARE, in_flight: target.in_flight.get() })
        };
        let balance = self.shared.config.balance;
        let position = match &**targets {
            [only] if tried.is_empty() && standing(only) != Standing::Unhealthy => 0,
            all => balance::pick(balance, all.len(), in_good_standing, turn, &self.dice)
                .or_else(|| balance::pick(balance, all.len(), ejected, turn, &self.dice))?,
        };
        targets.get(position).cloned()
    }

    /// Sends a request to an endpoint and waits for the response's head. `now` is when the request arrived.
    ///
    /// A reused connection may turn out to be closed by the upstream. What was not sent at all is sent again; what
    /// may have been sent only if sending twice does no harm (RFC 9110, section 9.2.2) and there is no body.
    /// A connection that cannot be opened moves on to the next endpoint.
    pub async fn send(
        &self,
        flight: &mut Flight,
        head: &OutgoingHead<'_>,
        body: ForwardBody,
        now: Instant,
    ) -> Result<Reply, UpstreamError> {
        // Whether a failure is the client's can be told of its body afterwards.
        let upload = if self.shared.config.ejection.is_some() { body.upload() } else { None };
        let result = match self.shared.config.protocol {
            UpstreamProtocol::Http1 => self.attempt(flight, head, body, now).await,
            UpstreamProtocol::Http2 => Box::pin(self.attempt_http2(flight, head, body, now)).await,
        };
        if let Err(error) = &result {
            if self.is_upstreams_fault(error, upload.as_deref(), head.timeout) {
                flight.target().failed();
            }
            self.tell(flight.endpoint(), error);
        }
        result
    }

    /// Whether a failure speaks against the address that was asked. A client that sends slowly, breaks off, or waits for less
    /// than the upstream may take, does not. No connection has been counted where it could not be opened.
    fn is_upstreams_fault(
        &self,
        error: &UpstreamError,
        upload: Option<&Upload>,
        client_timeout: Option<Duration>,
    ) -> bool {
        let state = upload.map(Upload::state);
        match error {
            UpstreamError::Malformed(_) => state != Some(UploadState::Broken),
            // It may have lost patience with the client.
            UpstreamError::Closed(_) => {
                !matches!(state, Some(UploadState::Broken | UploadState::WaitingForClient))
            }
            UpstreamError::Timeout => {
                let patience = self.shared.config.response_header_timeout;
                let is_patient = client_timeout.is_none_or(|timeout| timeout >= patience);
                let is_waited_for = state == Some(UploadState::WaitingForClient);
                is_patient && !is_waited_for && state != Some(UploadState::Broken)
            }
            UpstreamError::Unreachable(_) | UpstreamError::ClientBody(_) | UpstreamError::Unhealthy => false,
        }
    }

    /// Logs what an upstream got wrong, now and then with a count: the access log has every single request.
    fn tell(&self, endpoint: usize, error: &UpstreamError) {
        if let UpstreamError::ClientBody(_) | UpstreamError::Unhealthy = error {
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
        flight: &mut Flight,
        head: &OutgoingHead<'_>,
        body: ForwardBody,
        now: Instant,
    ) -> Result<Reply, UpstreamError> {
        let timeout = head.response_header_timeout.unwrap_or(self.shared.config.response_header_timeout);
        let is_repeatable = body.is_empty() && head.method.is_idempotent();
        let mut sending = Sending::new(head, body);
        while let Some(mut exchange) = flight.target().pool.take(now) {
            let metrics = flight.target().pool.metrics();
            match exchange.send(head.method, sending, now, timeout).await {
                Ok(()) => return Ok(Reply::new(exchange, flight.hand_over())),
                Err(ExchangeError::Closed { unsent: Some(unsent), .. }) => sending = *unsent,
                Err(ExchangeError::Closed { unsent: None, .. }) if is_repeatable => {
                    // Once: a request that makes an upstream go away must not try every connection there is.
                    metrics.record(self.worker, UpstreamOutcome::Retried, None);
                    sending = Sending::new(head, ForwardBody::empty());
                    break;
                }
                Err(error) => return Err(error.into()),
            }
            metrics.record(self.worker, UpstreamOutcome::Retried, None);
        }
        // Rare, and large: a request over a kept connection does without.
        let mut exchange = Box::pin(self.connect(flight)).await?;
        exchange.send(head.method, sending, Instant::now(), timeout).await?;
        Ok(Reply::new(exchange, flight.hand_over()))
    }

    /// As [`Self::attempt`], over shared connections. What a connection refused unsent goes over another one, once for each
    /// endpoint; a connection that cannot be opened moves on to the next.
    async fn attempt_http2(
        &self,
        flight: &mut Flight,
        head: &OutgoingHead<'_>,
        mut body: ForwardBody,
        now: Instant,
    ) -> Result<Reply, UpstreamError> {
        if body.kind() == BodyKind::Tunnel {
            // An offer of HTTP/1.1's: this upstream cannot take it.
            body = ForwardBody::empty();
        }
        let is_repeatable = body.is_empty() && head.method.is_idempotent();
        let mut sent = 0;
        let mut unreachable = Vec::new();
        loop {
            let target = Rc::clone(flight.target());
            let stream = match target.connections.stream(&target).await {
                Ok(stream) => stream,
                Err(error) => {
                    self.move_on(flight, &mut unreachable, error)?;
                    continue;
                }
            };
            let failed = match http2::exchange(stream, &self.shared, head, body, now).await {
                Ok(exchange) => return Ok(Reply::over_http2(exchange, flight.hand_over())),
                Err(failed) => failed,
            };
            // A connection that its server is closing refuses; so may the next one, but not for ever.
            sent += 1;
            body = match (failed.unsent, failed.error) {
                (Some(unsent), ExchangeError::Closed { .. }) if sent < ATTEMPTS => unsent,
                (_, ExchangeError::Closed { .. }) if is_repeatable && sent < ATTEMPTS => ForwardBody::empty(),
                (_, error) => return Err(error.into()),
            };
            target.pool.metrics().record(self.worker, UpstreamOutcome::Retried, None);
        }
    }

    /// Opens a connection to this target, or else to the others.
    async fn connect(&self, flight: &mut Flight) -> Result<Box<Exchange>, UpstreamError> {
        let mut unreachable = Vec::new();
        loop {
            match Exchange::open(flight.target()).await {
                Ok(exchange) => return Ok(Box::new(exchange)),
                Err(error) => self.move_on(flight, &mut unreachable, error)?,
            }
        }
    }

    /// To a target that has not been tried, after no connection could be opened to this one. Nothing has reached a service,
    /// and there are only so many targets.
    fn move_on(
        &self,
        flight: &mut Flight,
        unreachable: &mut Vec<Rc<WorkerTarget>>,
        error: ConnectError,
    ) -> Result<(), UpstreamError> {
        let target = flight.target();
        target.failed();
        unreachable.push(Rc::clone(target));
        let Some(next) = self.choose(unreachable, Instant::now()) else {
            return Err(UpstreamError::Unreachable(error));
        };
        target.pool.metrics().record(self.worker, UpstreamOutcome::Unreachable, None);
        flight.move_to(next);
        Ok(())
    }

    /// Closes connections that are idle for too long or were closed by the other side.
    pub fn sweep(&self, now: Instant) {
        let timeout = self.shared.config.idle_timeout;
        for target in &*self.targets.borrow() {
            target.pool.sweep(now);
            target.connections.sweep(now, timeout);
            self.age(target, now);
        }
    }
}

impl WorkerUpstream {
    /// An ejection that is over is told by one of the workers.
    fn age(&self, target: &WorkerTarget, now: Instant) {
        let milliseconds = self.shared.state.milliseconds(now);
        if target.shared.health.age(milliseconds, self.shared.return_time()) == Some(Turn::Better) {
            tracing::info!(
                upstream = %self.shared.name,
                endpoint = %self.shared.endpoints[target.shared.endpoint].label,
                address = %target.shared.place,
                "an upstream's address has rested and returns"
            );
        }
    }
}

impl Reply {
    fn new(exchange: Box<Exchange>, flight: Flight) -> Self {
        Self {
            status: exchange.status(),
            answered_at: Instant::now(),
            has_waited: false,
            is_broken: false,
            source: Source::Http1(Some(exchange)),
            flight,
        }
    }

    fn over_http2(exchange: Exchange2, flight: Flight) -> Self {
        Self {
            status: exchange.status(),
            answered_at: Instant::now(),
            has_waited: false,
            is_broken: false,
            source: Source::Http2(Box::new(exchange)),
            flight,
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
            Source::Http1(exchange) => exchange.as_ref().map(|exchange| exchange.fields()),
            Source::Http2(exchange) => Some(exchange.fields()),
        }
    }

    /// Adds header lines, each with its end.
    pub fn add_fields(&mut self, lines: &[u8]) {
        match &mut self.source {
            Source::Http1(Some(exchange)) => exchange.add_fields(lines),
            Source::Http1(None) => {}
            Source::Http2(exchange) => exchange.add_fields(lines),
        }
    }

    /// Changes the header lines as a route says.
    pub fn change_fields(&mut self, changes: &HeaderChanges) {
        match &mut self.source {
            Source::Http1(Some(exchange)) => exchange.change_fields(changes),
            Source::Http1(None) => {}
            Source::Http2(exchange) => exchange.change_fields(changes),
        }
    }

    /// The next frame of the response's body. With the last one the connection goes back to its pool.
    pub fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let exchange = match &mut self.source {
            Source::Http1(Some(exchange)) => exchange,
            Source::Http1(None) => return Poll::Ready(None),
            Source::Http2(exchange) => {
                let polled = exchange.poll_frame(context);
                self.is_broken |= is_upstreams_break(&polled);
                return polled;
            }
        };
        let polled = exchange.poll_frame(context);
        self.is_broken |= is_upstreams_break(&polled);
        self.has_waited |= polled.is_pending();
        if exchange.is_complete() && polled.is_ready() {
            self.finish();
        }
        polled
    }

    /// Whether the response has been read to its end.
    pub fn is_complete(&self) -> bool {
        match &self.source {
            Source::Http1(exchange) => exchange.as_ref().is_none_or(|exchange| exchange.is_complete()),
            Source::Http2(exchange) => exchange.is_complete(),
        }
    }

    /// The number of body bytes still to come, where the upstream told.
    pub fn remaining(&self) -> Option<u64> {
        match &self.source {
            Source::Http1(exchange) => exchange.as_ref().map_or(Some(0), |exchange| exchange.remaining()),
            Source::Http2(exchange) => exchange.remaining(),
        }
    }

    fn finish(&mut self) {
        if let Source::Http1(exchange) = &mut self.source
            && let Some(exchange) = exchange.take()
        {
            let now = if self.has_waited { Instant::now() } else { self.answered_at };
            self.flight.target().pool.put(exchange, now);
        }
    }
}

impl Drop for Reply {
    /// A response without a body is complete with its head.
    fn drop(&mut self) {
        let is_complete = self.is_complete();
        if is_complete {
            self.finish();
        }
        let target = self.flight.target();
        if target.upstream.config.ejection.is_some() {
            match self.status {
                // What gateways and services say when they do not work.
                StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                    target.failed();
                }
                _ if self.is_broken => target.failed(),
                _ if is_complete => target.shared.health.succeeded(),
                // The client has lost interest: that says nothing.
                _ => {}
            }
        }
    }
}

/// Whether a response's body has broken off, and not because of the client or of what it may do.
fn is_upstreams_break(polled: &Poll<Option<Result<Frame<Bytes>, BodyError>>>) -> bool {
    matches!(polled, Poll::Ready(Some(Err(BodyError::Connection(_) | BodyError::Decode(_)))))
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
