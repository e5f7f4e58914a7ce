//! Row 5: hosts that are not exactly one.

use super::{Protocols, Row, try_row};
use crate::case::{Case, exactly, forwarded, http1, http2, refused, stream};
use crate::support::sidecar::HOST;

pub(super) const ROW: Row = Row {
    number: 5,
    attack: "Host missing, twice, empty, with user information, a path, a list, a port that is none",
    cases,
    protocols: Protocols::Both,
    configured: |builder| builder,
};

#[test]
fn row_05() {
    try_row(&ROW);
}

/// What is no host. The names in them have routes, one of them an open one for any name below `wild.test`.
const NO_HOSTS: &[&str] = &[
    "user@service.test",
    "user:password@service.test",
    "@service.test",
    "service.test@wild.test",
    "service.test/path",
    "service.test/",
    "/service.test",
    "http://service.test",
    "service.test?query",
    "service.test#fragment",
    "service.test\\a.wild.test",
    "service.test,a.wild.test",
    "service.test, a.wild.test",
    "service.test a.wild.test",
    "service.test;a.wild.test",
    "service.test:",
    "service.test:port",
    "service.test:80:80",
    "service.test:-1",
    "service.test:+80",
    "service.test:65536",
    ":80",
    "*",
    "*.wild.test",
    "service%2etest",
    "service.test%00",
    "\"service.test\"",
    "<service.test>",
    "[::1",
    "::1",
    "[::1]80",
    "[::1]:",
    "[]",
    "[service.test]",
    "[::1%25eth0]",
    "[v1.a]",
    "\u{e9}.wild.test",
    "a=b.wild.test",
    "a'b.wild.test",
];

fn cases() -> Vec<Case> {
    let invalid = NO_HOSTS.iter().map(|host| format!("Host: {host}\r\n"));
    let counted = [
        "",
        "X-Host: service.test\r\n",
        "Host:\r\n",
        "Host: \t\r\n",
        "Host: service.test\r\nHost: service.test\r\n",
        "Host: service.test\r\nhost: open.test\r\n",
        "Host: open.test\r\nX-A: 1\r\nHOST: service.test\r\n",
        "Host: service.test\r\nHost:\r\n",
        "Host:\r\nHost: service.test\r\n",
    ];
    let over_http1 = invalid
        .chain(counted.map(str::to_owned))
        .map(|lines| http1(format!("GET /items HTTP/1.1\r\n{lines}<auth>\r\n"), refused(400)));
    let twice_over_1_0 =
        http1("GET /items HTTP/1.0\r\nHost: service.test\r\nHost: open.test\r\n<auth>\r\n", refused(400));

    let over_http2 = NO_HOSTS.iter().map(|host| http2(&[(":authority", *host)], refused(400)));
    let in_a_line = NO_HOSTS.iter().map(|host| without_authority(&[("host", *host)]));
    let counted_over_http2 = [
        &[][..],
        &[("x-host", HOST)],
        &[("host", "")],
        &[("host", HOST), ("host", HOST)],
        &[("host", HOST), ("host", "open.test")],
        &[(":authority", "")],
        &[(":authority", ""), ("host", HOST)],
        &[(":authority", HOST), (":authority", HOST)],
        &[(":authority", HOST), (":authority", "open.test")],
        &[(":authority", HOST), ("host", HOST), ("host", HOST)],
    ]
    .map(without_authority);
    let named_in_a_line = stream(
        vec![exactly(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/items"),
            ("host", HOST),
            ("authorization", "<auth>"),
        ])],
        forwarded("/items"),
    );
    let cases = over_http1.chain([twice_over_1_0]).chain(over_http2).chain(in_a_line);
    cases.chain(counted_over_http2).chain([named_in_a_line]).collect()
}

/// A head over HTTP/2 that names no host but in these fields.
fn without_authority(fields: &[(&str, &str)]) -> Case {
    let (pseudo, lines): (Vec<_>, Vec<_>) =
        fields.iter().copied().partition(|(name, _)| name.starts_with(':'));
    let start = [(":method", "GET"), (":scheme", "http"), (":path", "/items")];
    let fields = [&start[..], &pseudo, &[("authorization", "<auth>")], &lines].concat();
    stream(vec![exactly(&fields)], refused(400))
}
