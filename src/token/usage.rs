//! When, from where and by what each token was last used, and how often: touched by workers, flushed by control.
//!
//! A use costs a worker one relaxed load, and once a second per token a few stores; to count it costs one addition in a
//! table of the worker's own ([`RequestCounts`]). The flush writes what changed in batches. It never loses a use: what
//! could not be written is written the next time, merged by token.

mod agent;
mod counts;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crossbeam_queue::SegQueue;

use super::{TokenCache, TokenEntry, TokenIndex};
use crate::directory::error::StoreError;
use crate::directory::store::{Store, UsageUpdate};
use crate::primitives::atomic::{AtomicU64, AtomicUsize, Ordering};

pub use agent::UserAgent;
pub use counts::RequestCounts;

/// Tokens written in one transaction: short enough that a directory change never waits long behind it.
const BATCH: usize = 5_000;

/// The entries whose usage changed since the last flush. Memory is bounded by the number of tokens.
#[derive(Debug, Default)]
pub struct UsageLog {
    dirty: SegQueue<TokenIndex>,
    pending: AtomicUsize,
    flushed: AtomicU64,
}

/// What one flush did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Tokens whose usage was written.
    pub tokens: usize,
    /// How long it took.
    pub duration: Duration,
}

impl UsageLog {
    /// Notes that a token was just used. On the hot path: one relaxed load if the token was already used in
    /// this second, and no waiting ever.
    pub fn touch(&self, entry: TokenEntry<'_>, now: u32, client: IpAddr, user_agent: Option<&[u8]>) {
        if entry.is_noted(now) {
            return;
        }
        if entry.note(now, client, || user_agent.map(UserAgent::shared)) {
            self.push(entry.index());
        }
    }

    /// Adds requests to a token's count. A locked instruction on the token's own cache line: [`RequestCounts`] keeps busy
    /// tokens from doing that at every request.
    pub fn add_requests(&self, entry: TokenEntry<'_>, count: u32) {
        if entry.add_requests(count) {
            self.push(entry.index());
        }
    }

    /// How many tokens have usage that is not written yet.
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// How many times a token's usage has been written since the process started.
    pub fn flushed_total(&self) -> u64 {
        self.flushed.load(Ordering::Relaxed)
    }

    /// Writes all usage noted so far. Blocks on the store: never call it on a worker.
    ///
    /// # Errors
    ///
    /// If the store fails; what was not written then stays on the list.
    pub fn flush(&self, tokens: &TokenCache, store: &dyn Store) -> Result<Flushed, StoreError> {
        let started = Instant::now();
        // What is noted while this runs is the next flush's: the work must end.
        let mut entries = self.take(tokens, self.dirty.len());
        // In the order of the store's rows, neighbours share a page.
        entries.sort_unstable_by_key(|entry| entry.store_number());
        let count = entries.len();
        while !entries.is_empty() {
            let batch = entries.split_off(entries.len().saturating_sub(BATCH));
            let updates: Vec<_> = batch.iter().map(|&entry| update(entry)).collect();
            if let Err(error) = store.record_usage(&updates) {
                for (entry, update) in batch.iter().zip(&updates) {
                    self.add_requests(*entry, update.requests);
                }
                self.put_back(batch);
                self.put_back(entries);
                return Err(error);
            }
            self.flushed.fetch_add(updates.len() as u64, Ordering::Relaxed);
        }
        Ok(Flushed { tokens: count, duration: started.elapsed() })
    }

    /// Takes entries off the list, unmarked: whoever notes a use from now on puts its entry on again.
    fn take<'a>(&self, tokens: &'a TokenCache, at_most: usize) -> Vec<TokenEntry<'a>> {
        let mut entries = Vec::with_capacity(at_most);
        while entries.len() < at_most
            && let Some(index) = self.dirty.pop()
        {
            self.pending.fetch_sub(1, Ordering::Relaxed);
            if let Some(entry) = tokens.entry(index) {
                entry.clear_dirty();
                entries.push(entry);
            }
        }
        entries
    }

    fn put_back(&self, entries: Vec<TokenEntry<'_>>) {
        for entry in entries {
            // One that has been used again in the meantime is on the list already.
            if entry.mark_dirty() {
                self.push(entry.index());
            }
        }
    }

    fn push(&self, index: TokenIndex) {
        self.pending.fetch_add(1, Ordering::Relaxed);
        self.dirty.push(index);
    }
}

fn update(entry: TokenEntry<'_>) -> UsageUpdate {
    let last_used_at = entry.last_used_at().unwrap_or(0);
    let (address, user_agent) = entry.last_used_by();
    let requests = entry.take_requests();
    UsageUpdate { token_number: entry.store_number(), last_used_at, address, user_agent, requests }
}
