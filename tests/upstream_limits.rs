//! What is more than an upstream is to be given at once is refused at once, and is let in as soon as there is room.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::certificates::Authority;
use support::http2::get;
use support::{Http2Client, Sidecar, Upstream, until};

/// Answers with a head and half of a body at once, and the rest when told.
fn holding(release: &Arc<AtomicBool>) -> Upstream {
    let release = Arc::clone(release);
    Upstream::start(move |peer| {
        while peer.read_request().is_some() {
            peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234");
            while !release.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            if !peer.write(b"56789") {
                break;
            }
        }
    })
}

fn refusals(sidecar: &Sidecar, reason: &str) -> u64 {
    let series = format!("postern_upstream_refusals_total{{upstream=\"service\",reason=\"{reason}\"}}");
    sidecar.metric(&series) as u64
}

#[test]
fn so_many_requests_at_once_over_all_workers() {
    let release = Arc::new(AtomicBool::new(false));
    let upstream = holding(&release);
    // The limit does not divide by the workers, and any of them may get all the clients.
    let sidecar =
        Sidecar::in_front_of(&upstream).upstream("[upstreams.limits]\nconcurrent_requests = 3").start();
    let mut clients: Vec<_> = (0..3).map(|_| sidecar.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(sidecar.get());
        until("the request to arrive", || upstream.requests().len() == number + 1);
    }
    for _ in 0..5 {
        let response = sidecar.request(sidecar.get());
        response.assert_error(503, "upstream_overloaded");
        assert_eq!(response.header("retry-after"), Some("1"));
    }
    let mut client = Http2Client::connect(sidecar.address());
    client.request(get(&sidecar, "/")).assert_error(503, "upstream_overloaded");
    assert_eq!((upstream.requests().len(), refusals(&sidecar, "requests")), (3, 6));
    assert_eq!(sidecar.access_log(6)[0]["ending"], "upstream_overloaded");

    // One that goes away makes room.
    drop(clients.pop());
    until("its request to be over", || {
        let mut client = sidecar.connect();
        client.send(sidecar.get());
        until("it to be refused or to arrive", || {
            upstream.requests().len() == 4 || refusals(&sidecar, "requests") > 6
        });
        upstream.requests().len() == 4 && {
            clients.push(client);
            true
        }
    });
    release.store(true, Ordering::SeqCst);
    for client in &mut clients {
        assert_eq!(client.response().text(), "0123456789");
    }
    for _ in 0..10 {
        assert_eq!(sidecar.request(sidecar.get()).status, 200);
    }
}

#[test]
fn failures_give_their_place_back() {
    let upstream = Upstream::start(|peer| {
        peer.read_request();
    });
    let sidecar =
        Sidecar::in_front_of(&upstream).upstream("[upstreams.limits]\nconcurrent_requests = 1").start();
    for _ in 0..5 {
        sidecar.request(sidecar.get()).assert_error(502, "upstream_failed");
    }
}

#[test]
fn so_many_connections_are_opened_at_once() {
    // It takes connections and says nothing: TLS does not come about.
    let silent = Upstream::start(|peer| peer.read_to_end());
    let authority = Authority::new();
    let sidecar = Sidecar::in_front_of(&silent)
        .file("ca.pem", &authority.pem())
        .upstream(
            "connect_seconds = 300\n[upstreams.limits]\npending_connections = 2\n[upstreams.tls]\nca_file = \"ca.pem\"",
        )
        .start();
    let mut clients: Vec<_> = (0..2).map(|_| sidecar.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(sidecar.get());
        until("the connection to be opened", || silent.connections() == number + 1);
    }
    sidecar.request(sidecar.get()).assert_error(503, "upstream_overloaded");
    assert_eq!((silent.connections(), refusals(&sidecar, "connections")), (2, 1));
    // Who has gone waits for none.
    clients.clear();
    silent.wait_closed(0);
    let mut client = sidecar.connect();
    client.send(sidecar.get());
    until("the connection to be opened", || silent.connections() == 3);
}

#[test]
fn requests_over_http2_wait_for_one_connection_together() {
    // It takes connections and says nothing: TLS does not come about.
    let (silent, other) = (Upstream::start(|peer| peer.read_to_end()), Upstream::echo());
    let authority = Authority::new();
    let routes = format!(
        "[[upstreams]]\nname = \"other\"\nendpoints = [\"{}\"]\n[[routes]]\nname = \"other\"\n\
         hosts = [\"other.test\"]\nupstream = \"other\"\nauthentication = \"off\"\n",
        other.address()
    );
    let sidecar = Sidecar::in_front_of(&silent)
        .one_worker()
        .file("ca.pem", &authority.pem())
        .upstream(
            "protocol = \"http2\"\nconnect_seconds = 2\n[upstreams.limits]\npending_connections = 1\n\
             [upstreams.tls]\nca_file = \"ca.pem\"",
        )
        .more(&routes)
        .start();
    let mut clients: Vec<_> = (0..20).map(|_| sidecar.connect()).collect();
    clients.iter_mut().for_each(|client| client.send(sidecar.get()));
    until("the connection to be opened", || silent.connections() == 1);
    // Those for whom it is opened go away.
    for client in clients.drain(..10) {
        drop(client);
    }
    // The worker has one thread: what it is asked next it does after what it was asked before.
    let open = "GET / HTTP/1.1\r\nHost: other.test\r\n\r\n";
    assert_eq!(sidecar.request(open).status, 200);
    assert_eq!(refusals(&sidecar, "connections"), 0);
    // All of them learn at once that it is not to be had.
    for client in &mut clients {
        client.response().assert_error(502, "upstream_unreachable");
    }
    assert_eq!(silent.connections(), 1);
}
