//! Whether the system's clock can be believed about ages: what is removed or revoked for its age is gone for good, and a clock that
//! is set a year ahead by mistake makes everything old.
//!
//! What must not live here: the clock of decisions, which never steps back ([`crate::worker::Clock`]).

use std::time::{Duration, Instant};

use crate::directory::model::Timestamp;

/// How far the two clocks may be apart after a look: seconds are rounded, and a machine may be slow.
const MOST_APART_SECONDS: u32 = 60;

/// How long the clock has to go on as it should after it was set. Who has set it by mistake has mended that by then.
const STEADY_FOR: Duration = Duration::from_secs(3_600);

/// Compares the system's clock with one that nobody sets.
#[derive(Debug)]
pub(super) struct ClockWatch {
    wall: Timestamp,
    monotonic: Instant,
    set_at: Option<Instant>,
}

impl ClockWatch {
    pub(super) const fn new(wall: Timestamp, monotonic: Instant) -> Self {
        Self { wall, monotonic, set_at: None }
    }

    /// Looks at both clocks; to be called often. Whether ages can be believed now.
    pub(super) fn look(&mut self, wall: Timestamp, monotonic: Instant) -> bool {
        let passed = monotonic.saturating_duration_since(self.monotonic).as_secs();
        let expected = self.wall.0.saturating_add(u32::try_from(passed).unwrap_or(u32::MAX));
        if wall.0.abs_diff(expected) > MOST_APART_SECONDS {
            tracing::warn!(
                expected = %Timestamp(expected),
                now = %wall,
                "the system's clock was set: for an hour, no token is revoked and no event removed for its age"
            );
            if wall.0 < expected {
                tracing::warn!(
                    "tokens expire by the later time until the clock has caught up with it \
                     (postern_clock_ahead_seconds); restart Postern if the earlier time is the right one"
                );
            }
            self.set_at = Some(monotonic);
        }
        (self.wall, self.monotonic) = (wall, monotonic);
        self.set_at.is_none_or(|set_at| monotonic.saturating_duration_since(set_at) >= STEADY_FOR)
    }
}

#[cfg(test)]
mod tests {
    //! Ages are believed while both clocks go alike, and again an hour after they have not.

    use super::*;

    const DAY: u32 = 86_400;

    /// Looks once a minute for so long; whether ages were believed at the last look.
    fn look_on(watch: &mut ClockWatch, at: &mut (u32, Instant), minutes: u32) -> bool {
        let mut is_believed = true;
        for _ in 0..minutes {
            *at = (at.0 + 60, at.1 + Duration::from_secs(60));
            is_believed = watch.look(Timestamp(at.0), at.1);
        }
        is_believed
    }

    #[test]
    fn a_clock_that_was_set_is_believed_an_hour_later() {
        let mut at = (1_800_000_000, Instant::now());
        let mut watch = ClockWatch::new(Timestamp(at.0), at.1);
        assert!(look_on(&mut watch, &mut at, 3 * 24 * 60), "three days without a look amiss");
        for set in [at.0 + DAY, at.0 - DAY] {
            at.0 = set;
            assert!(!look_on(&mut watch, &mut at, 1));
            assert!(!look_on(&mut watch, &mut at, 59));
            assert!(look_on(&mut watch, &mut at, 1));
        }
    }

    #[test]
    fn a_jump_and_back_is_two_jumps() {
        let mut at = (1_800_000_000, Instant::now());
        let mut watch = ClockWatch::new(Timestamp(at.0), at.1);
        at.0 += 365 * DAY;
        assert!(!look_on(&mut watch, &mut at, 50));
        at.0 -= 365 * DAY;
        assert!(!look_on(&mut watch, &mut at, 50), "mended in time: nothing was believed in between");
        assert!(look_on(&mut watch, &mut at, 11));
    }

    #[test]
    fn a_pause_of_the_process_is_no_jump() {
        let (wall, monotonic) = (1_800_000_000, Instant::now());
        let mut watch = ClockWatch::new(Timestamp(wall), monotonic);
        assert!(watch.look(Timestamp(wall + 7 * DAY), monotonic + Duration::from_secs(7 * 86_400)));
        assert!(watch.look(Timestamp(wall + 7 * DAY + 59), monotonic + Duration::from_secs(7 * 86_400)));
        assert!(!watch.look(Timestamp(0), monotonic + Duration::from_secs(7 * 86_400)));
        assert!(!watch.look(Timestamp(u32::MAX), monotonic));
    }
}
