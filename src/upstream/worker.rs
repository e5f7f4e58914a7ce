//! One worker's way to an upstream: which address a request goes to, over which connection, and what happens when that fails.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempt::{Attempt, Cargo, Failure};
use super::balance::{self, Candidate, Dice, FULL_SHARE};
use super::budget::Budget;
use super::connect::ConnectError;
use super::exchange::{Exchange, ExchangeError};
use super::health::{Standing, Turn};
use super::target::{Flight, Target, WorkerTarget};
use super::{OutgoingHead, Reply, Upstream, UpstreamError, http2};
use crate::config::UpstreamProtocol;
use crate::pipeline::body::{BodyKind, ForwardBody, Upload, UploadState};
use crate::telemetry::log::with_causes;
use crate::telemetry::metrics::{RetryOutcome, UpstreamOutcome, UpstreamRefusal};

/// How often a request is sent over HTTP/2 while connections refuse it unsent.
const ATTEMPTS: usize = 3;

/// How often a worker says that an upstream fails.
const BETWEEN_FAILURE_LINES: Duration = Duration::from_secs(10);

/// One worker's view of an upstream.
#[derive(Debug)]
pub struct WorkerUpstream {
    /// What all workers share.
    pub shared: Arc<Upstream>,
    worker: usize,
    /// One for each that is known.
    targets: RefCell<Vec<Rc<WorkerTarget>>>,
    known: RefCell<Arc<Vec<Arc<Target>>>>,
    /// Grows with each request. Workers begin at different places.
    turn: Cell<usize>,
    dice: Dice,
    /// What may be sent again; `None`: nothing, to another address.
    retries: Option<Budget>,
    failures: Cell<u64>,
    failure_told: Cell<Option<Instant>>,
}

impl WorkerUpstream {
    /// A view without connections yet.
    pub fn new(shared: Arc<Upstream>, worker: usize) -> Self {
        let local = |target: &Arc<Target>| Rc::new(WorkerTarget::new(&shared, Arc::clone(target), worker));
        let known = shared.state.targets();
        let targets = known.iter().map(local).collect();
        let retries = shared.config.retries.as_ref();
        let retries = retries.map(|settings| Budget::new(settings, shared.workers, Instant::now()));
        Self {
            worker,
            targets: RefCell::new(targets),
            known: RefCell::new(known),
            turn: Cell::new(worker),
            dice: Dice::new(worker),
            retries,
            failures: Cell::default(),
            failure_told: Cell::default(),
            shared,
        }
    }

    /// Chooses where the request that arrived at `now` goes.
    pub fn begin(&self, now: Instant) -> Result<Flight, UpstreamError> {
        let Some(target) = self.choose(&[], now) else {
            self.shared.metrics.refused(self.worker, UpstreamRefusal::Unhealthy);
            return Err(UpstreamError::Unhealthy);
        };
        let permit = match self.shared.config.limits.concurrent_requests {
            None => None,
            Some(most) => match self.shared.state.requests.enter(most) {
                None => {
                    self.shared.metrics.refused(self.worker, UpstreamRefusal::Requests);
                    return Err(UpstreamError::Overloaded);
                }
                permit => permit,
            },
        };
        Ok(Flight::begin(target, permit))
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
        let is_repeatable = body.is_empty() && head.method.is_idempotent();
        // Whether a failure is the client's can be told of its body afterwards.
        let upload = if self.shared.config.ejection.is_some() { body.upload() } else { None };
        let attempt = Attempt { head, is_repeatable, upload: upload.as_deref() };
        let mut result = self.attempt(flight, &attempt, Cargo::Whole(body), now).await;
        if let Some(retries) = &self.retries {
            retries.deposit();
            if attempt.may_go_on(&result, &self.shared) {
                result = Box::pin(self.retry(retries, flight, &attempt, result)).await;
            }
        }
        let result = result.map_err(|failure| failure.error);
        if let Err(error) = &result {
            self.tell(flight.endpoint(), error);
        }
        result
    }

    /// Sends a request that failed to other addresses, where that does no harm and the budget has it.
    async fn retry(
        &self,
        budget: &Budget,
        flight: &mut Flight,
        attempt: &Attempt<'_>,
        mut result: Result<Reply, Failure>,
    ) -> Result<Reply, Failure> {
        let most = self.shared.config.retries.as_ref().map_or(0, |settings| settings.most_per_request);
        let mut tried = Vec::with_capacity(most);
        while tried.len() < most && attempt.may_go_on(&result, &self.shared) {
            let now = Instant::now();
            tried.push(Rc::clone(flight.target()));
            let Some(next) = self.choose(&tried, now) else { break };
            if !budget.withdraw(now) {
                self.shared.metrics.retried(self.worker, RetryOutcome::BudgetExhausted);
                break;
            }
            self.shared.metrics.retried(self.worker, RetryOutcome::Sent);
            flight.target().pool.metrics().record(self.worker, UpstreamOutcome::Retried, None);
            let cargo = match result {
                Ok(_reply) => Cargo::Whole(ForwardBody::empty()),
                Err(Failure { again: Some(cargo), .. }) => cargo,
                failed => return failed,
            };
            flight.move_to(next);
            result = self.attempt(flight, attempt, cargo, now).await;
        }
        result
    }

    /// Sends a request to one address; or to others, as long as no connection can be opened.
    async fn attempt(
        &self,
        flight: &mut Flight,
        attempt: &Attempt<'_>,
        cargo: Cargo,
        now: Instant,
    ) -> Result<Reply, Failure> {
        let result = match self.shared.config.protocol {
            UpstreamProtocol::Http1 => self.attempt_http1(flight, attempt, cargo, now).await,
            UpstreamProtocol::Http2 => Box::pin(self.attempt_http2(flight, attempt, cargo, now)).await,
        };
        if let Err(failure) = &result
            && self.is_upstreams_fault(&failure.error, attempt.upload, attempt.head)
        {
            flight.target().failed();
        }
        result
    }

    /// Whether a failure speaks against the address that was asked. A client that sends slowly, breaks off, or waits for less
    /// than the upstream may take, as a route may, does not. No connection has been counted where it could not be opened.
    fn is_upstreams_fault(
        &self,
        error: &UpstreamError,
        upload: Option<&Upload>,
        head: &OutgoingHead<'_>,
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
                let timeouts = [head.timeout, head.response_header_timeout];
                let is_patient = timeouts.into_iter().flatten().all(|timeout| timeout >= patience);
                let is_waited_for = state == Some(UploadState::WaitingForClient);
                is_patient && !is_waited_for && state != Some(UploadState::Broken)
            }
            UpstreamError::Unreachable(_)
            | UpstreamError::Shortage(_)
            | UpstreamError::ClientBody(_)
            | UpstreamError::Unhealthy
            | UpstreamError::Overloaded => false,
        }
    }

    /// Logs what an upstream got wrong, now and then with a count: the access log has every single request.
    fn tell(&self, endpoint: usize, error: &UpstreamError) {
        if let UpstreamError::ClientBody(_) | UpstreamError::Unhealthy | UpstreamError::Overloaded = error {
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
            error = with_causes(error),
            "an upstream fails"
        );
    }

    async fn attempt_http1(
        &self,
        flight: &mut Flight,
        attempt: &Attempt<'_>,
        mut cargo: Cargo,
        now: Instant,
    ) -> Result<Reply, Failure> {
        let (head, is_repeatable) = (attempt.head, attempt.is_repeatable);
        let timeout = head.response_header_timeout.unwrap_or(self.shared.config.response_header_timeout);
        while let Some(mut exchange) = flight.target().pool.take(now) {
            let metrics = flight.target().pool.metrics();
            match exchange.send(head.method, cargo.written(head), now, timeout, head.interim).await {
                Ok(()) => return Ok(Reply::new(exchange, flight.hand_over())),
                Err(ExchangeError::Closed { unsent: Some(unsent), .. }) => cargo = Cargo::Written(unsent),
                Err(ExchangeError::Closed { unsent: None, .. }) if is_repeatable => {
                    // Once: a request that makes an upstream go away must not try every connection there is.
                    metrics.record(self.worker, UpstreamOutcome::Retried, None);
                    cargo = Cargo::Whole(ForwardBody::empty());
                    break;
                }
                Err(error) => return Err(attempt.failure(error)),
            }
            metrics.record(self.worker, UpstreamOutcome::Retried, None);
        }
        // Rare, and large: a request over a kept connection does without.
        let mut exchange = Box::pin(self.connect(flight)).await.map_err(Failure::last)?;
        match exchange.send(head.method, cargo.written(head), Instant::now(), timeout, head.interim).await {
            Ok(()) => Ok(Reply::new(exchange, flight.hand_over())),
            Err(error) => Err(attempt.failure(error)),
        }
    }

    /// As [`Self::attempt_http1`], over shared connections. What a connection refused unsent goes over another one, but not
    /// for ever.
    async fn attempt_http2(
        &self,
        flight: &mut Flight,
        attempt: &Attempt<'_>,
        cargo: Cargo,
        now: Instant,
    ) -> Result<Reply, Failure> {
        let head = attempt.head;
        let mut body = match cargo {
            Cargo::Whole(body) => body,
            // Only HTTP/1.1 writes a request before it has a connection.
            Cargo::Written(_) => ForwardBody::empty(),
        };
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
                    self.move_on(flight, &mut unreachable, error).map_err(Failure::last)?;
                    continue;
                }
            };
            let failed = match http2::exchange(stream, &self.shared, head, body, now).await {
                Ok(exchange) => return Ok(Reply::over_http2(exchange, flight.hand_over())),
                Err(failed) => failed,
            };
            // A connection that its server is closing refuses; so may the next one.
            sent += 1;
            let ExchangeError::Closed { .. } = failed.error else {
                return Err(attempt.failure(failed.error));
            };
            let again = failed.unsent.or_else(|| is_repeatable.then(ForwardBody::empty));
            body = match again {
                Some(again) if sent < ATTEMPTS => again,
                again => {
                    let error = failed.error.into();
                    return Err(Failure { error, again: again.map(Cargo::Whole) });
                }
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
        if error.is_overload() {
            self.shared.metrics.refused(self.worker, UpstreamRefusal::Connections);
            return Err(UpstreamError::Overloaded);
        }
        if error.is_shortage() {
            self.shared.metrics.refused(self.worker, UpstreamRefusal::Shortage);
            return Err(UpstreamError::Shortage(error));
        }
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

    /// Takes up changed addresses, and closes connections that are idle for too long or were closed by the other side.
    pub fn sweep(&self, now: Instant) {
        self.follow_targets();
        let timeout = self.shared.config.idle_timeout;
        for target in &*self.targets.borrow() {
            target.pool.sweep(now);
            target.connections.sweep(now, timeout);
            self.age(target, now);
        }
    }
}

impl WorkerUpstream {
    /// Addresses that are gone get no more requests; their idle connections end with this, and the others with what is on
    /// them.
    fn follow_targets(&self) {
        let targets = self.shared.state.targets();
        if Arc::ptr_eq(&targets, &self.known.borrow()) {
            return;
        }
        let before = self.targets.take();
        let local = |target: &Arc<Target>| {
            let kept = before.iter().find(|kept| Arc::ptr_eq(&kept.shared, target));
            let new = || Rc::new(WorkerTarget::new(&self.shared, Arc::clone(target), self.worker));
            kept.cloned().unwrap_or_else(new)
        };
        self.targets.replace(targets.iter().map(local).collect());
        self.known.replace(targets);
    }

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
