//! The whole life of an application's access, with the tools people have: a user and a token made through the API, used
//! through the proxy, seen in `avn`, stopped and started by the policy, revoked.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod support;

use std::time::Instant;

use postern::token::TokenKind;
use serde_json::{Value, json};
use support::avn::Avn;
use support::management::{ORGANIZATION, OverTls};
use support::{Sidecar, Upstream, until};

#[test]
fn a_token_from_its_making_to_its_end() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).admin("").start();
    let api = sidecar.managed();
    let users = format!("/v1/organization/{ORGANIZATION}/application-users");
    let user = api.post(&users, json!({ "name": "ingest", "description": "writes the metrics" })).json();
    let user = user["user_id"].as_str().unwrap();
    let tokens = format!("{users}/{user}/access-tokens");
    let token = api.post(&tokens, json!({ "description": "eu-west", "max_age_seconds": 3600 })).json();
    let (full, prefix) = (token["full_token"].as_str().unwrap(), token["token_prefix"].as_str().unwrap());
    assert!(full.starts_with(prefix) && full.len() == 55);

    // It is known at once, and may do nothing yet.
    let head = sidecar.head_with(full, "GET /", "User-Agent: curl/8.5.0\r\n");
    sidecar.request(&head).assert_error(403, "permission_denied");
    let permissions = format!("/v1/organization/{ORGANIZATION}/permissions/project/demo");
    let grant = |operation: &str| {
        let granted = json!({ "principal_id": user, "principal_type": "user", "permissions": ["developer"] });
        let answer = api.patch(&permissions, json!({ "operation": operation, "permissions": [granted] }));
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    grant("grant");
    assert_eq!(sidecar.request(&head).status, 200);
    grant("revoke");
    sidecar.request(&head).assert_error(403, "permission_denied");
    grant("grant");
    assert_eq!(sidecar.request(&head).status, 200);

    // Its last use is seen at once, before anything is flushed to the store.
    let listed = api.get(&tokens).json();
    let shown = &listed["tokens"][0];
    assert_eq!(shown["last_user_agent"], "curl/8.5.0");
    assert_eq!(shown["last_user_agent_human_readable"], "curl 8.5.0");
    assert_eq!(shown["last_ip"], "127.0.0.1");
    assert!(shown["last_used_time"].is_string() && shown.get("full_token").is_none(), "{shown}");

    // A connection that is open already is refused too once the token is revoked.
    let mut connection = sidecar.connect();
    assert_eq!(connection.request(&head).status, 200);
    assert_eq!(api.delete(&format!("{tokens}/{prefix}")).status, 204);
    connection.request(&head).assert_error(401, "token_revoked");
    sidecar.request(&head).assert_error(401, "token_revoked");
    assert_eq!(api.get(&tokens).json()["tokens"], json!([]));
}

#[test]
fn no_request_after_a_revocation_is_answered_is_let_in() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).admin("").start();
    let api = sidecar.managed();
    let users = format!("/v1/organization/{ORGANIZATION}/application-users");
    let mut slowest = std::time::Duration::ZERO;
    for round in 0..20 {
        let credential = sidecar.directory.permitted();
        sidecar.wait_for(&credential);
        let head = sidecar.head_with(&credential.token, "GET /", "");
        let mut connections: Vec<_> = (0..4).map(|_| sidecar.connect()).collect();
        for connection in &mut connections {
            assert_eq!(connection.request(&head).status, 200);
        }
        let user = format!("{users}/{}", credential.user_id);
        let asked = Instant::now();
        // Revoking the one token, or deleting the user with it.
        let path = if round % 2 == 0 { format!("{user}/access-tokens/{}", credential.prefix) } else { user };
        assert_eq!(api.delete(&path).status, 204);
        slowest = slowest.max(asked.elapsed());
        for connection in &mut connections {
            assert_eq!(connection.request(&head).status, 401, "round {round}");
        }
    }
    println!("revocation through the API: answered, and in force, after {slowest:?} at most");
}

#[test]
fn a_deleted_user_takes_all_its_tokens_along() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).admin("").start();
    let api = sidecar.managed();
    let user = sidecar.directory.application_user();
    sidecar.directory.grant(&user, &["admin"]);
    let credentials: Vec<_> = (0..5).map(|_| sidecar.directory.token(&user)).collect();
    sidecar.wait_for(credentials.last().unwrap());
    let path = format!("/v1/organization/{ORGANIZATION}/application-users/{user}");
    assert_eq!(api.delete(&path).status, 204);
    for credential in &credentials {
        sidecar.request(sidecar.head_with(&credential.token, "GET /", "")).assert_error(401, "user_deleted");
    }
    api.get(&path).assert_error(404, "not_found");
    api.get(&format!("{path}/access-tokens")).assert_error(404, "not_found");
}

#[test]
fn the_policy_stops_and_starts_the_right_tokens() {
    let upstream = Upstream::echo();
    let sidecar = OverTls::add_to(Sidecar::in_front_of(&upstream)).start();
    let admin = sidecar.directory.super_admin();
    let (person, method) = sidecar.directory.person("jane@example.com");
    sidecar.directory.grant(&person, &["admin"]);
    let personal = sidecar.directory.token_with(&person, TokenKind::Personal, |token| {
        token.authentication_method_id = Some(method.clone());
    });
    sidecar.wait_for(&personal);
    let of_person = sidecar.head_with(&personal.token, "GET /", "");
    let policy = format!("/v1/organization/{ORGANIZATION}/config/authentication");
    let set = |body: Value| {
        let answer = OverTls::request(&sidecar, &admin.token, "PATCH", &policy, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    until("the grant to be in force", || sidecar.request(&of_person).status == 200);
    let method_asked = |allowed: bool| json!({ "password_auth_enabled": allowed, "personal_tokens_require_allowed_auth_method": true });
    let of_all = |enabled: bool| json!({ "personal_tokens_enabled": enabled });
    for (stopping, starting, code) in [
        (of_all(false), of_all(true), "personal_tokens_disabled"),
        (method_asked(false), method_asked(true), "authentication_method_not_allowed"),
    ] {
        set(stopping);
        sidecar.request(&of_person).assert_error(403, code);
        // Application tokens are no people's: the policy's switches do not concern them.
        assert_eq!(sidecar.request(sidecar.get()).status, 200, "{code}");
        set(starting);
        assert_eq!(sidecar.request(&of_person).status, 200, "{code}");
    }
    // What `avn` shows of the use through the proxy.
    let Some(avn) = Avn::find(&OverTls::url(&sidecar), &OverTls::authority_file(&sidecar)) else { return };
    let avn = avn.with_token(&admin.token);
    let user = &sidecar.permitted.user_id;
    let list = ["application-user", "token", "list", user, "--verbose", "--organization-id", ORGANIZATION];
    assert_eq!(sidecar.request(sidecar.head("GET /", "User-Agent: python-requests/2.34.2\r\n")).status, 200);
    until("the second of the last use to be noted", || {
        sidecar.request(sidecar.head("GET /", "User-Agent: python-requests/2.34.2\r\n"));
        avn.run(&list).contains("Python Requests 2.34.2")
    });
    let table = avn.run(&list);
    assert!(table.contains("127.0.0.1") && table.contains(&sidecar.permitted.prefix), "{table}");
    let prefix = &sidecar.permitted.prefix;
    avn.run(&[
        "application-user",
        "token",
        "revoke",
        user,
        prefix,
        "--force",
        "--organization-id",
        ORGANIZATION,
    ]);
    sidecar.request(sidecar.get()).assert_error(401, "token_revoked");
}
