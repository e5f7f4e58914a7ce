//! Row 16: a WebSocket that the service does not open. There is no tunnel then, and what the client has sent behind its offer is a
//! request that is looked at for itself. Opened ones are in `tests/proxy_upgrade.rs`.

use super::{Protocols, Row, try_row};
use crate::case::{Case, Outcome, data, forwarded, head, http1, stream};

pub(super) const ROW: Row = Row {
    number: 16,
    attack: "a WebSocket's offer that is answered with 200, 426 or 5xx, with bytes pipelined behind",
    cases,
    protocols: Protocols::Both,
    configured: |builder| builder,
};

#[test]
fn row_16() {
    try_row(&ROW);
}

const OFFER: &str = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn cases() -> Vec<Case> {
    let offered = |status: u16| {
        let seen = forwarded(&format!("/answer/{status}")).answering(status);
        seen.with("connection", &["upgrade"]).with("upgrade", &["websocket"])
    };
    let offer = |status: u16| format!("GET /answer/{status} HTTP/1.1\r\n<usual>\r\n{OFFER}\r\n");
    let mut cases = Vec::new();
    for status in [200, 400, 404, 426, 500, 501, 503] {
        // Without a token, with one that is none, with a good one; then what is no request at all.
        for (behind, outcome) in [
            ("GET /smuggled HTTP/1.1\r\nHost: service.test\r\n\r\n", Outcome::Unauthenticated),
            (
                "GET /smuggled HTTP/1.1\r\nHost: service.test\r\nAuthorization: Bearer a-token-that-nobody-has\r\n\r\n",
                Outcome::Unauthenticated,
            ),
            ("GET /second HTTP/1.1\r\n<usual>\r\n\r\n", forwarded("/second")),
            ("\u{81}\u{5}smuggled", Outcome::Refused(400)),
        ] {
            cases.push(http1(offer(status) + behind, offered(status)).and(outcome));
        }
        // A second offer is one of its own.
        cases.push(http1(offer(status) + &offer(426), offered(status)).and(offered(426)));
    }
    // Over HTTP/2, to whose client any success would be an open one: those are in `tests/proxy_upgrade.rs`.
    for status in [400, 404, 426, 500, 501, 503] {
        let path = format!("/answer/{status}");
        let offer = head(&[
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":path", &path),
            ("sec-websocket-version", "13"),
        ]);
        cases.push(stream(vec![offer.clone(), data("GET /smuggled HTTP/1.1\r\n\r\n")], offered(status)));
        cases.push(stream(vec![offer, data("\u{81}\u{5}smuggled"), data("")], offered(status)));
    }
    cases
}
