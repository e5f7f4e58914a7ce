//! A new configuration comes into force while a worker looks whether there is one.

use std::sync::Arc;

use loom::thread;

use crate::worker::in_force::InForce;

pub(super) fn replaced() {
    let in_force = Arc::new(InForce::new(0_u64));
    let workers = [(); 2].map(|()| {
        let in_force = Arc::clone(&in_force);
        thread::spawn(move || {
            // As a worker does: it remembers the generation that it has seen, and asks again only when that has changed.
            let mut seen = (0, 0);
            for _ in 0..2 {
                let generation = in_force.generation();
                if generation != seen.0 {
                    let value = *in_force.value();
                    assert!(value >= generation, "it would keep an old value for good");
                    assert!(value >= seen.1, "it would go back");
                    seen = (generation, value);
                }
            }
        })
    });
    in_force.replace(1);
    in_force.replace(2);
    workers.into_iter().for_each(|worker| worker.join().expect("a worker"));
    assert_eq!((in_force.generation(), *in_force.value()), (2, 2));
}
