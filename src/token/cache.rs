//! The token cache: every token of the directory in memory, digest → entry. Every request is decided from it.
//!
//! Entries stay after revocation (tombstones), so that a late fill cannot revive a token and its holder
//! learns why it fails. Only [`crate::directory`] changes entries; workers read them and touch their usage.
//!
//! At a million tokens every byte here is a megabyte: an entry with its reference counts is 128 bytes, two cache
//! lines, and a slot of the map is eight (the digest is read through the entry).

mod entry;
#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::{TokenDigest, TokenKind};

pub use entry::{NewTokenEntry, Restrictions, TokenEntry};
pub(super) use entry::UsageDetails;

/// Shards of the map. Workers only read, so that this bounds how long one change keeps how many look-ups waiting.
const SHARDS: usize = 64;

/// Digest → entry, shared by all workers.
#[derive(Debug)]
pub struct TokenCache {
    entries: DashMap<Slot, (), BuildHasherDefault<DigestHasher>>,
    unrevoked: [AtomicUsize; 3],
}

impl Default for TokenCache {
    fn default() -> Self {
        let hasher = BuildHasherDefault::default();
        Self { entries: DashMap::with_hasher_and_shard_amount(hasher, SHARDS), unrevoked: Default::default() }
    }
}

impl TokenCache {
    /// The entry of a token, revoked ones included; `None` for a token the directory does not know.
    pub fn find(&self, digest: &TokenDigest) -> Option<Arc<TokenEntry>> {
        self.entries.get(digest).map(|slot| Arc::clone(&slot.key().0))
    }

    /// The entry that is in force for the token of an older entry. For those who keep an entry for long, such as a
    /// tunnel that checks its token from time to time: a change of attributes puts a new entry in place.
    pub fn current(&self, entry: &Arc<TokenEntry>) -> Arc<TokenEntry> {
        if entry.is_superseded() { self.find(entry.digest()).unwrap_or_else(|| Arc::clone(entry)) } else { Arc::clone(entry) }
    }

    /// How many tokens are known, revoked ones included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no token is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many tokens of this kind are known and not revoked; those that have expired are among them.
    pub fn unrevoked(&self, kind: TokenKind) -> usize {
        self.unrevoked[kind as usize].load(Ordering::Relaxed)
    }

    /// Makes room for this many more tokens, so that filling the cache does not rehash it again and again.
    pub(crate) fn reserve(&self, additional: usize) {
        if additional > 0 {
            self.entries.shards().iter().for_each(|shard| {
                let spread = additional / SHARDS;
                shard.write().reserve(spread + spread / 16, |(slot, ())| slot.0.digest().hash_code());
            });
        }
    }

    /// Puts a token's attributes in force. The usage of an entry that was there is carried over, the later one
    /// winning, and a revoked token stays revoked whatever the new attributes say.
    pub(crate) fn put(&self, new: NewTokenEntry) {
        let digest = new.digest;
        let new = match self.entries.entry(Slot(Arc::new(TokenEntry::new(new)))) {
            Entry::Vacant(vacant) => {
                let entry = Arc::clone(&vacant.key().0);
                vacant.insert(());
                self.count(&entry, 1);
                return;
            }
            Entry::Occupied(occupied) => Arc::clone(&occupied.key().0),
        };
        let _ = (digest, new);
    }
}
