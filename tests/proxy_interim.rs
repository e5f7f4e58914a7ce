//! Interim responses of upstreams, such as early hints: at once to HTTP/1.1 clients, whole and in order; to no one else.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::process::Command;
use std::sync::mpsc::{Sender, channel};

use parking_lot::Mutex;
use rustls::version::TLS13;
use support::certificates::Authority;
use support::http2::get;
use support::sidecar::HOST;
use support::{Client, Http2Client, Sidecar, Upstream, peers};

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\
    Keep-Alive: timeout=5\r\nContent-Length: 17\r\n\r\n";

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An upstream that says `interim` once a head has come, and answers when it is told to and the body has come.
fn hinting(interim: &str) -> (Upstream, Sender<()>) {
    let (sender, receiver) = channel();
    let (interim, receiver) = (interim.to_owned(), Mutex::new(receiver));
    let upstream = Upstream::start(move |peer| {
        while let Some(head) = peer.read_head() {
            peer.write(interim.as_bytes());
            let length = head.header("content-length").map_or(0, |length| length.parse().unwrap());
            if receiver.lock().recv().is_err() || peer.read_exactly(length).is_none() {
                return;
            }
            peer.write(ANSWER);
        }
    });
    (upstream, sender)
}

#[track_caller]
fn assert_hinted(client: &mut Client) {
    let hints = client.response();
    assert_eq!(hints.status, 103);
    assert_eq!(hints.headers, [("link".to_owned(), "</style.css>; rel=preload".to_owned())]);
}

#[test]
fn early_hints_are_early() {
    let (upstream, answer) = hinting(HINTS);
    let sidecar = Sidecar::in_front_of(&upstream).one_worker().start();
    let mut client = sidecar.connect();
    for _ in 0..3 {
        client.send(sidecar.get());
        // The upstream has not answered, nor will it before this has come.
        assert_hinted(&mut client);
        answer.send(()).unwrap();
        let response = client.response();
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    }
    assert_eq!(upstream.connections(), 1);
    let line = &sidecar.access_log(1)[0];
    assert_eq!((&line["status"], &line["bytes_sent"]), (&200.into(), &2.into()));
}

#[test]
fn over_tls_too() {
    let authority = Authority::new();
    let certificate = authority.certificate(&[HOST]);
    let (upstream, answer) = hinting(HINTS);
    let sidecar = Sidecar::in_front_of(&upstream)
        .listener("[listeners.tls]\ncertificates = [{ certificate_file = \"a.crt\", key_file = \"a.key\" }]")
        .file("a.crt", &certificate.pem)
        .file("a.key", &certificate.key_pem)
        .start();
    let config = authority.client(&[&TLS13], &["http/1.1"]);
    let mut client = Client::connect_tls(sidecar.address(), HOST, config).unwrap();
    client.send(sidecar.get());
    assert_hinted(&mut client);
    answer.send(()).unwrap();
    assert_eq!(client.response().status, 200);
}

#[test]
fn what_a_route_takes_out_of_responses_is_not_hinted_either() {
    // In a spelling that servers take for the same, and more than once.
    let secret = "HTTP/1.1 103 Early Hints\r\nX-Backend: host-17\r\nlink: </a.css>\r\nx_backend: host-18\r\nServer: inner/1\r\n\r\n";
    let (upstream, answer) = hinting(secret);
    let changes = "[routes.response_headers]\nremove = [\"x-backend\"]\nset = { server = \"outer\" }\nadd = { x-added = \"1\" }";
    let sidecar = Sidecar::in_front_of(&upstream).route(changes).start();
    let mut client = sidecar.connect();
    client.send(sidecar.get());
    let hints = client.response();
    // What is set and added says something of the answer, and comes with it.
    assert_eq!((hints.status, hints.headers), (103, vec![("link".to_owned(), "</a.css>".to_owned())]));
    answer.send(()).unwrap();
    let response = client.response();
    assert_eq!(
        (response.status, response.header("server"), response.header("x-added")),
        (200, Some("outer"), Some("1"))
    );
}

#[test]
fn several_in_their_order_and_no_second_continue() {
    let interim = format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nX-Step: 1\r\n\r\n{HINTS}HTTP/1.1 199 \r\n\r\n"
    );
    let (upstream, answer) = hinting(&interim);
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = sidecar.connect();
    client.send(sidecar.get());
    let processing = client.response();
    assert_eq!((processing.status, processing.header("x-step")), (102, Some("1")));
    assert_hinted(&mut client);
    assert_eq!(client.response().status, 199);
    answer.send(()).unwrap();
    assert_eq!(client.response().status, 200);
}

#[test]
fn between_a_request_that_waits_and_its_body() {
    let (upstream, answer) = hinting(HINTS);
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = sidecar.connect();
    client.send(sidecar.head("POST /", "Content-Length: 5\r\nExpect: 100-continue\r\n"));
    // Which of the two comes first is the upstream's to say; each is whole.
    let mut statuses = [client.response().status, client.response().status];
    statuses.sort_unstable();
    assert_eq!(statuses, [100, 103]);
    client.send("hello");
    answer.send(()).unwrap();
    assert_eq!(client.response().status, 200);
}

#[test]
fn an_answer_of_our_own_may_follow() {
    let upstream = Upstream::start(|peer| {
        if peer.read_head().is_some() {
            peer.write(HINTS.as_bytes());
            peer.write(b"nonsense");
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = sidecar.connect();
    client.send(sidecar.get());
    assert_hinted(&mut client);
    client.response().assert_error(502, "upstream_failed");
}

#[test]
fn clients_of_other_versions_get_the_answer_alone() {
    let (upstream, answer) = hinting(HINTS);
    let sidecar = Sidecar::in_front_of(&upstream).start();
    for _ in 0..2 {
        answer.send(()).unwrap();
    }
    let request = sidecar.get().replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(sidecar.request(request).status, 200);
    assert_eq!(Http2Client::connect(sidecar.address()).request(get(&sidecar, "/")).status, 200);
}

#[test]
fn a_client_that_does_not_read_costs_no_memory() {
    let hints = format!("HTTP/1.1 103 Early Hints\r\nLink: <{}>\r\n\r\n", "x".repeat(4000));
    let (told, has_written) = channel();
    let told = Mutex::new(told);
    let upstream = Upstream::start(move |peer| {
        while peer.read_request().is_some() {
            for _ in 0..10_000 {
                peer.write(hints.as_bytes());
            }
            peer.write(ANSWER);
            told.lock().send(()).unwrap();
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream).one_worker().start();
    assert_eq!(sidecar.request(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).status, 401);
    let before = sidecar.resident_bytes();
    let mut client = sidecar.connect();
    client.send(sidecar.get());
    // Forty megabytes, none of which the client has asked its system for.
    has_written.recv_timeout(support::PATIENCE).unwrap();
    let grown = sidecar.resident_bytes().saturating_sub(before);
    assert!(grown < 16 * 1024 * 1024, "{grown} bytes more");
    let last = loop {
        let response = client.response();
        if response.status != 103 {
            break response;
        }
        assert_eq!(response.header("link").unwrap().len(), 4002, "none is cut");
    };
    assert_eq!((last.status, last.text().as_str()), (200, "ok"));
}

#[test]
fn curl_shows_them() {
    let Some(curl) = peers::program("curl") else { return };
    let (upstream, answer) = hinting(HINTS);
    let sidecar = Sidecar::in_front_of(&upstream).start();
    answer.send(()).unwrap();
    let text = peers::run(
        Command::new(&curl)
            .args([
                "-sS",
                "-i",
                "--http1.1",
                "-H",
                &format!("Authorization: Bearer {}", sidecar.permitted.token),
            ])
            .args(["-H", &format!("Host: {HOST}")])
            .arg(format!("http://{}/", sidecar.address())),
    );
    let (hints, response) = text.split_once("\r\n\r\n").unwrap();
    assert!(hints.starts_with("HTTP/1.1 103 Early Hints\r\n"), "{text}");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with("\r\n\r\nok"), "{text}");
}
