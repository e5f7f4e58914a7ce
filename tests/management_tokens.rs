//! Keeping tokens in order through the management API and the command line: which nobody uses, which have leaked, and a
//! new one in the place of an old one. Over a started sidecar.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::Write as _;
use std::process::{Command, Stdio};

use postern::directory::model::Timestamp;
use postern::token::TokenKind;
use serde_json::{Value, json};
use support::directory::{Credential, now};
use support::management::{ORGANIZATION, OTHER_ORGANIZATION};
use support::{Response, Sidecar, Upstream, until};

const DAY: u32 = 86_400;
const LEAKED: &str = "/v1/tokens/revoke-leaked";

fn start(more: &str) -> (Sidecar, Upstream) {
    let upstream = Upstream::echo();
    (Sidecar::in_front_of(&upstream).more(more).admin("").start(), upstream)
}

fn stale(query: &str) -> String {
    format!("/v1/organization/{ORGANIZATION}/tokens/stale?{query}")
}

#[track_caller]
fn good(response: &Response) -> Value {
    assert!((200..300).contains(&response.status), "{}: {}", response.status, response.text());
    if response.body.is_empty() { Value::Null } else { response.json() }
}

fn prefixes(page: &Value) -> Vec<String> {
    let tokens = page["tokens"].as_array().unwrap();
    tokens.iter().map(|token| token["token_prefix"].as_str().unwrap().to_owned()).collect()
}

fn status(sidecar: &Sidecar, credential: &Credential) -> u16 {
    sidecar.request(sidecar.head_with(&credential.token, "GET /", "")).status
}

/// A token of an application user, made so many days ago.
fn old_token(sidecar: &Sidecar, user: &str, days: u32) -> Credential {
    let time = Timestamp(now().0 - days * DAY);
    sidecar.directory.token_made_at(time, user, TokenKind::Application, |_| {})
}

fn postern(sidecar: &Sidecar, arguments: &[&str], input: &str) -> (Option<i32>, String) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_postern"))
        .args(arguments)
        .arg("--config")
        .arg(sidecar.config_file())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code(), text)
}

#[test]
fn tokens_that_nobody_uses_are_listed_the_longest_unused_first() {
    let (sidecar, _upstream) = start("");
    let user = sidecar.directory.application_user();
    sidecar.directory.grant(&user, &["admin"]);
    let tokens: Vec<_> = [400, 100, 91, 89, 1].map(|days| old_token(&sidecar, &user, days)).into();
    sidecar.wait_for(tokens.last().unwrap());
    let revoked = old_token(&sidecar, &user, 300);
    sidecar.directory.revoke(&revoked.prefix);
    let used = old_token(&sidecar, &user, 200);
    sidecar.wait_for(&used);
    assert_eq!(status(&sidecar, &used), 200);
    let api = sidecar.managed();
    let expected: Vec<_> = tokens.iter().take(3).map(|token| token.prefix.clone()).collect();
    let page = good(&api.get(&stale("unused_for_days=90&limit=999")));
    assert_eq!(prefixes(&page), expected);
    assert_eq!(page["count"], 3);
    let first = good(&api.get(&stale("unused_for_days=90&limit=2")));
    assert_eq!((prefixes(&first), first["count"].clone()), (expected[..2].to_vec(), json!(3)));
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = good(&api.get(&stale(&format!("limit=2&cursor={cursor}"))));
    assert_eq!((prefixes(&second), &second["next_cursor"]), (expected[2..].to_vec(), &Value::Null));
    for query in ["unused_for_days=0", "unused_for_days=x", "cursor=x"] {
        api.get(&stale(query)).assert_error(400, "bad_request");
    }
    sidecar.managed_as(&sidecar.permitted).get(&stale("")).assert_error(403, "permission_denied");
    let manager = sidecar.directory.organization_user_with(&["organization:app_users:write"]);
    let of_people = sidecar.directory.organization_user_with(&["organization:users:write"]);
    sidecar.wait_for(&of_people);
    assert_eq!(prefixes(&good(&sidecar.managed_as(&manager).get(&stale("")))), expected);
    assert!(prefixes(&good(&sidecar.managed_as(&of_people).get(&stale("")))).is_empty());

    // The command line asks the store.
    until("the use to be written", || sidecar.directory.stored(&used.prefix).usage.is_some());
    let (code, text) = postern(&sidecar, &["token", "stale", "--unused-for", "90d", "--json"], "");
    let shown: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, prefixes(&shown)), (Some(0), expected.clone()));
    let (code, text) = postern(&sidecar, &["token", "expire-unused", "--unused-for", "90d", "--dry-run"], "");
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(prefixes(&good(&api.get(&stale("")))), expected, "a dry run revokes nothing");
    // Nobody is at a terminal to agree, and a number alone would be seconds.
    for refused in
        [&["--unused-for", "90d"][..], &["--unused-for", "0d", "--yes"], &["--unused-for", "90", "--yes"]]
    {
        let (code, text) = postern(&sidecar, &[&["token", "expire-unused"], refused].concat(), "");
        assert_eq!(code, Some(2), "{refused:?}: {text}");
    }
    assert_eq!(prefixes(&good(&api.get(&stale("")))), expected, "nothing was revoked");
    let (code, text) = postern(&sidecar, &["token", "expire-unused", "--unused-for", "90d", "--yes"], "");
    assert_eq!(code, Some(0), "{text}");
    for token in &tokens[..3] {
        assert!(text.contains(&token.prefix), "{text}");
        until("the token to be refused", || status(&sidecar, token) == 401);
    }
    assert_eq!(status(&sidecar, &tokens[3]), 200);
}

#[test]
fn tokens_expire_by_themselves_where_the_configuration_says_so() {
    let (sidecar, _upstream) = start("[tokens]\nexpire_unused_after_days = 90\n");
    let user = sidecar.directory.application_user();
    sidecar.directory.grant(&user, &["admin"]);
    let fresh = old_token(&sidecar, &user, 80);
    let old = old_token(&sidecar, &user, 100);
    sidecar.wait_for(&old);
    // A reload looks at once; otherwise it happens once an hour.
    sidecar.signal("HUP");
    // To ask with the token would be to use it.
    let revoked = || sidecar.directory.stored(&old.prefix).token.revoked_time.is_some();
    until("the token to be revoked", revoked);
    until("the token to be refused", || status(&sidecar, &old) == 401);
    assert_eq!(status(&sidecar, &fresh), 200);
}

#[test]
fn leaked_tokens_are_revoked_before_the_answer_and_known_ones_read_as_unknown_ones_to_others() {
    let (sidecar, _upstream) = start("");
    let leaked: Vec<_> = (0..3).map(|_| sidecar.directory.permitted()).collect();
    let (person, method) = sidecar.directory.person("person@example.com");
    sidecar.directory.grant(&person, &["admin"]);
    let personal = sidecar.directory.token_with(&person, TokenKind::Personal, |new| {
        new.authentication_method_id = Some(method);
    });
    sidecar.wait_for(&personal);
    assert_eq!(status(&sidecar, &leaked[0]), 200);
    let api = sidecar.managed();
    let unknown = "a-token-that-nobody-has-made";
    let answer = good(&api.post(LEAKED, json!({ "tokens": [leaked[0].token, unknown, personal.token] })));
    let tokens = answer["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 3);
    assert_eq!(tokens[0]["token"]["user_id"], *leaked[0].user_id);
    assert_eq!(tokens[0]["token"]["last_ip"], "127.0.0.1");
    assert_eq!(tokens[0]["was_revoked"], false);
    assert!(tokens[0]["token"]["revoked_time"].is_string());
    assert_eq!(tokens[1], json!({ "position": 2, "token_prefix": null, "is_void": true }));
    assert_eq!(tokens[2]["token"]["user_email"], "person@example.com");
    assert!(!answer.to_string().contains(&leaked[0].token), "no full token comes back");
    // The very next request is refused.
    sidecar.request(sidecar.head_with(&leaked[0].token, "GET /", "")).assert_error(401, "token_revoked");
    sidecar.request(sidecar.head_with(&personal.token, "GET /", "")).assert_error(401, "token_revoked");

    // Somebody who manages nobody: known and unknown read the same, and the token is void all the same.
    let nobody = sidecar.managed_as(&sidecar.permitted);
    let well_formed = postern::token::FreshToken::generate(TokenKind::Application).unwrap();
    let made_up = secrecy::ExposeSecret::expose_secret(&well_formed.full).to_owned();
    let text = format!("# a log\nAuthorization: Bearer {}\ntoken={made_up}\n", leaked[1].token);
    let answer = good(&nobody.post(LEAKED, json!({ "text": text })));
    assert_eq!(
        answer["tokens"],
        json!([
            { "position": 2, "token_prefix": leaked[1].prefix, "is_void": true },
            { "position": 3, "token_prefix": well_formed.prefix, "is_void": true },
        ])
    );
    sidecar.request(sidecar.head_with(&leaked[1].token, "GET /", "")).assert_error(401, "token_revoked");
    // To repeat it does no harm, and says so to who may know.
    let again = good(&api.post(LEAKED, json!({ "tokens": [leaked[1].token] })));
    assert_eq!(again["tokens"][0]["was_revoked"], true);

    for body in [
        json!({}),
        json!({ "tokens": [], "text": "" }),
        json!({ "tokens": vec!["x"; 1_001] }),
        json!({ "token": "x" }),
    ] {
        api.post(LEAKED, body).assert_error(400, "bad_request");
    }
    let (code, text) = postern(
        &sidecar,
        &["token", "leaked", "--json"],
        &format!("curl -H 'Authorization: Bearer {}'", leaked[2].token),
    );
    assert_eq!(code, Some(0), "{text}");
    let shown: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(shown["tokens"][0]["token"]["token_prefix"], *leaked[2].prefix);
    until("the token to be refused", || status(&sidecar, &leaked[2]) == 401);
    let other = stale("").replace(ORGANIZATION, OTHER_ORGANIZATION);
    api.get(&other).assert_error(404, "not_found");
}

#[test]
fn a_token_is_rotated_with_an_overlap_in_which_both_work() {
    let (sidecar, _upstream) = start("");
    let user = sidecar.directory.application_user();
    sidecar.directory.grant(&user, &["admin"]);
    let old = sidecar.directory.token_with(&user, TokenKind::Application, |new| {
        new.description = "the fleet's".into();
        new.ip_allowlist = vec!["127.0.0.0/8".into()];
        new.scopes = vec!["project:services:read".into()];
        new.max_age_seconds = Some(86_400);
        new.extend_when_used = true;
    });
    sidecar.wait_for(&old);
    let api = sidecar.managed();
    let rotate = |prefix: &str| {
        format!("/v1/organization/{ORGANIZATION}/application-users/{user}/access-tokens/{prefix}/rotate")
    };
    let new = good(&api.post(&rotate(&old.prefix), json!({ "overlap_seconds": 3 })));
    assert_eq!(new["description"], "the fleet's");
    assert_eq!(new["ip_allowlist"], json!(["127.0.0.0/8"]));
    assert_eq!(new["scopes"], json!(["project:services:read"]));
    assert_eq!((&new["max_age_seconds"], &new["extend_when_used"]), (&json!(86_400), &json!(true)));
    assert_eq!(new["replaced"]["token_prefix"], *old.prefix);
    assert!(new["replaced"]["expiry_time"].is_string());
    assert_eq!(
        (&new["replaced"]["successor_prefix"], &new["successor_prefix"]),
        (&new["token_prefix"], &Value::Null)
    );
    let successor = Credential {
        token: new["full_token"].as_str().unwrap().to_owned(),
        prefix: new["token_prefix"].as_str().unwrap().to_owned(),
        user_id: user.clone(),
    };
    assert_ne!(successor.prefix, old.prefix);
    // In force when it is answered; being used does not save the old one.
    assert_eq!((status(&sidecar, &old), status(&sidecar, &successor)), (200, 200));
    until("the old token to end", || status(&sidecar, &old) == 401);
    sidecar.request(sidecar.head_with(&old.token, "GET /", "")).assert_error(401, "token_expired");
    assert_eq!(status(&sidecar, &successor), 200);

    let (code, text) =
        postern(&sidecar, &["token", "rotate", &successor.prefix, "--overlap", "0", "--json"], "");
    assert_eq!(code, Some(0), "{text}");
    let last: Value = serde_json::from_str(&text).unwrap();
    assert!(last["replaced"]["revoked_time"].is_string());
    assert_eq!(last["replaced"]["successor_prefix"], last["token_prefix"]);
    until("the successor to end", || status(&sidecar, &successor) == 401);
    let full = last["full_token"].as_str().unwrap();
    assert_eq!(sidecar.request(sidecar.head_with(full, "GET /", "")).status, 200);

    api.post(&rotate(&successor.prefix), json!({})).assert_error(400, "bad_request");
    api.post(&rotate("psta_nothing"), json!({})).assert_error(404, "not_found");
    let last = last["token_prefix"].as_str().unwrap();
    api.post(&rotate(last), json!({ "overlap_seconds": 2_592_001 })).assert_error(400, "bad_request");
    api.post(&rotate(last), json!({ "overlap": 1 })).assert_error(400, "bad_request");
    // Who only manages application users makes no token for one that has been granted something.
    let manager = sidecar.directory.organization_user_with(&["organization:app_users:write"]);
    sidecar.wait_for(&manager);
    let refused = sidecar.managed_as(&manager).post(&rotate(last), json!({}));
    refused.assert_error(403, "user_has_more_than_caller");
}
