//! How long a session lasts: it ends when it has not been used for a while, and in any case some time after the login.
//! The data plane itself sees to both, on the clock, at each request.

use std::ops::RangeInclusive;

use crate::directory::model::Timestamp;

/// What the configuration, or an identity provider, says of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLifetime {
    /// Seconds without use after which it ends.
    pub idle_seconds: u32,
    /// Seconds after the login when it ends however much it is used.
    pub absolute_seconds: u32,
}

/// The lifetime of one session token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTerms {
    /// Lifetime in seconds.
    pub max_age_seconds: u32,
    /// Whether it counts from the last use.
    pub extend_when_used: bool,
    /// When the token ends in any case.
    pub end_time: Timestamp,
}

impl SessionLifetime {
    /// A session that begins now.
    pub fn beginning(self, now: Timestamp) -> SessionTerms {
        self.terms(self.idle_seconds, true, now)
    }

    /// A session through an identity provider, which may have a lifetime of its own for them. It never outlasts what
    /// the configuration allows any session.
    pub fn beginning_through_provider(
        self,
        max_age_seconds: Option<u32>,
        extend_when_used: bool,
        now: Timestamp,
    ) -> SessionTerms {
        match max_age_seconds {
            Some(seconds) => self.terms(seconds, extend_when_used, now),
            None => self.beginning(now),
        }
    }

    fn terms(self, idle_seconds: u32, extend_when_used: bool, now: Timestamp) -> SessionTerms {
        const LIFETIMES: RangeInclusive<u32> = crate::directory::operations::MAX_AGE_SECONDS;
        SessionTerms {
            max_age_seconds: idle_seconds.clamp(*LIFETIMES.start(), *LIFETIMES.end()),
            extend_when_used,
            end_time: Timestamp(now.0.saturating_add(self.absolute_seconds)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);
    const LIFETIME: SessionLifetime = SessionLifetime { idle_seconds: 3_600, absolute_seconds: 86_400 };

    #[test]
    fn a_session_lasts_while_it_is_used_but_not_for_ever() {
        let terms = LIFETIME.beginning(NOW);
        let expected = SessionTerms {
            max_age_seconds: 3_600,
            extend_when_used: true,
            end_time: Timestamp(NOW.0 + 86_400),
        };
        assert_eq!(terms, expected);
    }

    #[test]
    fn a_provider_decides_within_the_bounds_of_the_configuration() {
        let terms = LIFETIME.beginning_through_provider(Some(315_360_000), false, NOW);
        assert_eq!(terms.max_age_seconds, 315_360_000);
        assert_eq!((terms.extend_when_used, terms.end_time), (false, Timestamp(NOW.0 + 86_400)));
        assert_eq!(LIFETIME.beginning_through_provider(None, false, NOW), LIFETIME.beginning(NOW));
        assert_eq!(LIFETIME.beginning_through_provider(Some(5), true, NOW).max_age_seconds, 600);
    }
}
