//! What must not be noticed by anybody outside: new programs, new configurations, crashes, and the end of a process.
//!
//! The forms that run with all tests are short. The long ones are the same tests with `POSTERN_TEST_LONG=1`; what both have
//! measured is in docs/promises.md.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; figures are shown")]

mod support;

#[path = "upgrade/activation.rs"]
mod activation;
#[path = "upgrade/crash.rs"]
mod crash;
#[path = "upgrade/hand_over.rs"]
mod hand_over;
#[path = "upgrade/load.rs"]
mod load;
#[path = "upgrade/promises.rs"]
mod promises;

/// Whether the forms that take minutes are wanted, on a machine that has nothing else to do.
fn is_long() -> bool {
    std::env::var_os("POSTERN_TEST_LONG").is_some_and(|value| value == "1")
}
