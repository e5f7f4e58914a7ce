//! Passive ejection: an address where requests fail in a row rests for a while.
//!
//! It is a guess from what requests have met, so it never takes all of a service away: see [`EjectionConfig::most_percent`].
//! What must not live here: which failures count, and the checks, which are no guess.

use std::time::Duration;

use super::state::State;
use super::target::Target;
use crate::config::EjectionConfig;

/// A request failed at this target. How long it rests from now on, if this was one failure too many and enough others
/// are left.
pub(super) fn failed(
    state: &State,
    target: &Target,
    settings: &EjectionConfig,
    now: u64,
) -> Option<Duration> {
    if !target.health.failed(settings) {
        return None;
    }
    // One at a time, or two workers could each take the last that may be taken.
    let _one_at_a_time = state.ejecting.lock();
    if target.health.is_ejected(now) {
        return None;
    }
    let targets = state.targets();
    let resting = targets.iter().filter(|target| target.health.is_ejected(now)).count();
    let is_enough_left = (resting + 1) * 100 <= targets.len() * settings.most_percent;
    is_enough_left.then(|| target.health.eject(settings, now))
}
