//! Row 4: bytes that end a line for some readers and not for others, and what stands between a name and its colon.

use super::{Protocols, Row, try_row};
use crate::case::{Case, exactly, head, http1, http2, refused, stream};
use crate::support::sidecar::HOST;

pub(super) const ROW: Row = Row {
    number: 4,
    attack: "NUL, bare CR, bare LF, folded lines, a space in front of the colon",
    cases,
    protocols: Protocols::Both,
    configured: |builder| builder,
};

#[test]
fn row_04() {
    try_row(&ROW);
}

fn cases() -> Vec<Case> {
    let lines = [
        "X-A: b\0c",
        "X-A: b\rc",
        "X-A: b\r\r",
        "X-A: b\nX-C: d",
        "X-A: b\n\nGET /smuggled HTTP/1.1",
        "X-A: b\r\n folded",
        "X-A: b\r\n\tfolded",
        "X-A: b\r\n ",
        "X-A : b",
        "X-A\t: b",
        " X-A: b",
        "\tX-A: b",
        "X-A",
        ": b",
        ":",
        "X A: b",
        "X\0A: b",
        "X\rA: b",
        "X\nA: b",
        "X(A: b",
        "X{A}: b",
        "\"X-A\": b",
        "X@A: b",
        "X;A: b",
        "X,A: b",
        "X\u{e9}: b",
        "X-A: b\x7f",
        "X-A: b\x0b",
        "X-A: b\x0c",
        "X-A: \x1b[31m",
        "X-A: \x08",
    ]
    .map(|line| http1(format!("GET /items HTTP/1.1\r\n<usual>\r\n{line}\r\n\r\n"), refused(400)));
    let whole = [
        "GET /items HTTP/1.1\n<usual>\r\n\r\n",
        "GET /items HTTP/1.1\r\n<usual>\n\r\n",
        "GET /items HTTP/1.1\r\n<usual>\r\n\n",
        "GET /items HTTP/1.1\r<usual>\r\n\r\n",
        "GET /items HTTP/1.1\r\r\n<usual>\r\n\r\n",
        "GET /items HTTP/1.1\r\n <usual>\r\n\r\n",
        "GET  /items HTTP/1.1\r\n<usual>\r\n\r\n",
        "GET /items  HTTP/1.1\r\n<usual>\r\n\r\n",
        "GET /items HTTP/1.1 \r\n<usual>\r\n\r\n",
        "GET\t/items HTTP/1.1\r\n<usual>\r\n\r\n",
        "GET /items\tHTTP/1.1\r\n<usual>\r\n\r\n",
        "GET /a b HTTP/1.1\r\n<usual>\r\n\r\n",
        "GET /a\0b HTTP/1.1\r\n<usual>\r\n\r\n",
        "GET /a\rb HTTP/1.1\r\n<usual>\r\n\r\n",
        "GET /a\nb HTTP/1.1\r\n<usual>\r\n\r\n",
        " GET /items HTTP/1.1\r\n<usual>\r\n\r\n",
        "\nGET /items HTTP/1.1\r\n<usual>\r\n\r\n",
        "\0GET /items HTTP/1.1\r\n<usual>\r\n\r\n",
        "\u{feff}GET /items HTTP/1.1\r\n<usual>\r\n\r\n",
        "GE\tT /items HTTP/1.1\r\n<usual>\r\n\r\n",
        "GET /items\r\n<usual>\r\n\r\n",
        "GET /items http/1.1\r\n<usual>\r\n\r\n",
    ]
    .map(|bytes| http1(bytes, refused(400)));
    let versions = ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/3.0"]
        .map(|version| http1(format!("GET /items {version}\r\n<usual>\r\n\r\n"), refused(505)));
    let over_http2 = [
        ("x-a", "b\0c"),
        ("x-a", "b\rc"),
        ("x-a", "b\nc"),
        ("x-a", "b\r\nx-postern-user-id: forged"),
        ("x-a", "b\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
        ("x-a", "b\x7f"),
        ("x-a", "\x1b[31m"),
        ("x-a ", "b"),
        (" x-a", "b"),
        ("x-a:", "b"),
        ("x a", "b"),
        ("x\0a", "b"),
        ("x-a\r\nx-postern-user-id: forged\r\nx-b", "c"),
        ("x\u{e9}", "b"),
        ("X-A", "b"),
        ("", "b"),
    ]
    .map(|field| http2(&[field], refused(400)));
    let in_trailers = [("x-a", "b\r\nx-b: forged"), ("x a", "forged")].map(|field| {
        let parts = vec![head(&[(":method", "POST"), (":authority", HOST)]), exactly(&[field])];
        stream(parts, crate::case::Outcome::BrokenOff(400))
    });
    [lines.to_vec(), whole.to_vec(), versions.to_vec(), over_http2.to_vec(), in_trailers.to_vec()].concat()
}
