//! Row 1: a length beside chunks, and transfer codings that are not exactly one `chunked`.

use super::{Protocols, Row, try_row};
use crate::case::{Case, both, forwarded, http1, http2, refused};

pub(super) const ROW: Row = Row {
    number: 1,
    attack: "Content-Length with Transfer-Encoding; Transfer-Encoding other than exactly one `chunked`",
    cases,
    protocols: Protocols::Both,
    configured: |builder| builder,
};

#[test]
fn row_01() {
    try_row(&ROW);
}

fn cases() -> Vec<Case> {
    let over_http1 = [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
        ("Transfer-Encoding: chunked\r\nX: y\r\nCONTENT-LENGTH: 0", 400),
        ("Content-Length: 5\r\nTransfer-Encoding: identity", 400),
        ("Transfer-Encoding: chunked, chunked", 400),
        ("Transfer-Encoding: chunked,chunked", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: chunked\r\ntransfer-encoding: identity", 400),
        ("Transfer-Encoding: ,chunked", 400),
        ("Transfer-Encoding: chunked,", 400),
        ("Transfer-Encoding: cow, chunked", 400),
        ("Transfer-Encoding: chunked, cow", 400),
        ("Transfer-Encoding: cow", 400),
        ("Transfer-Encoding: xchunked", 400),
        ("Transfer-Encoding: chunked;q=1", 400),
        ("Transfer-Encoding: \"chunked\"", 400),
        ("Transfer-Encoding: 'chunked'", 400),
        ("Transfer-Encoding: chunked, identity", 400),
        ("Transfer-Encoding: chunk\u{e9}d", 400),
        ("Transfer-Encoding:", 400),
        ("Transfer-Encoding : chunked", 400),
        ("Transfer-Encoding\t: chunked", 400),
        ("Transfer-Encoding: \x0bchunked", 400),
        ("Transfer-Encoding:\r\n chunked", 400),
        ("X: y\r\n Transfer-Encoding: chunked", 400),
        ("X: y\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: identity, chunked", 501),
        ("Transfer-Encoding: gzip", 501),
        ("Transfer-Encoding: identity", 501),
    ]
    .map(|(lines, status)| {
        http1(format!("POST /items HTTP/1.1\r\n<usual>\r\n{lines}\r\n\r\n0\r\n\r\n"), refused(status))
    });
    let over_http2 = [
        &[("transfer-encoding", "chunked")][..],
        &[("transfer-encoding", "identity")],
        &[("transfer-encoding", "")],
        &[("transfer-encoding", "chunked"), ("content-length", "0")],
    ]
    .map(|fields| http2(&[&[(":method", "POST")][..], fields].concat(), refused(400)));
    // Who turns headers into variables cannot tell these from the lines that frame a body.
    let spelled_otherwise = [
        [("Transfer_Encoding", "chunked"), ("X-A", "1")],
        [("transfer.encoding", "chunked"), ("X-A", "1")],
        [("Content_Length", "1"), ("Transfer_Encoding", "identity")],
    ]
    .map(|fields| {
        let seen = forwarded("/items").with_body("0\r\n\r\n");
        both(
            "POST /items",
            &fields,
            "0\r\n\r\n",
            fields.iter().fold(seen, |seen, (name, value)| match *name {
                "X-A" => seen.with(name, &[*value]),
                name => seen.without(&[name]),
            }),
        )
    });
    [over_http1.to_vec(), over_http2.to_vec(), spelled_otherwise.concat()].concat()
}
