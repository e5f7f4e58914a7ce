//! Who is asked, over many requests.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

const FREE: Option<Candidate> = Some(Candidate { share: FULL_SHARE, in_flight: 0 });

const fn busy(in_flight: usize) -> Option<Candidate> {
    Some(Candidate { share: FULL_SHARE, in_flight })
}

const fn returning(share: u32) -> Option<Candidate> {
    Some(Candidate { share, in_flight: 0 })
}

/// How often each is asked in so many requests.
fn asked(balance: Balance, candidates: &[Option<Candidate>], requests: usize) -> Vec<usize> {
    let mut asked = vec![0; candidates.len()];
    let dice = Dice::new(0);
    for turn in 0..requests {
        if let Some(position) = pick(balance, candidates.len(), |position| candidates[position], turn, &dice)
        {
            asked[position] += 1;
        }
    }
    asked
}

#[test]
fn in_turn_all_get_the_same() {
    assert_eq!(asked(Balance::RoundRobin, &[FREE, busy(9), FREE], 300), [100, 100, 100]);
}

#[test]
fn the_neighbour_of_one_that_is_out_gets_no_more_than_the_others() {
    assert_eq!(asked(Balance::RoundRobin, &[FREE, None, FREE, FREE], 300), [100, 0, 100, 100]);
}

#[test]
fn least_requests_finds_the_least_and_lets_equals_take_turns() {
    assert_eq!(asked(Balance::LeastRequests, &[busy(3), busy(1), busy(2)], 10), [0, 10, 0]);
    assert_eq!(asked(Balance::LeastRequests, &[busy(1), busy(1), busy(2), None], 100), [75, 25, 0, 0]);
    assert_eq!(asked(Balance::LeastRequests, &[FREE, FREE], 100), [50, 50]);
}

#[test]
fn who_comes_back_gets_a_share() {
    let asked_in_turn = asked(Balance::RoundRobin, &[FREE, returning(100)], 10_000);
    assert!((300..800).contains(&asked_in_turn[1]), "about one in twenty: {asked_in_turn:?}");
    // Counted as ten times as busy: it is asked once the other has ten under way.
    let least = |in_flight| asked(Balance::LeastRequests, &[busy(in_flight), returning(100)], 10)[1];
    assert_eq!((least(8), least(10)), (0, 10));
}

#[test]
fn somebody_is_asked_as_long_as_anybody_may_be() {
    for balance in [Balance::RoundRobin, Balance::LeastRequests] {
        assert_eq!(asked(balance, &[returning(1)], 100), [100]);
        assert_eq!(asked(balance, &[None, None], 100), [0, 0]);
        assert_eq!(asked(balance, &[], 100), [0; 0]);
    }
}

#[test]
fn workers_roll_differently() {
    let rolls = |worker| {
        let dice = Dice::new(worker);
        (0..8).map(|_| dice.roll()).collect::<Vec<_>>()
    };
    assert_ne!(rolls(0), rolls(1));
    assert!(rolls(0).iter().all(|roll| *roll < FULL_SHARE));
}
