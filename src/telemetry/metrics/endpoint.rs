//! What is counted per endpoint of an upstream: outcomes, durations, connections.

use std::sync::Arc;
use std::time::Duration;

use super::cells::{Cell, HistogramCells, HistogramSum};

/// How a request to an endpoint went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum UpstreamOutcome {
    /// The whole response arrived, whatever its status.
    Ok,
    /// No connection could be had.
    Unreachable,
    /// It took too long.
    Timeout,
    /// The connection or HTTP's rules were broken before the response's head.
    Failed,
    /// The response broke off after its head.
    Aborted,
    /// A reused connection turned out closed; the request was sent again on another.
    Retried,
}

impl UpstreamOutcome {
    /// Every outcome, in the order of the declaration.
    pub const ALL: [Self; 6] =
        [Self::Ok, Self::Unreachable, Self::Timeout, Self::Failed, Self::Aborted, Self::Retried];

    /// The word that metrics use.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
            Self::Retried => "retried",
        }
    }
}

/// One endpoint's metrics; shared by all workers, each of which writes only its own cells.
///
/// `worker` is always the calling worker's own index; no other worker may use it.
#[derive(Debug)]
pub struct EndpointMetrics {
    upstream: Arc<str>,
    endpoint: Arc<str>,
    workers: Box<[EndpointCells]>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct EndpointCells {
    duration: HistogramCells,
    outcomes: [Cell; UpstreamOutcome::ALL.len()],
    active: Cell,
    idle: Cell,
}

/// An endpoint's counts over all workers.
#[derive(Default)]
pub(super) struct EndpointSum {
    /// In the order of [`UpstreamOutcome::ALL`].
    pub(super) outcomes: [u64; UpstreamOutcome::ALL.len()],
    /// Connections with a request on them.
    pub(super) active: i64,
    /// Connections kept for the next request.
    pub(super) idle: i64,
}

impl EndpointMetrics {
    pub(super) fn new(upstream: &str, endpoint: &str, workers: usize) -> Self {
        Self {
            upstream: upstream.into(),
            endpoint: endpoint.into(),
            workers: (0..workers).map(|_| EndpointCells::default()).collect(),
        }
    }

    /// The upstream's name.
    pub fn upstream(&self) -> &Arc<str> {
        &self.upstream
    }

    /// The endpoint's label.
    pub fn endpoint(&self) -> &Arc<str> {
        &self.endpoint
    }

    /// Counts one try at this endpoint. `duration` goes from the choice of the endpoint to its response's head;
    /// `None` if there was no head.
    #[inline]
    pub fn record(&self, worker: usize, outcome: UpstreamOutcome, duration: Option<Duration>) {
        let cells = &self.workers[worker];
        cells.outcomes[outcome as usize].add(1);
        if let Some(duration) = duration {
            cells.duration.observe(duration);
        }
    }

    /// A connection was opened for a request.
    #[inline]
    pub fn connection_opened(&self, worker: usize) {
        self.workers[worker].active.add(1);
    }

    /// A connection's request is over, and the connection is kept.
    #[inline]
    pub fn connection_idled(&self, worker: usize) {
        self.workers[worker].active.subtract_one();
        self.workers[worker].idle.add(1);
    }

    /// A kept connection is used again.
    #[inline]
    pub fn connection_reused(&self, worker: usize) {
        self.workers[worker].idle.subtract_one();
        self.workers[worker].active.add(1);
    }

    /// A connection was closed with a request on it, or instead of being kept.
    #[inline]
    pub fn active_connection_closed(&self, worker: usize) {
        self.workers[worker].active.subtract_one();
    }

    /// A kept connection was closed.
    #[inline]
    pub fn idle_connection_closed(&self, worker: usize) {
        self.workers[worker].idle.subtract_one();
    }

    pub(super) fn sum(&self) -> EndpointSum {
        let mut sum = EndpointSum::default();
        for cells in &self.workers {
            for (total, cell) in sum.outcomes.iter_mut().zip(&cells.outcomes) {
                *total += cell.value();
            }
            sum.active += cells.active.value().cast_signed();
            sum.idle += cells.idle.value().cast_signed();
        }
        sum
    }

    pub(super) fn add_durations(&self, sum: &mut HistogramSum) {
        for cells in &self.workers {
            sum.add(&cells.duration);
        }
    }
}
