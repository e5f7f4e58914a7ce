//! What is counted per upstream: requests that were not sent although they might have been, retries, and how its addresses
//! are.

use super::cells::Cell;

/// Why a request was not sent to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum UpstreamRefusal {
    /// Checks find none of its addresses healthy.
    Unhealthy,
    /// As many requests are under way as may be.
    Requests,
    /// As many connections are being opened as may be.
    Connections,
    /// This system has no descriptors or memory left.
    Shortage,
}

impl UpstreamRefusal {
    /// Every reason, in the order of the declaration.
    pub const ALL: [Self; 4] = [Self::Unhealthy, Self::Requests, Self::Connections, Self::Shortage];

    /// The word that metrics use.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unhealthy => "unhealthy",
            Self::Requests => "requests",
            Self::Connections => "connections",
            Self::Shortage => "shortage",
        }
    }
}

/// What became of a request that could be sent again to another address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RetryOutcome {
    /// It was sent again.
    Sent,
    /// It was not: too many were.
    BudgetExhausted,
}

impl RetryOutcome {
    /// Every outcome, in the order of the declaration.
    pub const ALL: [Self; 2] = [Self::Sent, Self::BudgetExhausted];

    /// The word that metrics use.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::BudgetExhausted => "budget_exhausted",
        }
    }
}

/// One upstream's metrics; shared by all workers, each of which writes only its own cells.
///
/// `worker` is always the calling worker's own index; no other worker may use it.
#[derive(Debug)]
pub struct UpstreamMetrics {
    workers: Box<[UpstreamCells]>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct UpstreamCells {
    refusals: [Cell; UpstreamRefusal::ALL.len()],
    retries: [Cell; RetryOutcome::ALL.len()],
}

/// An upstream's counts over all workers.
#[derive(Default)]
pub(super) struct UpstreamSum {
    /// In the order of [`UpstreamRefusal::ALL`].
    pub(super) refusals: [u64; UpstreamRefusal::ALL.len()],
    /// In the order of [`RetryOutcome::ALL`].
    pub(super) retries: [u64; RetryOutcome::ALL.len()],
}

/// How many addresses of an endpoint are in which state, at a scrape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointFigures {
    /// The upstream's name.
    pub upstream: String,
    /// The endpoint's label.
    pub endpoint: String,
    /// Addresses with nothing against them.
    pub healthy: u64,
    /// Addresses that checks find unhealthy.
    pub unhealthy: u64,
    /// Addresses that rest because requests have failed there.
    pub ejected: u64,
}

impl UpstreamMetrics {
    pub(super) fn new(workers: usize) -> Self {
        Self { workers: (0..workers).map(|_| UpstreamCells::default()).collect() }
    }

    /// Counts a request that was not sent.
    pub fn refused(&self, worker: usize, refusal: UpstreamRefusal) {
        self.workers[worker].refusals[refusal as usize].add(1);
    }

    /// Counts a request that could be sent again.
    pub fn retried(&self, worker: usize, outcome: RetryOutcome) {
        self.workers[worker].retries[outcome as usize].add(1);
    }

    pub(super) fn sum(&self) -> UpstreamSum {
        let mut sum = UpstreamSum::default();
        for cells in &self.workers {
            for (total, cell) in sum.refusals.iter_mut().zip(&cells.refusals) {
                *total += cell.value();
            }
            for (total, cell) in sum.retries.iter_mut().zip(&cells.retries) {
                *total += cell.value();
            }
        }
        sum
    }
}
