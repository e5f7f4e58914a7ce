//! A request's way, top to bottom. Read this first.
//!
//! Each phase is a call into the module that owns it; what happens when is decided here and nowhere else. Nothing here
//! reads sockets, opens connections or knows how the directory is kept.

pub mod admission;
mod asked;
pub mod body;
pub mod denials;
pub mod glance;
mod head;
pub mod outcome;
mod refused;
pub mod response;
pub mod routing;
mod serving;
pub mod watch;
mod websocket;

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, header};

use crate::config::{HttpsRedirect, UpstreamCredential};
use crate::error::Answer;
use crate::error::response::{Details, grpc};
use crate::headers::Additions;
use crate::headers::forwarded::{self, Scheme};
use crate::headers::trace::RequestIds;
use crate::identity_token::keys::SigningError;
use crate::policy::Permission;
use crate::route;
use crate::serve::body::{BodyError, RequestBody};
use crate::serve::connection::Connection;
use crate::serve::http1::{Received, Violation};
use crate::snapshot::{Route, Target as RouteTarget};
use crate::telemetry::metrics::UpstreamOutcome;
use crate::telemetry::record::{Decision, Ending};
use crate::token::credential::elsewhere::Carriers;
use crate::upstream::{InterimWay, OutgoingHead, Reply, UpstreamError};
use crate::worker::{LocalSnapshot, Worker};
use admission::{Admission, Presenting, Refusal};
pub use asked::Caller;
use asked::{Asked, Intent};
use body::{ForwardBody, Upload, UploadError, UploadState};
use glance::Glance;
use outcome::Outcome;
use refused::Refused;
use response::Response;
use routing::Target;
use serving::Serving;

/// A request that may be sent on.
struct Admitted {
    route: usize,
    host: HeaderValue,
    intent: Intent,
    /// What was matched, as one string of path and query: it is what is forwarded, but for the route's rewriting.
    target: Target,
    admission: Admission,
}

/// What goes on to an upstream.
#[derive(Clone, Copy)]
struct Onward<'a> {
    snapshot: &'a LocalSnapshot,
    /// Its position.
    upstream: usize,
    admitted: &'a Admitted,
    head: &'a Parts,
    caller: Caller,
    connection: &'a Connection,
    ids: &'a RequestIds,
}

/// Serves one request: route, credential, decision, usage, headers, upstream, response.
pub fn serve(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    received: Received,
) -> impl Future<Output = Response> + use<> {
    let Received { head, body, violation, stream } = received;
    let running = connection.begin_request(stream);
    let snapshot = worker.snapshot();
    let glance = Glance::over(&head.headers);
    let (ids, trace) = match &worker.shared.spans {
        None => (worker.ids.request(glance.traceparent), None),
        Some(spans) => worker.ids.traced(glance.traceparent, spans.sampling()),
    };
    let trusted_proxies = &snapshot.shared.listeners[connection.origin.listener].trusted_proxies;
    let client_address = forwarded::client_address(trusted_proxies, connection.origin.peer, &head.headers);
    let mut outcome = Outcome::begin(worker, &snapshot, running, &head, (&ids, trace), client_address);

    let caller = Caller::of(&head);
    let asked = Asked { head: &head, glance, intent: Intent::of(&body), connection };
    let admitted = match admit(worker, &snapshot, violation, &asked, &mut outcome) {
        Ok(admitted) => admitted,
        Err(refused) => return Serving::answered(answer(refused, caller, &head.method, &snapshot, outcome)),
    };
    let upstream = match &snapshot.shared.routes[admitted.route].target {
        RouteTarget::Upstream(position) => *position,
        RouteTarget::Response(fixed) => {
            outcome.answered(fixed.status);
            outcome.end(Ending::Completed);
            let rendered = fixed.clone().to(&head.method).with_lines(&outcome.rate_lines());
            return Serving::answered(Response::own(rendered, false, outcome));
        }
    };
    let connection = Rc::clone(connection);
    Serving::Forwarded(Box::pin(async move {
        let onward = Onward {
            snapshot: &snapshot,
            upstream,
            admitted: &admitted,
            head: &head,
            caller,
            connection: &connection,
            ids: &ids,
        };
        match forward(&onward, body, &mut outcome).await {
            Ok(reply) => respond(reply, caller, outcome),
            Err(failed) => answer(failed.into(), caller, &head.method, &snapshot, outcome),
        }
    }))
}

/// Everything up to the decision. Waits for nothing.
fn admit(
    worker: &Worker,
    snapshot: &LocalSnapshot,
    violation: Option<Violation>,
    asked: &Asked<'_>,
    outcome: &mut Outcome,
) -> Result<Admitted, Refused> {
    let Asked { head, glance, .. } = *asked;
    if let Some(violation) = violation {
        outcome.head_was_refused();
        return Err(Answer::Violation(violation).into());
    }
    head::check_http2(head, &snapshot.shared.limits)?;
    let host = head::host(head, &glance)?;
    head::check_method(head)?;
    head::check_expectation(head, &glance)?;
    let target = Target::normalized(&head.uri, &snapshot.shared)?;

    let name = lower_case(route::host_name(host.to_str().map_err(|_| Answer::BadHost)?));
    let found = routing::find(&snapshot.shared, &name, &target, head)?;
    outcome.routed(&name, found);
    let Some(position) = found else {
        decidable(worker)?;
        admission::holds_valid_token(worker, &glance, outcome)?;
        return Err(Answer::NoRoute.into());
    };
    let route = &snapshot.shared.routes[position];
    if let Some(redirect) = route.redirect
        && asked.scheme(snapshot) == Scheme::Http
    {
        return Err(redirected(redirect, &name, &target));
    }
    let intent = asked.intent.on(route, head);
    if let Some(declared) = route.declared_open().or_else(|| asked.preflight(route, intent)) {
        let admission = Admission::open(declared);
        enter(route, &admission, outcome)?;
        outcome.decided(Decision::Open);
        return Ok(Admitted { route: position, host, intent, target, admission });
    }
    decidable(worker)?;
    let presenting = Presenting { glance: &glance, head, opening: intent.opening() };
    let refused = |required: Permission, refusal: Refusal| {
        let challenges = route.carriers.as_deref().map(Carriers::challenges);
        Refused { required: Some(required), challenges: challenges.unwrap_or_default(), ..refusal.into() }
    };
    let mut required = required_permission(route, &head.method);
    if intent.is_tunnel() && required != route.write_permission {
        // Until the service takes the offer, this is a request like any other: it may well answer it as one.
        admission::holds_permission(worker, route, required, &presenting, outcome)
            .map_err(|refusal| refused(required, refusal))?;
        required = route.write_permission;
    }
    let mut admission = admission::authorize(worker, route, required, &presenting, outcome)
        .map_err(|refusal| refused(required, refusal))?;
    outcome.decided(Decision::Permit);
    enter(route, &admission, outcome)?;
    if admission.wants_statement() {
        let stated = admission.state(worker, snapshot, position, outcome);
        stated.map_err(|SigningError| Answer::NotSigned)?;
    }
    Ok(Admitted { route: position, host, intent, target, admission })
}

/// Whether what is known of tokens is new enough to decide by. If it is not, a good token must not look like a bad one: clients would
/// throw it away.
#[inline]
fn decidable(worker: &Worker) -> Result<(), Answer> {
    if worker.is_directory_stale() { Err(Answer::DirectoryStale) } else { Ok(()) }
}

/// Takes a permitted request's places within its route's limits. Strangers take none: they could else use up what others may.
#[inline]
fn enter(route: &Route, admission: &Admission, outcome: &mut Outcome) -> Result<(), Refused> {
    if let Some(limits) = &route.limits {
        outcome.hold(limits.enter(admission.token(), outcome.started())?);
    }
    Ok(())
}

/// Sends the request on and waits for the response's head.
async fn forward(onward: &Onward<'_>, body: RequestBody, outcome: &mut Outcome) -> Result<Reply, Answer> {
    let Onward { snapshot, admitted, head, caller, connection, ids, .. } = *onward;
    let intent = admitted.intent;
    let route = &snapshot.shared.routes[admitted.route];
    let upstream = &snapshot.upstreams[onward.upstream];
    if let Some(limit) = route.request_body_bytes {
        head::check_length(head, limit)?;
    }
    if let Some(total) = route.total_timeout
        && !intent.is_tunnel()
    {
        outcome.limit_time(total);
    }
    let other_target = admitted.target.for_service(route)?;
    let carriers = route.carriers.as_deref();
    let without_token = carriers.and_then(|carriers| carriers.headers_without_token(&head.headers));
    let authorization = match &upstream.shared.config.credential {
        UpstreamCredential::Fixed(value) => Some(value),
        // A preflight request's was looked at by nobody, and browsers send none.
        UpstreamCredential::None
            if route.pass_authorization
                && (admitted.admission.identity().is_some() || route.declared_open().is_some()) =>
        {
            head.headers.get(header::AUTHORIZATION)
        }
        UpstreamCredential::None => None,
    };
    let trusted_proxies = &snapshot.shared.listeners[connection.origin.listener].trusted_proxies;
    let forwarding = connection.forwarding(trusted_proxies, &admitted.host, &head.headers);
    let outgoing = OutgoingHead {
        method: &head.method,
        target: other_target.as_ref().map_or(admitted.target.as_str(), PathAndQuery::as_str),
        headers: without_token.as_ref().unwrap_or(&head.headers),
        timeout: match caller {
            Caller::Http => None,
            Caller::Grpc => head.headers.get("grpc-timeout").and_then(grpc::timeout),
        },
        interim: connection
            .interim(head.version)
            .map(|client| InterimWay { client, changes: route.response_headers.as_deref() }),
        protocol: match intent {
            Intent::Upgrade => route.offered(head),
            Intent::Ask | Intent::Exchange | Intent::WebSocket => None,
        },
        response_header_timeout: route.response_header_timeout,
        additions: Additions {
            host: &admitted.host,
            identity: admitted.admission.identity(),
            ids,
            authorization,
            forwarding: &forwarding,
            changes: route.request_headers.as_deref(),
        },
    };
    let body = if intent == Intent::Ask { RequestBody::Empty } else { body };
    let (body, upload) = ForwardBody::streaming(body, route.request_body_bytes);
    let mut flight = upstream.begin(outcome.started()).map_err(|error| explain_failure(&error, None))?;
    outcome.upstream_called(onward.upstream, flight.endpoint(), upload.clone());
    let result = {
        let mut sending = pin!(upstream.send(&mut flight, &outgoing, body, outcome.started()));
        let sent = poll_fn(|context| match sending.as_mut().poll(context) {
            Poll::Ready(sent) => {
                Poll::Ready(sent.map_err(|error| explain_failure(&error, upload.as_deref())))
            }
            // It may take as long as the upstream likes: meanwhile the token may end.
            Poll::Pending => match outcome.withdrawn(context) {
                Some(answer) => Poll::Ready(Err(answer)),
                None if outcome.is_overdue(context) => {
                    Poll::Ready(Err(explain_failure(&UpstreamError::Timeout, upload.as_deref())))
                }
                None => Poll::Pending,
            },
        });
        sent.await
    };
    let result = match intent {
        Intent::Exchange | Intent::Ask | Intent::Upgrade => result,
        Intent::WebSocket => result.and_then(|reply| websocket::check_answer(head, reply)),
    };
    let answered_at = result.as_ref().ok().map(Reply::answered_at);
    outcome.upstream_returned(flight.endpoint(), upstream_outcome(&result), answered_at);
    let mut reply = result?;
    if let Some(changes) = &route.response_headers {
        reply.change_fields(changes);
    }
    if route.limits.is_some() {
        reply.add_fields(&outcome.rate_lines());
    }
    Ok(reply)
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
    method: &Method,
    snapshot: &LocalSnapshot,
    mut outcome: Outcome,
) -> Response {
    let details = Details {
        required: refused.required,
        token_prefix: refused.token_prefix.as_ref().and_then(|prefix| prefix.to_str().ok()),
        exceeded: refused.exceeded.as_deref(),
        challenges: refused.challenges,
        location: refused.location.as_deref(),
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
    Response::own(rendered.to(method), refused.answer.closes_connection(), outcome)
}

/// What a route asks for this method.
pub(crate) fn required_permission(route: &Route, method: &Method) -> Permission {
    if let Some((_, permission)) = route.permissions.iter().find(|(named, _)| named == method) {
        return *permission;
    }
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => route.read_permission,
        _ => route.write_permission,
    }
}

/// The same host and target over HTTPS.
fn redirected(redirect: HttpsRedirect, host: &str, target: &Target) -> Refused {
    if host.is_empty() {
        return Answer::BadHost.into();
    }
    let location = match redirect.port {
        None => format!("https://{host}{}", target.as_str()),
        Some(port) => format!("https://{host}:{port}{}", target.as_str()),
    };
    Refused { location: Some(location), ..Answer::HttpsRequired.into() }
}

fn lower_case(name: &str) -> Cow<'_, str> {
    // Not `any`: without the early end the compiler looks at many characters at once.
    if name.bytes().fold(false, |is_upper, byte| is_upper | byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// Tells the client's faults from the upstream's.
fn explain_failure(error: &UpstreamError, upload: Option<&Upload>) -> Answer {
    let state = upload.map(Upload::state);
    match error {
        UpstreamError::ClientBody(UploadError::TooLarge) => Answer::BodyTooLarge,
        UpstreamError::ClientBody(UploadError::Broken(BodyError::Violation(violation))) => {
            Answer::Violation(*violation)
        }
        _ if state == Some(UploadState::Broken) => Answer::ClientBodyBroken,
        UpstreamError::Unhealthy => Answer::UpstreamUnhealthy,
        UpstreamError::Overloaded => Answer::UpstreamOverloaded,
        UpstreamError::Unreachable(_) => Answer::UpstreamUnreachable,
        UpstreamError::Shortage(_) => Answer::Shortage,
        UpstreamError::Timeout if state == Some(UploadState::WaitingForClient) => Answer::ClientBodyTimeout,
        UpstreamError::Timeout => Answer::UpstreamTimeout,
        UpstreamError::Closed(_) | UpstreamError::Malformed(_) => Answer::UpstreamFailed,
        UpstreamError::ClientBody(_) => Answer::ClientBodyBroken,
    }
}

fn upstream_outcome(result: &Result<Reply, Answer>) -> UpstreamOutcome {
    match result {
        Ok(_) => UpstreamOutcome::Ok,
        Err(Answer::UpstreamUnreachable | Answer::UpstreamOverloaded | Answer::Shortage) => {
            UpstreamOutcome::Unreachable
        }
        Err(Answer::UpstreamTimeout) => UpstreamOutcome::Timeout,
        Err(Answer::UpstreamFailed) => UpstreamOutcome::Failed,
        Err(_) => UpstreamOutcome::Aborted,
    }
}
