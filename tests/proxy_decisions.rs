//! Every reason for a refusal, from the client's request to the client's answer, over HTTP/1.1 and HTTP/2; and that
//! nothing of a refused request reaches the upstream.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use postern::directory::model::{MethodKind, Timestamp};
use postern::directory::operations;
use postern::policy::facts::UserState;
use postern::token::TokenKind;
use support::directory::{Credential, now};
use support::http2::{empty, request_with};
use support::sidecar::HOST;
use support::{Directory, Http2Client, Response, Sidecar, Upstream};

/// Sends a POST with these `Authorization` lines over both protocols and checks the refusal.
#[track_caller]
fn refused(sidecar: &Sidecar, authorization: &[&str], status: u16, code: &str) -> Response {
    let lines: String = authorization.iter().map(|value| format!("Authorization: {value}\r\n")).collect();
    let over_1 =
        sidecar.request(format!("POST /items HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n{lines}\r\n"));
    over_1.assert_error(status, code);

    let mut request = request_with("", "POST", "/items", empty());
    request.headers_mut().remove("authorization");
    for value in authorization {
        request.headers_mut().append("authorization", value.parse().unwrap());
    }
    let over_2 = Http2Client::connect(sidecar.address()).request(request);
    over_2.assert_error(status, code);

    for response in [&over_1, &over_2] {
        assert_eq!(response.values("cache-control"), ["no-store"]);
        assert_eq!(response.values("content-type"), ["application/json"]);
        let [request_id] = response.values("x-postern-request-id")[..] else { panic!("one request id") };
        assert_eq!(request_id.len(), 32);
        let body = response.json();
        assert_eq!(body["message"], body["errors"][0]["message"]);
        assert_eq!(body["errors"][0]["status"], status);
        assert_eq!(response.values("www-authenticate"), challenge(status, code), "{code}");
    }
    over_1
}

fn challenge(status: u16, code: &str) -> Vec<&'static str> {
    match (status, code) {
        (401, "missing_credentials") => vec![r#"Bearer realm="Example""#],
        (401, _) => vec![r#"Bearer realm="Example", error="invalid_token""#],
        (403, "insufficient_scope" | "permission_denied") => {
            vec![r#"Bearer realm="Example", error="insufficient_scope", scope="service:data:write""#]
        }
        _ => vec![],
    }
}

/// Refuses a known token: its holder learns the reason and the prefix, never the token.
#[track_caller]
fn refused_token(sidecar: &Sidecar, credential: &Credential, status: u16, code: &str) {
    // Changes take effect in their order: once a token made now is known, all that happened to this one is in force.
    sidecar.wait_for(&sidecar.directory.permitted());
    let response = refused(sidecar, &[&format!("Bearer {}", credential.token)], status, code);
    assert_eq!(response.json()["errors"][0]["token_prefix"], credential.prefix.as_str());
    assert!(!response.text().contains(&credential.token), "the token itself is not repeated");
}

/// A person that may do everything, with a token of some kind bound to the password method.
fn person(directory: &Directory, kind: TokenKind) -> Credential {
    let (user, method) = directory.person("jane@example.com");
    directory.grant(&user, &["admin"]);
    directory.token_with(&user, kind, |token| token.authentication_method_id = Some(method))
}

#[test]
fn a_permitted_request_reaches_the_upstream() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let response = sidecar.request(sidecar.head("GET /items?page=2", ""));
    assert_eq!(response.status, 200);
    assert_eq!(upstream.only_request().target, "/items?page=2");
    let response = Http2Client::connect(sidecar.address()).request(support::http2::get(&sidecar, "/second"));
    assert_eq!(response.status, 200);
    assert_eq!(upstream.requests()[1].target, "/second");
    sidecar.stop();
}

#[test]
fn the_scheme_is_bearer_or_aivenv1_in_any_case() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    for scheme in ["Bearer", "bearer", "BEARER", "aivenv1", "AivenV1"] {
        let token = &sidecar.permitted.token;
        let head = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {scheme} {token}\r\n\r\n");
        assert_eq!(sidecar.request(head).status, 200, "{scheme}");
    }
}

#[test]
fn without_credentials() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    refused(&sidecar, &[], 401, "missing_credentials");
    upstream.assert_untouched();
}

/// The many ways to be no token are in `wire/row_12_credentials.rs` and `wire/row_23_guesses.rs`.
#[test]
fn with_a_token_that_nobody_has() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    refused(&sidecar, &["Bearer a-token-of-somebody-else"], 401, "invalid_token");
    upstream.assert_untouched();
}

#[test]
fn tokens_and_users_that_have_ended() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let directory = &sidecar.directory;
    let store = &*directory.store;

    let revoked = directory.permitted();
    directory.revoke(&revoked.prefix);
    refused_token(&sidecar, &revoked, 401, "token_revoked");

    let before = directory.permitted();
    operations::expire_tokens(store, &before.user_id, now()).unwrap();
    sidecar.wait_for(&directory.permitted());
    refused_token(&sidecar, &before, 401, "token_revoked");

    let user = directory.application_user();
    let hour_ago = Timestamp(now().0 - 3600);
    let ended = |token: &mut operations::NewToken| token.max_age_seconds = Some(600);
    let expired = directory.token_made_at(hour_ago, &user, TokenKind::Application, ended);
    refused_token(&sidecar, &expired, 401, "token_expired");

    let deactivated = directory.permitted();
    operations::set_user_state(store, &deactivated.user_id, UserState::Deactivated, now()).unwrap();
    refused_token(&sidecar, &deactivated, 401, "user_deactivated");

    let deleted = directory.permitted();
    operations::delete_user(store, &deleted.user_id, now()).unwrap();
    refused_token(&sidecar, &deleted, 401, "user_deleted");
    upstream.assert_untouched();
}

#[test]
fn users_and_tokens_of_another_place() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let directory = &sidecar.directory;
    operations::ensure_organization(&*directory.store, "org000000other", "Other", now()).unwrap();
    let stranger = directory.application_user_of("org000000other");
    refused_token(&sidecar, &directory.token(&stranger), 403, "not_a_member");

    let user = directory.application_user();
    directory.grant(&user, &["admin"]);
    let elsewhere = directory.token_with(&user, TokenKind::Application, |token| {
        token.ip_allowlist = vec!["192.0.2.0/24".into()];
    });
    refused_token(&sidecar, &elsewhere, 403, "ip_not_allowed_by_token");
    upstream.assert_untouched();
}

#[test]
fn addresses_that_the_organization_does_not_allow() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream)
        .organization("[organization.authentication]\nallowed_ip_ranges = [\"192.0.2.0/24\"]")
        .start();
    let permitted = sidecar.permitted.clone();
    refused_token(&sidecar, &permitted, 403, "ip_not_allowed_by_organization");
    upstream.assert_untouched();
}

#[test]
fn what_a_token_was_not_made_for_or_its_user_not_granted() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let directory = &sidecar.directory;
    let user = directory.application_user();
    directory.grant(&user, &["admin"]);
    let reading = directory.token_with(&user, TokenKind::Application, |token| {
        token.scopes = vec!["project:services:read".into()];
    });
    refused_token(&sidecar, &reading, 403, "insufficient_scope");

    let user = directory.application_user();
    let ungranted = directory.token(&user);
    refused_token(&sidecar, &ungranted, 403, "permission_denied");

    directory.grant(&user, &["read_only"]);
    let reader = directory.token(&user);
    refused_token(&sidecar, &reader, 403, "permission_denied");
    upstream.assert_untouched();

    assert_eq!(sidecar.request(sidecar.head_with(&reader.token, "GET /", "")).status, 200);
    assert_eq!(sidecar.request(sidecar.head_with(&reader.token, "OPTIONS /", "")).status, 200);
    assert_eq!(sidecar.request(sidecar.head_with(&reading.token, "HEAD /", "")).status, 200);
    for method in ["PUT", "PATCH", "DELETE", "PROPFIND"] {
        let head = sidecar.head_with(&reader.token, &format!("{method} /"), "Content-Length: 0\r\n");
        sidecar.request(head).assert_error(403, "permission_denied");
    }
}

#[test]
fn login_methods_that_the_organization_does_not_allow() {
    let upstream = Upstream::echo();
    let off = |lines: &str| {
        let lines = format!("[organization.authentication]\n{lines}");
        Sidecar::in_front_of(&upstream).organization(&lines).start()
    };

    let sidecar = off("personal_tokens_enabled = false");
    let personal = person(&sidecar.directory, TokenKind::Personal);
    refused_token(&sidecar, &personal, 403, "personal_tokens_disabled");

    let sidecar = off("password_auth_enabled = false");
    let session = person(&sidecar.directory, TokenKind::Session);
    refused_token(&sidecar, &session, 403, "authentication_method_not_allowed");

    let sidecar = off("password_auth_enabled = false\npersonal_tokens_require_allowed_auth_method = true");
    let personal = person(&sidecar.directory, TokenKind::Personal);
    refused_token(&sidecar, &personal, 403, "authentication_method_not_allowed");

    let sidecar = off("two_factor_required = true");
    let session = person(&sidecar.directory, TokenKind::Session);
    refused_token(&sidecar, &session, 403, "two_factor_required");

    let sidecar = off("saml_allow_external = false");
    let directory = &sidecar.directory;
    let provider = directory.identity_provider("org000000other");
    let (user, _) = directory.person("joe@example.com");
    let method = directory.method(&user, MethodKind::IdentityProvider, Some(&provider));
    let session = directory
        .token_with(&user, TokenKind::Session, |token| token.authentication_method_id = Some(method));
    refused_token(&sidecar, &session, 403, "external_identity_provider_not_allowed");
    upstream.assert_untouched();
}

#[test]
fn login_methods_that_the_organization_allows() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream)
        .organization("[organization.authentication]\npassword_auth_enabled = false")
        .start();
    // The switch concerns people's sessions: neither application tokens nor, by default, personal ones.
    let personal = person(&sidecar.directory, TokenKind::Personal);
    sidecar.wait_for(&personal);
    assert_eq!(sidecar.request(sidecar.head_with(&personal.token, "GET /", "")).status, 200);
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
}

#[test]
fn no_route_is_told_only_to_holders_of_a_valid_token() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let get = |lines: &str| sidecar.request(format!("GET /x HTTP/1.1\r\nHost: unknown.test\r\n{lines}\r\n"));
    get("").assert_error(401, "missing_credentials");
    get("Authorization: Bearer a-token-of-somebody-else\r\n").assert_error(401, "invalid_token");
    let token = &sidecar.permitted.token;
    get(&format!("Authorization: Bearer {token}\r\n")).assert_error(404, "no_route");
    let revoked = sidecar.directory.permitted();
    sidecar.directory.revoke(&revoked.prefix);
    sidecar.wait_for(&revoked);
    get(&format!("Authorization: Bearer {}\r\n", revoked.token)).assert_error(401, "token_revoked");
    upstream.assert_untouched();
}

#[test]
fn an_open_route_asks_for_nothing_and_identifies_nobody() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let token = &sidecar.permitted.token;
    let head = format!(
        "GET / HTTP/1.1\r\nHost: open.test\r\nAuthorization: Bearer {token}\r\nX-Postern-User-Id: me\r\n\r\n"
    );
    assert_eq!(sidecar.request(head).status, 200);
    let request = upstream.only_request();
    assert_eq!(request.header("authorization"), None);
    assert_eq!(request.header("x-postern-user-id"), None);
    assert_eq!(request.values("x-postern-request-id").len(), 1);
}
