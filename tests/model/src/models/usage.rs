//! Usage: workers note it while it is flushed and while the store's own comes in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use loom::thread;

use super::tokens::token;
use crate::directory::error::StoreError;
use crate::directory::store::{Store, UsageUpdate};
use crate::policy::CLIENT;
use crate::token::cache::TokenAttributes;
use crate::token::usage::UsageLog;
use crate::token::{TokenCache, TokenEntry, TokenIndex};

/// What the store knows: times move forward, requests add up.
#[derive(Default)]
struct Stored {
    last_used_at: AtomicU32,
    requests: AtomicU32,
    fails: AtomicBool,
}

impl Store for Stored {
    fn record_usage(&self, updates: &[UsageUpdate]) -> Result<(), StoreError> {
        if self.fails.swap(false, Ordering::Relaxed) {
            return Err(StoreError);
        }
        for update in updates {
            self.last_used_at.fetch_max(update.last_used_at, Ordering::Relaxed);
            self.requests.fetch_add(update.requests, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// One token, its usage, and the store.
#[derive(Clone, Default)]
struct Setting {
    cache: Arc<TokenCache>,
    usage: Arc<UsageLog>,
    store: Arc<Stored>,
}

impl Setting {
    fn new() -> Self {
        let setting = Self::default();
        setting.cache.reserve(1);
        setting.cache.put(token(1));
        setting
    }

    /// By its place: how it is found is another model's.
    fn entry(&self) -> TokenEntry<'_> {
        self.cache.entry(TokenIndex::at(0)).expect("it is known")
    }

    fn flush(&self) {
        // What was not written is written the next time.
        let _failed = self.usage.flush(&self.cache, &*self.store);
    }

    /// Does something on a thread of its own.
    fn on_thread(&self, work: impl Fn(&Self) + 'static) -> thread::JoinHandle<()> {
        let setting = self.clone();
        thread::spawn(move || work(&setting))
    }
}

pub(super) fn touched() {
    let setting = Setting::new();
    let touch =
        |now| setting.on_thread(move |setting| setting.usage.touch(setting.entry(), now, CLIENT, None));
    let (first, second) = (touch(2_000), touch(2_001));
    // Another sidecar has seen it in between, as the store says; then it is flushed.
    let keeper = setting.on_thread(|setting| {
        setting.cache.put(TokenAttributes { last_used_at: 1_999, ..token(1) });
        setting.flush();
    });
    for thread in [first, second, keeper] {
        thread.join().expect("a thread");
    }
    assert_eq!(setting.entry().last_used_at(), Some(2_001));
    setting.flush();
    assert_eq!(setting.store.last_used_at.load(Ordering::Relaxed), 2_001, "the last use is not on the list");
    assert_eq!(setting.usage.pending(), 0);
    // And it is not marked without being on it: a later use is flushed too.
    setting.usage.touch(setting.entry(), 2_002, CLIENT, None);
    setting.flush();
    assert_eq!(setting.store.last_used_at.load(Ordering::Relaxed), 2_002);
}

fn count_while_flushing(fails: bool) {
    let setting = Setting::new();
    setting.store.fails.store(fails, Ordering::Relaxed);
    setting.usage.add_requests(setting.entry(), 1);
    let count =
        |requests| setting.on_thread(move |setting| setting.usage.add_requests(setting.entry(), requests));
    let (first, second) = (count(10), count(100));
    let keeper = setting.on_thread(Setting::flush);
    for thread in [first, second, keeper] {
        thread.join().expect("a thread");
    }
    setting.flush();
    assert_eq!(setting.store.requests.load(Ordering::Relaxed), 111);
    assert_eq!((setting.entry().requests_unwritten(), setting.usage.pending()), (0, 0));
}

pub(super) fn counted() {
    count_while_flushing(false);
}

pub(super) fn counted_with_a_failing_store() {
    count_while_flushing(true);
}
