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
pub mod watch;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use ipnet::IpNet;
use secrecy::SecretString;

pub use self::error::{ConfigError, Excerpt, Problem};
pub use self::route::{
    ConditionsConfig, CorsPreflight, CredentialCarrier, CredentialsConfig, EncodedSlashes,
    FixedResponseConfig, HeaderChangesConfig, HttpsRedirect, RateConfig, RateLimitConfig,
    RouteAuthentication, RouteConfig, RoutePath, RouteTarget, Wanted,
};
use crate::policy::{AuthenticationPolicy, ThirdParty, address};

/// The name that no route may have: metrics use it for requests without one.
pub const NO_ROUTE: &str = "none";

/// Everything an operator can set.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from, for messages.
    pub file: PathBuf,
    /// Worker threads, one per core by default. Needs a restart to change.
    pub workers: usize,
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
}

/// `[[listeners]]`: one address that applications connect to.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Name for logs and metrics.
    pub name: String,
    /// Where it is.
    pub address: ListenAddress,
    /// TLS, if it speaks it.
    pub tls: Option<ListenerTlsConfig>,
    /// Whose `Forwarded` / `X-Forwarded-*` headers are believed.
    pub trusted_proxies: TrustedPeers,
    /// From whom alone connections are taken, each with a header of the PROXY protocol; `None`: there is none to be read,
    /// and anybody may connect.
    pub proxy_protocol: Option<TrustedPeers>,
    /// Connections over it, beyond which accepting pauses; `None`: only all listeners' together are bounded.
    pub connections: Option<usize>,
    /// In place of the one under `[timeouts]`.
    pub header_read_timeout: Option<Duration>,
    /// In place of the one under `[timeouts]`.
    pub idle_timeout: Option<Duration>,
}

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address and a port; port 0 lets the system choose.
    Ip(SocketAddr),
    /// A path.
    Unix(UnixSocketConfig),
}

/// A Unix socket to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSocketConfig {
    /// Its path.
    pub path: PathBuf,
    /// The mode of its file: who may write to it may connect.
    pub mode: u32,
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(socket) => write!(f, "unix:{}", socket.path.display()),
        }
    }
}

/// Whose word about a client's address counts. By default nobody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedPeers {
    /// Who comes from here.
    pub networks: Vec<IpNet>,
    /// Who may connect to the listener's Unix socket.
    pub over_unix_socket: bool,
}

impl TrustedPeers {
    /// Whether a connection's peer is one; over a Unix socket its address is [`address::UNKNOWN`].
    pub fn trust(&self, peer: IpAddr) -> bool {
        match peer {
            address::UNKNOWN => self.over_unix_socket,
            _ => self.hold(peer),
        }
    }

    /// Whether this address is in one of the networks.
    pub fn hold(&self, address: IpAddr) -> bool {
        !self.networks.is_empty() && address::allows(&self.networks, address)
    }
}

/// `[listeners.tls]`.
#[derive(Clone, Debug)]
pub struct ListenerTlsConfig {
    /// Certificates, chosen by SNI; the first is the default.
    pub certificates: Vec<CertificateConfig>,
    /// Refuse TLS 1.2.
    pub require_tls13: bool,
    /// Certificates that clients show; `None`: they are not asked for any.
    pub client_certificates: Option<ClientCertificatesConfig>,
}

/// `[listeners.tls.client_certificates]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificatesConfig {
    /// PEM file of the authorities that may sign them.
    pub ca_file: PathBuf,
    /// PEM file with the revocation list of each of these authorities; `None`: nobody is revoked.
    pub crl_file: Option<PathBuf>,
    /// Who has to show one.
    pub requirement: ClientCertificateRequirement,
}

/// Who has to show a client certificate. One that is shown has to be good in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificateRequirement {
    /// Who wants to.
    Optional,
    /// Everybody.
    Required,
}

/// One certificate chain with its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateConfig {
    /// Chain, leaf first.
    pub certificate_file: PathBuf,
    /// Private key.
    pub key_file: PathBuf,
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

/// `[[upstreams]]`: a service behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// Name for routes, logs and metrics.
    pub name: String,
    /// Its addresses, used in turn; at least one.
    pub endpoints: Vec<EndpointConfig>,
    /// Servers that its names are looked up with; none: as the system does.
    pub resolvers: Vec<SocketAddr>,
    /// What it is spoken to in.
    pub protocol: UpstreamProtocol,
    /// Which address is asked next.
    pub balance: Balance,
    /// How its addresses are checked; `None`: they are not.
    pub health: Option<HealthConfig>,
    /// When addresses rest because requests fail there; `None`: they never do.
    pub ejection: Option<EjectionConfig>,
    /// What is sent again to another address; `None`: only what no connection could be opened for.
    pub retries: Option<RetriesConfig>,
    /// How much it is given at once.
    pub limits: UpstreamLimitsConfig,
    /// TLS towards it, if it wants that.
    pub tls: Option<UpstreamTlsConfig>,
    /// What it is told about who we are.
    pub credential: UpstreamCredential,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long it may take from the end of the request to the response's head.
    pub response_header_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// Unused connections kept per worker and endpoint.
    pub idle_connections: usize,
    /// The signed statement that it gets of who is asking, if it wants one.
    pub identity_token: Option<IdentityTokenConfig>,
}

/// `[identity_token]` and `[upstreams.identity_token]`, together: what an upstream's statements of identity say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityTokenConfig {
    /// Who states it.
    pub issuer: String,
    /// For whom.
    pub audience: String,
    /// How long one is valid.
    pub lifetime: Duration,
    /// Whether it has the request's id, so that each request has one of its own.
    pub request_id: bool,
}

/// What an upstream is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: by ALPN over TLS, by prior knowledge in the clear. gRPC needs it.
    Http2,
}

/// Which of an upstream's addresses is asked next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Each in turn.
    RoundRobin,
    /// The one with the fewest requests under way, as the worker that asks sees it.
    LeastRequests,
}

/// One address of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// Where it is.
    pub address: EndpointAddress,
    /// As written, for logs and metric labels.
    pub label: String,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointAddress {
    /// `host:port`.
    Host {
        /// Host name or address literal, an IPv6 one without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// `unix:/path`: an absolute path.
    Unix(PathBuf),
}

impl EndpointConfig {
    /// What a request of Postern's own calls the service.
    pub fn authority(&self) -> &str {
        match self.address {
            EndpointAddress::Host { .. } => &self.label,
            EndpointAddress::Unix(_) => "localhost",
        }
    }
}

impl EndpointAddress {
    /// The host that a certificate is for; a Unix socket has none.
    pub fn host(&self) -> &str {
        match self {
            Self::Host { host, .. } => host,
            Self::Unix(_) => "",
        }
    }
}

/// `[upstreams.health]`: active checks of each address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthConfig {
    /// What is asked.
    pub check: HealthCheck,
    /// From one check to the next.
    pub interval: Duration,
    /// How long a check may take, connecting included; no longer than the interval.
    pub timeout: Duration,
    /// Checks in a row that make an unhealthy address healthy.
    pub healthy_threshold: u32,
    /// Checks in a row that make a healthy address unhealthy.
    pub unhealthy_threshold: u32,
}

/// What a check asks an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthCheck {
    /// That it takes a connection, with TLS if the upstream has it.
    Tcp,
    /// That it answers a GET in the upstream's protocol.
    Http {
        /// Path, and query if there is one.
        path: String,
        /// The only status that is good; `None`: any from 200 to 299.
        status: Option<StatusCode>,
    },
    /// That it says so, by the gRPC health checking protocol.
    Grpc {
        /// The service that is asked about; empty: the server as a whole.
        service: String,
    },
}

/// `[upstreams.ejection]`: an address where requests fail rests for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectionConfig {
    /// Failures in a row that are too many.
    pub consecutive_failures: u32,
    /// How long an address rests at first; each time that follows closely it is so much longer.
    pub rest: Duration,
    /// The longest rest; and how long ago the last one must be to count no more.
    pub longest: Duration,
    /// How long it takes until it has all of its traffic back.
    pub return_time: Duration,
    /// How many of an upstream's addresses may rest at once, in percent. With 100, all may, and then all are used.
    pub most_percent: usize,
}

/// `[upstreams.retries]`: what is sent again to another address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetriesConfig {
    /// How often one request is sent again at most.
    pub most_per_request: usize,
    /// Retries in percent of requests.
    pub budget_percent: usize,
    /// Retries a second, over all workers, that need no requests.
    pub least_per_second: usize,
    /// Statuses after which another address is asked.
    pub statuses: Vec<StatusCode>,
}

/// `[upstreams.limits]`: bounds over all workers; `None`: there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpstreamLimitsConfig {
    /// Requests under way at once, until the end of their responses.
    pub concurrent_requests: Option<usize>,
    /// Connections that are being opened at once, TLS included.
    pub pending_connections: Option<usize>,
}

/// `[upstreams.tls]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTlsConfig {
    /// PEM file of the authorities that may sign its certificate; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// What Postern shows it, if it asks for a certificate.
    pub client_certificate: Option<CertificateConfig>,
    /// Name its certificate must carry, when not the endpoint's host.
    pub server_name: Option<String>,
}

/// The `Authorization` an upstream sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamCredential {
    /// None: the client's is removed.
    None,
    /// A fixed value (`Basic …` or `Bearer …`), marked sensitive.
    Fixed(HeaderValue),
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

/// `[admin.login]`: how people log in, and what it costs those who guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginConfig {
    /// Memory of one password hash, in KiB.
    pub argon2_memory_kib: u32,
    /// Passes of one password hash over its memory.
    pub argon2_iterations: u32,
    /// Lanes of one password hash.
    pub argon2_parallelism: u32,
    /// Passwords hashed at a time for people who have not logged in from where they are.
    pub concurrent_hashes: usize,
    /// How long a session may stay unused.
    pub session_idle_seconds: u32,
    /// How long a session may last.
    pub session_absolute_seconds: u32,
    /// Failures of an account from one source before any has to wait.
    pub free_attempts: u32,
    /// Longest time that a failure has to wait.
    pub longest_delay: Duration,
    /// Failures of one source at once, over all accounts.
    pub source_attempts: u32,
    /// How long it takes until there is one more.
    pub source_refill: Duration,
}

/// `[[admin.third_parties]]`: a third party that people can sign in with.
#[derive(Clone, Debug)]
pub struct ThirdPartyConfig {
    /// Which.
    pub kind: ThirdParty,
    /// Who we are to it.
    pub client_id: String,
    /// What shows that.
    pub client_secret: SecretString,
    /// How it is spoken to, and where.
    pub protocol: ThirdPartyProtocol,
}

/// How a third party is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThirdPartyProtocol {
    /// OpenID Connect.
    OpenIdConnect {
        /// Its address; what else there is to know is published below it.
        issuer: String,
        /// In place of the published one.
        authorization_endpoint: Option<String>,
        /// In place of the published one.
        token_endpoint: Option<String>,
    },
    /// GitHub's OAuth, which publishes nothing.
    GitHub {
        /// Where browsers are sent.
        authorization_endpoint: String,
        /// Where codes are exchanged.
        token_endpoint: String,
        /// Where it says who somebody is.
        user_endpoint: String,
        /// Where it says what their addresses are.
        emails_endpoint: String,
    },
}

/// `[admin.http]`: requests that Postern itself sends, to providers and to domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingConfig {
    /// PEM file of authorities that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long a whole exchange may take.
    pub total_timeout: Duration,
    /// Networks that are not of the public Internet and may be reached all the same.
    pub private_networks: Vec<IpNet>,
    /// Port at which the web servers of domains are asked.
    pub domain_check_port: u16,
}

impl Default for LoginConfig {
    /// What holds where the file says nothing.
    fn default() -> Self {
        Self {
            argon2_memory_kib: 19_456,
            argon2_iterations: 2,
            argon2_parallelism: 1,
            concurrent_hashes: 2,
            session_idle_seconds: 7 * 86_400,
            session_absolute_seconds: 30 * 86_400,
            free_attempts: 5,
            longest_delay: Duration::from_secs(900),
            source_attempts: 20,
            source_refill: Duration::from_secs(6),
        }
    }
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
