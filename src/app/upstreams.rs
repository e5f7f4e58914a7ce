//! What goes on about upstreams without a request: active checks, and names that are looked up again. On the control runtime,
//! for as long as the upstream is in force.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use crate::config::HealthConfig;
use crate::snapshot::Snapshot;
use crate::telemetry::Metrics;
use crate::telemetry::log::with_causes;
use crate::telemetry::metrics::{CheckOutcome, ResolutionOutcome};
use crate::upstream::check::CheckError;
use crate::upstream::health::Turn;
use crate::upstream::resolve::{self, Families, Found, ResolveError};
use crate::upstream::target::Place;
use crate::upstream::{Target, Upstream, check};

/// How long a start or reload waits for names to be looked up. Then requests are served without.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// How soon a name is looked up again after a failure: twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The running tasks; they end with this.
#[derive(Debug)]
pub(super) struct UpstreamTasks {
    running: JoinSet<()>,
    followed: Vec<Followed>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Followed {
    upstream: Arc<Upstream>,
    tasks: Vec<AbortHandle>,
}

/// One endpoint's name, and what it is to be looked up for.
struct Name {
    upstream: Arc<Upstream>,
    endpoint: usize,
    host: String,
    port: u16,
}

impl UpstreamTasks {
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        Self { running: JoinSet::new(), followed: Vec::new(), metrics: Arc::clone(metrics) }
    }

    /// Looks after the upstreams of this snapshot, and no others. What goes on about one that stays, goes on. Waits, not for
    /// long, until new names have been looked up once.
    pub(super) async fn follow(&mut self, snapshot: &Snapshot) {
        // Those that have ended were aborted.
        while self.running.try_join_next().is_some() {}
        self.followed.retain(|followed| {
            let stays = snapshot.upstreams.iter().any(|upstream| Arc::ptr_eq(upstream, &followed.upstream));
            if !stays {
                followed.tasks.iter().for_each(AbortHandle::abort);
            }
            stays
        });
        let (looking, mut looked) = mpsc::channel(1);
        for upstream in &snapshot.upstreams {
            if !self.followed.iter().any(|followed| Arc::ptr_eq(&followed.upstream, upstream)) {
                let tasks = self.start(upstream, &looking);
                self.followed.push(Followed { upstream: Arc::clone(upstream), tasks });
            }
        }
        drop(looking);
        // Nothing is sent: it ends once everybody has let go of the other side.
        let _in_time: Result<Option<()>, _> = tokio::time::timeout(FIRST_LOOK, looked.recv()).await;
    }

    fn start(&mut self, upstream: &Arc<Upstream>, looking: &mpsc::Sender<()>) -> Vec<AbortHandle> {
        let mut tasks = Vec::new();
        for (endpoint, config) in upstream.config.endpoints.iter().enumerate() {
            let Place::Name { host, port } = Place::of(config) else { continue };
            let name = Name { upstream: Arc::clone(upstream), endpoint, host, port };
            let resolving = keep_resolving(name, Arc::clone(&self.metrics), looking.clone());
            tasks.push(self.running.spawn(resolving));
        }
        if let Some(settings) = upstream.config.health.clone() {
            let checking = keep_checking(Arc::clone(upstream), settings, Arc::clone(&self.metrics));
            tasks.push(self.running.spawn(checking));
        }
        tasks
    }
}

/// Looks a name up, over and over: when its TTL is over, and soon after a failure. `looking` is let go of after the first time.
async fn keep_resolving(name: Name, metrics: Arc<Metrics>, looking: mpsc::Sender<()>) {
    let mut looking = Some(looking);
    let mut failures = 0;
    loop {
        let found = resolve::look_up(&name.host, &name.upstream.config.resolvers).await;
        let taking = match &found {
            Ok(found) => resolve::families(&found.addresses, name.port).await,
            Err(_) => Families::default(),
        };
        let pause = name.take_note(found, taking, &mut failures, &metrics);
        drop(looking.take());
        tokio::time::sleep(pause).await;
    }
}

impl Name {
    /// Puts what was found into force, and says so. How long it is good for.
    fn take_note(
        &self,
        found: Result<Found, ResolveError>,
        taking: Families,
        failures: &mut u32,
        metrics: &Metrics,
    ) -> Duration {
        let (upstream, endpoint) = (&self.upstream.name, &self.upstream.endpoints[self.endpoint].label);
        let outcome = if found.is_ok() { ResolutionOutcome::Found } else { ResolutionOutcome::Failed };
        metrics.control().upstream_resolved(upstream, endpoint, outcome);
        match found {
            Ok(found) => {
                if std::mem::take(failures) > 0 {
                    tracing::info!(%upstream, %endpoint, "an upstream's name can be looked up again");
                }
                let change = self.upstream.state.resolved(self.endpoint, self.port, &found.addresses, taking);
                if let Some(change) = change {
                    let (added, removed) = (&change.added, &change.removed);
                    tracing::info!(%upstream, %endpoint, ?added, ?removed, "an upstream's name has other addresses");
                }
                found.again_after
            }
            Err(error) => {
                if *failures == 0 {
                    let error = with_causes(&error);
                    tracing::warn!(
                        %upstream,
                        %endpoint,
                        error,
                        "an upstream's name cannot be looked up; its last addresses stay in use"
                    );
                }
                *failures += 1;
                FIRST_PAUSE.saturating_mul(1 << (*failures - 1).min(10)).min(LONGEST_PAUSE)
            }
        }
    }
}

/// Checks all of an upstream's addresses, over and over. They are checked side by side, and a round takes no longer than
/// one check's timeout, which is no longer than the interval: what hangs delays nothing.
async fn keep_checking(upstream: Arc<Upstream>, settings: HealthConfig, metrics: Arc<Metrics>) {
    let mut rounds = tokio::time::interval(settings.interval);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let settings = Arc::new(settings);
    loop {
        rounds.tick().await;
        let mut round = JoinSet::new();
        for target in upstream.state.targets().iter() {
            let (upstream, target) = (Arc::clone(&upstream), Arc::clone(target));
            let (settings, metrics) = (Arc::clone(&settings), Arc::clone(&metrics));
            round.spawn(async move { check_once(&upstream, &target, &settings, &metrics).await });
        }
        while round.join_next().await.is_some() {}
    }
}

async fn check_once(upstream: &Upstream, target: &Target, settings: &HealthConfig, metrics: &Metrics) {
    let checked = check::check(upstream, target, settings).await;
    let endpoint = &upstream.endpoints[target.endpoint].label;
    let outcome = if checked.is_ok() { CheckOutcome::Passed } else { CheckOutcome::Failed };
    metrics.control().upstream_checked(&upstream.name, endpoint, outcome);
    let (name, address) = (&upstream.name, &target.place);
    if let Err(CheckError::Connect(error)) = &checked
        && error.is_shortage()
    {
        // Nobody was asked: what is known of the address stays.
        let error = with_causes(error);
        tracing::debug!(upstream = %name, %endpoint, %address, error, "a check could not be made");
        return;
    }
    match (target.health.checked(checked.is_ok(), settings), checked) {
        (Some(Turn::Worse), Err(error)) => {
            let error = with_causes(&error);
            tracing::warn!(upstream = %name, %endpoint, %address, error, "an upstream's address is unhealthy");
        }
        (Some(Turn::Better), _) => {
            if upstream.config.ejection.is_some() {
                target.health.return_slowly(upstream.state.milliseconds(Instant::now()));
            }
            tracing::info!(upstream = %name, %endpoint, %address, "an upstream's address is healthy again");
        }
        (None, Err(error)) => {
            tracing::debug!(upstream = %name, %endpoint, %address, %error, "a check failed");
        }
        (Some(Turn::Worse), Ok(())) | (None, Ok(())) => {}
    }
}
