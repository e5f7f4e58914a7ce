//! `[[routes]]` as the program runs on them: which requests, what those need, who answers, and what is done on the way.
//!
//! What must not live here: how routes are found, which is [`crate::route`].

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::policy::Permission;

/// `[[routes]]`: host and path → project, service, permission, upstream.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// Name for logs and metrics.
    pub name: String,
    /// Exact (`api.example.com`) or wildcard (`*.example.com`) hosts, lower case, no port; empty: any host.
    pub hosts: Vec<String>,
    /// Which paths.
    pub path: RoutePath,
    /// What else a request must have, where several routes are for the same host and path.
    pub conditions: ConditionsConfig,
    /// What becomes of paths with an encoded slash.
    pub encoded_slashes: EncodedSlashes,
    /// Project that decides who may pass; may be empty only where `authentication` is off.
    pub project: String,
    /// Service name, for logs and messages; may be empty only where `authentication` is off.
    pub service: String,
    /// Who answers.
    pub target: RouteTarget,
    /// What takes the place of the matched part of the path, with the parameters of that; checked.
    pub rewrite: Option<String>,
    /// Where requests in the clear are sent instead of being served.
    pub redirect: Option<HttpsRedirect>,
    /// Permission that GET, HEAD and OPTIONS need.
    pub read_permission: Permission,
    /// Permission that any other method needs.
    pub write_permission: Permission,
    /// Permissions that these methods need instead.
    pub permissions: Vec<(Method, Permission)>,
    /// Protocols beside WebSocket that its upstream may be offered by HTTP/1.1's `Upgrade`; each once.
    pub upgrades: Vec<String>,
    /// Off only by explicit declaration.
    pub authentication: RouteAuthentication,
    /// Where its token is taken from.
    pub credentials: CredentialsConfig,
    /// Who answers a browser that asks whether a page of another origin may send a request.
    pub cors_preflight: CorsPreflight,
    /// Whether the client's own `Authorization` goes on to the upstream.
    pub pass_authorization: bool,
    /// In place of the upstream's.
    pub response_header_timeout: Option<Duration>,
    /// From the arrival of a request's head to the end of its response.
    pub total_timeout: Option<Duration>,
    /// Bytes of a request's body at most (413).
    pub request_body_bytes: Option<u64>,
    /// What all of its requests together may do.
    pub rate_limit: Option<RateLimitConfig>,
    /// What each token may do on it.
    pub token_rate_limit: Option<RateLimitConfig>,
    /// What is changed in a request's headers.
    pub request_headers: HeaderChangesConfig,
    /// What is changed in a response's headers.
    pub response_headers: HeaderChangesConfig,
}

/// `[routes.rate_limit]` and `[routes.token_rate_limit]`: at least one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimitConfig {
    /// How often.
    pub rate: Option<RateConfig>,
    /// How many at the same time.
    pub concurrent_requests: Option<u32>,
}

/// How often requests may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateConfig {
    /// So many in a period.
    pub requests: u32,
    /// The period.
    pub period: Duration,
    /// So many at once, after some time without any.
    pub burst: u32,
}

/// Which paths a route is for. Segments such as `{name}` are parameters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RoutePath {
    /// All that begin with these segments; `/`: all.
    Below(String),
    /// This one alone.
    Whole(String),
}

impl RoutePath {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Below(text) | Self::Whole(text) => text,
        }
    }
}

/// What chooses between routes of the same host and path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConditionsConfig {
    /// One of these; empty: any.
    pub methods: Vec<Method>,
    /// Header lines.
    pub headers: Vec<(HeaderName, Wanted)>,
    /// Parameters of the query, names decoded.
    pub query: Vec<(String, Wanted)>,
}

/// What a condition asks of a header or parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// It is there.
    Present,
    /// It is not there.
    Absent,
    /// It is there once, with this value.
    Value(String),
}

/// What becomes of paths with an encoded slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodedSlashes {
    /// 400: services read them in two ways.
    Refuse,
    /// They go on as they are, within one segment.
    Pass,
}

/// Who answers a route's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// The upstream at this position in [`super::Config::upstreams`].
    Upstream(usize),
    /// Postern itself.
    Response(FixedResponseConfig),
}

/// `[routes.response]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedResponseConfig {
    /// The status; one that can have no body has none.
    pub status: StatusCode,
    /// The body.
    pub body: String,
    /// Its `Content-Type`.
    pub content_type: HeaderValue,
}

/// Where requests in the clear are sent instead of being served: the same host and target over HTTPS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpsRedirect {
    /// The port, if it is not 443.
    pub port: Option<u16>,
}

/// Where a route takes tokens from. A request has one credential, in one of these places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialsConfig {
    /// At least one, each once.
    pub carriers: Vec<CredentialCarrier>,
    /// The query's parameter that carries tokens, if one does; decoded.
    pub query_parameter: String,
}

impl Default for CredentialsConfig {
    /// `Authorization: Bearer` alone.
    fn default() -> Self {
        Self { carriers: vec![CredentialCarrier::Bearer], query_parameter: "access_token".to_owned() }
    }
}

/// A place in a request that may carry a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialCarrier {
    /// `Authorization: Bearer`, or `aivenv1`.
    Bearer,
    /// `Authorization: Basic`: the password.
    Basic,
    /// `Sec-WebSocket-Protocol`, of a WebSocket.
    WebsocketProtocol,
    /// A parameter of the query.
    Query,
}

/// Who answers a browser that asks whether a page of another origin may send a request, which it asks without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorsPreflight {
    /// Nobody without a token.
    Authenticate,
    /// The service, by declaration.
    Pass,
}

/// `[routes.request_headers]` and `[routes.response_headers]`; none of them is a header that only Postern may set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChangesConfig {
    /// Take the place of what is there.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Come beside what is there.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Are taken out.
    pub remove: Vec<HeaderName>,
}

/// Whether a route asks for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteAuthentication {
    /// A valid token is needed.
    Required,
    /// Declared open: `authentication = "off"`.
    Off,
}
