//! How many requests a worker may send again: a share of those it sends, and a few a second in any case. Where everything
//! fails, retries then add a fifth to the load, and do not multiply it.
//!
//! Each worker has its own: the share is of its own requests, and of the few a second it has its part. So a budget costs
//! no request a cache line that workers share.

use std::cell::Cell;
use std::time::Instant;

use crate::config::RetriesConfig;

/// One retry, in the unit that the budget is kept in: what a request adds is a percentage of it.
const RETRY: u64 = 100;

/// Retries that can be saved up: a burst of failures after a quiet hour is no reason for a burst of retries.
const MOST_SAVED: u64 = 100 * RETRY;

/// One worker's budget for one upstream.
#[derive(Debug)]
pub(super) struct Budget {
    percent: u64,
    /// Saved from requests.
    saved: Cell<u64>,
    /// Retries a second that need no requests.
    reserve_per_second: f64,
    reserve: Cell<f64>,
    filled: Cell<Instant>,
}

impl Budget {
    pub(super) fn new(settings: &RetriesConfig, workers: usize, now: Instant) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "both are small")]
        let reserve_per_second = settings.least_per_second as f64 / workers.max(1) as f64;
        Self {
            percent: settings.budget_percent as u64,
            saved: Cell::new(0),
            reserve_per_second,
            reserve: Cell::new(Self::most_reserve(reserve_per_second)),
            filled: Cell::new(now),
        }
    }

    /// A second's worth, and one at least, or a part of less than one a second would never be a whole one.
    fn most_reserve(per_second: f64) -> f64 {
        if per_second > 0.0 { per_second.max(1.0) } else { 0.0 }
    }

    /// A request is sent for the first time.
    pub(super) fn deposit(&self) {
        self.saved.set((self.saved.get() + self.percent).min(MOST_SAVED));
    }

    /// Whether one may be sent again.
    pub(super) fn withdraw(&self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled.replace(now)).as_secs_f64();
        let most = Self::most_reserve(self.reserve_per_second);
        let reserve = elapsed.mul_add(self.reserve_per_second, self.reserve.get()).min(most);
        if reserve >= 1.0 {
            self.reserve.set(reserve - 1.0);
            return true;
        }
        self.reserve.set(reserve);
        let left = self.saved.get().checked_sub(RETRY);
        left.inspect(|left| self.saved.set(*left)).is_some()
    }
}

#[cfg(test)]
mod tests {
    //! What may be sent again, over time and over requests.

    use std::time::Duration;

    use super::*;

    fn budget(percent: usize, least_per_second: usize, workers: usize) -> (Budget, Instant) {
        let now = Instant::now();
        let settings = RetriesConfig {
            most_per_request: 1,
            budget_percent: percent,
            least_per_second,
            statuses: Vec::new(),
        };
        (Budget::new(&settings, workers, now), now)
    }

    /// How many of so many tries are permitted at `now`.
    fn permitted(budget: &Budget, tries: usize, now: Instant) -> usize {
        (0..tries).filter(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn a_share_of_the_requests() {
        let (budget, now) = budget(20, 0, 1);
        assert_eq!(permitted(&budget, 10, now), 0);
        (0..50).for_each(|_| budget.deposit());
        assert_eq!(permitted(&budget, 100, now), 10);
        (0..1_000_000).for_each(|_| budget.deposit());
        assert_eq!(permitted(&budget, 1000, now), 100, "no more is saved up");
    }

    #[test]
    fn a_few_a_second_in_any_case_and_each_worker_its_part() {
        let (budget, now) = budget(0, 10, 2);
        assert_eq!(permitted(&budget, 100, now), 5);
        assert_eq!(permitted(&budget, 100, now + Duration::from_millis(400)), 2);
        assert_eq!(permitted(&budget, 100, now + Duration::from_secs(3600)), 5, "no more is saved up");
    }

    #[test]
    fn a_part_of_one_a_second_is_one_now_and_then() {
        let (budget, now) = budget(0, 1, 4);
        assert_eq!(permitted(&budget, 10, now), 1);
        assert_eq!(permitted(&budget, 10, now + Duration::from_secs(3)), 0);
        assert_eq!(permitted(&budget, 10, now + Duration::from_millis(4100)), 1);
    }

    #[test]
    fn nothing_is_nothing() {
        let (budget, now) = budget(0, 0, 1);
        (0..1000).for_each(|_| budget.deposit());
        assert_eq!(permitted(&budget, 10, now + Duration::from_secs(3600)), 0);
    }
}
