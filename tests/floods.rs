//! Clients that make work without end, and clients that are slow, beside others: what ends them, what they cost in memory, and
//! what the others notice (hardening, rows 20 and 21).
//!
//! The tests that are ignored are the long forms: every attack against a sidecar of its own, 10,000 slow connections, and 99th percentiles
//! held to the strict figure. They print the table that is in `docs/hostile-clients.md`:
//!
//! ```text
//! cargo test --release --test floods -- --ignored --nocapture --test-threads 1
//! ```

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; figures are shown")]

#[path = "floods/attacks.rs"]
mod attacks;
#[path = "floods/others.rs"]
mod others;
#[path = "floods/service.rs"]
mod service;
#[path = "floods/slow.rs"]
mod slow;
#[path = "floods/stalls.rs"]
mod stalls;
mod support;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held by whoever measures: what others notice of an attack is not to be what they notice of another test.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
