//! Everything at once, for as long as one likes: traffic by all protocols, tokens that come and go, policies, reloads, certificates,
//! a held store, a failing service, attacks. Every answer is judged. Run by `tests/soak`, which says for how long.

#![allow(clippy::unwrap_used, clippy::print_stdout, unreachable_pub, missing_docs, reason = "tests")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures of a table, buckets of a histogram"
)]

mod endurance {
    pub(crate) mod attacks;
    pub(crate) mod changes;
    pub(crate) mod ledger;
    pub(crate) mod service;
    pub(crate) mod table;
    pub(crate) mod traffic;
    pub(crate) mod world;
}
mod support;

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use endurance::ledger::Finding;
use endurance::table::{self, Sample};
use endurance::world::{Random, World};
use endurance::{attacks, changes, traffic};

type Part = fn(&World, &mut Random);

const PARTS: [Part; 17] = [
    traffic::kept,
    traffic::kept,
    traffic::kept,
    traffic::kept,
    traffic::new,
    traffic::over_tls,
    traffic::http2,
    traffic::http2,
    traffic::websockets,
    traffic::websockets,
    traffic::to_faulty,
    changes::tokens,
    changes::policy,
    changes::reloads,
    changes::faults,
    changes::rotations,
    attacks::mixed,
];

/// What a run may not end with more of than it began with, beside noise.
const MEMORY_NOISE_BYTES: u64 = 12 << 20;
const DESCRIPTOR_NOISE: usize = 48;

#[test]
#[ignore = "takes minutes to hours: run it with tests/soak"]
fn everything_at_once() {
    let seconds = std::env::var("POSTERN_SOAK_SECONDS").map_or(60, |text| text.parse().expect("seconds"));
    let world = World::start(Duration::from_secs(seconds));
    let mut samples = Vec::new();
    thread::scope(|scope| {
        let world = &world;
        let parts = PARTS.into_iter().chain([attacks::slow as Part, attacks::broken_off]);
        for (seed, part) in (1..).zip(parts) {
            scope.spawn(move || part(world, &mut Random::new(seed)));
        }
        while !world.is_over() {
            world.pause(Duration::from_secs(1));
            samples.push(Sample {
                memory_bytes: world.sidecar.resident_bytes(),
                descriptors: world.descriptors(),
            });
        }
    });
    assert!(world.sidecar.is_running(), "it runs to the end");
    world.sidecar.stop();
    account_for_use(&world);
    let ends = table::ends(&samples);
    println!("{}", table::table(seconds, &world, ends));
    assert!(world.ledger.told().is_empty(), "{}", world.ledger.told());
    assert_eq!(world.arrived.load(Ordering::SeqCst), 0, "what must not reach a service");
    let [first, last] = ends;
    assert!(
        last.memory_bytes <= first.memory_bytes + first.memory_bytes / 5 + MEMORY_NOISE_BYTES,
        "memory grows"
    );
    assert!(last.descriptors <= first.descriptors + DESCRIPTOR_NOISE, "descriptors are left over");
}

/// The use that was written down is that which was answered at least, and that which was sent at most.
fn account_for_use(world: &World) {
    for pass in world.all() {
        let (answered, sent) = pass.uses();
        let stored = world.sidecar.directory.stored(&pass.credential.prefix);
        let counted = stored.usage.map_or(0, |usage| usage.request_count);
        if !(answered..=sent).contains(&counted) {
            let words =
                format!("{}: {answered} answered, {counted} counted, {sent} sent", pass.credential.prefix);
            world.ledger.find(Finding::MiscountedUse, words);
        }
    }
}
