//! The event log through the management API and the command line: pages, filters, who may see what, and that nothing a
//! client calls itself does harm. Over a started sidecar.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::process::Command;

use postern::directory::model::Timestamp;
use postern::directory::operations;
use serde_json::{Value, json};
use support::directory::now;
use support::management::{ORGANIZATION, OTHER_ORGANIZATION};
use support::{Response, Sidecar, Upstream, until};

fn start(more: &str) -> (Sidecar, Upstream) {
    let upstream = Upstream::echo();
    (Sidecar::in_front_of(&upstream).more(more).admin("").start(), upstream)
}

fn events() -> String {
    format!("/v1/organization/{ORGANIZATION}/events")
}

fn users() -> String {
    format!("/v1/organization/{ORGANIZATION}/application-users")
}

#[track_caller]
fn good(response: &Response) -> Value {
    assert!((200..300).contains(&response.status), "{}: {}", response.status, response.text());
    if response.body.is_empty() { Value::Null } else { response.json() }
}

fn list(page: &Value) -> &Vec<Value> {
    page["events"].as_array().unwrap()
}

#[test]
fn every_change_is_there_with_who_and_from_where_and_what_differs() {
    let (sidecar, _upstream) = start("");
    let admin = sidecar.super_admin();
    let api = sidecar.managed_as(&admin);
    let made = api.post(&users(), json!({ "name": "ingest" }));
    let request_id = made.header("x-postern-request-id").unwrap();
    let user = good(&made)["user_id"].as_str().unwrap().to_owned();
    let policy = format!("/v1/organization/{ORGANIZATION}/config/authentication");
    good(&api.patch(&policy, json!({ "two_factor_required": true })));

    let page = good(&api.get(&format!("{}?type=user_created&entity_id={user}", events())));
    let [event] = &list(&page)[..] else { panic!("{page}") };
    assert_eq!(event["channel"], "api");
    assert_eq!(event["actor_user_id"], *admin.user_id);
    assert_eq!(event["actor_token_prefix"], *admin.prefix);
    assert_eq!(event["actor_address"], "127.0.0.1");
    assert_eq!(event["request_id"], request_id);
    assert_eq!(event["after"]["name"], "ingest");
    assert_eq!(event["before"], Value::Null);
    let page = good(&api.get(&format!("{}?type=authentication_policy_changed", events())));
    let [event] = &list(&page)[..] else { panic!("{page}") };
    assert_eq!(event["before"], json!({ "two_factor_required": false }));
    assert_eq!(event["after"], json!({ "two_factor_required": true }));
    let page = good(&api.get(&format!("{}?actor={}", events(), admin.user_id)));
    assert!(list(&page).iter().all(|event| event["actor_user_id"] == *admin.user_id));
    let page = good(&api.get(&format!("{}?token_prefix={}", events(), admin.prefix)));
    assert!(list(&page).len() >= 3, "the token's making and what was done with it: {page}");
    // No token is anywhere in it.
    let all = api.get(&format!("{}?limit=1000", events())).text();
    assert!(!all.contains(&admin.token) && !all.contains(&sidecar.permitted.token));
}

#[test]
fn pages_go_on_where_the_one_before_ended_in_both_directions() {
    let (sidecar, _upstream) = start("");
    let api = sidecar.managed();
    for number in 0..25 {
        good(&api.post(&users(), json!({ "name": format!("user {number}") })));
    }
    let whole = good(&api.get(&format!("{}?limit=1000", events())));
    let numbers = |page: &Value| -> Vec<u64> {
        list(page).iter().map(|event| event["number"].as_u64().unwrap()).collect()
    };
    let expected = numbers(&whole);
    assert!(expected.len() > 25 && expected.is_sorted_by(|a, b| a > b));
    for order in ["latest_first", "oldest_first"] {
        let mut found = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = good(&api.get(&format!("{}?limit=7&order={order}{cursor}", events())));
            assert!(list(&page).len() <= 7);
            found.extend(numbers(&page));
            let Some(next) = page["next_cursor"].as_u64() else { break };
            cursor = format!("&cursor={next}");
        }
        if order == "oldest_first" {
            found.reverse();
        }
        assert_eq!(found, expected, "{order}");
    }
    let later = Timestamp(now().0 + 100);
    assert!(list(&good(&api.get(&format!("{}?since={}", events(), later.0)))).is_empty());
    assert!(list(&good(&api.get(&format!("{}?until=2001-01-01T00:00:00Z", events())))).is_empty());
    for query in ["since=yesterday", "order=random", "cursor=-1", "limit=many"] {
        api.get(&format!("{}?{query}", events())).assert_error(400, "bad_request");
    }
}

#[test]
fn only_who_may_read_the_log_does_and_only_the_own_organization_s() {
    let (sidecar, _upstream) = start("");
    let store = &*sidecar.directory.store;
    operations::ensure_organization(store, OTHER_ORGANIZATION, "Other", now()).unwrap();
    let reader = sidecar.directory.organization_user_with(&["organization:event_logs:read"]);
    sidecar.wait_for(&reader);
    let api = sidecar.managed_as(&reader);
    let page = good(&api.get(&format!("{}?limit=1000", events())));
    assert!(!list(&page).is_empty());
    assert!(list(&page).iter().all(|event| event["organization_id"] == ORGANIZATION));
    api.get(&events().replace(ORGANIZATION, OTHER_ORGANIZATION)).assert_error(404, "not_found");
    sidecar.managed_as(&sidecar.permitted).get(&events()).assert_error(403, "permission_denied");
}

#[test]
fn what_clients_call_themselves_and_others_does_no_harm_anywhere() {
    let (sidecar, _upstream) = start("[events]\nmirror = true\n");
    let api = sidecar.managed();
    let hostile = "a\u{202e}b\"}\u{2028}{\"level\":\"ERROR\" \u{1f600}";
    let user = good(&api.post(&users(), json!({ "name": "ingest", "description": hostile })));
    let page = good(&api.get(&format!("{}?type=user_created&limit=1", events())));
    assert_eq!(list(&page)[0]["after"]["description"], hostile);
    assert_eq!(user["description"], hostile);
    api.post(&users(), json!({ "name": "a\r\nb" })).assert_error(400, "bad_request");
    // The mirror is one line an event, each a JSON object of its own.
    until("the mirror to have the event", || sidecar.output().contains("user_created"));
    let output = sidecar.output();
    let lines = output.lines().filter(|line| line.contains("postern::events"));
    let mut seen = 0;
    for line in lines {
        let parsed: Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("one line, one object: {line}"));
        assert_ne!(parsed["level"], "ERROR");
        seen += 1;
    }
    assert!(seen > 0);
    let agent = "x\u{7f}\"\\u0000 \t(evil)";
    let response = sidecar.request(sidecar.head("GET /", &format!("User-Agent: {agent}\r\n")));
    assert!(response.status == 200 || response.status == 400);
    let prefix = &sidecar.permitted.prefix;
    let shown = api.get(&format!("/v1/organization/{ORGANIZATION}/tokens/stale?unused_for_days=1"));
    assert_eq!(shown.status, 200);
    assert!(!shown.text().contains('\u{7f}'), "{prefix}");
}

#[test]
fn the_command_line_reads_the_same_log() {
    let (sidecar, _upstream) = start("");
    let api = sidecar.managed();
    good(&api.post(&users(), json!({ "name": "ingest" })));
    let postern = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_postern"))
            .arg("events")
            .args(arguments)
            .arg("--config")
            .arg(sidecar.config_file())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let shown: Value = serde_json::from_str(&postern(&["--json", "--type", "user_created"])).unwrap();
    let page = good(&api.get(&format!("{}?type=user_created&limit=1000", events())));
    assert_eq!(list(&shown).len(), list(&page).len());
    assert!(list(&shown).iter().all(|event| list(&page).contains(event)));
    let text = postern(&["--since", "1h", "--limit", "5"]);
    assert!(text.contains("user_created") && text.lines().count() <= 6, "{text}");
}

#[test]
fn what_is_older_than_the_retention_is_removed() {
    let (sidecar, _upstream) = start("[events]\nretention_days = 30\n");
    let store = &sidecar.directory.store;
    let long_ago = Timestamp(now().0 - 40 * 86_400);
    operations::rename_organization(&**store, ORGANIZATION, "Long ago", long_ago).unwrap();
    // The oldest go first, so what is old but was written late waits behind what is newer: here nothing is.
    let raw = rusqlite::Connection::open(sidecar.folder().join("store.db")).unwrap();
    raw.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    raw.execute("UPDATE events SET event_time = ?1", [long_ago.0]).unwrap();
    sidecar.signal("HUP");
    until("old entries to be removed", || {
        raw.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0)).unwrap() == 0
    });
}
