//! The authentication policy through the management API: reading and changing it, what a change would do and then does,
//! a policy that is tried, and why a request was refused. Over a started sidecar.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::process::Command;

use postern::directory::model::MethodKind;
use postern::directory::operations;
use postern::token::TokenKind;
use serde_json::{Value, json};
use support::directory::{Credential, now};
use support::management::{Api, ORGANIZATION, OTHER_ORGANIZATION};
use support::{Response, Sidecar, Upstream, until};

fn start() -> (Sidecar, Upstream) {
    let upstream = Upstream::echo();
    (Sidecar::in_front_of(&upstream).admin("").start(), upstream)
}

fn policy() -> String {
    format!("/v1/organization/{ORGANIZATION}/config/authentication")
}

#[track_caller]
fn good(response: &Response) -> Value {
    assert!((200..300).contains(&response.status), "{}: {}", response.status, response.text());
    if response.body.is_empty() { Value::Null } else { response.json() }
}

/// Personal and session tokens of people who log in in different ways, all of whom may read.
fn people(sidecar: &Sidecar) -> Vec<Credential> {
    let directory = &sidecar.directory;
    let mut tokens = Vec::new();
    for (number, kind) in [MethodKind::Password, MethodKind::Google, MethodKind::GitHub].iter().enumerate() {
        let (user, password) = directory.person(&format!("person{number}@example.com"));
        directory.grant(&user, &["admin"]);
        let method = match kind {
            MethodKind::Password => password,
            kind => directory.method(&user, *kind, None),
        };
        for kind in [TokenKind::Personal, TokenKind::Session] {
            tokens.push(directory.token_with(&user, kind, |new| {
                new.authentication_method_id = Some(method.clone());
            }));
        }
    }
    sidecar.wait_for(tokens.last().unwrap());
    tokens
}

fn status(sidecar: &Sidecar, credential: &Credential) -> u16 {
    sidecar.request(sidecar.head_with(&credential.token, "GET /", "")).status
}

fn prefixes(tokens: &Value) -> BTreeSet<String> {
    let tokens = tokens["tokens"].as_array().unwrap();
    tokens.iter().map(|token| token["token_prefix"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_admin_reads_and_changes_the_policy_and_nobody_else_does() {
    let (sidecar, _upstream) = start();
    let api = sidecar.managed();
    let shown = api.get(&policy());
    assert_eq!(
        good(&shown),
        json!({
            "password_auth_enabled": true, "two_factor_required": false, "oauth_enabled": true,
            "saml_enabled": true, "saml_allow_external": true, "personal_tokens_enabled": true,
            "personal_tokens_require_allowed_auth_method": false, "mcp_enabled": true, "allowed_ip_ranges": [],
        })
    );
    let version = shown.header("etag").unwrap().to_owned();
    let body = json!({ "oauth_enabled": false, "allowed_ip_ranges": ["127.0.0.1", "10.0.0.0/8"] });
    let changed = good(&api.patch(&policy(), body));
    assert_eq!(changed["oauth_enabled"], false);
    assert_eq!(changed["password_auth_enabled"], true);
    assert_eq!(changed["allowed_ip_ranges"], json!(["127.0.0.1/32", "10.0.0.0/8"]));
    assert_eq!(good(&api.get(&policy())), changed);
    // Of two who change one thing, the second hears of it.
    let line = format!("If-Match: {version}\r\n");
    let late = api.send_with("PATCH", &policy(), &line, Some(r#"{"mcp_enabled": false}"#));
    assert_eq!(late.status, 409, "{}", late.text());
    assert_eq!(good(&api.get(&policy()))["mcp_enabled"], true);
    assert_eq!(good(&api.patch(&policy(), json!({}))), changed);

    for (body, named) in [
        (r#"{"oauth_enabeld": true}"#, "oauth_enabeld"),
        (r#"{"oauth_enabled": "yes"}"#, "oauth_enabled"),
        (r#"{"allowed_ip_ranges": ["10.0.0.0/33"]}"#, "allowed_ip_ranges"),
        (r#"{"allowed_ip_ranges": "10.0.0.0/8"}"#, "allowed_ip_ranges"),
    ] {
        let refused = api.send("PATCH", &policy(), Some(body));
        refused.assert_error(400, "bad_request");
        assert!(refused.json()["message"].as_str().unwrap().contains(named), "{}", refused.text());
    }
    let member = sidecar.managed_as(&sidecar.permitted);
    for (method, path) in
        [("GET", ""), ("PATCH", ""), ("GET", "/preview"), ("GET", "/candidate"), ("PUT", "/candidate")]
    {
        member.send(method, &(policy() + path), None).assert_error(403, "permission_denied");
    }
    let elsewhere = policy().replace(ORGANIZATION, OTHER_ORGANIZATION);
    api.get(&elsewhere).assert_error(404, "not_found");
}

#[test]
fn a_pinned_policy_is_changed_in_the_file_that_the_answer_names() {
    let upstream = Upstream::echo();
    let pinned = "[organization.authentication]\noauth_enabled = false\n";
    let sidecar = Sidecar::in_front_of(&upstream).organization(pinned).admin("").start();
    let api = sidecar.managed();
    assert_eq!(good(&api.get(&policy()))["oauth_enabled"], false);
    let refused = api.patch(&policy(), json!({ "oauth_enabled": true }));
    refused.assert_error(409, "policy_pinned");
    assert!(refused.json()["message"].as_str().unwrap().contains("postern.toml"), "{}", refused.text());
    // What would come of unpinning it can be asked all the same.
    assert_eq!(good(&api.get(&(policy() + "/preview?oauth_enabled=true")))["stopping"]["count"], 0);
}

#[test]
fn what_a_preview_lists_is_what_then_stops_and_starts() {
    let (sidecar, _upstream) = start();
    let api = sidecar.managed();
    let tokens = people(&sidecar);
    for token in tokens.iter().take(3) {
        assert_eq!(status(&sidecar, token), 200);
    }
    let ask = |query: &str| good(&api.get(&format!("{}/preview?limit=999&{query}", policy())));
    let changes = [
        json!({ "password_auth_enabled": false }),
        json!({ "password_auth_enabled": false, "personal_tokens_require_allowed_auth_method": true }),
        json!({ "password_auth_enabled": true, "oauth_enabled": false, "personal_tokens_enabled": false }),
        json!({ "personal_tokens_enabled": true, "personal_tokens_require_allowed_auth_method": false }),
        json!({ "two_factor_required": true, "oauth_enabled": true }),
    ];
    for change in changes {
        let pairs = change.as_object().unwrap().iter().map(|(key, value)| format!("{key}={value}"));
        let query = pairs.collect::<Vec<_>>().join("&");
        let preview = ask(&query);
        let specific =
            ask(&format!("{query}&project=demo&permission=project:services:read&client_address=127.0.0.1"));
        let works = |credential: &Credential| status(&sidecar, credential) == 200;
        let before: Vec<bool> = tokens.iter().map(works).collect();
        good(&api.patch(&policy(), change));
        let after: Vec<bool> = tokens.iter().map(works).collect();
        let those = |was: bool, is: bool| -> BTreeSet<String> {
            let each = tokens.iter().zip(before.iter().zip(&after));
            each.filter(|(_, (before, after))| (**before, **after) == (was, is))
                .map(|(credential, _)| credential.prefix.clone())
                .collect()
        };
        for preview in [&preview, &specific] {
            assert_eq!(prefixes(&preview["stopping"]), those(true, false), "{query}");
            assert_eq!(prefixes(&preview["starting"]), those(false, true), "{query}");
        }
    }
}

#[test]
fn a_preview_says_whose_tokens_they_are_and_how_they_are_used() {
    let (sidecar, _upstream) = start();
    let api = sidecar.managed();
    let tokens = people(&sidecar);
    for _ in 0..3 {
        assert_eq!(status(&sidecar, &tokens[0]), 200);
    }
    let query = "/preview?personal_tokens_enabled=false";
    let preview = eventually_with(
        || good(&api.get(&(policy() + query))),
        |preview| {
            let tokens = preview["stopping"]["tokens"].as_array().unwrap();
            tokens.iter().any(|token| token["request_count"] == 3)
        },
    );
    assert_eq!(preview["policy_after"]["personal_tokens_enabled"], false);
    assert_eq!(preview["stopping"]["by_reason"], json!({ "personal_tokens_disabled": 3 }));
    let listed = preview["stopping"]["tokens"].as_array().unwrap();
    let used = listed.iter().find(|token| token["token_prefix"] == *tokens[0].prefix).unwrap();
    assert_eq!(used["kind"], "personal");
    assert_eq!(used["user_id"], *tokens[0].user_id);
    assert_eq!(used["user_email"], "person0@example.com");
    assert_eq!(used["authentication_method"], "password");
    assert_eq!(used["last_ip"], "127.0.0.1");
    assert_eq!(used["client_address"], "127.0.0.1");
    assert_eq!(used["reason_before"], Value::Null);
    assert_eq!(used["reason_after"], "personal_tokens_disabled");
    let unused = listed.iter().find(|token| token["token_prefix"] == *tokens[2].prefix).unwrap();
    assert_eq!((unused["request_count"].clone(), unused["client_address"].clone()), (json!(0), Value::Null));
    let users = preview["users"].as_array().unwrap();
    assert_eq!(users.len(), 3);
    assert_eq!(users[0]["tokens_working_before"], 2);
    assert_eq!(users[0]["tokens_working_after"], 1);
    // Page by page, each once.
    let mut paged = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let page = good(&api.get(&format!("{}{query}&limit=1{cursor}", policy())));
        assert!(page["stopping"]["tokens"].as_array().unwrap().len() <= 1);
        paged.extend(prefixes(&page["stopping"]));
        let Some(next) = page["next_cursor"].as_u64() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, prefixes(&preview["stopping"]));
    let base = policy();
    api.get(&format!("{base}/preview?oauth_enabled=perhaps")).assert_error(400, "bad_request");
    api.get(&format!("{base}/preview?project=demo")).assert_error(400, "bad_request");
    api.get(&format!("{base}/preview?project=nothing&permission=service:data:write"))
        .assert_error(404, "not_found");
    api.get(&format!("{base}/preview?client_address=here")).assert_error(400, "bad_request");
}

/// Asks until the answer is as it should be.
#[track_caller]
fn eventually_with(ask: impl Fn() -> Value, is_good: impl Fn(&Value) -> bool) -> Value {
    support::eventually("the right answer", || Some(ask()).filter(|answer| is_good(answer)))
}

#[test]
fn a_candidate_refuses_nothing_and_what_it_would_do_is_counted_and_logged() {
    let (sidecar, _upstream) = start();
    let api = sidecar.managed();
    let tokens = people(&sidecar);
    let candidate = policy() + "/candidate";
    assert_eq!(good(&api.get(&candidate))["candidate"], Value::Null);
    good(&api.patch(&policy(), json!({ "oauth_enabled": false })));
    let put = good(&api.put(&candidate, json!({ "oauth_enabled": true, "password_auth_enabled": false })));
    assert_eq!(put["candidate"]["password_auth_enabled"], false);
    assert_eq!((&put["requests"], &put["would_deny"]), (&json!(0), &json!({})));
    // In turn: password personal and session, Google personal and session, GitHub personal and session.
    let statuses: Vec<u16> = tokens.iter().map(|token| status(&sidecar, token)).collect();
    assert_eq!(statuses, [200, 200, 200, 403, 200, 403]);
    let shown = good(&api.get(&candidate));
    assert_eq!(shown["requests"], 6);
    assert_eq!(shown["would_deny"], json!({ "authentication_method_not_allowed": 1 }));
    assert_eq!(shown["would_permit"], json!({ "authentication_method_not_allowed": 2 }));
    let reason = r#"{route="main",reason="authentication_method_not_allowed"}"#;
    assert_eq!(sidecar.metric(&format!("postern_would_deny_total{reason}")), 1.0);
    assert_eq!(sidecar.metric(&format!("postern_would_permit_total{reason}")), 2.0);
    let logged = |key: &str, prefix: &str| {
        let matches = |line: &Value| line["token_prefix"] == *prefix && !line[key].is_null();
        until(key, || sidecar.access_log(6).iter().any(matches));
    };
    logged("would_deny", &tokens[1].prefix);
    logged("would_permit", &tokens[3].prefix);
    // The preview asks about it when no key is named.
    assert_eq!(good(&api.get(&(policy() + "/preview")))["stopping"]["count"], 1);
    // A rename keeps the counts, another candidate starts anew.
    operations::rename_organization(&*sidecar.directory.store, ORGANIZATION, "Renamed", now()).unwrap();
    assert_eq!(good(&api.get(&candidate))["requests"], 6);
    assert_eq!(good(&api.put(&candidate, json!({ "mcp_enabled": false })))["requests"], 0);
    assert_eq!(api.delete(&candidate).status, 204);
    let log = format!("/v1/organization/{ORGANIZATION}/events?entity=candidate_policy&order=oldest_first");
    let log = good(&api.get(&log));
    let types: Vec<&str> =
        log["events"].as_array().unwrap().iter().map(|event| event["event_type"].as_str().unwrap()).collect();
    assert_eq!(types, ["candidate_policy_created", "candidate_policy_changed", "candidate_policy_deleted"]);
    assert_eq!(good(&api.get(&candidate))["candidate"], Value::Null);
    assert_eq!(status(&sidecar, &tokens[1]), 200);
}

#[test]
fn a_refused_request_is_explained_by_its_id_to_those_who_may_know() {
    let (sidecar, _upstream) = start();
    let api = sidecar.managed();
    let tokens = people(&sidecar);
    good(&api.patch(&policy(), json!({ "password_auth_enabled": false })));
    let refused = sidecar.request(sidecar.head_with(&tokens[1].token, "POST /path", "Content-Length: 0\r\n"));
    refused.assert_error(403, "authentication_method_not_allowed");
    let id = refused.header("x-postern-request-id").unwrap().to_owned();
    // What changes afterwards changes nothing about what was.
    good(&api.patch(&policy(), json!({ "password_auth_enabled": true })));
    let decision = |id: &str| format!("/v1/organization/{ORGANIZATION}/decisions/{id}");
    let shown = good(&api.get(&decision(&id)));
    assert_eq!(shown["reason"], "authentication_method_not_allowed");
    assert_eq!(shown["token_prefix"], *tokens[1].prefix);
    assert_eq!(shown["user_id"], *tokens[1].user_id);
    assert_eq!((&shown["route"], &shown["project"]), (&json!("main"), &json!("demo")));
    assert_eq!(shown["required_permission"], "service:data:write");
    let failed: Vec<&Value> =
        shown["checks"].as_array().unwrap().iter().filter(|row| row["result"] == "failed").collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["number"], 11);
    assert!(failed[0]["inputs"].as_str().unwrap().contains("password_auth_enabled: false"));
    assert_eq!(shown["checks"].as_array().unwrap().len(), 14);

    // A stranger's, in between many.
    let unknown = "psta_0000000000000000000000000000000000000000";
    let stranger = sidecar.request(sidecar.head_with("a-token-that-nobody-has-made", "GET /", ""));
    let stranger_id = stranger.header("x-postern-request-id").unwrap();
    assert_eq!(good(&api.get(&decision(stranger_id)))["reason"], "unknown_token");
    let malformed = sidecar.request(sidecar.head_with(unknown, "GET /", ""));
    let malformed_id = malformed.header("x-postern-request-id").unwrap();
    assert_eq!(good(&api.get(&decision(malformed_id)))["reason"], "malformed_credentials");

    api.get(&decision(&"0".repeat(32))).assert_error(404, "not_found");
    api.get(&decision("x%0d%0ay")).assert_error(404, "not_found");
    sidecar.managed_as(&sidecar.permitted).get(&decision(&id)).assert_error(403, "permission_denied");
    let other = decision(&id).replace(ORGANIZATION, OTHER_ORGANIZATION);
    api.get(&other).assert_error(404, "not_found");

    // The same on the machine itself.
    let explain = |id: &str| {
        let config = sidecar.config_file();
        Command::new(env!("CARGO_BIN_EXE_postern"))
            .args(["explain", "--json", "--request-id", id, "--config"])
            .arg(config)
            .output()
            .unwrap()
    };
    let told = explain(&id);
    assert_eq!(told.status.code(), Some(1), "{}", String::from_utf8_lossy(&told.stderr));
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["reason"], shown["reason"]);
    assert_eq!(told["checks"].as_array().unwrap().len(), 14);
    let forgotten = explain(&"0".repeat(32));
    assert_eq!(forgotten.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&forgotten.stderr).contains("does not remember"));
}

#[test]
fn strangers_do_not_push_out_the_denials_of_known_tokens() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).admin("").one_worker().start();
    let api = sidecar.managed();
    let ungranted = sidecar.directory.token(&sidecar.directory.application_user());
    sidecar.wait_for(&ungranted);
    let refused = sidecar.request(sidecar.head_with(&ungranted.token, "GET /", ""));
    let id = refused.header("x-postern-request-id").unwrap();
    let mut client = sidecar.connect();
    for _ in 0..10_500 {
        assert_eq!(
            client.request(sidecar.head_with("a-token-that-nobody-has-made", "GET /", "")).status,
            401
        );
    }
    let shown = good(&api.get(&format!("/v1/organization/{ORGANIZATION}/decisions/{id}")));
    assert_eq!(shown["reason"], "permission_denied");
}

#[test]
fn what_if_is_answered_by_the_deciding_code() {
    let (sidecar, _upstream) = start();
    let api = sidecar.managed();
    let tokens = people(&sidecar);
    let explain = format!("/v1/organization/{ORGANIZATION}/explain");
    let asked = json!({
        "token_prefix": tokens[1].prefix, "url": "service.test/write", "method": "POST",
        "client_address": "127.0.0.1", "policy": { "password_auth_enabled": false },
    });
    let answer = good(&api.post(&explain, asked));
    assert_eq!((&answer["route"], &answer["project"]), (&json!("main"), &json!("demo")));
    assert_eq!(answer["required_permission"], "service:data:write");
    let decision = &answer["decisions"][0];
    assert_eq!((&decision["decision"], &decision["reason"]), (&json!("permit"), &Value::Null));
    assert_eq!(decision["under_policy"]["reason"], "authentication_method_not_allowed");
    assert_eq!(decision["under_policy"]["status"], 403);

    let asked =
        json!({ "user_id": tokens[0].user_id, "project": "demo", "permission": "service:data:write" });
    let answer = good(&api.post(&explain, asked));
    assert_eq!(answer["decisions"].as_array().unwrap().len(), 2);

    for (body, code, says) in [
        (json!({ "project": "demo", "permission": "service:data:write" }), 400, "token_prefix"),
        (json!({ "token_prefix": "x", "project": "demo" }), 400, "permission"),
        (json!({ "token_prefix": "x", "project": "demo", "permission": "fly" }), 400, "permission"),
        (
            json!({ "token_prefix": "nothing", "project": "demo", "permission": "service:data:write" }),
            404,
            "token",
        ),
        (json!({ "token_prefix": "nothing", "url": "other.test/" }), 404, "route"),
        (json!({ "token_prefix": "nothing", "url": "service.test/%2e%2e%2f" }), 400, "url"),
        (json!({ "token_prefix": "nothing", "url": "open.test/" }), 409, "open"),
        (json!({ "tokenprefix": "nothing" }), 400, "tokenprefix"),
    ] {
        let refused = api.post(&explain, body);
        assert_eq!(refused.status, code, "{}", refused.text());
        assert!(refused.json()["message"].as_str().unwrap().contains(says), "{says}: {}", refused.text());
    }
    let member = Api::new(sidecar.admin.unwrap(), &sidecar.permitted.token);
    member.post(&explain, json!({})).assert_error(403, "permission_denied");
}

#[test]
fn what_is_known_of_headers_and_query_chooses_the_route() {
    let upstream = Upstream::echo();
    let other = "[[routes]]\nname = \"other\"\nhosts = [\"service.test\"]\nmatch_headers = { \"x-version\" = \"2\" }\n\
        match_query = { tenant = \"a\" }\nproject = \"demo\"\nservice = \"service\"\nupstream = \"service\"\n\
        read_permission = \"service:secrets:read\"\n";
    let sidecar = Sidecar::in_front_of(&upstream).more(other).admin("").start();
    let api = sidecar.managed();
    let prefix = people(&sidecar)[1].prefix.clone();
    let path = format!("/v1/organization/{ORGANIZATION}/explain");
    let ask = |url: &str, headers: Value| {
        let body =
            json!({ "token_prefix": prefix, "url": url, "headers": headers, "client_address": "127.0.0.1" });
        api.post(&path, body)
    };
    let version = json!([{ "name": "X-Version", "value": "2" }]);
    let none = json!([{ "name": "X-Version" }]);
    for (url, headers, route, permission, depends_on) in [
        ("service.test/?tenant=a", &version, "other", "service:secrets:read", json!([])),
        ("service.test/?tenant=b", &version, "main", "project:services:read", json!([])),
        ("service.test/", &version, "main", "project:services:read", json!(["the query parameter `tenant`"])),
        ("service.test/", &none, "main", "project:services:read", json!([])),
    ] {
        let answer = good(&ask(url, headers.clone()));
        assert_eq!(
            (&answer["route"], &answer["required_permission"], &answer["depends_on"]),
            (&json!(route), &json!(permission), &depends_on),
            "{url} {headers}"
        );
    }
    let twice = json!([{ "name": "X-Version", "value": "2" }, { "name": "X-Version", "value": "3" }]);
    for (headers, says) in [
        (twice, "400"),
        (json!([{ "name": "Authorization", "value": "Bearer x" }]), "holds credentials"),
        (json!([{ "name": "a b", "value": "x" }]), "is no header line"),
        (json!([{ "name": "a", "value": "x\r\ny: z" }]), "is no header line"),
        (json!([{ "name": "a", "valeu": "x" }]), "valeu"),
        (json!([{ "value": "x" }]), "name"),
        (json!({ "x-version": "2" }), "headers"),
    ] {
        let refused = ask("service.test/?tenant=a", headers);
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert!(refused.text().contains(says), "{says}: {}", refused.text());
    }
    let project = json!({
        "token_prefix": prefix, "project": "demo", "permission": "service:data:write", "headers": version,
    });
    api.post(&path, project).assert_error(400, "bad_request");
}
