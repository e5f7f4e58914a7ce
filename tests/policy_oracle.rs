//! The decision against a second one, over every combination of what it depends on.
//!
//! `oracle` is the policy's table once more, written independently; `combinations` lists every value of everything
//! that counts; this file puts each combination to both. Boundaries of address ranges and the like are in the unit
//! tests.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[path = "policy_oracle/combinations.rs"]
mod combinations;
#[path = "policy_oracle/oracle.rs"]
mod oracle;

use std::num::NonZero;
use std::thread;

use postern::policy::{
    CheckResult, Denial, Facts, OrganizationFacts, TokenFacts, UserFacts, decide, explain,
};

use combinations::{REQUEST, Ranges, organization_facts, policies, tokens, users};
use oracle::{Case, Policy, Token, User};

/// 2⁷ policies × 3 address lists, and the unknown organization.
const ORGANIZATIONS: usize = 385;
/// 3 kinds × 8 bindings × revoked or not × too old or not × 3 expiries × 3 address lists × 3 scopes.
const TOKENS: usize = 2_592;
/// 3 states × two-factor or not × 4 memberships × 8 grants.
const USERS: usize = 192;
const COMBINATIONS: usize = 191_600_640;

/// Every so many combinations all checks are compared, not only the first that fails. A prime, so that no
/// dimension keeps step with it.
const EXPLAINED_EVERY: usize = 1_009;

#[test]
fn every_combination_is_decided_as_the_table_says() {
    let policies = policies();
    let organizations: Vec<_> = policies
        .iter()
        .map(|(plain, policy)| (Some(plain), Some(organization_facts(policy))))
        .chain([(None, None)])
        .collect();
    let ranges = Ranges::new();
    let tokens = tokens(&ranges);
    let users = users();
    assert_eq!((organizations.len(), tokens.len(), users.len()), (ORGANIZATIONS, TOKENS, USERS));

    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let share = organizations.len().div_ceil(threads);
    let tally = thread::scope(|scope| {
        let running: Vec<_> = organizations
            .chunks(share)
            .map(|chunk| scope.spawn(|| compare(chunk, &tokens, &users)))
            .collect();
        running.into_iter().map(|thread| thread.join().unwrap()).reduce(Tally::add).unwrap()
    });

    assert_eq!(tally.permits + tally.denials.iter().sum::<usize>(), COMBINATIONS);
    assert!(tally.explained >= COMBINATIONS / EXPLAINED_EVERY);
    assert!(tally.permits > 0);
    for (denial, count) in Denial::ALL.into_iter().zip(tally.denials) {
        let needs_directory = denial >= Denial::TokenRevoked;
        assert_eq!(count > 0, needs_directory, "{denial}: {count} combinations");
    }
}

/// What was seen.
#[derive(Clone, Copy, Default)]
struct Tally {
    permits: usize,
    /// By the position in `Denial::ALL`.
    denials: [usize; Denial::ALL.len()],
    explained: usize,
}

impl Tally {
    fn add(mut self, other: Self) -> Self {
        self.permits += other.permits;
        self.explained += other.explained;
        for (sum, more) in self.denials.iter_mut().zip(other.denials) {
            *sum += more;
        }
        self
    }
}

/// Puts every combination of the parts to both; panics at the first difference.
fn compare(
    organizations: &[(Option<&Policy>, Option<OrganizationFacts<'_>>)],
    tokens: &[(Token, TokenFacts<'_>)],
    users: &[(User, UserFacts<'_>)],
) -> Tally {
    let mut tally = Tally::default();
    let mut until_explained = 0;
    for (policy, organization) in organizations {
        for (token, token_facts) in tokens {
            for (user, user_facts) in users {
                let case = Case { policy: *policy, token, user };
                let facts = Facts {
                    request: REQUEST,
                    token: *token_facts,
                    user: *user_facts,
                    organization: *organization,
                };
                let expected = oracle::refusal(&case);
                match (decide(&facts), expected) {
                    (Ok(_), None) => tally.permits += 1,
                    (Err(denial), Some(code)) if denial.code() == code => tally.denials[denial as usize] += 1,
                    (decided, expected) => panic!("{decided:?}, not {expected:?}: {case:#?}"),
                }
                if until_explained == 0 {
                    until_explained = EXPLAINED_EVERY;
                    tally.explained += 1;
                    compare_each_check(&facts, &case);
                }
                until_explained -= 1;
            }
        }
    }
    tally
}

fn compare_each_check(facts: &Facts<'_>, case: &Case<'_>) {
    let explained = explain(facts);
    let numbers: Vec<u8> = explained.iter().map(|row| row.number).collect();
    assert_eq!(numbers, [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
    for row in &explained {
        let answer = match row.result {
            CheckResult::Passed => oracle::Answer::Passes,
            CheckResult::NotApplicable => oracle::Answer::DoesNotApply,
            CheckResult::Failed(denial) => oracle::Answer::Refuses(denial.code()),
        };
        assert_eq!(answer, oracle::answer(row.number, case), "{row:#?} of {case:#?}");
    }
    let first_failure = explained.iter().find_map(|row| match row.result {
        CheckResult::Failed(denial) => Some(denial),
        CheckResult::Passed | CheckResult::NotApplicable => None,
    });
    assert_eq!(first_failure, decide(facts).err(), "{case:#?}");
}
