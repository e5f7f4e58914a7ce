//! The management API against what it should not be asked: too much, the wrong thing, somebody else's, by somebody who
//! may not, or while the store does not work. Each answer has Aiven's error shape and says what is wrong where.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use postern::directory::model::{Principal, Resource};
use postern::directory::operations;
use serde_json::{Value, json};
use support::directory::now;
use support::management::{Api, ORGANIZATION, OTHER_ORGANIZATION};
use support::{Client, Http2Client, Response, Sidecar, SidecarBuilder, Upstream, until};

fn with_api(upstream: &Upstream) -> SidecarBuilder {
    Sidecar::in_front_of(upstream).admin("")
}

fn users() -> String {
    format!("/v1/organization/{ORGANIZATION}/application-users")
}

fn tokens(user: &str) -> String {
    format!("{}/{user}/access-tokens", users())
}

fn groups() -> String {
    format!("/v1/organization/{ORGANIZATION}/user-groups")
}

fn on_project() -> String {
    format!("/v1/organization/{ORGANIZATION}/permissions/project/demo")
}

/// The body of an answer that is as it should be.
#[track_caller]
fn good(response: &Response) -> Value {
    assert!((200..300).contains(&response.status), "{}: {}", response.status, response.text());
    if response.body.is_empty() { Value::Null } else { response.json() }
}

/// Makes an application user; returns its id.
#[track_caller]
fn made_user(api: &Api, name: &str) -> String {
    good(&api.post(&users(), json!({ "name": name })))["user_id"].as_str().unwrap().to_owned()
}

/// Checks a refusal: its shape, its status, its code, and that the message says this.
#[track_caller]
fn refused(response: &Response, status: u16, code: &str, says: &str) {
    response.assert_error(status, code);
    assert_eq!(response.header("content-type"), Some("application/json"));
    let body = response.json();
    let message = body["message"].as_str().unwrap();
    assert!(message.contains(says), "{says:?} is not in {message:?}");
    assert_eq!(body["errors"][0]["message"], body["message"]);
    assert_eq!(body["errors"][0]["status"], status);
    assert!(!message.chars().any(char::is_control), "{message:?}");
}

#[test]
fn both_schemes_and_both_protocols_are_served() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let api = sidecar.managed();
    for scheme in ["aivenv1", "AIVENV1", "Bearer", "bearer"] {
        assert_eq!(api.with_scheme(scheme).get("/v1/organizations").status, 200, "{scheme}");
    }
    refused(&api.with_scheme("Basic").get("/v1/organizations"), 401, "invalid_token", "");
    let admin = sidecar.directory.super_admin();
    sidecar.wait_for(&admin);
    let request = http::Request::get("http://api.test/v1/organizations?limit=999&unknown=%00")
        .header("authorization", format!("aivenv1 {}", admin.token))
        .body(support::http2::empty())
        .unwrap();
    let response = Http2Client::connect(sidecar.admin.unwrap()).request(request);
    assert_eq!(good(&response)["organizations"][0]["organization_id"], ORGANIZATION);
}

#[test]
fn without_a_good_token_nothing_is_shown() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let api = sidecar.managed();
    let none = Client::connect(sidecar.admin.unwrap())
        .request("GET /v1/organizations HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n");
    refused(&none, 401, "missing_credentials", "");
    let challenge = none.header("www-authenticate").unwrap();
    assert!(challenge.starts_with("Bearer realm=") && !challenge.contains("error"), "{challenge}");
    let unknown = api.with_token("psta_0000000000000000000000000000000000000000000000000000000");
    refused(&unknown.get("/v1/organizations"), 401, "invalid_token", "");
    let revoked = sidecar.directory.super_admin();
    sidecar.wait_for(&revoked);
    sidecar.directory.revoke(&revoked.prefix);
    let asking = sidecar.managed_as(&revoked);
    until("the revocation to be in force", || asking.get("/v1/organizations").status == 401);
    refused(&asking.get("/v1/organizations"), 401, "token_revoked", "");
}

#[test]
fn bodies_have_limits() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let api = sidecar.managed();
    let large = json!({ "name": "x".repeat(1 << 20) });
    refused(&api.post(&users(), large), 413, "body_too_large", "1048576 bytes");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_in_field = format!("{{\"name\": {deep}}}");
    for body in [deep.as_str(), &deep_in_field] {
        assert_eq!(api.send("POST", &users(), Some(body)).status, 400);
    }
    // As long as it may be, and nothing wrong but its name.
    let allowed = format!("{{\"name\": \"{}\"}}", "x".repeat((1 << 20) - 20));
    refused(&api.send("POST", &users(), Some(&allowed)), 400, "bad_request", "name: must be 1 to 128");
}

#[test]
fn what_is_wrong_with_a_body_is_named() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let api = sidecar.managed();
    let user = made_user(&api, "ingest");
    let tokens = tokens(&user);
    let long = "x".repeat(1_001);
    let cases: &[(&str, &str, Value, &str)] = &[
        ("POST", &users(), json!({}), "name"),
        ("POST", &users(), json!({ "name": "a", "role": "admin" }), "role"),
        ("POST", &users(), json!({ "name": 1 }), "name"),
        ("POST", &users(), json!({ "name": "" }), "name"),
        ("POST", &users(), json!({ "name": "a", "is_super_admin": "yes" }), "is_super_admin"),
        ("POST", &users(), json!([]), "body"),
        ("POST", &users(), json!(["a", null, null]), "body"),
        ("POST", &users(), json!("name"), "body"),
        ("PATCH", &format!("{}/{user}", users()), json!({ "name": ["a"] }), "name"),
        ("POST", &tokens, json!({ "max_age_seconds": 599 }), "max_age_seconds"),
        ("POST", &tokens, json!({ "max_age_seconds": -1 }), "max_age_seconds"),
        ("POST", &tokens, json!({ "max_age_seconds": 1e30 }), "max_age_seconds"),
        ("POST", &tokens, json!({ "max_age_seconds": "600" }), "max_age_seconds"),
        ("POST", &tokens, json!({ "ip_allowlist": "10.0.0.1" }), "ip_allowlist"),
        ("POST", &tokens, json!({ "ip_allowlist": ["10.0.0.1", 7] }), "ip_allowlist[1]"),
        ("POST", &tokens, json!({ "ip_allowlist": ["everywhere"] }), "ip_allowlist"),
        ("POST", &tokens, json!({ "ip_allowlist": vec!["10.0.0.1"; 101] }), "ip_allowlist"),
        ("POST", &tokens, json!({ "scopes": ["service:data:fly"] }), "scopes"),
        ("POST", &tokens, json!({ "description": long }), "description"),
        ("POST", &tokens, json!({ "description": "bell \u{7}" }), "description"),
        ("POST", &groups(), json!({ "description": "" }), "user_group_name"),
        ("PUT", &on_project(), json!({}), "permissions"),
        ("PUT", &on_project(), json!({ "permissions": [{ "principal_id": user }] }), "permissions[0]"),
        ("PUT", &on_project(), json!({ "permissions": [["u", "user", []]] }), "permissions[0]"),
        ("PATCH", &on_project(), json!({ "operation": "add", "permissions": [] }), "operation"),
    ];
    for (method, path, body, field) in cases {
        let response = api.send(method, path, Some(&body.to_string()));
        refused(&response, 400, "bad_request", field);
    }
    for text in ["{", "{\"name\": \"a\"} {}", "{\"name\": \"a\", \"name\": \"b\"}", "\u{feff}{}", "\0"] {
        refused(&api.send("POST", &users(), Some(text)), 400, "bad_request", "");
    }
    // Nothing came of any of it.
    let listed = good(&api.get(&users()));
    let names = listed["application_users"].as_array().unwrap().iter().map(|user| &user["name"]);
    assert_eq!(names.filter(|name| **name == "ingest").count(), 1);
    assert_eq!(good(&api.get(&tokens))["tokens"], json!([]));
    assert_eq!(good(&api.get(&groups()))["user_groups"], json!([]));
}

#[test]
fn what_another_organization_has_is_not_there() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let api = sidecar.managed();
    let store = &*sidecar.directory.store;
    operations::ensure_organization(store, OTHER_ORGANIZATION, "Other", now()).unwrap();
    let new = operations::NewApplicationUser {
        organization_id: OTHER_ORGANIZATION.into(),
        name: "theirs".into(),
        description: String::new(),
        is_super_admin: false,
    };
    let theirs = operations::create_application_user(store, &new, now()).unwrap().value.user.id;
    let their_token = sidecar.directory.token(&theirs);
    let their_group =
        operations::create_group(store, OTHER_ORGANIZATION, "theirs", "", now()).unwrap().value.id;
    operations::ensure_project(store, "theirs", OTHER_ORGANIZATION, now()).unwrap();
    sidecar.wait_for(&their_token);

    let (users, groups) = (users(), groups());
    let ours = made_user(&api, "ours");
    let their_prefix = &their_token.prefix;
    let paths = [
        format!("/v1/organization/{OTHER_ORGANIZATION}"),
        format!("/v1/account/{OTHER_ORGANIZATION}"),
        format!("/v1/organization/{OTHER_ORGANIZATION}/application-users"),
        format!("/v1/organization/{OTHER_ORGANIZATION}/application-users/{theirs}"),
        format!("/v1/organization/{OTHER_ORGANIZATION}/user-groups"),
        format!("/v1/organization/{OTHER_ORGANIZATION}/permissions/project/theirs"),
        "/v1/organization/org000000000000".to_owned(),
        format!("{users}/{theirs}"),
        format!("{users}/{theirs}/access-tokens"),
        format!("{groups}/{their_group}"),
        format!("{groups}/{their_group}/members"),
        format!("/v1/organization/{ORGANIZATION}/permissions/project/theirs"),
        format!("/v1/organization/{ORGANIZATION}/permissions/organization/{OTHER_ORGANIZATION}"),
        format!("/v1/organization/{ORGANIZATION}/user/{theirs}/user-groups"),
        "/v1/project/theirs".to_owned(),
    ];
    for path in &paths {
        refused(&api.get(path), 404, "not_found", "does not exist");
    }
    let changes = [
        ("DELETE", format!("{users}/{theirs}"), None),
        ("PATCH", format!("{users}/{theirs}"), Some(json!({ "name": "mine" }))),
        ("POST", format!("{users}/{theirs}/access-tokens"), Some(json!({}))),
        ("DELETE", format!("{users}/{theirs}/access-tokens/{their_prefix}"), None),
        // With an own user in the path, too.
        ("DELETE", format!("{users}/{ours}/access-tokens/{their_prefix}"), None),
        ("DELETE", format!("{groups}/{their_group}"), None),
        ("PATCH", format!("{groups}/{their_group}"), Some(json!({ "user_group_name": "mine" }))),
    ];
    for (method, path, body) in &changes {
        let body = body.as_ref().map(Value::to_string);
        refused(&api.send(method, path, body.as_deref()), 404, "not_found", "does not exist");
    }
    let grant = |id: &str, kind: &str| json!({ "permissions": [{ "principal_id": id, "principal_type": kind, "permissions": ["admin"] }] });
    for (id, kind) in
        [(theirs.as_str(), "user"), (their_group.as_str(), "user_group"), ("u000000000000", "user")]
    {
        refused(&api.put(&on_project(), grant(id, kind)), 400, "bad_request", "principal_id");
    }
    let group = good(&api.post(&groups, json!({ "user_group_name": "ours" })));
    let members = format!("{groups}/{}/members", group["user_group_id"].as_str().unwrap());
    let add = |id: &str| json!({ "operation": "add_members", "member_ids": [id] });
    refused(&api.patch(&members, add(&theirs)), 400, "bad_request", "member_ids");
    refused(&api.patch(&members, add("u000000000000")), 400, "bad_request", "member_ids");
    // Their own token still sees what is theirs.
    assert!(sidecar.directory.stored(their_prefix).token.revoked_time.is_none());
    assert_eq!(
        good(&sidecar.managed_as(&their_token).get("/v1/organizations"))["organizations"][0]["organization_id"],
        OTHER_ORGANIZATION
    );
}

#[test]
fn who_may_not_is_told_what_is_missing() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let admin = sidecar.managed();
    let user = made_user(&admin, "ingest");
    let nobody = sidecar.directory.organization_user_with(&[]);
    sidecar.wait_for(&nobody);
    let api = sidecar.managed_as(&nobody);
    // Who belongs to the organization sees it.
    assert_eq!(good(&api.get("/v1/organizations"))["organizations"][0]["organization_id"], ORGANIZATION);
    let organization = format!("/v1/organization/{ORGANIZATION}");
    let requests = [
        ("GET", users(), None, "organization:app_users:write"),
        ("POST", users(), Some(json!({ "name": "a" })), "organization:app_users:write"),
        ("DELETE", format!("{}/{user}", users()), None, "organization:app_users:write"),
        ("GET", tokens(&user), None, "organization:app_users:write"),
        ("POST", tokens(&user), Some(json!({})), "organization:app_users:write"),
        ("GET", groups(), None, "organization:groups:write"),
        ("POST", groups(), Some(json!({ "user_group_name": "g" })), "organization:groups:write"),
        ("GET", on_project(), None, "project:permissions:read"),
        ("PUT", on_project(), Some(json!({ "permissions": [] })), ""),
        ("PATCH", on_project(), Some(json!({ "permissions": [] })), ""),
        ("PATCH", organization, Some(json!({ "organization_name": "Mine" })), ""),
    ];
    for (method, path, body, permission) in &requests {
        let body = body.as_ref().map(Value::to_string);
        let response = api.send(method, path, body.as_deref());
        refused(&response, 403, "permission_denied", permission);
        let challenge = response.header("www-authenticate").unwrap();
        assert!(challenge.contains("error=\"insufficient_scope\""), "{challenge}");
    }
    // A token that is restricted to something else, of a user that may.
    let restricted = sidecar.directory.token_with(
        &sidecar.directory.super_admin().user_id,
        postern::token::TokenKind::Application,
        |token| token.scopes = vec!["service:data:write".into()],
    );
    sidecar.wait_for(&restricted);
    refused(&sidecar.managed_as(&restricted).get(&users()), 403, "insufficient_scope", "");
}

#[test]
fn who_manages_application_users_makes_none_that_has_more() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let admin = sidecar.managed();
    let manager = sidecar.directory.organization_user_with(&["organization:app_users:write"]);
    sidecar.wait_for(&manager);
    let api = sidecar.managed_as(&manager);

    let plain = made_user(&api, "plain");
    good(&api.post(&tokens(&plain), json!({})));
    let super_admin = json!({ "name": "root", "is_super_admin": true });
    refused(&api.post(&users(), super_admin.clone()), 403, "not_an_organization_admin", "");
    let path = format!("{}/{plain}", users());
    refused(&api.patch(&path, json!({ "is_super_admin": true })), 403, "not_an_organization_admin", "");
    // To say what is so already is no change: Terraform sends whole objects.
    good(&api.patch(&path, json!({ "name": "plainer", "is_super_admin": false })));

    let root = good(&admin.post(&users(), super_admin))["user_id"].as_str().unwrap().to_owned();
    refused(&api.post(&tokens(&root), json!({})), 403, "user_has_more_than_caller", "");
    good(&admin.post(&tokens(&root), json!({})));
    let path = format!("{}/{root}", users());
    refused(&api.patch(&path, json!({ "is_super_admin": false })), 403, "not_an_organization_admin", "");

    sidecar.directory.grant(&plain, &["read_only"]);
    until("the grant to be in force", || api.post(&tokens(&plain), json!({})).status == 403);
    good(&admin.post(&tokens(&plain), json!({})));

    // What a group gives counts as well, and so does what the manager has.
    let member = made_user(&api, "member");
    let group = good(&admin.post(&groups(), json!({ "user_group_name": "writers" })));
    let group = group["user_group_id"].as_str().unwrap();
    let grant = json!({ "permissions": [
        { "principal_id": group, "principal_type": "user_group", "permissions": ["developer"] },
    ] });
    good(&admin.patch(&on_project(), grant));
    let added = json!({ "operation": "add_members", "member_ids": [member] });
    good(&admin.patch(&format!("{}/{group}/members", groups()), added));
    refused(&api.post(&tokens(&member), json!({})), 403, "user_has_more_than_caller", "");
    refused(&api.post(&tokens(&manager.user_id), json!({})), 403, "user_has_more_than_caller", "");
}

#[test]
fn who_manages_groups_lets_nobody_into_one_that_has_more() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let admin = sidecar.managed();
    let manager = sidecar.directory.organization_user_with(&["organization:groups:write"]);
    sidecar.wait_for(&manager);
    let api = sidecar.managed_as(&manager);
    let group = good(&api.post(&groups(), json!({ "user_group_name": "writers" })));
    let group = group["user_group_id"].as_str().unwrap();
    let members = format!("{}/{group}/members", groups());
    let change = |operation: &str| json!({ "operation": operation, "member_ids": [manager.user_id] });
    good(&api.patch(&members, change("add_members")));
    good(&api.patch(&members, change("remove_members")));
    let grant = json!({ "permissions": [
        { "principal_id": group, "principal_type": "user_group", "permissions": ["developer"] },
    ] });
    refused(&api.put(&on_project(), grant.clone()), 403, "permission_denied", "");
    good(&admin.put(&on_project(), grant));
    refused(&api.patch(&members, change("add_members")), 403, "group_has_more_than_caller", "");
    // Who has as much may.
    sidecar.directory.grant(&manager.user_id, &["developer"]);
    until("the grant to be in force", || api.patch(&members, change("add_members")).status == 200);
}

#[test]
fn a_project_admin_grants_on_the_project_and_nowhere_else() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let admin = sidecar.managed();
    let user = made_user(&admin, "ingest");
    // `permitted` is admin of the project.
    let api = sidecar.managed_as(&sidecar.permitted);
    let grant = |names: &[&str]| {
        json!({ "operation": "grant", "permissions": [
            { "principal_id": user, "principal_type": "user", "permissions": names },
        ] })
    };
    good(&api.patch(&on_project(), grant(&["developer", "admin"])));
    let on_organization = format!("/v1/organization/{ORGANIZATION}/permissions/organization/{ORGANIZATION}");
    refused(&api.patch(&on_organization, grant(&["developer"])), 403, "permission_denied", "");
    refused(&api.get(&on_organization), 403, "permission_denied", "");
    // What is the organization's cannot be had on a project, not even from who could grant it.
    for asking in [&api, &admin] {
        let answer = asking.patch(&on_project(), grant(&["role:organization:admin"]));
        refused(&answer, 400, "bad_request", "can only be granted on the organization");
    }
    // Who has `admin` on the organization administers its projects, not the organization.
    let below = sidecar.directory.organization_user_with(&["admin"]);
    sidecar.wait_for(&below);
    let api = sidecar.managed_as(&below);
    good(&api.patch(&on_project(), grant(&["developer"])));
    refused(&api.patch(&on_organization, grant(&["role:organization:admin"])), 403, "permission_denied", "");
}

#[test]
fn permissions_change_all_or_nothing() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let api = sidecar.managed();
    let (one, two) = (made_user(&api, "one"), made_user(&api, "two"));
    let wanted = |id: &str, names: &[&str]| json!({ "principal_id": id, "principal_type": "user", "permissions": names });
    let held = || {
        let listed = good(&api.get(&on_project()));
        let mut held: Vec<_> = listed["permissions"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|grant| grant["principal_id"] == *one || grant["principal_id"] == *two)
            .map(|grant| (grant["principal_id"].clone(), grant["permissions"].clone()))
            .collect();
        held.sort_by_key(|(id, _)| *id != *one);
        held
    };
    let patch = |operation: &str, permissions: Value| {
        api.patch(&on_project(), json!({ "operation": operation, "permissions": permissions }))
    };
    good(&patch("grant", json!([wanted(&one, &["read_only"]), wanted(&two, &["developer"])])));
    let before = held();
    assert_eq!(before, [(json!(one), json!(["read_only"])), (json!(two), json!(["developer"]))]);
    // The second is wrong: the first does not happen either.
    let half = json!([wanted(&one, &["operator"]), wanted("u000000000000", &["operator"])]);
    refused(&patch("set", half.clone()), 400, "bad_request", "principal_id");
    refused(&api.put(&on_project(), json!({ "permissions": half })), 400, "bad_request", "principal_id");
    let twice = json!([wanted(&one, &["operator"]), wanted(&one, &["developer"])]);
    refused(&patch("set", twice), 400, "bad_request", "twice");
    assert_eq!(held(), before);

    good(&patch("revoke", json!([wanted(&two, &["developer", "operator"])])));
    assert_eq!(held(), before[..1]);
    // Without an operation it is `set`, as Terraform's provider relies on.
    let set = json!({ "permissions": [wanted(&one, &[]), wanted(&two, &["operator", "operator"])] });
    good(&api.patch(&on_project(), set));
    assert_eq!(held(), [(json!(two), json!(["operator"]))]);
    let all = good(&api.put(&on_project(), json!({ "permissions": [wanted(&one, &["read_only"])] })));
    assert_eq!(all["permissions"].as_array().unwrap().len(), 1);
    good(&api.put(&on_project(), json!({ "permissions": [] })));
    assert_eq!(good(&api.get(&on_project()))["permissions"], json!([]));
}

#[test]
fn of_two_who_change_one_thing_the_second_hears_of_it() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let api = sidecar.managed();
    let user = made_user(&api, "ingest");
    let group = good(&api.post(&groups(), json!({ "user_group_name": "writers" })));
    let group = group["user_group_id"].as_str().unwrap();
    let things = [
        (
            format!("{}/{user}", users()),
            "PATCH",
            json!({ "description": "1" }),
            json!({ "description": "2" }),
        ),
        (
            format!("{}/{group}", groups()),
            "PATCH",
            json!({ "description": "1" }),
            json!({ "description": "2" }),
        ),
        (
            format!("/v1/organization/{ORGANIZATION}"),
            "PATCH",
            json!({ "organization_name": "One" }),
            json!({ "organization_name": "Two" }),
        ),
        (
            on_project(),
            "PUT",
            json!({ "permissions": [
                { "principal_id": user, "principal_type": "user", "permissions": ["developer"] },
            ] }),
            json!({ "permissions": [] }),
        ),
    ];
    for (path, method, first, second) in &things {
        let seen = api.get(path);
        let version = seen.header("etag").unwrap_or_else(|| panic!("{path} has a version"));
        let line = format!("If-Match: {version}\r\n");
        let changed = api.send_with(method, path, &line, Some(&first.to_string()));
        good(&changed);
        assert_ne!(changed.header("etag"), Some(version), "{path}");
        let late = api.send_with(method, path, &line, Some(&second.to_string()));
        refused(&late, 409, "changed_meanwhile", "");
        // Who has looked again may.
        let line = format!("If-Match: {}\r\n", changed.header("etag").unwrap());
        good(&api.send_with(method, path, &line, Some(&second.to_string())));
    }
}

#[test]
fn repeated_creates_say_so() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let api = sidecar.managed();
    made_user(&api, "ingest");
    refused(&api.post(&users(), json!({ "name": "ingest" })), 409, "already_exists", "already exists");
    let other = made_user(&api, "other");
    let path = format!("{}/{other}", users());
    refused(&api.patch(&path, json!({ "name": "ingest" })), 409, "already_exists", "already exists");
    good(&api.patch(&path, json!({ "name": "other" })));
    let group = json!({ "user_group_name": "writers" });
    good(&api.post(&groups(), group.clone()));
    refused(&api.post(&groups(), group), 409, "already_exists", "already exists");
    // Many at once: one of them makes it.
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asking: Vec<_> =
            (0..8).map(|_| scope.spawn(|| api.post(&users(), json!({ "name": "raced" })).status)).collect();
        asking.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 7, "{statuses:?}");
}

#[test]
fn prefixes_of_tokens_from_elsewhere_are_percent_encoded_in_paths() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let api = sidecar.managed();
    let user = made_user(&api, "ingest");
    let new = operations::NewToken {
        user_id: user.clone(),
        kind: postern::token::TokenKind::Application,
        description: String::new(),
        created_manually: true,
        max_age_seconds: None,
        extend_when_used: false,
        ip_allowlist: Vec::new(),
        scopes: Vec::new(),
        authentication_method_id: None,
    };
    let imported = operations::ImportedToken {
        prefix: "AVNx/+=%2F".to_owned(),
        digest: postern::token::TokenDigest::of(b"a token from elsewhere"),
    };
    operations::import_token(&*sidecar.directory.store, &new, &imported, now()).unwrap();
    let listed = good(&api.get(&tokens(&user)));
    assert_eq!(listed["tokens"][0]["token_prefix"], imported.prefix);
    assert_eq!(api.delete(&format!("{}/AVNx/+=%2F", tokens(&user))).status, 404);
    assert_eq!(api.delete(&format!("{}/AVNx%2F%2B%3D%252F", tokens(&user))).status, 204);
    assert_eq!(good(&api.get(&tokens(&user)))["tokens"], json!([]));
}

#[test]
fn paths_and_methods_that_are_not_served_are_refused_in_the_same_shape() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let api = sidecar.managed();
    for path in ["/", "/v1", "/v1/nothing", "/v2/organizations", "/v1/organizations/"] {
        refused(&api.get(path), 404, "not_found", "");
    }
    let response = api.send("PUT", &users(), Some("{}"));
    refused(&response, 405, "method_not_allowed", "");
    assert_eq!(response.header("allow"), Some("GET,HEAD,POST"));
    let segment = format!("/v1/organization/{ORGANIZATION}/application-users/%ff%fe");
    assert!(matches!(api.get(&segment).status, 400 | 404));
    let nonsense = format!("/v1/organization/{ORGANIZATION}/permissions/galaxy/1");
    assert!(matches!(api.get(&nonsense).status, 400 | 404));
    for id in ["%00", "%0d%0aSet-Cookie:%20a=b", "..%2f..%2fetc", &"x".repeat(4_000)] {
        let response = api.get(&format!("{}/{id}", users()));
        refused(&response, 404, "not_found", "does not exist");
        assert!(response.header("set-cookie").is_none());
    }
}

#[test]
fn names_bring_nothing_into_headers_logs_or_terminals() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let api = sidecar.managed();
    for name in ["a\r\nX-Injected: 1", "a\u{1b}[2J", "a\0b", "\n", "a\u{85}b"] {
        let answer = api.post(&users(), json!({ "name": name }));
        refused(&answer, 400, "bad_request", "name");
        assert!(answer.header("x-injected").is_none());
        refused(
            &api.post(&groups(), json!({ "user_group_name": name })),
            400,
            "bad_request",
            "user_group_name",
        );
    }
    // What is allowed stays text.
    let user = made_user(&api, "Zoë \"<script>\" 日本");
    let shown = good(&api.get(&format!("{}/{user}", users())));
    assert_eq!(shown["name"], "Zoë \"<script>\" 日本");
    let agent = "User-Agent: evil \"} \u{e9}\r\n";
    assert_eq!(api.send_with("GET", "/v1/organizations", agent, None).status, 200);
    let agent = "User-Agent: evil\u{1b}[31m\r\n";
    assert_eq!(api.send_with("GET", "/v1/organizations", agent, None).status, 400);
    let id = "%1b%5b2J%0aERROR%20forged";
    assert_eq!(api.get(&format!("{}/{id}", users())).status, 404);
    for line in sidecar.output().lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "one JSON object a line: {line:?}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }
}

#[test]
fn with_the_store_gone_nothing_is_half_done_and_what_is_in_memory_goes_on() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let api = sidecar.managed();
    let user = made_user(&api, "ingest");
    let token = good(&api.post(&tokens(&user), json!({})));
    let file = sidecar.folder().join("store.db");
    // Somebody holds the store's lock for longer than a request may wait.
    let other = rusqlite::Connection::open(&file).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let answer = api.post(&users(), json!({ "name": "while-locked" }));
    refused(&answer, 503, "store_unavailable", "");
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert!(!answer.text().contains("store.db"), "paths are the operator's business: {}", answer.text());
    let revoke = format!("{}/{}", tokens(&user), token["token_prefix"].as_str().unwrap());
    assert_eq!(api.delete(&revoke).status, 503);
    // Requests are decided as before.
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    let listed = good(&api.get(&users()));
    let names: Vec<_> =
        listed["application_users"].as_array().unwrap().iter().map(|user| user["name"].clone()).collect();
    assert!(!names.contains(&json!("while-locked")), "{names:?}");
    assert_eq!(good(&api.get(&tokens(&user)))["tokens"].as_array().unwrap().len(), 1);
    made_user(&api, "while-locked");

    // Another file takes its place.
    let away = sidecar.folder().join("away.db");
    fs::rename(&file, &away).unwrap();
    fs::write(&file, "not a store").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    until("the replaced store to be noticed", || {
        api.post(&users(), json!({ "name": "while-replaced" })).status == 503
    });
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
}

#[test]
fn the_organizations_address_ranges_hold_here_too() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream)
        .organization("[organization.authentication]\nallowed_ip_ranges = [\"192.0.2.0/24\"]\n")
        .start();
    let admin = sidecar.directory.super_admin();
    let api = Api::new(sidecar.admin.unwrap(), &admin.token);
    until("the token to be known", || api.get("/v1/organizations").status == 200);
    refused(&api.get(&users()), 403, "ip_not_allowed_by_organization", "");
    assert_eq!(good(&api.get("/v1/organizations"))["organizations"], json!([]));
    assert_eq!(good(&api.get("/v1/project"))["projects"], json!([]));
}

#[test]
fn a_group_and_its_members() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let api = sidecar.managed();
    let (person, _) = sidecar.directory.person("jane@example.com");
    let user = made_user(&api, "ingest");
    let group = good(&api.post(&groups(), json!({ "user_group_name": "writers", "description": "d" })));
    let id = group["user_group_id"].as_str().unwrap();
    assert_eq!(group["member_count"], 0);
    let path = format!("{}/{id}", groups());
    let members = format!("{path}/members");
    let change = |operation: &str, ids: &[&str]| {
        good(&api.patch(&members, json!({ "operation": operation, "member_ids": ids })))
    };
    change("add_members", &[&person, &user]);
    change("add_members", &[&person]);
    let listed = good(&api.get(&members));
    let listed = listed["members"].as_array().unwrap();
    assert_eq!(listed.len(), 2);
    let jane = listed.iter().find(|member| member["user_id"] == *person).unwrap();
    assert_eq!(jane["user_info"]["user_email"], "jane@example.com");
    assert_eq!(jane["user_info"]["state"], "active");
    assert_eq!(jane["user_info"]["is_application_user"], false);
    assert_eq!(good(&api.get(&path))["member_count"], 2);
    let of_user = format!("/v1/organization/{ORGANIZATION}/user/{person}/user-groups");
    assert_eq!(good(&api.get(&of_user))["user_groups"][0]["user_group_id"], *id);
    change("remove_members", &[&user, "u000000000000"]);
    assert_eq!(good(&api.get(&path))["member_count"], 1);
    // What the group has its members have.
    let credential = sidecar.directory.token(&user);
    sidecar.wait_for(&credential);
    let grant = json!({ "operation": "grant", "permissions": [
        { "principal_id": id, "principal_type": "user_group", "permissions": ["developer"] },
    ] });
    good(&api.patch(&on_project(), grant));
    let head = sidecar.head_with(&credential.token, "GET /", "");
    assert_eq!(sidecar.request(&head).status, 403);
    change("add_members", &[&user]);
    assert_eq!(sidecar.request(&head).status, 200, "in force before the answer");
    assert_eq!(api.delete(&path).status, 204);
    assert_eq!(sidecar.request(&head).status, 403, "in force before the answer");
    let principal = Principal::UserGroup(id.to_owned());
    let resource = Resource::Project("demo".into());
    let left = sidecar.directory.store.read(|records| records.grant(&principal, &resource)).unwrap();
    assert_eq!(left, None);
}

#[test]
fn a_token_is_found_by_its_prefix_alone() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let api = sidecar.managed();
    let user = made_user(&api, "ingest");
    let made = good(&api.post(&tokens(&user), json!({ "description": "eu" })));
    let (prefix, full) = (made["token_prefix"].as_str().unwrap(), made["full_token"].as_str().unwrap());
    let all = format!("/v1/organization/{ORGANIZATION}/tokens");
    let shown = good(&api.get(&format!("{all}/{prefix}")));
    assert_eq!((&shown["user_id"], &shown["user_name"]), (&json!(user), &json!("ingest")));
    assert_eq!((&shown["kind"], &shown["state"]), (&json!("application"), &json!("active")));
    assert_eq!(shown["revoked_time"], Value::Null);
    // People paste whole tokens.
    assert_eq!(good(&api.get(&format!("{all}/{full}")))["token_prefix"], prefix);
    assert!(!sidecar.output().contains(full), "a full token in a path is in no log");

    let revoked = good(&api.delete(&format!("{all}/{prefix}")));
    assert_eq!(revoked["state"], "revoked");
    assert!(revoked["revoked_time"].is_string());
    assert_eq!(good(&api.delete(&format!("{all}/{prefix}"))), revoked, "to repeat it does no harm");
    let of_user = |more: &str| good(&api.get(&format!("{all}?user_id={user}{more}")))["tokens"].clone();
    assert_eq!(of_user(""), json!([]));
    assert_eq!(of_user("&include_ended=true"), json!([revoked]));
    refused(&api.get(&all), 400, "bad_request", "user_id");
    refused(&api.get(&format!("{all}?user_id=u000000000000")), 404, "not_found", "does not exist");
    refused(&api.get(&format!("{all}/psta_000000000000")), 404, "not_found", "does not exist");
    // A mistyped whole token is not repeated.
    let mistyped = format!("{}x", &full[..full.len() - 1]);
    let answer = api.get(&format!("{all}/{mistyped}"));
    refused(&answer, 404, "not_found", prefix);
    assert!(!answer.text().contains(&mistyped));

    // Whose tokens somebody manages depends on who they are.
    let (person, method) = sidecar.directory.person("jane@example.com");
    let personal = sidecar.directory.token_with(&person, postern::token::TokenKind::Personal, |token| {
        token.authentication_method_id = Some(method.clone());
    });
    let manager = sidecar.directory.organization_user_with(&["organization:app_users:write"]);
    let helper = sidecar.directory.organization_user_with(&["organization:users:write"]);
    sidecar.wait_for(&helper);
    // Those of people whom the organization does not manage are theirs, and nobody's here to look at.
    let of_person = format!("{all}/{}", personal.prefix);
    assert_eq!(
        good(&sidecar.managed_as(&helper).get(&of_person))["state"],
        "active",
        "who belongs nowhere else"
    );
    sidecar.directory.joins_another_organization(&person);
    for who in [&helper, &sidecar.super_admin()] {
        let asking = sidecar.managed_as(who);
        refused(&asking.get(&of_person), 403, "user_not_managed", "");
        refused(&asking.get(&format!("{all}?user_id={person}")), 403, "user_not_managed", "");
        refused(&asking.delete(&of_person), 403, "user_not_managed", "");
    }
    let store = &*sidecar.directory.store;
    let stored = store.read(|records| records.user(&person)).unwrap().unwrap();
    let managed =
        postern::directory::model::User { managing_organization_id: Some(ORGANIZATION.into()), ..stored };
    store.change(now(), |changes| Ok(changes.put_user(&managed)?)).unwrap();
    let (of_program, of_person) = (format!("{all}/{prefix}"), format!("{all}/{}", personal.prefix));
    for (who, sees, does_not) in [(&manager, &of_program, &of_person), (&helper, &of_person, &of_program)] {
        let asking = sidecar.managed_as(who);
        good(&asking.get(sees));
        refused(&asking.get(does_not), 403, "permission_denied", "");
        refused(&asking.delete(does_not), 403, "permission_denied", "");
    }
    // Who is no admin ends no token of somebody who has more.
    sidecar.directory.grant(&person, &["developer"]);
    refused(&sidecar.managed_as(&helper).delete(&of_person), 403, "user_has_more_than_caller", "");
    assert!(sidecar.directory.stored(&personal.prefix).token.revoked_time.is_none());
    good(&sidecar.managed_as(&sidecar.super_admin()).delete(&of_person));
}
