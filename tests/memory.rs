//! Memory that hostile requests take, beside what as many ordinary ones take: never a hundred times the bytes they are sent in, or for
//! streams that wait for the service, whose heads HPACK makes shorter than any, a few KiB each.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod support;

use support::frames::{END_HEADERS, END_STREAM, FrameClient, HEADERS, reference, remembered};
use support::sidecar::HOST;
use support::{Client, Sidecar, Upstream, until};

/// At most this many bytes of memory for each byte that was sent (Envoy's rule).
const AMPLIFICATION: u64 = 100;

/// At most this many bytes of memory for each stream.
const STREAM_BYTES: u64 = 16 << 10;

/// What the resident size moves by itself: pages of the allocator.
const NOISE_BYTES: u64 = 2 << 20;

/// That `hostile`, which sends so much, adds no more than this to the resident size, beside what `ordinary` adds to that of a sidecar
/// of its own; both leave their requests open.
#[track_caller]
fn assert_bounded<T>(
    what: &str,
    (sent_bytes, most_bytes): (usize, u64),
    ordinary: impl Fn(&Sidecar, &Upstream) -> T,
    hostile: impl Fn(&Sidecar, &Upstream) -> T,
) {
    let [usual, attacked] = [&ordinary as &dyn Fn(&Sidecar, &Upstream) -> T, &hostile].map(|load| {
        let upstream = Upstream::start(|peer| {
            peer.read_head();
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
    let beside = attacked.saturating_sub(usual);
    println!(
        "{what}: {sent_bytes} bytes sent, {usual} bytes of memory for ordinary ones, {attacked} for these"
    );
    assert!(beside <= most_bytes + NOISE_BYTES, "{what}: {beside} bytes for {sent_bytes} that were sent");
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
        let sent = 200 * head.len();
        assert_bounded(
            what,
            (sent, AMPLIFICATION * sent as u64),
            |sidecar, _| held(sidecar, 200, b"GET"),
            |sidecar, _| held(sidecar, 200, head.as_bytes()),
        );
    }
}

/// Connections, and the streams of each that wait for the service at the same time.
const CONNECTIONS: usize = 8;
const STREAMS: u8 = 90;

/// Permitted requests over HTTP/2 that wait for the service, the head of each of which refers so often to one field of 3.5 KB: it
/// is sent once a connection.
fn waiting(
    sidecar: &Sidecar,
    upstream: &Upstream,
    (method, flags): (&[u8], u8),
    references: usize,
) -> Vec<FrameClient> {
    let method = [method, &[reference(6), reference(4)]].concat();
    let (authorization, big) = (format!("Bearer {}", sidecar.permitted.token), "x".repeat(3_500));
    let own = [(":authority", HOST), ("authorization", &authorization), ("x-big", &big)];
    let first = [&method, &remembered(&own)[..]].concat();
    let (big, authorization, authority) = (reference(62), reference(63), reference(64));
    let other = [&method, &[authority, authorization][..], &vec![big; references]].concat();
    let asked = || upstream.mark().iter().filter(|read| **read > 0).count();
    let clients = (1..=CONNECTIONS).map(|connection| {
        let mut client = FrameClient::connect(sidecar.address());
        for number in 0..STREAMS {
            let block = if number == 0 { &first } else { &other };
            client.send(HEADERS, flags | END_HEADERS, 1 + 2 * u32::from(number), block);
        }
        until("all requests to be with the service", || asked() == connection * usize::from(STREAMS));
        client
    });
    clients.collect()
}

#[test]
fn heads_that_refer_to_one_big_field() {
    const GET: &[u8] = &[0x82];
    const POST: &[u8] = &[0x83];
    const REFERENCES: usize = 15;
    let streams = CONNECTIONS * usize::from(STREAMS);
    for (what, kind) in [
        ("references to a big field", (GET, END_STREAM)),
        ("references to a big field, with a body to come", (POST, 0)),
    ] {
        assert_bounded(
            what,
            (streams * (REFERENCES + 14), STREAM_BYTES * streams as u64),
            |sidecar, upstream| waiting(sidecar, upstream, kind, 0),
            |sidecar, upstream| waiting(sidecar, upstream, kind, REFERENCES),
        );
    }
}
