//! The token cache: every token of the directory in memory, digest → entry. Every request is decided from it.
//!
//! Entries stay after revocation (tombstones), so that a late fill cannot revive a token and its holder
//! learns why it fails. Only [`crate::directory`] changes entries; workers read them and touch their usage.
//!
//! At a million tokens every byte here is a megabyte: an entry with its reference counts is 128 bytes, two cache
//! lines, and a slot of the map is eight (the digest is read through the entry).

mod entry;
#[cfg(test)]
pub(in crate::token) mod tests;

use std::borrow::Borrow;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::{TokenDigest, TokenKind};

pub use entry::{Restrictions, TokenAttributes, TokenEntry};

/// Shards of the map. Workers only read, so that this bounds how many look-ups one change keeps waiting.
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

    /// The entry in force for the token of an older entry. For those who keep an entry for long, such as a tunnel
    /// that checks its token from time to time: a change of attributes puts a new entry in place.
    pub fn current(&self, entry: &Arc<TokenEntry>) -> Arc<TokenEntry> {
        match self.find(entry.digest()) {
            Some(current) if entry.is_superseded() => current,
            _ => Arc::clone(entry),
        }
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

    /// Makes room for this many more tokens, so that filling the cache does not grow it step by step.
    pub fn reserve(&self, additional: usize) {
        if additional == 0 {
            return;
        }
        let even_share = additional / SHARDS;
        let hasher = self.entries.hasher();
        for shard in self.entries.shards() {
            shard.write().reserve(even_share + even_share / 16, |(slot, _)| hasher.hash_one(slot));
        }
    }

    /// Puts a token's attributes in force. The usage of an entry that was there is carried over, the later one
    /// winning, and a token once revoked stays so whatever the new attributes say.
    ///
    /// For one caller at a time: the directory's applier.
    pub fn put(&self, attributes: TokenAttributes) {
        let new = Arc::new(TokenEntry::new(attributes));
        let old = match self.entries.entry(Slot(Arc::clone(&new))) {
            Entry::Vacant(vacant) => {
                vacant.insert(());
                if !new.is_revoked() {
                    self.unrevoked[new.kind() as usize].fetch_add(1, Ordering::Relaxed);
                }
                return;
            }
            // The entry holds the new key; the old one is looked up once the shard is free again.
            Entry::Occupied(occupied) => {
                drop(occupied);
                self.find(new.digest())
                    .expect("only the one caller of put adds entries, and nobody removes any")
            }
        };
        self.replace(&old, new);
    }

    fn replace(&self, old: &Arc<TokenEntry>, new: Arc<TokenEntry>) {
        let was_revoked = old.is_revoked();
        new.inherit(old);
        if new.is_revoked() {
            // Also in the old entry, for those who hold it still.
            old.revoke();
        }
        if old.same_attributes(&new) {
            old.inherit_usage(&new);
        } else {
            if let Entry::Occupied(occupied) = self.entries.entry(Slot(Arc::clone(&new))) {
                occupied.replace_entry(());
            }
            old.supersede();
            // Uses that were noted on the old entry while it was being replaced.
            new.inherit(old);
        }
        if !was_revoked {
            self.unrevoked[old.kind() as usize].fetch_sub(1, Ordering::Relaxed);
        }
        if !new.is_revoked() {
            self.unrevoked[new.kind() as usize].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One slot of the map: an entry, found by the digest inside it.
#[derive(Clone, Debug)]
struct Slot(Arc<TokenEntry>);

impl Borrow<TokenDigest> for Slot {
    fn borrow(&self) -> &TokenDigest {
        self.0.digest()
    }
}

impl Hash for Slot {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.digest().hash(state);
    }
}

impl PartialEq for Slot {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest() == other.0.digest()
    }
}

impl Eq for Slot {}

/// Takes the eight bytes that a digest offers as they are: they are uniform, and nobody can choose the digests that
/// are stored. The map picks shard, tag and bucket from different bits of them.
#[derive(Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, bits: u64) {
        self.0 ^= bits;
    }
}
