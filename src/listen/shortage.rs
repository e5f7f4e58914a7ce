//! Telling of failures to accept without filling the log: where file descriptors are short, each connection that ends lets one
//! more in, and the next one fails.
//!
//! What must not live here: accepting, and how long it pauses.

use std::time::{Duration, Instant};

/// How often they are told at most.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// One socket's failures to accept.
#[derive(Debug, Default)]
pub(crate) struct Shortage {
    /// Those that have not been told.
    untold: u64,
    told: Option<Instant>,
}

impl Shortage {
    /// Counts one. How many there have been since the last time they were told, if they are to be told now.
    pub(crate) fn note(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told.is_some_and(|told| now.duration_since(told) < BETWEEN_LINES) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    //! The first is told, and then all of ten seconds at once.

    use super::*;

    #[test]
    fn a_flood_of_failures_is_a_line_now_and_then() {
        let (mut shortage, start) = (Shortage::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(shortage.note(at(0)), Some(1));
        for second in 1..10 {
            assert_eq!(shortage.note(at(second)), None);
        }
        assert_eq!(shortage.note(at(10)), Some(10));
        assert_eq!(shortage.note(at(11)), None);
    }
}
