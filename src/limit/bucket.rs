//! A token bucket as one time: when it will be full again (the generic cell rate algorithm). And beside it how many run.
//!
//! What must not live here: whose bucket it is.

use std::time::Duration;

use crate::primitives::atomic::{AtomicU32, AtomicU64, Ordering};

/// How quickly a bucket fills, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Nanoseconds until there is one more.
    pub(super) interval: u64,
    /// How many a full one holds.
    pub(super) burst: u64,
}

/// A bucket, full at first.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// When it will be full, in nanoseconds since its owner's epoch.
    full: AtomicU64,
    running: AtomicU32,
}

/// How a bucket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    rate: Rate,
    /// How many it still holds.
    left: u64,
    /// Nanoseconds until it is full.
    full_in: u64,
}

/// A bucket is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spent {
    /// Until there is one.
    pub(super) wait: Duration,
    pub(super) standing: Standing,
}

impl Rate {
    /// So many in a period, and so many at once.
    pub(super) fn new(count: u32, period: Duration, burst: u32) -> Self {
        let period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        Self { interval: (period / u64::from(count.max(1))).max(1), burst: u64::from(burst.max(1)) }
    }

    /// What a full bucket is worth, in nanoseconds.
    const fn capacity(self) -> u64 {
        self.interval.saturating_mul(self.burst)
    }

    fn standing(self, full: u64, now: u64) -> Standing {
        let full_in = full.saturating_sub(now);
        Standing { rate: self, left: self.capacity().saturating_sub(full_in) / self.interval, full_in }
    }
}

impl Bucket {
    /// Takes one, exactly: however many take at once, no more are taken than there are.
    pub(super) fn take(&self, rate: Rate, now: Duration) -> Result<Standing, Spent> {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let next = |full: u64| {
            let full = full.max(now).saturating_add(rate.interval);
            (full - now <= rate.capacity()).then_some(full)
        };
        match self.full.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(before) => Ok(rate.standing(before.max(now).saturating_add(rate.interval), now)),
            Err(full) => {
                let wait = full.saturating_add(rate.interval) - now - rate.capacity();
                Err(Spent { wait: Duration::from_nanos(wait), standing: rate.standing(full, now) })
            }
        }
    }

    /// Gives one back that was taken and not used.
    pub(super) fn give_back(&self, rate: Rate) {
        let give = |full: u64| Some(full.saturating_sub(rate.interval));
        // It never fails.
        let _before = self.full.fetch_update(Ordering::Relaxed, Ordering::Relaxed, give);
    }

    /// When it will be full, on its owner's clock.
    pub(super) fn full_at(&self) -> Duration {
        Duration::from_nanos(self.full.load(Ordering::Relaxed))
    }

    /// Fills it at once.
    pub(super) fn refill(&self) {
        self.full.store(0, Ordering::Relaxed);
    }

    /// One more runs, if there are not as many as may; says whether it does.
    #[must_use]
    pub(super) fn enter(&self, most: u32) -> bool {
        let next = |running: u32| (running < most).then_some(running + 1);
        self.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// One less runs.
    pub(super) fn leave(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Standing {
    /// The policy's item: how many at once, and in how many seconds as many again.
    pub(super) fn policy(&self, name: &str) -> String {
        format!("\"{name}\";q={};w={}", self.rate.burst, seconds(self.rate.capacity()))
    }

    /// The limit's item: how many are left, and in how many seconds all are again.
    pub(super) fn limit(&self, name: &str) -> String {
        format!("\"{name}\";r={};t={}", self.left, seconds(self.full_in))
    }
}

const fn seconds(nanoseconds: u64) -> u64 {
    nanoseconds.div_ceil(1_000_000_000)
}

#[cfg(test)]
mod tests {
    //! Exact, whoever takes.

    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;

    const fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_bucket_fills_step_by_step_and_no_further() {
        let bucket = Bucket::default();
        let rate = Rate::new(10, Duration::from_secs(1), 3);
        for left in [2, 1, 0] {
            assert_eq!(bucket.take(rate, at(0)).map(|standing| standing.left), Ok(left));
        }
        let spent = bucket.take(rate, at(30)).expect_err("it is empty");
        assert_eq!((spent.wait, spent.standing.left), (at(70), 0));
        assert!(bucket.take(rate, at(99)).is_err());
        assert!(bucket.take(rate, at(100)).is_ok());
        assert!(bucket.take(rate, at(100)).is_err());
        // Long after, it is full and not fuller.
        for left in [2, 1, 0] {
            assert_eq!(bucket.take(rate, at(60_000)).map(|standing| standing.left), Ok(left));
        }
        assert!(bucket.take(rate, at(60_000)).is_err());
        bucket.give_back(rate);
        assert!(bucket.take(rate, at(60_000)).is_ok());
        assert!(bucket.take(rate, at(60_000)).is_err());
    }

    #[test]
    fn what_clients_are_told() {
        let bucket = Bucket::default();
        let rate = Rate::new(600, Duration::from_secs(60), 15);
        let standing = bucket.take(rate, at(0)).expect("it is full");
        assert_eq!(standing.policy("route"), "\"route\";q=15;w=2");
        assert_eq!(standing.limit("route"), "\"route\";r=14;t=1");
    }

    #[test]
    fn a_clock_at_its_end_does_not_wrap() {
        let bucket = Bucket::default();
        let rate = Rate::new(1, Duration::from_secs(86_400), u32::MAX);
        let _taken = bucket.take(rate, Duration::from_nanos(u64::MAX - 5));
        let _taken = bucket.take(rate, Duration::MAX);
        let _taken = bucket.take(rate, at(0));
    }

    #[test]
    fn many_threads_take_exactly_what_there_is() {
        let (bucket, taken) = (Bucket::default(), AtomicUsize::new(0));
        let rate = Rate::new(1, Duration::from_secs(1), 1_000);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        if bucket.take(rate, at(0)).is_ok() {
                            taken.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(taken.into_inner(), 1_000);
    }

    #[test]
    fn no_more_run_than_may() {
        let (bucket, most) = (Bucket::default(), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        if bucket.enter(3) {
                            most.fetch_max(bucket.running.load(Ordering::Relaxed), Ordering::Relaxed);
                            bucket.leave();
                        }
                    }
                });
            }
        });
        assert!((1..=3).contains(&most.into_inner()));
        assert_eq!(bucket.running.load(Ordering::Relaxed), 0);
        assert!(bucket.enter(1) && !bucket.enter(1));
    }
}
