//! The configuration the program runs on: always valid, resolved once from the file.
//!
//! `file` is the TOML's shape, `resolve` turns it into [`Config`] and reports all problems together. Nothing in
//! here imports anything above it but [`crate::policy`]'s plain values and the list of headers that are Postern's own.

pub mod certificates;
pub mod change;
mod decode;
mod error;
mod file;
mod input;
mod listener;
mod login;
mod map;
mod number;
pub mod outgoing_url;
mod report;
mod resolve;
mod route;
mod secret;
mod source;
mod syntax;
mod unknown;
mod upstream;
pub mod watch;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use self::error::{ConfigError, Excerpt, Problem};
pub use self::listener::{
    CertificateConfig, ClientCertificateRequirement, ClientCertificatesConfig, ListenAddress, ListenerConfig,
    ListenerTlsConfig, TrustedPeers, UnixSocketConfig,
};
pub use self::login::{LoginConfig, OutgoingConfig, ThirdPartyConfig, ThirdPartyProtocol};
pub use self::route::{
    ConditionsConfig, CorsPreflight, CredentialCarrier, CredentialsConfig, EncodedSlashes,
    FixedResponseConfig, HeaderChangesConfig, HttpsRedirect, RateConfig, RateLimitConfig,
    RouteAuthentication, RouteConfig, RoutePath, RouteTarget, Wanted,
};
pub use self::upstream::{
    Balance, EjectionConfig, EndpointAddress, EndpointConfig, HealthCheck, HealthConfig, IdentityTokenConfig,
    RetriesConfig, UpstreamConfig, UpstreamCredential, UpstreamLimitsConfig, UpstreamProtocol,
    UpstreamTlsConfig,
};
use crate::policy::AuthenticationPolicy;

/// The name that no route may have: metrics use it for requests without one.
pub const NO_ROUTE: &str = "none";

/// Everything an operator can set.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from, for messages.
    pub file: PathBuf,
    /// Worker threads, one per core by default. Needs a restart to change.
    pub workers: usize,
    /// Whether a crash may write memory, tokens under way included, to a file. Needs a restart to change.
    pub core_dumps: bool,
    /// Where the directory is durable. Needs a restart to change.
    pub store: StoreConfig,
    /// Where applications connect. Addresses need a restart to change; certificates do not.
    pub listeners: Vec<ListenerConfig>,
    /// Where operators and Prometheus connect. Needs a restart to change.
    pub ops: OpsConfig,
    /// Where admins connect; `None`: there is no management API. Its address needs a restart to change.
    pub admin: Option<AdminConfig>,
    /// The organization that routes belong to.
    pub organization: OrganizationConfig,
    /// Services behind, by position; routes refer to them by index.
    pub upstreams: Vec<UpstreamConfig>,
    /// What goes where, and what it needs.
    pub routes: Vec<RouteConfig>,
    /// How often each network may fail to authenticate; `None`: as often as it likes.
    pub authentication_throttle: Option<AuthenticationThrottleConfig>,
    /// How usage is flushed.
    pub usage: UsageConfig,
    /// How long the event log goes back, and where else it goes.
    pub events: EventsConfig,
    /// What becomes of tokens that nobody uses.
    pub tokens: TokensConfig,
    /// How long a key signs upstreams' statements of identity; `None`: there are none.
    pub identity_key_rotation: Option<Duration>,
    /// Bounds on what a client may send and hold.
    pub limits: LimitsConfig,
    /// How long things may take.
    pub timeouts: TimeoutsConfig,
    /// What is logged, where and how.
    pub logging: LoggingConfig,
    /// Where traces go; `None`: nothing is traced. Needs a restart to change.
    pub tracing: Option<TracingConfig>,
    /// Files that this depends on, beside `file`: certificates, keys, authorities, secrets. For the watcher.
    pub referenced_files: Vec<PathBuf>,
}

/// `[store]`: where the directory is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// The SQLite file.
    pub path: PathBuf,
    /// Make the file if it is missing; off by default, so that a wrong path is not taken for an empty directory.
    pub create_if_missing: bool,
    /// How long requests go on being decided from memory that is not in step with the store; `None`: for as long as it takes.
    pub stale_after: Option<Duration>,
}

/// `[ops]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpsConfig {
    /// Address of `/metrics`, `/healthz` and `/readyz`.
    pub address: SocketAddr,
}

/// `[admin]`: the management API.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// Address and port; port 0 lets the system choose.
    pub address: SocketAddr,
    /// TLS, if it speaks it.
    pub tls: Option<ListenerTlsConfig>,
    /// Whose `Forwarded` / `X-Forwarded-*` headers are believed.
    pub trusted_proxies: TrustedPeers,
    /// Where browsers find the management API, without a slash at the end; `None`: nobody signs in through others.
    pub public_url: Option<String>,
    /// Third parties that people can sign in with.
    pub third_parties: Vec<ThirdPartyConfig>,
    /// Requests that Postern itself sends.
    pub outgoing: OutgoingConfig,
    /// `[admin.resolver]`: servers that look names up for those requests; none: the system's.
    pub resolver_addresses: Vec<SocketAddr>,
    /// `[admin.login]`. Needs a restart to change.
    pub login: LoginConfig,
}

/// `[tracing]`: traces for an OpenTelemetry collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracingConfig {
    /// URL that takes OTLP over HTTP.
    pub endpoint: String,
    /// What the collector knows this service by.
    pub service_name: String,
    /// Of requests that nobody has decided about, so many in a million are traced.
    pub sampled_per_million: u32,
    /// Whether a client's `traceparent` decides.
    pub follow_parent: bool,
}

/// `[organization]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrganizationConfig {
    /// Organization id, such as `org1a2b3c4d5e6`.
    pub id: String,
    /// Name as people know it; the realm of `WWW-Authenticate`.
    pub name: String,
    /// `[organization.authentication]`: pins the policy; it then wins over the store's.
    pub authentication: Option<AuthenticationPolicy>,
}

/// `[authentication_throttle]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthenticationThrottleConfig {
    /// Failures of one source at once, and in a period.
    pub failures: u32,
    /// The period.
    pub period: Duration,
    /// Leading bits of an IPv4 address that tell sources apart.
    pub ipv4_prefix_bits: u32,
    /// Leading bits of an IPv6 address that tell sources apart.
    pub ipv6_prefix_bits: u32,
}

/// `[usage]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageConfig {
    /// How often usage is written to the store.
    pub flush_interval: Duration,
}

/// `[events]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventsConfig {
    /// Entries of the event log that are older are removed; `None`: none ever is.
    pub retention: Option<Duration>,
    /// Whether each entry goes to the program's own log as well.
    pub mirror: bool,
}

/// `[tokens]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokensConfig {
    /// Tokens of the organization that have not been used for so long are revoked; `None`: none is.
    pub expire_unused_after: Option<Duration>,
}

/// `[limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Bytes of a request's head (431).
    pub header_bytes: usize,
    /// Header lines of a request (431).
    pub header_count: usize,
    /// Bytes of a request's target (414).
    pub uri_bytes: usize,
    /// Connections over all listeners; beyond it accepting pauses.
    pub connections: usize,
}

/// `[timeouts]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutsConfig {
    /// From a request's first byte to the end of its head (408), and for a whole TLS handshake.
    pub header_read: Duration,
    /// How long a client's connection may stay silent between requests.
    pub idle: Duration,
    /// How long a graceful stop may take.
    pub drain: Duration,
}

/// `[logging]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggingConfig {
    /// Filter for the program's own log, such as `info` or `postern=debug`.
    pub level: String,
    /// Shape of the program's own log, on standard error.
    pub format: LogFormat,
    /// Denials that are remembered in memory, of known tokens and as many of strangers. Needs a restart to change.
    pub recent_denials: usize,
    /// The access log; `None`: off.
    pub access_log: Option<AccessLogConfig>,
}

/// Shape of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

/// `[logging.access_log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// Where lines go.
    pub output: AccessLogOutput,
    /// Shape of a line.
    pub format: LogFormat,
}

/// Where access log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogOutput {
    /// Standard output.
    StandardOutput,
    /// Appended to a file.
    File(PathBuf),
}

impl Config {
    /// How long clients of a listener may take.
    pub fn timeouts_of(&self, listener: &ListenerConfig) -> TimeoutsConfig {
        TimeoutsConfig {
            header_read: listener.header_read_timeout.unwrap_or(self.timeouts.header_read),
            idle: listener.idle_timeout.unwrap_or(self.timeouts.idle),
            drain: self.timeouts.drain,
        }
    }

    /// How people log in, where there is no management API the default: the command line sets passwords without one.
    pub fn login(&self) -> LoginConfig {
        self.admin.as_ref().map_or_else(LoginConfig::default, |admin| admin.login)
    }
}
