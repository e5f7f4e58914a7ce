//! What one configuration yields for the workers: routes, upstreams, TLS, limits; replaced whole at a reload.
//!
//! Everything in here is read-only; a worker adds its own connections in [`crate::worker`].

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;

use crate::config::{
    Config, LimitsConfig, ListenAddress, ListenerConfig, RouteAuthentication, TimeoutsConfig, TrustedPeers,
};
use crate::directory::view::{DirectoryView, ProjectCell};
use crate::headers::forwarded::Scheme;
use crate::listen::tls::{self, ServerTls, TlsError};
use crate::policy::Permission;
use crate::route::RouteTable;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::{EndpointMetrics, Metrics, NO_ROUTE, RouteMetrics};
use crate::upstream::connect::Connector;
use crate::upstream::{Endpoint, Upstream};

/// One configuration, ready for use by workers.
#[derive(Debug)]
pub struct Snapshot {
    /// Host and path → position in `routes`.
    pub table: RouteTable,
    /// Routes in the configuration's order.
    pub routes: Vec<Route>,
    /// What is counted about requests that match no route.
    pub unrouted: Arc<RouteMetrics>,
    /// Upstreams in the configuration's order.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Listeners in the configuration's order.
    pub listeners: Vec<Listener>,
    /// Connections one worker may have open.
    pub connections_per_worker: usize,
    /// Bounds on requests.
    pub limits: LimitsConfig,
    /// How long things may take.
    pub timeouts: TimeoutsConfig,
    /// The organization's name.
    pub realm: Arc<str>,
    /// Where access log lines go; `None`: off.
    pub access_log: Option<Arc<AccessLog>>,
}

/// A route, ready for use.
#[derive(Debug)]
pub struct Route {
    /// Name for logs.
    pub name: Arc<str>,
    /// Position of its upstream.
    pub upstream: usize,
    /// Whose members may pass; filled by the directory.
    pub project: Arc<ProjectCell>,
    /// `x-postern-project`.
    pub project_header: HeaderValue,
    /// What GET, HEAD and OPTIONS need.
    pub read_permission: Permission,
    /// What any other method needs.
    pub write_permission: Permission,
    /// Whether the client's own `Authorization` goes on.
    pub pass_authorization: bool,
    /// Whether its upstream gets a signed statement of who is asking.
    pub states_identity: bool,
    /// What is counted about it.
    pub metrics: Arc<RouteMetrics>,
    /// What recent denials remember of it.
    pub label: Arc<RouteLabel>,
    authentication: RouteAuthentication,
}

/// What is remembered of a route by what may outlive its configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct RouteLabel {
    /// Its name.
    pub name: Arc<str>,
    /// Its project's name.
    pub project: Box<str>,
}

/// Proof that a route was declared open: `authentication = "off"`.
#[derive(Clone, Copy, Debug)]
pub struct DeclaredOpen {
    _made_by_route: (),
}

/// A listener, ready for use.
#[derive(Debug)]
pub struct Listener {
    /// TLS, with certificates as of this configuration.
    pub tls: Option<ServerTls>,
    /// Whose forwarding headers are believed.
    pub trusted_proxies: TrustedPeers,
    /// From whom alone connections are taken, each with a header of the PROXY protocol; `None`: without one.
    pub proxy_protocol: Option<TrustedPeers>,
    /// What upstreams are told.
    pub scheme: Scheme,
    /// Connections one worker may have open over it.
    pub connections_per_worker: usize,
    /// How long its clients may take.
    pub timeouts: TimeoutsConfig,
}

/// What could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A listener's certificates.
    #[error("listener `{listener}`: {source}")]
    Listener {
        /// Its name.
        listener: String,
        /// What is wrong.
        source: TlsError,
    },
    /// The management API's certificates.
    #[error("[admin]: {0}")]
    Admin(#[source] TlsError),
    /// An upstream's authorities or name.
    #[error("upstream `{upstream}`: {source}")]
    Upstream {
        /// Its name.
        upstream: String,
        /// What is wrong.
        source: TlsError,
    },
    /// A project name that no header can carry.
    #[error(
        "route `{route}`: the project `{project}` has characters that a header cannot carry; use visible ASCII"
    )]
    Project {
        /// The route's name.
        route: String,
        /// The project's name.
        project: String,
    },
}

impl Snapshot {
    /// Makes a configuration ready: reads certificates, finds metric cells and project cells by name. What is known of
    /// upstreams that were in force before, and are the same, stays known.
    pub fn new(
        config: &Config,
        directory: &DirectoryView,
        metrics: &Metrics,
        access_log: Option<Arc<AccessLog>>,
        before: Option<&Self>,
    ) -> Result<Self, SnapshotError> {
        let mut table = RouteTable::default();
        let mut routes = Vec::with_capacity(config.routes.len());
        for (position, route) in config.routes.iter().enumerate() {
            table.add(&route.hosts, &route.path_prefix, position);
            let project_header = HeaderValue::from_str(&route.project).map_err(|_| {
                SnapshotError::Project { route: route.name.clone(), project: route.project.clone() }
            })?;
            let name: Arc<str> = route.name.as_str().into();
            let label = RouteLabel { name: Arc::clone(&name), project: route.project.as_str().into() };
            routes.push(Route {
                name,
                label: Arc::new(label),
                upstream: route.upstream,
                project: directory.project(&route.project),
                project_header,
                read_permission: route.read_permission,
                write_permission: route.write_permission,
                pass_authorization: route.pass_authorization,
                states_identity: config.upstreams[route.upstream].identity_token.is_some(),
                metrics: metrics.route(&route.name),
                authentication: route.authentication,
            });
        }
        Ok(Self {
            table,
            routes,
            unrouted: metrics.route(NO_ROUTE),
            upstreams: upstreams(config, metrics, before.map_or(&[], |before| &before.upstreams))?,
            listeners: config
                .listeners
                .iter()
                .map(|of_listener| listener(of_listener, config))
                .collect::<Result<_, _>>()?,
            connections_per_worker: config.limits.connections.div_ceil(config.workers),
            limits: config.limits,
            timeouts: config.timeouts,
            realm: config.organization.name.as_str().into(),
            access_log,
        })
    }
}

impl Route {
    /// The proof that no token is needed, if the route was declared so.
    pub fn declared_open(&self) -> Option<DeclaredOpen> {
        match self.authentication {
            RouteAuthentication::Off => Some(DeclaredOpen { _made_by_route: () }),
            RouteAuthentication::Required => None,
        }
    }
}

fn upstreams(
    config: &Config,
    metrics: &Metrics,
    before: &[Arc<Upstream>],
) -> Result<Vec<Arc<Upstream>>, SnapshotError> {
    let ready = |upstream: &crate::config::UpstreamConfig| {
        let before = before.iter().find(|before| before.config == *upstream);
        if let Some(same) = before.filter(|before| before.has_no_files()) {
            return Ok(Arc::clone(same));
        }
        let failed = |source| SnapshotError::Upstream { upstream: upstream.name.clone(), source };
        let connector = match &upstream.tls {
            None => Connector::new(None, None),
            Some(settings) => Connector::new(
                Some(tls::client(settings, upstream.protocol).map_err(failed)?),
                tls::server_name(settings).map_err(failed)?,
            ),
        };
        let endpoints = upstream
            .endpoints
            .iter()
            .map(|endpoint| Endpoint {
                label: endpoint.label.as_str().into(),
                metrics: metrics.upstream(&upstream.name, &endpoint.label) as Arc<EndpointMetrics>,
            })
            .collect();
        let totals = metrics.upstream_totals(&upstream.name);
        let before = before.map(|before| &**before);
        Ok(Arc::new(Upstream::new(upstream, connector, endpoints, totals, config.workers, before)))
    };
    config.upstreams.iter().map(ready).collect()
}

fn listener(listener: &ListenerConfig, config: &Config) -> Result<Listener, SnapshotError> {
    let tls = listener.tls.as_ref().map(tls::server).transpose();
    let tls = tls.map_err(|source| SnapshotError::Listener { listener: listener.name.clone(), source })?;
    let scheme = if tls.is_some() { Scheme::Https } else { Scheme::Http };
    Ok(Listener {
        tls,
        trusted_proxies: listener.trusted_proxies.clone(),
        proxy_protocol: listener.proxy_protocol.clone(),
        scheme,
        connections_per_worker: listener.connections.map_or(usize::MAX, |it| it.div_ceil(config.workers)),
        timeouts: config.timeouts_of(listener),
    })
}

/// The addresses a running sidecar serves, ports resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundAddresses {
    /// One per listener, in the configuration's order.
    pub listeners: Vec<ListenAddress>,
    /// Metrics and health.
    pub ops: SocketAddr,
    /// The management API, if there is one.
    pub admin: Option<SocketAddr>,
}
