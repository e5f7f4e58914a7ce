//! Row 17: wishes to speak something else, none of which but a WebSocket's reaches a service.

use super::{Protocols, Row, try_row};
use crate::case::{Case, Outcome, forwarded, head, http1, http2, refused, stream};

pub(super) const ROW: Row = Row {
    number: 17,
    attack: "Upgrade: h2c or unknown, Upgrade without Connection",
    cases,
    protocols: Protocols::Both,
    configured: |builder| builder,
};

#[test]
fn row_17() {
    try_row(&ROW);
}

const KEY: &str = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

/// Wishes that are not passed on: the request is served as if there were none.
const WISHES: &[&str] = &[
    "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    "Upgrade: h2c\r\nConnection: Upgrade",
    "Upgrade: h2c",
    "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    "Upgrade: h2\r\nConnection: Upgrade",
    "Upgrade: something/1\r\nConnection: upgrade",
    "Upgrade: TLS/1.0\r\nConnection: Upgrade",
    "Upgrade: websocket, h2c\r\nConnection: Upgrade",
    "Upgrade: h2c, websocket\r\nConnection: Upgrade",
    "Upgrade: websocket\r\nUpgrade: h2c\r\nConnection: Upgrade",
    "Upgrade: websocket\r\nUpgrade: websocket\r\nConnection: Upgrade",
    "Upgrade: websocket/13\r\nConnection: Upgrade",
    "Upgrade: websocket",
    "Upgrade: websocket\r\nConnection: keep-alive",
    "Upgrade: websocket\r\nConnection: xupgrade, upgrade-x",
    "Upgrade:\r\nConnection: Upgrade",
    "Connection: Upgrade",
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade_: h2c\r\nConnection: Upgrade",
];

fn cases() -> Vec<Case> {
    let seen = || forwarded("/items").without(&["upgrade", "connection", "http2-settings"]);
    let mut cases = Vec::new();
    for wish in WISHES {
        cases.push(http1(format!("GET /items HTTP/1.1\r\n<usual>\r\n{wish}\r\n{KEY}\r\n\r\n"), seen()));
        cases.push(http1(
            format!("POST /items HTTP/1.1\r\n<usual>\r\n{wish}\r\nContent-Length: 5\r\n\r\nhello"),
            seen().with_body("hello"),
        ));
        // HTTP/2 spoken behind it all the same is no request.
        cases.push(
            http1(
                format!(
                    "GET /items HTTP/1.1\r\n<usual>\r\n{wish}\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\nforged"
                ),
                seen(),
            )
            .and(refused(505)),
        );
    }
    // A WebSocket begins with a GET without a body, in HTTP/1.1 (RFC 6455, section 4.1).
    let offer = format!("Upgrade: websocket\r\nConnection: Upgrade\r\n{KEY}");
    for (start, rest, body) in [
        ("POST /items HTTP/1.1", "Content-Length: 0\r\n\r\n", ""),
        ("HEAD /items HTTP/1.1", "\r\n", ""),
        ("GET /items HTTP/1.0", "\r\n", ""),
        ("GET /items HTTP/1.1", "Content-Length: 5\r\n\r\nhello", "hello"),
        ("GET /items HTTP/1.1", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "hello"),
    ] {
        cases.push(http1(format!("{start}\r\n<usual>\r\n{offer}\r\n{rest}"), seen().with_body(body)));
    }
    for value in ["h2c", "websocket", "something/1", ""] {
        cases.push(http2(&[("upgrade", value)], refused(400)));
    }
    cases.push(http2(&[("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA")], seen()));
    for protocol in ["connect-udp", "connect-ip", "h2c", "WebSocket", "websocket, h2c", ""] {
        let head = head(&[(":method", "CONNECT"), (":protocol", protocol)]);
        cases.push(stream(vec![head], Outcome::Answered(405)));
    }
    // A WebSocket has no length: this is another use of CONNECT.
    let with_length = [(":method", "CONNECT"), (":protocol", "websocket"), ("content-length", "0")];
    cases.push(stream(vec![head(&with_length)], Outcome::Answered(405)));
    cases
}
