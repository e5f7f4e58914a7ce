//! `[[upstreams]]` as the program runs on them: where the services are, how they are spoken to, and when not.
//!
//! What must not live here: connections and their health, which are [`crate::upstream`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderValue, StatusCode};

use super::listener::CertificateConfig;

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
