//! Limits: workers take places by compare and swap.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;

use super::bucket::{Bucket, Rate};

const NOW: Duration = Duration::from_secs(100);

/// Three workers, two places.
pub(crate) fn taken() {
    let bucket = Arc::new(Bucket::default());
    let rate = Rate::new(1, Duration::from_secs(1), 2);
    let workers = [(); 3].map(|()| {
        let bucket = Arc::clone(&bucket);
        thread::spawn(move || usize::from(bucket.take(rate, NOW).is_ok()))
    });
    let taken: usize = workers.map(|worker| worker.join().expect("a worker")).iter().sum();
    assert_eq!(taken, 2);
    assert!(bucket.take(rate, NOW).is_err());
    assert!(bucket.take(rate, NOW + Duration::from_secs(1)).is_ok());
}

/// One gives its place back while two others want one, and one is left.
pub(crate) fn given_back() {
    let bucket = Arc::new(Bucket::default());
    let rate = Rate::new(1, Duration::from_secs(1), 2);
    assert!(bucket.take(rate, NOW).is_ok());
    let workers = [(); 2].map(|()| {
        let bucket = Arc::clone(&bucket);
        thread::spawn(move || usize::from(bucket.take(rate, NOW).is_ok()))
    });
    bucket.give_back(rate);
    let taken: usize = workers.map(|worker| worker.join().expect("a worker")).iter().sum();
    let left = (0..3).filter(|_| bucket.take(rate, NOW).is_ok()).count();
    assert_eq!(taken + left, 2);
}

pub(crate) fn running() {
    let bucket = Arc::new(Bucket::default());
    let inside = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let workers = [(); 3].map(|()| {
        let (bucket, inside) = (Arc::clone(&bucket), Arc::clone(&inside));
        thread::spawn(move || {
            if bucket.enter(2) {
                let others = inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                assert!(others < 2, "a third one runs");
                thread::yield_now();
                inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                bucket.leave();
            }
        })
    });
    workers.into_iter().for_each(|worker| worker.join().expect("a worker"));
    // All places are free again.
    assert!(bucket.enter(2) && bucket.enter(2) && !bucket.enter(2));
}
