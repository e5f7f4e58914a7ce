//! The one place that wires: store, directory, workers, reload, operators' listener; and the order in which they
//! start and stop.
//!
//! Whoever starts an [`App`] gets its bound addresses back and drives it on one control runtime; requests are served
//! on the workers' own threads. Nothing is decided about requests here.

pub mod control_socket;
mod keeper;
mod reload;
mod upstreams;
mod workers;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::{self, Admin};
use crate::config::watch::ConfigWatcher;
use crate::config::{Config, ListenAddress, certificates};
use crate::directory::{self, DirectoryView, OperationError, Store, StoreError};
use crate::explain::{DenialReport, Names};
use crate::identity_token::keys::IdentityKeys;
use crate::lifecycle::notify::{State, notify};
use crate::lifecycle::{Drain, DrainOutcome, Progress, Readiness, SignalEvent, Signals, watchdog};
use crate::listen;
use crate::login::Login;
use crate::ops;
use crate::pipeline::denials::RecentDenials;
use crate::snapshot::{BoundAddresses, Snapshot, SnapshotError};
use crate::telemetry::Metrics;
use crate::telemetry::access_log::{AccessLog, AccessLogError};
use crate::telemetry::log::LogHandle;
use crate::telemetry::metrics::CertificateExpiry;
use crate::telemetry::spans::Spans;
use crate::worker::Shared;
use control_socket::{ControlRequest, ControlSocket, Order};
use keeper::Keeper;
pub use reload::ReloadReport;
use upstreams::UpstreamTasks;
use workers::Workers;

/// How long the access log may take to write its last lines.
const ACCESS_LOG_PATIENCE: Duration = Duration::from_secs(5);

/// A running sidecar.
#[derive(Debug)]
pub struct App {
    config: Config,
    /// Notices changes since before the start; handed over when this runs.
    watcher: Option<ConfigWatcher>,
    /// Files that the last configuration read, good or bad, depends on.
    watched: Vec<PathBuf>,
    addresses: BoundAddresses,
    shared: Arc<Shared>,
    metrics: Arc<Metrics>,
    access_log: Option<Arc<AccessLog>>,
    log: Option<LogHandle>,
    drain: Drain,
    workers: Workers,
    keeper: Keeper,
    upstream_tasks: UpstreamTasks,
    tracing: Tracing,
    /// Watches whether everything gets on, to the end.
    _watching: JoinSet<()>,
    /// The operators' listener; ends with this, also when the start fails half-way.
    ops: JoinSet<()>,
    /// The management API, if the configuration has one; its listener ends with this too.
    admin: Option<Arc<Admin>>,
    admin_listener: JoinSet<()>,
    control_socket: Option<ControlSocket>,
    /// The files of Unix sockets, which go with this.
    _socket_files: Vec<listen::SocketFile>,
}

/// Why the sidecar did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The organization or a project could not be entered.
    #[error("cannot enter the configuration's organization and projects in the directory: {0}")]
    Directory(#[from] OperationError),
    /// Certificates and the like.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The access log.
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    /// An address.
    #[error("cannot listen on {address} ({key}): {source}; {remedy}", remedy = bind_remedy(address, source))]
    Bind {
        /// The address.
        address: ListenAddress,
        /// Its key in the configuration.
        key: String,
        /// What the system said.
        source: io::Error,
    },
    /// The control socket.
    #[error(
        "cannot make the control socket {path:?}, which `postern reload` needs: {source}; {remedy}",
        remedy = control_socket::remedy(source)
    )]
    ControlSocket {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A thread, a runtime or randomness.
    #[error("the system does not give what a worker needs: {0}")]
    System(#[from] io::Error),
}

impl App {
    /// Starts everything: ready to serve when this returns. Must be called within a tokio runtime.
    pub async fn start(config: Config, log: Option<LogHandle>) -> Result<Self, StartError> {
        // First of all: what changes while the directory is being loaded is noticed too.
        let watcher = watch(&config);
        let drain = Drain::new(config.workers);
        let readiness = Readiness::new(drain.clone());
        let metrics = Metrics::new(config.workers);
        let progress = Progress::new(config.workers);
        let mut watching = JoinSet::new();
        watching.spawn(watchdog::watch(Arc::clone(&progress)));
        notify(&State::Loading);
        let ops_listener = bind_control(config.ops.address, "ops.address")?;
        let ops_address = ops_listener.local_addr()?;
        tracing::info!(address = %ops_address, "loading the directory; health is told meanwhile");
        let identity_keys = Arc::<IdentityKeys>::default();
        identity_keys.configure(config.identity_key_rotation);
        let ops_drain = drain.clone();
        let mut ops = JoinSet::new();
        let told = ops::Told {
            metrics: Arc::clone(&metrics),
            readiness: Arc::clone(&readiness),
            progress: Arc::clone(&progress),
            identity_keys: Arc::clone(&identity_keys),
        };
        ops.spawn(ops::serve(ops_listener, told, async move { ops_drain.nothing_alive().await }));

        let (keeper, view) = load(&config, &metrics, &progress).await?;
        readiness.directory_loaded();

        let access_log = start_access_log(&config, &metrics)?;
        let snapshot = Snapshot::new(&config, &view, &metrics, access_log.clone(), None)?;
        publish_certificates(&config, &metrics);
        let denials = RecentDenials::new(config.workers, config.logging.recent_denials);
        let (spans, tracing) = start_tracing(&config, &metrics)?;
        let shared = Shared::new(snapshot, view, denials).with_identity_keys(identity_keys).with_spans(spans);
        let shared = Arc::new(shared);
        observe_upstreams(&shared, &metrics);
        observe_process(&shared, log.as_ref(), &metrics);
        let mut upstream_tasks = UpstreamTasks::new(&metrics);
        upstream_tasks.follow(&shared.snapshot()).await;

        let (admin, admin_listener, admin_address) =
            start_admin(&config, &shared, &keeper, &metrics, &drain)?;
        let mut bound = bind_listeners(&config)?;
        let socket_files = bound.iter_mut().filter_map(|listener| listener.file.take()).collect();
        let control_socket = ControlSocket::bind(&config.store.path)?;
        let addresses = BoundAddresses {
            listeners: bound.iter().map(|listener| listener.address.clone()).collect(),
            ops: ops_address,
            admin: admin_address,
        };
        let workers = Workers::start(&config, bound, &shared, &drain, &metrics, &progress)?;
        readiness.listeners_bound();
        notify(&State::Ready);
        Ok(Self {
            watched: config.referenced_files.clone(),
            watcher,
            config,
            addresses,
            shared,
            metrics,
            access_log,
            log,
            drain,
            workers,
            keeper,
            upstream_tasks,
            tracing,
            _watching: watching,
            ops,
            admin,
            admin_listener,
            control_socket: Some(control_socket),
            _socket_files: socket_files,
        })
    }

    /// Where it listens, ports resolved.
    pub fn addresses(&self) -> &BoundAddresses {
        &self.addresses
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Serves until a signal says stop, reloading when asked; then drains, until a second signal cuts it short.
    /// Returns how the drain ended.
    pub async fn run(mut self, mut signals: Signals) -> DrainOutcome {
        let mut watcher = self.watcher.take();
        let mut control_socket = self.control_socket.take();
        loop {
            tokio::select! {
                event = signals.next() => match event {
                    SignalEvent::Drain | SignalEvent::StopNow => break,
                    SignalEvent::Reload => {
                        self.reload().await;
                        self.reopen_logs();
                        self.follow(&mut watcher);
                    }
                    SignalEvent::ReopenLogs => self.reopen_logs(),
                },
                () = changed(&mut watcher) => {
                    self.reload().await;
                    self.follow(&mut watcher);
                }
                request = asked(&mut control_socket) => match request.order {
                    Order::Reload => {
                        let report = self.reload().await;
                        request.asker.answer(&report).await;
                        self.follow(&mut watcher);
                    }
                    Order::Explain(request_id) => {
                        let explanation = self.explain(&request_id).await;
                        request.asker.answer(&explanation).await;
                    }
                }
            }
        }
        let drain = self.drain.clone();
        let second_signal = async move {
            while signals.next().await != SignalEvent::StopNow {}
            tracing::warn!("a second signal: breaking off what still runs");
            drain.force();
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            outcome = self.stop() => outcome,
            never = second_signal => match never {},
        }
    }

    /// Stops: not ready, no more accepts, what runs finishes within `drain_seconds`, usage is flushed, logs are written.
    pub async fn stop(mut self) -> DrainOutcome {
        let grace = self.config.timeouts.drain;
        tracing::info!(drain_seconds = grace.as_secs(), "draining: no new connections, finishing what runs");
        notify(&State::Stopping { grace });
        let outcome = self.drain.finish(grace).await;
        self.drain.nothing_alive().await;
        self.workers.join();
        // It ends as soon as the drain starts; what it had begun may still change the directory.
        while let Some(ended) = self.admin_listener.join_next().await {
            if let Err(error) = ended {
                tracing::error!(error = %error, "the management API's listener ended early");
            }
        }
        self.keeper.stop();
        self.tracing.stop().await;
        if let Some(access_log) = &self.access_log
            && let Err(error) = access_log.close(ACCESS_LOG_PATIENCE)
        {
            tracing::error!(error = %error, "the access log's last lines may be missing");
        }
        if let Some(Err(error)) = self.ops.join_next().await {
            tracing::error!(error = %error, "the operators' listener ended early");
        }
        match outcome {
            DrainOutcome::Finished => tracing::info!("stopped: everything finished"),
            DrainOutcome::Forced { live } => tracing::warn!(live, "stopped: the grace was over"),
        }
        outcome
    }

    fn follow(&self, watcher: &mut Option<ConfigWatcher>) {
        follow(watcher, &self.watched);
    }

    /// Why a request was refused, if it is remembered. Names are looked up beside the runtime: the store may be slow.
    async fn explain(&self, request_id: &str) -> Option<DenialReport> {
        let recent = self.shared.denials.find(request_id)?;
        let (synchronizer, shared) = (Arc::clone(&self.keeper.synchronizer), Arc::clone(&self.shared));
        let report = tokio::task::spawn_blocking(move || {
            let told = |names: &Names| DenialReport::new(&recent, &shared.directory, names);
            let names =
                synchronizer.store().read(|records| DenialReport::names(records, &shared.directory, &recent));
            // With the store gone, numbers are told in place of names.
            told(&names.unwrap_or_default())
        });
        report.await.ok()
    }

    fn reopen_logs(&self) {
        if let Some(access_log) = &self.access_log {
            access_log.reopen();
        }
    }
}

/// The task that sends traces, if any are sent; it ends with this.
#[derive(Debug)]
struct Tracing {
    ending: watch::Sender<bool>,
    exporter: JoinSet<()>,
}

impl Tracing {
    /// What is queued goes out, if the collector takes it soon.
    async fn stop(&mut self) {
        self.ending.send_replace(true);
        while let Some(ended) = self.exporter.join_next().await {
            if let Err(error) = ended {
                tracing::error!(error = %error, "sending traces ended early");
            }
        }
    }
}

/// Where traces go, if the configuration says so.
fn start_tracing(
    config: &Config,
    metrics: &Arc<Metrics>,
) -> Result<(Option<Arc<Spans>>, Tracing), StartError> {
    let mut running = Tracing { ending: watch::Sender::new(false), exporter: JoinSet::new() };
    let Some(tracing) = &config.tracing else { return Ok((None, running)) };
    let (spans, exporter) = Spans::new(tracing, metrics).map_err(io::Error::other)?;
    running.exporter.spawn(exporter.run(running.ending.subscribe()));
    Ok((Some(spans), running))
}

/// Loads the directory beside the runtime, which meanwhile tells whoever asks that the sidecar is alive and not ready.
async fn load(
    config: &Config,
    metrics: &Arc<Metrics>,
    progress: &Arc<Progress>,
) -> Result<(Keeper, Arc<DirectoryView>), StartError> {
    let (config, metrics, progress) = (config.clone(), Arc::clone(metrics), Arc::clone(progress));
    let loading = tokio::task::spawn_blocking(move || {
        let store = directory::open(&config.store)?;
        Keeper::start(store, &config, metrics, &progress)
    });
    loading.await.map_err(io::Error::other)?
}

/// Watches the configuration file and what it refers to.
fn watch(config: &Config) -> Option<ConfigWatcher> {
    let mut watcher = ConfigWatcher::start(&config.file)
        .inspect_err(|error| {
            tracing::warn!(error = %error, "changes of the configuration file will not be noticed; use `postern reload`");
        })
        .ok();
    follow(&mut watcher, &config.referenced_files);
    watcher
}

fn follow(watcher: &mut Option<ConfigWatcher>, files: &[PathBuf]) {
    if let Some(watching) = watcher
        && let Err(error) = watching.follow(files)
    {
        tracing::warn!(error = %error, "changes of some referenced files will not be noticed");
    }
}

async fn changed(watcher: &mut Option<ConfigWatcher>) {
    match watcher {
        Some(watcher) => watcher.changed().await,
        None => std::future::pending().await,
    }
}

async fn asked(control_socket: &mut Option<ControlSocket>) -> ControlRequest {
    match control_socket {
        Some(socket) => socket.next().await,
        None => std::future::pending().await,
    }
}

/// What an operator can do about an address that cannot be listened on.
fn bind_remedy(address: &ListenAddress, error: &io::Error) -> &'static str {
    if let ListenAddress::Unix(_) = address {
        return match error.kind() {
            io::ErrorKind::AddrInUse => "choose another path, or stop what listens there",
            io::ErrorKind::AlreadyExists => "choose another path, or move the file away",
            io::ErrorKind::NotFound => "make its folder first",
            _ => "choose a path in a folder that postern may write to",
        };
    }
    match error.kind() {
        io::ErrorKind::AddrInUse => "choose another address, or stop what listens there",
        io::ErrorKind::AddrNotAvailable => {
            "choose an address that this machine has, or `0.0.0.0` or `[::]` for all of them"
        }
        io::ErrorKind::PermissionDenied => {
            "choose a port from 1024 on, or give postern the capability CAP_NET_BIND_SERVICE"
        }
        _ => "choose another address",
    }
}

/// The management API, its listener, and where that is; nothing without `[admin]`.
type StartedAdmin = (Option<Arc<Admin>>, JoinSet<()>, Option<SocketAddr>);

fn start_admin(
    config: &Config,
    shared: &Arc<Shared>,
    keeper: &Keeper,
    metrics: &Arc<Metrics>,
    drain: &Drain,
) -> Result<StartedAdmin, StartError> {
    let mut serving = JoinSet::new();
    let settings = admin::Settings::of(config).map_err(SnapshotError::Admin)?;
    let Some(settings) = settings else { return Ok((None, serving, None)) };
    let listener = bind_control(settings.admin.address, "admin.address")?;
    let address = listener.local_addr()?;
    let login = Login::new(&settings.admin.login, &config.store.path, Arc::clone(metrics));
    remember_sources(&login, &**keeper.synchronizer.store());
    let admin = Admin::new(Arc::clone(shared), Arc::clone(&keeper.synchronizer), login, settings);
    let drain = drain.clone();
    serving.spawn(admin::serve(listener, Arc::clone(&admin), async move { drain.started().await }));
    Ok((Some(admin), serving, Some(address)))
}

/// Who logged in from where before the start still counts as known there, whatever strangers try meanwhile.
fn remember_sources(login: &Login, store: &dyn Store) {
    match store.read(|records| records.session_addresses()) {
        Ok(sources) => {
            sources.iter().for_each(|(email, address)| login.throttle.remember(email, *address));
        }
        Err(error) => tracing::warn!(%error, "from where people have logged in before cannot be read"),
    }
}

/// A listener on the control runtime.
fn bind_control(address: SocketAddr, key: &str) -> Result<tokio::net::TcpListener, StartError> {
    let bind = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener)
    };
    bind().map_err(|source| StartError::Bind { address: ListenAddress::Ip(address), key: key.into(), source })
}

fn bind_listeners(config: &Config) -> Result<Vec<listen::BoundListener>, StartError> {
    let bind = |listener: &crate::config::ListenerConfig| {
        listen::bind(&listener.address, config.workers, &config.timeouts_of(listener)).map_err(|source| {
            StartError::Bind {
                address: listener.address.clone(),
                key: format!("listener `{}`", listener.name),
                source,
            }
        })
    };
    config.listeners.iter().map(bind).collect()
}

fn start_access_log(
    config: &Config,
    metrics: &Arc<Metrics>,
) -> Result<Option<Arc<AccessLog>>, AccessLogError> {
    let settings = config.logging.access_log.as_ref();
    settings.map(|settings| AccessLog::start(settings, config.workers, metrics)).transpose()
}

/// Lets a scrape see how the addresses of the upstreams in force are.
fn observe_upstreams(shared: &Arc<Shared>, metrics: &Metrics) {
    // Metrics are kept by what a snapshot has.
    let shared = Arc::downgrade(shared);
    metrics.observe_upstreams(move || {
        let snapshot = shared.upgrade().map(|shared| shared.snapshot());
        let upstreams = snapshot.iter().flat_map(|snapshot| &snapshot.upstreams);
        upstreams.flat_map(|upstream| upstream.figures()).collect()
    });
}

/// Lets a scrape see what the log has lost, and how the clock of decisions is.
fn observe_process(shared: &Arc<Shared>, log: Option<&LogHandle>, metrics: &Metrics) {
    if let Some(log) = log.cloned() {
        metrics.observe_log(move || log.lines_lost());
    }
    let shared = Arc::downgrade(shared);
    metrics.observe_clock(move || {
        let ahead = shared.upgrade().map(|shared| shared.clock.ahead_of(SystemTime::now()));
        u64::from(ahead.unwrap_or(0))
    });
}

/// Tells Prometheus when certificates end.
fn publish_certificates(config: &Config, metrics: &Metrics) {
    let mut expiries = Vec::new();
    for listener in &config.listeners {
        for certificate in listener.tls.iter().flat_map(|tls| &tls.certificates) {
            if let Ok(loaded) = certificates::load(certificate) {
                let seconds = u64::try_from(loaded.not_after).unwrap_or(0);
                expiries.push(CertificateExpiry {
                    listener: listener.name.clone(),
                    certificate: certificate.certificate_file.display().to_string(),
                    expires: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
                });
            }
        }
    }
    metrics.set_certificates(expiries);
}
