//! The cache's promises: tombstones, usage carried over, counts.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::thread;

use super::*;
use crate::directory::view::UserIndex;
use crate::policy::{MethodBinding, PermissionSet, ThirdParty};
use crate::token::usage::{UsageLog, UserAgent};

const CREATED: u32 = 1_800_000_000;

fn attributes() -> TokenAttributes {
    TokenAttributes {
        digest: TokenDigest::of(b"a token of some length"),
        number: 1,
        user: UserIndex(7),
        kind: TokenKind::Application,
        created_at: CREATED,
        max_age_seconds: None,
        extend_when_used: false,
        end_time: None,
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
    cache.put(attributes());
    (cache, TokenDigest::of(b"a token of some length"))
}

/// A cache with so many tokens.
pub(in crate::token) fn tokens(count: u32) -> TokenCache {
    let cache = TokenCache::default();
    for number in 0..count {
        let digest = TokenDigest::of(&number.to_le_bytes());
        cache.put(TokenAttributes { digest, number, ..attributes() });
    }
    cache
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[track_caller]
fn entry(cache: &TokenCache) -> TokenEntry<'_> {
    cache.find(&TokenDigest::of(b"a token of some length")).expect("the token is known")
}

#[test]
fn a_late_fill_revives_no_revoked_token() {
    let cache = TokenCache::default();
    cache.put(attributes());
    assert_eq!(cache.unrevoked(TokenKind::Application), 1);
    cache.put(TokenAttributes { revoked: true, ..attributes() });
    cache.put(attributes());
    cache.put(TokenAttributes { max_age_seconds: Some(600), ..attributes() });
    assert!(entry(&cache).state().facts().revoked);
    assert_eq!((cache.len(), cache.unrevoked(TokenKind::Application)), (1, 0));
}

#[test]
fn who_remembers_a_tokens_place_finds_what_is_in_force() {
    let cache = TokenCache::default();
    cache.put(attributes());
    let held = entry(&cache);
    let find = || cache.entry(held.index()).expect("places are never taken back");
    cache.put(TokenAttributes { max_age_seconds: Some(600), ..attributes() });
    assert_eq!(find().state().facts().expires_at, Some(CREATED + 600));
    cache.put(TokenAttributes { max_age_seconds: Some(700), revoked: true, ..attributes() });
    assert!(held.state().facts().revoked && find().state().facts().revoked);
    assert_eq!(held.state().facts().expires_at, Some(CREATED + 700));
}

#[test]
fn each_attribute_that_can_change_does_and_the_others_stay() {
    let cache = TokenCache::default();
    let restrictions = |ranges: &[&str], scopes| {
        let ranges = ranges.iter().map(|range| range.parse().expect("a range")).collect();
        Some(Arc::new(Restrictions::new(ranges, scopes)))
    };
    let changes = [
        attributes(),
        TokenAttributes { max_age_seconds: Some(600), ..attributes() },
        TokenAttributes { max_age_seconds: Some(600), extend_when_used: true, ..attributes() },
        TokenAttributes { restrictions: restrictions(&["192.0.2.0/24"], None), ..attributes() },
        TokenAttributes { restrictions: restrictions(&[], Some(PermissionSet::EMPTY)), ..attributes() },
        TokenAttributes { imported_prefix: Some("imported".into()), ..attributes() },
        TokenAttributes { end_time: Some(CREATED + 900), ..attributes() },
        TokenAttributes {
            end_time: Some(CREATED + 900),
            imported_prefix: Some("imported".into()),
            ..attributes()
        },
        TokenAttributes { binding: Some(MethodBinding::Password), kind: TokenKind::Session, ..attributes() },
    ];
    // From each to each, and from each to itself.
    for from in &changes {
        for to in &changes {
            let afresh = TokenCache::default();
            afresh.put(to.clone());
            cache.put(from.clone());
            cache.put(to.clone());
            let (changed, afresh) = (entry(&cache).state(), entry(&afresh).state());
            assert_eq!(format!("{:?}", changed.facts()), format!("{:?}", afresh.facts()));
            assert_eq!(changed.imported_prefix(), afresh.imported_prefix());
        }
    }
    assert_eq!((cache.len(), cache.unrevoked(TokenKind::Session)), (1, 1));
}

#[test]
fn no_decision_sees_half_a_change() {
    // Each of the two allows what the other one does not.
    let states = [
        TokenAttributes {
            max_age_seconds: Some(600),
            restrictions: Some(Arc::new(Restrictions::new(Box::default(), Some(PermissionSet::EMPTY)))),
            ..attributes()
        },
        TokenAttributes { max_age_seconds: Some(700), ..attributes() },
    ];
    let cache = TokenCache::default();
    cache.put(states[0].clone());
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            for _ in 0..100_000 {
                let state = entry(&cache).state();
                let facts = state.facts();
                assert_eq!(facts.scopes.is_some(), facts.expires_at == Some(CREATED + 600));
            }
        });
        let mut turn = 0;
        while !reader.is_finished() {
            turn += 1;
            cache.put(states[turn % 2].clone());
        }
    });
}

#[test]
fn workers_find_every_token_while_the_cache_grows() {
    const TOKENS: u32 = 20_000;
    let (cache, known) = (TokenCache::default(), AtomicU32::new(0));
    let digest = |n: u32| TokenDigest::of(&n.to_le_bytes());
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut n = 0;
            while n < TOKENS {
                let known = known.load(Ordering::Acquire);
                for n in n..known {
                    assert_eq!(cache.find(&digest(n)).map(|entry| entry.store_number()), Some(n));
                }
                n = known;
            }
        });
        for number in 0..TOKENS {
            cache.put(TokenAttributes { digest: digest(number), number, ..attributes() });
            known.store(number + 1, Ordering::Release);
        }
        drop(reader);
    });
    assert_eq!(cache.len(), TOKENS as usize);
}

#[test]
fn a_change_of_attributes_keeps_the_later_usage() {
    let (cache, usage) = (TokenCache::default(), UsageLog::default());
    let used = |seconds: u32| TokenAttributes {
        max_age_seconds: Some(600 + seconds),
        last_used_at: CREATED + seconds,
        last_address: Some(address("192.0.2.1")),
        ..attributes()
    };
    cache.put(attributes());
    usage.touch(entry(&cache), CREATED + 50, address("2001:db8::1"), Some(b"curl"));
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
    assert_eq!(same.index(), entry(&cache).index());
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
    cache.put(TokenAttributes { max_age_seconds, extend_when_used, last_used_at, ..attributes() });
    assert_eq!(entry(&cache).state().facts().expires_at, expected);
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
fn an_end_holds_however_long_the_lifetime_and_however_late_the_use() {
    let check = |max_age_seconds, last_used_at, end, expected| {
        let cache = TokenCache::default();
        let end_time = Some(CREATED + end);
        let extend_when_used = true;
        cache.put(TokenAttributes {
            max_age_seconds,
            extend_when_used,
            last_used_at,
            end_time,
            ..attributes()
        });
        assert_eq!(entry(&cache).state().facts().expires_at, Some(CREATED + expected));
    };
    check(None, 0, 900, 900);
    check(Some(600), 0, 900, 600);
    check(Some(600), CREATED + 200, 900, 800);
    check(Some(600), CREATED + 500, 900, 900);
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
        cache.put(TokenAttributes { binding, ..attributes() });
        assert_eq!(entry(&cache).state().facts().binding, binding);
    }
}

#[test]
fn many_tokens_are_told_apart() {
    let cache = TokenCache::default();
    cache.reserve(10_000);
    let digest = |n: u32| TokenDigest::of(&n.to_le_bytes());
    for number in 0..10_000 {
        cache.put(TokenAttributes { digest: digest(number), number, ..attributes() });
    }
    assert_eq!(cache.len(), 10_000);
    for number in 0..10_000 {
        let found = cache.find(&digest(number)).expect("it was put");
        assert_eq!(found.store_number(), number);
    }
    assert!(cache.find(&digest(10_000)).is_none());
}
