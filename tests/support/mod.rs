//! What the end-to-end tests share: a sidecar in a process of its own, clients that send exact bytes, an upstream that
//! records exact bytes, a directory to fill.
//!
//! Everything runs on port 0 and in temporary folders, so that all tests can run at once. Nothing sleeps to let
//! something happen: [`eventually`] and the clients wait for it, and fail with what was waited for.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests; each test file uses a part of this"
)]

pub mod avn;
pub mod browser;
pub mod certificates;
pub mod client;
pub mod directory;
pub mod frames;
pub mod http2;
pub mod management;
pub mod oidc_provider;
pub mod peers;
pub mod sidecar;
pub mod stub;
pub mod upstream;

use std::time::{Duration, Instant};

pub use client::{Client, End, Response};
pub use directory::Directory;
pub use http2::Http2Client;
pub use sidecar::{Sidecar, SidecarBuilder};
pub use upstream::{Peer, Upstream};

/// How long anything may take before a test fails: generous, for loaded machines.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Pause between two looks at something that only polling shows.
const LOOK: Duration = Duration::from_millis(5);

/// Waits until `found` has something; fails after [`PATIENCE`] with what was waited for.
#[track_caller]
pub fn eventually<T>(awaited: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} for {awaited}");
        std::thread::sleep(LOOK);
    }
}

/// Waits until `holds` is true.
#[track_caller]
pub fn until(awaited: &str, mut holds: impl FnMut() -> bool) {
    eventually(awaited, || holds().then_some(()));
}
