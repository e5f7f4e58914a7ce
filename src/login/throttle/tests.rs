//! The throttle on a clock that is passed in: who is refused, for how long, and who never is.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

const SETTINGS: ThrottleSettings = ThrottleSettings {
    free_attempts: 5,
    longest_delay: Duration::from_secs(900),
    source: Budget { attempts: 20, refill: Duration::from_secs(6) },
};

struct Clock {
    throttle: Throttle,
    now: Instant,
}

fn clock() -> Clock {
    Clock { throttle: Throttle::new(SETTINGS), now: Instant::now() }
}

impl Clock {
    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn admit(&self, email: &str, address: &str) -> Result<Attempt<'_>, Refusal> {
        self.throttle.admit(self.now, email, address.parse().unwrap())
    }

    /// A wrong password; `None`: it was tried, else the seconds to wait.
    fn fail(&self, email: &str, address: &str) -> Option<u64> {
        self.admit(email, address).map(drop).err().map(|refusal| refusal.retry_after.as_secs())
    }

    #[track_caller]
    fn succeed(&self, email: &str, address: &str) {
        self.admit(email, address).unwrap().succeeded();
    }
}

#[test]
fn guessing_from_one_place_becomes_slow_and_stays_possible() {
    let mut clock = clock();
    for _ in 0..5 {
        assert_eq!(clock.fail("jane@example.com", "192.0.2.1"), None);
    }
    let mut waited = Vec::new();
    for _ in 0..14 {
        let wait = clock.fail("jane@example.com", "192.0.2.1").unwrap();
        clock.pass(wait);
        assert_eq!(clock.fail("jane@example.com", "192.0.2.1"), None, "the wait was right");
        waited.push(wait);
    }
    assert_eq!(waited, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]);
    // Who stays away for as long again begins anew.
    clock.pass(900 + 900);
    for _ in 0..5 {
        assert_eq!(clock.fail("jane@example.com", "192.0.2.1"), None);
    }
    assert_eq!(clock.fail("jane@example.com", "192.0.2.1"), Some(1));
}

#[test]
fn it_concerns_neither_other_accounts_nor_other_places() {
    let clock = clock();
    for _ in 0..10 {
        clock.fail("jane@example.com", "192.0.2.1");
    }
    assert!(clock.fail("jane@example.com", "192.0.2.1").is_some());
    assert_eq!(clock.fail("jane@example.com", "192.0.2.2"), None);
    assert_eq!(clock.fail("john@example.com", "192.0.2.1"), None);
    // However the address is typed, it is the same account; and a network of IPv6 is one source.
    assert!(clock.fail(" JANE@example.com ", "192.0.2.1").is_some());
    assert!(clock.fail("jane@example.com", "::ffff:192.0.2.1").is_some());
    for host in 1..=5 {
        assert_eq!(clock.fail("jane@example.com", &format!("2001:db8::{host}")), None);
    }
    assert_eq!(clock.fail("jane@example.com", "2001:db8::ffff:1"), Some(1));
    assert_eq!(clock.fail("jane@example.com", "2001:db8:0:1::1"), None);
}

#[test]
fn a_source_that_tries_many_accounts_runs_out_of_attempts() {
    let mut clock = clock();
    for n in 0..20 {
        assert_eq!(clock.fail(&format!("{n}@example.com"), "192.0.2.1"), None);
    }
    let refused = clock.admit("one more@example.com", "192.0.2.1").map(drop).unwrap_err();
    assert_eq!(refused.retry_after, Duration::from_secs(6));
    clock.pass(6);
    assert_eq!(clock.fail("21@example.com", "192.0.2.1"), None);
    assert!(clock.fail("22@example.com", "192.0.2.1").is_some());
    clock.pass(3_600);
    for n in 0..20 {
        assert_eq!(clock.fail(&format!("{n}@example.com"), "192.0.2.1"), None, "the budget is full again");
    }
}

#[test]
fn an_owner_gets_in_from_where_they_were_before_whatever_strangers_do() {
    let mut clock = clock();
    clock.succeed("jane@example.com", "192.0.2.1");
    // From everywhere, from the same office, and for a long time.
    for second in 0..600_u32 {
        clock.pass(1);
        for n in 0..100_u32 {
            clock.fail("jane@example.com", &format!("198.51.{}.{}", second % 256, n));
            clock.fail(&format!("{n}@example.com"), "192.0.2.1");
        }
        if second % 60 == 0 {
            clock.succeed("jane@example.com", "192.0.2.1");
        }
    }
    clock.succeed("jane@example.com", "192.0.2.1");
    // And from anywhere else, where nobody guesses.
    clock.succeed("jane@example.com", "203.0.113.1");
}

#[test]
fn under_guessing_from_everywhere_each_stranger_has_one_attempt_at_a_time() {
    let clock = clock();
    for n in 0..100 {
        assert_eq!(clock.fail("jane@example.com", &format!("198.51.100.{n}")), None);
    }
    assert_eq!(clock.fail("jane@example.com", "203.0.113.1"), None);
    assert_eq!(clock.fail("jane@example.com", "203.0.113.1"), Some(1));
    assert_eq!(clock.fail("john@example.com", "203.0.113.1"), None);
    assert_eq!(clock.fail("john@example.com", "203.0.113.1"), None);
}

#[test]
fn a_success_is_no_failure_and_neither_is_what_was_never_decided() {
    let mut clock = clock();
    for _ in 0..100 {
        clock.succeed("jane@example.com", "192.0.2.1");
        clock.admit("john@example.com", "192.0.2.2").unwrap().undecided();
    }
    for _ in 0..4 {
        clock.fail("jane@example.com", "192.0.2.1");
    }
    clock.succeed("jane@example.com", "192.0.2.1");
    for _ in 0..5 {
        assert_eq!(clock.fail("jane@example.com", "192.0.2.1"), None);
    }
    assert_eq!(clock.fail("jane@example.com", "192.0.2.1"), Some(1));
    clock.pass(1);
    clock.succeed("jane@example.com", "192.0.2.1");
}

#[test]
fn attempts_at_the_same_moment_all_count() {
    let clock = clock();
    let first = clock.admit("jane@example.com", "192.0.2.1").unwrap();
    let second = clock.admit("john@example.com", "192.0.2.1").unwrap();
    assert!(clock.admit("jack@example.com", "192.0.2.1").is_err(), "two under way are enough of one source");
    first.succeeded();
    drop(second);
    assert!(clock.admit("jack@example.com", "192.0.2.1").is_ok());
    let one = clock.admit("jane@example.com", "192.0.2.1").unwrap();
    let two = clock.admit("jane@example.com", "192.0.2.1").unwrap();
    assert_eq!((one.lane(), two.lane()), (Lane::Known, Lane::Known));
    assert!(clock.admit("jane@example.com", "192.0.2.1").is_err());
}

#[test]
fn memory_is_bounded_and_failures_push_out_no_success() {
    let clock = clock();
    clock.succeed("jane@example.com", "192.0.2.1");
    for n in 0..300_000_u32 {
        let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + n);
        let _refused = clock.throttle.admit(clock.now, &format!("{n}@example.com"), address.into());
    }
    {
        let state = clock.throttle.state.lock();
        for held in [state.known.len(), state.failures.len(), state.sources.len(), state.accounts.len()] {
            assert!(held <= 2 * REMEMBERED, "{held}");
        }
    }
    let attempt = clock.admit("jane@example.com", "192.0.2.1").unwrap();
    assert_eq!(attempt.lane(), Lane::Known);
}

#[test]
fn wrong_one_time_passwords_run_out_wherever_they_come_from() {
    let mut clock = clock();
    clock.succeed("jane@example.com", "192.0.2.1");
    let guess = |clock: &Clock, source: u32, is_right| {
        let source = format!("2001:db8:{:x}:{:x}::1", source >> 16, source & 0xffff);
        let attempt = clock.admit("jane@example.com", &source).unwrap();
        attempt.one_time_password(clock.now, is_right).map_err(|refusal| refusal.retry_after.as_secs())
    };
    for source in 0..20 {
        assert_eq!(guess(&clock, source, false), Ok(()));
    }
    // From then on nobody learns which one is right, from however many networks they ask.
    for source in 100..10_000 {
        assert_eq!(guess(&clock, source, source % 2 == 0), Err(300));
    }
    // The owner is not held back where they were before, nor is anybody else's account.
    let owner = clock.admit("jane@example.com", "192.0.2.1").unwrap();
    owner.one_time_password(clock.now, true).unwrap();
    owner.succeeded();
    let other = clock.admit("john@example.com", "2001:db8::1").unwrap();
    other.one_time_password(clock.now, false).unwrap();
    drop(other);
    clock.pass(300);
    assert_eq!(guess(&clock, 1 << 20, true), Ok(()));
    assert_eq!(guess(&clock, 1 << 21, false), Ok(()));
    assert_eq!(guess(&clock, 1 << 22, true), Err(300));
}
