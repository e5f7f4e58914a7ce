//! From a digest to a place: an open table of numbers, read by workers without any lock while one writer adds to it.
//! What is at a place is not known here; nothing is ever taken out.

use std::fmt;
use std::hash::{BuildHasher, Hasher};

use crate::primitives::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::primitives::{OnceLock, RandomState};
use crate::token::TokenDigest;

/// Slots of an empty index.
const LEAST_SLOTS: usize = 16;
/// Times that the index can double; the address space ends before.
const DOUBLINGS: usize = 40;

/// Where a digest's search begins, and what of it stands in its slot.
#[derive(Clone, Copy)]
pub(super) struct DigestHash(u32);

/// Digest → place.
///
/// A slot has the digest's hash in its upper half and its place, counted from one, in its lower half; zero is empty. A
/// digest is in the first slot that was free from its own on, so that most searches stay within one cache line.
///
/// When three quarters are full, the writer copies the slots into a table twice as large, which readers use from then
/// on. The smaller one stays, as somebody may be reading it: all outgrown ones together are no larger than the one in use.
pub(super) struct Index {
    tables: [OnceLock<Box<[AtomicU64]>>; DOUBLINGS],
    current: AtomicUsize,
    factors: [u64; 4],
}

impl Default for Index {
    fn default() -> Self {
        let index = Self {
            tables: std::array::from_fn(|_| OnceLock::new()),
            current: AtomicUsize::new(0),
            // Unknown to those who can choose the digests of imported tokens, so that they cannot heap them up.
            factors: std::array::from_fn(|_| RandomState::new().build_hasher().finish() | 1),
        };
        index.tables[0].get_or_init(|| empty_slots(LEAST_SLOTS));
        index
    }
}

impl Index {
    /// The hash of a digest in this index.
    #[inline]
    pub(super) fn hash(&self, digest: &TokenDigest) -> DigestHash {
        let mixed = digest
            .words()
            .iter()
            .zip(self.factors)
            .fold(0_u64, |mixed, (word, factor)| mixed.wrapping_add(word.wrapping_mul(factor)));
        DigestHash((mixed >> 32) as u32)
    }

    /// The place of the digest with this hash that `is_it` recognizes.
    #[inline]
    pub(super) fn find(&self, hash: DigestHash, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let slots = self.slots();
        let mut slot = hash.first_slot(slots.len());
        loop {
            let found = slots.get(slot)?.load(Ordering::Acquire);
            if found == 0 {
                return None;
            }
            let place = (found as u32).wrapping_sub(1);
            if (found >> 32) as u32 == hash.0 && is_it(place) {
                return Some(place);
            }
            slot = next(slot, slots.len());
        }
    }

    /// Makes room for this many digests in all. For one caller at a time, as [`Self::insert`].
    pub(super) fn reserve(&self, count: usize) {
        let needed = count.div_ceil(3) * 4;
        if needed > self.slots().len() {
            self.grow(needed);
        }
    }

    /// Adds a digest that is not in the index, `count` being how many are. What was written before is seen by whoever
    /// finds it.
    pub(super) fn insert(&self, hash: DigestHash, place: u32, count: usize) {
        let length = self.slots().len();
        if count >= length - length / 4 {
            self.grow(length * 2);
        }
        put(self.slots(), hash, u64::from(hash.0) << 32 | (u64::from(place) + 1));
    }

    #[inline]
    fn slots(&self) -> &[AtomicU64] {
        self.tables[self.current.load(Ordering::Acquire)].get().map_or(&[], |table| table)
    }

    fn grow(&self, length: usize) {
        let slots = empty_slots(length);
        for slot in self.slots() {
            let value = slot.load(Ordering::Relaxed);
            if value != 0 {
                put(&slots, DigestHash((value >> 32) as u32), value);
            }
        }
        let next = self.current.load(Ordering::Relaxed) + 1;
        self.tables[next].get_or_init(|| slots);
        self.current.store(next, Ordering::Release);
    }
}

impl DigestHash {
    /// The upper bits choose, so that a larger table has its slots in the same order.
    #[inline]
    const fn first_slot(self, slots: usize) -> usize {
        ((self.0 as u64 * slots as u64) >> 32) as usize
    }
}

#[inline]
const fn next(slot: usize, slots: usize) -> usize {
    if slot + 1 == slots { 0 } else { slot + 1 }
}

/// There is a free slot: a quarter of them are.
fn put(slots: &[AtomicU64], hash: DigestHash, value: u64) {
    let mut slot = hash.first_slot(slots.len());
    while slots[slot].load(Ordering::Relaxed) != 0 {
        slot = next(slot, slots.len());
    }
    slots[slot].store(value, Ordering::Release);
}

fn empty_slots(length: usize) -> Box<[AtomicU64]> {
    std::iter::repeat_with(AtomicU64::default).take(length).collect()
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("slots", &self.slots().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_reserved(count: usize) {
        let index = Index::default();
        index.reserve(count);
        let reserved = index.slots().len();
        let hash = |n: usize| index.hash(&TokenDigest::of(&n.to_le_bytes()));
        for n in 0..count {
            index.insert(hash(n), n as u32, n);
        }
        assert_eq!(index.slots().len(), reserved, "{count}");
        index.insert(hash(count), count as u32, count);
        for n in 0..=count {
            assert_eq!(index.find(hash(n), |place| place as usize == n), Some(n as u32));
        }
    }

    #[test]
    fn what_room_was_made_for_does_not_grow_the_index() {
        (0..40).chain([999, 1_000, 1_001, 10_000]).for_each(check_reserved);
    }
}
