//! What another authentication policy would do to an organization: which tokens and users would stop working, and which
//! would start. The deciding code itself says so, on the facts as they are now: what is listed here is what would be
//! refused, and let in, were the policy in force.
//!
//! Nothing is changed here, and the store is asked only for names ([`report`]).

pub mod report;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use super::view::{DirectoryView, OrganizationCell, ProjectEntry, UserEntry, UserIndex};
use crate::policy::{self, AuthenticationPolicy, Check, Denial, Facts, Permission, RequestFacts};
use crate::token::{TokenEntry, TokenIndex};

/// What "to work" means in a preview.
#[derive(Clone, Copy, Debug)]
pub struct PreviewQuestion<'a> {
    /// To be let in with a request that needs this permission on this project. `None`: to come as far as the checks of
    /// scopes and grants (rows 4 to 12), whatever is asked for.
    pub asked: Option<(&'a ProjectEntry, Permission)>,
    /// From this address. `None`: from where the token was used last; one that never was is judged without the checks
    /// of addresses (rows 8 and 9).
    pub client_address: Option<IpAddr>,
    /// Seconds since the epoch.
    pub now: u32,
}

/// Which part of the affected tokens and users is listed; all of them are counted.
#[derive(Clone, Copy, Debug)]
pub struct PreviewPage {
    /// Tokens whose number in the store is greater than this.
    pub after: u32,
    /// At most so many tokens that stop, as many that start, and as many users.
    pub limit: usize,
}

/// What would change.
#[derive(Debug, Default)]
pub struct Preview {
    /// Tokens that were looked at: those of the organization's users, revoked and expired ones included.
    pub tokens_considered: usize,
    /// Tokens that work and would no longer.
    pub stopping: AffectedTokens,
    /// Tokens that do not work and would.
    pub starting: AffectedTokens,
    /// Users with a token that stops or starts.
    pub users: Vec<AffectedUser>,
    /// Users of whose tokens some work and none would any more.
    pub users_stopping: usize,
    /// Users of whose tokens none works and some would.
    pub users_starting: usize,
    /// After which number to look for what is not listed; `None`: all is.
    pub next: Option<u32>,
}

/// Tokens that are affected in one way.
#[derive(Debug, Default)]
pub struct AffectedTokens {
    /// All of them, by the reason: of a token that stops why it would, of one that starts why it does not now.
    pub by_reason: BTreeMap<Denial, usize>,
    /// Those of the page, in the order of their numbers.
    pub listed: Vec<AffectedToken>,
}

/// One token that stops or starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AffectedToken {
    /// The store's number for it.
    pub number: u32,
    /// Its place in the cache.
    pub index: TokenIndex,
    /// Whose.
    pub user: UserIndex,
    /// The address it was judged for; `None`: without the checks of addresses.
    pub client_address: Option<IpAddr>,
    /// Why it does not work now, if it does not.
    pub reason_before: Option<Denial>,
    /// Why it would not work, if it would not.
    pub reason_after: Option<Denial>,
}

/// One user with tokens that stop or start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AffectedUser {
    /// Who.
    pub user: UserIndex,
    /// Tokens that work now.
    pub working_before: usize,
    /// Tokens that would.
    pub working_after: usize,
    /// Tokens that work and would no longer.
    pub stopping: usize,
    /// Tokens that do not and would.
    pub starting: usize,
}

impl AffectedTokens {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.by_reason.values().sum()
    }
}

/// Judges every token of an organization's users under the policy in force and under another.
pub fn preview(
    view: &DirectoryView,
    organization: &OrganizationCell,
    candidate: &AuthenticationPolicy,
    question: PreviewQuestion<'_>,
    page: PreviewPage,
) -> Preview {
    let current = organization.current.load();
    let [with_address, without_address] =
        [true, false].map(|knows_address| checks(question.asked.is_some(), knows_address));
    let mut preview = Preview::default();
    let mut stopping = Listing::new(page);
    let mut starting = Listing::new(page);
    let mut users: HashMap<UserIndex, AffectedUser> = HashMap::new();
    for entry in view.tokens.entries() {
        let user = view.users.current(entry.user());
        if !user.memberships.iter().any(|membership| membership.organization == organization.index) {
            continue;
        }
        preview.tokens_considered += 1;
        let client_address = question.client_address.or_else(|| entry.last_used_by().0);
        let state = entry.state();
        let facts = Facts {
            request: request_facts(question, client_address),
            token: state.facts(),
            user: UserEntry::facts(&user),
            organization: Some(current.facts(organization.index)),
        };
        let checks = if client_address.is_some() { &with_address } else { &without_address };
        let judge = |facts: &Facts<'_>| policy::check(facts, checks);
        let (before, after) = (judge(&facts), judge(&facts.under(candidate)));
        let of_user = users.entry(entry.user()).or_insert_with(|| AffectedUser::unaffected(entry.user()));
        of_user.working_before += usize::from(before.is_ok());
        of_user.working_after += usize::from(after.is_ok());
        let affected = || AffectedToken::new(entry, client_address, before, after);
        match (before, after) {
            (Ok(()), Err(denial)) => {
                of_user.stopping += 1;
                stopping.add(denial, affected());
            }
            (Err(denial), Ok(())) => {
                of_user.starting += 1;
                starting.add(denial, affected());
            }
            (Ok(()), Ok(())) | (Err(_), Err(_)) => {}
        }
    }
    let stops = |user: &AffectedUser| user.working_before > 0 && user.working_after == 0;
    let starts = |user: &AffectedUser| user.working_before == 0 && user.working_after > 0;
    preview.users_stopping = users.values().filter(|user| stops(user)).count();
    preview.users_starting = users.values().filter(|user| starts(user)).count();
    preview.users = users.into_values().filter(|user| user.stopping + user.starting > 0).collect();
    // Those who lose everything first.
    preview.users.sort_unstable_by_key(|user| (!stops(user), !starts(user), user.user.0));
    preview.users.truncate(page.limit);
    // Both lists end at the same number, so that what follows it is listed next, once.
    preview.next = [&stopping, &starting].into_iter().filter_map(Listing::end).min();
    let until = preview.next.unwrap_or(u32::MAX);
    preview.stopping = stopping.finish(until);
    preview.starting = starting.finish(until);
    preview
}

fn request_facts(question: PreviewQuestion<'_>, client_address: Option<IpAddr>) -> RequestFacts<'_> {
    let (resource_chain, required) = match question.asked {
        Some((project, required)) => (&*project.resource_chain, required),
        // Whichever stands here is never looked at.
        None => (&[][..], Permission::ProjectServicesRead),
    };
    RequestFacts {
        now: question.now,
        client_address: client_address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        required,
        resource_chain,
    }
}

/// The checks that the question is about, in the policy's order.
fn checks(asks_permission: bool, knows_address: bool) -> Vec<Check> {
    let is_asked = |check: &Check| match check {
        Check::OrganizationAddresses | Check::TokenAddresses => knows_address,
        Check::Scopes | Check::Granted => asks_permission,
        Check::NotRevoked
        | Check::NotExpired
        | Check::UserActive
        | Check::Member
        | Check::PersonalTokensEnabled
        | Check::MethodAllowed
        | Check::TwoFactor => true,
    };
    Check::ALL.into_iter().filter(is_asked).collect()
}

impl AffectedToken {
    fn new(
        entry: TokenEntry<'_>,
        client_address: Option<IpAddr>,
        before: Result<(), Denial>,
        after: Result<(), Denial>,
    ) -> Self {
        Self {
            number: entry.store_number(),
            index: entry.index(),
            user: entry.user(),
            client_address,
            reason_before: before.err(),
            reason_after: after.err(),
        }
    }
}

impl AffectedUser {
    const fn unaffected(user: UserIndex) -> Self {
        Self { user, working_before: 0, working_after: 0, stopping: 0, starting: 0 }
    }
}

/// Counts all, and keeps the page: memory does not grow with the number of tokens.
struct Listing {
    page: PreviewPage,
    by_reason: BTreeMap<Denial, usize>,
    listed: BTreeMap<u32, AffectedToken>,
    has_more: bool,
}

impl Listing {
    const fn new(page: PreviewPage) -> Self {
        Self { page, by_reason: BTreeMap::new(), listed: BTreeMap::new(), has_more: false }
    }

    fn add(&mut self, reason: Denial, token: AffectedToken) {
        *self.by_reason.entry(reason).or_default() += 1;
        if token.number <= self.page.after {
            return;
        }
        self.listed.insert(token.number, token);
        if self.listed.len() > self.page.limit {
            self.listed.pop_last();
            self.has_more = true;
        }
    }
}

impl Listing {
    /// The last number listed, if there are more.
    fn end(&self) -> Option<u32> {
        self.listed.last_key_value().filter(|_| self.has_more).map(|(number, _)| *number)
    }

    fn finish(self, until: u32) -> AffectedTokens {
        let listed = self.listed.into_iter().take_while(|(number, _)| *number <= until);
        AffectedTokens { by_reason: self.by_reason, listed: listed.map(|(_, token)| token).collect() }
    }
}
