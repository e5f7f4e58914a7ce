//! WebSockets through the sidecar, and the end of what runs on after its token: byte for byte, against a scripted upstream.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Instant;

use support::{Client, Sidecar, Upstream};

/// What a browser or any other WebSocket client sends (RFC 6455, section 1.3).
const OFFER: &str = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                           Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Takes each offer, says `hello`, then sends back what it gets until the client has said all, then `bye`.
fn echo_tunnel() -> Upstream {
    Upstream::start(|peer| {
        if peer.read_head().is_some() {
            peer.write(SWITCHING);
            peer.write(b"hello");
            while let Some(bytes) = peer.read_exactly(1) {
                peer.write(&bytes);
            }
            peer.write(b"bye");
        }
    })
}

#[track_caller]
fn open(sidecar: &Sidecar, token: &str) -> Client {
    let mut client = sidecar.connect();
    client.send(sidecar.head_with(token, "GET /socket", OFFER));
    let head = client.read_head().expect("a head");
    assert_eq!(head.status, 101);
    assert_eq!(head.header("upgrade"), Some("websocket"));
    assert_eq!(head.header("connection"), Some("upgrade"));
    assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    client
}

#[test]
fn a_websocket_passes_both_ways_and_each_side_may_end_first() {
    let upstream = echo_tunnel();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = open(&sidecar, &sidecar.permitted.token);
    assert_eq!(client.read_exactly(5), b"hello");
    client.send("ping");
    assert_eq!(client.read_exactly(4), b"ping");
    // The client has said all; the upstream has not.
    client.finish_sending();
    assert_eq!(client.read_to_end(), b"bye");

    let received = upstream.received_text().to_lowercase();
    assert!(received.contains("\r\nconnection: upgrade\r\nupgrade: websocket\r\n"), "{received}");
    assert!(received.contains("\r\nsec-websocket-key: dghl"), "{received}");
    assert!(
        received.contains(&format!("\r\nx-postern-user-id: {}\r\n", sidecar.permitted.user_id)),
        "{received}"
    );
    assert!(!received.contains("authorization"), "{received}");
    let line = &sidecar.access_log(1)[0];
    assert_eq!((line["status"].as_u64(), line["bytes_received"].as_u64()), (Some(101), Some(4)));
}

#[test]
fn what_a_client_sends_before_the_answer_is_the_tunnels() {
    let upstream = echo_tunnel();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = sidecar.connect();
    client.send(format!("{}early", sidecar.head("GET /socket", OFFER)));
    assert_eq!(client.read_head().unwrap().status, 101);
    assert_eq!(client.read_exactly(10), b"helloearly");
}

#[test]
fn an_offer_that_is_not_taken_is_an_ordinary_request() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).one_worker().start();
    let mut client = sidecar.connect();
    for _ in 0..3 {
        let response = client.request(sidecar.head("GET /socket", OFFER));
        assert_eq!(response.status, 200);
        assert!(response.text().contains("websocket"), "{}", response.text());
    }
    assert_eq!(client.request(sidecar.get()).status, 200);
    assert_eq!(upstream.connections(), 1, "the connection to the upstream is kept");
}

#[test]
fn nothing_but_a_websocket_is_offered_to_the_upstream() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let offers = [
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        "Upgrade: websocket, h2c\r\nConnection: Upgrade\r\n",
        "Upgrade: websocket\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n",
        "Upgrade: websocket\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 0\r\nX: y\r\n",
    ];
    for offer in &offers[..4] {
        let response = sidecar.request(sidecar.head("GET /", offer));
        assert_eq!(response.status, 200, "{offer}");
        assert!(!response.text().to_lowercase().contains("upgrade"), "{offer}\n{}", response.text());
    }
    let post = sidecar.request(sidecar.head("POST /", &format!("{OFFER}Content-Length: 0\r\n")));
    assert!(!post.text().to_lowercase().contains("upgrade:"), "{}", post.text());
}

#[test]
fn an_upstream_that_switches_unasked_is_refused() {
    let upstream = Upstream::answering_once(SWITCHING);
    let sidecar = Sidecar::in_front_of(&upstream).start();
    sidecar.request(sidecar.get()).assert_error(502, "upstream_failed");
    let other = Upstream::answering_once(
        &b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"[..],
    );
    let sidecar = Sidecar::in_front_of(&other).start();
    sidecar.request(sidecar.head("GET /", OFFER)).assert_error(502, "upstream_failed");
}

#[test]
fn a_refused_offer_is_answered_as_any_request() {
    let upstream = echo_tunnel();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = sidecar.connect();
    let head = sidecar.head_with("psta_0000000000000000000000000000", "GET /socket", OFFER);
    client.request(head).assert_error(401, "invalid_token");
    client.send(sidecar.head("GET /socket", OFFER));
    assert_eq!(client.read_head().unwrap().status, 101);
}

#[test]
fn revocation_ends_the_tokens_websockets_within_a_second_and_no_others() {
    let upstream = Upstream::start(|peer| {
        if peer.read_head().is_some() {
            peer.write(SWITCHING);
            // One whole frame with the text `hi`, so that the stream stands between two.
            peer.write(&[0x81, 2, b'h', b'i']);
            peer.read_to_end();
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let user = sidecar.directory.application_user();
    sidecar.directory.grant(&user, &["admin"]);
    let doomed = sidecar.directory.token(&user);
    sidecar.wait_for(&doomed);
    let mut ending = open(&sidecar, &doomed.token);
    let mut staying = open(&sidecar, &sidecar.permitted.token);
    assert_eq!(ending.read_exactly(4), [0x81, 2, b'h', b'i']);
    assert_eq!(staying.read_exactly(4), [0x81, 2, b'h', b'i']);

    let revoked = Instant::now();
    sidecar.directory.revoke(&doomed.prefix);
    // 1008: policy violation (RFC 6455, section 7.4.1).
    assert_eq!(ending.read_to_end(), [0x88, 2, 0x03, 0xf0]);
    assert!(revoked.elapsed().as_secs() < 5, "{:?}", revoked.elapsed());
    support::until("the log to say so", || {
        let log = std::fs::read_to_string(sidecar.folder().join("access.log")).unwrap_or_default();
        log.lines().any(|line| line.contains(r#""status":101"#) && line.contains("token_revoked"))
    });
    // The other one lives: what it sends reaches the upstream, and nothing has ended it.
    staying.send("still here");
    support::until("the other client's bytes to arrive", || upstream.received_text().contains("still here"));
}

#[test]
fn revocation_ends_long_answers_and_waits_for_one() {
    let upstream = Upstream::start(|peer| {
        if let Some(request) = peer.read_head() {
            if request.target == "/stream" {
                peer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
            }
            peer.read_to_end();
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let user = sidecar.directory.application_user();
    sidecar.directory.grant(&user, &["admin"]);
    let doomed = sidecar.directory.token(&user);
    sidecar.wait_for(&doomed);
    let mut streaming = sidecar.connect();
    streaming.send(sidecar.head_with(&doomed.token, "GET /stream", ""));
    assert_eq!(streaming.read_head().unwrap().status, 200);
    assert_eq!(streaming.read_exactly(10), b"5\r\nfirst\r\n");
    let mut waiting = sidecar.connect();
    waiting.send(sidecar.head_with(&doomed.token, "GET /wait", ""));
    support::until("both requests to arrive", || upstream.connections() == 2);

    sidecar.directory.revoke(&doomed.prefix);
    waiting.response().assert_error(401, "token_revoked");
    // Without a last chunk: half an answer does not look like a whole one.
    assert_eq!(streaming.read_to_end(), b"");
}

#[test]
fn a_websocket_needs_what_writing_needs() {
    let upstream = echo_tunnel();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let user = sidecar.directory.application_user();
    sidecar.directory.grant(&user, &["read_only"]);
    let reader = sidecar.directory.token(&user);
    sidecar.wait_for(&reader);
    sidecar
        .request(sidecar.head_with(&reader.token, "GET /socket", OFFER))
        .assert_error(403, "permission_denied");
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_token_that_expires_ends_its_websocket() {
    let upstream = echo_tunnel();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let user = sidecar.directory.application_user();
    sidecar.directory.grant(&user, &["admin"]);
    let made = support::directory::now().0 - 598;
    let short = sidecar.directory.token_made_at(
        postern::directory::model::Timestamp(made),
        &user,
        postern::token::TokenKind::Application,
        |new| new.max_age_seconds = Some(600),
    );
    sidecar.wait_for(&short);
    let mut client = sidecar.connect();
    client.send(sidecar.head_with(&short.token, "GET /socket", OFFER));
    let head = client.read_head().unwrap();
    if head.status == 101 {
        // `hello` is no frame: between no two frames, nothing can be said.
        assert_eq!(client.read_to_end(), b"hello");
    } else {
        assert_eq!(head.status, 401, "on a slow machine it has expired already");
    }
}
