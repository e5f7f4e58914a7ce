//! Faults of what a sidecar depends on: its upstreams, its store, names, certificates, the clock, descriptors, memory, and where its
//! logs go. Each test shows what clients see, what recovers by itself and how fast, and which metric and log line say so;
//! `docs/faults.md` tells operators the same, with the faults that other tests have.
//!
//! Some need root and namespaces of their own; where these are not to be had, they say that they were skipped.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; what was skipped and measured is said")]

#[path = "faults/certificates.rs"]
mod certificates;
#[path = "faults/clock.rs"]
mod clock;
#[path = "faults/descriptors.rs"]
mod descriptors;
#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/logs.rs"]
mod logs;
#[path = "faults/memory.rs"]
mod memory;
#[path = "faults/past.rs"]
mod past;
#[path = "faults/store.rs"]
mod store;
mod support;
#[path = "faults/upstream.rs"]
mod upstream;

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use support::management::{Api, ORGANIZATION};
use support::{Response, Sidecar, until};

/// How long anything may take to recover once the fault is over: the promise of the documentation.
const RECOVERY: Duration = Duration::from_secs(5);

/// Waits for something to recover; fails if it takes longer than is promised.
#[track_caller]
fn recovers(awaited: &str, holds: impl FnMut() -> bool) {
    let since = Instant::now();
    until(awaited, holds);
    let took = since.elapsed();
    assert!(took <= RECOVERY, "{awaited} took {took:?}");
}

/// Waits for a line of the log, which has a thread of its own: metrics and answers may be ahead of it.
#[track_caller]
fn says(sidecar: &Sidecar, text: &str) {
    until(&format!("the log to say {text:?}"), || sidecar.output().contains(text));
}

/// Requests are decided as ever.
#[track_caller]
fn serves(sidecar: &Sidecar, requests: usize) {
    for _ in 0..requests {
        assert_eq!(sidecar.request(sidecar.get()).status, 200);
    }
}

/// A change of the directory through the management API, another one each time.
#[track_caller]
fn change(api: &Api) -> Response {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("made-in-a-fault-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    api.post(&format!("/v1/organization/{ORGANIZATION}/application-users"), json!({ "name": name }))
}

/// A change is refused as it should be while the store does not work.
#[track_caller]
fn is_refused(response: &Response) {
    response.assert_error(503, "store_unavailable");
    assert_eq!(response.header("retry-after"), Some("5"));
}

/// Whether this process may make namespaces and mount in them; says so if it may not.
fn may_mount() -> bool {
    let probe = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    let may = probe.is_ok_and(|output| output.status.success());
    if !may {
        println!(
            "skipped: nothing can be mounted here (no root, no unshare, or a container without CAP_SYS_ADMIN)"
        );
    }
    may
}
