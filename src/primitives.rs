//! What threads share things by, where no lock is taken on a request's way: by one name, so that the same code can be checked
//! under every order of its steps (`tests/model`), where another module stands in for this one.
//!
//! Only what the code checked there uses belongs here, and no type of our own: that would be what is to be checked.

pub(crate) use std::hash::RandomState;
pub(crate) use std::sync::OnceLock;

pub(crate) use arc_swap::{ArcSwap, ArcSwapOption, Guard};
pub(crate) use parking_lot::Mutex;

/// Values, chunks and blocks that a [`crate::slab::Slab`] makes at a time; fewer where it is checked.
pub(crate) const FANOUT: usize = 1 << 10;

/// Atomics, and how their accesses are ordered.
pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
}
