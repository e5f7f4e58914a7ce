//! Tokens that nobody uses any more: which they are. Revoking them is [`super::operations`]' business.

use std::collections::BTreeSet;

use super::model::Timestamp;
use super::view::{DirectoryView, OrganizationCell};
use crate::policy::{self, Check, Membership};
use crate::token::TokenKind;

/// Which part of the stale tokens is listed; all of them are counted. The longest unused come first.
#[derive(Clone, Copy, Debug)]
pub struct StalePage {
    /// Those after this one.
    pub after: Option<StalePlace>,
    /// At most so many.
    pub limit: usize,
}

/// A place in the list: the time of the last activity and the token's number in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StalePlace {
    /// When it was last used or, if never, made.
    pub last_activity: Timestamp,
    /// The store's number for it.
    pub number: u32,
}

/// Tokens that could be used and are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StaleTokens {
    /// How many there are.
    pub count: usize,
    /// Those of the page.
    pub listed: Vec<StalePlace>,
    /// Whether there are more after the page.
    pub has_more: bool,
}

/// What still opens something, were it used: neither revoked nor expired, of an active user.
const USABLE: [Check; 3] = [Check::NotRevoked, Check::NotExpired, Check::UserActive];

/// The tokens of an organization's users, who belong to no other, that could be used and have not been since
/// `unused_since`: the tokens of whoever has joined others as well are for those too, and nobody here ends them. A token that was never
/// used counts from when it was made. `is_asked` picks the kinds of tokens.
pub fn stale_tokens(
    view: &DirectoryView,
    organization: &OrganizationCell,
    unused_since: Timestamp,
    now: Timestamp,
    is_asked: impl Fn(TokenKind) -> bool,
    page: StalePage,
) -> StaleTokens {
    let mut stale = StaleTokens::default();
    let mut listed = BTreeSet::new();
    for entry in view.tokens.entries() {
        let user = view.users.current(entry.user());
        let is_only = |membership: &Membership| membership.organization == organization.index;
        if user.memberships.len() != 1 || !user.memberships.iter().all(is_only) {
            continue;
        }
        let state = entry.state();
        let token = state.facts();
        let last_activity = Timestamp(entry.last_used_at().unwrap_or(0).max(token.created_at));
        if last_activity >= unused_since || !is_asked(token.kind) {
            continue;
        }
        let facts = policy::Facts {
            request: policy::RequestFacts {
                now: now.0,
                client_address: std::net::IpAddr::from([0, 0, 0, 0]),
                required: policy::Permission::ProjectServicesRead,
                resource_chain: &[],
            },
            token,
            user: user.facts(),
            organization: None,
        };
        if policy::check(&facts, &USABLE).is_err() {
            continue;
        }
        stale.count += 1;
        let place = StalePlace { last_activity, number: entry.store_number() };
        if page.after.is_some_and(|after| place <= after) {
            continue;
        }
        listed.insert(place);
        if listed.len() > page.limit {
            listed.pop_last();
            stale.has_more = true;
        }
    }
    stale.listed = listed.into_iter().collect();
    stale
}
