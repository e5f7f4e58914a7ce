//! The table that grows under its readers: workers themselves make it longer where limits are counted.

use std::sync::Arc;

use loom::thread;

use crate::primitives::atomic::{AtomicUsize, Ordering};
use crate::slab::Slab;

pub(super) fn new_place() {
    let slab = Arc::new(Slab::<AtomicUsize>::default());
    let workers = [5, 5].map(|place| {
        let slab = Arc::clone(&slab);
        thread::spawn(move || {
            slab.at_or_blank(place).fetch_add(1, Ordering::Relaxed);
            let value = slab.get(place).expect("it has been there itself");
            assert!(value.load(Ordering::Relaxed) >= 1);
        })
    });
    // Who makes room when others have begun makes none of theirs go away.
    slab.reserve(8);
    workers.into_iter().for_each(|worker| worker.join().expect("a worker"));
    let count = |place| slab.get(place).map(|value| value.load(Ordering::Relaxed));
    assert_eq!((count(4), count(5), count(8)), (Some(0), Some(2), None));
}
