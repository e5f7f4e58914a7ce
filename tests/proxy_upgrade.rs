//! WebSockets through the sidecar, and the end of what runs on after its token: byte for byte, against a scripted upstream.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; figures are shown")]

#[path = "proxy_upgrade/closed_windows.rs"]
mod closed_windows;
#[path = "proxy_upgrade/conformance.rs"]
mod conformance;
#[path = "proxy_upgrade/declared.rs"]
mod declared;
mod support;

use std::time::Instant;

use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use support::frames::FrameClient;
use support::http2::{Body, empty, request_with};
use support::{Client, Http2Client, Sidecar, Upstream, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
    until("the log to say so", || {
        let log = std::fs::read_to_string(sidecar.folder().join("access.log")).unwrap_or_default();
        log.lines().any(|line| line.contains(r#""status":101"#) && line.contains("token_revoked"))
    });
    // The other one lives: what it sends reaches the upstream, and nothing has ended it.
    staying.send("still here");
    until("the other client's bytes to arrive", || upstream.received_text().contains("still here"));
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
    until("both requests to arrive", || upstream.connections() == 2);

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
fn a_websocket_needs_what_its_request_needs_too() {
    // It takes no offer: what it answers, it would answer to the plain request.
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream)
        .route("permissions = { GET = \"project:integrations:read\" }")
        .start();
    let user = sidecar.directory.application_user();
    sidecar.directory.grant(&user, &["service:data:write"]);
    let writer = sidecar.directory.token(&user);
    sidecar.wait_for(&writer);
    let mut client = sidecar.connect();
    client.request(sidecar.head_with(&writer.token, "GET /", "")).assert_error(403, "permission_denied");
    client.request(sidecar.head_with(&writer.token, "GET /", OFFER)).assert_error(403, "permission_denied");
    upstream.assert_untouched();
    assert_eq!(client.request(sidecar.head("GET /", OFFER)).status, 200);
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

/// A WebSocket over HTTP/2 (RFC 8441), from its client's side.
struct Http2Socket {
    client: Http2Client,
    stream: TokioIo<Upgraded>,
}

/// What a client sends to open one, on a connection on which the sidecar has said that it may.
fn extended_connect(token: &str, protocol: &'static str, fields: &[(&str, &str)]) -> http::Request<Body> {
    let mut request = request_with(token, "CONNECT", "/socket?a=b", empty());
    request.extensions_mut().insert(Protocol::from_static(protocol));
    request.headers_mut().insert("sec-websocket-version", http::HeaderValue::from_static("13"));
    for (name, value) in fields {
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        request.headers_mut().append(name, http::HeaderValue::from_str(value).unwrap());
    }
    request
}

/// A connection that has heard what the sidecar allows.
fn settled(sidecar: &Sidecar) -> Http2Client {
    let mut client = Http2Client::connect(sidecar.address());
    let request = http::Request::builder().uri("http://unknown.test/").body(empty()).unwrap();
    assert_eq!(client.request(request).status, 401);
    client
}

impl Http2Socket {
    #[track_caller]
    fn open(sidecar: &Sidecar, token: &str) -> Self {
        let mut client = settled(sidecar);
        let response = client.send(extended_connect(token, "websocket", &[])).unwrap();
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("sec-websocket-accept"), "{:?}", response.headers());
        assert!(!response.headers().contains_key("upgrade"), "{:?}", response.headers());
        let upgraded = client.runtime.block_on(hyper::upgrade::on(response)).unwrap();
        Self { client, stream: TokioIo::new(upgraded) }
    }

    fn send(&mut self, bytes: &[u8]) {
        let Self { client, stream } = self;
        client.runtime.block_on(async {
            stream.write_all(bytes).await.unwrap();
            stream.flush().await.unwrap();
        });
    }

    fn finish_sending(&mut self) {
        let Self { client, stream } = self;
        client.runtime.block_on(async { stream.shutdown().await.unwrap() });
    }

    #[track_caller]
    fn read_exactly(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        let Self { client, stream } = self;
        let read = stream.read_exact(&mut bytes);
        client
            .runtime
            .block_on(async { tokio::time::timeout(support::PATIENCE, read).await.unwrap().unwrap() });
        bytes
    }

    #[track_caller]
    fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Self { client, stream } = self;
        let read = stream.read_to_end(&mut bytes);
        client
            .runtime
            .block_on(async { tokio::time::timeout(support::PATIENCE, read).await.unwrap().unwrap() });
        bytes
    }
}

/// As [`echo_tunnel`], with the answer to the key that came.
fn echo_tunnel_for_any_key() -> Upstream {
    greeting_tunnel(b"hello")
}

fn greeting_tunnel(greeting: &'static [u8]) -> Upstream {
    Upstream::start(move |peer| {
        while let Some(head) = peer.read_head() {
            let Some(key) = head.header("sec-websocket-key") else {
                peer.respond(200, &[], b"plain");
                continue;
            };
            peer.write(switching_for(key).as_bytes());
            peer.write(greeting);
            while let Some(bytes) = peer.read_exactly(1) {
                peer.write(&bytes);
            }
            peer.write(b"bye");
            return;
        }
    })
}

/// RFC 6455, section 4.2.2.
fn switching_for(key: &str) -> String {
    use aws_lc_rs::digest;
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let accept = data_encoding::BASE64.encode(digest.as_ref());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    )
}

#[test]
fn a_websocket_over_http_2_passes_both_ways() {
    let upstream = echo_tunnel_for_any_key();
    let sidecar = Sidecar::in_front_of(&upstream).one_worker().start();
    let mut socket = Http2Socket::open(&sidecar, &sidecar.permitted.token);
    assert_eq!(socket.read_exactly(5), b"hello");
    socket.send(b"ping");
    assert_eq!(socket.read_exactly(4), b"ping");
    // The same connection goes on serving requests.
    let request = request_with(&sidecar.permitted.token, "GET", "/", empty());
    assert_eq!(socket.client.request(request).text(), "plain");
    let large = vec![7; 600_000];
    let echoed = {
        let Http2Socket { client, stream } = &mut socket;
        let (mut reading, mut writing) = tokio::io::split(stream);
        let mut echoed = vec![0; large.len()];
        client.runtime.block_on(async {
            let (read, written) = tokio::join!(reading.read_exact(&mut echoed), writing.write_all(&large));
            read.unwrap();
            written.unwrap();
        });
        echoed
    };
    assert!(echoed == large);
    socket.finish_sending();
    assert_eq!(socket.read_to_end(), b"bye");

    let received = upstream.received_text().to_lowercase();
    assert!(
        received.starts_with("get /socket?a=b http/1.1\r\nhost: service.test\r\n"),
        "{}",
        &received[..500]
    );
    assert!(received.contains("\r\nconnection: upgrade\r\nupgrade: websocket\r\n"));
    assert!(received.contains(&format!("\r\nx-postern-user-id: {}\r\n", sidecar.permitted.user_id)));
    let line = sidecar
        .access_log(3)
        .into_iter()
        .find(|line| line["status"] == 101)
        .expect("a line of the WebSocket");
    assert_eq!(line["bytes_received"].as_u64(), Some(600_004));
}

#[test]
fn what_is_refused_over_http_1_is_refused_over_http_2() {
    let upstream = echo_tunnel_for_any_key();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let user = sidecar.directory.application_user();
    // Whoever may only read may not write, and nobody knows what is said in there.
    sidecar.directory.grant(&user, &["read_only"]);
    let reader = sidecar.directory.token(&user);
    sidecar.wait_for(&reader);
    let mut client = settled(&sidecar);
    let response = client.request(extended_connect(&reader.token, "websocket", &[]));
    response.assert_error(403, "permission_denied");
    let response = client.request(extended_connect("a-token-of-somebody-else", "websocket", &[]));
    response.assert_error(401, "invalid_token");
    // Other uses of CONNECT.
    let token = &sidecar.permitted.token;
    client.request(extended_connect(token, "connect-udp", &[])).assert_error(405, "method_not_allowed");
    client.request(extended_connect(token, "WebSocket", &[])).assert_error(405, "method_not_allowed");
    upstream.assert_untouched();
    let mut frames = FrameClient::connect(sidecar.address());
    frames.send_head(1, 0, &[(":method", "CONNECT"), (":authority", "service.test:443")]);
    let answer = frames.read_stream(1);
    assert!(answer.iter().any(|frame| frame.kind == support::frames::HEADERS), "{answer:?}");
    upstream.assert_untouched();
}

#[test]
fn an_upstream_that_takes_no_websocket_opens_none_over_http_2() {
    let ask = |upstream: Upstream| {
        let sidecar = Sidecar::in_front_of(&upstream).start();
        let request = extended_connect(&sidecar.permitted.token, "websocket", &[]);
        settled(&sidecar).request(request)
    };
    // To its client any success would be an open WebSocket.
    ask(Upstream::echo()).assert_error(502, "upstream_failed");
    ask(Upstream::answering("HTTP/1.1 204 No Content\r\n\r\n")).assert_error(502, "upstream_failed");
    // An answer to another key is no answer to this one's.
    ask(Upstream::answering(SWITCHING)).assert_error(502, "upstream_failed");
    let bare = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    ask(Upstream::answering(bare)).assert_error(502, "upstream_failed");
    // Other answers are the client's to read.
    let busy = ask(Upstream::answering("HTTP/1.1 409 Conflict\r\nContent-Length: 4\r\n\r\nbusy"));
    assert_eq!((busy.status, busy.text().as_str()), (409, "busy"));
}

#[test]
fn a_revoked_token_ends_its_websocket_over_http_2_alone() {
    // One whole frame with the text `hi`, so that the stream stands between two.
    let frame = [0x81, 2, b'h', b'i'];
    let upstream = greeting_tunnel(&[0x81, 2, b'h', b'i']);
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let doomed = sidecar.directory.permitted();
    sidecar.wait_for(&doomed);
    let mut staying = Http2Socket::open(&sidecar, &sidecar.permitted.token);
    let mut ending = Http2Socket::open(&sidecar, &doomed.token);
    assert_eq!(ending.read_exactly(4), frame);
    assert_eq!(staying.read_exactly(4), frame);
    let revoked = Instant::now();
    sidecar.directory.revoke(&doomed.prefix);
    assert_eq!(ending.read_to_end(), [0x88, 2, 0x03, 0xf0]);
    assert!(revoked.elapsed().as_secs() < 5, "{:?}", revoked.elapsed());
    staying.send(&frame);
    assert_eq!(staying.read_exactly(4), frame);
}

#[test]
fn a_client_that_resets_its_websocket_ends_it_upstream() {
    let upstream = echo_tunnel_for_any_key();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut socket = Http2Socket::open(&sidecar, &sidecar.permitted.token);
    assert_eq!(socket.read_exactly(5), b"hello");
    let Http2Socket { mut client, stream } = socket;
    drop(stream);
    // The connection stays: only this stream has gone.
    let request = request_with(&sidecar.permitted.token, "GET", "/", empty());
    assert_eq!(client.request(request).text(), "plain");
    upstream.wait_closed(0);
    let is_logged = || sidecar.access_log(3).iter().any(|line| line["status"] == 101);
    until("the WebSocket to end", is_logged);
}

#[test]
fn node_opens_one_over_http_2() {
    let Some(node) = support::peers::program("node") else { return };
    let upstream = echo_tunnel_for_any_key();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let script = r#"
        const [url, host, token] = process.argv.slice(1);
        const session = require('node:http2').connect(url);
        session.on('remoteSettings', settings => {
            if (!settings.enableConnectProtocol) { throw new Error('the sidecar does not offer it'); }
            const stream = session.request({
                ':method': 'CONNECT', ':protocol': 'websocket', ':scheme': 'http', ':path': '/socket', ':authority': host,
                'authorization': `Bearer ${token}`, 'sec-websocket-version': '13',
            }, { endStream: false });
            let received = '';
            stream.on('response', headers => {
                console.log(headers[':status'], headers['sec-websocket-protocol']);
                stream.end('ping');
            });
            stream.on('data', data => { received += data; });
            stream.on('end', () => { console.log(received); session.close(); });
        });
    "#;
    let text = support::peers::run(
        std::process::Command::new(node)
            .args(["-e", script, &format!("http://{}", sidecar.address()), support::sidecar::HOST])
            .arg(&sidecar.permitted.token),
    );
    assert_eq!(text, "200 chat\nhellopingbye\n");
}
