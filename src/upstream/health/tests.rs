//! An address's life: failures, ejections that grow, the slow return; checks and their thresholds.

#![allow(clippy::unwrap_used, reason = "tests")]

use http::StatusCode;

use super::*;
use crate::config::HealthCheck;

const RETURN: Duration = Duration::from_secs(10);

fn ejection() -> EjectionConfig {
    EjectionConfig {
        consecutive_failures: 3,
        rest: Duration::from_secs(10),
        longest: Duration::from_secs(25),
        return_time: RETURN,
        most_percent: 50,
    }
}

fn checks() -> HealthConfig {
    HealthConfig {
        check: HealthCheck::Http { path: "/".into(), status: Some(StatusCode::OK) },
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        healthy_threshold: 2,
        unhealthy_threshold: 3,
    }
}

/// What is held against it is looked up only if there is something.
fn standing(health: &Health, now: u64) -> Standing {
    health.standing(|| now, RETURN)
}

#[test]
fn one_with_nothing_against_it_needs_no_clock() {
    let health = Health::default();
    assert_eq!(health.standing(|| panic!("no clock"), RETURN), Standing::Share(FULL_SHARE));
}

#[test]
fn only_failures_in_a_row_are_too_many() {
    let health = Health::default();
    let failed = |_| health.failed(&ejection());
    assert_eq!([(), ()].map(failed), [false, false]);
    health.succeeded();
    assert_eq!([(), (), ()].map(failed), [false, false, true]);
}

#[test]
fn it_rests_longer_each_time_and_comes_back_slowly() {
    let (health, settings) = (Health::default(), ejection());
    assert_eq!(health.eject(&settings, 1_000), Duration::from_secs(10));
    assert_eq!((standing(&health, 10_999), health.is_ejected(10_999)), (Standing::Ejected, true));
    assert_eq!(standing(&health, 11_000), Standing::Share(LEAST_SHARE));
    assert_eq!(standing(&health, 16_000), Standing::Share(500));
    assert_eq!(health.age(10_999, RETURN), None);
    assert_eq!(health.age(11_000, RETURN), Some(Turn::Better), "told once");
    assert_eq!(health.age(11_001, RETURN), None);
    assert!(health.failed(&settings), "the first failure after its return is one too many");
    assert_eq!(health.eject(&settings, 12_000), Duration::from_secs(20));
    assert_eq!(standing(&health, 31_999), Standing::Ejected);
    assert_eq!(health.eject(&settings, 32_000), Duration::from_secs(25), "never longer than the longest");
    assert_eq!(health.age(57_000, RETURN), Some(Turn::Better));
    assert_eq!(health.age(67_000, RETURN), None);
    assert_eq!(health.conditions.load(Ordering::Relaxed), 0, "forgotten");
    assert_eq!(health.eject(&settings, 90_000), Duration::from_secs(10), "long ago: counted anew");
}

#[test]
fn a_return_without_time_is_complete_at_once() {
    let health = Health::default();
    health.eject(&ejection(), 0);
    assert_eq!(health.standing(|| 10_000, Duration::ZERO), Standing::Share(FULL_SHARE));
}

#[test]
fn checks_decide_by_their_thresholds_and_the_first_alone() {
    let (health, settings) = (Health::default(), checks());
    let checked = |passed| health.checked(passed, &settings);
    assert_eq!(checked(false), Some(Turn::Worse), "the first decides alone");
    assert_eq!(standing(&health, 0), Standing::Unhealthy);
    assert_eq!([true, false, true].map(checked), [None, None, None], "not two in a row");
    assert_eq!(checked(true), Some(Turn::Better));
    assert_eq!([false, false, true, false, false].map(checked), [None; 5]);
    assert_eq!(checked(false), Some(Turn::Worse));
    let fine = Health::default();
    assert_eq!([true, false, false].map(|passed| fine.checked(passed, &settings)), [None; 3]);
}

#[test]
fn unhealthy_outweighs_everything_else() {
    let health = Health::default();
    health.eject(&ejection(), 0);
    health.checked(false, &checks());
    assert_eq!(standing(&health, 5), Standing::Unhealthy);
    health.checked(true, &checks());
    health.checked(true, &checks());
    assert_eq!(standing(&health, 5), Standing::Ejected, "requests still know better");
    health.return_slowly(20_000);
    assert_eq!(standing(&health, 20_000), Standing::Share(LEAST_SHARE));
}
