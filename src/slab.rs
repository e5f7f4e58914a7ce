//! A table of values at fixed places, read by many threads while one makes it longer. Nothing ever moves or goes away, so
//! that readers take no lock and a place that was given out stays good.

use std::fmt;

use crate::primitives::{FANOUT, OnceLock};

/// Values in one chunk.
const CHUNK: usize = FANOUT;
/// Chunks in one block of chunks.
const BLOCK: usize = FANOUT;
/// Blocks: places for the 2³⁰ values that follow the reserved ones.
const BLOCKS: usize = FANOUT;

/// Values by their place. The first ones lie side by side if room was made for them, the others in chunks.
pub(crate) struct Slab<T> {
    reserved: OnceLock<Box<[T]>>,
    further: Box<[OnceLock<Block<T>>]>,
}

type Block<T> = Box<[OnceLock<Box<[T]>>]>;

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { reserved: OnceLock::new(), further: empty(BLOCKS) }
    }
}

impl<T: Default> Slab<T> {
    /// Makes room for this many values in one piece. Only an untouched table takes it, and only once; otherwise
    /// nothing happens, and room is made as it is needed.
    pub(crate) fn reserve(&self, count: usize) {
        if self.further.first().is_some_and(|block| block.get().is_none()) {
            self.reserved.get_or_init(|| blank(count));
        }
    }

    /// The value at this place, which is blank if nobody has been there yet.
    ///
    /// # Panics
    ///
    /// Beyond 2³⁰ places, where memory ends long before.
    pub(crate) fn at_or_blank(&self, place: usize) -> &T {
        // Whoever goes beyond the reserved places closes them.
        let reserved = self.reserved.get_or_init(Box::default);
        if let Some(value) = reserved.get(place) {
            return value;
        }
        let (block, chunk, within) = split(place - reserved.len());
        let block = self.further[block].get_or_init(|| empty(BLOCK));
        &block[chunk].get_or_init(|| blank(CHUNK))[within]
    }
}

impl<T> Slab<T> {
    /// The value at this place; `None` if there is no such place yet.
    #[inline]
    pub(crate) fn get(&self, place: usize) -> Option<&T> {
        let reserved = self.reserved.get()?;
        match reserved.get(place) {
            Some(value) => Some(value),
            None => self.get_further(place - reserved.len()),
        }
    }

    fn get_further(&self, place: usize) -> Option<&T> {
        let (block, chunk, within) = split(place);
        self.further.get(block)?.get()?[chunk].get()?.get(within)
    }
}

/// Block, chunk within it, and place within that.
const fn split(place: usize) -> (usize, usize, usize) {
    (place / (CHUNK * BLOCK), place / CHUNK % BLOCK, place % CHUNK)
}

fn blank<T: Default>(count: usize) -> Box<[T]> {
    std::iter::repeat_with(T::default).take(count).collect()
}

fn empty<T>(count: usize) -> Box<[OnceLock<T>]> {
    (0..count).map(|_| OnceLock::new()).collect()
}

impl<T> fmt::Debug for Slab<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slab").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[track_caller]
    fn check(reserved: usize) {
        let slab = Slab::<AtomicUsize>::default();
        slab.reserve(reserved);
        let places: Vec<usize> =
            (0..3 * CHUNK).chain([CHUNK * BLOCK + reserved, 3 * CHUNK * BLOCK]).collect();
        for &place in &places {
            slab.at_or_blank(place).store(place + 1, Ordering::Relaxed);
        }
        slab.reserve(reserved + 10_000);
        for &place in &places {
            assert_eq!(
                slab.get(place).map(|value| value.load(Ordering::Relaxed)),
                Some(place + 1),
                "{place}"
            );
        }
        assert!(slab.get(CHUNK * BLOCK * BLOCKS * 2).is_none());
    }

    #[test]
    fn every_place_keeps_its_value() {
        check(0);
        check(1);
        check(CHUNK + 7);
    }

    #[test]
    fn a_place_that_nobody_has_been_at_is_not_there() {
        let slab = Slab::<AtomicUsize>::default();
        assert!(slab.get(0).is_none());
        slab.reserve(2);
        assert!(slab.get(1).is_some() && slab.get(2).is_none());
    }
}
