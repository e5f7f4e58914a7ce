//! What the upstream is told: exactly our identity headers, believable forwarding headers, nothing of one hop; and
//! what the client gets back.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use support::http2::{empty, request_with};
use support::sidecar::HOST;
use support::upstream::Request;
use support::{Http2Client, Sidecar, Upstream};

/// What the upstream sees of a permitted POST with these header lines.
#[track_caller]
fn forwarded(sidecar: &Sidecar, upstream: &Upstream, lines: &str) -> Request {
    let before = upstream.requests().len();
    let response = sidecar.request(sidecar.head("POST /items", &format!("Content-Length: 0\r\n{lines}")));
    assert_eq!(response.status, 200, "{}", response.text());
    let mut requests = upstream.requests();
    assert_eq!(requests.len(), before + 1);
    requests.remove(before)
}

#[track_caller]
fn assert_identity_is_ours(sidecar: &Sidecar, request: &Request) {
    let expected = [
        ("x-postern-user-id", sidecar.permitted.user_id.as_str()),
        ("x-postern-user-kind", "application"),
        ("x-postern-organization-id", "org1a2b3c4d5e6"),
        ("x-postern-project", "demo"),
        ("x-postern-token-prefix", sidecar.permitted.prefix.as_str()),
    ];
    for (name, value) in expected {
        assert_eq!(request.values(name), [value], "{name}");
    }
    assert_eq!(request.values("x-postern-request-id").len(), 1);
    let ours = request.names().into_iter().filter(|name| name.replace(['_', '.'], "-").contains("postern"));
    assert_eq!(ours.count(), 6, "{request}");
}

#[test]
fn a_plain_request_carries_exactly_these_headers() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let response = sidecar.request(sidecar.head("GET /", "Accept: text/plain\r\n"));
    assert_eq!(response.status, 200);
    let request = upstream.only_request();
    assert_identity_is_ours(&sidecar, &request);
    let expected = [
        "accept",
        "forwarded",
        "host",
        "traceparent",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-postern-organization-id",
        "x-postern-project",
        "x-postern-request-id",
        "x-postern-token-prefix",
        "x-postern-user-id",
        "x-postern-user-kind",
    ];
    assert_eq!(request.names(), expected);
    assert_eq!(request.header("host"), Some(HOST));
    assert!(!upstream.received_text().contains(&sidecar.permitted.token));
}

#[test]
fn hop_by_hop_headers_end_here() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let lines = "Connection: keep-alive, x-hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nProxy-Connection: keep-alive\r\n\
                 Proxy-Authorization: Basic dXNlcjpwYXNz\r\nTE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAA\r\n\
                 X-End: 1\r\n";
    let request = forwarded(&sidecar, &upstream, lines);
    for name in [
        "connection",
        "keep-alive",
        "x-hop",
        "proxy-connection",
        "proxy-authorization",
        "upgrade",
        "http2-settings",
    ] {
        assert_eq!(request.header(name), None, "{name}");
    }
    assert_eq!(request.header("te"), None);
    assert_eq!(request.values("x-end"), ["1"]);
}

#[test]
fn hop_by_hop_headers_of_the_upstream_end_here_too() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n\
         Upgrade: h2c\r\nProxy-Authenticate: Basic\r\nX-End: 1\r\nServer: tested\r\n\r\nok",
    );
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let over_1 = sidecar.request(sidecar.get());
    let over_2 = Http2Client::connect(sidecar.address()).request(support::http2::get(&sidecar, "/"));
    for response in [over_1, over_2] {
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
        for name in ["keep-alive", "x-hop", "upgrade", "proxy-authenticate"] {
            assert_eq!(response.header(name), None, "{name}");
        }
        assert_eq!(response.values("x-end"), ["1"]);
        assert_eq!(response.values("server"), ["tested"]);
    }
}

#[test]
fn forwarding_headers_of_trusted_proxies_are_continued() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream)
        .listener("trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]")
        .start();
    let lines = "X-Forwarded-For: 198.51.100.9, 192.0.2.7, 10.0.0.1\r\nX-Forwarded-Proto: https\r\n\
                 X-Forwarded-Host: shop.test\r\nForwarded: for=192.0.2.7\r\n";
    let request = forwarded(&sidecar, &upstream, lines);
    assert_eq!(request.values("x-forwarded-for"), ["198.51.100.9, 192.0.2.7, 10.0.0.1, 127.0.0.1"]);
    assert_eq!(request.values("x-forwarded-proto"), ["https"]);
    assert_eq!(request.values("x-forwarded-host"), ["shop.test"]);
    assert_eq!(request.values("forwarded"), ["for=192.0.2.7, for=127.0.0.1;host=service.test;proto=http"]);
    // The last address that is no trusted proxy is the client's: what stands before it, anybody may have written.
    assert_eq!(sidecar.access_log(1)[0]["client_address"], "192.0.2.7");
}

#[test]
fn address_rules_follow_the_client_behind_a_trusted_proxy() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream)
        .listener("trusted_proxies = [\"127.0.0.0/8\"]")
        .organization("[organization.authentication]\nallowed_ip_ranges = [\"192.0.2.0/24\"]")
        .start();
    let from = |line: &str| sidecar.request(sidecar.head("GET /", line));
    assert_eq!(from("X-Forwarded-For: 192.0.2.7\r\n").status, 200);
    for line in [
        "X-Forwarded-For: 192.0.2.7, 203.0.113.1\r\n",
        "X-Real-IP: 192.0.2.7\r\n",
        "",
        "X-Forwarded-For: x\r\n",
    ] {
        from(line).assert_error(403, "ip_not_allowed_by_organization");
    }
}

#[test]
fn the_upstream_gets_its_own_credential() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream)
        .upstream("[upstreams.credential]\nkind = \"basic\"\nusername = \"postern\"\npassword = { file = \"password\" }")
        .file("password", "correct horse\n")
        .start();
    let request = forwarded(&sidecar, &upstream, "");
    assert_eq!(request.values("authorization"), ["Basic cG9zdGVybjpjb3JyZWN0IGhvcnNl"]);
    assert!(!sidecar.output().contains("correct horse"));

    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream)
        .upstream("[upstreams.credential]\nkind = \"bearer\"\ntoken = \"upstream-token\"")
        .start();
    let request = forwarded(&sidecar, &upstream, "Authorization_: x\r\nAuthorization.Extra: x\r\n");
    assert_eq!(request.values("authorization"), ["Bearer upstream-token"]);
}

#[test]
fn a_route_may_pass_the_clients_authorization_on() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).route("pass_authorization = true").start();
    let request = forwarded(&sidecar, &upstream, "");
    assert_eq!(request.values("authorization"), [format!("Bearer {}", sidecar.permitted.token)]);
}

#[test]
fn traces_go_on_or_start() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let theirs = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let lines = format!("Traceparent: {theirs}\r\nTracestate: vendor=1\r\n");
    let request = forwarded(&sidecar, &upstream, &lines);
    assert_eq!(request.values("traceparent"), [theirs]);
    assert_eq!(request.values("tracestate"), ["vendor=1"]);
    for invalid in ["", "Traceparent: 00-0-0-01\r\n", "Traceparent: zz\r\n"] {
        let request = forwarded(&sidecar, &upstream, invalid);
        let [ours] = request.values("traceparent")[..] else { panic!("one traceparent") };
        assert_eq!(ours.len(), 55, "{ours}");
    }
    let log = sidecar.access_log(4);
    // Each worker has its own queue: lines of different connections come in any order.
    assert!(log.iter().any(|line| line["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"));
}

#[test]
fn the_client_and_the_log_know_the_request_by_the_same_id() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let request = forwarded(&sidecar, &upstream, "");
    let refused = sidecar.request(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    let log = sidecar.access_log(2);
    let ids: Vec<_> = log.iter().map(|line| line["request_id"].as_str().unwrap()).collect();
    assert!(ids.contains(&request.header("x-postern-request-id").unwrap()));
    assert!(ids.contains(&refused.header("x-postern-request-id").unwrap()));
}

#[test]
fn cookies_of_http2_are_joined() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut request = request_with(&sidecar.permitted.token, "GET", "/", empty());
    for crumb in ["a=1", "b=2", "c=3"] {
        request.headers_mut().append("cookie", crumb.parse().unwrap());
    }
    assert_eq!(Http2Client::connect(sidecar.address()).request(request).status, 200);
    assert_eq!(upstream.only_request().values("cookie"), ["a=1; b=2; c=3"]);
}

#[test]
fn header_values_and_repetitions_pass_unchanged() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Empty:\r\n\r\n",
    );
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let response =
        sidecar.request(sidecar.head("GET /", "X-Many: 1\r\nX-Many: 2\r\nX-Empty:\r\nX-Tab: a\tb\r\n"));
    assert_eq!(response.values("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(response.values("x-empty"), [""]);
    let request = upstream.only_request();
    assert_eq!(request.values("x-many"), ["1", "2"]);
    assert_eq!(request.values("x-empty"), [""]);
    assert_eq!(request.values("x-tab"), ["a\tb"]);
}
