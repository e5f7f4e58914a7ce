//! A value that is replaced now and then, with a number that tells whether it has been: cheaper to ask for than the value.
//!
//! What must not live here: what the value is.

use std::sync::Arc;

use crate::primitives::ArcSwap;
use crate::primitives::atomic::{AtomicU64, Ordering};

/// The value in force.
#[derive(Debug)]
pub(crate) struct InForce<T> {
    value: ArcSwap<T>,
    /// Moves on after the value: whoever reads it first and the value then has no older value than it says.
    generation: AtomicU64,
}

impl<T> InForce<T> {
    /// The first value.
    pub(crate) fn new(value: T) -> Self {
        Self { value: ArcSwap::from_pointee(value), generation: AtomicU64::new(0) }
    }

    /// How many values have been in force before this one, or before a later one.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The value now.
    pub(crate) fn value(&self) -> Arc<T> {
        self.value.load_full()
    }

    /// Puts another value in force.
    pub(crate) fn replace(&self, value: T) {
        self.value.store(Arc::new(value));
        self.generation.fetch_add(1, Ordering::Release);
    }
}
