//! Tokens elsewhere than in `Authorization: Bearer`, by declaration of the route: they let in who holds them, and are seen
//! neither by the service nor in a log, an answer or a metric.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use support::sidecar::HOST;
use support::{Response, Sidecar, Upstream};

const EVERYWHERE: &str = "credentials = [\"bearer\", \"basic\", \"websocket_protocol\", \"query\"]";

const OFFER: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn ask(sidecar: &Sidecar, method_and_target: &str, lines: &str) -> Response {
    sidecar.request(format!("{method_and_target} HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n"))
}

fn basic(pair: &str) -> String {
    format!("Authorization: Basic {}\r\n", BASE64.encode(pair.as_bytes()))
}

fn protocol(token: &str) -> String {
    format!("base64url.bearer.authorization.k8s.io.{}", BASE64URL_NOPAD.encode(token.as_bytes()))
}

/// The token, whole or encoded as it was sent, is nowhere in these words.
#[track_caller]
fn assert_not_in(token: &str, where_: &str, words: &str) {
    // What is behind the prefix is secret; three alignments of base64 are looked for by what their middles have in common.
    let secret = &token[17..];
    for skipped in 0..3 {
        let middle = BASE64.encode(&secret.as_bytes()[skipped..skipped + 24]);
        assert!(!words.contains(&middle), "{where_} has the token in base64:\n{words}");
    }
    assert!(!words.contains(secret), "{where_} has the token:\n{words}");
}

#[track_caller]
fn assert_nowhere(sidecar: &Sidecar, lines: usize) {
    let log = sidecar.access_log(lines).iter().map(ToString::to_string).collect::<String>();
    let token = &sidecar.permitted.token;
    assert_not_in(token, "the access log", &log);
    assert_not_in(token, "the program's log", &sidecar.output());
    assert_not_in(token, "the metrics", &sidecar.metrics());
}

#[test]
fn the_token_as_a_password() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).route("credentials = [\"bearer\", \"basic\"]").start();
    let token = &sidecar.permitted.token;
    for pair in [format!("avnadmin:{token}"), format!(":{token}")] {
        let response = ask(&sidecar, "GET /", &basic(&pair));
        assert_eq!(response.status, 200, "{}", response.text());
        assert_not_in(token, "what the service saw", &response.text());
    }
    assert_eq!(sidecar.request(sidecar.get()).status, 200, "a bearer token does as well");
    let seen = upstream.requests();
    assert!(seen.iter().all(|request| request.header("authorization").is_none()));
    assert!(
        seen.iter().all(|request| request.values("x-postern-token-prefix") == [&sidecar.permitted.prefix])
    );

    let bearer = "Bearer realm=\"Example\"";
    let basic_challenge = "Basic realm=\"Example\", charset=\"UTF-8\"";
    let missing = ask(&sidecar, "GET /", "");
    missing.assert_error(401, "missing_credentials");
    assert_eq!(missing.values("www-authenticate"), [bearer, basic_challenge]);
    for lines in [
        basic("avnadmin:wrong-wrong-wrong-wrong"),
        basic(token),
        basic(&format!("{token}:")),
        basic(&format!("u:{token}")) + &basic(&format!("u:{token}")),
        basic(&format!("u:{token}")) + &format!("Authorization: Bearer {token}\r\n"),
        format!("Authorization: Basic u:{token}\r\n"),
    ] {
        let refused = ask(&sidecar, "GET /", &lines);
        refused.assert_error(401, "invalid_token");
        assert_eq!(refused.values("www-authenticate").len(), 2);
    }
    assert_eq!(upstream.requests().len(), 3);
    assert_nowhere(&sidecar, 10);
}

#[test]
fn a_route_that_declares_nothing_takes_bearer_tokens_alone() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let token = &sidecar.permitted.token;
    let refused = ask(&sidecar, "GET /", &basic(&format!("u:{token}")));
    refused.assert_error(401, "invalid_token");
    assert_eq!(refused.values("www-authenticate").len(), 1);
    ask(&sidecar, &format!("GET /?access_token={token}"), "").assert_error(401, "missing_credentials");
    let offered = format!("{OFFER}Sec-WebSocket-Protocol: {}\r\n", protocol(token));
    ask(&sidecar, "GET /", &offered).assert_error(401, "missing_credentials");
    upstream.assert_untouched();
    // Even so: postern logs no query.
    assert_nowhere(&sidecar, 3);
}

#[test]
fn a_token_in_the_query() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream)
        .route("credentials = [\"bearer\", \"query\"]\npath_prefix = \"/\"\nrewrite = \"/base\"")
        .start();
    let token = &sidecar.permitted.token;
    let encoded: String = token.bytes().map(|byte| format!("%{byte:02x}")).collect();
    for (target, forwarded) in [
        (format!("/a?access_token={token}"), "/base/a"),
        (format!("/a?x=1&access_token={token}&y=%26"), "/base/a?x=1&y=%26"),
        (format!("/a?%61ccess_tok%65n={encoded}&"), "/base/a?"),
    ] {
        let response = ask(&sidecar, &format!("GET {target}"), "");
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(response.text().lines().next().unwrap(), format!("GET {forwarded}"));
        assert_not_in(token, "what the service saw", &response.text());
    }
    let before = upstream.received().len();
    for (target, lines) in [
        (format!("/?access_token={token}&access_token={token}"), String::new()),
        (format!("/?access_token={token}&access%5Ftoken="), String::new()),
        (format!("/?access_token={token}"), format!("Authorization: Bearer {token}\r\n")),
        (format!("/?access_token={token}"), "Authorization: \r\n".to_owned()),
        (format!("/?access_token={token}x"), String::new()),
        ("/?access_token=".to_owned(), String::new()),
    ] {
        let refused = ask(&sidecar, &format!("GET {target}"), &lines);
        refused.assert_error(401, "invalid_token");
        assert_not_in(token, "the answer", &format!("{refused:?}"));
    }
    ask(&sidecar, &format!("GET /?Access_Token={token}"), "").assert_error(401, "missing_credentials");
    assert_eq!(upstream.received().len(), before, "nothing of those reaches the service");
    assert_nowhere(&sidecar, 10);
}

#[test]
fn a_token_among_a_websockets_subprotocols() {
    let upstream = Upstream::start(|peer| {
        while let Some(request) = peer.read_head() {
            let chosen = request.header("sec-websocket-protocol").unwrap_or("").split(", ").next().unwrap();
            let line = if chosen.is_empty() {
                String::new()
            } else {
                format!("Sec-WebSocket-Protocol: {chosen}\r\n")
            };
            peer.write(
                format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{line}\r\nhello"
                )
                .as_bytes(),
            );
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream).route(EVERYWHERE).start();
    let token = sidecar.permitted.token.clone();
    let item = protocol(&token);
    for (offered, passed) in [
        (format!("{item}, chat"), Some("chat")),
        (format!("graphql-ws ,{item},chat"), Some("graphql-ws")),
        (item.clone(), None),
    ] {
        let mut client = sidecar.connect();
        let lines = format!("{OFFER}Sec-WebSocket-Protocol: {offered}\r\n");
        client.send(format!("GET /socket HTTP/1.1\r\nHost: {HOST}\r\n{lines}\r\n"));
        let head = client.read_head().unwrap();
        assert_eq!((head.status, head.header("sec-websocket-protocol")), (101, passed), "{offered}");
        assert_eq!(client.read_exactly(5), b"hello");
    }
    let received = upstream.received_text();
    assert_not_in(&token, "what the service saw", &received);
    assert!(!received.contains("k8s.io"), "{received}");
    for lines in [
        // Two of them; one beside a header; one where nothing is opened; one that is not valid.
        format!("{OFFER}Sec-WebSocket-Protocol: {item}, {item}\r\n"),
        format!("{OFFER}Sec-WebSocket-Protocol: {item}\r\nAuthorization: Bearer {token}\r\n"),
        format!("Sec-WebSocket-Protocol: {item}\r\n"),
        format!("{OFFER}Sec-WebSocket-Protocol: {item}x\r\n"),
    ] {
        ask(&sidecar, "GET /socket", &lines).assert_error(401, "invalid_token");
    }
    assert_eq!(upstream.received_text(), received, "nothing of those reaches the service");
}

#[test]
fn curl_asks_with_a_password() {
    let Some(curl) = support::peers::program("curl") else { return };
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).route("credentials = [\"basic\"]").start();
    let run = |user: &str| {
        let output = std::process::Command::new(&curl)
            .args([
                "--silent",
                "--anyauth",
                "--user",
                user,
                "--write-out",
                "%{http_code}",
                "--output",
                "/dev/null",
            ])
            .args(["--header", &format!("Host: {HOST}"), &format!("http://{}/", sidecar.address())])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // It asks without a password first, and is told which way to send one.
    assert_eq!(run(&format!("somebody:{}", sidecar.permitted.token)), "200");
    assert_eq!(run("somebody:wrong-wrong-wrong-wrong"), "401");
}
