//! Protocols beside WebSocket, which a route declares: what is offered to whom, what passes, and how it ends.

use std::time::Instant;

use crate::support::{Client, End, Sidecar, Upstream, until};

const ROUTE: &str = "upgrades = [\"tcp\", \"SPDY/3.1\"]";

/// Whatever it is offered, in the client's spelling.
const OFFER: &str = "Upgrade: TCP\r\nConnection: Upgrade\r\n";

const SWITCHING: &[u8] =
    b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/x-raw\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";

/// Takes each offer, says `hello`, then sends back what it gets until the client has said all, then `bye`.
fn raw_echo() -> Upstream {
    Upstream::start(|peer| {
        if peer.read_request().is_some() {
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
    client.send(sidecar.head_with(token, "POST /attach", OFFER));
    let head = client.read_head().expect("a head");
    assert_eq!(head.status, 101);
    assert_eq!((head.header("upgrade"), head.header("connection")), (Some("tcp"), Some("upgrade")));
    assert_eq!(head.values("upgrade").len(), 1);
    client
}

#[test]
fn a_declared_protocol_passes_both_ways() {
    let upstream = raw_echo();
    let sidecar = Sidecar::in_front_of(&upstream).route(ROUTE).start();
    let mut client = open(&sidecar, &sidecar.permitted.token);
    assert_eq!(client.read_exactly(5), b"hello");
    // No bytes have a meaning here, not even those that look like a request.
    let raw = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\0";
    client.send(raw);
    assert_eq!(client.read_exactly(raw.len()), raw);
    client.finish_sending();
    assert!(client.read_to_end().ends_with(b"bye"));

    let request = upstream.only_request();
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/attach"));
    assert_eq!((request.values("upgrade"), request.values("connection")), (vec!["tcp"], vec!["upgrade"]));
    assert_eq!(request.header("content-length"), Some("0"));
    assert_eq!(request.header("x-postern-user-id"), Some(sidecar.permitted.user_id.as_str()));
    assert!(request.header("authorization").is_none());
    assert_eq!(sidecar.access_log(1)[0]["status"], 101);
}

#[test]
fn what_is_not_declared_never_reaches_the_upstream() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).route(ROUTE).start();
    let offers = [
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        "Upgrade: TLS/1.0\r\nConnection: Upgrade\r\n",
        "Upgrade: HTTP/2.0\r\nConnection: Upgrade\r\n",
        "Upgrade: tcp, h2c\r\nConnection: Upgrade\r\n",
        "Upgrade: tcp\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n",
        "Upgrade: h2c\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n",
        "Upgrade: tcp\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n",
        "Upgrade: tcp/1\r\nConnection: Upgrade\r\n",
        "Upgrade: SPDY\r\nConnection: Upgrade\r\n",
        "Upgrade: SPDY/3.1/x\r\nConnection: Upgrade\r\n",
        "Upgrade: \"tcp\"\r\nConnection: Upgrade\r\n",
        "Upgrade: \r\nConnection: Upgrade\r\n",
        "Upgrade: tcp\r\n",
        "Upgrade: tcp\r\nConnection: keep-alive\r\n",
        // A body would have to come first.
        "Upgrade: tcp\r\nConnection: Upgrade\r\nTransfer-Encoding: chunked\r\n",
    ];
    let mut client = sidecar.connect();
    for offer in offers {
        let body = if offer.contains("chunked") { "0\r\n\r\n" } else { "" };
        let response = client.request(sidecar.head("POST /", offer) + body);
        assert_eq!(response.status, 200, "{offer}");
        assert!(!response.text().to_lowercase().contains("upgrade"), "{offer}\n{}", response.text());
    }
    let old = format!(
        "GET / HTTP/1.0\r\nHost: service.test\r\nAuthorization: Bearer {}\r\n{OFFER}\r\n",
        sidecar.permitted.token
    );
    let response = sidecar.request(old);
    assert!(!response.text().to_lowercase().contains("upgrade"), "{}", response.text());
}

#[test]
fn routes_that_declare_nothing_offer_nothing() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = sidecar.connect();
    for method in ["GET", "POST", "OPTIONS", "DELETE"] {
        let response = client.request(sidecar.head(&format!("{method} /"), OFFER));
        assert_eq!(response.status, 200);
        assert!(!response.text().to_lowercase().contains("upgrade"), "{}", response.text());
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn an_offer_that_is_not_taken_leaves_both_connections_in_step() {
    let upstream = Upstream::start(|peer| {
        while let Some(request) = peer.read_request() {
            let status = if request.header("upgrade").is_some() { 426 } else { 200 };
            peer.respond(status, &[("x-target", &request.target)], b"");
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream).route(ROUTE).one_worker().start();
    let mut client = sidecar.connect();
    // What follows at once is a request of its own, and needs a token of its own.
    let stranger = "GET /stranger HTTP/1.1\r\nHost: service.test\r\n\r\n";
    client.send(sidecar.head("POST /first", OFFER) + stranger + &sidecar.head("GET /third", ""));
    let first = client.response();
    assert_eq!((first.status, first.header("x-target")), (426, Some("/first")));
    client.response().assert_error(401, "missing_credentials");
    let third = client.response();
    assert_eq!((third.status, third.header("x-target")), (200, Some("/third")));
    assert_eq!(upstream.connections(), 1, "the connection to the upstream is kept");
    assert!(!upstream.received_text().contains("stranger"));
}

#[test]
fn another_protocol_than_was_offered_opens_nothing() {
    let others = [
        "Upgrade: websocket\r\n",
        "Upgrade: SPDY/3.1\r\n",
        "Upgrade: tcp, h2c\r\n",
        "Upgrade: tcp\r\nUpgrade: h2c\r\n",
        "Upgrade: \r\n",
        "",
    ];
    for other in others {
        let head = format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n{other}\r\nraw bytes");
        let upstream = Upstream::answering_once(head);
        let sidecar = Sidecar::in_front_of(&upstream).route(ROUTE).start();
        let response = sidecar.request(sidecar.head("POST /attach", OFFER));
        response.assert_error(502, "upstream_failed");
        assert!(!response.text().contains("raw bytes"));
    }
}

#[test]
fn a_tunnel_needs_what_writing_needs() {
    let upstream = raw_echo();
    let sidecar = Sidecar::in_front_of(&upstream).route(ROUTE).start();
    let user = sidecar.directory.application_user();
    sidecar.directory.grant(&user, &["read_only"]);
    let reader = sidecar.directory.token(&user);
    sidecar.wait_for(&reader);
    let mut client = sidecar.connect();
    client
        .request(sidecar.head_with(&reader.token, "GET /attach", OFFER))
        .assert_error(403, "permission_denied");
    let stranger = sidecar.head_with("psta_0000000000000000000000000000", "GET /attach", OFFER);
    client.request(stranger).assert_error(401, "invalid_token");
    upstream.assert_untouched();
}

#[test]
fn revocation_breaks_the_tokens_tunnels_off_and_no_others() {
    let upstream = raw_echo();
    let sidecar = Sidecar::in_front_of(&upstream).route(ROUTE).start();
    let doomed = sidecar.directory.permitted();
    sidecar.wait_for(&doomed);
    let mut ending = open(&sidecar, &doomed.token);
    let mut staying = open(&sidecar, &sidecar.permitted.token);
    assert_eq!(ending.read_exactly(5), b"hello");
    assert_eq!(staying.read_exactly(5), b"hello");
    let revoked = Instant::now();
    sidecar.directory.revoke(&doomed.prefix);
    // Nothing can be said in a protocol that Postern does not know: it is cut, which looks like no end of it.
    assert_eq!(ending.read_until(End::Cut), b"");
    assert!(revoked.elapsed().as_secs() < 5, "{:?}", revoked.elapsed());
    until("the log to say so", || {
        let log = std::fs::read_to_string(sidecar.folder().join("access.log")).unwrap_or_default();
        log.lines().any(|line| line.contains(r#""status":101"#) && line.contains("token_revoked"))
    });
    staying.send("still here");
    assert_eq!(staying.read_exactly(10), b"still here");
}
