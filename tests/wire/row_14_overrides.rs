//! Row 14: headers that some services take for the real target or method.

use super::{Protocols, Row, try_row};
use crate::case::{Case, Outcome, both, forwarded};
use crate::support::http2::{empty, request_with};
use crate::support::{Http2Client, Sidecar, Upstream};

pub(super) const ROW: Row = Row {
    number: 14,
    attack: "X-Original-URL, X-Rewrite-URL, X-HTTP-Method-Override",
    cases,
    protocols: Protocols::Both,
    configured: |builder| builder,
};

#[test]
fn row_14() {
    try_row(&ROW);
}

const TARGETS: &[&str] = &[
    "X-Original-URL",
    "X-Original-URI",
    "X-Rewrite-URL",
    "X-Forwarded-Prefix",
    "X-Forwarded-URI",
    "X_Original_URL",
    "x.rewrite.url",
    "X~Original~URL",
];

const METHODS: &[&str] = &[
    "X-HTTP-Method-Override",
    "X-HTTP-Method",
    "X-Method-Override",
    "X_HTTP_Method_Override",
    "x.http.method",
];

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in TARGETS.iter().chain(METHODS) {
        cases.extend(both("GET /items", &[(*name, "/forged")], "", forwarded("/items").without(&[*name])));
    }
    for name in TARGETS {
        // Neither in nor out of what the holder may not do.
        cases.extend(both("GET /admin", &[(*name, "/items")], "", Outcome::Denied(403)));
        cases.extend(both("GET /items", &[(*name, "/admin")], "", forwarded("/items").without(&[*name])));
    }
    cases
}

#[test]
fn who_may_only_read_does_not_write_by_another_name() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let user = sidecar.directory.application_user();
    sidecar.directory.grant(&user, &["read_only"]);
    let reader = sidecar.directory.token(&user);
    sidecar.wait_for(&reader);
    for name in METHODS {
        let before = upstream.requests().len();
        let read =
            sidecar.request(sidecar.head_with(&reader.token, "GET /items", &format!("{name}: DELETE\r\n")));
        assert_eq!(read.status, 200, "{name}");
        let lines = format!("Content-Length: 0\r\n{name}: GET\r\n");
        let written = sidecar.request(sidecar.head_with(&reader.token, "POST /items", &lines));
        written.assert_error(403, "permission_denied");

        let lower_case = http::HeaderName::from_bytes(name.to_lowercase().as_bytes()).unwrap();
        for (method, value, status) in [("GET", "DELETE", 200), ("POST", "GET", 403)] {
            let mut request = request_with(&reader.token, method, "/items", empty());
            request.headers_mut().insert(&lower_case, value.parse().unwrap());
            let response = Http2Client::connect(sidecar.address()).request(request);
            assert_eq!(response.status, status, "{name}");
        }
        let seen = upstream.requests().split_off(before);
        assert_eq!(seen.len(), 2, "{name}: {seen:?}");
        assert!(seen.iter().all(|request| request.method == "GET"), "{name}: {seen:?}");
        assert!(!upstream.received_text().contains("DELETE"), "{name}: {}", upstream.received_text());
    }
}
