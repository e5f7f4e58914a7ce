//! A worker: one thread, one runtime, its own sockets, upstream connections and metric cells.
//!
//! What workers share is in [`Shared`]: read-only snapshots, the directory in memory and atomics. Everything else
//! is behind `Rc`, so that the compiler keeps it on its thread.

mod in_force;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::directory::view::DirectoryView;
use crate::error::response::Answers;
use crate::headers::trace::IdGenerator;
use crate::identity_token::IdentityTokens;
use crate::identity_token::keys::IdentityKeys;
use crate::lifecycle::WorkerDrain;
use crate::pipeline::denials::RecentDenials;
use crate::pipeline::watch::Watches;
use crate::serve::registry::Registry;
use crate::snapshot::Snapshot;
use crate::telemetry::spans::Spans;
use crate::token::usage::RequestCounts;
use crate::upstream::WorkerUpstream;
use in_force::InForce;

/// What all workers read.
#[derive(Debug)]
pub struct Shared {
    snapshot: InForce<Snapshot>,
    /// Tokens, users, organizations and projects.
    pub directory: Arc<DirectoryView>,
    /// The latest denials, with what each was decided on.
    pub denials: RecentDenials,
    /// Seconds that never step back.
    pub clock: Clock,
    /// What signs upstreams' statements of identity.
    pub identity_keys: Arc<IdentityKeys>,
    /// Where traces go; `None`: nothing is traced.
    pub spans: Option<Arc<Spans>>,
}

/// One thread's state.
#[derive(Debug)]
pub struct Worker {
    /// Its number, from 0.
    pub index: usize,
    /// What it shares with the others.
    pub shared: Arc<Shared>,
    /// Makes request ids.
    pub ids: IdGenerator,
    /// Its connections, for timeouts and drain.
    pub registry: Registry,
    /// Requests by token, until they are folded into the tokens' entries.
    pub request_counts: RequestCounts,
    /// Its running requests, for what may end them.
    pub watches: Watches,
    /// Statements of identity that can be shown again.
    pub identity_tokens: IdentityTokens,
    /// When to stop.
    pub drain: WorkerDrain,
    local: RefCell<Rc<LocalSnapshot>>,
    /// Whether the directory was too old to decide by at the last sweep.
    is_directory_stale: Cell<bool>,
}

/// A snapshot with this worker's own connections to its upstreams.
#[derive(Debug)]
pub struct LocalSnapshot {
    generation: u64,
    /// What all workers share.
    pub shared: Arc<Snapshot>,
    /// Upstreams in the configuration's order.
    pub upstreams: Vec<Rc<WorkerUpstream>>,
    /// What Postern says itself.
    pub answers: Answers,
}

/// The clock of policy decisions: a wall clock that steps back never revives an expired token.
#[derive(Debug, Default)]
pub struct Clock {
    latest: AtomicU32,
}

impl Clock {
    /// Seconds since the epoch at `time`, never less than what was returned before.
    pub fn seconds(&self, time: SystemTime) -> u32 {
        let now = seconds_since_epoch(time);
        let latest = self.latest.load(Ordering::Relaxed);
        if now <= latest {
            return latest;
        }
        self.latest.fetch_max(now, Ordering::Relaxed).max(now)
    }

    /// How many seconds it is ahead of `time`: the system's clock has been set back.
    pub fn ahead_of(&self, time: SystemTime) -> u32 {
        self.latest.load(Ordering::Relaxed).saturating_sub(seconds_since_epoch(time))
    }
}

fn seconds_since_epoch(time: SystemTime) -> u32 {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u32::try_from(since_epoch.as_secs()).unwrap_or(u32::MAX)
}

impl Shared {
    /// The shared state with a first snapshot.
    pub fn new(snapshot: Snapshot, directory: Arc<DirectoryView>, denials: RecentDenials) -> Self {
        Self {
            snapshot: InForce::new(snapshot),
            directory,
            denials,
            clock: Clock::default(),
            identity_keys: Arc::default(),
            spans: None,
        }
    }

    /// The same, with traces that go somewhere.
    #[must_use]
    pub fn with_spans(self, spans: Option<Arc<Spans>>) -> Self {
        Self { spans, ..self }
    }

    /// The same with keys that others know too.
    #[must_use]
    pub fn with_identity_keys(self, identity_keys: Arc<IdentityKeys>) -> Self {
        Self { identity_keys, ..self }
    }

    /// Puts a new configuration into force: each worker takes it up with its next request.
    pub fn replace(&self, mut snapshot: Snapshot) {
        snapshot.go_on_from(&self.snapshot.value());
        self.snapshot.replace(snapshot);
    }

    /// How many configurations have been in force before this one.
    pub fn generation(&self) -> u64 {
        self.snapshot.generation()
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.value()
    }
}

impl Worker {
    /// A worker without connections.
    pub fn new(index: usize, shared: Arc<Shared>, drain: WorkerDrain) -> Result<Self, getrandom::Error> {
        let generation = shared.generation();
        let local = LocalSnapshot::new(generation, shared.snapshot(), index, &[]);
        Ok(Self {
            index,
            ids: IdGenerator::seeded()?,
            registry: Registry::default(),
            request_counts: RequestCounts::default(),
            watches: Watches::default(),
            identity_tokens: IdentityTokens::default(),
            drain,
            local: RefCell::new(Rc::new(local)),
            is_directory_stale: Cell::new(shared.directory.status.is_stale()),
            shared,
        })
    }

    /// The configuration in force, with this worker's connections: one comparison unless it has changed.
    pub fn snapshot(&self) -> Rc<LocalSnapshot> {
        let generation = self.shared.generation();
        let mut local = self.local.borrow_mut();
        if local.generation != generation {
            *local =
                Rc::new(LocalSnapshot::new(generation, self.shared.snapshot(), self.index, &local.upstreams));
        }
        Rc::clone(&local)
    }

    /// Ends requests that would not be let in any more, closes upstream connections that are idle for too long, and tells the
    /// directory what was counted.
    pub fn sweep(&self, now: Instant) {
        let is_directory_stale = self.shared.directory.status.is_stale();
        if self.is_directory_stale.replace(is_directory_stale) != is_directory_stale {
            self.tell_staleness(is_directory_stale);
        }
        self.watches.look(&self.shared, self.shared.clock.seconds(SystemTime::now()), is_directory_stale);
        self.snapshot().upstreams.iter().for_each(|upstream| upstream.sweep(now));
        self.fold_counts();
    }

    /// One worker speaks for all of them.
    #[cold]
    fn tell_staleness(&self, is_directory_stale: bool) {
        let age_seconds = self.shared.directory.status.age().as_secs();
        match (self.index, is_directory_stale) {
            (0, true) => tracing::error!(
                age_seconds,
                "the store has not been heard for longer than store.stale_after_seconds: no token is let in until it is"
            ),
            (0, false) => tracing::info!("the directory is new enough to decide by again"),
            _ => {}
        }
    }

    /// Whether the directory is too old to decide by. As of the last sweep, so that requests do not look at a clock for it.
    #[inline]
    pub fn is_directory_stale(&self) -> bool {
        self.is_directory_stale.get()
    }

    /// Tells the directory what was counted since the last time.
    pub fn fold_counts(&self) {
        self.request_counts.fold(&self.shared.directory.tokens, &self.shared.directory.usage);
    }
}

impl LocalSnapshot {
    /// How many configurations have been in force before this one.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Connections to an upstream that did not change are kept.
    fn new(generation: u64, shared: Arc<Snapshot>, worker: usize, before: &[Rc<WorkerUpstream>]) -> Self {
        let upstreams = shared
            .upstreams
            .iter()
            .map(|upstream| {
                let unchanged = before.iter().find(|kept| Arc::ptr_eq(&kept.shared, upstream));
                unchanged
                    .map_or_else(|| Rc::new(WorkerUpstream::new(Arc::clone(upstream), worker)), Rc::clone)
            })
            .collect();
        let answers = Answers::new(Arc::clone(&shared.realm));
        Self { generation, shared, upstreams, answers }
    }
}

#[cfg(test)]
mod tests {
    //! The clock never steps back.

    use std::time::{Duration, SystemTime};

    use super::Clock;

    #[test]
    fn a_clock_that_steps_back_stays_where_it_was() {
        let clock = Clock::default();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(clock.seconds(at(100)), 100);
        assert_eq!(clock.seconds(at(90)), 100);
        assert_eq!((clock.ahead_of(at(90)), clock.ahead_of(at(110))), (10, 0));
        assert_eq!(clock.seconds(at(101)), 101);
        assert_eq!(clock.seconds(SystemTime::UNIX_EPOCH - Duration::from_secs(5)), 101);
    }
}
