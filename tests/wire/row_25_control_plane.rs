//! Row 25, as far as it is about the proxy's port: what the control plane serves elsewhere is not served there.

use super::{Protocols, Row, try_row};
use crate::case::{Case, Outcome, both, forwarded, http1};
use crate::place::Place;

pub(super) const ROW: Row = Row {
    number: 25,
    attack: "paths of the control plane through the data port",
    cases,
    protocols: Protocols::Both,
    configured: |builder| builder.admin(""),
};

#[test]
fn row_25() {
    try_row(&ROW);
}

const PATHS: &[&str] = &[
    "/v1/account",
    "/v1/userauth",
    "/v1/openapi.json",
    "/v1/access_token",
    "/metrics",
    "/healthz",
    "/readyz",
    "/.well-known/jwks.json",
];

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for path in PATHS {
        // At a host that has a route, it is a path of the service's like any other.
        cases.extend(both(&format!("GET {path}"), &[], "", forwarded(path)));
        cases.extend(both(&format!("POST {path}"), &[], "{}", forwarded(path).with_body("{}")));
        // At any other, there is nothing.
        for host in
            ["127.0.0.1", "127.0.0.1:8181", "127.0.0.1:9464", "localhost", "[::1]:8181", "admin", "0.0.0.0"]
        {
            cases.extend(both(&format!("GET {path}"), &[("host", host)], "", Outcome::Denied(404)));
        }
        cases.push(http1(
            format!("GET http://127.0.0.1:8181{path} HTTP/1.1\r\nHost: 127.0.0.1:8181\r\n<auth>\r\n"),
            Outcome::Denied(404),
        ));
        cases.push(http1(format!("GET {path} HTTP/1.0\r\n<auth>\r\n"), Outcome::Denied(404)));
    }
    cases
}

/// With the addresses that it really has, and the token of somebody who may do everything there.
#[test]
fn the_addresses_of_the_control_plane_are_nobodys_route() {
    let place = Place::with(|builder| builder.admin(""));
    let sidecar = &place.sidecar;
    let admin = sidecar.super_admin();
    assert_eq!(sidecar.api(&admin.token, "GET /v1/account", "").status, 200, "the API knows the token");
    for address in [sidecar.admin.unwrap(), sidecar.ops] {
        for request in [
            format!("GET /v1/account HTTP/1.1\r\nHost: {address}\r\n"),
            format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n"),
            format!("GET http://{address}/v1/account HTTP/1.1\r\nHost: {address}\r\n"),
        ] {
            for scheme in ["Bearer", "aivenv1"] {
                let answer =
                    sidecar.request(format!("{request}Authorization: {scheme} {}\r\n\r\n", admin.token));
                answer.assert_error(404, "no_route");
            }
        }
        let connect = format!(
            "CONNECT {address} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\r\n",
            admin.token
        );
        sidecar.request(connect).assert_error(405, "method_not_allowed");
    }
    place.upstream.assert_untouched();
}
