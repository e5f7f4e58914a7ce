//! The cache's promises: tombstones, usage carried over, counts.

use std::net::IpAddr;

use arc_swap::ArcSwap;
use http::HeaderValue;

use super::*;
use crate::directory::view::{UserCell, UserEntry};
use crate::policy::facts::{UserKind, UserState};
use crate::policy::{MethodBinding, ThirdParty};
use crate::token::usage::{UsageLog, UserAgent};

const CREATED: u32 = 1_800_000_000;

fn user() -> Arc<UserCell> {
    Arc::new(UserCell {
        current: ArcSwap::from_pointee(UserEntry {
            id: HeaderValue::from_static("u1"),
            kind: UserKind::ApplicationUser,
            state: UserState::Active,
            token_validity_begin: 0,
            two_factor_enabled: false,
            memberships: Default::default(),
            grants: Default::default(),
        }),
    })
}

fn attributes(user: &Arc<UserCell>) -> TokenAttributes {
    TokenAttributes {
        digest: TokenDigest::of(b"a token of some length"),
        number: 1,
        user: Arc::clone(user),
        kind: TokenKind::Application,
        created_at: CREATED,
        max_age_seconds: None,
        extend_when_used: false,
        revoked: false,
        binding: None,
        restrictions: None,
        imported_prefix: None,
        last_used_at: 0,
        last_address: None,
        last_user_agent: None,
    }
}

/// A cache with one token, for tests of usage.
pub(in crate::token) fn one_token() -> (TokenCache, TokenDigest) {
    let cache = TokenCache::default();
    cache.put(attributes(&user()));
    (cache, TokenDigest::of(b"a token of some length"))
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[track_caller]
fn entry(cache: &TokenCache) -> Arc<TokenEntry> {
    cache.find(&TokenDigest::of(b"a token of some length")).expect("the token is known")
}

#[test]
fn a_late_fill_revives_no_revoked_token() {
    let (cache, user) = (TokenCache::default(), user());
    cache.put(attributes(&user));
    assert_eq!(cache.unrevoked(TokenKind::Application), 1);
    cache.put(TokenAttributes { revoked: true, ..attributes(&user) });
    cache.put(attributes(&user));
    cache.put(TokenAttributes { max_age_seconds: Some(600), ..attributes(&user) });
    assert!(entry(&cache).facts().revoked);
    assert_eq!((cache.len(), cache.unrevoked(TokenKind::Application)), (1, 0));
}

#[test]
fn who_holds_an_older_entry_learns_of_revocation_and_finds_the_new_one() {
    let (cache, user) = (TokenCache::default(), user());
    cache.put(attributes(&user));
    let first = entry(&cache);
    assert!(Arc::ptr_eq(&cache.current(&first), &first));
    cache.put(TokenAttributes { max_age_seconds: Some(600), ..attributes(&user) });
    assert_eq!(cache.current(&first).facts().expires_at, Some(CREATED + 600));
    let held = entry(&cache);
    cache.put(TokenAttributes { max_age_seconds: Some(700), revoked: true, ..attributes(&user) });
    assert!(held.facts().revoked && cache.current(&first).facts().revoked);
}

#[test]
fn a_change_of_attributes_keeps_the_later_usage() {
    let (cache, user, usage) = (TokenCache::default(), user(), UsageLog::default());
    let used = |seconds: u32| TokenAttributes {
        max_age_seconds: Some(600 + seconds),
        last_used_at: CREATED + seconds,
        last_address: Some(address("192.0.2.1")),
        ..attributes(&user)
    };
    cache.put(attributes(&user));
    usage.touch(&entry(&cache), CREATED + 50, address("2001:db8::1"), Some(b"curl"));
    cache.put(used(40));
    let agent = Arc::new(UserAgent::from_bytes(b"curl"));
    assert_eq!(entry(&cache).last_used_at(), Some(CREATED + 50));
    assert_eq!(entry(&cache).last_used_by(), (Some(address("2001:db8::1")), Some(agent)));
    cache.put(used(60));
    assert_eq!(entry(&cache).last_used_at(), Some(CREATED + 60));
    assert_eq!(entry(&cache).last_used_by(), (Some(address("192.0.2.1")), None));
    // Nothing but usage differs: the same entry, brought forward.
    let same = entry(&cache);
    cache.put(TokenAttributes { last_used_at: CREATED + 70, ..used(60) });
    assert!(Arc::ptr_eq(&same, &entry(&cache)));
    assert_eq!(same.last_used_at(), Some(CREATED + 70));
}

#[track_caller]
fn check_expiry(
    max_age_seconds: Option<u32>,
    extend_when_used: bool,
    last_used_at: u32,
    expected: Option<u32>,
) {
    let cache = TokenCache::default();
    cache.put(TokenAttributes { max_age_seconds, extend_when_used, last_used_at, ..attributes(&user()) });
    assert_eq!(entry(&cache).facts().expires_at, expected);
}

#[test]
fn a_lifetime_counts_from_creation_or_from_the_last_use() {
    check_expiry(None, true, CREATED + 5, None);
    check_expiry(Some(600), false, CREATED + 5, Some(CREATED + 600));
    check_expiry(Some(600), true, 0, Some(CREATED + 600));
    check_expiry(Some(600), true, CREATED + 5, Some(CREATED + 605));
    check_expiry(Some(600), true, CREATED - 5, Some(CREATED + 600));
    check_expiry(Some(315_360_000), true, u32::MAX - 5, Some(u32::MAX));
}

#[test]
fn every_binding_reads_back_as_it_was_put() {
    let cache = TokenCache::default();
    let bindings = [
        None,
        Some(MethodBinding::Password),
        Some(MethodBinding::ThirdParty(ThirdParty::Google)),
        Some(MethodBinding::ThirdParty(ThirdParty::Microsoft)),
        Some(MethodBinding::ThirdParty(ThirdParty::GitHub)),
        Some(MethodBinding::IdentityProvider(crate::policy::facts::IdentityProviderIndex(7))),
    ];
    for binding in bindings {
        cache.put(TokenAttributes { binding, ..attributes(&user()) });
        assert_eq!(entry(&cache).facts().binding, binding);
    }
}

#[test]
fn many_tokens_are_told_apart() {
    let (cache, user) = (TokenCache::default(), user());
    cache.reserve(10_000);
    let digest = |n: u32| TokenDigest::of(&n.to_le_bytes());
    for number in 0..10_000 {
        cache.put(TokenAttributes { digest: digest(number), number, ..attributes(&user) });
    }
    assert_eq!(cache.len(), 10_000);
    for number in 0..10_000 {
        let found = cache.find(&digest(number)).expect("it was put");
        assert_eq!(found.number(), number);
    }
    assert!(cache.find(&digest(10_000)).is_none());
}
