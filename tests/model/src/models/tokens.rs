//! The token cache: one changes it while workers read.

use std::sync::Arc;

use loom::thread;

use crate::directory::view::UserIndex;
use crate::policy::{CLIENT, PermissionSet};
use crate::token::cache::{Restrictions, TokenAttributes};
use crate::token::usage::UsageLog;
use crate::token::{TokenCache, TokenDigest, TokenKind};

/// How many tokens an empty index takes before it grows.
const FIT: u32 = 12;

pub(super) fn digest(number: u32) -> TokenDigest {
    // Spread over the index, as real ones are.
    TokenDigest([u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15), 1, 2, 3])
}

pub(super) fn token(number: u32) -> TokenAttributes {
    TokenAttributes {
        digest: digest(number),
        number,
        user: UserIndex(number),
        kind: TokenKind::Application,
        created_at: 1_000,
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

fn cache_of(count: u32) -> Arc<TokenCache> {
    let cache = Arc::new(TokenCache::default());
    cache.reserve(count.max(2) as usize);
    (0..count).for_each(|number| cache.put(token(number)));
    cache
}

pub(super) fn growing() {
    let cache = cache_of(FIT);
    let filling = Arc::clone(&cache);
    let writer = thread::spawn(move || filling.put(token(FIT)));
    let reading = Arc::clone(&cache);
    let reader = thread::spawn(move || {
        let known = reading.find(&digest(3)).expect("it was known before");
        assert_eq!(known.store_number(), 3);
        if let Some(new) = reading.find(&digest(FIT)) {
            assert_eq!((new.store_number(), new.user()), (FIT, UserIndex(FIT)));
        }
        assert!(reading.find(&digest(FIT + 1)).is_none());
    });
    writer.join().expect("a writer");
    reader.join().expect("a reader");
    for number in 0..=FIT {
        assert_eq!(cache.find(&digest(number)).map(|entry| entry.store_number()), Some(number));
    }
}

pub(super) fn becoming_known() {
    let cache = cache_of(0);
    let filling = Arc::clone(&cache);
    let restricted = || {
        let restrictions = Arc::new(Restrictions::new(Box::default(), Some(PermissionSet(7))));
        TokenAttributes { max_age_seconds: Some(600), restrictions: Some(restrictions), ..token(1) }
    };
    let writer = thread::spawn(move || filling.put(restricted()));
    let readers = [(); 2].map(|()| {
        let reading = Arc::clone(&cache);
        thread::spawn(move || {
            let Some(entry) = reading.find(&digest(1)) else { return };
            assert_eq!((entry.store_number(), entry.user()), (1, UserIndex(1)));
            let state = entry.state();
            let facts = state.facts();
            assert_eq!((facts.created_at, facts.expires_at), (1_000, Some(1_600)));
            assert_eq!(facts.scopes, Some(PermissionSet(7)), "a restricted token that is not");
        })
    });
    writer.join().expect("a writer");
    readers.into_iter().for_each(|reader| reader.join().expect("a reader"));
    assert!(cache.find(&digest(1)).is_some());
}

pub(super) fn filled_twice() {
    let cache = cache_of(0);
    let fills = [false, true].map(|revoked| {
        let cache = Arc::clone(&cache);
        thread::spawn(move || cache.put(TokenAttributes { revoked, ..token(1) }))
    });
    fills.into_iter().for_each(|fill| fill.join().expect("a fill"));
    assert_eq!((cache.len(), cache.unrevoked(TokenKind::Application)), (1, 0));
    assert!(cache.find(&digest(1)).expect("it was filled").state().facts().revoked);
}

pub(super) fn late_fill() {
    let cache = cache_of(2);
    let put = |attributes: TokenAttributes| {
        let cache = Arc::clone(&cache);
        thread::spawn(move || cache.put(attributes))
    };
    let revocation = put(TokenAttributes { revoked: true, ..token(1) });
    let fill = put(TokenAttributes { max_age_seconds: Some(600), ..token(1) });
    let reading = Arc::clone(&cache);
    let place = cache.find(&digest(1)).expect("it is known").index();
    let reader = thread::spawn(move || {
        let entry = reading.entry(place).expect("places stay");
        let before = entry.state().facts().revoked;
        let after = entry.state().facts().revoked;
        assert!(!before || after, "a revoked token has come back");
    });
    for thread in [revocation, fill, reader] {
        thread.join().expect("a thread");
    }
    assert!(cache.find(&digest(1)).expect("it is known").state().facts().revoked);
    assert_eq!((cache.len(), cache.unrevoked(TokenKind::Application)), (2, 1));
}

pub(super) fn changed_whole() {
    let cache = cache_of(2);
    let changing = Arc::clone(&cache);
    // Shorter than for ever, and at once less than everything.
    let restrictions = Arc::new(Restrictions::new(Box::default(), Some(PermissionSet(7))));
    let changed =
        TokenAttributes { max_age_seconds: Some(600), restrictions: Some(restrictions), ..token(1) };
    let writer = thread::spawn(move || changing.put(changed));
    let reading = Arc::clone(&cache);
    let reader = thread::spawn(move || {
        for _ in 0..2 {
            let state = reading.find(&digest(1)).expect("it is known").state();
            let facts = state.facts();
            assert_eq!(facts.scopes.is_some(), facts.expires_at.is_some(), "half a change");
        }
    });
    writer.join().expect("a writer");
    reader.join().expect("a reader");
    let state = cache.find(&digest(1)).expect("it is known").state();
    assert_eq!((state.facts().scopes, state.facts().expires_at), (Some(PermissionSet(7)), Some(1_600)));
}

/// Workers mark entries as used in the same word in which their kind and binding stand.
pub(super) fn marked_while_changed() {
    let (cache, usage) = (cache_of(2), Arc::new(UsageLog::default()));
    let changing = Arc::clone(&cache);
    let kind = TokenKind::Session;
    let writer = thread::spawn(move || changing.put(TokenAttributes { kind, ..token(1) }));
    let (using, log) = (Arc::clone(&cache), Arc::clone(&usage));
    let worker = thread::spawn(move || {
        let entry = using.find(&digest(1)).expect("it is known");
        log.touch(entry, 2_000, CLIENT, None);
    });
    writer.join().expect("a writer");
    worker.join().expect("a worker");
    assert_eq!(usage.pending(), 1);
    // It is on the list, and marked so: the next use does not put it there again.
    let entry = cache.find(&digest(1)).expect("it is known");
    usage.touch(entry, 2_001, CLIENT, None);
    assert_eq!(usage.pending(), 1);
    assert_eq!(cache.unrevoked(TokenKind::Session), 1);
}
