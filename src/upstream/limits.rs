//! Bounds on what one upstream is given at once: requests, and connections that are being opened.
//!
//! Counted exactly, over all workers, in one atomic each: the kernel spreads connections over workers unevenly, and with a
//! share for each of them requests would be refused while most of the limit is free. Two locked instructions a request are
//! what that costs, and only where a limit is configured.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many there are of something now. On a cache line of its own: other counts are written by other workers.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Occupancy(AtomicUsize);

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Permit(Arc<Occupancy>);

impl Occupancy {
    /// Takes a place, if fewer than `most` are taken.
    pub(super) fn enter(self: &Arc<Self>, most: usize) -> Option<Permit> {
        let entered = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| (taken < most).then_some(taken + 1));
        entered.is_ok().then(|| Permit(Arc::clone(self)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    //! Never more than the most, whoever asks, and all of it when they have gone.

    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn so_many_and_no_more() {
        let occupancy = Arc::new(Occupancy::default());
        let first = occupancy.enter(2);
        let second = occupancy.enter(2);
        assert!(first.is_some() && second.is_some());
        assert!(occupancy.enter(2).is_none());
        drop(first);
        assert!(occupancy.enter(2).is_some(), "given back");
        assert!(occupancy.enter(1).is_none(), "a lower limit counts those from before");
    }

    #[test]
    fn threads_share_it_exactly() {
        let occupancy = Arc::new(Occupancy::default());
        let (running, exceeded) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let Some(_permit) = occupancy.enter(3) else { continue };
                        if running.fetch_add(1, Ordering::SeqCst) >= 3 {
                            exceeded.store(true, Ordering::SeqCst);
                        }
                        running.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(!exceeded.load(Ordering::SeqCst));
        assert_eq!(occupancy.0.load(Ordering::SeqCst), 0);
    }
}
