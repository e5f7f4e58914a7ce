//! The one place that wires: store, directory, workers, reload, operators' listener; and the order in which they
//! start and stop.
//!
//! Whoever starts an [`App`] gets its bound addresses back and drives it on one control runtime; requests are served
//! on the workers' own threads. Nothing is decided about requests here.

pub mod control_socket;
mod figures;
pub mod hand_over;
mod keeper;
mod management;
mod operators;
mod reload;
mod replacement;
mod sockets;
mod start_error;
mod traces;
mod upstreams;
mod watching;
mod workers;

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::admin::{self, Admin};
use crate::config::Config;
use crate::config::watch::ConfigWatcher;
use crate::directory::{self, DirectoryView};
use crate::explain::{DenialReport, Names};
use crate::identity_token::keys::IdentityKeys;
use crate::lifecycle::notify::{State, notify};
use crate::lifecycle::{Drain, DrainOutcome, Progress, Readiness, SignalEvent, Signals, watchdog};
use crate::listen::inherited::{Inherited, Purpose};
use crate::ops;
use crate::pipeline::denials::RecentDenials;
use crate::snapshot::{BoundAddresses, Snapshot};
use crate::telemetry::Metrics;
use crate::telemetry::access_log::{AccessLog, AccessLogError};
use crate::telemetry::log::LogHandle;
use crate::telemetry::metrics::HandOverOutcome;
use crate::worker::Shared;
use control_socket::{ControlRequest, ControlSocket, Order};
use figures::{observe_process, observe_upstreams, publish_certificates};
use hand_over::Program;
use keeper::Keeper;
use management::make_admin;
use operators::Operators;
pub use reload::ReloadReport;
use replacement::{note_reload, prepared};
use sockets::{ControlListener, Passing, Places};
pub use start_error::StartError;
use traces::{Tracing, start_tracing};
use upstreams::UpstreamTasks;
use watching::{changed, follow, watch};
use workers::Workers;

/// How long the access log may take to write its last lines.
const ACCESS_LOG_PATIENCE: Duration = Duration::from_secs(5);

/// Behind a successor, idle connections stay open for this part of the grace.
const IDLE_SHARE: u32 = 2;

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
    /// Watches whether everything gets on, to the end, or until another process is the service.
    watching: JoinSet<()>,
    /// The operators' listener; ends with this, also when the start fails half-way.
    operators: Operators,
    /// The management API, if the configuration has one; its listener ends with this too.
    admin: Option<Arc<Admin>>,
    admin_listener: JoinSet<()>,
    /// The same before it accepts.
    admin_unopened: Option<ControlListener>,
    control_socket: Option<ControlSocket>,
    readiness: Arc<Readiness>,
    /// All that is listened on, for the process that follows.
    passing: Passing,
    /// What it has inherited.
    took: Vec<Purpose>,
    /// What to start when this is to be replaced.
    program: Option<Program>,
}

impl App {
    /// Starts everything: serves when this returns. Must be called within a tokio runtime.
    pub async fn start(config: Config, log: Option<LogHandle>) -> Result<Self, StartError> {
        let mut app = Self::prepare(config, log, Inherited::default()).await?;
        app.open();
        Ok(app)
    }

    /// Makes everything ready to serve, on sockets that somebody else has bound where there are some. Nothing is accepted before
    /// [`App::open`], but by the operators' listener, and not even there if the sockets are still in use by another process. Must
    /// be called within a tokio runtime.
    pub async fn prepare(
        config: Config,
        log: Option<LogHandle>,
        inherited: Inherited,
    ) -> Result<Self, StartError> {
        // First of all: what changes while the directory is being loaded is noticed too.
        let watcher = watch(&config);
        let places = Places::assign(inherited, &config)?;
        let mut passing = Passing::default();
        let drain = Drain::new(config.workers);
        let readiness = Readiness::new(drain.clone());
        let metrics = Metrics::new(config.workers);
        let progress = Progress::new(config.workers);
        let mut watching = JoinSet::new();
        watching.spawn(watchdog::watch(Arc::clone(&progress)));
        notify(&State::Loading);
        let is_ops_in_use = places.are_in_use && !places.ops.sockets.is_empty();
        let ops_listener = sockets::bind_control(config.ops.address, Purpose::Ops, places.ops, &mut passing)?;
        let ops_address = ops_listener.local_addr()?;
        let identity_keys = Arc::<IdentityKeys>::default();
        identity_keys.configure(config.identity_key_rotation);
        let told = ops::Told {
            metrics: Arc::clone(&metrics),
            readiness: Arc::clone(&readiness),
            progress: Arc::clone(&progress),
            identity_keys: Arc::clone(&identity_keys),
        };
        let mut operators = Operators::new(ops_listener, told, drain.clone());
        if is_ops_in_use {
            tracing::info!(address = %ops_address, "loading the directory");
        } else {
            tracing::info!(address = %ops_address, "loading the directory; health is told meanwhile");
            operators.open();
        }

        let (keeper, view) = load(&config, &metrics, &progress).await?;
        view.status.allow_age(config.store.stale_after);
        readiness.directory_loaded(Arc::clone(&view));

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

        let admin = make_admin(&config, &shared, &keeper, &metrics)?;
        let admin_unopened = match &config.admin {
            Some(admin) => {
                Some(sockets::bind_control(admin.address, Purpose::Admin, places.admin, &mut passing)?)
            }
            None => None,
        };
        let bound = sockets::bind_listeners(&config, places.listeners, &mut passing)?;
        let control_socket = ControlSocket::adopt(&config.store.path, places.control)?;
        passing.keep(Purpose::Control, true, &control_socket)?;
        let addresses = BoundAddresses {
            listeners: bound.iter().map(|listener| listener.address.clone()).collect(),
            ops: ops_address,
            admin: admin_unopened.as_ref().map(ControlListener::local_addr).transpose()?,
        };
        let workers = Workers::start(&config, bound, &shared, &drain, &metrics, &progress).await?;
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
            watching,
            operators,
            admin,
            admin_listener: JoinSet::new(),
            admin_unopened,
            control_socket: Some(control_socket),
            readiness,
            passing,
            took: places.took,
            program: None,
        })
    }

    /// Accepts from all sockets. Again: does nothing.
    pub fn open(&mut self) {
        self.workers.open();
        if let (Some(admin), Some(listener)) = (&self.admin, self.admin_unopened.take()) {
            let drain = self.drain.clone();
            let ending = async move { drain.nothing_new().await };
            self.admin_listener.spawn(admin::serve(listener, Arc::clone(admin), ending));
        }
        self.readiness.listeners_bound();
        self.operators.open();
    }

    /// What the sockets were for that it has inherited.
    pub fn took(&self) -> &[Purpose] {
        &self.took
    }

    /// The process before this one accepts nothing more: takes up what concerned only that one until now, and accepts.
    pub async fn take_over(&mut self, taken_over: hand_over::TakenOver) {
        self.passing.set_modes(&self.config);
        self.open();
        self.metrics.control().handed_over(HandOverOutcome::TakenOver);
        // It may have been rotated after this process opened it.
        self.reopen_logs();
        if taken_over.reload {
            self.reload().await;
        }
    }

    /// Where it listens, ports resolved.
    pub fn addresses(&self) -> &BoundAddresses {
        &self.addresses
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Serves until a signal says stop or another process has taken over, reloading when asked; then drains, until a second
    /// signal cuts it short. Returns how the drain ended.
    pub async fn run(mut self, mut signals: Signals) -> DrainOutcome {
        let mut watcher = self.watcher.take();
        let mut control_socket = self.control_socket.take();
        let mut hand_over = None;
        let successor = loop {
            tokio::select! {
                event = signals.next() => match event {
                    SignalEvent::Drain | SignalEvent::StopNow => break None,
                    SignalEvent::Reload => {
                        self.reload().await;
                        self.reopen_logs();
                        self.follow(&mut watcher);
                        note_reload(&mut hand_over);
                    }
                    SignalEvent::ReopenLogs => self.reopen_logs(),
                    SignalEvent::HandOver => self.hand_over(&mut hand_over, None, hand_over::PATIENCE).await,
                },
                () = changed(&mut watcher) => {
                    self.reload().await;
                    self.follow(&mut watcher);
                    note_reload(&mut hand_over);
                }
                request = asked(&mut control_socket) => match request.order {
                    Order::Reload => {
                        let report = self.reload().await;
                        request.asker.answer(&report).await;
                        self.follow(&mut watcher);
                        note_reload(&mut hand_over);
                    }
                    Order::Upgrade(patience) => {
                        self.hand_over(&mut hand_over, Some(request.asker), patience).await;
                    }
                    Order::Explain(request_id) => {
                        let explanation = self.explain(&request_id).await;
                        request.asker.answer(&explanation).await;
                    }
                },
                prepared = prepared(&mut hand_over) => {
                    let Some(ended) = hand_over.take() else { continue };
                    if let Some(successor) = self.conclude(ended, prepared).await {
                        break Some(successor);
                    }
                }
            }
        };
        // A new process that is not ready yet is not waited for any more, and ends.
        drop(hand_over);
        let drain = self.drain.clone();
        let further_signals = async move {
            loop {
                match signals.next().await {
                    SignalEvent::StopNow => break,
                    // Behind a successor: idle connections need not be waited for.
                    SignalEvent::Drain => drain.start(),
                    SignalEvent::Reload | SignalEvent::ReopenLogs | SignalEvent::HandOver => {}
                }
            }
            tracing::warn!("a second signal: breaking off what still runs");
            drain.force();
            std::future::pending::<Infallible>().await
        };
        let stopping = async move {
            match successor {
                Some(successor) => {
                    self.leave_to(&successor, control_socket);
                    self.stop_behind().await
                }
                None => {
                    // Its file goes only if nobody holds its socket any more.
                    self.passing.close();
                    drop(control_socket);
                    self.stop().await
                }
            }
        };
        tokio::select! {
            outcome = stopping => outcome,
            never = further_signals => match never {},
        }
    }

    /// Stops: not ready, no more accepts, what runs finishes within `drain_seconds`, usage is flushed, logs are written.
    pub async fn stop(mut self) -> DrainOutcome {
        let grace = self.config.timeouts.drain;
        tracing::info!(drain_seconds = grace.as_secs(), "draining: no new connections, finishing what runs");
        notify(&State::Stopping { grace });
        self.passing.close();
        let outcome = self.drain.finish(grace).await;
        self.end(outcome).await
    }

    /// The same where another process accepts from the same sockets: idle connections are not closed at once, since a
    /// request may be under way on any of them, but with their next answer, or in the end.
    async fn stop_behind(self) -> DrainOutcome {
        let grace = self.config.timeouts.drain;
        tracing::info!(drain_seconds = grace.as_secs(), "handed over: finishing what runs");
        let outcome = self.drain.leave_and_finish(grace / IDLE_SHARE, grace).await;
        self.end(outcome).await
    }

    async fn end(mut self, outcome: DrainOutcome) -> DrainOutcome {
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
        self.operators.ended().await;
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

async fn asked(control_socket: &mut Option<ControlSocket>) -> ControlRequest {
    match control_socket {
        Some(socket) => socket.next().await,
        None => std::future::pending().await,
    }
}

fn start_access_log(
    config: &Config,
    metrics: &Arc<Metrics>,
) -> Result<Option<Arc<AccessLog>>, AccessLogError> {
    let settings = config.logging.access_log.as_ref();
    settings.map(|settings| AccessLog::start(settings, config.workers, metrics)).transpose()
}
