//! Upstreams that fail: the client gets 502, 504 or a body that is visibly broken off, never a complete-looking wrong
//! answer; and what failed is not used again.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::certificates::Authority;
use support::client::Broken;
use support::http2::{full, get, request_with};
use support::{Http2Client, Peer, Sidecar, Upstream};

#[test]
fn nobody_listens() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sidecar = Sidecar::with_endpoint(address).start();
    sidecar.request(sidecar.get()).assert_error(502, "upstream_unreachable");
    let response = Http2Client::connect(sidecar.address()).request(get(&sidecar, "/"));
    response.assert_error(502, "upstream_unreachable");
    let series = format!(
        "postern_upstream_requests_total{{upstream=\"service\",endpoint=\"{address}\",outcome=\"unreachable\"}}"
    );
    support::until("the metric to count both", || (sidecar.metric(&series) - 2.0).abs() < 0.5);
    assert_eq!(sidecar.access_log(2)[0]["ending"], "upstream_unreachable");
}

#[test]
fn a_name_that_does_not_resolve() {
    let sidecar = Sidecar::with_endpoint("nowhere.invalid:80").start();
    sidecar.request(sidecar.get()).assert_error(502, "upstream_unreachable");
}

#[test]
fn one_endpoint_of_two_is_down() {
    let down = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).endpoint(down).start();
    for _ in 0..10 {
        assert_eq!(sidecar.request(sidecar.get()).status, 200);
    }
}

#[test]
fn endpoints_take_turns() {
    let (one, two) = (Upstream::echo(), Upstream::echo());
    let sidecar = Sidecar::in_front_of(&one).endpoint(two.address()).one_worker().start();
    for _ in 0..10 {
        assert_eq!(sidecar.request(sidecar.get()).status, 200);
    }
    assert_eq!((one.requests().len(), two.requests().len()), (5, 5));
}

#[test]
fn an_answer_that_does_not_come() {
    let upstream = Upstream::start(|peer| while peer.read_request().is_some() {});
    let sidecar = Sidecar::in_front_of(&upstream).upstream("response_header_seconds = 1").start();
    sidecar.request(sidecar.get()).assert_error(504, "upstream_timeout");
    upstream.wait_closed(0);
    let response = Http2Client::connect(sidecar.address()).request(get(&sidecar, "/"));
    response.assert_error(504, "upstream_timeout");
}

#[test]
fn interim_answers_without_end() {
    let interim = b"HTTP/1.1 102 Processing\r\n\r\n".repeat(10_000);
    let upstream = Upstream::start(move |peer| {
        if peer.read_request().is_some() {
            while peer.write(&interim) {}
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream).upstream("response_header_seconds = 1").start();
    let mut client = sidecar.connect();
    let mut response = client.request(sidecar.get());
    while response.status == 102 {
        response = client.response();
    }
    response.assert_error(504, "upstream_timeout");
}

#[test]
fn an_upload_that_never_ends_is_the_clients_fault() {
    let upstream = Upstream::start(|peer| while peer.read_request().is_some() {});
    let sidecar = Sidecar::in_front_of(&upstream).upstream("response_header_seconds = 1").start();
    let mut client = sidecar.connect();
    client.send(sidecar.head("POST /", "Content-Length: 100\r\n") + "only this");
    client.response().assert_error(408, "body_timeout");
    client.assert_closed();
    upstream.wait_closed(0);
    assert_eq!(upstream.requests().len(), 0);
}

/// Answers of an upstream that are none: 502, and the connection is not used again.
#[track_caller]
fn garbage(answer: impl Into<Vec<u8>>) {
    let upstream = Upstream::answering(answer);
    let sidecar = Sidecar::in_front_of(&upstream).one_worker().start();
    let mut client = sidecar.connect();
    client.request(sidecar.get()).assert_error(502, "upstream_failed");
    upstream.wait_closed(0);
    // The client's connection was in order all the time.
    client.request(sidecar.get()).assert_error(502, "upstream_failed");
    assert_eq!(upstream.connections(), 2);
    let response = Http2Client::connect(sidecar.address()).request(get(&sidecar, "/"));
    response.assert_error(502, "upstream_failed");
}

#[test]
fn answers_that_are_not_http() {
    garbage("SSH-2.0-OpenSSH_9.2\r\n");
    garbage("\0\x01\x02\x03\r\n\r\n");
    garbage("HTTP/1.1 banana\r\n\r\n");
    garbage("HTTP/1.1 200 OK\r\nno colon here\r\n\r\n");
    garbage("HTTP/1.1 200 OK\r\nContent-Length: banana\r\n\r\n");
    garbage("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab");
}

#[test]
fn headers_without_end() {
    garbage(format!("HTTP/1.1 200 OK\r\nX-A: {}", "a".repeat(600_000)));
    let many: String = (0..10_000).map(|number| format!("X-{number}: 1\r\n")).collect();
    garbage(format!("HTTP/1.1 200 OK\r\n{many}"));
}

#[test]
fn a_connection_that_is_closed_instead_of_an_answer() {
    let upstream = Upstream::start(|peer| {
        let _request = peer.read_request();
    });
    let sidecar = Sidecar::in_front_of(&upstream).start();
    sidecar.request(sidecar.get()).assert_error(502, "upstream_failed");
    let upstream = Upstream::answering_once("HTTP/1.1 200 OK\r\nContent-Le");
    let sidecar = Sidecar::in_front_of(&upstream).start();
    sidecar.request(sidecar.get()).assert_error(502, "upstream_failed");
}

/// A response whose body breaks off: over HTTP/1.1 the connection ends in the body, over HTTP/2 the stream is reset.
#[track_caller]
fn broken_off(answer: &'static str) {
    let upstream = Upstream::answering_once(answer);
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = sidecar.connect();
    client.send(sidecar.get());
    // What had not been flushed yet is not: then there is nothing at all.
    match client.try_response() {
        Err(Broken::InBody(_) | Broken::Closed) => {}
        other => panic!("{answer:?} must look broken off, not {other:?}"),
    }
    let outcome = Http2Client::connect(sidecar.address()).try_request(get(&sidecar, "/"));
    assert!(outcome.is_err(), "{answer:?} must look broken off, not {outcome:?}");
    let log = sidecar.access_log(2);
    assert!(log.iter().all(|line| line["ending"] == "upstream_aborted"), "{log:?}");
}

#[test]
fn bodies_that_break_off() {
    broken_off("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this");
    broken_off("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    broken_off("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhello");
    broken_off("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n");
    broken_off("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Trailer: cut");
}

#[test]
fn a_body_that_ends_with_its_connection() {
    let upstream = Upstream::answering_once("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end");
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let response = sidecar.request(sidecar.get());
    assert_eq!((response.status, response.text().as_str()), (200, "to the end"));
    // Its end is only known by the close: over HTTP/1.1 it must be framed.
    assert_eq!(response.values("transfer-encoding"), ["chunked"]);
}

#[test]
fn connections_are_reused() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).one_worker().start();
    let mut client = sidecar.connect();
    for _ in 0..5 {
        assert_eq!(client.request(sidecar.get()).status, 200);
    }
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_connection_with_bytes_left_over_is_not_reused() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale",
    );
    let sidecar = Sidecar::in_front_of(&upstream).one_worker().start();
    let mut client = sidecar.connect();
    for _ in 0..3 {
        let response = client.request(sidecar.get());
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    }
    assert_eq!(upstream.connections(), 3);
}

/// Answers the first request of each connection; of the next one, reads the head and closes.
fn closes_on_reuse(peer: &mut Peer) {
    if peer.read_request().is_some() {
        peer.respond(200, &[], b"fresh");
    }
    let _head = peer.read_head();
}

#[test]
fn a_get_over_a_connection_that_turns_out_closed_is_sent_again() {
    let upstream = Upstream::start(closes_on_reuse);
    let sidecar = Sidecar::in_front_of(&upstream).one_worker().start();
    let mut client = sidecar.connect();
    for _ in 0..4 {
        let response = client.request(sidecar.get());
        assert_eq!((response.status, response.text().as_str()), (200, "fresh"));
    }
    assert_eq!(upstream.requests().len(), 4);
}

#[test]
fn a_post_is_never_sent_twice() {
    let upstream = Upstream::start(closes_on_reuse);
    let sidecar = Sidecar::in_front_of(&upstream).one_worker().start();
    let mut client = sidecar.connect();
    assert_eq!(client.request(sidecar.get()).status, 200);
    let post = sidecar.head("POST /transfer", "Content-Length: 5\r\n") + "hello";
    client.request(&post).assert_error(502, "upstream_failed");
    let empty = sidecar.head("POST /empty", "Content-Length: 0\r\n");
    assert_eq!(client.request(sidecar.get()).status, 200);
    client.request(&empty).assert_error(502, "upstream_failed");
    let received = upstream.received_text();
    assert_eq!(received.matches("POST /transfer").count(), 1);
    assert_eq!(received.matches("POST /empty").count(), 1);
}

#[test]
fn a_connection_closed_while_idle_costs_no_request() {
    let upstream = Upstream::start(|peer| {
        if peer.read_request().is_some() {
            peer.respond(200, &[], b"once");
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream).one_worker().start();
    let mut client = sidecar.connect();
    for _ in 0..5 {
        let post = sidecar.head("POST /", "Content-Length: 5\r\n") + "hello";
        let response = client.request(post);
        assert_eq!((response.status, response.text().as_str()), (200, "once"));
        upstream.wait_until_closed_by_script();
    }
    assert_eq!(upstream.received_text().matches("POST /").count(), 5);
}

#[test]
fn the_client_goes_away_and_so_does_the_upstream_request() {
    let answered = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&answered);
    let upstream = Upstream::start(move |peer| {
        if peer.read_request().is_some() {
            peer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
            seen.store(true, Ordering::SeqCst);
            peer.read_to_end();
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = sidecar.connect();
    client.send(sidecar.get());
    assert_eq!(client.read_head().unwrap().status, 200);
    drop(client);
    upstream.wait_closed(0);
    assert!(answered.load(Ordering::SeqCst));
    assert_eq!(sidecar.access_log(1)[0]["ending"], "client_aborted");
}

#[test]
fn an_answer_before_the_upload_is_complete() {
    let upstream = Upstream::start(|peer| {
        if peer.read_head().is_some() {
            peer.respond(413, &[("connection", "close")], b"too much");
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = sidecar.connect();
    client.send(sidecar.head("POST /", "Content-Length: 1000000\r\n") + "the beginning");
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (413, "too much"));
    let response = Http2Client::connect(sidecar.address()).request(request_with(
        &sidecar.permitted.token,
        "POST",
        "/",
        full(vec![0; 1_000_000]),
    ));
    assert_eq!(response.status, 413);
}

#[test]
fn an_upload_that_breaks_off_behind_an_early_answer_ends_the_upstreams_request() {
    let upstream = Upstream::start(|peer| {
        if peer.read_head().is_some() {
            peer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
            // It would wait for the rest of the upload for ever.
            peer.read_to_end();
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream).start();
    for (connection, rest) in ["zz\r\n", ""].into_iter().enumerate() {
        let mut client = sidecar.connect();
        client.send(sidecar.head("POST /", "Transfer-Encoding: chunked\r\n") + "1\r\na\r\n");
        assert_eq!(client.read_head().unwrap().status, 200);
        client.send(rest);
        if rest.is_empty() {
            drop(client);
        }
        upstream.wait_closed(connection);
    }
    for line in sidecar.access_log(2) {
        assert_eq!(line["ending"], "client_aborted", "{line}");
    }
}

#[test]
fn a_request_that_makes_an_upstream_go_away_is_repeated_once() {
    let upstream = Upstream::start(|peer| {
        // Serves one request on each connection, and closes at the next.
        if peer.read_request().is_some() {
            peer.respond(200, &[], b"kept");
            peer.read_request();
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream).one_worker().start();
    // Several connections are kept.
    let mut clients: Vec<_> = (0..4).map(|_| sidecar.connect()).collect();
    clients.iter_mut().for_each(|client| client.send(sidecar.get()));
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status, 200));
    let kept = upstream.connections();
    assert!(kept > 1, "the requests ran side by side");
    // One that came when another was answered already may have been repeated by now.
    let sent = || upstream.received_text().matches("GET /").count();
    let before = sent();
    let response = clients[0].request(sidecar.get());
    assert_eq!((response.status, response.text().as_str()), (200, "kept"));
    // Once over a kept connection, once over a fresh one.
    assert_eq!(sent(), before + 2);
}

#[test]
fn tls_with_its_own_authority() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["127.0.0.1"]);
    let upstream = Upstream::start_tls(certificate.server(), |peer| {
        while peer.read_request().is_some() {
            peer.respond(200, &[], b"over TLS");
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream)
        .upstream("[upstreams.tls]\nca_file = \"ca.pem\"")
        .file("ca.pem", &authority.pem())
        .start();
    let mut client = sidecar.connect();
    for _ in 0..3 {
        let response = client.request(sidecar.get());
        assert_eq!((response.status, response.text().as_str()), (200, "over TLS"));
    }
}

#[test]
fn all_that_has_come_of_an_upload_is_passed_on_over_tls() {
    const BYTES: usize = 8 * 1024 * 1024;
    const PIECE: usize = 32 * 1024;
    let authority = Authority::new();
    let certificate = authority.certificate(&["127.0.0.1"]);
    // Reads more slowly than the client sends, and answers amid the upload.
    let upstream = Upstream::start_tls(certificate.server(), |peer| {
        if peer.read_head().is_none() {
            return;
        }
        for _ in 0..BYTES / PIECE {
            std::thread::sleep(Duration::from_millis(1));
            if peer.read_exactly(PIECE).is_none() {
                return;
            }
        }
        peer.respond(200, &[], b"all of it");
    });
    let sidecar = Sidecar::in_front_of(&upstream)
        .upstream("[upstreams.tls]\nca_file = \"ca.pem\"")
        .file("ca.pem", &authority.pem())
        .start();
    for _ in 0..8 {
        let mut client = sidecar.connect();
        client.send(sidecar.head("POST /", &format!("Content-Length: {}\r\n", BYTES + 1)));
        client.send(vec![7; BYTES]);
        assert_eq!(client.read_head().unwrap().status, 200);
    }
}

#[test]
fn tls_under_another_name() {
    let authority = Authority::new();
    let certificate = authority.certificate(&["service.internal"]);
    let upstream = Upstream::start_tls(certificate.server(), |peer| {
        while peer.read_request().is_some() {
            peer.respond(200, &[], b"over TLS");
        }
    });
    let with = |lines: &str| {
        Sidecar::in_front_of(&upstream)
            .upstream(&format!("[upstreams.tls]\nca_file = \"ca.pem\"\n{lines}"))
            .file("ca.pem", &authority.pem())
            .start()
    };
    let sidecar = with("server_name = \"service.internal\"");
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
    let sidecar = with("");
    sidecar.request(sidecar.get()).assert_error(502, "upstream_unreachable");
}

#[test]
fn tls_of_a_stranger() {
    let certificate = Authority::new().certificate(&["127.0.0.1"]);
    let upstream = Upstream::start_tls(certificate.server(), |peer| {
        while peer.read_request().is_some() {
            peer.respond(200, &[], b"over TLS");
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream)
        .upstream("[upstreams.tls]\nca_file = \"ca.pem\"")
        .file("ca.pem", &Authority::new().pem())
        .start();
    sidecar.request(sidecar.get()).assert_error(502, "upstream_unreachable");
    upstream.assert_untouched();
}

#[test]
fn an_endpoint_that_does_not_speak_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut hello = [0; 16];
            let _read = stream.read(&mut hello);
        }
    });
    let sidecar = Sidecar::with_endpoint(address)
        .upstream("[upstreams.tls]\nca_file = \"ca.pem\"")
        .file("ca.pem", &Authority::new().pem())
        .start();
    sidecar.request(sidecar.get()).assert_error(502, "upstream_unreachable");
}

/// A slow endpoint holds its requests until told; a quick one answers at once. Returns what each has got of 40 requests.
#[track_caller]
fn beside_a_slow_one(balance: &str) -> (usize, usize) {
    let release = Arc::new(AtomicBool::new(false));
    let held = Arc::clone(&release);
    let slow = Upstream::start(move |peer| {
        while peer.read_request().is_some() {
            while !held.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            peer.respond(200, &[], b"late");
        }
    });
    let quick = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&slow)
        .endpoint(quick.address())
        .one_worker()
        .upstream(&format!("balance = \"{balance}\""))
        .start();
    // One that the slow one gets stuck with, whoever's turn it is.
    let mut stuck: Vec<_> = (0..2).map(|_| sidecar.connect()).collect();
    for client in &mut stuck {
        client.send(sidecar.get());
    }
    support::until("the slow one to have a request", || slow.requests().len() == 1);
    support::until("the quick one to have answered", || quick.requests().len() == 1);
    assert_eq!(stuck[1].response().status, 200, "the quick one's turn");
    stuck.truncate(1);
    for _ in 0..40 {
        let before = (slow.requests().len(), quick.requests().len());
        let mut client = sidecar.connect();
        client.send(sidecar.get());
        let now = || (slow.requests().len(), quick.requests().len());
        support::until("the request to arrive", || now() != before);
        if now().0 == before.0 {
            assert_eq!(client.response().status, 200);
        } else {
            stuck.push(client);
        }
    }
    release.store(true, Ordering::SeqCst);
    for client in &mut stuck {
        assert_eq!(client.response().status, 200);
    }
    (slow.requests().len(), quick.requests().len())
}

#[test]
fn least_requests_leaves_a_slow_endpoint_alone() {
    let (slow, quick) = beside_a_slow_one("least_requests");
    assert!(slow < quick / 2, "the slow one got {slow}, the quick one {quick}");
}

#[test]
fn in_turn_a_slow_endpoint_gets_its_half() {
    assert_eq!(beside_a_slow_one("round_robin"), (21, 21));
}
