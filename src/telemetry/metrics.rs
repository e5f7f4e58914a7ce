//! The metrics: handles that workers record through, and the collector that sums them at a scrape.
//!
//! On a request's way a worker writes only its own cells (see `cells`): no lock, no locked instruction, no cache line
//! shared with another worker. Series exist only for values of the configuration and of closed lists, never for what
//! clients send. What must not live here: HTTP (that is [`crate::ops`]) and the figures' owners.

mod cells;
mod control;
mod endpoint;
mod family;
mod listener;
mod route;
mod upstream;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{Registry, TextEncoder};

pub use control::{
    CertificateExpiry, CheckOutcome, ControlMetrics, DirectoryFigures, HandOverOutcome, LoginOutcome,
    ReloadOutcome, ResolutionOutcome, SignInOutcome,
};
pub use endpoint::{EndpointMetrics, UpstreamOutcome};
pub use listener::{GoAway, ListenerMetrics, OpenConnection, ProxyProtocolFailure, TlsOutcome};
pub use route::RouteMetrics;
pub use upstream::{EndpointFigures, RetryOutcome, UpstreamMetrics, UpstreamRefusal};

use crate::limit::Limit;
use crate::policy::Denial;

pub use crate::config::NO_ROUTE;

/// All metrics of the process, or of one sidecar in a test: nothing here is global.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    series: Arc<Series>,
    control: ControlMetrics,
}

impl Metrics {
    /// Metrics for so many workers; their indexes are 0 to `workers` - 1.
    pub fn new(workers: usize) -> Arc<Self> {
        let registry = Registry::new();
        let series = Arc::new(Series::new(workers));
        let control = ControlMetrics::register(&registry);
        registry
            .register(Box::new(SeriesCollector::new(Arc::clone(&series))))
            .expect("every metric is registered once, in a registry of its own");
        registry
            .register(Box::new(ProcessCollector::for_self()))
            .expect("every metric is registered once, in a registry of its own");
        Arc::new(Self { registry, series, control })
    }

    /// The metrics of the route of this name, [`NO_ROUTE`] for none: made at the first call, and kept over reloads
    /// until the process ends. Takes a lock: for configuration loads, not for requests.
    pub fn route(&self, name: &str) -> Arc<RouteMetrics> {
        let mut routes = self.series.routes.lock();
        find_or_insert(&mut routes, name, || RouteMetrics::new(name, self.series.workers))
    }

    /// The metrics of an upstream's endpoint; otherwise as [`Metrics::route`].
    pub fn upstream(&self, upstream: &str, endpoint: &str) -> Arc<EndpointMetrics> {
        let mut upstreams = self.series.upstreams.lock();
        let endpoints = upstreams.entry(upstream.into()).or_default();
        find_or_insert(endpoints, endpoint, || EndpointMetrics::new(upstream, endpoint, self.series.workers))
    }

    /// The metrics of an upstream as a whole; otherwise as [`Metrics::route`].
    pub fn upstream_totals(&self, upstream: &str) -> Arc<UpstreamMetrics> {
        let mut totals = self.series.upstream_totals.lock();
        find_or_insert(&mut totals, upstream, || UpstreamMetrics::new(self.series.workers))
    }

    /// The metrics of the listener of this name; otherwise as [`Metrics::route`].
    pub fn listener(&self, name: &str) -> Arc<ListenerMetrics> {
        let mut listeners = self.series.listeners.lock();
        find_or_insert(&mut listeners, name, || ListenerMetrics::new(name, self.series.workers))
    }

    /// The control side's counters.
    pub fn control(&self) -> &ControlMetrics {
        &self.control
    }

    /// Says how the directory's figures are found; `read` is called at each scrape and must not wait. Replaces an
    /// earlier one.
    pub fn observe_directory(&self, read: impl Fn() -> DirectoryFigures + Send + Sync + 'static) {
        *self.series.observed.directory.lock() = Some(Box::new(read));
    }

    /// Says how the upstreams' addresses are found; `read` is called at each scrape and must not wait. Replaces an earlier
    /// one.
    pub fn observe_upstreams(&self, read: impl Fn() -> Vec<EndpointFigures> + Send + Sync + 'static) {
        *self.series.observed.upstreams.lock() = Some(Box::new(read));
    }

    /// Says how many lines of the program's own log were lost; otherwise as [`Metrics::observe_directory`].
    pub fn observe_log(&self, read: impl Fn() -> u64 + Send + Sync + 'static) {
        *self.series.observed.log_dropped.lock() = Some(Box::new(read));
    }

    /// Says how many seconds the clock of decisions is ahead of the system's; otherwise as [`Metrics::observe_directory`].
    pub fn observe_clock(&self, read: impl Fn() -> u64 + Send + Sync + 'static) {
        *self.series.observed.clock_ahead.lock() = Some(Box::new(read));
    }

    /// Says which certificates are in use from now on.
    pub fn set_certificates(&self, certificates: impl IntoIterator<Item = CertificateExpiry>) {
        let expiries = certificates.into_iter().map(|it| ((it.listener, it.certificate), it.expires));
        *self.series.observed.certificates.lock() = expiries.collect();
    }

    /// Everything in Prometheus's text format, version 0.0.4.
    ///
    /// # Errors
    /// If a metric has no name or no samples, which would be a mistake in this module.
    pub fn encode(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

type ByName<T> = BTreeMap<Box<str>, Arc<T>>;

/// What workers record into, found by name.
#[derive(Debug)]
struct Series {
    workers: usize,
    routes: Mutex<ByName<RouteMetrics>>,
    upstreams: Mutex<BTreeMap<Box<str>, ByName<EndpointMetrics>>>,
    upstream_totals: Mutex<ByName<UpstreamMetrics>>,
    listeners: Mutex<ByName<ListenerMetrics>>,
    observed: control::Observed,
}

fn find_or_insert<T>(by_name: &mut ByName<T>, name: &str, make: impl FnOnce() -> T) -> Arc<T> {
    Arc::clone(by_name.entry(name.into()).or_insert_with(|| Arc::new(make())))
}

impl Series {
    fn new(workers: usize) -> Self {
        Self {
            workers,
            routes: Mutex::default(),
            upstreams: Mutex::default(),
            upstream_totals: Mutex::default(),
            listeners: Mutex::default(),
            observed: control::Observed::default(),
        }
    }

    fn collect_routes(&self, families: &mut Vec<MetricFamily>) {
        let (mut requests, mut denials, mut durations) = (Vec::new(), Vec::new(), Vec::new());
        let (mut limited, mut would_deny, mut would_permit) = (Vec::new(), Vec::new(), Vec::new());
        for (name, route) in &*self.routes.lock() {
            let sum = route.sum();
            for (code, count) in sum.statuses.iter().enumerate().filter(|(_, count)| **count > 0) {
                let code = if code == 0 { String::from("none") } else { code.to_string() };
                requests.push(family::REQUESTS.count(&[name, &code], *count));
            }
            for (denial, count) in Denial::ALL.iter().zip(sum.denials) {
                denials.push(family::DENIALS.count(&[name, denial.code()], count));
            }
            // Only what occurred: few routes have limits.
            for (limit, count) in Limit::ALL.iter().zip(sum.limited).filter(|(_, count)| *count > 0) {
                limited.push(family::LIMITED.count(&[name, limit.code()], count));
            }
            // Only what occurred: few routes ever have a candidate policy.
            for (family, counts, samples) in [
                (&family::WOULD_DENY, &sum.would_deny, &mut would_deny),
                (&family::WOULD_PERMIT, &sum.would_permit, &mut would_permit),
            ] {
                let occurred = Denial::ALL.iter().zip(counts).filter(|(_, count)| **count > 0);
                samples.extend(occurred.map(|(denial, count)| family.count(&[name, denial.code()], *count)));
            }
            durations.push(family::REQUEST_DURATION.distribution(&[name], &sum.duration));
        }
        families.push(family::REQUESTS.with(requests));
        families.push(family::DENIALS.with(denials));
        families.extend((!limited.is_empty()).then(|| family::LIMITED.with(limited)));
        families.extend((!would_deny.is_empty()).then(|| family::WOULD_DENY.with(would_deny)));
        families.extend((!would_permit.is_empty()).then(|| family::WOULD_PERMIT.with(would_permit)));
        families.push(family::REQUEST_DURATION.with(durations));
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus knows only floating point")]
    fn collect_upstreams(&self, families: &mut Vec<MetricFamily>) {
        let (mut requests, mut connections, mut durations) = (Vec::new(), Vec::new(), Vec::new());
        for (name, endpoints) in &*self.upstreams.lock() {
            let (mut active, mut idle) = (0, 0);
            let mut duration = cells::HistogramSum::default();
            for (label, endpoint) in endpoints {
                let sum = endpoint.sum();
                for (outcome, count) in UpstreamOutcome::ALL.iter().zip(sum.outcomes) {
                    requests.push(family::UPSTREAM_REQUESTS.count(&[name, label, outcome.code()], count));
                }
                active += sum.active;
                idle += sum.idle;
                endpoint.add_durations(&mut duration);
            }
            connections.push(family::UPSTREAM_CONNECTIONS.level(&[name, "active"], active as f64));
            connections.push(family::UPSTREAM_CONNECTIONS.level(&[name, "idle"], idle as f64));
            durations.push(family::UPSTREAM_DURATION.distribution(&[name], &duration));
        }
        families.push(family::UPSTREAM_REQUESTS.with(requests));
        families.push(family::UPSTREAM_CONNECTIONS.with(connections));
        families.push(family::UPSTREAM_DURATION.with(durations));
    }

    fn collect_upstream_totals(&self, families: &mut Vec<MetricFamily>) {
        let (mut refusals, mut retries) = (Vec::new(), Vec::new());
        for (name, totals) in &*self.upstream_totals.lock() {
            let sum = totals.sum();
            for (outcome, count) in RetryOutcome::ALL.iter().zip(sum.retries) {
                retries.push(family::UPSTREAM_RETRIES.count(&[name, outcome.code()], count));
            }
            for (refusal, count) in UpstreamRefusal::ALL.iter().zip(sum.refusals) {
                refusals.push(family::UPSTREAM_REFUSALS.count(&[name, refusal.code()], count));
            }
        }
        families.push(family::UPSTREAM_REFUSALS.with(refusals));
        families.push(family::UPSTREAM_RETRIES.with(retries));
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus knows only floating point")]
    fn collect_listeners(&self, families: &mut Vec<MetricFamily>) {
        let (mut connections, mut handshakes) = (Vec::new(), Vec::new());
        let (mut failures, mut accept_failures, mut go_aways) = (Vec::new(), Vec::new(), Vec::new());
        for (name, listener) in &*self.listeners.lock() {
            let sum = listener.sum();
            connections.push(family::CONNECTIONS.level(&[name], sum.connections as f64));
            accept_failures.push(family::ACCEPT_FAILURES.count(&[name], sum.accept_failures));
            for (outcome, count) in TlsOutcome::ALL.iter().zip(sum.handshakes) {
                handshakes.push(family::TLS_HANDSHAKES.count(&[name, outcome.code()], count));
            }
            for (failure, count) in ProxyProtocolFailure::ALL.iter().zip(sum.proxy_protocol_failures) {
                failures.push(family::PROXY_PROTOCOL_FAILURES.count(&[name, failure.code()], count));
            }
            for (reason, count) in GoAway::ALL.iter().zip(sum.go_aways) {
                go_aways.push(family::HTTP2_GO_AWAYS.count(&[name, reason.code()], count));
            }
        }
        families.push(family::CONNECTIONS.with(connections));
        families.push(family::ACCEPT_FAILURES.with(accept_failures));
        families.push(family::TLS_HANDSHAKES.with(handshakes));
        families.push(family::PROXY_PROTOCOL_FAILURES.with(failures));
        families.push(family::HTTP2_GO_AWAYS.with(go_aways));
    }
}

/// Sums the workers' cells when the registry asks.
struct SeriesCollector {
    series: Arc<Series>,
    descriptions: Vec<Desc>,
}

impl SeriesCollector {
    fn new(series: Arc<Series>) -> Self {
        let summed = [
            &family::REQUESTS,
            &family::DENIALS,
            &family::LIMITED,
            &family::WOULD_DENY,
            &family::WOULD_PERMIT,
            &family::REQUEST_DURATION,
            &family::UPSTREAM_REQUESTS,
            &family::UPSTREAM_CONNECTIONS,
            &family::UPSTREAM_REFUSALS,
            &family::UPSTREAM_RETRIES,
            &family::UPSTREAM_DURATION,
            &family::CONNECTIONS,
            &family::ACCEPT_FAILURES,
            &family::TLS_HANDSHAKES,
            &family::PROXY_PROTOCOL_FAILURES,
            &family::HTTP2_GO_AWAYS,
        ];
        let mut descriptions: Vec<Desc> = summed.into_iter().map(family::Family::describe).collect();
        descriptions.extend(control::Observed::describe());
        Self { series, descriptions }
    }
}

impl Collector for SeriesCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = Vec::with_capacity(self.descriptions.len());
        self.series.collect_routes(&mut families);
        self.series.collect_upstreams(&mut families);
        self.series.collect_upstream_totals(&mut families);
        self.series.collect_listeners(&mut families);
        self.series.observed.collect(&mut families);
        families
    }
}

#[cfg(test)]
mod tests;
