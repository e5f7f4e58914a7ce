//! Row 11: what a client says about where it comes from. `place.rs` looks at the forwarding headers of whatever a service sees;
//! here is what else follows an address.

use super::{Protocols, Row, try_row};
use crate::case::{Case, both, forwarded};
use crate::support::http2::{empty, request_with};
use crate::support::{Http2Client, Sidecar, Upstream, until};

pub(super) const ROW: Row = Row {
    number: 11,
    attack: "forged X-Forwarded-For, Forwarded, X-Real-IP from a peer that is not trusted",
    cases,
    protocols: Protocols::Both,
    configured: |builder| builder,
};

#[test]
fn row_11() {
    try_row(&ROW);
}

/// An address of documentation, in which no test runs.
const FOREIGN: &str = "192.0.2.7";

/// All the ways to say that one is elsewhere.
const CLAIMS: &[(&str, &str)] = &[
    ("X-Forwarded-For", FOREIGN),
    ("X-Forwarded-For", "192.0.2.7, 127.0.0.1"),
    ("Forwarded", "for=192.0.2.7"),
    ("Forwarded", "for=\"[2001:db8::1]:80\";proto=https;host=forged"),
    ("X-Real-IP", FOREIGN),
    ("X_Forwarded_For", FOREIGN),
    ("X.Forwarded.For", FOREIGN),
    ("X~Forwarded~For", FOREIGN),
    ("X_Real_IP", FOREIGN),
];

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, value) in CLAIMS {
        cases.extend(both("GET /items", &[(*name, *value)], "", forwarded("/items")));
    }
    for name in [
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Server",
        "X-Forwarded-User",
        "X-Forwarded-Client-Cert",
        "X_Forwarded_Proto",
        "x.forwarded.host",
        "X-Forwarded_For",
        "X-Real_IP",
    ] {
        cases.extend(both("GET /items", &[(name, "forged")], "", forwarded("/items")));
    }
    let all: Vec<_> = CLAIMS.iter().chain(CLAIMS).copied().collect();
    cases.extend(both("POST /items", &all, "hello", forwarded("/items").with_body("hello")));
    // Nobody is identified there; where they come from is still the socket's to say.
    let open: Vec<_> = [("host", "open.test")].iter().chain(CLAIMS).copied().collect();
    cases.extend(both("GET /items", &open, "", forwarded("/items").at("open.test").for_anybody()));
    cases
}

#[test]
fn address_rules_usage_and_logs_take_the_sockets_peer() {
    let rule = |ranges: &str| format!("[organization.authentication]\nallowed_ip_ranges = [\"{ranges}\"]");
    for (ranges, is_allowed) in [("192.0.2.0/24", false), ("127.0.0.0/8", true)] {
        let upstream = Upstream::echo();
        let sidecar = Sidecar::in_front_of(&upstream).organization(&rule(ranges)).start();
        for (number, (name, value)) in CLAIMS.iter().enumerate() {
            let over_1 = sidecar.request(sidecar.head("GET /items", &format!("{name}: {value}\r\n")));
            let mut request = request_with(&sidecar.permitted.token, "GET", "/items", empty());
            let lower_case = http::HeaderName::from_bytes(name.to_lowercase().as_bytes()).unwrap();
            request.headers_mut().insert(lower_case, value.parse().unwrap());
            let over_2 = Http2Client::connect(sidecar.address()).request(request);
            for response in [over_1, over_2] {
                if is_allowed {
                    assert_eq!(response.status, 200, "{name}: {value}");
                } else {
                    response.assert_error(403, "ip_not_allowed_by_organization");
                }
            }
            let lines = sidecar.access_log(2 * (number + 1));
            assert!(
                lines.iter().all(|line| line["client_address"] == "127.0.0.1"),
                "{name}: {value}: {lines:?}"
            );
        }
        let prefix = &sidecar.permitted.prefix;
        if is_allowed {
            until("usage to be flushed", || sidecar.directory.stored(prefix).usage.is_some());
            let usage = sidecar.directory.stored(prefix).usage.unwrap();
            assert_eq!(usage.last_ip, Some("127.0.0.1".parse().unwrap()));
            assert!(!upstream.received_text().contains(FOREIGN), "{}", upstream.received_text());
        } else {
            upstream.assert_untouched();
        }
    }
}
