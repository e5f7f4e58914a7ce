//! Where an upstream's requests can go: the addresses of its endpoints, as all workers share them and as one worker
//! uses them.
//!
//! What must not live here: which of them is asked (`balance`), and how a connection is opened
//! ([`super::connect`]).

use std::cell::Cell;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;

use super::connect::{ConnectError, UpstreamStream};
use super::health::Health;
use super::http2::Connections;
use super::limits::Permit;
use super::pool::IdlePool;
use super::{Upstream, ejection};
use crate::config::{EndpointAddress, EndpointConfig};

/// One address that requests can go to. All workers share it, and what is known about it outlives reloads.
#[derive(Debug)]
pub struct Target {
    /// Position of the endpoint that it belongs to, in its upstream.
    pub endpoint: usize,
    /// Where it is.
    pub place: Place,
    /// Addresses of the same service in the other family: tried where no connection can be opened to its own.
    pub(super) others: ArcSwap<Vec<SocketAddr>>,
    /// How it fares.
    pub health: Health,
}

/// Where connections are opened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An address.
    Address(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
    /// A name whose addresses are not known yet: until they are, the system looks it up for each connection.
    Name {
        /// The name.
        host: String,
        /// The port.
        port: u16,
    },
}

/// One worker's view of a target: its own connections, and its own requests under way.
#[derive(Debug)]
pub(super) struct WorkerTarget {
    pub(super) upstream: Arc<Upstream>,
    pub(super) shared: Arc<Target>,
    pub(super) pool: IdlePool,
    /// Used if it is spoken to in HTTP/2.
    pub(super) connections: Connections,
    /// Requests under way, of this worker alone: a count that all workers share would be one cache line that each of them
    /// writes twice a request. Connections are spread over workers by the kernel, so each sees a fair sample.
    pub(super) in_flight: Cell<usize>,
}

/// One request on its way to a target, counted until it is dropped: with its response, or where it was given up.
#[derive(Debug)]
pub struct Flight {
    target: Rc<WorkerTarget>,
    /// Whether it still counts: it does not once its response counts in its place.
    is_counted: bool,
    /// Its place among the upstream's requests, where they are limited.
    permit: Option<Permit>,
}

impl Target {
    /// A target of which nothing is known.
    pub(super) fn new(endpoint: usize, place: Place) -> Self {
        Self { endpoint, place, others: ArcSwap::default(), health: Health::default() }
    }
}

impl Place {
    /// Where an endpoint's connections are opened to at first.
    pub(crate) fn of(endpoint: &EndpointConfig) -> Self {
        match &endpoint.address {
            EndpointAddress::Unix(path) => Self::Unix(path.clone()),
            EndpointAddress::Host { host, port } => match host.parse::<IpAddr>() {
                Ok(address) => Self::Address(SocketAddr::new(address, *port)),
                Err(_) => Self::Name { host: host.clone(), port: *port },
            },
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl WorkerTarget {
    pub(super) fn new(upstream: &Arc<Upstream>, shared: Arc<Target>, worker: usize) -> Self {
        let config = &upstream.config;
        let metrics = Arc::clone(&upstream.endpoints[shared.endpoint].metrics);
        let pool = IdlePool::new(worker, config.idle_connections, config.idle_timeout, metrics);
        Self {
            upstream: Arc::clone(upstream),
            shared,
            pool,
            connections: Connections::default(),
            in_flight: Cell::new(0),
        }
    }
}

impl WorkerTarget {
    /// Opens a connection, if not too many are being opened.
    pub(super) async fn connect(&self) -> Result<UpstreamStream, ConnectError> {
        let config = &self.upstream.config;
        let _pending = match config.limits.pending_connections {
            None => None,
            Some(most) => Some(self.upstream.state.connecting.enter(most).ok_or(ConnectError::Overloaded)?),
        };
        self.upstream.connector.connect(config, &self.shared).await
    }

    /// A request failed here, and not because of its client. May eject the address.
    pub(super) fn failed(&self) {
        let Some(settings) = &self.upstream.config.ejection else { return };
        let state = &self.upstream.state;
        let now = state.milliseconds(Instant::now());
        let Some(rest) = ejection::failed(state, &self.shared, settings, now) else { return };
        tracing::warn!(
            upstream = %self.upstream.name,
            endpoint = %self.upstream.endpoints[self.shared.endpoint].label,
            address = %self.shared.place,
            seconds = rest.as_secs(),
            "an upstream's address is ejected: requests have failed there"
        );
    }
}

impl Flight {
    /// Counts a request to this target.
    pub(super) fn begin(target: Rc<WorkerTarget>, permit: Option<Permit>) -> Self {
        target.in_flight.set(target.in_flight.get() + 1);
        Self { target, is_counted: true, permit }
    }

    pub(super) fn target(&self) -> &Rc<WorkerTarget> {
        &self.target
    }

    /// Position of the endpoint that is asked, in its upstream.
    pub fn endpoint(&self) -> usize {
        self.target.shared.endpoint
    }

    /// The request goes to another target.
    pub(super) fn move_to(&mut self, target: Rc<WorkerTarget>) {
        self.leave();
        let permit = self.permit.take();
        *self = Self::begin(target, permit);
    }

    /// For the response: it counts from now on, this no longer does.
    pub(super) fn hand_over(&mut self) -> Self {
        let is_counted = std::mem::replace(&mut self.is_counted, false);
        Self { target: Rc::clone(&self.target), is_counted, permit: self.permit.take() }
    }

    fn leave(&mut self) {
        if std::mem::replace(&mut self.is_counted, false) {
            self.target.in_flight.set(self.target.in_flight.get() - 1);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.leave();
    }
}
