//! The token's limits beside the route's, and what is given back.

use std::time::{Duration, Instant};

use super::bucket::Rate;
use super::{Counted, Exceeded, Held, Limit, LimitConfigured, RouteLimits, Standings};
use crate::slab::Slab;
use crate::token::TokenIndex;

const fn rate(count: u32, burst: u32) -> LimitConfigured {
    LimitConfigured { rate: Some(rate_of(count, burst)), concurrent: None }
}

const fn rate_of(count: u32, burst: u32) -> Rate {
    Rate { interval: 1_000_000_000 / count as u64, burst: burst as u64 }
}

const fn concurrent(most: u32) -> LimitConfigured {
    LimitConfigured { rate: None, concurrent: Some(most) }
}

fn limits(route: LimitConfigured, token: LimitConfigured) -> RouteLimits {
    let counted = Counted { epoch: Instant::now(), route: Default::default(), tokens: Slab::default() };
    RouteLimits { route, token, counted: counted.into() }
}

fn exceeded(entered: Result<Held, Exceeded>) -> Option<Limit> {
    entered.err().map(|exceeded| exceeded.limit)
}

#[test]
fn each_token_has_its_own_and_all_have_the_routes() {
    let limits = limits(rate(1, 3), rate(1, 2));
    let now = limits.counted.epoch;
    let enter = |token| exceeded(limits.enter(Some(TokenIndex::of_place(token)), now));
    assert_eq!([enter(1), enter(1)], [None; 2]);
    assert_eq!(enter(1), Some(Limit::TokenRate));
    assert_eq!(enter(2_000_000), None);
    // The route's is used up; the other token is not charged for what it did not get.
    assert_eq!(enter(2_000_000), Some(Limit::RouteRate));
    assert_eq!(exceeded(limits.enter(None, now)), Some(Limit::RouteRate));
    let later = now + Duration::from_secs(1);
    assert_eq!(exceeded(limits.enter(Some(TokenIndex::of_place(2_000_000)), later)), None);
}

#[test]
fn places_are_given_back_whatever_came_between() {
    let limits = limits(concurrent(2), LimitConfigured { concurrent: Some(1), ..rate(1, 2) });
    let now = limits.counted.epoch;
    let enter = |token| limits.enter(Some(TokenIndex::of_place(token)), now);
    let first = enter(1).expect("a place");
    assert_eq!(exceeded(enter(1)), Some(Limit::TokenConcurrency));
    let second = enter(2).expect("a place");
    assert_eq!(exceeded(enter(3)), Some(Limit::RouteConcurrency));
    drop(first);
    // Its token was charged for the one request that was let in, not for the one that was not.
    drop(enter(1).expect("a place"));
    assert_eq!(exceeded(enter(1)), Some(Limit::TokenRate));
    drop(second);
    let third = enter(3).expect("the refused one left nothing behind");
    drop(enter(2).expect("nor did the one whose rate was exceeded"));
    drop(third);
}

#[test]
fn a_reload_goes_on_counting() {
    let before = limits(rate(1, 1), LimitConfigured::default());
    let now = before.counted.epoch;
    assert_eq!(exceeded(before.enter(None, now)), None);
    let mut after = limits(LimitConfigured { concurrent: Some(1), ..rate(1, 1) }, rate(1, 1));
    after.go_on_from(&before);
    assert_eq!(exceeded(after.enter(None, now)), Some(Limit::RouteRate));
}

#[test]
fn both_standings_are_told_in_one_line() {
    let limits = limits(rate(10, 10), rate(2, 4));
    let held = limits.enter(Some(TokenIndex::of_place(7)), limits.counted.epoch).expect("a place");
    let mut lines = Vec::new();
    held.standings.write_lines(&mut lines);
    let expected = "ratelimit-policy: \"token\";q=4;w=2, \"route\";q=10;w=1\r\n\
                    ratelimit: \"token\";r=3;t=1, \"route\";r=9;t=1\r\n";
    assert_eq!(String::from_utf8_lossy(&lines), expected);
    let mut none = Vec::new();
    Standings::default().write_lines(&mut none);
    assert!(none.is_empty());
}
