//! Who may try a password now. Decided from memory in well under a microsecond, before anything is hashed or read, so that
//! ten thousand wrong logins a second cost little more than their requests.
//!
//! Three things are counted, none of which lets a stranger lock anybody out:
//!
//! - **account and source together**: after a few failures each further one has to wait twice as long. It stops guessing
//!   from one place and concerns nobody elsewhere.
//! - **source**: a budget of failures over all accounts. It stops trying one password on many accounts. A source that has
//!   logged in to an account before is not held back by it there: other people behind the same address can use up the
//!   budget.
//! - **account**: a budget of failures over all sources, against guessing from everywhere. When it is used up nobody is
//!   refused, but sources without a success have to wait from their first failure on, no longer from their fifth.
//!
//! One-time passwords are six digits: whoever knows the password and has a network of addresses could try them all. So
//! wrong ones have a budget of their own for each account, over all sources. It is touched only by who knows the password,
//! and sources with a success are not held back by it.
//!
//! An attempt is charged when it begins and refunded when it succeeds: attempts at the same moment all count.

mod recent;

use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;
use parking_lot::Mutex;

use self::recent::Recent;
use super::gate::Lane;

/// Pairs, sources and accounts remembered, of each: a few megabytes in all, whatever is tried.
const REMEMBERED: usize = 32_768;

/// Attempts of one source, or of one known pair, that may be under way at once.
const UNDER_WAY: u8 = 2;

/// What the first failure that has to wait waits.
const FIRST_DELAY: Duration = Duration::from_secs(1);

/// Failures of an account that fit into its budget, and how fast it fills up again: a hundred an hour.
const ACCOUNT_BUDGET: Budget = Budget { attempts: 100, refill: Duration::from_secs(36) };

/// Wrong one-time passwords of an account that fit into its budget, and how fast it fills up again: less than three
/// hundred a day, of which one in three thousand is right by chance.
const ONE_TIME_PASSWORD_BUDGET: Budget = Budget { attempts: 20, refill: Duration::from_secs(300) };

/// What an operator can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleSettings {
    /// Failures of an account from one source before any has to wait.
    pub free_attempts: u32,
    /// Longest time that a failure has to wait.
    pub longest_delay: Duration,
    /// Failures of one source, over all accounts.
    pub source: Budget,
}

/// A number of attempts at once, and the time in which one more becomes allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// How many at once.
    pub attempts: u32,
    /// How long until there is one more.
    pub refill: Duration,
}

/// The throttle.
#[derive(Debug)]
pub struct Throttle {
    settings: ThrottleSettings,
    hasher: RandomState,
    state: Mutex<State>,
}

/// An attempt was not let in; the same attempt may be, later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// When to come back.
    pub retry_after: Duration,
}

/// An attempt under way. It counts as failed unless it is said otherwise.
#[must_use = "an attempt is over when it is dropped"]
#[derive(Debug)]
pub struct Attempt<'a> {
    throttle: &'a Throttle,
    pair: Pair,
    lane: Lane,
}

/// Network of a client: an IPv4 address, or the 64 bits of an IPv6 one that a network is given whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Source(u64);

/// An account by the hash of its address, whether it exists or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Account(u64);

type Pair = (Account, Source);

#[derive(Debug)]
struct State {
    /// Pairs that have succeeded: nothing but a success adds one, so failures push none out.
    known: Recent<Pair, ()>,
    failures: Recent<Pair, Failures>,
    sources: Recent<Source, Spending>,
    accounts: Recent<Account, Spending>,
    /// Wrong one-time passwords: nobody who does not know the password adds one.
    one_time_passwords: Recent<Account, Spending>,
}

/// What failed for one pair.
#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    count: u32,
    under_way: u8,
    /// Not before then.
    next: Option<Instant>,
    /// Forgotten then.
    until: Option<Instant>,
}

/// What is left of a budget, as the moment when it will be full again.
#[derive(Clone, Copy, Debug, Default)]
struct Spending {
    full: Option<Instant>,
    under_way: u8,
}

impl Throttle {
    /// Remembers nothing yet.
    pub fn new(settings: ThrottleSettings) -> Self {
        let state = State {
            known: Recent::new(REMEMBERED),
            failures: Recent::new(REMEMBERED),
            sources: Recent::new(REMEMBERED),
            accounts: Recent::new(REMEMBERED),
            one_time_passwords: Recent::new(REMEMBERED),
        };
        Self { settings, hasher: RandomState::default(), state: Mutex::new(state) }
    }

    /// Lets an attempt in, or says when to come back. `email` as it was typed; whether it exists plays no part.
    ///
    /// # Errors
    /// If there have been too many.
    pub fn admit(&self, now: Instant, email: &str, address: IpAddr) -> Result<Attempt<'_>, Refusal> {
        let pair = self.pair(email, address);
        let lane = self.state.lock().admit(&self.settings, now, pair)?;
        Ok(Attempt { throttle: self, pair, lane })
    }

    /// Notes that somebody logged in to an account from an address, as an earlier process knows.
    pub fn remember(&self, email: &str, address: IpAddr) {
        let pair = self.pair(email, address);
        self.state.lock().known.entry(pair);
    }

    fn pair(&self, email: &str, address: IpAddr) -> Pair {
        let account = Account(self.hasher.hash_one(email.trim().to_lowercase()));
        (account, Source::of(address))
    }
}

impl Source {
    fn of(address: IpAddr) -> Self {
        /// Where no network is: multicast addresses send nothing.
        const V4: u64 = 0xff00_0000_0000_0000;
        Self(match address.to_canonical() {
            IpAddr::V4(address) => V4 | u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        })
    }
}

impl State {
    fn admit(&mut self, settings: &ThrottleSettings, now: Instant, pair: Pair) -> Result<Lane, Refusal> {
        let (account, source) = pair;
        let lane = if self.known.get(&pair).is_some() { Lane::Known } else { Lane::Stranger };
        // What is refused leaves no trace: it could be anything, at any rate.
        let failures = self.failures.get(&pair).filter(|failures| !failures.is_over(now));
        if let Some(next) = failures.and_then(|failures| failures.next).filter(|next| *next > now) {
            return Err(Refusal { retry_after: next - now });
        }
        match lane {
            Lane::Known => failures.map_or(Ok(()), |failures| check_under_way(failures.under_way))?,
            Lane::Stranger => {
                if let Some(spending) = self.sources.get(&source) {
                    spending.check(settings.source, now)?;
                    check_under_way(spending.under_way)?;
                }
                let spending = self.sources.entry(source);
                spending.spend(settings.source, now);
                spending.under_way += 1;
            }
        }
        let is_under_attack = self
            .accounts
            .get(&account)
            .is_some_and(|account| lane == Lane::Stranger && account.check(ACCOUNT_BUDGET, now).is_err());
        let free_attempts = if is_under_attack { 1 } else { settings.free_attempts };
        self.accounts.entry(account).spend(ACCOUNT_BUDGET, now);
        let failures = self.failures.entry(pair);
        if failures.is_over(now) {
            *failures = Failures { under_way: failures.under_way, ..Failures::default() };
        }
        failures.under_way = failures.under_way.saturating_add(1);
        failures.charge(free_attempts, settings.longest_delay, now);
        Ok(lane)
    }

    /// What an attempt was charged, back; `is_success`: and from now on the pair is known.
    fn refund(&mut self, settings: &ThrottleSettings, pair: Pair, lane: Lane, outcome: Outcome) {
        let (account, source) = pair;
        if lane == Lane::Stranger {
            self.sources.entry(source).refund(settings.source);
        }
        self.accounts.entry(account).refund(ACCOUNT_BUDGET);
        let failures = self.failures.entry(pair);
        match outcome {
            Outcome::Succeeded => {
                *failures = Failures { under_way: failures.under_way, ..Failures::default() };
                self.known.entry(pair);
            }
            Outcome::Undecided => {
                failures.count = failures.count.saturating_sub(1);
                failures.next = None;
            }
        }
    }

    /// Charges a wrong one-time password. Once the budget is used up the right one is refused like any other: an answer
    /// would tell which it is.
    fn check_one_time_password(
        &mut self,
        now: Instant,
        account: Account,
        is_right: bool,
    ) -> Result<(), Refusal> {
        if let Some(spending) = self.one_time_passwords.get(&account) {
            spending.check(ONE_TIME_PASSWORD_BUDGET, now)?;
        }
        if !is_right {
            self.one_time_passwords.entry(account).spend(ONE_TIME_PASSWORD_BUDGET, now);
        }
        Ok(())
    }

    fn end(&mut self, pair: Pair, lane: Lane) {
        if lane == Lane::Stranger {
            let source = self.sources.entry(pair.1);
            source.under_way = source.under_way.saturating_sub(1);
        }
        let failures = self.failures.entry(pair);
        failures.under_way = failures.under_way.saturating_sub(1);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Succeeded,
    Undecided,
}

impl Attempt<'_> {
    /// In which queue it waits.
    pub const fn lane(&self) -> Lane {
        self.lane
    }

    /// Who tried has proved who they are.
    pub fn succeeded(self) {
        self.refund(Outcome::Succeeded);
    }

    /// Nothing was found out about who tried: the password was right but the one-time password is missing, or it could
    /// not be looked at.
    pub fn undecided(self) {
        self.refund(Outcome::Undecided);
    }

    /// The password was right, and a one-time password was given that is or is not.
    ///
    /// # Errors
    /// If too many wrong ones have been tried from anywhere: then it counts for nothing, right or wrong.
    pub fn one_time_password(&self, now: Instant, is_right: bool) -> Result<(), Refusal> {
        match self.lane {
            // Each failure from there waits longer than the one before.
            Lane::Known => Ok(()),
            Lane::Stranger => self.throttle.state.lock().check_one_time_password(now, self.pair.0, is_right),
        }
    }

    fn refund(&self, outcome: Outcome) {
        self.throttle.state.lock().refund(&self.throttle.settings, self.pair, self.lane, outcome);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.throttle.state.lock().end(self.pair, self.lane);
    }
}

fn check_under_way(under_way: u8) -> Result<(), Refusal> {
    if under_way < UNDER_WAY { Ok(()) } else { Err(Refusal { retry_after: FIRST_DELAY }) }
}

impl Failures {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// One more: the first ones are free, then each waits twice as long as the one before.
    fn charge(&mut self, free_attempts: u32, longest_delay: Duration, now: Instant) {
        self.count = self.count.saturating_add(1);
        let mut until = now + longest_delay;
        if self.count >= free_attempts {
            let doublings = (self.count - free_attempts).min(30);
            let next = now + FIRST_DELAY.saturating_mul(1 << doublings).min(longest_delay);
            self.next = Some(next);
            // Who comes back at once goes on where it was; who stays away as long again begins anew.
            until = next + longest_delay;
        }
        self.until = Some(until);
    }
}

impl Spending {
    /// How much of the budget is spent, as the time it takes to fill up.
    fn spent(&self, now: Instant) -> Duration {
        self.full.map_or(Duration::ZERO, |full| full.saturating_duration_since(now))
    }

    fn check(&self, budget: Budget, now: Instant) -> Result<(), Refusal> {
        let allowed = budget.refill * (budget.attempts.saturating_sub(1));
        match self.spent(now).checked_sub(allowed) {
            None | Some(Duration::ZERO) => Ok(()),
            Some(retry_after) => Err(Refusal { retry_after }),
        }
    }

    /// One more, never beyond an empty budget.
    fn spend(&mut self, budget: Budget, now: Instant) {
        let spent = (self.spent(now) + budget.refill).min(budget.refill * budget.attempts);
        self.full = Some(now + spent);
    }

    fn refund(&mut self, budget: Budget) {
        self.full = self.full.and_then(|full| full.checked_sub(budget.refill));
    }
}

#[cfg(test)]
mod tests;
