//! Everything Postern answers itself instead of forwarding: a closed list with its origin, status and code.
//!
//! [`response`] turns an [`Answer`] into bytes. Errors of configuration and store live beside what they concern.

pub mod response;

use http::StatusCode;

use crate::limit::Limit;
use crate::policy::Denial;
use crate::serve::http1::Violation;
use crate::serve::target::Ambiguity;
use crate::telemetry::record::Ending;

/// Why Postern answers a request itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Client: the head or the body broke HTTP's rules or a limit.
    Violation(Violation),
    /// Client: the target can be read in more than one way.
    AmbiguousTarget(Ambiguity),
    /// Client: a method no proxy of HTTP services serves (CONNECT, TRACE).
    MethodNotAllowed,
    /// Client: an expectation other than `100-continue`.
    ExpectationFailed,
    /// Client: no or more than one host, or an authority that differs from `Host`.
    BadHost,
    /// Client: a header or parameter that routes are chosen by can be read in more than one way.
    AmbiguousCondition,
    /// Client: in the clear, where the route is served over HTTPS only.
    HttpsRequired,
    /// Client: its body is longer than the route takes.
    BodyTooLarge,
    /// Client: its body broke off.
    ClientBodyBroken,
    /// Client: its body did not come on in time.
    ClientBodyTimeout,
    /// Client: `OPTIONS *`, which concerns the proxy itself.
    ServerOptions,
    /// Client, with a valid token: no route matches.
    NoRoute,
    /// Policy: refused.
    Denied(Denial),
    /// Client: one too many.
    LimitExceeded(Limit),
    /// Upstream: checks find none of its addresses healthy.
    UpstreamUnhealthy,
    /// Upstream: it has as much to do as its limits allow.
    UpstreamOverloaded,
    /// Upstream: no connection could be had.
    UpstreamUnreachable,
    /// Upstream: connected, but no response's head in time.
    UpstreamTimeout,
    /// Upstream: broke the connection or HTTP's rules.
    UpstreamFailed,
    /// Internal: the directory is not loaded.
    NotReady,
    /// Internal: the directory has not been in step with the store for longer than is allowed.
    DirectoryStale,
    /// Internal: the upstream's statement of identity could not be signed.
    NotSigned,
    /// Internal: no descriptors or memory for a connection to the upstream.
    Shortage,
}

/// Who caused an answer of Postern's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The request itself.
    Client,
    /// The organization's policy.
    Policy,
    /// The service behind.
    Upstream,
    /// Postern.
    Internal,
}

impl Answer {
    /// The status the client sees.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Violation(violation) => violation.status(),
            Self::AmbiguousTarget(_) | Self::AmbiguousCondition | Self::BadHost | Self::ClientBodyBroken => {
                StatusCode::BAD_REQUEST
            }
            Self::HttpsRequired => StatusCode::PERMANENT_REDIRECT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ClientBodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
            Self::ServerOptions => StatusCode::NO_CONTENT,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Denied(denial) => denial.status(),
            Self::LimitExceeded(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::UpstreamUnreachable | Self::UpstreamFailed => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::UpstreamUnhealthy
            | Self::UpstreamOverloaded
            | Self::NotReady
            | Self::DirectoryStale
            | Self::NotSigned
            | Self::Shortage => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Who caused it.
    pub fn origin(self) -> Origin {
        match self {
            Self::Violation(_)
            | Self::AmbiguousTarget(_)
            | Self::MethodNotAllowed
            | Self::ExpectationFailed
            | Self::BadHost
            | Self::AmbiguousCondition
            | Self::HttpsRequired
            | Self::BodyTooLarge
            | Self::LimitExceeded(_)
            | Self::ClientBodyBroken
            | Self::ClientBodyTimeout
            | Self::ServerOptions
            | Self::NoRoute => Origin::Client,
            Self::Denied(_) => Origin::Policy,
            Self::UpstreamUnhealthy
            | Self::UpstreamOverloaded
            | Self::UpstreamUnreachable
            | Self::UpstreamTimeout
            | Self::UpstreamFailed => Origin::Upstream,
            Self::NotReady | Self::DirectoryStale | Self::NotSigned | Self::Shortage => Origin::Internal,
        }
    }

    /// The code in body, log and metric. Whoever does not hold a known token learns no more than `invalid_token`.
    pub fn public_code(self) -> &'static str {
        match self {
            Self::Violation(violation) => violation.code(),
            Self::AmbiguousTarget(ambiguity) => ambiguity.code(),
            Self::MethodNotAllowed => "method_not_allowed",
            Self::ExpectationFailed => "expectation_failed",
            Self::BadHost => "bad_host",
            Self::AmbiguousCondition => "ambiguous_condition",
            Self::HttpsRequired => "https_required",
            Self::BodyTooLarge => "body_too_large",
            Self::ClientBodyBroken => "body_broken",
            Self::ClientBodyTimeout => "body_timeout",
            Self::ServerOptions => "options",
            Self::NoRoute => "no_route",
            Self::Denied(Denial::MalformedCredentials | Denial::UnknownToken) => "invalid_token",
            Self::Denied(denial) => denial.code(),
            Self::LimitExceeded(limit) => limit.code(),
            Self::UpstreamUnhealthy => "upstream_unhealthy",
            Self::UpstreamOverloaded => "upstream_overloaded",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamFailed => "upstream_failed",
            Self::NotReady => "not_ready",
            Self::DirectoryStale => "directory_stale",
            Self::NotSigned => "not_signed",
            Self::Shortage => "shortage",
        }
    }

    /// How the request's end is recorded.
    pub fn ending(self) -> Ending {
        match self {
            Self::Violation(_)
            | Self::AmbiguousTarget(_)
            | Self::MethodNotAllowed
            | Self::ExpectationFailed
            | Self::BadHost
            | Self::AmbiguousCondition
            | Self::BodyTooLarge => Ending::BadRequest,
            Self::ClientBodyBroken | Self::ClientBodyTimeout => Ending::ClientAborted,
            Self::ServerOptions | Self::HttpsRequired => Ending::Completed,
            Self::NoRoute => Ending::NoRoute,
            Self::Denied(denial) => Ending::Denied(denial),
            Self::LimitExceeded(limit) => Ending::LimitExceeded(limit),
            Self::UpstreamUnhealthy => Ending::UpstreamUnhealthy,
            Self::UpstreamOverloaded => Ending::UpstreamOverloaded,
            Self::UpstreamUnreachable | Self::Shortage => Ending::UpstreamUnreachable,
            Self::UpstreamTimeout => Ending::UpstreamTimeout,
            Self::DirectoryStale => Ending::DirectoryStale,
            Self::UpstreamFailed | Self::NotReady | Self::NotSigned => Ending::UpstreamFailed,
        }
    }

    /// Seconds after which another try may go better, where that can be said.
    pub fn retry_after_seconds(self) -> Option<&'static str> {
        match self {
            // As often as upstreams are checked by default.
            Self::UpstreamUnhealthy => Some("5"),
            // As soon as the management API asks for when the store fails it.
            Self::DirectoryStale => Some("5"),
            Self::UpstreamOverloaded | Self::Shortage => Some("1"),
            _ => None,
        }
    }

    /// Whether the connection can't be trusted to be in step any more.
    pub fn closes_connection(self) -> bool {
        matches!(
            self,
            Self::Violation(_)
                | Self::BadHost
                | Self::AmbiguousTarget(_)
                | Self::BodyTooLarge
                | Self::ClientBodyBroken
                | Self::ClientBodyTimeout
        )
    }
}
