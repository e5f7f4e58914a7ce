//! What became of a request: recorded exactly once, when the guard is dropped, whatever happened before.

use std::future::Future as _;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant, SystemTime};

use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Uri, header};
use tokio::task::coop::unconstrained;
use tokio::time::Sleep;

use super::body::Upload;
use super::watch::{Place, Watch};
use crate::directory::candidate::Difference;
use crate::error::Answer;
use crate::headers::trace::{RequestId, RequestIds, TraceContext};
use crate::limit::Held;
use crate::limit::source::FailureThrottle;
use crate::policy::{Denial, Permission};
use crate::serve::connection::RunningRequest;
use crate::snapshot::{Route, Snapshot};
use crate::telemetry::metrics::UpstreamOutcome;
use crate::telemetry::record::{Decision, Ending, Record};
use crate::telemetry::spans::Traced;
use crate::token::TokenIndex;
use crate::worker::{LocalSnapshot, Worker};

/// The guard of one request. Until told otherwise, the client went away.
#[derive(Debug)]
pub struct Outcome {
    worker: Rc<Worker>,
    snapshot: Rc<LocalSnapshot>,
    running: RunningRequest,
    /// Where it is watched, once it was permitted.
    watch: Option<Place>,
    /// Its places among those that run at the same time.
    held: Option<Box<Held>>,
    /// When its route wants it to have ended.
    deadline: Option<Pin<Box<Sleep>>>,
    time: SystemTime,
    started: Instant,
    route: Option<usize>,
    upstream: Option<UpstreamCall>,
    upload: Option<Rc<Upload>>,
    bytes_sent: u64,
    status: Option<StatusCode>,
    ending: Option<Ending>,
    request_id: RequestId,
    client_address: IpAddr,
    /// Only what the access log and traces want; `None` when there is neither.
    log: Option<Box<LogFields>>,
    /// Only for what is traced.
    trace: Option<Box<Trace>>,
}

#[derive(Debug)]
struct Trace {
    context: TraceContext,
    /// When that was, counted from the beginning.
    decided: Option<Duration>,
    called: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct UpstreamCall {
    upstream: usize,
    endpoint: usize,
    answered: Option<Duration>,
    outcome: UpstreamOutcome,
}

#[derive(Debug)]
struct LogFields {
    ids: RequestIds,
    method: Option<Method>,
    host: Box<str>,
    uri: Uri,
    user_agent: Option<HeaderValue>,
    user_id: Option<HeaderValue>,
    token_prefix: Option<HeaderValue>,
    decision: Decision,
    difference: Option<Difference>,
}

impl Outcome {
    /// Begins when a request's head has arrived.
    pub fn begin(
        worker: &Rc<Worker>,
        snapshot: &Rc<LocalSnapshot>,
        running: RunningRequest,
        head: &Parts,
        (ids, trace): (&RequestIds, Option<TraceContext>),
        client_address: IpAddr,
    ) -> Self {
        let is_told = snapshot.shared.access_log.is_some() || trace.is_some();
        let log = is_told.then(|| {
            Box::new(LogFields {
                ids: ids.clone(),
                method: Some(head.method.clone()),
                host: "".into(),
                uri: head.uri.clone(),
                user_agent: head.headers.get(header::USER_AGENT).cloned(),
                user_id: None,
                token_prefix: None,
                decision: Decision::Undecided,
                difference: None,
            })
        });
        Self {
            worker: Rc::clone(worker),
            snapshot: Rc::clone(snapshot),
            running,
            watch: None,
            held: None,
            deadline: None,
            time: SystemTime::now(),
            started: Instant::now(),
            route: None,
            upstream: None,
            upload: None,
            bytes_sent: 0,
            status: None,
            ending: None,
            request_id: ids.request_id(),
            client_address,
            log,
            trace: trace.map(|context| Box::new(Trace { context, decided: None, called: None })),
        }
    }

    /// When the head had arrived, on the clock that never steps: routing and deciding take a millionth of a second, so
    /// what comes next has begun then too, and no other look at a clock is taken for it.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// When the head had arrived.
    pub fn time(&self) -> SystemTime {
        self.time
    }

    /// When Postern's own answer is from: unless an upstream was waited for, when the head had arrived, and no other look at a
    /// clock is taken for it.
    pub fn answer_time(&self) -> SystemTime {
        if self.upstream.is_some() { SystemTime::now() } else { self.time }
    }

    /// The request's id.
    pub fn request_id(&self) -> RequestId {
        self.request_id
    }

    /// The client's address: the socket's, or what a configured trusted proxy said.
    pub fn client_address(&self) -> IpAddr {
        self.client_address
    }

    /// The head was refused unread: what stands in for it says nothing about the client's request.
    pub fn head_was_refused(&mut self) {
        if let Some(log) = &mut self.log {
            log.method = None;
            log.uri = Uri::default();
        }
    }

    /// The host and the route were found.
    pub fn routed(&mut self, host: &str, route: Option<usize>) {
        self.route = route;
        if let Some(log) = &mut self.log {
            log.host = host.into();
        }
    }

    /// The policy has decided, or the route is open.
    pub fn decided(&mut self, decision: Decision) {
        if let Some(log) = &mut self.log {
            log.decision = decision;
        }
        if let Some(trace) = &mut self.trace {
            trace.decided = Some(self.started.elapsed());
        }
    }

    /// The organization's candidate policy decides otherwise.
    pub fn candidate_differs(&mut self, route: &Route, difference: Difference) {
        route.metrics.record_difference(self.worker.index, difference);
        if let Some(log) = &mut self.log {
            log.difference = Some(difference);
        }
    }

    /// The policy has permitted it: from now on what was asked of its token has to stay so.
    pub fn permitted(&mut self, token: TokenIndex, required: Permission, client_address: IpAddr) {
        if let Some(route) = self.route {
            let (snapshot, way) = (Rc::clone(&self.snapshot), self.running.way());
            let watch = Watch::new(token, snapshot, route, required, client_address, way);
            self.watch = Some(self.worker.watches.enter(watch));
        }
    }

    /// Why it would not be let in any more, if it would not; whoever asks is woken when that changes.
    pub fn withdrawn(&self, context: &Context<'_>) -> Option<Answer> {
        self.worker.watches.withdrawn(self.watch.as_ref()?, context)
    }

    /// How often its network may fail to authenticate.
    pub fn failure_throttle(&self) -> Option<&FailureThrottle> {
        self.snapshot.shared.failure_throttle.as_ref()
    }

    /// Holds its places until it is over.
    pub fn hold(&mut self, held: Held) {
        self.held = Some(Box::new(held));
    }

    /// The header lines that tell its client how its rates stand; nothing without any.
    pub fn rate_lines(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        if let Some(held) = &self.held {
            held.standings.write_lines(&mut lines);
        }
        lines
    }

    /// The whole may take so long, counted from the head's arrival.
    pub fn limit_time(&mut self, total: Duration) {
        self.deadline = Some(Box::pin(tokio::time::sleep_until((self.started + total).into())));
    }

    /// Whether its time is over; whoever asks is woken when it is.
    pub fn is_overdue(&mut self, context: &mut Context<'_>) -> bool {
        let Some(deadline) = &mut self.deadline else { return false };
        // Out of turn: a body that keeps coming could else use up the task's budget, and with it the deadline's turn.
        pin!(unconstrained(deadline.as_mut())).poll(context).is_ready()
    }

    /// A known token was presented.
    pub fn identified(&mut self, user_id: &HeaderValue, token_prefix: &HeaderValue) {
        if let Some(log) = &mut self.log {
            log.user_id = Some(user_id.clone());
            log.token_prefix = Some(token_prefix.clone());
        }
    }

    /// The request goes to an upstream.
    pub fn upstream_called(&mut self, upstream: usize, endpoint: usize, upload: Option<Rc<Upload>>) {
        self.upload = upload;
        if let Some(trace) = &mut self.trace {
            trace.called = Some(self.started.elapsed());
        }
        self.upstream =
            Some(UpstreamCall { upstream, endpoint, answered: None, outcome: UpstreamOutcome::Aborted });
    }

    /// The upstream's response's head is there since `answered_at`, from this endpoint, or it is known why not.
    pub fn upstream_returned(
        &mut self,
        endpoint: usize,
        outcome: UpstreamOutcome,
        answered_at: Option<Instant>,
    ) {
        if let Some(call) = &mut self.upstream {
            call.endpoint = endpoint;
            call.outcome = outcome;
            call.answered = answered_at.map(|answered_at| answered_at.duration_since(self.started));
        }
    }

    /// The client is told this status.
    pub fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// Bytes of the body were handed to the client's connection.
    pub fn sent(&mut self, bytes: usize) {
        self.bytes_sent += bytes as u64;
    }

    /// How it ended; the first word counts.
    pub fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
        if ending == Ending::UpstreamAborted
            && let Some(call) = &mut self.upstream
        {
            call.outcome = UpstreamOutcome::Aborted;
        }
    }

    fn denial(&self) -> Option<Denial> {
        match self.ending {
            Some(Ending::Denied(denial)) => Some(denial),
            _ => None,
        }
    }

    fn record(&mut self, log: LogFields, duration: Duration, ending: Ending) -> Record {
        let snapshot: &Snapshot = &self.snapshot.shared;
        let route: Option<&Route> = self.route.map(|route| &snapshot.routes[route]);
        Record {
            time: self.time,
            trace_id: log.ids.trace_id(),
            request_id: self.request_id,
            client_address: self.client_address,
            method: log.method,
            host: log.host,
            uri: log.uri,
            route: route.map(|route| Arc::clone(&route.name)),
            decision: log.decision,
            status: self.status,
            user_id: log.user_id,
            token_prefix: log.token_prefix,
            user_agent: log.user_agent,
            upstream: self.upstream.map(|call| {
                let upstream = &snapshot.upstreams[call.upstream];
                (Arc::clone(&upstream.name), Arc::clone(&upstream.endpoints[call.endpoint].label))
            }),
            bytes_received: self.upload.as_ref().map_or(0, |upload| upload.bytes()),
            bytes_sent: self.bytes_sent,
            duration,
            upstream_duration: self.upstream.and_then(|call| call.answered),
            ending,
            difference: log.difference,
        }
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        if let Some(place) = &self.watch {
            self.worker.watches.leave(place);
        }
        let duration = self.started.elapsed();
        let ending = self.ending.unwrap_or(Ending::ClientAborted);
        let index = self.worker.index;
        let snapshot = &self.snapshot.shared;
        let metrics = self.route.map_or(&snapshot.unrouted, |route| &snapshot.routes[route].metrics);
        metrics.record(index, self.status, self.denial(), duration);
        if let Some(Ending::LimitExceeded(limit)) = self.ending {
            metrics.record_limited(index, limit);
        }
        if let Some(call) = self.upstream {
            let endpoint = &snapshot.upstreams[call.upstream].endpoints[call.endpoint];
            endpoint.metrics.record(index, call.outcome, call.answered);
        }
        if let Some(log) = self.log.take() {
            let record = self.record(*log, duration, ending);
            if let (Some(trace), Some(spans)) = (self.trace.take(), &self.worker.shared.spans) {
                let Trace { context, decided, called } = *trace;
                spans.submit(Traced { context, record: record.clone(), decided, called });
            }
            if let Some(access_log) = &self.snapshot.shared.access_log {
                access_log.submit(index, record);
            }
        }
    }
}
