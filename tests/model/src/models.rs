//! The models: a few threads, a few steps each, and what must hold in whatever order they come.

mod in_force;
mod slab;
mod tokens;
mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::limit::models as limits;

/// Name, preemptions at most, and what is explored. Threads that wait are no preemptions.
pub(crate) type Model = (&'static str, usize, fn());

/// All models.
pub(crate) const ALL: [Model; 14] = [
    ("a_token_that_is_known_is_found_while_the_index_grows", 3, tokens::growing),
    ("a_token_that_is_found_is_whole", 3, tokens::becoming_known),
    ("two_fills_of_one_token_make_one_entry", 3, tokens::filled_twice),
    ("a_late_fill_revives_no_revoked_token", 2, tokens::late_fill),
    ("no_decision_sees_half_a_change", 3, tokens::changed_whole),
    ("a_change_takes_no_worker_s_mark_away", 3, tokens::marked_while_changed),
    ("no_use_is_lost", 2, usage::touched),
    ("every_request_is_counted_once", 3, usage::counted),
    ("no_request_is_lost_by_a_store_that_fails", 3, usage::counted_with_a_failing_store),
    ("two_workers_come_to_a_new_place_at_once", 3, slab::new_place),
    ("no_more_are_taken_than_there_are", 3, limits::taken),
    ("what_is_given_back_can_be_taken_once", 3, limits::given_back),
    ("no_more_run_than_may", 2, limits::running),
    ("a_worker_that_sees_a_generation_has_its_value", 3, in_force::replaced),
];

/// Explores one model, and says how many schedules there were.
pub(crate) fn explore(name: &str, preemptions: usize, model: fn()) {
    let (schedules, started) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let mut builder = loom::model::Builder::new();
    let more = std::env::var("POSTERN_MODEL_PREEMPTIONS").ok();
    builder.preemption_bound = Some(more.map_or(preemptions, |more| more.parse().expect("a number")));
    builder.max_branches = 100_000;
    let counted = Arc::clone(&schedules);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let schedules = schedules.load(Ordering::Relaxed);
    println!("{name}: {schedules} schedules in {:.1?}", started.elapsed());
}
