//! What goes on about upstreams without a request: active checks. One task an upstream, on the control runtime, for as
//! long as the upstream is in force.

use std::sync::Arc;
use std::time::Instant;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use crate::config::HealthConfig;
use crate::snapshot::Snapshot;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::CheckOutcome;
use crate::upstream::health::Turn;
use crate::upstream::{Target, Upstream, check};

/// The running tasks; they end with this.
#[derive(Debug)]
pub(super) struct UpstreamTasks {
    running: JoinSet<()>,
    followed: Vec<(Arc<Upstream>, AbortHandle)>,
    metrics: Arc<Metrics>,
}

impl UpstreamTasks {
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        Self { running: JoinSet::new(), followed: Vec::new(), metrics: Arc::clone(metrics) }
    }

    /// Looks after the upstreams of this snapshot, and no others. What goes on about one that stays, goes on.
    pub(super) fn follow(&mut self, snapshot: &Snapshot) {
        // Those that have ended were aborted.
        while self.running.try_join_next().is_some() {}
        self.followed.retain(|(followed, task)| {
            let stays = snapshot.upstreams.iter().any(|upstream| Arc::ptr_eq(upstream, followed));
            if !stays {
                task.abort();
            }
            stays
        });
        for upstream in &snapshot.upstreams {
            let is_followed = self.followed.iter().any(|(followed, _)| Arc::ptr_eq(followed, upstream));
            if !is_followed && let Some(settings) = upstream.config.health.clone() {
                let checking = keep_checking(Arc::clone(upstream), settings, Arc::clone(&self.metrics));
                let task = self.running.spawn(checking);
                self.followed.push((Arc::clone(upstream), task));
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
    match (target.health.checked(checked.is_ok(), settings), checked) {
        (Some(Turn::Worse), Err(error)) => {
            let error = &error as &dyn std::error::Error;
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
