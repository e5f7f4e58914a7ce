//! What is known of an address: whether checks find it healthy, and whether requests have failed there.
//!
//! Shared by all workers and the control side, in atomics. An address with nothing against it costs a request one load
//! and no look at a clock. Who changes it, and when, is `ejection`'s and the checks' business.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::balance::FULL_SHARE;
use crate::config::{EjectionConfig, HealthConfig};

/// Checks find it unhealthy.
const UNHEALTHY: u8 = 1;
/// Requests have failed there: it rests until `until`.
const EJECTED: u8 = 2;
/// It has rested until `until`, and gets more and more of the traffic.
const RETURNING: u8 = 4;

/// The share that it begins with again, in thousandths.
const LEAST_SHARE: u32 = 50;

/// What is known of one address. Times are milliseconds of its upstream's clock.
#[derive(Debug, Default)]
pub struct Health {
    /// What is held against it; 0 for most, most of the time.
    conditions: AtomicU8,
    /// The end of its latest ejection.
    until: AtomicU64,
    /// Failures of requests in a row.
    failures: AtomicU32,
    /// Ejections that followed each other closely.
    repeats: AtomicU32,
    /// Whether a check has ever ended. Written by the checks alone, as the next.
    is_checked: AtomicBool,
    /// Checks in a row that speak against the present state.
    contradictions: AtomicU32,
}

/// How much an address is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// So much of what the others get, in thousandths.
    Share(u32),
    /// Only if all others are worse.
    Ejected,
    /// Not at all.
    Unhealthy,
}

/// What a check, or the passage of time, has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It may be used again.
    Better,
    /// It must not be used any more.
    Worse,
}

impl Health {
    /// How much it is to be used. `now` is asked for only if something is held against it.
    #[inline]
    pub(super) fn standing(&self, now: impl FnOnce() -> u64, return_time: Duration) -> Standing {
        let conditions = self.conditions.load(Ordering::Acquire);
        if conditions == 0 {
            return Standing::Share(FULL_SHARE);
        }
        self.standing_under(conditions, now(), return_time)
    }

    #[cold]
    fn standing_under(&self, conditions: u8, now: u64, return_time: Duration) -> Standing {
        if conditions & UNHEALTHY != 0 {
            return Standing::Unhealthy;
        }
        let until = self.until.load(Ordering::Relaxed);
        if conditions & EJECTED != 0 && now < until {
            return Standing::Ejected;
        }
        let returned = u128::from(now.saturating_sub(until)) * u128::from(FULL_SHARE);
        let share = returned.checked_div(return_time.as_millis()).unwrap_or(u128::from(FULL_SHARE));
        let share = u32::try_from(share).unwrap_or(FULL_SHARE);
        Standing::Share(share.clamp(LEAST_SHARE, FULL_SHARE))
    }

    /// Whether requests have shown it to be bad, and it still rests.
    pub(super) fn is_ejected(&self, now: u64) -> bool {
        self.conditions.load(Ordering::Acquire) & EJECTED != 0 && now < self.until.load(Ordering::Relaxed)
    }

    pub(super) fn is_unhealthy(&self) -> bool {
        self.conditions.load(Ordering::Acquire) & UNHEALTHY != 0
    }

    /// A request went well.
    #[inline]
    pub(super) fn succeeded(&self) {
        // A store that is not needed would take the cache line from the other workers.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// A request failed. Whether that is one too many: so many in a row, or the first after it came back.
    pub(super) fn failed(&self, settings: &EjectionConfig) -> bool {
        let before = self.failures.fetch_add(1, Ordering::Relaxed);
        let is_returning = self.conditions.load(Ordering::Acquire) & RETURNING != 0;
        is_returning || before.saturating_add(1) >= settings.consecutive_failures
    }

    /// Lets it rest, longer each time it follows closely on the last; returns how long.
    pub(super) fn eject(&self, settings: &EjectionConfig, now: u64) -> Duration {
        let since_last = now.saturating_sub(self.until.load(Ordering::Relaxed));
        let is_close = u128::from(since_last) <= settings.longest.as_millis();
        let repeats = if is_close { self.repeats.load(Ordering::Relaxed).saturating_add(1) } else { 1 };
        let rest = settings.rest.saturating_mul(repeats).min(settings.longest);
        self.repeats.store(repeats, Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
        let milliseconds = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
        self.until.store(now.saturating_add(milliseconds), Ordering::Relaxed);
        self.conditions.fetch_or(EJECTED, Ordering::AcqRel);
        self.conditions.fetch_and(!RETURNING, Ordering::AcqRel);
        rest
    }

    /// Takes note of the time: an ejection that is over becomes a return, one that is complete is forgotten. Better, for
    /// the one caller that saw the ejection end.
    pub(super) fn age(&self, now: u64, return_time: Duration) -> Option<Turn> {
        let conditions = self.conditions.load(Ordering::Acquire);
        let until = self.until.load(Ordering::Relaxed);
        if conditions & (EJECTED | RETURNING) == 0 || now < until {
            return None;
        }
        if conditions & EJECTED != 0 {
            let returning = conditions & !EJECTED | RETURNING;
            let changed =
                self.conditions.compare_exchange(conditions, returning, Ordering::AcqRel, Ordering::Relaxed);
            return changed.is_ok().then_some(Turn::Better);
        }
        if u128::from(now - until) >= return_time.as_millis() {
            let fine = conditions & !RETURNING;
            let _lost_to_somebody_else =
                self.conditions.compare_exchange(conditions, fine, Ordering::AcqRel, Ordering::Relaxed);
        }
        None
    }

    /// A check has ended; what that changes. The very first decides alone, so that a start neither waits for what is
    /// healthy nor sends much to what is not.
    pub(crate) fn checked(&self, has_passed: bool, settings: &HealthConfig) -> Option<Turn> {
        let is_first = !self.is_checked.swap(true, Ordering::Relaxed);
        if has_passed != self.is_unhealthy() {
            self.contradictions.store(0, Ordering::Relaxed);
            return None;
        }
        let contradictions = self.contradictions.load(Ordering::Relaxed).saturating_add(1);
        let needed = match (is_first, has_passed) {
            (true, _) => 1,
            (false, true) => settings.healthy_threshold,
            (false, false) => settings.unhealthy_threshold,
        };
        if contradictions < needed {
            self.contradictions.store(contradictions, Ordering::Relaxed);
            return None;
        }
        self.contradictions.store(0, Ordering::Relaxed);
        if has_passed {
            self.conditions.fetch_and(!UNHEALTHY, Ordering::AcqRel);
            Some(Turn::Better)
        } else {
            self.conditions.fetch_or(UNHEALTHY, Ordering::AcqRel);
            Some(Turn::Worse)
        }
    }

    /// What was found healthy again gets its traffic back slowly.
    pub(crate) fn return_slowly(&self, now: u64) {
        self.until.fetch_max(now, Ordering::Relaxed);
        self.conditions.fetch_or(RETURNING, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
