//! Row 22: heads that are larger than anybody needs, by the limits that hold where nothing is configured.

use super::{Protocols, Row, try_row};
use crate::case::{Case, both, forwarded, http1, refused};
use crate::place::{Place, Transport};
use crate::support::{Sidecar, Upstream};

pub(super) const ROW: Row = Row {
    number: 22,
    attack: "headers over 64 KiB or 100 fields; a target over 16 KiB",
    cases,
    protocols: Protocols::Both,
    configured: |builder| builder,
};

#[test]
fn row_22() {
    try_row(&ROW);
}

const HEADER_BYTES: usize = 64 * 1024;
const FIELDS: usize = 100;
const TARGET_BYTES: usize = 16 * 1024;

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // In one field, in several, and in the name.
    for size in [HEADER_BYTES, HEADER_BYTES + 8 * 1024, HEADER_BYTES + 32 * 1024, 4 * HEADER_BYTES] {
        cases.extend(both("GET /items", &[("X-A", &"a".repeat(size))], "", refused(431)));
        let part = "a".repeat(size / 8);
        let parts: Vec<_> = (0..8).map(|_| ("X-A", part.as_str())).collect();
        cases.extend(both("GET /items", &parts, "", refused(431)));
    }
    cases.extend(both("GET /items", &[(&"a".repeat(HEADER_BYTES), "a")], "", refused(431)));
    cases.extend(both("GET /items", &[("Cookie", &"a".repeat(HEADER_BYTES))], "", refused(431)));
    cases.extend(both("GET /items", &[("Authorization", &"a".repeat(HEADER_BYTES))], "", refused(431)));
    cases.extend(both("POST /items", &[("X-A", &"a".repeat(HEADER_BYTES))], "hello", refused(431)));
    for count in [FIELDS + 1, 5 * FIELDS] {
        let names: Vec<_> = (0..count).map(|number| format!("X-{number}")).collect();
        let fields: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
        cases.extend(both("GET /items", &fields, "", refused(431)));
        let same: Vec<_> = (0..count).map(|_| ("X-A", "1")).collect();
        cases.extend(both("GET /items", &same, "", refused(431)));
    }
    for target in [
        format!("/{}", "a".repeat(TARGET_BYTES)),
        format!("/?{}", "a".repeat(TARGET_BYTES)),
        format!("/{}", "a/".repeat(TARGET_BYTES / 2)),
        format!("/{}", "%61".repeat(TARGET_BYTES / 3 + 1)),
        format!("/{}", "a".repeat(40_000)),
    ] {
        cases.extend(both(&format!("GET {target}"), &[], "", refused(414)));
    }
    cases.push(http1(
        format!("GET http://service.test/{} HTTP/1.1\r\n<usual>\r\n\r\n", "a".repeat(TARGET_BYTES)),
        refused(414),
    ));

    // What just fits passes.
    let target = format!("/{}", "a".repeat(TARGET_BYTES - 1));
    cases.extend(both(&format!("GET {target}"), &[], "", forwarded(&target)));
    let value = "a".repeat(HEADER_BYTES - 300);
    cases.extend(both("GET /items", &[("X-A", &value)], "", forwarded("/items").with("x-a", &[&value])));
    let names: Vec<_> = (0..FIELDS - 2).map(|number| format!("X-{number}")).collect();
    let fields: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    cases.extend(both("GET /items", &fields, "", forwarded("/items").with("x-97", &["1"])));
    cases
}

/// As small as somebody likes, with the same bytes over both protocols.
#[test]
fn limits_that_are_configured() {
    let place =
        Place::with(|builder| builder.limits("header_bytes = 8192\nheader_count = 20\nuri_bytes = 1024"));
    let mut cases = Vec::new();
    cases.extend(both("GET /items", &[("X-A", &"a".repeat(8192))], "", refused(431)));
    let value = "a".repeat(7900);
    cases.extend(both("GET /items", &[("X-A", &value)], "", forwarded("/items").with("x-a", &[&value])));
    let many: Vec<_> = (0..21).map(|_| ("X-A", "1")).collect();
    cases.extend(both("GET /items", &many, "", refused(431)));
    cases.extend(both("GET /items", &many[..18], "", forwarded("/items").with("x-a", &["1"; 18])));
    let target = format!("/{}", "a".repeat(1024));
    cases.extend(both(&format!("GET {target}"), &[], "", refused(414)));
    cases.extend(both(&format!("GET {}", &target[..1024]), &[], "", forwarded(&target[..1024])));
    place.try_all(&cases, Transport::Clear);
}

/// It is refused while it comes: nobody waits for its end.
#[test]
fn a_head_without_an_end() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let endless = [
        (format!("GET / HTTP/1.1\r\nHost: service.test\r\nX-A: {}", "a".repeat(100_000)), 431),
        (format!("GET / HTTP/1.1\r\nHost: service.test\r\n{}", "X-A: 1\r\n".repeat(200)), 431),
        (format!("GET / HTTP/1.1\r\nHost: service.test\r\n{}", "a".repeat(100_000)), 431),
        (format!("GET /{}", "a".repeat(100_000)), 414),
        ("A".repeat(100_000), 400),
    ];
    for (bytes, status) in endless {
        let mut client = sidecar.connect();
        // The sidecar may close before it has taken all of it.
        let _closed = client.try_send(&bytes);
        assert_eq!(client.response().status, status, "{:.40}", bytes);
        client.assert_closed();
    }
    upstream.assert_untouched();
}
