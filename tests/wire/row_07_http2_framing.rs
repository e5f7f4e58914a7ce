//! Row 7: what HTTP/2 forbids since HTTP/1.1 would read it as something else, and lengths that are not those of the data.

use super::{Protocols, Row, try_row};
use crate::case::{Case, Outcome, Part, data, exactly, forwarded, head, http2, refused, stream};
use crate::support::sidecar::HOST;

pub(super) const ROW: Row = Row {
    number: 7,
    attack: "HTTP/2 with fields of HTTP/1.1's connections, broken pseudo-fields, lengths that differ from the data",
    cases,
    protocols: Protocols::Http2,
    configured: |builder| builder,
};

#[test]
fn row_07() {
    try_row(&ROW);
}

fn cases() -> Vec<Case> {
    let fields = [
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("connection", "x-postern-user-id"),
        ("connection", "upgrade"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("upgrade", "h2c"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("te", "chunked"),
        (":method", "GE T"),
        (":method", ""),
        (":method", "GET / HTTP/1.1\r\nx:"),
        (":method", "GET\0"),
        (":path", "/a b"),
        (":path", "/a\r\nx: y"),
        (":path", "/items HTTP/1.1\r\nx: forged\r\n\r\nGET /smuggled"),
        (":path", ""),
        (":path", "relative"),
        (":path", "*"),
        (":path", "?items"),
        (":path", "http://service.test/items"),
        (":path", "/\u{e9}"),
        (":path", "/items?\u{e9}"),
        (":path", "/items?a b"),
        (":path", "/items?<"),
        (":scheme", "ht tp"),
        (":authority", "service.test\r\nx-a: forged"),
        (":authority", "service.test\0"),
        (":status", "200"),
        (":unknown", "1"),
        (":protocol", "websocket"),
        (":", "1"),
    ]
    .map(|field| http2(&[field], refused(400)));

    let heads: [&[(&str, &str)]; 9] = [
        // One of the pseudo-fields is missing.
        &[(":scheme", "http"), (":authority", HOST), (":path", "/items"), ("authorization", "<auth>")],
        &[(":method", "GET"), (":authority", HOST), (":path", "/items"), ("authorization", "<auth>")],
        &[(":method", "GET"), (":scheme", "http"), (":authority", HOST), ("authorization", "<auth>")],
        // One comes twice.
        &[
            (":path", "/twice"),
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", HOST),
            (":path", "/items"),
            ("authorization", "<auth>"),
        ],
        &[
            (":method", "GET"),
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", HOST),
            (":path", "/items"),
            ("authorization", "<auth>"),
        ],
        // They do not come first.
        &[
            ("x-a", "1"),
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", HOST),
            (":path", "/items"),
            ("authorization", "<auth>"),
        ],
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", HOST),
            ("x-a", "1"),
            (":path", "/items"),
            ("authorization", "<auth>"),
        ],
        // CONNECT has neither scheme nor path.
        &[
            (":method", "CONNECT"),
            (":scheme", "http"),
            (":authority", HOST),
            (":path", "/items"),
            ("authorization", "<auth>"),
        ],
        &[(":method", "CONNECT"), (":authority", HOST), (":path", "/items"), ("authorization", "<auth>")],
    ];
    let heads = heads.map(|fields| stream(vec![exactly(fields)], refused(400)));

    let trailers = || exactly(&[("x-checksum", "1")]);
    // Only as much as was said, all of it, and then the end.
    let bodies: [(&str, Vec<Part>); 10] = [
        ("3", vec![data("hello")]),
        ("10", vec![data("hello")]),
        ("0", vec![data("hello")]),
        ("1", vec![data("")]),
        ("5", vec![data("hel"), data("lo!")]),
        ("5", vec![data("hello"), data("GET /smuggled HTTP/1.1\r\n\r\n")]),
        ("10", vec![data("hello"), trailers()]),
        ("3", vec![data("hello"), trailers()]),
        ("1", vec![trailers()]),
        ("18446744073709551615", vec![data("hello")]),
    ];
    let bodies = bodies.map(|(length, parts)| {
        let post = head(&[(":method", "POST"), ("content-length", length)]);
        stream([vec![post], parts].concat(), Outcome::BrokenOff(400))
    });
    // A service would wait for what does not come, and take the next request for it.
    let without_body = ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PATCH"].map(|method| {
        ["1", "5", "9223372036854775807"]
            .map(|length| http2(&[(":method", method), ("content-length", length)], refused(400)))
    });

    let broken_trailers =
        [("connection", "forged"), ("transfer-encoding", "chunked"), ("te", "gzip"), ("X-Upper", "forged")]
            .map(|field| {
                let parts = vec![head(&[(":method", "POST")]), data("hello"), exactly(&[field])];
                stream(parts, Outcome::BrokenOff(400))
            });

    // h2 leaves these out itself, and goes on: nobody sees them.
    let left_out = [(":path", "/forged"), (":authority", "forged"), (":method", "forged")].map(|field| {
        let parts = vec![head(&[(":method", "POST")]), data("hello"), exactly(&[field])];
        stream(parts, forwarded("/items").with_body("hello"))
    });
    let right = [
        // Nobody looks at it.
        http2(&[(":scheme", "")], forwarded("/items")),
        stream(
            vec![head(&[(":method", "POST"), ("content-length", "5")]), data("hel"), data("lo")],
            forwarded("/items").with("content-length", &["5"]).with_body("hello"),
        ),
        stream(
            vec![head(&[(":method", "POST")]), data("hello")],
            forwarded("/items").with("transfer-encoding", &["chunked"]).with_body("hello"),
        ),
        http2(
            &[("te", "trailers")],
            forwarded("/items").with("te", &["trailers"]).with("connection", &["te"]),
        ),
        // Crumbs of cookies become one line, which HTTP/1.1 has at most.
        http2(&[("cookie", "a=1"), ("cookie", "b=2")], forwarded("/items").with("cookie", &["a=1; b=2"])),
    ];
    let refused = [fields.to_vec(), heads.to_vec(), without_body.concat()].concat();
    [refused, bodies.to_vec(), broken_trailers.to_vec(), left_out.to_vec(), right.to_vec()].concat()
}
