//! Memory that hostile requests take: never a hundred times the bytes they are sent in, beside what as many ordinary ones take.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod support;

use support::sidecar::HOST;
use support::{Client, Sidecar, Upstream, until};

/// At most this many bytes of memory for each byte that was sent (Envoy's rule).
const AMPLIFICATION: u64 = 100;

/// What the resident size moves by itself: pages of the allocator.
const NOISE_BYTES: u64 = 2 << 20;

/// What `hostile` adds to the resident size, beside what `ordinary` adds to that of a sidecar of its own; both leave their requests open.
#[track_caller]
fn assert_bounded<T>(
    what: &str,
    sent_bytes: usize,
    ordinary: impl Fn(&Sidecar, &Upstream) -> T,
    hostile: impl Fn(&Sidecar, &Upstream) -> T,
) {
    let [usual, attacked] = [&ordinary as &dyn Fn(&Sidecar, &Upstream) -> T, &hostile].map(|load| {
        let upstream = Upstream::start(|peer| {
            peer.read_request();
            peer.read_to_end();
        });
        let sidecar =
            Sidecar::in_front_of(&upstream).limits("connections = 2000").log_level("postern=info").start();
        assert_eq!(sidecar.request(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).status, 401);
        let before = sidecar.resident_bytes();
        let open = load(&sidecar, &upstream);
        let grown = settled(&sidecar).saturating_sub(before);
        drop(open);
        grown
    });
    let sent = u64::try_from(sent_bytes).unwrap();
    let beside = attacked.saturating_sub(usual);
    println!("{what}: {sent} bytes sent, {usual} bytes of memory for ordinary ones, {attacked} for these");
    assert!(beside <= AMPLIFICATION * sent + NOISE_BYTES, "{what}: {beside} bytes for {sent} that were sent");
}

/// The resident size once it stands still: everything that was sent has been read then.
fn settled(sidecar: &Sidecar) -> u64 {
    let (mut last, mut same) = (0, 0);
    support::eventually("the memory to stand still", || {
        let now = sidecar.resident_bytes();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        (same == 20).then_some(now)
    })
}

/// So many connections that have each sent these bytes, and that the sidecar has read them of.
fn held(sidecar: &Sidecar, count: usize, bytes: &[u8]) -> Vec<Client> {
    let mut clients: Vec<_> = (0..count).map(|_| sidecar.connect()).collect();
    for client in &mut clients {
        client.send(bytes);
    }
    until("all connections to be known", || {
        sidecar.find_metric("postern_connections{listener=\"main\"}") >= Some(count as f64)
    });
    clients
}

#[test]
fn heads_that_never_end() {
    let big = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Big: {}", "x".repeat(60_000));
    let many = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{}", "a:\r\n".repeat(90));
    for (what, head) in [("a big field", big), ("many small fields", many)] {
        assert_bounded(
            what,
            200 * head.len(),
            |sidecar, _| held(sidecar, 200, b"GET"),
            |sidecar, _| held(sidecar, 200, head.as_bytes()),
        );
    }
}
