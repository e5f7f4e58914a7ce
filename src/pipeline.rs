//! A request's way, top to bottom. Read this first.
//!
//! Each phase is a call into the module that owns it; what happens when is decided here and nowhere else. Nothing here
//! reads sockets, opens connections or knows how the directory is kept.

pub mod admission;
pub mod body;
pub mod denials;
pub mod glance;
pub mod outcome;
pub mod response;
pub mod watch;
mod websocket;

use std::borrow::Cow;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Uri, Version, header};

use crate::config::{LimitsConfig, UpstreamCredential};
use crate::error::Answer;
use crate::error::response::{Details, grpc};
use crate::headers::trace::RequestIds;
use crate::headers::{Additions, forwarded};
use crate::identity_token::keys::SigningError;
use crate::policy::Permission;
use crate::route;
use crate::serve::body::{BodyError, RequestBody};
use crate::serve::connection::Connection;
use crate::serve::http1::{self, Received, Violation};
use crate::serve::target::{self, Ambiguity};
use crate::snapshot::Route;
use crate::telemetry::metrics::UpstreamOutcome;
use crate::telemetry::record::Decision;
use crate::upstream::{OutgoingHead, Reply, UpstreamError};
use crate::worker::{LocalSnapshot, Worker};
use admission::{Admission, Refusal};
use body::{ForwardBody, Upload, UploadError, UploadState};
use glance::{Glance, Lines};
use outcome::Outcome;
use response::Response;

/// A request that Postern answers itself, and what the answer may say.
struct Refused {
    answer: Answer,
    required: Option<Permission>,
    token_prefix: Option<HeaderValue>,
}

/// A request that may be sent on.
struct Admitted {
    route: usize,
    host: HeaderValue,
    /// What was matched, and what is forwarded: one string, path and query.
    target: Target,
    admission: Admission,
}

/// A request's head, and what was seen of it at first sight.
struct Asked<'a> {
    head: &'a Parts,
    glance: Glance<'a>,
    intent: Intent,
    caller: Caller,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intent {
    /// An answer.
    Exchange,
    /// A WebSocket. It begins with a GET, and what the client says in it is nobody's to read: so it needs what writing needs.
    Tunnel,
}

/// How a client reads what became of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// By HTTP's status.
    Http,
    /// By a status in the trailers.
    Grpc,
}

impl Caller {
    fn of(head: &Parts) -> Self {
        // gRPC is spoken over HTTP/2 only: nobody else pays for the look.
        let is_grpc = head.version == Version::HTTP_2
            && head.headers.get(header::CONTENT_TYPE).is_some_and(grpc::is_content_type);
        if is_grpc { Self::Grpc } else { Self::Http }
    }
}

/// The one reading of a request's path, with its query.
struct Target {
    path_and_query: PathAndQuery,
}

/// Serves one request: route, credential, decision, usage, headers, upstream, response.
pub async fn serve(worker: &Rc<Worker>, connection: &Rc<Connection>, received: Received) -> Response {
    let Received { head, body, violation } = received;
    let running = connection.begin_request();
    let snapshot = worker.snapshot();
    let glance = Glance::over(&head.headers);
    let (ids, trace) = match &worker.shared.spans {
        None => (worker.ids.request(glance.traceparent), None),
        Some(spans) => worker.ids.traced(glance.traceparent, spans.sampling()),
    };
    let trusted_proxies = &snapshot.shared.listeners[connection.listener].trusted_proxies;
    let client_address = forwarded::client_address(trusted_proxies, connection.peer, &head.headers);
    let mut outcome = Outcome::begin(worker, &snapshot, running, &head, (&ids, trace), client_address);

    let caller = Caller::of(&head);
    let intent = if let RequestBody::Tunnel(_) = &body { Intent::Tunnel } else { Intent::Exchange };
    let asked = Asked { head: &head, glance, intent, caller };
    let admitted = match admit(worker, &snapshot, violation, &asked, &mut outcome) {
        Ok(admitted) => admitted,
        Err(refused) => return answer(refused, caller, &snapshot, &ids, outcome),
    };
    match forward(&snapshot, connection, admitted, &asked, body, &ids, &mut outcome).await {
        Ok(reply) => respond(reply, caller, outcome),
        Err(failed) => answer(failed.into(), caller, &snapshot, &ids, outcome),
    }
}

/// Everything up to the decision. Waits for nothing.
fn admit(
    worker: &Worker,
    snapshot: &LocalSnapshot,
    violation: Option<Violation>,
    asked: &Asked<'_>,
    outcome: &mut Outcome,
) -> Result<Admitted, Refused> {
    let Asked { head, glance, intent, .. } = *asked;
    if let Some(violation) = violation {
        outcome.head_was_refused();
        return Err(Answer::Violation(violation).into());
    }
    check_http2(head, &snapshot.shared.limits)?;
    let host = host(head, &glance)?;
    check_method(head)?;
    check_expectation(head, &glance)?;
    let target = Target::normalized(&head.uri)?;

    let name = lower_case(route::host_name(host.to_str().map_err(|_| Answer::BadHost)?));
    let found = snapshot.shared.table.find(&name, target.path());
    outcome.routed(&name, found);
    let Some(position) = found else {
        admission::holds_valid_token(worker, &glance, outcome)?;
        return Err(Answer::NoRoute.into());
    };
    let route = &snapshot.shared.routes[position];
    if let Some(declared) = route.declared_open() {
        let admission = Admission::open(declared);
        outcome.decided(Decision::Open);
        return Ok(Admitted { route: position, host, target, admission });
    }
    let required = match intent {
        Intent::Exchange => required_permission(route, &head.method),
        Intent::Tunnel => route.write_permission,
    };
    let mut admission = admission::authorize(worker, route, required, &glance, outcome)
        .map_err(|refusal| Refused { required: Some(required), ..refusal.into() })?;
    outcome.decided(Decision::Permit);
    if admission.wants_statement() {
        let stated = admission.state(worker, snapshot, position, outcome);
        stated.map_err(|SigningError| Answer::NotSigned)?;
    }
    Ok(Admitted { route: position, host, target, admission })
}

/// Sends the request on and waits for the response's head.
async fn forward(
    snapshot: &LocalSnapshot,
    connection: &Connection,
    admitted: Admitted,
    asked: &Asked<'_>,
    body: RequestBody,
    ids: &RequestIds,
    outcome: &mut Outcome,
) -> Result<Reply, Answer> {
    let Asked { head, caller, .. } = *asked;
    let route = &snapshot.shared.routes[admitted.route];
    let upstream = &snapshot.upstreams[route.upstream];
    let authorization = match &upstream.shared.config.credential {
        UpstreamCredential::Fixed(value) => Some(value),
        UpstreamCredential::None if route.pass_authorization => head.headers.get(header::AUTHORIZATION),
        UpstreamCredential::None => None,
    };
    let trusted_proxies = &snapshot.shared.listeners[connection.listener].trusted_proxies;
    let forwarding = connection.forwarding(trusted_proxies, &admitted.host, &head.headers);
    let outgoing = OutgoingHead {
        method: &head.method,
        target: admitted.target.path_and_query.as_str(),
        headers: &head.headers,
        timeout: match caller {
            Caller::Http => None,
            Caller::Grpc => head.headers.get("grpc-timeout").and_then(grpc::timeout),
        },
        additions: Additions {
            host: &admitted.host,
            identity: admitted.admission.identity(),
            ids,
            authorization,
            forwarding: &forwarding,
        },
    };
    let (body, upload) = ForwardBody::streaming(body);
    let mut flight = upstream.begin(outcome.started()).map_err(|error| explain_failure(&error, None))?;
    outcome.upstream_called(route.upstream, flight.endpoint(), upload.clone());
    let result = {
        let mut sending = pin!(upstream.send(&mut flight, &outgoing, body, outcome.started()));
        let sent = poll_fn(|context| match sending.as_mut().poll(context) {
            Poll::Ready(sent) => {
                Poll::Ready(sent.map_err(|error| explain_failure(&error, upload.as_deref())))
            }
            // It may take as long as the upstream likes: meanwhile the token may end.
            Poll::Pending => match outcome.denied_meanwhile(context) {
                Some(denial) => Poll::Ready(Err(Answer::Denied(denial))),
                None => Poll::Pending,
            },
        });
        sent.await
    };
    let answered_at = result.as_ref().ok().map(Reply::answered_at);
    outcome.upstream_returned(flight.endpoint(), upstream_outcome(&result), answered_at);
    result
}

/// The upstream's response, streamed back.
fn respond(reply: Reply, caller: Caller, mut outcome: Outcome) -> Response {
    outcome.answered(reply.status());
    Response::forwarded(reply, caller, outcome)
}

/// Postern's own answer.
fn answer(
    refused: Refused,
    caller: Caller,
    snapshot: &LocalSnapshot,
    ids: &RequestIds,
    mut outcome: Outcome,
) -> Response {
    let details = Details {
        required: refused.required,
        token_prefix: refused.token_prefix.as_ref().and_then(|prefix| prefix.to_str().ok()),
    };
    let rendered = match caller {
        Caller::Http => snapshot.answers.render(refused.answer, details),
        Caller::Grpc => snapshot.answers.render_grpc(refused.answer, details),
    };
    outcome.answered(rendered.status);
    if let Answer::Denied(_) = refused.answer {
        outcome.decided(Decision::Deny);
    }
    outcome.end(refused.answer.ending());
    Response::own(rendered, ids.request_id.clone(), refused.answer.closes_connection(), outcome)
}

impl Target {
    /// Shares the client's bytes unless something in them had to be decoded.
    fn normalized(uri: &Uri) -> Result<Self, Answer> {
        let Some(given) = uri.path_and_query() else {
            return Ok(Self { path_and_query: PathAndQuery::from_static("/") });
        };
        let path_and_query = match target::normalize(given.as_str()).map_err(Answer::AmbiguousTarget)? {
            Cow::Borrowed(_) => given.clone(),
            Cow::Owned(decoded) => {
                PathAndQuery::try_from(decoded).map_err(|_| Answer::AmbiguousTarget(Ambiguity::Character))?
            }
        };
        Ok(Self { path_and_query })
    }

    fn path(&self) -> &str {
        self.path_and_query.path()
    }
}

/// The one host a request names: `:authority` or absolute form, else `Host`; both must agree.
fn host(head: &Parts, glance: &Glance<'_>) -> Result<HeaderValue, Answer> {
    let line = match glance.host {
        Lines::None => None,
        Lines::One(line) => Some(line),
        Lines::Several => return Err(Answer::BadHost),
    };
    let Some(authority) = head.uri.authority() else {
        // HTTP/1.0 may name none; what HTTP/1 names has been looked at; HTTP/2's is looked at here.
        let Some(line) = line else { return Ok(HeaderValue::from_static("")) };
        return if http1::is_host(line.as_bytes()) { Ok(line.clone()) } else { Err(Answer::BadHost) };
    };
    if !http1::is_host(authority.as_str().as_bytes()) {
        return Err(Answer::BadHost);
    }
    match line {
        Some(line) if line.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) => Ok(line.clone()),
        Some(_) => Err(Answer::BadHost),
        None => HeaderValue::from_str(authority.as_str()).map_err(|_| Answer::BadHost),
    }
}

/// What the reader of HTTP/1 has seen to already.
fn check_http2(head: &Parts, limits: &LimitsConfig) -> Result<(), Answer> {
    if head.version != Version::HTTP_2 {
        return Ok(());
    }
    if head.uri.path_and_query().is_some_and(|target| target.as_str().len() > limits.uri_bytes) {
        return Err(Answer::Violation(Violation::TargetTooLong));
    }
    if head.uri.query().is_some_and(|query| !http1::is_query(query.as_bytes())) {
        return Err(Answer::Violation(Violation::Target));
    }
    if head.headers.len() > limits.header_count {
        return Err(Answer::Violation(Violation::TooManyHeaders));
    }
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (Some(_), Some(_)) => Err(Answer::Violation(Violation::ContentLengthRepeated)),
        (Some(length), None) if !http1::is_content_length(length.as_bytes()) => {
            Err(Answer::Violation(Violation::ContentLength))
        }
        (Some(_), None) | (None, _) => Ok(()),
    }
}

fn check_method(head: &Parts) -> Result<(), Answer> {
    match head.method {
        Method::CONNECT | Method::TRACE => Err(Answer::MethodNotAllowed),
        Method::OPTIONS if head.uri.path() == "*" => Err(Answer::ServerOptions),
        _ => Ok(()),
    }
}

fn check_expectation(head: &Parts, glance: &Glance<'_>) -> Result<(), Answer> {
    let known = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    let is_known = match glance.expect {
        Lines::None => true,
        Lines::One(value) => known(value),
        Lines::Several => head.headers.get_all(header::EXPECT).iter().all(known),
    };
    if is_known { Ok(()) } else { Err(Answer::ExpectationFailed) }
}

/// What a route asks for this method.
pub(crate) fn required_permission(route: &Route, method: &Method) -> Permission {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => route.read_permission,
        _ => route.write_permission,
    }
}

fn lower_case(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// Tells the client's faults from the upstream's.
fn explain_failure(error: &UpstreamError, upload: Option<&Upload>) -> Answer {
    let state = upload.map(Upload::state);
    match error {
        UpstreamError::ClientBody(UploadError::Broken(BodyError::Violation(violation))) => {
            Answer::Violation(*violation)
        }
        _ if state == Some(UploadState::Broken) => Answer::ClientBodyBroken,
        UpstreamError::Unhealthy => Answer::UpstreamUnhealthy,
        UpstreamError::Unreachable(_) => Answer::UpstreamUnreachable,
        UpstreamError::Timeout if state == Some(UploadState::WaitingForClient) => Answer::ClientBodyTimeout,
        UpstreamError::Timeout => Answer::UpstreamTimeout,
        UpstreamError::Closed(_) | UpstreamError::Malformed(_) => Answer::UpstreamFailed,
        UpstreamError::ClientBody(_) => Answer::ClientBodyBroken,
    }
}

fn upstream_outcome(result: &Result<Reply, Answer>) -> UpstreamOutcome {
    match result {
        Ok(_) => UpstreamOutcome::Ok,
        Err(Answer::UpstreamUnreachable) => UpstreamOutcome::Unreachable,
        Err(Answer::UpstreamTimeout) => UpstreamOutcome::Timeout,
        Err(Answer::UpstreamFailed) => UpstreamOutcome::Failed,
        Err(_) => UpstreamOutcome::Aborted,
    }
}

impl From<Answer> for Refused {
    fn from(answer: Answer) -> Self {
        Self { answer, required: None, token_prefix: None }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { answer: Answer::Denied(refusal.denial), required: None, token_prefix: refusal.token_prefix }
    }
}
