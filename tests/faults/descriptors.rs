//! A process that has no file descriptors left: what is connected goes on, what connects waits, and services are not blamed.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::support::{Client, Sidecar, Upstream, until};
use super::{RECOVERY, recovers, says};

const FAILURES: &str = "postern_accept_failures_total{listener=\"main\"}";
const SHORTAGES: &str = "postern_upstream_refusals_total{upstream=\"service\",reason=\"shortage\"}";

/// Sets how many files the sidecar may have open; its hard limit stays that of this process.
fn limit_descriptors(sidecar: &Sidecar, current: Option<u64>) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let process = Pid::from_raw(i32::try_from(sidecar.id()).unwrap());
    prlimit(process, Resource::Nofile, Rlimit { current: current.or(maximum), maximum }).unwrap();
}

/// The highest descriptor that is open.
fn highest_descriptor(sidecar: &Sidecar) -> u64 {
    let open = fs::read_dir(format!("/proc/{}/fd", sidecar.id())).unwrap();
    let numbers = open.map(|entry| entry.unwrap().file_name().into_string().unwrap().parse().unwrap());
    numbers.max().unwrap()
}

/// One series, asked for over a connection that is kept.
#[track_caller]
fn metric(scraper: &mut Client, series: &str) -> f64 {
    let metrics = scraper.request("GET /metrics HTTP/1.1\r\nHost: ops\r\n\r\n").text();
    let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{series} is not in\n{metrics}")).parse().unwrap()
}

#[test]
fn without_descriptors_what_is_connected_goes_on_and_what_connects_waits() {
    let held = Arc::new(AtomicBool::new(true));
    let holding = Arc::clone(&held);
    let upstream = Upstream::start(move |peer| {
        while let Some(request) = peer.read_request() {
            while request.target == "/held" && holding.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            peer.respond(200, &[], b"fine");
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream)
        .one_worker()
        .upstream(
            "[upstreams.ejection]\nconsecutive_failures = 1\nmost_percent = 100\nrest_seconds = 3600\n\
             longest_rest_seconds = 3600",
        )
        .start();
    let started = Instant::now();
    let (mut kept, mut other) = (sidecar.connect(), sidecar.connect());
    let mut scraper = Client::connect(sidecar.ops);
    assert_eq!(kept.request(sidecar.get()).status, 200);
    assert_eq!(other.request(sidecar.get()).status, 200);
    assert!(metric(&mut scraper, FAILURES) < 0.5);

    limit_descriptors(&sidecar, Some(highest_descriptor(&sidecar) + 1));
    // The first of them take the numbers below that happen to be free.
    let mut waiting: Vec<Client> = Vec::new();
    until("accepting to fail", || {
        waiting.push(sidecar.connect());
        metric(&mut scraper, FAILURES) > 0.5
    });
    says(&sidecar, "cannot accept connections");
    says(&sidecar, "Raise the limit on open files");
    let failures = metric(&mut scraper, FAILURES);
    let (begun, used) = (Instant::now(), sidecar.processor_time());
    until("twenty more failures", || {
        assert_eq!(kept.request(sidecar.get()).status, 200, "what is connected is served");
        metric(&mut scraper, FAILURES) > failures + 20.0
    });
    let (took, used) = (begun.elapsed(), sidecar.processor_time() - used);
    assert!(took >= Duration::from_millis(900), "a pause after each failure: {took:?}");
    assert!(used < took, "no busy loop: {used:?} of {took:?}");

    // A service is not to blame for that it cannot be connected to: 503, and nothing is known against it.
    other.send(sidecar.head("GET /held", ""));
    until("it to be held", || upstream.requests().iter().any(|request| request.target == "/held"));
    let refused = kept.request(sidecar.get());
    refused.assert_error(503, "shortage");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(metric(&mut scraper, SHORTAGES) > 0.5);
    let healthy = format!(
        "postern_upstream_addresses{{upstream=\"service\",endpoint=\"{}\",state=\"healthy\"}}",
        upstream.address()
    );
    assert!(metric(&mut scraper, &healthy) > 0.5);
    says(&sidecar, "nothing left for a connection to the upstream");
    held.store(false, Ordering::SeqCst);
    assert_eq!(other.response().status, 200);
    recovers("the connection to be free", || kept.request(sidecar.get()).status == 200);

    limit_descriptors(&sidecar, None);
    let since = Instant::now();
    for client in &mut waiting {
        assert_eq!(client.request(sidecar.get()).status, 200);
    }
    assert!(since.elapsed() < RECOVERY, "{:?}", since.elapsed());
    // A line now and then, not one for each of twenty a second.
    let lines = sidecar.output().matches("cannot accept connections").count();
    assert!(lines as u64 <= 1 + started.elapsed().as_secs() / 10, "{lines}");
}
