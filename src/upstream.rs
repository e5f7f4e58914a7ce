//! Upstreams: which endpoint is asked, over which connection, and what happens when that fails.
//!
//! An [`Upstream`] is what the configuration says and all workers share; a [`WorkerUpstream`] adds one worker's own
//! idle connections, so that no worker waits for another. A request is sent and its response's head awaited in the
//! task that serves it: no channel to another task, no wake-up in between.
//! Nothing here decides who may pass: [`crate::pipeline`] only sends what holds an admission.

pub mod ahead;
mod attempt;
mod balance;
mod budget;
pub(crate) mod check;
pub mod connect;
mod decode;
mod ejection;
mod encode;
pub mod exchange;
pub mod health;
pub mod http2;
mod limits;
pub mod pool;
mod reply;
pub(crate) mod resolve;
pub mod socket;
mod state;
pub mod target;
mod worker;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method};

use crate::config::UpstreamConfig;
use crate::headers::Additions;
use crate::headers::change::HeaderChanges;
use crate::pipeline::body::UploadError;
use crate::serve::http1::Interim;
use crate::telemetry::metrics::{EndpointFigures, EndpointMetrics, UpstreamMetrics};
use connect::{ConnectError, Connector};
pub use decode::{DecodeError, Fields};
use exchange::ExchangeError;
pub use reply::Reply;
pub use state::State;
pub use target::{Flight, Target};
pub use worker::WorkerUpstream;

/// A service behind, as configured; shared by all workers.
#[derive(Debug)]
pub struct Upstream {
    /// Name for logs.
    pub name: Arc<str>,
    /// Its configuration.
    pub config: UpstreamConfig,
    /// Opens connections to it.
    pub connector: Connector,
    /// Its endpoints, in the configuration's order; at least one.
    pub endpoints: Vec<Endpoint>,
    /// What is counted about it.
    pub metrics: Arc<UpstreamMetrics>,
    /// Workers that share it.
    pub workers: usize,
    /// Where its requests can go, and how that fares.
    pub state: Arc<State>,
}

/// One address of a service.
#[derive(Debug)]
pub struct Endpoint {
    /// `host:port` as configured.
    pub label: Arc<str>,
    /// What is counted about it.
    pub metrics: Arc<EndpointMetrics>,
}

/// The head of a request that is to be sent: written anew for each attempt, so nothing is copied in case of a second.
#[derive(Clone, Copy, Debug)]
pub struct OutgoingHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// Origin-form: path and query.
    pub target: &'a str,
    /// The client's headers.
    pub headers: &'a HeaderMap,
    /// How long its client waits for the response, if it says.
    pub timeout: Option<Duration>,
    /// How long the response's head may take, if not as long as the upstream says.
    pub response_header_timeout: Option<Duration>,
    /// What is set after stripping.
    pub additions: Additions<'a>,
    /// Where interim responses go, if the client takes any.
    pub interim: Option<InterimWay<'a>>,
    /// In what a tunnel is offered to go on, if that is not a WebSocket.
    pub protocol: Option<&'a Arc<str>>,
}

/// Interim responses' way to the client. They lose what the route takes out of responses; what it adds comes with the
/// response itself.
#[derive(Clone, Copy, Debug)]
pub struct InterimWay<'a> {
    /// Where they wait to be written.
    pub client: &'a Interim,
    /// What the route changes in responses.
    pub changes: Option<&'a HeaderChanges>,
}

/// Why no response's head came.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Checks find no address healthy.
    #[error("no address of the upstream is healthy")]
    Unhealthy,
    /// So many requests are under way, or connections being opened, as the configuration allows.
    #[error("the upstream has as much to do as upstreams.limits allows")]
    Overloaded,
    /// No connection to any endpoint.
    #[error("could not connect to the upstream")]
    Unreachable(#[source] ConnectError),
    /// No descriptors or memory for a connection: nobody was asked.
    #[error(
        "this system has nothing left for a connection to the upstream; raise the limit on open files (LimitNOFILE, ulimit -n)"
    )]
    Shortage(#[source] ConnectError),
    /// Connected, but no head in time.
    #[error("the upstream did not answer within its response_header_seconds")]
    Timeout,
    /// The connection ended before a whole head had come.
    #[error("the upstream's connection ended before its response")]
    Closed(#[source] io::Error),
    /// What came is no response that can be passed on.
    #[error("the upstream's response is malformed")]
    Malformed(#[source] DecodeError),
    /// The client's body broke off while it was being sent on.
    #[error("the client's body broke off")]
    ClientBody(#[source] UploadError),
}

impl Upstream {
    /// A service with these endpoints, one for each that is configured. What is known of the same one from an earlier
    /// configuration stays known.
    pub fn new(
        config: &UpstreamConfig,
        connector: Connector,
        endpoints: Vec<Endpoint>,
        metrics: Arc<UpstreamMetrics>,
        workers: usize,
        before: Option<&Self>,
    ) -> Self {
        let known = before.filter(|before| before.config == *config).map(|before| Arc::clone(&before.state));
        Self {
            name: config.name.as_str().into(),
            config: config.clone(),
            connector,
            endpoints,
            metrics,
            workers,
            state: known.unwrap_or_else(|| Arc::new(State::new(config))),
        }
    }

    /// How its addresses are, endpoint by endpoint.
    pub fn figures(&self) -> Vec<EndpointFigures> {
        let now = self.state.milliseconds(Instant::now());
        let mut figures: Vec<_> = self
            .endpoints
            .iter()
            .map(|endpoint| EndpointFigures {
                upstream: (*self.name).into(),
                endpoint: (*endpoint.label).into(),
                ..EndpointFigures::default()
            })
            .collect();
        for target in self.state.targets().iter() {
            let Some(figures) = figures.get_mut(target.endpoint) else { continue };
            if target.health.is_unhealthy() {
                figures.unhealthy += 1;
            } else if target.health.is_ejected(now) {
                figures.ejected += 1;
            } else {
                figures.healthy += 1;
            }
        }
        figures
    }

    /// How long an address takes to get all of its traffic back.
    fn return_time(&self) -> Duration {
        self.config.ejection.map_or(Duration::ZERO, |settings| settings.return_time)
    }

    /// Whether its configuration says all about it. With TLS, the files behind the same settings may have changed.
    pub fn has_no_files(&self) -> bool {
        self.config.tls.is_none()
    }
}

impl From<ExchangeError> for UpstreamError {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Closed { source, .. } | ExchangeError::Broken(source) => Self::Closed(source),
            ExchangeError::ClientBody(source) => Self::ClientBody(source),
            ExchangeError::Malformed(source) => Self::Malformed(source),
            ExchangeError::Timeout => Self::Timeout,
        }
    }
}
