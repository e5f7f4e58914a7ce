//! What is known about one request at its end: the source of its access log line and of its metrics.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Method, StatusCode, Uri};

use crate::directory::candidate::Difference;
use crate::headers::trace::RequestId;
use crate::limit::Limit;
use crate::policy::Denial;

/// Why a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The whole response was handed to the client's connection.
    Completed,
    /// The client's request broke HTTP's rules or a limit.
    BadRequest,
    /// The client went away, or its body broke off.
    ClientAborted,
    /// No route matched.
    NoRoute,
    /// The policy refused.
    Denied(Denial),
    /// It was one too many.
    LimitExceeded(Limit),
    /// Checks find none of the upstream's addresses healthy.
    UpstreamUnhealthy,
    /// The upstream has as much to do as its limits allow.
    UpstreamOverloaded,
    /// No connection to the upstream could be had.
    UpstreamUnreachable,
    /// The upstream took too long.
    UpstreamTimeout,
    /// The upstream broke the connection or HTTP's rules before its response's head.
    UpstreamFailed,
    /// The directory was too old for a decision.
    DirectoryStale,
    /// The upstream's response broke off after its head.
    UpstreamAborted,
}

impl Ending {
    /// The word that logs use.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::BadRequest => "bad_request",
            Self::ClientAborted => "client_aborted",
            Self::NoRoute => "no_route",
            Self::Denied(denial) => denial.code(),
            Self::LimitExceeded(limit) => limit.code(),
            Self::UpstreamUnhealthy => "upstream_unhealthy",
            Self::UpstreamOverloaded => "upstream_overloaded",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamFailed => "upstream_failed",
            Self::DirectoryStale => "directory_stale",
            Self::UpstreamAborted => "upstream_aborted",
        }
    }
}

/// What was decided about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: the request ended before it came to that.
    Undecided,
    /// The route is declared open; nobody was asked for a token.
    Open,
    /// The policy let it in.
    Permit,
    /// The policy refused.
    Deny,
}

impl Decision {
    /// The word that logs use.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Undecided => "none",
            Self::Open => "open",
            Self::Permit => "permit",
            Self::Deny => "deny",
        }
    }
}

/// One request, from its first byte to its end. Cheap to make: everything big is shared, not copied.
#[derive(Clone, Debug)]
pub struct Record {
    /// When the request's head had arrived.
    pub time: SystemTime,
    /// The request id, as client and upstream see it.
    pub request_id: RequestId,
    /// Trace id of `traceparent` (32 hexadecimal digits).
    pub trace_id: [u8; 32],
    /// The client's address: the socket's, or what a configured trusted proxy said.
    pub client_address: IpAddr,
    /// The method; `None` if the head was refused unread.
    pub method: Option<Method>,
    /// Host without port, as matched; empty if unknown.
    pub host: Box<str>,
    /// The target; only its path is logged, never its query.
    pub uri: Uri,
    /// The route's name; `None` if none matched.
    pub route: Option<Arc<str>>,
    /// What the client was answered; `None` if it went away before.
    pub status: Option<StatusCode>,
    /// What was decided.
    pub decision: Decision,
    /// Id of the user whose token was presented, once known.
    pub user_id: Option<HeaderValue>,
    /// Token prefix, once known.
    pub token_prefix: Option<HeaderValue>,
    /// The client's user agent, as sent.
    pub user_agent: Option<HeaderValue>,
    /// The upstream's name and the endpoint's label, once chosen.
    pub upstream: Option<(Arc<str>, Arc<str>)>,
    /// Body bytes from the client.
    pub bytes_received: u64,
    /// Body bytes to the client.
    pub bytes_sent: u64,
    /// From the head's arrival to the end.
    pub duration: Duration,
    /// From the choice of the endpoint to its response's head.
    pub upstream_duration: Option<Duration>,
    /// Why it ended.
    pub ending: Ending,
    /// In what the organization's candidate policy differs, if it has one.
    pub difference: Option<Difference>,
}
