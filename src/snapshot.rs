//! What one configuration yields for the workers: routes, upstreams, TLS, limits; replaced whole at a reload.
//!
//! Everything in here is read-only; a worker adds its own connections in [`crate::worker`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::UPGRADE;
use http::request::Parts;
use http::{HeaderValue, Method};

use crate::config::{
    Config, CorsPreflight, EncodedSlashes, HttpsRedirect, LimitsConfig, ListenAddress, ListenerConfig,
    RouteAuthentication, RouteConfig, RoutePath, RouteTarget, TimeoutsConfig, TrustedPeers,
};
use crate::directory::view::{DirectoryView, ProjectCell};
use crate::error::response::Rendered;
use crate::headers::change::HeaderChanges;
use crate::headers::forwarded::Scheme;
use crate::limit::RouteLimits;
use crate::limit::source::FailureThrottle;
use crate::listen::tls::{self, ServerTls, TlsError};
use crate::policy::Permission;
use crate::route::condition::Conditions;
use crate::route::pattern::{Pattern, Rewrite};
use crate::route::{Choice, RouteTable};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::{EndpointMetrics, Metrics, NO_ROUTE, RouteMetrics};
use crate::token::credential::elsewhere::Carriers;
use crate::upstream::connect::Connector;
use crate::upstream::{Endpoint, Upstream};

/// One configuration, ready for use by workers.
#[derive(Debug)]
pub struct Snapshot {
    /// Host and path → position in `routes`.
    pub table: RouteTable,
    /// Routes in the configuration's order.
    pub routes: Vec<Route>,
    /// Whether any route lets encoded slashes pass.
    pub passes_encoded_slashes: bool,
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
    /// How often networks may fail to authenticate.
    pub failure_throttle: Option<FailureThrottle>,
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
    /// What else a request must have.
    pub conditions: Option<Box<Conditions>>,
    /// What becomes of paths with an encoded slash.
    pub encoded_slashes: EncodedSlashes,
    /// Where requests in the clear are sent.
    pub redirect: Option<HttpsRedirect>,
    /// Who answers.
    pub target: Target,
    /// What becomes of the path.
    pub rewrite: Option<Box<Rewrite>>,
    /// Whose members may pass; filled by the directory.
    pub project: Arc<ProjectCell>,
    /// `x-postern-project`.
    pub project_header: HeaderValue,
    /// What GET, HEAD and OPTIONS need.
    pub read_permission: Permission,
    /// What any other method needs.
    pub write_permission: Permission,
    /// What these methods need instead.
    pub permissions: Box<[(Method, Permission)]>,
    /// Protocols beside WebSocket that its upstream is offered.
    pub upgrades: Box<[Arc<str>]>,
    /// Where tokens are taken from; `None`: from `Authorization: Bearer` alone.
    pub carriers: Option<Box<Carriers>>,
    /// Whether the client's own `Authorization` goes on.
    pub pass_authorization: bool,
    /// How long the response's head may take, if not as long as the upstream says.
    pub response_header_timeout: Option<Duration>,
    /// How long the whole may take.
    pub total_timeout: Option<Duration>,
    /// Bytes of a request's body at most.
    pub request_body_bytes: Option<u64>,
    /// How often, and how many at the same time.
    pub limits: Option<Box<RouteLimits>>,
    /// What is changed in a request's headers.
    pub request_headers: Option<Box<HeaderChanges>>,
    /// What is changed in a response's.
    pub response_headers: Option<Box<HeaderChanges>>,
    /// Whether its upstream gets a signed statement of who is asking.
    pub states_identity: bool,
    /// What is counted about it.
    pub metrics: Arc<RouteMetrics>,
    /// What recent denials remember of it.
    pub label: Arc<RouteLabel>,
    authentication: RouteAuthentication,
    cors_preflight: CorsPreflight,
}

/// Who answers a route's requests.
#[derive(Debug)]
pub enum Target {
    /// The upstream at this position.
    Upstream(usize),
    /// Postern itself.
    Response(Rendered),
}

/// What is remembered of a route by what may outlive its configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct RouteLabel {
    /// Its name.
    pub name: Arc<str>,
    /// Its project's name.
    pub project: Box<str>,
}

/// Proof that a route was declared open: `authentication = "off"`, or for preflight requests `cors_preflight = "pass"`.
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
            let ready = Route::new(route, config, directory, metrics)?;
            let choice = if ready.conditions.is_some() { Choice::OnConditions } else { Choice::Always };
            table.add(&route.hosts, &pattern(&route.path), position, choice);
            routes.push(ready);
        }
        Ok(Self {
            table,
            passes_encoded_slashes: routes.iter().any(|route| route.encoded_slashes == EncodedSlashes::Pass),
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
            failure_throttle: config.authentication_throttle.as_ref().map(FailureThrottle::new),
            timeouts: config.timeouts,
            realm: config.organization.name.as_str().into(),
            access_log,
        })
    }
}

impl Snapshot {
    /// Goes on with what was counted under the configuration before: a reload gives nobody anew what is used up.
    pub fn go_on_from(&mut self, before: &Self) {
        for route in &mut self.routes {
            let same = before.routes.iter().find(|known| known.name == route.name);
            if let (Some(limits), Some(known)) =
                (&mut route.limits, same.and_then(|known| known.limits.as_ref()))
            {
                limits.go_on_from(known);
            }
        }
        if let (Some(throttle), Some(known)) = (&mut self.failure_throttle, &before.failure_throttle) {
            throttle.go_on_from(known);
        }
    }
}

impl Route {
    fn new(
        config: &RouteConfig,
        whole: &Config,
        directory: &DirectoryView,
        metrics: &Metrics,
    ) -> Result<Self, SnapshotError> {
        let project_header = HeaderValue::from_str(&config.project).map_err(|_| SnapshotError::Project {
            route: config.name.clone(),
            project: config.project.clone(),
        })?;
        let name: Arc<str> = config.name.as_str().into();
        let label = RouteLabel { name: Arc::clone(&name), project: config.project.as_str().into() };
        let rewrite = config.rewrite.as_deref();
        Ok(Self {
            name,
            label: Arc::new(label),
            conditions: Conditions::of(&config.conditions),
            encoded_slashes: config.encoded_slashes,
            redirect: config.redirect,
            states_identity: match &config.target {
                RouteTarget::Upstream(position) => whole.upstreams[*position].identity_token.is_some(),
                RouteTarget::Response(_) => false,
            },
            target: match &config.target {
                RouteTarget::Upstream(position) => Target::Upstream(*position),
                RouteTarget::Response(fixed) => Target::Response(Rendered::fixed(fixed)),
            },
            rewrite: rewrite.map(|template| Box::new(Rewrite::new(pattern(&config.path), template))),
            project: directory.project(&config.project),
            project_header,
            read_permission: config.read_permission,
            write_permission: config.write_permission,
            permissions: config.permissions.clone().into(),
            upgrades: config.upgrades.iter().map(|name| name.as_str().into()).collect(),
            carriers: Carriers::of(&config.credentials),
            pass_authorization: config.pass_authorization,
            response_header_timeout: config.response_header_timeout,
            total_timeout: config.total_timeout,
            request_body_bytes: config.request_body_bytes,
            limits: RouteLimits::of(config),
            request_headers: HeaderChanges::of(&config.request_headers),
            response_headers: HeaderChanges::of(&config.response_headers),
            metrics: metrics.route(&config.name),
            authentication: config.authentication,
            cors_preflight: config.cors_preflight,
        })
    }

    /// The protocol that a request offers beside HTTP, if the route declares it.
    pub fn offered(&self, head: &Parts) -> Option<&Arc<str>> {
        let named = head.headers.get(UPGRADE)?.as_bytes();
        self.upgrades.iter().find(|declared| declared.as_bytes().eq_ignore_ascii_case(named))
    }

    /// The proof that no token is needed, if the route was declared so.
    pub fn declared_open(&self) -> Option<DeclaredOpen> {
        match self.authentication {
            RouteAuthentication::Off => Some(DeclaredOpen { _made_by_route: () }),
            RouteAuthentication::Required => None,
        }
    }

    /// The proof that no token is needed for a preflight request, if the route was declared so.
    pub fn declared_open_to_preflight(&self) -> Option<DeclaredOpen> {
        match self.cors_preflight {
            CorsPreflight::Pass => Some(DeclaredOpen { _made_by_route: () }),
            CorsPreflight::Authenticate => None,
        }
    }
}

fn pattern(path: &RoutePath) -> Pattern {
    match path {
        RoutePath::Below(text) => Pattern::below(text),
        RoutePath::Whole(text) => Pattern::whole(text),
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
