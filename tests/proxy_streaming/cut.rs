//! Responses whose end only the connection's end tells, as HTTP/1.0 has them: one that is cut off must not look like a whole one.

use std::sync::mpsc::{Sender, channel};

use parking_lot::Mutex;
use rustls::version::{TLS12, TLS13};

use crate::support::certificates::Authority;
use crate::support::sidecar::HOST;
use crate::support::{Client, End, Sidecar, SidecarBuilder, Upstream};

/// What an upstream does after the first part of a response whose length nobody knows.
#[derive(Clone, Copy)]
enum Then {
    /// It says the rest.
    Completes,
    /// It closes its connection amid the response.
    Breaks,
    /// It says what is no chunk.
    Babbles,
}

/// An upstream that has said the first part once a head has come, and goes on when it is told to.
fn first_part(then: Then) -> (Upstream, Sender<()>) {
    let (sender, receiver) = channel();
    let receiver = Mutex::new(receiver);
    let upstream = Upstream::start(move |peer| {
        if peer.read_head().is_none() {
            return;
        }
        peer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        // Or until the test is over.
        let _told = receiver.lock().recv();
        match then {
            Then::Completes => peer.write(b"4\r\nlast\r\n0\r\n\r\n"),
            Then::Breaks => true,
            Then::Babbles => peer.write(b"no chunk\r\n"),
        };
    });
    (upstream, sender)
}

/// A client of HTTP/1.0 that has read the first part.
#[track_caller]
fn reading(mut client: Client, token: &str) -> Client {
    client.send(format!("GET / HTTP/1.0\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n\r\n"));
    let head = client.read_head().unwrap();
    assert_eq!(head.status, 200);
    assert!(head.header("content-length").is_none() && head.header("transfer-encoding").is_none());
    assert_eq!(client.read_exactly(5), b"first");
    client
}

#[track_caller]
fn check(then: Then, rest: &[u8], end: End) {
    let (upstream, go_on) = first_part(then);
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = reading(sidecar.connect(), &sidecar.permitted.token);
    go_on.send(()).unwrap();
    assert_eq!(client.read_until(end), rest);
}

#[test]
fn a_whole_response_ends_in_order() {
    check(Then::Completes, b"last", End::InOrder);
}

#[test]
fn a_response_that_its_upstream_breaks_off_is_cut() {
    check(Then::Breaks, b"", End::Cut);
    check(Then::Babbles, b"", End::Cut);
}

#[test]
fn a_response_that_takes_too_long_is_cut() {
    let (upstream, _never) = first_part(Then::Completes);
    let sidecar = Sidecar::in_front_of(&upstream).route("total_seconds = 1").start();
    let mut client = reading(sidecar.connect(), &sidecar.permitted.token);
    assert_eq!(client.read_until(End::Cut), b"");
}

#[test]
fn a_response_whose_token_is_revoked_is_cut_and_no_other() {
    let (upstream, go_on) = first_part(Then::Completes);
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let doomed = sidecar.directory.permitted();
    sidecar.wait_for(&doomed);
    let mut ending = reading(sidecar.connect(), &doomed.token);
    sidecar.directory.revoke(&doomed.prefix);
    assert_eq!(ending.read_until(End::Cut), b"");
    drop(ending);
    // The script that held the first one's receiver ends with this, the other's with the next.
    go_on.send(()).unwrap();
    let mut staying = reading(sidecar.connect(), &sidecar.permitted.token);
    go_on.send(()).unwrap();
    assert_eq!(staying.read_until(End::InOrder), b"last");
}

#[test]
fn a_response_of_a_sidecar_that_dies_is_cut() {
    let (upstream, _never) = first_part(Then::Completes);
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = reading(sidecar.connect(), &sidecar.permitted.token);
    // Killed, without a chance to say or do anything.
    drop(sidecar);
    assert_eq!(client.read_until(End::Cut), b"");
}

#[test]
fn a_response_that_is_still_running_when_a_drain_is_over_is_cut() {
    let (upstream, _never) = first_part(Then::Completes);
    let sidecar = Sidecar::in_front_of(&upstream).timeouts("drain_seconds = 0").start();
    let mut client = reading(sidecar.connect(), &sidecar.permitted.token);
    sidecar.signal("TERM");
    assert_eq!(client.read_until(End::Cut), b"");
}

/// With a listener over TLS.
fn over_tls(builder: SidecarBuilder, authority: &Authority) -> Sidecar {
    let certificate = authority.certificate(&[HOST]);
    let table = "[listeners.tls]\ncertificates = [{ certificate_file = \"a.crt\", key_file = \"a.key\" }]";
    builder.listener(table).file("a.crt", &certificate.pem).file("a.key", &certificate.key_pem).start()
}

#[test]
fn over_tls_there_is_no_goodbye() {
    let authority = Authority::new();
    for (version, then, rest, end) in [
        (&TLS13, Then::Completes, &b"last"[..], End::InOrder),
        (&TLS13, Then::Breaks, b"", End::Cut),
        (&TLS12, Then::Breaks, b"", End::Cut),
    ] {
        let (upstream, go_on) = first_part(then);
        let sidecar = over_tls(Sidecar::in_front_of(&upstream), &authority);
        let config = authority.client(&[version], &["http/1.1"]);
        let client = Client::connect_tls(sidecar.address(), HOST, config).unwrap();
        let mut client = reading(client, &sidecar.permitted.token);
        go_on.send(()).unwrap();
        assert_eq!(client.read_until(end), rest);
    }
}

#[test]
fn what_says_itself_where_it_ends_is_not_reset() {
    // Whoever counts needs no reset, which would throw away what is still on its way.
    let (upstream, go_on) = first_part(Then::Breaks);
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = sidecar.connect();
    client.send(sidecar.get());
    assert_eq!(client.read_head().unwrap().status, 200);
    assert_eq!(client.read_exactly(10), b"5\r\nfirst\r\n");
    go_on.send(()).unwrap();
    assert_eq!(client.read_until(End::InOrder), b"", "without a last chunk");
}
