//! Failures to authenticate, by the network they come from.
//!
//! A source that has used up its failures is answered 429 for everything that is no known token: that is told by one look
//! into the token cache, which a good token passes as ever. So nobody can lock the owner of a token out, not even from
//! behind the same address; and a flood is worth neither a decision nor a place among the latest denials.
//!
//! The table is of a fixed size. Its slots are found by a keyed hash that nobody can aim; where more sources fail than there
//! are slots, the one whose failures are soonest forgotten gives way. What must not live here: tokens.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::bucket::{Bucket, Rate};
use super::{Exceeded, Limit, Standings};
use crate::config::AuthenticationThrottleConfig;

/// Slots that one source may be in.
const WAYS: usize = 8;

/// 16,384 sources, in 400 KiB.
const SETS: usize = 2_048;

/// Who may fail how often.
#[derive(Debug)]
pub struct FailureThrottle {
    rate: Rate,
    ipv4_prefix_bits: u32,
    ipv6_prefix_bits: u32,
    table: Arc<Table>,
}

/// Kept over reloads.
#[derive(Debug)]
struct Table {
    epoch: Instant,
    key: RandomState,
    sets: Box<[[Slot; WAYS]]>,
}

#[derive(Debug, Default)]
struct Slot {
    /// The source's hash; 0: nobody's.
    source: AtomicU64,
    failures: Bucket,
}

impl FailureThrottle {
    /// A throttle that has seen nobody fail.
    pub fn new(config: &AuthenticationThrottleConfig) -> Self {
        let table = Table {
            epoch: Instant::now(),
            key: RandomState::new(),
            sets: std::iter::repeat_with(Default::default).take(SETS).collect(),
        };
        Self {
            rate: Rate::new(config.failures, config.period, config.failures),
            ipv4_prefix_bits: config.ipv4_prefix_bits,
            ipv6_prefix_bits: config.ipv6_prefix_bits,
            table: Arc::new(table),
        }
    }

    /// Remembers what another configuration's has seen.
    pub fn go_on_from(&mut self, before: &Self) {
        self.table = Arc::clone(&before.table);
    }

    /// Counts a failure.
    ///
    /// # Errors
    /// If its source has used up what it may fail: then it is not counted, so that a flood does not keep a source out for
    /// longer than its failures are remembered.
    pub fn fail(&self, client: IpAddr, arrived: Instant) -> Result<(), Exceeded> {
        let now = arrived.saturating_duration_since(self.table.epoch);
        let slot = self.table.slot(self.network(client), now);
        slot.failures.take(self.rate, now).map(drop).map_err(|spent| Exceeded {
            limit: Limit::FailedAuthentication,
            wait: spent.wait,
            standings: Standings::default(),
        })
    }

    /// All addresses that count as one source are the same.
    fn network(&self, client: IpAddr) -> IpAddr {
        match client.to_canonical() {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - self.ipv4_prefix_bits).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - self.ipv6_prefix_bits).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        }
    }
}

impl Table {
    /// The source's slot, made free for it if it has none. Two that take the same slot at once may for a moment count
    /// together: what hangs on it is a 429 in place of a 401.
    fn slot(&self, source: IpAddr, now: Duration) -> &Slot {
        let hash = self.key.hash_one(source).max(1);
        let set = &self.sets[usize::try_from(hash >> 32).unwrap_or_default() % SETS];
        if let Some(known) = set.iter().find(|slot| slot.source.load(Ordering::Relaxed) == hash) {
            return known;
        }
        let soonest = set.iter().min_by_key(|slot| match slot.source.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            _ => slot.failures.full_at().max(now),
        });
        let slot = soonest.unwrap_or(&set[0]);
        slot.source.store(hash, Ordering::Relaxed);
        slot.failures.refill();
        slot
    }
}

#[cfg(test)]
mod tests {
    //! Who is counted together, who is not, and that the table stays as it is.

    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn throttle(failures: u32) -> FailureThrottle {
        FailureThrottle::new(&AuthenticationThrottleConfig {
            failures,
            period: Duration::from_secs(60),
            ipv4_prefix_bits: 32,
            ipv6_prefix_bits: 64,
        })
    }

    fn fails(throttle: &FailureThrottle, client: &str, seconds: u64) -> bool {
        let at = throttle.table.epoch + Duration::from_secs(seconds);
        throttle.fail(client.parse().unwrap(), at).is_err()
    }

    #[test]
    fn a_source_fails_so_often_and_no_other_pays_for_it() {
        let throttle = throttle(3);
        assert_eq!([0; 4].map(|now| fails(&throttle, "192.0.2.1", now)), [false, false, false, true]);
        // Over IPv6 it is the same one.
        assert!(fails(&throttle, "::ffff:192.0.2.1", 0));
        assert!(!fails(&throttle, "192.0.2.2", 0));
        // What was refused was not counted: after a third of the time there is one again.
        assert_eq!([19, 20, 20].map(|now| fails(&throttle, "192.0.2.1", now)), [true, false, true]);
    }

    #[test]
    fn addresses_of_one_network_are_one_source() {
        let throttle = throttle(1);
        assert!(!fails(&throttle, "2001:db8:0:1::1", 0));
        assert!(fails(&throttle, "2001:db8:0:1:ffff::2", 0));
        assert!(!fails(&throttle, "2001:db8:0:2::1", 0));
        let wide = FailureThrottle { ipv4_prefix_bits: 24, ..throttle };
        assert!(!fails(&wide, "198.51.100.1", 0));
        assert!(fails(&wide, "198.51.100.254", 0));
        assert!(!fails(&wide, "198.51.101.1", 0));
    }

    #[test]
    fn a_flood_from_everywhere_takes_no_more_memory_and_makes_nobody_wait() {
        let throttle = throttle(2);
        for number in 0..100_000_u32 {
            let client = Ipv4Addr::from_bits(0x0a00_0000 + number).to_string();
            assert!(!fails(&throttle, &client, 0), "{client} has failed once");
        }
        assert!(!fails(&throttle, "192.0.2.1", 0));
    }

    #[test]
    fn a_source_that_keeps_failing_is_not_pushed_out_by_those_that_failed_once() {
        let throttle = throttle(100);
        while !fails(&throttle, "192.0.2.1", 0) {}
        for number in 0..50_000_u32 {
            fails(&throttle, &Ipv4Addr::from_bits(0x0a00_0000 + number).to_string(), 0);
        }
        assert!(fails(&throttle, "192.0.2.1", 0));
    }
}
