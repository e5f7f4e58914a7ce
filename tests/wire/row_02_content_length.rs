//! Row 2: lengths that are not one plain number, and chunks in a version that has none.

use super::{Protocols, Row, try_row};
use crate::case::{Case, both, forwarded, http1, http2, refused};

pub(super) const ROW: Row = Row {
    number: 2,
    attack: "duplicate, list, signed, overflowing Content-Length; Transfer-Encoding on HTTP/1.0",
    cases,
    protocols: Protocols::Both,
    configured: |builder| builder,
};

#[test]
fn row_02() {
    try_row(&ROW);
}

/// What is no length, in either protocol.
const NO_LENGTHS: &[&str] = &[
    "5, 5",
    "5,5",
    "5,",
    "+5",
    "-1",
    "0x5",
    "5 5",
    "5_0",
    "5.0",
    "1e3",
    "5;",
    "five",
    "\"5\"",
    "\u{660}",
    "",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "18446744073709551621",
    "99999999999999999999999999",
];

fn cases() -> Vec<Case> {
    let lines = NO_LENGTHS.iter().map(|value| format!("Content-Length: {value}"));
    let repeated = [("5", "5"), ("0", "5"), ("5", "0"), ("5", "")]
        .map(|(first, second)| format!("Content-Length: {first}\r\ncontent-length: {second}"));
    let over_http1 = lines
        .chain(repeated)
        .map(|lines| http1(format!("POST /items HTTP/1.1\r\n<usual>\r\n{lines}\r\n\r\nhello"), refused(400)));
    let in_version_1_0 = ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 5"]
        .map(|lines| {
            http1(format!("POST /items HTTP/1.0\r\n<usual>\r\n{lines}\r\n\r\n0\r\n\r\n"), refused(400))
        });
    let over_http2 = NO_LENGTHS
        .iter()
        .map(|value| http2(&[(":method", "POST"), ("content-length", *value)], refused(400)));
    let repeated_over_http2 = [("0", "0"), ("0", "5"), ("5", "0"), ("0", "")].map(|(first, second)| {
        http2(&[(":method", "POST"), ("content-length", first), ("content-length", second)], refused(400))
    });
    // Leading zeros are digits, and the length that is passed on is as it came.
    let plain = both("POST /items", &[("X-A", "1")], "hello", forwarded("/items").with_body("hello"));
    let cases = over_http1.chain(in_version_1_0).chain(over_http2).chain(repeated_over_http2).chain(plain);
    cases.collect()
}
