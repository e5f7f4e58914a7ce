//! What is counted per route: answers by status code, denials by reason, durations.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::cells::{Cell, HistogramCells, HistogramSum, StatusCells};
use crate::directory::candidate::Difference;
use crate::limit::Limit;
use crate::policy::Denial;

/// One route's metrics; shared by all workers, each of which writes only its own cells.
#[derive(Debug)]
pub struct RouteMetrics {
    name: Arc<str>,
    workers: Box<[RouteCells]>,
}

/// One worker's cells, on cache lines of their own (128 bytes: adjacent lines are fetched in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct RouteCells {
    duration: HistogramCells,
    statuses: StatusCells,
    denials: [Cell; Denial::ALL.len()],
    limited: [Cell; Limit::ALL.len()],
    would_deny: [Cell; Denial::ALL.len()],
    would_permit: [Cell; Denial::ALL.len()],
}

/// A route's counts over all workers.
pub(super) struct RouteSum {
    /// By status code; 0 is "no answer".
    pub(super) statuses: [u64; 1000],
    /// In the order of [`Denial::ALL`].
    pub(super) denials: [u64; Denial::ALL.len()],
    /// In the order of [`Limit::ALL`].
    pub(super) limited: [u64; Limit::ALL.len()],
    /// In the order of [`Denial::ALL`]: what candidate policies would refuse.
    pub(super) would_deny: [u64; Denial::ALL.len()],
    /// In the same order: what they would let in.
    pub(super) would_permit: [u64; Denial::ALL.len()],
    /// Durations of the requests.
    pub(super) duration: HistogramSum,
}

impl RouteMetrics {
    pub(super) fn new(name: &str, workers: usize) -> Self {
        Self { name: name.into(), workers: (0..workers).map(|_| RouteCells::default()).collect() }
    }

    /// The route's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts one request at its end. `worker` is the calling worker's own index; no other worker may use it.
    ///
    /// `status` is what the client was answered, `None` if it left before; `denial` is set if the policy refused.
    /// Never waits, and allocates only when a class of status codes is seen for the first time.
    #[inline]
    pub fn record(
        &self,
        worker: usize,
        status: Option<StatusCode>,
        denial: Option<Denial>,
        duration: Duration,
    ) {
        let cells = &self.workers[worker];
        cells.statuses.count(status);
        if let Some(denial) = denial {
            cells.denials[denial as usize].add(1);
        }
        cells.duration.observe(duration);
    }

    /// Counts one request that was one too many; otherwise as [`RouteMetrics::record`].
    pub fn record_limited(&self, worker: usize, limit: Limit) {
        self.workers[worker].limited[limit as usize].add(1);
    }

    /// Counts in what a candidate policy differs on one request; otherwise as [`RouteMetrics::record`].
    pub fn record_difference(&self, worker: usize, difference: Difference) {
        let cells = &self.workers[worker];
        match difference {
            Difference::WouldDeny(denial) => cells.would_deny[denial as usize].add(1),
            Difference::WouldPermit(denial) => cells.would_permit[denial as usize].add(1),
        }
    }

    pub(super) fn sum(&self) -> RouteSum {
        let mut sum = RouteSum {
            statuses: [0; 1000],
            denials: [0; Denial::ALL.len()],
            limited: [0; Limit::ALL.len()],
            would_deny: [0; Denial::ALL.len()],
            would_permit: [0; Denial::ALL.len()],
            duration: HistogramSum::default(),
        };
        for cells in &self.workers {
            cells.statuses.sum_into(&mut sum.statuses);
            for (totals, cells) in [
                (&mut sum.denials, &cells.denials),
                (&mut sum.would_deny, &cells.would_deny),
                (&mut sum.would_permit, &cells.would_permit),
            ] {
                for (total, cell) in totals.iter_mut().zip(cells) {
                    *total += cell.value();
                }
            }
            for (total, cell) in sum.limited.iter_mut().zip(&cells.limited) {
                *total += cell.value();
            }
            sum.duration.add(&cells.duration);
        }
        sum
    }
}
