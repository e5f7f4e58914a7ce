//! Which of an upstream's addresses takes a request: in turn, or the one with the fewest requests under way.
//!
//! A pure function of what is known about each; where that comes from, and what happens when nobody may be asked, is
//! its caller's business.

use smallvec::SmallVec;

use crate::config::Balance;

/// The share of traffic of an address that has nothing against it, in thousandths.
pub(super) const FULL_SHARE: u32 = 1000;

/// An address that may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its share of what the others get, in thousandths: from 1 to [`FULL_SHARE`].
    pub(super) share: u32,
    /// This worker's requests to it that are under way.
    pub(super) in_flight: usize,
}

/// A source of chance that nobody's safety depends on: xorshift, without a clock or a system call.
#[derive(Debug)]
pub(super) struct Dice(std::cell::Cell<u64>);

impl Dice {
    /// Different workers roll differently.
    pub(super) fn new(worker: usize) -> Self {
        Self(std::cell::Cell::new(0x9e37_79b9_7f4a_7c15 ^ ((worker as u64 + 1) << 32)))
    }

    /// A number below [`FULL_SHARE`].
    pub(super) fn roll(&self) -> u32 {
        let mut state = self.0.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.0.set(state);
        ((state >> 32) % u64::from(FULL_SHARE)) as u32
    }
}

/// The position of the one that is asked, of `count`; `None` if none may be. `turn` grows by one with each request.
///
/// Those that may not be asked are left out before the turn is counted: else the next one would take their requests on
/// top of its own. Who has less than a full share is left out by chance, or counted as busier than it is.
pub(super) fn pick(
    balance: Balance,
    count: usize,
    candidate: impl Fn(usize) -> Option<Candidate>,
    turn: usize,
    dice: &Dice,
) -> Option<usize> {
    match balance {
        Balance::RoundRobin => in_turn(count, candidate, turn, dice),
        Balance::LeastRequests => least_requests(count, candidate, turn),
    }
}

fn in_turn(
    count: usize,
    candidate: impl Fn(usize) -> Option<Candidate>,
    turn: usize,
    dice: &Dice,
) -> Option<usize> {
    let (mut chosen, mut possible) = (SmallVec::<[usize; 16]>::new(), None);
    for position in 0..count {
        let Some(Candidate { share, .. }) = candidate(position) else { continue };
        possible = Some(position);
        if share >= FULL_SHARE || dice.roll() < share {
            chosen.push(position);
        }
    }
    match chosen.len() {
        // All of them have just come back, and none was lucky: somebody has to.
        0 => possible,
        several => chosen.get(turn % several).copied(),
    }
}

/// The exact minimum: there are few, and a look at each costs less than two random ones would cost in evenness. Equals
/// take turns.
fn least_requests(
    count: usize,
    candidate: impl Fn(usize) -> Option<Candidate>,
    turn: usize,
) -> Option<usize> {
    let rotated = (0..count).map(|step| (turn % count + step) % count);
    let load = |position: usize| {
        let Candidate { share, in_flight } = candidate(position)?;
        let requests = (in_flight as u64 + 1).saturating_mul(u64::from(FULL_SHARE));
        Some((requests / u64::from(share.max(1)), position))
    };
    // The first of equals, hence the one whose turn it is.
    rotated.filter_map(load).min_by_key(|(load, _)| *load).map(|(_, position)| position)
}

#[cfg(test)]
mod tests;
