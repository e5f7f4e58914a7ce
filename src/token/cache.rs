//! The token cache: every token of the directory in memory, digest → entry. Every request is decided from it.
//!
//! Entries stay after revocation (tombstones), so that a late fill cannot revive a token and its holder
//! learns why it fails. Only [`crate::directory`] changes entries; workers read them and touch their usage.
//!
//! A look-up takes no lock and counts no reference. Of a token nobody has asked for lately it reads one cache line of the index and
//! one of the entry; noting a use writes one more. At a million tokens every byte here is a megabyte: an entry is 64
//! bytes and its usage 32; the index has 8 a slot.

mod entry;
mod index;
#[cfg(test)]
pub(in crate::token) mod tests;

use super::{TokenDigest, TokenKind};
use crate::primitives::Mutex;
use crate::primitives::atomic::{AtomicUsize, Ordering};
use crate::slab::Slab;
use entry::{Attributes, Usage};
use index::Index;

pub use entry::{KeptToken, Restrictions, TokenAttributes, TokenEntry, TokenState};

/// A token's place in the cache, good for as long as the cache lives. Who outlives a look-up, such as a tunnel that checks its token from
/// time to time, remembers this: the entry there always has what is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenIndex(u32);

impl TokenIndex {
    /// The place's number, for tables beside the cache.
    #[inline]
    pub(crate) const fn place(self) -> usize {
        self.0 as usize
    }

    /// A place in a cache that a test does without.
    #[cfg(test)]
    pub(crate) const fn of_place(number: u32) -> Self {
        Self(number)
    }

    /// The place's number, from 0.
    #[inline]
    pub(in crate::token) const fn number(self) -> u32 {
        self.0
    }

    /// The place with a number that [`Self::number`] has given.
    pub(crate) const fn at(number: u32) -> Self {
        Self(number)
    }
}

/// Digest → entry, shared by all workers.
#[derive(Debug, Default)]
pub struct TokenCache {
    index: Index,
    attributes: Slab<Attributes>,
    usage: Slab<Usage>,
    len: AtomicUsize,
    unrevoked: [AtomicUsize; 3],
    /// Held by whoever changes attributes or adds entries. Readers do not ask for it.
    writing: Mutex<()>,
}

impl TokenCache {
    /// The entry of a token, revoked ones included; `None` for a token the directory does not know.
    #[inline]
    pub fn find(&self, digest: &TokenDigest) -> Option<TokenEntry<'_>> {
        let hash = self.index.hash(digest);
        let place = self.index.find(hash, |place| {
            let place = place as usize;
            if let Some(usage) = self.usage.get(place) {
                usage.bring_near();
            }
            self.attributes.get(place).is_some_and(|attributes| attributes.are_of(digest))
        })?;
        self.entry(TokenIndex(place))
    }

    /// The entry at a place that this cache has given out.
    #[inline]
    pub fn entry(&self, index: TokenIndex) -> Option<TokenEntry<'_>> {
        let place = index.0 as usize;
        Some(TokenEntry::new(index, self.attributes.get(place)?, self.usage.get(place)?))
    }

    /// Every entry, in the order in which tokens became known. Tokens that become known meanwhile may be missing.
    pub fn entries(&self) -> impl Iterator<Item = TokenEntry<'_>> {
        let count = u32::try_from(self.len()).unwrap_or(u32::MAX);
        (0..count).filter_map(|place| self.entry(TokenIndex(place)))
    }

    /// How many tokens are known, revoked ones included.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether no token is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many tokens of this kind are known and not revoked; those that have expired are among them.
    pub fn unrevoked(&self, kind: TokenKind) -> usize {
        self.unrevoked[kind as usize].load(Ordering::Relaxed)
    }

    /// Makes room for this many tokens, so that filling the cache does not grow it step by step.
    pub fn reserve(&self, count: usize) {
        let _writing = self.writing.lock();
        self.index.reserve(count);
        self.attributes.reserve(count);
        self.usage.reserve(count);
    }

    /// Puts a token's attributes in force. Usage is carried over, the later one winning, and a token once revoked stays
    /// so whatever the new attributes say.
    pub fn put(&self, attributes: TokenAttributes) {
        let _writing = self.writing.lock();
        match self.find(&attributes.digest) {
            Some(entry) => self.change(entry, attributes),
            None => self.add(attributes),
        }
    }

    fn add(&self, attributes: TokenAttributes) {
        let (count, hash) = (self.len(), self.index.hash(&attributes.digest));
        let place = u32::try_from(count).expect("fewer than four billion tokens fit into memory");
        let entry = TokenEntry::new(
            TokenIndex(place),
            self.attributes.at_or_blank(count),
            self.usage.at_or_blank(count),
        );
        entry.fill(attributes);
        // Nobody knew of the entry until here.
        self.index.insert(hash, place, count);
        self.len.store(count + 1, Ordering::Relaxed);
        if !entry.is_revoked() {
            self.unrevoked[entry.kind() as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn change(&self, entry: TokenEntry<'_>, attributes: TokenAttributes) {
        if !entry.is_revoked() {
            self.unrevoked[entry.kind() as usize].fetch_sub(1, Ordering::Relaxed);
        }
        entry.change(attributes);
        if !entry.is_revoked() {
            self.unrevoked[entry.kind() as usize].fetch_add(1, Ordering::Relaxed);
        }
    }
}
