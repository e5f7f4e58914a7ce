//! The directory's keeper: one thread that brings the store's changes into memory and usage into the store.
//!
//! All blocking work with the store happens here, in order, so that changes are applied by one applier only.

mod clock;
mod housekeeping;

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use self::housekeeping::{Housekeeping, Wanted};
use super::StartError;
use crate::config::{Config, OrganizationConfig};
use crate::directory::model::Timestamp;
use crate::directory::sync::PinnedPolicies;
use crate::directory::{
    Author, AuthoredStore, Channel, DirectoryView, OperationError, Store, StoreError, Synchronizer,
    operations,
};
use crate::lifecycle::Progress;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::DirectoryFigures;
use crate::token::TokenKind;

/// How often the store is asked for changes by other processes: they are in force well within 250 ms.
const POLL: Duration = Duration::from_millis(50);

/// How long usage may wait for somebody to let go of the store before that is a failure. Asked for in small pieces: revocations come into
/// force meanwhile.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// How soon a flush that failed is tried again, if the configured interval is longer.
const FLUSH_AGAIN: Duration = Duration::from_secs(1);

/// The keeper's thread, and how to talk to it.
#[derive(Debug)]
pub(super) struct Keeper {
    /// For those who change the directory and wait until it is in force.
    pub(super) synchronizer: Arc<Synchronizer>,
    orders: Sender<Order>,
    thread: JoinHandle<()>,
}

/// What the keeper is asked to do besides keeping.
enum Order {
    /// Enter a new configuration's organization and projects, and pin or free its policy.
    Declare(Box<Declaration>, oneshot::Sender<Result<(), OperationError>>),
    /// Flush usage and end.
    Stop,
}

/// What a configuration declares to the directory.
#[derive(Clone, Debug)]
pub(super) struct Declaration {
    organization: OrganizationConfig,
    projects: Vec<String>,
    flush_interval: Duration,
    housekeeping: Wanted,
}

impl Declaration {
    /// The organization, the projects its routes name, and its pinned policy.
    pub(super) fn of(config: &Config) -> Self {
        let mut projects: Vec<String> =
            config.routes.iter().map(|route| route.project.clone()).filter(|name| !name.is_empty()).collect();
        projects.sort_unstable();
        projects.dedup();
        Self {
            organization: config.organization.clone(),
            projects,
            flush_interval: config.usage.flush_interval,
            housekeeping: Wanted { events: config.events, tokens: config.tokens },
        }
    }

    /// Whether the directory has all of it once `entered` has been entered.
    fn is_within(&self, entered: &Self) -> bool {
        self.organization.id == entered.organization.id
            && self.projects.iter().all(|project| entered.projects.contains(project))
    }

    /// Enters organization and projects; what is there stays as it is.
    pub(super) fn enter(&self, store: &Arc<dyn Store>) -> Result<(), OperationError> {
        let store = &AuthoredStore::new(Arc::clone(store), Author::of(Channel::Configuration));
        let now = Timestamp::now();
        operations::ensure_organization(store, &self.organization.id, &self.organization.name, now)?;
        for project in &self.projects {
            operations::ensure_project(store, project, &self.organization.id, now)?;
        }
        Ok(())
    }

    fn pinned(&self) -> PinnedPolicies {
        let policy = self.organization.authentication.clone();
        policy.map(|policy| (self.organization.id.clone(), policy)).into_iter().collect()
    }
}

struct Kept {
    store: Arc<dyn Store>,
    synchronizer: Arc<Synchronizer>,
    view: Arc<DirectoryView>,
    metrics: Arc<Metrics>,
    /// What the configuration in force declares.
    declared: Declaration,
    housekeeping: Housekeeping,
    last_flush: Instant,
    /// Since when usage waits for somebody else to let go of the store.
    flush_waits_since: Option<Instant>,
    /// Whether the last poll or the last flush failed: failures are logged when they begin and when they end.
    is_failing: bool,
    /// Whether the last flush failed; polls that go well in between do not end that.
    is_flush_failing: bool,
    /// Whether the store is not the one that is in memory: no usage may be written.
    usage_has_no_place: bool,
    /// Unreadable records that the metric has been told of.
    errors_seen: u64,
}

impl Keeper {
    /// Loads the directory and starts keeping it.
    pub(super) fn start(
        store: Arc<dyn Store>,
        config: &Config,
        metrics: Arc<Metrics>,
        progress: &Arc<Progress>,
    ) -> Result<(Self, Arc<DirectoryView>), StartError> {
        let declaration = Declaration::of(config);
        declaration.enter(&store)?;
        let (synchronizer, view) = Synchronizer::start(Arc::clone(&store), declaration.pinned())?;
        let synchronizer = Arc::new(synchronizer);
        observe(&metrics, &view);
        let mut kept = Kept {
            store,
            synchronizer: Arc::clone(&synchronizer),
            view: Arc::clone(&view),
            metrics,
            housekeeping: Housekeeping::new(declaration.housekeeping),
            declared: declaration,
            last_flush: Instant::now(),
            flush_waits_since: None,
            is_failing: false,
            is_flush_failing: false,
            usage_has_no_place: false,
            errors_seen: 0,
        };
        let (orders, inbox) = mpsc::channel();
        let pulse = progress.of_keeper();
        let thread = thread::Builder::new().name("directory".into()).spawn(move || {
            loop {
                match inbox.recv_timeout(POLL) {
                    Ok(Order::Declare(declaration, reply)) => {
                        // Whoever asked may have gone.
                        let _unheard = reply.send(kept.declare(*declaration));
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                }
                // Without this thread no revocation would come into force, and nobody would notice.
                if panic::catch_unwind(AssertUnwindSafe(|| kept.keep())).is_err() {
                    kept.metrics.control().directory_error();
                    tracing::error!(
                        "keeping the directory in step panicked; trying on (this is a defect of Postern)"
                    );
                }
                pulse.beat(Instant::now());
            }
            kept.flush_last();
            pulse.finish();
        })?;
        Ok((Self { synchronizer, orders, thread }, view))
    }

    /// Enters what a new configuration declares; ready when it is in force. Takes as long as the store does.
    pub(super) async fn declare(&self, declaration: Declaration) -> io::Result<Result<(), OperationError>> {
        let (reply, answer) = oneshot::channel();
        let ended = || io::Error::other("the directory's thread has ended");
        self.orders.send(Order::Declare(Box::new(declaration), reply)).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())
    }

    /// Flushes usage and ends the thread.
    pub(super) fn stop(self) {
        // If the thread has ended by itself there is nothing left to stop.
        let _ended = self.orders.send(Order::Stop);
        if self.thread.join().is_err() {
            tracing::error!("the directory's thread panicked");
        }
    }
}

impl Kept {
    fn keep(&mut self) {
        let mut failed = self.synchronizer.apply_pending().err();
        self.usage_has_no_place = failed.as_ref().is_some_and(is_another_store);
        if !self.usage_has_no_place && self.last_flush.elapsed() >= self.flush_interval() {
            failed = failed.or(self.flush_in_turn());
        }
        if failed.is_none() {
            failed = self.keep_house();
        }
        if let Some(error) = &failed {
            self.metrics.control().directory_error();
            if !self.is_failing {
                tracing::error!(error = %error, "the store fails; requests go on being decided from memory");
            }
        }
        let is_failing = failed.is_some() || self.is_flush_failing;
        if self.is_failing && !is_failing {
            tracing::info!("the store works again");
        }
        self.is_failing = is_failing;
        let errors = self.view.status.errors_total();
        for _ in self.errors_seen..errors {
            self.metrics.control().directory_error();
        }
        self.errors_seen = errors;
    }

    /// One small step of each thing that is done now and then.
    fn keep_house(&mut self) -> Option<StoreError> {
        self.housekeeping.look_at_clock();
        let mirrored = self.housekeeping.mirror(&*self.store);
        let pruned = self.housekeeping.prune(&*self.store);
        let failed = mirrored.and(pruned).err();
        if failed.is_some() || !self.housekeeping.wants_to_expire() {
            return failed;
        }
        // What was used lately must be known to the store before it says what was not.
        match self.flush() {
            None => {}
            // Asked again at the next look.
            Some(StoreError::Locked { .. }) => return None,
            failed => return failed,
        }
        let organization_id = &self.declared.organization.id;
        match self.housekeeping.expire(&self.store, &self.view, organization_id) {
            Ok(false) => None,
            Ok(true) => self.synchronizer.apply_pending().err(),
            Err(OperationError::Store(error)) => Some(error),
            Err(error) => {
                tracing::error!(%error, "unused tokens could not be revoked");
                None
            }
        }
    }

    /// The configured one; after a failure no longer than it takes to notice soon that the store works again.
    fn flush_interval(&self) -> Duration {
        let configured = self.declared.flush_interval;
        if self.is_flush_failing { configured.min(FLUSH_AGAIN) } else { configured }
    }

    /// Flushes, or leaves it for the next look while somebody else writes, for as long as that is no failure.
    fn flush_in_turn(&mut self) -> Option<StoreError> {
        let failed = self.flush();
        if let Some(StoreError::Locked { .. }) = failed {
            let waits_since = *self.flush_waits_since.get_or_insert_with(Instant::now);
            if waits_since.elapsed() < FLUSH_PATIENCE {
                return None;
            }
        }
        self.flush_waits_since = None;
        self.is_flush_failing = failed.is_some();
        self.last_flush = Instant::now();
        failed
    }

    fn flush(&mut self) -> Option<StoreError> {
        match self.view.usage.flush(&self.view.tokens, &*self.store) {
            Ok(flushed) if flushed.tokens == 0 => None,
            Ok(flushed) => {
                self.metrics.control().usage_flushed(flushed.tokens as u64, flushed.duration);
                None
            }
            Err(error) => Some(error),
        }
    }

    /// The flush of a stop: there is no next one to make up for it.
    fn flush_last(&mut self) {
        let started = Instant::now();
        let failed = loop {
            let failed = if self.usage_has_no_place { None } else { self.flush() };
            let is_locked = matches!(failed, Some(StoreError::Locked { .. }));
            if !is_locked || started.elapsed() >= FLUSH_PATIENCE {
                break failed;
            }
        };
        let pending = self.view.usage.pending();
        if pending > 0 {
            let error = failed.map(tracing::field::display);
            tracing::error!(
                error,
                tokens = pending,
                "the last uses of some tokens could not be written and are lost"
            );
        }
    }

    /// Asks the store only for what is new: with the store gone, everything else can still be reloaded.
    fn declare(&mut self, declaration: Declaration) -> Result<(), OperationError> {
        if !declaration.is_within(&self.declared) {
            declaration.enter(&self.store)?;
            self.synchronizer.apply_pending()?;
        }
        let OrganizationConfig { id, authentication, .. } = &declaration.organization;
        if *id != self.declared.organization.id {
            self.synchronizer.pin_policy(&self.declared.organization.id, None);
        }
        self.synchronizer.pin_policy(id, authentication.clone());
        self.housekeeping.declare(declaration.housekeeping);
        self.declared = declaration;
        Ok(())
    }
}

/// Whether the store has another past than what is in memory, whose tokens' numbers may be those of others there; or another file is in
/// its place, and what is written to the one that is open is lost.
fn is_another_store(error: &StoreError) -> bool {
    matches!(error, StoreError::Rewound { .. } | StoreError::Truncated { .. } | StoreError::Replaced { .. })
}

/// Lets a scrape read the directory's figures.
fn observe(metrics: &Metrics, view: &Arc<DirectoryView>) {
    let view = Arc::clone(view);
    metrics.observe_directory(move || DirectoryFigures {
        application_tokens: view.tokens.unrevoked(TokenKind::Application) as u64,
        personal_tokens: view.tokens.unrevoked(TokenKind::Personal) as u64,
        session_tokens: view.tokens.unrevoked(TokenKind::Session) as u64,
        sequence: view.status.sequence().0,
        age: Some(view.status.age()),
        usage_pending: view.usage.pending() as u64,
    });
}
