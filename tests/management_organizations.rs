//! The management API as such: who gets in, what is refused and how, over a started sidecar; organizations are the resource
//! it is tried with.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use serde_json::json;
use support::directory::ORGANIZATION;
use support::{Client, Sidecar, Upstream};

fn start() -> (Sidecar, Upstream) {
    let upstream = Upstream::echo();
    (Sidecar::in_front_of(&upstream).admin("").start(), upstream)
}

#[test]
fn a_member_sees_the_organization_and_only_its_admin_renames_it() {
    let (sidecar, _upstream) = start();
    let member = &sidecar.permitted.token;
    let list = sidecar.api(member, "GET /v1/organizations?limit=999", "");
    assert_eq!(list.status, 200, "{}", list.text());
    assert_eq!(list.json()["organizations"][0]["organization_id"], ORGANIZATION);
    assert_eq!(list.header("cache-control"), Some("no-store"));
    assert!(list.header("x-postern-request-id").is_some_and(|id| id.len() == 32));

    let target = format!("/v1/organization/{ORGANIZATION}");
    let body = r#"{"organization_name": "Renamed"}"#;
    let refused = sidecar.api(member, &format!("PATCH {target}"), body);
    refused.assert_error(403, "permission_denied");
    assert!(refused.header("www-authenticate").unwrap().contains("insufficient_scope"));

    let admin = sidecar.super_admin();
    let renamed = sidecar.api(&admin.token, &format!("PATCH {target}"), body);
    assert_eq!((renamed.status, renamed.json()["organization_name"].clone()), (200, json!("Renamed")));
    assert_eq!(sidecar.api(member, &format!("GET {target}"), "").json()["organization_name"], "Renamed");
}

#[test]
fn strangers_learn_nothing_and_bad_bodies_are_named() {
    let (sidecar, _upstream) = start();
    let target = format!("/v1/organization/{ORGANIZATION}");
    let mut client = Client::connect(sidecar.admin.unwrap());
    client
        .request(format!("GET {target} HTTP/1.1\r\nHost: admin\r\n\r\n"))
        .assert_error(401, "missing_credentials");
    sidecar
        .api("psta_0000000000000000000000000000000000000000", &format!("GET {target}"), "")
        .assert_error(401, "invalid_token");
    let admin = sidecar.super_admin();
    sidecar.api(&admin.token, "GET /v1/organization/org-of-others", "").assert_error(404, "not_found");
    sidecar.api(&admin.token, "GET /v1/nothing", "").assert_error(404, "not_found");
    let patch = format!("PATCH {target}");
    let cases = [
        (r#"{"organisation_name": "x"}"#, "organisation_name"),
        (r#"{"organization_name": 1}"#, "organization_name"),
        ("{", "body"),
        (r#"{"organization_name": "a\u0000b"}"#, "organization_name"),
    ];
    for (body, named) in cases {
        let refused = sidecar.api(&admin.token, &patch, body);
        refused.assert_error(400, "bad_request");
        assert!(refused.json()["message"].as_str().unwrap().contains(named), "{}", refused.text());
    }
    let large = format!(r#"{{"organization_name": "{}"}}"#, "x".repeat(1 << 20));
    sidecar.api(&admin.token, &patch, &large).assert_error(413, "body_too_large");
    let method = sidecar.api(&admin.token, &format!("DELETE {target}"), "");
    method.assert_error(405, "method_not_allowed");
    assert!(method.header("allow").is_some_and(|allow| allow.contains("PATCH")));
}

#[test]
fn the_document_describes_what_is_served() {
    let (sidecar, _upstream) = start();
    let document = sidecar.api("", "GET /v1/openapi.json", "").json();
    assert!(document["paths"]["/v1/organization/{organization_id}"]["patch"].is_object(), "{document}");
}
