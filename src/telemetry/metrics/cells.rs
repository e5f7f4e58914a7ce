//! The numbers that workers write: cells with one writer each, summed over the workers at a scrape.
//!
//! A worker adds to its own cell with a plain load and a plain store, so recording costs no locked instruction and
//! no cache line is written by two workers. A reader sees each cell only ever grow, hence sums that only grow.
//! Names, labels and texts must not live here.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;

/// Upper bounds of the histograms' buckets in nanoseconds: 50 µs to 60 s, two to three a decade.
pub(super) const BUCKET_BOUNDS_NANOSECONDS: [u64; 19] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

/// Buckets with the one for everything longer.
pub(super) const BUCKETS: usize = BUCKET_BOUNDS_NANOSECONDS.len() + 1;

/// A number with one writer and any number of readers.
#[derive(Debug, Default)]
pub(super) struct Cell(AtomicU64);

impl Cell {
    /// Adds; only the cell's one writer may call this, or counts are lost (memory stays sound).
    #[inline]
    pub(super) fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Takes one off a number that goes both ways; the same writer as [`Cell::add`].
    #[inline]
    pub(super) fn subtract_one(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Relaxed);
    }

    /// The number as of now.
    pub(super) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One worker's part of a histogram. The count of all observations is the sum of the buckets, so that the two never
/// disagree in a scrape.
#[derive(Debug)]
pub(super) struct HistogramCells {
    buckets: [Cell; BUCKETS],
    sum_nanoseconds: Cell,
}

impl Default for HistogramCells {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| Cell::default()), sum_nanoseconds: Cell::default() }
    }
}

impl HistogramCells {
    /// Counts one duration.
    #[inline]
    pub(super) fn observe(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BUCKET_BOUNDS_NANOSECONDS.partition_point(|bound| *bound < nanoseconds);
        self.buckets[bucket].add(1);
        self.sum_nanoseconds.add(nanoseconds);
    }
}

/// A histogram summed over workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HistogramSum {
    /// Observations per bucket, not cumulative.
    pub(super) buckets: [u64; BUCKETS],
    /// Sum of all observations.
    pub(super) sum_nanoseconds: u64,
}

impl HistogramSum {
    /// Adds one worker's part.
    pub(super) fn add(&mut self, cells: &HistogramCells) {
        for (sum, cell) in self.buckets.iter_mut().zip(&cells.buckets) {
            *sum += cell.value();
        }
        self.sum_nanoseconds = self.sum_nanoseconds.wrapping_add(cells.sum_nanoseconds.value());
    }
}

/// One worker's counts by status code: a page of a hundred per class, made when the class first occurs.
#[derive(Debug, Default)]
pub(super) struct StatusCells {
    /// By first digit less one; status codes go from 100 to 999.
    classes: [OnceLock<Box<StatusPage>>; 9],
    /// Requests that ended before anything was answered.
    unanswered: Cell,
}

#[derive(Debug)]
#[repr(align(128))]
struct StatusPage([Cell; 100]);

impl StatusCells {
    /// Counts one answer. Allocates when the class of the code is seen for the first time.
    #[inline]
    pub(super) fn count(&self, status: Option<StatusCode>) {
        match status {
            Some(status) => {
                let code = usize::from(status.as_u16());
                let page = self.classes[code / 100 - 1].get_or_init(StatusPage::new);
                page.0[code % 100].add(1);
            }
            None => self.unanswered.add(1),
        }
    }

    /// Adds this worker's counts to `sums`, which is indexed by status code; 0 stands for no answer.
    pub(super) fn sum_into(&self, sums: &mut [u64; 1000]) {
        sums[0] += self.unanswered.value();
        for (class, page) in self.classes.iter().enumerate() {
            let Some(page) = page.get() else { continue };
            let first = (class + 1) * 100;
            for (sum, cell) in sums[first..first + 100].iter_mut().zip(&page.0) {
                *sum += cell.value();
            }
        }
    }
}

impl StatusPage {
    fn new() -> Box<Self> {
        Box::new(Self(std::array::from_fn(|_| Cell::default())))
    }
}
