//! HTTP/1.1 as attackers write it: what can be read in two ways is refused, and nothing of it reaches the upstream.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use support::sidecar::HOST;
use support::{Sidecar, Upstream};

/// Sends exactly these bytes (`TOKEN` stands for a permitted one) and a second request behind them. There must be one
/// answer, with this status, then the end of the connection, and nothing at the upstream.
#[track_caller]
fn refused(sidecar: &Sidecar, upstream: &Upstream, bytes: &str, status: u16) {
    let mut client = sidecar.connect();
    let pipelined = sidecar.head("GET /smuggled", "");
    // The sidecar may close before it has taken all of it.
    let _closed = client.try_send(bytes.replace("TOKEN", &sidecar.permitted.token) + &pipelined);
    let response = client.response();
    assert_eq!(response.status, status, "{bytes:?}: {}", response.text());
    assert_eq!(response.values("connection"), ["close"], "{bytes:?}");
    client.assert_closed();
    assert_eq!(upstream.received_text(), "", "{bytes:?} may not reach the upstream");
}

/// As [`refused`], for several requests to which the usual lines are added.
#[track_caller]
fn all_refused(status: u16, requests: &[&str]) {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    for request in requests {
        let (first, rest) = request.split_once("\r\n").unwrap();
        let lines = format!("Host: {HOST}\r\nAuthorization: Bearer TOKEN\r\n");
        refused(&sidecar, &upstream, &format!("{first}\r\n{lines}{rest}"), status);
    }
    // It was not the sidecar as a whole that was out of order.
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
}

#[test]
fn two_ways_to_frame_a_body() {
    all_refused(
        400,
        &[
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: cow, chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: cow\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        ],
    );
    all_refused(501, &["POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"]);
}

#[test]
fn lengths_that_are_no_single_number() {
    all_refused(
        400,
        &[
            "POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\nhello",
            "POST / HTTP/1.1\r\nContent-Length: 0x5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nContent-Length: 5 5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nContent-Length:\r\n\r\nhello",
            "POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\nhello",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ],
    );
}

#[test]
fn bytes_that_do_not_belong_in_a_head() {
    all_refused(
        400,
        &[
            "GET / HTTP/1.1\r\nX-A: b\0c\r\n\r\n",
            "GET / HTTP/1.1\r\nX-A: b\rc\r\n\r\n",
            "GET / HTTP/1.1\r\nX-A: b\nX-C: d\r\n\r\n",
            "GET / HTTP/1.1\r\nX-A: b\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nX-A : b\r\n\r\n",
            "GET / HTTP/1.1\r\n X-A: b\r\n\r\n",
            "GET / HTTP/1.1\r\nX-A\r\n\r\n",
            "GET / HTTP/1.1\r\n: b\r\n\r\n",
            "GET / HTTP/1.1\r\nX-A: b\x7f\r\n\r\n",
            "GET  / HTTP/1.1\r\nX-A: b\r\n\r\n",
            "GET /a b HTTP/1.1\r\nX-A: b\r\n\r\n",
            "GE\tT / HTTP/1.1\r\nX-A: b\r\n\r\n",
        ],
    );
    all_refused(505, &["GET / HTTP/1.2\r\nX-A: b\r\n\r\n", "GET / HTTP/3.0\r\nX-A: b\r\n\r\n"]);
}

#[test]
fn hosts_that_are_not_exactly_one() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    for (target, hosts) in [
        ("/", ""),
        ("/", "Host: service.test\r\nHost: service.test\r\n"),
        ("/", "Host: service.test\r\nHost: open.test\r\n"),
        ("/", "Host:\r\n"),
        ("/", "Host: user@service.test\r\n"),
        ("/", "Host: service.test/path\r\n"),
        ("/", "Host: service.test, open.test\r\n"),
        ("/", "Host: service.test:port\r\n"),
        ("http://open.test/", "Host: service.test\r\n"),
        ("http://user@service.test/", "Host: service.test\r\n"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\n{hosts}Authorization: Bearer TOKEN\r\n\r\n");
        refused(&sidecar, &upstream, &request, 400);
    }
    let absolute = format!(
        "GET http://service.test/items HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {}\r\n\r\n",
        sidecar.permitted.token
    );
    assert_eq!(sidecar.request(absolute).status, 200);
    let request = upstream.only_request();
    assert_eq!((request.target.as_str(), request.values("host")), ("/items", vec![HOST]));
}

#[test]
fn paths_that_servers_read_differently() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    for path in [
        "//admin",
        "/a//b",
        "/./a",
        "/a/../b",
        "/a/..",
        "/%2e%2e/b",
        "/.%2E/b",
        "/a;b",
        "/a\\b",
        "/a%5cb",
        "/a%2fb",
        "/a%00",
        "/a%0a",
        "/a%",
        "/a%4",
        "/a%zz",
        "/%c0%af",
        "/%ff",
        "/a|b",
        "/a\"b",
        "/a<b>",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer TOKEN\r\n\r\n");
        refused(&sidecar, &upstream, &request, 400);
    }
    let request =
        format!("GET /pub#/../admin HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer TOKEN\r\n\r\n");
    refused(&sidecar, &upstream, &request, 400);
}

#[test]
fn what_is_routed_is_what_is_forwarded() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream)
        .more(
            "[[routes]]\nhosts = [\"service.test\"]\npath_prefix = \"/admin\"\nproject = \"vault\"\n\
             service = \"service\"\nupstream = \"service\"",
        )
        .start();
    for path in ["/admin", "/admin/x", "/%61dmin", "/adm%69n/x", "/%61%64%6d%69%6e?x=%2e%2e"] {
        sidecar.request(sidecar.head(&format!("GET {path}"), "")).assert_error(403, "permission_denied");
    }
    upstream.assert_untouched();
    for (sent, seen) in [
        ("/administrator", "/administrator"),
        ("/%7Euser/%41?q=%41//..;", "/~user/A?q=%41//..;"),
        ("/a%20b%3Bc/%C3%A9", "/a%20b%3Bc/%C3%A9"),
    ] {
        assert_eq!(sidecar.request(sidecar.head(&format!("GET {sent}"), "")).status, 200, "{sent}");
        assert!(upstream.requests().iter().any(|request| request.target == seen), "{sent}");
    }
}

#[test]
fn heads_that_are_too_big() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream)
        .limits("header_bytes = 8192\nheader_count = 20\nuri_bytes = 1024")
        .start();
    let head = |first: &str, lines: &str| {
        format!("{first}\r\nHost: {HOST}\r\nAuthorization: Bearer TOKEN\r\n{lines}\r\n")
    };
    let long = format!("X-A: {}\r\n", "a".repeat(8192));
    refused(&sidecar, &upstream, &head("GET / HTTP/1.1", &long), 431);
    let many: String = (0..30).map(|number| format!("X-{number}: 1\r\n")).collect();
    refused(&sidecar, &upstream, &head("GET / HTTP/1.1", &many), 431);
    let target = format!("GET /{} HTTP/1.1", "a".repeat(1024));
    refused(&sidecar, &upstream, &head(&target, ""), 414);
    // An endless head is refused while it comes.
    let mut client = sidecar.connect();
    let _closed = client.try_send(format!("GET / HTTP/1.1\r\nX-A: {}", "a".repeat(100_000)));
    assert_eq!(client.response().status, 431);
    client.assert_closed();
    // What just fits passes.
    let fits = sidecar.head(&format!("GET /{}", "a".repeat(1023)), &format!("X-A: {}\r\n", "a".repeat(7000)));
    assert_eq!(sidecar.request(fits).status, 200);
}

#[test]
fn chunks_that_break_the_rules_break_the_upload_off() {
    for chunks in [
        "5;\0\r\nhello\r\n",
        "0x5\r\nhello\r\n",
        "0_5\r\nhello\r\n",
        "+5\r\nhello\r\n",
        " 5\r\nhello\r\n",
        "5\nhello\r\n",
        "5\r\nhelloX\r\n",
        "fffffffffffffffff\r\nhello\r\n",
        "\r\nhello\r\n",
        "5;a\nb\r\nhello\r\n",
    ] {
        let upstream = Upstream::echo();
        let sidecar = Sidecar::in_front_of(&upstream).one_worker().start();
        let mut client = sidecar.connect();
        client.send(sidecar.head("POST /", "Transfer-Encoding: chunked\r\n") + "3\r\nabc\r\n");
        let _closed = client.try_send(format!("{chunks}0\r\n\r\n{}", sidecar.head("GET /smuggled", "")));
        let response = client.response();
        assert_eq!(response.status, 400, "{chunks:?}: {}", response.text());
        client.assert_closed();
        assert_eq!(upstream.requests().len(), 0, "{chunks:?}: the upstream saw a whole request");
        assert!(!upstream.received_text().contains("smuggled"), "{chunks:?}");
        let failed = sidecar.metric(&format!(
            "postern_upstream_requests_total{{upstream=\"service\",endpoint=\"{}\",outcome=\"failed\"}}",
            upstream.address()
        ));
        assert!(failed.abs() < 0.5, "{chunks:?} is not held against the upstream");
    }
}

#[test]
fn an_endless_chunk_extension() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = sidecar.connect();
    client.send(sidecar.head("POST /", "Transfer-Encoding: chunked\r\n"));
    let _closed = client.try_send(format!("5;{}", "a".repeat(64 * 1024)));
    assert_eq!(client.response().status, 400);
    client.assert_closed();
    assert_eq!(upstream.requests().len(), 0);
}

#[test]
fn trailers_of_clients_carry_no_identity() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let body = "5\r\nhello\r\n0\r\nGrpc-Status: 0\r\nX-Postern-User-Id: forged\r\nX_Postern_User_Id: forged\r\n\
                Authorization: Bearer forged\r\nContent-Type: forged\r\nX-Checksum: abc\r\n\r\n";
    let head = sidecar.head(
        "POST /",
        "Transfer-Encoding: chunked\r\nTrailer: Grpc-Status, X-Checksum, X-Postern-User-Id, Authorization\r\nTE: trailers\r\n",
    );
    let response = sidecar.request(head + body);
    assert_eq!(response.status, 200, "{}", response.text());
    let request = upstream.only_request();
    assert_eq!(request.body, b"hello");
    let mut names: Vec<_> = request.trailers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort();
    assert_eq!(names, ["grpc-status", "x-checksum"], "{:?}", request.trailers);
    assert!(!upstream.received_text().contains("forged"));
}

#[test]
fn a_body_behind_a_refusal_is_never_a_request() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let hidden = sidecar.head("GET /smuggled", "");
    // Refused before the body was read: it is drained, or the connection is closed; then comes a request of its own.
    for size in [hidden.len(), 200_000] {
        let mut client = sidecar.connect();
        let mut body = hidden.clone().into_bytes();
        body.resize(size, b' ');
        client.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {size}\r\n\r\n"));
        let _closed = client.try_send(&body);
        assert_eq!(client.response().status, 401);
        if client.try_send(sidecar.head("GET /honest", "")).is_ok()
            && let Ok(next) = client.try_response()
        {
            assert_eq!(next.status, 200);
        }
    }
    // A GET with a body is one request.
    let mut client = sidecar.connect();
    let length = format!("Content-Length: {}\r\n", hidden.len());
    assert_eq!(client.request(sidecar.head("GET /outer", &length) + &hidden).status, 200);
    let targets: Vec<_> = upstream.requests().into_iter().map(|request| request.target).collect();
    assert!(!targets.contains(&"/smuggled".to_owned()), "{targets:?}");
    // A length without a body: the connection ends at the deadline or with the client, without a second request.
    let mut client = sidecar.connect();
    client.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000\r\n\r\n"));
    assert_eq!(client.response().status, 401);
    client.finish_sending();
    client.assert_closed();
}

#[test]
fn upgrades_are_not_forwarded() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    for lines in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
        "Connection: upgrade\r\nUpgrade: something/1\r\n",
        "Upgrade: websocket\r\n",
    ] {
        assert_eq!(sidecar.request(sidecar.head("GET /", lines)).status, 200, "{lines:?}");
    }
    let received = upstream.received_text().to_ascii_lowercase();
    assert!(!received.contains("upgrade") && !received.contains("http2-settings"), "{received}");
}

#[test]
fn bytes_behind_a_refused_upgrade_are_a_request_of_their_own() {
    let upstream = Upstream::answering("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n");
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = sidecar.connect();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Version: 13\r\n";
    client.send(
        sidecar.head("GET /socket", upgrade) + &format!("GET /second HTTP/1.1\r\nHost: {HOST}\r\n\r\n"),
    );
    assert_eq!(client.response().status, 426);
    client.response().assert_error(401, "missing_credentials");
    assert!(!upstream.received_text().contains("/second"));
}

#[test]
fn an_upstream_that_switches_protocols_unasked_gets_no_tunnel() {
    let upstream = Upstream::answering(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw bytes",
    );
    let sidecar = Sidecar::in_front_of(&upstream).start();
    sidecar.request(sidecar.get()).assert_error(502, "upstream_failed");
}

#[test]
fn expectations() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let expecting = "Content-Length: 5\r\nExpect: 100-continue\r\n";

    let mut client = sidecar.connect();
    client.send(sidecar.head("POST /good", expecting));
    assert_eq!(client.read_head().unwrap().status, 100);
    client.send("hello");
    assert_eq!(client.response().status, 200);
    assert_eq!(upstream.only_request().body, b"hello");

    let mut client = sidecar.connect();
    client.send(sidecar.head_with("a-token-of-somebody-else", "POST /bad", expecting));
    client.response().assert_error(401, "invalid_token");

    let mut client = sidecar.connect();
    client.send(sidecar.head("POST /unknown", "Content-Length: 5\r\nExpect: 200-ok\r\n"));
    client.response().assert_error(417, "expectation_failed");
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn methods_that_are_the_proxys_own() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    sidecar.request(sidecar.head("TRACE /", "")).assert_error(405, "method_not_allowed");
    let connect = format!(
        "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nAuthorization: Bearer {}\r\n\r\n",
        sidecar.permitted.token
    );
    let response = sidecar.request(connect);
    assert_eq!(response.status, 405);
    assert!(response.header("allow").is_some_and(|methods| !methods.contains("CONNECT")));
    let response = sidecar.request(format!("OPTIONS * HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!((response.status, response.body.as_slice()), (204, &b""[..]));
    upstream.assert_untouched();
}

#[test]
fn http_1_0_clients() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = sidecar.connect();
    let head = sidecar.get().replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(client.request(head).status, 200);
    client.assert_closed();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = sidecar.connect();
    let all: String = (0..20).map(|number| sidecar.head(&format!("GET /{number}"), "")).collect();
    client.send(all);
    for number in 0..20 {
        let response = client.response();
        assert_eq!(response.status, 200);
        assert!(response.text().starts_with(&format!("GET /{number}\n")), "{}", response.text());
    }
}
