//! Limits in time and number: slow heads, silence, too many connections. The limits on a head's size are in
//! `wire/row_22_sizes.rs`.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::certificates::Authority;
use support::client::Broken;
use support::{Client, Http2Client, Sidecar, Upstream};

#[test]
fn a_head_that_does_not_come_on() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).timeouts("header_read_seconds = 1").start();
    let mut client = sidecar.connect();
    client.send("GET / HTTP/1.1\r\nHost: service.test\r\nX-Slow: ");
    let started = Instant::now();
    let response = client.response();
    assert_eq!(response.status, 408, "{}", response.text());
    assert_eq!(response.values("connection"), ["close"]);
    client.assert_closed();
    assert!(started.elapsed() > Duration::from_millis(700), "{:?}", started.elapsed());
    upstream.assert_untouched();
}

#[test]
fn a_head_that_trickles() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).timeouts("header_read_seconds = 1").start();
    let mut client = sidecar.connect();
    client.send("GET / HTTP/1.1\r\nHost: service.test\r\n");
    let mut slow = client.socket().try_clone().unwrap();
    let trickling = std::thread::spawn(move || {
        use std::io::Write;
        // A byte now and then does not put the deadline off.
        while slow.write_all(b"X-A: b\r\n").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let mut answer = Vec::new();
    let mut socket: &TcpStream = client.socket();
    let mut buffer = [0; 4096];
    while let Ok(read) = socket.read(&mut buffer)
        && read > 0
    {
        answer.extend_from_slice(&buffer[..read]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{:?}", String::from_utf8_lossy(&answer));
    drop(client);
    trickling.join().unwrap();
    upstream.assert_untouched();
}

#[test]
fn silence_before_and_between_requests() {
    let upstream = Upstream::echo();
    let sidecar =
        Sidecar::in_front_of(&upstream).timeouts("header_read_seconds = 1\nidle_seconds = 1").start();
    let mut silent = sidecar.connect();
    silent.assert_closed();
    let mut client = sidecar.connect();
    assert_eq!(client.request(sidecar.get()).status, 200);
    client.assert_closed();
    let mut client = Http2Client::connect(sidecar.address());
    assert_eq!(client.request(support::http2::get(&sidecar, "/")).status, 200);
    let ended = client.runtime.block_on(async {
        tokio::time::timeout(support::PATIENCE, &mut client.connection).await.expect("the connection ends")
    });
    ended.unwrap().unwrap();
}

#[test]
fn an_answer_that_nobody_reads() {
    let upstream = Upstream::start(|peer| {
        if peer.read_request().is_some() {
            let piece = vec![7; 1024 * 1024];
            peer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while peer.write(b"100000\r\n") && peer.write(&piece) && peer.write(b"\r\n") {}
        }
    });
    let sidecar =
        Sidecar::in_front_of(&upstream).timeouts("header_read_seconds = 1\nidle_seconds = 1").start();
    let mut client = sidecar.connect();
    client.send(sidecar.get());
    assert_eq!(sidecar.access_log(1)[0]["ending"], "client_aborted");
    upstream.wait_until_closed_by_script();
}

#[test]
fn the_longest_silence_that_can_be_configured() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).timeouts("idle_seconds = 86400").start();
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
}

#[test]
fn a_long_answer_is_no_silence() {
    let upstream = Upstream::start(|peer| {
        while peer.read_request().is_some() {
            // Longer than idle_seconds and header_read_seconds together.
            std::thread::sleep(Duration::from_millis(3000));
            peer.respond(200, &[], b"at last");
        }
    });
    let sidecar =
        Sidecar::in_front_of(&upstream).timeouts("header_read_seconds = 1\nidle_seconds = 1").start();
    assert_eq!(sidecar.request(sidecar.get()).text(), "at last");
}

#[test]
fn a_handshake_that_does_not_come_on() {
    let upstream = Upstream::echo();
    let certificate = Authority::new().certificate(&["service.test"]);
    let sidecar = Sidecar::in_front_of(&upstream)
        .listener("[listeners.tls]\n[[listeners.tls.certificates]]\ncertificate_file = \"a.crt\"\nkey_file = \"a.key\"")
        .file("a.crt", &certificate.pem)
        .file("a.key", &certificate.key_pem)
        .timeouts("header_read_seconds = 1")
        .start();
    let mut client = sidecar.connect();
    client.send(b"\x16\x03\x01");
    client.assert_closed();
    let series = "postern_tls_handshakes_total{listener=\"main\",outcome=\"timeout\"}";
    support::until("the metric to count it", || sidecar.metric(series) > 0.5);
}

#[test]
fn connections_beyond_the_limit_wait() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).one_worker().limits("connections = 2").start();
    let mut first = sidecar.connect();
    let mut second = sidecar.connect();
    assert_eq!(first.request(sidecar.get()).status, 200);
    assert_eq!(second.request(sidecar.get()).status, 200);

    let mut third = Client::connect(sidecar.address());
    third.socket().set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    third.send(sidecar.get());
    assert_eq!(third.try_response(), Err(Broken::TimedOut), "the third waits to be accepted");
    assert_eq!(upstream.requests().len(), 2);

    drop(first);
    third.socket().set_read_timeout(Some(support::PATIENCE)).unwrap();
    assert_eq!(third.response().status, 200, "its turn has come");
    assert_eq!(second.request(sidecar.get()).status, 200);
}

#[test]
fn connections_that_send_nothing_count_too() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).one_worker().limits("connections = 2").start();
    let silent = [sidecar.connect(), sidecar.connect()];
    let mut third = sidecar.connect();
    third.socket().set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    third.send(sidecar.get());
    assert_eq!(third.try_response(), Err(Broken::TimedOut), "the third waits to be accepted");
    drop(silent);
    third.socket().set_read_timeout(Some(support::PATIENCE)).unwrap();
    assert_eq!(third.response().status, 200, "its turn has come");
}

#[test]
fn a_listener_has_limits_of_its_own() {
    let upstream = Upstream::echo();
    let lines = "connections = 1\nheader_read_seconds = 1\nidle_seconds = 1";
    let other = "[[listeners]]\nname = \"other\"\naddress = \"127.0.0.1:0\"";
    let sidecar = Sidecar::in_front_of(&upstream)
        .one_worker()
        .listener(lines)
        .more_listeners(other)
        .timeouts("header_read_seconds = 300\nidle_seconds = 86400")
        .start();
    let mut elsewhere = Client::connect(sidecar.listeners[1]);
    elsewhere.send("GET / HTTP/1.1\r\nHost: service.test\r\n");
    let mut waiting_elsewhere = Client::connect(sidecar.listeners[1]);
    assert_eq!(waiting_elsewhere.request(sidecar.get()).status, 200);

    let mut first = sidecar.connect();
    assert_eq!(first.request(sidecar.get()).status, 200);
    let mut second = sidecar.connect();
    second.socket().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    second.send("GET / HTTP/1.1\r\nHost: service.test\r\n");
    assert_eq!(second.try_response(), Err(Broken::TimedOut), "the second waits to be accepted");
    second.socket().set_read_timeout(Some(support::PATIENCE)).unwrap();
    // The first is silent for too long, and the second, which comes in its place, is too slow.
    first.assert_closed();
    assert_eq!(second.response().status, 408);
    second.assert_closed();
    // What holds there does not hold elsewhere.
    elsewhere.send(format!("Authorization: Bearer {}\r\n\r\n", sidecar.permitted.token));
    assert_eq!(elsewhere.response().status, 200);
    assert_eq!(waiting_elsewhere.request(sidecar.get()).status, 200);
}
