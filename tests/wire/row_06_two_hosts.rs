//! Row 6: a target that names another host than the line does.

use super::{Protocols, Row, try_row};
use crate::case::{Case, forwarded, http1, http2, refused};

pub(super) const ROW: Row = Row {
    number: 6,
    attack: "absolute form or `:authority` that differs from Host",
    cases,
    protocols: Protocols::Both,
    configured: |builder| builder,
};

#[test]
fn row_06() {
    try_row(&ROW);
}

fn cases() -> Vec<Case> {
    let refused_targets = [
        "http://open.test/items",
        "http://open.test",
        "http://open.test?x",
        "https://open.test/items",
        "HTTP://open.test/items",
        "http://a.service.test/items",
        "http://service.test.open.test/items",
        "http://service.test:81/items",
        "https://service.test:80/items",
        "http://user@service.test/items",
        "http://user:password@service.test/items",
        "http://service.test@open.test/items",
        "http://open.test\\@service.test/items",
        "http://service.test,open.test/items",
        "http://service.test#@open.test/",
        "http:///items",
        "http:/items",
        "http:items",
        "//service.test/items",
        "ftp://service.test/items",
        "ws://service.test/items",
        "javascript:alert(1)",
        "service.test:80",
        "items",
        "*",
        "?items",
    ];
    let refused_hosts = ["open.test", "service.test:81", "a.service.test", "service.test."];
    let over_http1 = refused_targets
        .map(|target| http1(format!("GET {target} HTTP/1.1\r\n<usual>\r\n\r\n"), refused(400)))
        .into_iter()
        .chain(refused_hosts.map(|host| {
            let bytes = format!("GET http://service.test/items HTTP/1.1\r\nHost: {host}\r\n<auth>\r\n");
            http1(bytes, refused(400))
        }))
        .chain([
            http1("GET http://open.test/items HTTP/1.0\r\n<usual>\r\n\r\n", refused(400)),
            http1("GET http://service.test/items HTTP/1.1\r\n<auth>\r\n", refused(400)),
            // Both name the same host, and the service sees what it would have without.
            http1("GET http://service.test/items HTTP/1.1\r\n<usual>\r\n\r\n", forwarded("/items")),
            http1("GET HTTP://SERVICE.test/items?a=/b HTTP/1.1\r\n<usual>\r\n\r\n", forwarded("/items?a=/b")),
            http1("GET http://service.test HTTP/1.1\r\n<usual>\r\n\r\n", forwarded("/")),
            http1("GET http://service.test/items HTTP/1.0\r\n<auth>\r\n", forwarded("/items")),
            // What is refused of a path is refused in this form too; that it is left out in front of a query is one thing more.
            http1("GET http://service.test?a HTTP/1.1\r\n<usual>\r\n\r\n", refused(400)),
            http1("GET http://service.test//items HTTP/1.1\r\n<usual>\r\n\r\n", refused(400)),
        ]);
    let over_http2 = refused_hosts
        .map(|host| http2(&[("host", host)], refused(400)))
        .into_iter()
        .chain(
            ["open.test", "user@service.test", "", "service.test,open.test", "service.test:80"]
                .map(|host| http2(&[("host", host)], refused(400))),
        )
        .chain([
            http2(&[(":authority", "open.test"), ("host", "service.test")], refused(400)),
            http2(&[("host", "service.test")], forwarded("/items")),
            http2(&[("host", "SERVICE.test")], forwarded("/items").at("SERVICE.test")),
            // What a client says of its scheme is not believed: `X-Forwarded-Proto` is the listener's.
            http2(&[(":scheme", "https")], forwarded("/items")),
            http2(&[(":scheme", "http\r\nx-a: forged")], refused(400)),
        ]);
    over_http1.chain(over_http2).collect()
}
