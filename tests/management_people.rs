//! The life of a person: invited, set up, logged in, with two factors, with personal tokens that are used through the
//! proxy, under policies that change, recovered by an admin, and gone.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "people/support.rs"]
mod people;
mod support;

use people::{
    OTHER_PASSWORD, PASSWORD, Person, app, made, postern_user, seconds, try_postern_user, with_api,
};
use postern::directory::model::Resource;
use postern::directory::operations::{self, PolicyUpdate};
use serde_json::{Value, json};
use support::directory::{ORGANIZATION, now};
use support::sidecar::HOST;
use support::{Sidecar, Upstream, until};

fn organization(path: &str) -> String {
    format!("/v1/organization/{ORGANIZATION}{path}")
}

/// What a request through the proxy is answered.
#[track_caller]
fn through_proxy(sidecar: &Sidecar, token: &str) -> (u16, String) {
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n\r\n");
    let response = sidecar.request(request);
    let code = if response.status == 200 { String::new() } else { response.error_code() };
    (response.status, code)
}

#[track_caller]
fn set_policy(sidecar: &Sidecar, update: PolicyUpdate) {
    operations::set_policy(&*sidecar.directory.store, ORGANIZATION, &update, now()).unwrap();
    // A token made after it is known after it.
    let probe = sidecar.directory.permitted();
    sidecar.wait_for(&probe);
}

#[track_caller]
fn grant(sidecar: &Sidecar, user: &str) {
    sidecar.directory.grant(user, &["admin"]);
    let probe = sidecar.directory.permitted();
    sidecar.wait_for(&probe);
}

/// An organization that manages everybody at example.com.
fn verified(sidecar: &Sidecar) {
    sidecar.directory.verify("example.com");
}

#[test]
fn from_the_invitation_to_the_last_token() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    made(&sidecar, "root@example.com", &["--name", "Root", "--super-admin"]);
    let anybody = Person::stranger(&sidecar);
    let root = anybody.logged_in("root@example.com", PASSWORD);

    // Invited: somebody without an account is handed a code.
    let invited = root.post(&organization("/invitation"), &json!({ "user_email": "Jane@example.com" })).ok();
    let code = invited.text("code").to_owned();
    assert_eq!(invited.body["invitation"]["user_email"], "jane@example.com");
    root.post(&organization("/invitation"), &json!({ "user_email": "jane@example.com" }))
        .refused(409, "already_exists");
    let listed = root.get(&organization("/invitation")).ok();
    assert_eq!(listed.body["invitations"][0]["user_email"], "jane@example.com");
    assert!(listed.body["invitations"][0].get("code").is_none());

    // Set up: the code counts once, and a weak password not at all.
    let set_up = |password: &str, code: &str| {
        let body = json!({ "code": code, "password": password, "real_name": "Jane Miller" });
        anybody.post("/v1/userauth/setup", &body)
    };
    let weak = set_up("jane-miller", &code).refused(400, "bad_request");
    assert!(weak.text("message").starts_with("password:"), "{}", weak.body);
    set_up(PASSWORD, "code-nonsense").refused(400, "bad_request");
    let first = set_up(PASSWORD, &code).ok();
    assert_eq!((first.text("user_email"), first.text("state")), ("jane@example.com", "active"));
    set_up(PASSWORD, &code).refused(400, "bad_request");
    assert_eq!(root.get(&organization("/invitation")).ok().body["invitations"], json!([]));

    // Who am I.
    let jane = anybody.with(first.text("token"));
    let me = jane.get("/v1/me").ok().body["user"].clone();
    let jane_id = me["user_id"].as_str().unwrap().to_owned();
    assert_eq!(me["user"], "jane@example.com");
    assert_eq!(me["real_name"], "Jane Miller");
    assert_eq!(me["state"], "active");
    assert_eq!(me["auth"], json!(["password"]));
    assert_eq!(me["projects"], json!(["demo"]));
    for field in ["project_membership", "project_memberships"] {
        assert_eq!(me[field], json!({}));
    }
    for field in ["tenant", "token_validity_begin", "create_time"] {
        assert!(me[field].is_string(), "{field}");
    }
    assert_eq!(me["invitations"], json!([]));

    // A personal token, used through the proxy.
    let second_session = anybody.logged_in("jane@example.com", PASSWORD);
    let personal =
        jane.post("/v1/access_token", &json!({ "description": "reports", "max_age_seconds": null })).ok();
    let token = personal.text("full_token").to_owned();
    assert!(token.starts_with("pstp_") && token.starts_with(personal.text("token_prefix")));
    assert_eq!(personal.body["created_manually"], true);
    assert_eq!(through_proxy(&sidecar, &token), (403, "permission_denied".into()));
    grant(&sidecar, &jane_id);
    assert_eq!(through_proxy(&sidecar, &token), (200, String::new()));
    let tokens = jane.get("/v1/access_token").ok().body["tokens"].clone();
    let of = |prefix: &str| {
        let all = tokens.as_array().unwrap();
        all.iter().find(|token| token["token_prefix"] == prefix).cloned().unwrap_or_default()
    };
    assert_eq!(tokens.as_array().unwrap().len(), 3, "two sessions and a personal token: {tokens}");
    assert_eq!(of(personal.text("token_prefix"))["last_ip"], "127.0.0.1");
    let current: Vec<&Value> =
        tokens.as_array().unwrap().iter().filter(|token| token["currently_active"] == true).collect();
    assert_eq!(current.len(), 1);
    assert_eq!(current[0]["created_manually"], false);

    // Policies stop and start the right tokens.
    let (allowed, disallowed) = (Some(true), Some(false));
    set_policy(&sidecar, PolicyUpdate { personal_tokens_enabled: disallowed, ..Default::default() });
    assert_eq!(through_proxy(&sidecar, &token), (403, "personal_tokens_disabled".into()));
    set_policy(
        &sidecar,
        PolicyUpdate {
            personal_tokens_enabled: allowed,
            personal_tokens_require_allowed_auth_method: allowed,
            password_auth_enabled: disallowed,
            ..Default::default()
        },
    );
    assert_eq!(through_proxy(&sidecar, &token), (403, "authentication_method_not_allowed".into()));
    jane.get(&organization("/user")).refused(403, "authentication_method_not_allowed");
    // About oneself, no organization has a say.
    jane.get("/v1/me").ok();
    set_policy(
        &sidecar,
        PolicyUpdate {
            personal_tokens_require_allowed_auth_method: disallowed,
            password_auth_enabled: allowed,
            two_factor_required: allowed,
            ..Default::default()
        },
    );
    assert_eq!(through_proxy(&sidecar, &token), (200, String::new()));
    jane.get(&organization("/user")).refused(403, "two_factor_required");

    // Two factors: the app has to show that it has the secret.
    jane.put("/v1/me/2fa", &json!({ "method": "totp", "password": "wrong" }))
        .refused(401, "invalid_credentials");
    jane.put("/v1/me/2fa", &json!({ "method": "sms", "password": PASSWORD })).refused(400, "bad_request");
    let begun = jane.put("/v1/me/2fa", &json!({ "method": "totp", "password": PASSWORD })).ok();
    let uri = begun.text("uri").to_owned();
    assert!(begun.text("qrcode").starts_with("iVBOR"), "a PNG in base64");
    let app = app(&uri, "jane@example.com");
    let finish = |otp: &str, uri: &str| {
        jane.put("/v1/me/2fa/otp", &json!({ "otp": otp, "password": PASSWORD, "uri": uri }))
    };
    finish("000000", &uri).refused(400, "bad_request");
    finish(&app.password_at(seconds()), "otpauth://totp/Other:me?secret=JBSWY3DPEHPK3PXP")
        .refused(400, "bad_request");
    let shown = app.password_at(seconds());
    let enabled = finish(&shown, &uri).ok();
    assert_eq!(enabled.text("method"), "totp");
    // What was bound to the password alone has ended.
    for ended in [&jane, &second_session] {
        ended.get("/v1/me").refused(401, "token_revoked");
    }
    assert_eq!(through_proxy(&sidecar, &token), (401, "token_revoked".into()));
    let jane = anybody.with(enabled.text("token"));
    assert_eq!(jane.get("/v1/me").ok().body["user"]["auth"], json!(["password", "totp"]));
    jane.get(&organization("/user")).ok();

    // Logging in takes both, and no password of the app counts twice.
    anybody.log_in("jane@example.com", PASSWORD, None).refused(510, "otp_required");
    anybody.log_in("jane@example.com", "wrong", None).refused(401, "invalid_credentials");
    anybody.log_in("jane@example.com", PASSWORD, Some(&shown)).refused(401, "invalid_credentials");
    let next = app.password_at(seconds() + 30);
    let session = anybody.log_in("jane@example.com", PASSWORD, Some(&next)).ok();
    anybody.log_in("jane@example.com", PASSWORD, Some(&next)).refused(401, "invalid_credentials");
    let elsewhere = anybody.with(session.text("token"));
    let personal = elsewhere.post("/v1/access_token", &json!({ "description": "again" })).ok();
    let token = personal.text("full_token").to_owned();
    assert_eq!(through_proxy(&sidecar, &token), (200, String::new()));

    // Another password ends the other sessions; personal tokens go on.
    jane.put("/v1/me/password", &json!({ "password": "wrong", "new_password": OTHER_PASSWORD }))
        .refused(401, "invalid_credentials");
    let changed =
        jane.put("/v1/me/password", &json!({ "password": PASSWORD, "new_password": OTHER_PASSWORD })).ok();
    for ended in [&jane, &elsewhere] {
        ended.get("/v1/me").refused(401, "token_revoked");
    }
    assert_eq!(through_proxy(&sidecar, &token), (200, String::new()));
    let jane = anybody.with(changed.text("token"));
    anybody.log_in("jane@example.com", PASSWORD, None).refused(401, "invalid_credentials");

    // Without two factors again, and then without any token.
    jane.put("/v1/me/2fa", &json!({ "method": "", "password": OTHER_PASSWORD })).ok();
    assert_eq!(through_proxy(&sidecar, &token), (401, "token_revoked".into()));
    set_policy(&sidecar, PolicyUpdate { two_factor_required: disallowed, ..Default::default() });
    let again = anybody.logged_in("jane@example.com", OTHER_PASSWORD);
    let last = again.post("/v1/access_token", &json!({})).ok();
    assert_eq!(again.post("/v1/me/expire_tokens", &json!({})).ok().text("message"), "Tokens expired");
    for ended in [&jane, &again] {
        ended.get("/v1/me").refused(401, "token_revoked");
    }
    assert_eq!(through_proxy(&sidecar, last.text("full_token")), (401, "token_revoked".into()));
    anybody.logged_in("jane@example.com", OTHER_PASSWORD).get("/v1/me").ok();

    let log = sidecar.output();
    for secret in [PASSWORD, OTHER_PASSWORD, &token, &code, &shown, &uri] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
}

#[test]
fn the_last_super_admin_stays_one() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    verified(&sidecar);
    let root_id = made(&sidecar, "root@example.com", &["--super-admin"]);
    let jane_id = made(&sidecar, "jane@example.com", &[]);
    // A program that is super admin is nobody who could log in.
    let program = sidecar.super_admin();
    let anybody = Person::stranger(&sidecar);
    let root = anybody.logged_in("root@example.com", PASSWORD);
    for admin in [&root, &anybody.with(&program.token)] {
        let path = organization(&format!("/user/{root_id}"));
        for changes in [
            json!({ "is_super_admin": false }),
            json!({ "state": "deactivated" }),
            json!({ "state": "deleted" }),
        ] {
            admin.patch(&path, &changes).refused(409, "conflict");
        }
        admin.delete(&path).refused(409, "conflict");
    }
    for command in [
        &["set-super-admin", "root@example.com", "false"][..],
        &["deactivate", "root@example.com"],
        &["delete", "root@example.com", "--yes"],
    ] {
        let refused = try_postern_user(&sidecar, command, "").unwrap_err();
        assert!(refused.contains("last super admin"), "{refused}");
    }
    // With a second one, the first may go; one that is switched off does not count.
    let jane_path = organization(&format!("/user/{jane_id}"));
    let member = root.patch(&jane_path, &json!({ "is_super_admin": true })).ok();
    assert_eq!(member.body["is_super_admin"], true);
    root.patch(&jane_path, &json!({ "state": "deactivated" })).ok();
    root.patch(&organization(&format!("/user/{root_id}")), &json!({ "is_super_admin": false }))
        .refused(409, "conflict");
    root.patch(&jane_path, &json!({ "state": "active" })).ok();
    root.delete(&organization(&format!("/user/{root_id}"))).ok();
    root.get("/v1/me").refused(401, "user_deleted");
    let jane = anybody.logged_in("jane@example.com", PASSWORD);
    let users = jane.get(&organization("/user")).ok().body["users"].clone();
    assert_eq!(users.as_array().unwrap().len(), 1);
    assert_eq!(users[0]["user_info"]["user_email"], "jane@example.com");
    assert_eq!(users[0]["user_info"]["is_application_user"], false);
}

#[test]
fn what_an_organization_may_do_to_people_depends_on_whether_it_manages_them() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    verified(&sidecar);
    made(&sidecar, "root@example.com", &["--super-admin"]);
    let managed_id = made(&sidecar, "jane@example.com", &[]);
    let free_id = made(&sidecar, "john@elsewhere.test", &[]);
    let anybody = Person::stranger(&sidecar);
    let root = anybody.logged_in("root@example.com", PASSWORD);
    let (jane, john) =
        (anybody.logged_in("jane@example.com", PASSWORD), anybody.logged_in("john@elsewhere.test", PASSWORD));
    assert_eq!(jane.get("/v1/me").ok().body["user"]["managing_organization_id"], ORGANIZATION);
    assert!(john.get("/v1/me").ok().body["user"].get("managing_organization_id").is_none());

    let managed = organization(&format!("/user/{managed_id}"));
    let free = organization(&format!("/user/{free_id}"));
    for changes in
        [json!({ "state": "deactivated" }), json!({ "state": "deleted" }), json!({ "real_name": "X" })]
    {
        root.patch(&free, &changes).refused(403, "user_not_managed");
    }
    root.post(&format!("{free}/reset_password"), &json!({})).refused(403, "user_not_managed");

    // Personal tokens: a managed person makes none while they are off, another one makes some and cannot use them here.
    set_policy(&sidecar, PolicyUpdate { personal_tokens_enabled: Some(false), ..Default::default() });
    jane.post("/v1/access_token", &json!({})).refused(403, "personal_tokens_disabled");
    let unusable = john.post("/v1/access_token", &json!({})).ok();
    assert_eq!(
        through_proxy(&sidecar, unusable.text("full_token")),
        (403, "personal_tokens_disabled".into())
    );
    set_policy(&sidecar, PolicyUpdate { personal_tokens_enabled: Some(true), ..Default::default() });
    let personal = jane.post("/v1/access_token", &json!({})).ok();

    // Tokens and methods of a person, for admins.
    jane.get(&format!("{managed}/access-tokens")).refused(403, "permission_denied");
    let tokens = root.get(&format!("{managed}/access-tokens")).ok().body["tokens"].clone();
    assert_eq!(tokens.as_array().unwrap().len(), 2);
    let methods = root.get(&format!("{managed}/authentication_methods")).ok();
    assert_eq!(methods.body["authentication_methods"][0]["method_type"], "password");
    let prefix = unusable.text("token_prefix");
    let tokens = root.get(&format!("{free}/access-tokens")).ok().body["tokens"].clone();
    assert_eq!(tokens.as_array().unwrap().len(), 2, "who belongs to no other organization");
    sidecar.directory.joins_another_organization(&free_id);
    root.get(&format!("{free}/access-tokens")).refused(403, "user_not_managed");
    root.delete(&format!("{free}/access-token/{prefix}")).refused(403, "user_not_managed");
    root.delete(&format!("{managed}/access-token/{prefix}")).refused(404, "not_found");
    root.delete(&format!("{managed}/access-token/{}", personal.text("token_prefix"))).ok();
    assert_eq!(through_proxy(&sidecar, personal.text("full_token")), (401, "token_revoked".into()));

    // Switched off, on, and recovered.
    root.patch(&managed, &json!({ "state": "deactivated" })).ok();
    jane.get("/v1/me").refused(401, "user_deactivated");
    anybody.log_in("jane@example.com", PASSWORD, None).refused(401, "invalid_credentials");
    root.patch(&managed, &json!({ "state": "active" })).ok();
    jane.get("/v1/me").ok();
    let started = root.post(&format!("{managed}/reset_password"), &json!({})).ok();
    jane.get("/v1/me").refused(401, "token_revoked");
    anybody.log_in("jane@example.com", PASSWORD, None).refused(401, "invalid_credentials");
    let body = json!({ "code": started.text("code"), "password": OTHER_PASSWORD });
    let back = anybody.post("/v1/userauth/setup", &body).ok();
    anybody.post("/v1/userauth/setup", &body).refused(400, "bad_request");
    assert_eq!(anybody.with(back.text("token")).get("/v1/me").ok().body["user"]["user_id"], managed_id);
    anybody.logged_in("jane@example.com", OTHER_PASSWORD);

    // Removed: the account of somebody who is not managed goes on, elsewhere.
    root.delete(&free).ok();
    john.get("/v1/me").ok();
    john.get(&organization("/user")).refused(404, "not_found");
    root.get(&free).refused(404, "not_found");
}

#[test]
fn who_is_no_admin_takes_over_nobody_who_has_more() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    verified(&sidecar);
    let root_id = made(&sidecar, "root@example.com", &["--super-admin"]);
    let helper_id = made(&sidecar, "helper@example.com", &[]);
    let granted_id = made(&sidecar, "granted@example.com", &[]);
    let plain_id = made(&sidecar, "plain@example.com", &[]);
    let store = &*sidecar.directory.store;
    let principal = postern::directory::model::Principal::User(helper_id.clone());
    let resource = Resource::Organization(ORGANIZATION.into());
    operations::grant(store, &principal, &resource, &["organization:users:write".to_owned()], now()).unwrap();
    grant(&sidecar, &granted_id);
    let helper = Person::stranger(&sidecar).logged_in("helper@example.com", PASSWORD);
    for id in [&root_id, &granted_id] {
        let path = organization(&format!("/user/{id}"));
        helper.post(&format!("{path}/reset_password"), &json!({})).refused(403, "user_has_more_than_caller");
        helper.patch(&path, &json!({ "state": "deactivated" })).refused(403, "user_has_more_than_caller");
        helper.delete(&path).refused(403, "user_has_more_than_caller");
    }
    let session = Person::stranger(&sidecar).log_in("root@example.com", PASSWORD, None).ok();
    let prefix = &session.text("token")[..17];
    helper
        .delete(&organization(&format!("/user/{root_id}/access-token/{prefix}")))
        .refused(403, "user_has_more_than_caller");
    let plain = organization(&format!("/user/{plain_id}"));
    helper.patch(&plain, &json!({ "is_super_admin": true })).refused(403, "permission_denied");
    helper.patch(&plain, &json!({ "real_name": "Plain Jane" })).ok();
    helper.post(&format!("{plain}/reset_password"), &json!({})).ok();
    helper.post(&organization("/invitation"), &json!({ "user_email": "new@example.com" })).ok();
    let plain = Person::stranger(&sidecar);
    plain
        .post(&organization("/invitation"), &json!({ "user_email": "a@b.test" }))
        .refused(401, "missing_credentials");
}

#[test]
fn a_reset_code_ends_when_its_person_comes_to_have_more() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    verified(&sidecar);
    made(&sidecar, "root@example.com", &["--super-admin"]);
    let jane_id = made(&sidecar, "jane@example.com", &[]);
    let anybody = Person::stranger(&sidecar);
    let root = anybody.logged_in("root@example.com", PASSWORD);
    let path = organization(&format!("/user/{jane_id}"));
    let code = || {
        let started = root.post(&format!("{path}/reset_password"), &json!({})).ok();
        started.text("code").to_owned()
    };
    let set_up =
        |code: &str| anybody.post("/v1/userauth/setup", &json!({ "code": code, "password": OTHER_PASSWORD }));
    let store = &*sidecar.directory.store;
    let group = operations::create_group(store, ORGANIZATION, "Admins", "", now()).unwrap().value.id;
    let on_project = |principal_type: &str, id: &str, operation: &str| {
        let change = json!({ "operation": operation, "permissions": [
            { "principal_type": principal_type, "principal_id": id, "permissions": ["developer"] }
        ] });
        root.patch(&organization("/permissions/project/demo"), &change).ok();
    };
    let join = json!({ "operation": "add_members", "member_ids": [jane_id] });
    let members = organization(&format!("/user-groups/{group}/members"));
    for more in [
        &(|| drop(root.patch(&path, &json!({ "is_super_admin": true })).ok())) as &dyn Fn(),
        &|| drop(operations::set_super_admin(store, &jane_id, ORGANIZATION, true, now()).unwrap()),
        &|| on_project("user", &jane_id, "grant"),
        &|| drop(root.patch(&members, &join).ok()),
        &|| on_project("user_group", &group, "set"),
    ] {
        let kept = code();
        more();
        set_up(&kept).refused(400, "bad_request");
        root.patch(&path, &json!({ "is_super_admin": false })).ok();
    }
    // What is repeated, or taken away, is no more; and an admin resets somebody who has something.
    let code = code();
    on_project("user", &jane_id, "grant");
    on_project("user", &jane_id, "revoke");
    root.patch(&path, &json!({ "real_name": "Jane", "is_super_admin": false })).ok();
    set_up(&code).ok();
}

#[test]
fn an_invitation_is_accepted_by_whom_it_is_for_and_nobody_else() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    made(&sidecar, "root@example.com", &["--super-admin"]);
    let jane_id = made(&sidecar, "jane@example.com", &[]);
    let anybody = Person::stranger(&sidecar);
    let root = anybody.logged_in("root@example.com", PASSWORD);
    let jane = anybody.logged_in("jane@example.com", PASSWORD);
    root.post(&organization("/invitation"), &json!({ "user_email": "jane@example.com" }))
        .refused(409, "already_exists");
    root.delete(&organization(&format!("/user/{jane_id}"))).ok();
    jane.get(&organization("")).refused(404, "not_found");

    let invited = root.post(&organization("/invitation"), &json!({ "user_email": "jane@example.com" })).ok();
    assert!(invited.body.get("code").is_none(), "she has an account");
    let mine = jane.get("/v1/me").ok().body["user"]["invitations"].clone();
    assert_eq!(mine[0]["organization_id"], ORGANIZATION);
    let path = organization("/invitation/jane%40example.com");
    root.post(&path, &json!({ "action": "accept" })).refused(404, "not_found");
    jane.post(&path, &json!({ "action": "decline" })).refused(400, "bad_request");
    jane.delete(&path).refused(404, "not_found");
    jane.post(&path, &json!({ "action": "accept" })).ok();
    jane.get(&organization("")).ok();
    jane.post(&path, &json!({ "action": "accept" })).refused(404, "not_found");

    root.post(&organization("/invitation"), &json!({ "user_email": "gone@example.com" })).ok();
    root.delete(&organization("/invitation/gone%40example.com")).ok();
    root.delete(&organization("/invitation/gone%40example.com")).refused(404, "not_found");
    for wrong in ["", "jane", "@example.com", "a b@example.com", "a@b@c.test"] {
        root.post(&organization("/invitation"), &json!({ "user_email": wrong })).refused(400, "bad_request");
    }
    // Where other organizations are, nobody vouches for an address whose domain is not theirs.
    let store = &*sidecar.directory.store;
    operations::ensure_organization(store, "org0f0f0f0f0f0", "Other", now()).unwrap();
    root.post(&organization("/invitation"), &json!({ "user_email": "stranger@example.com" }))
        .refused(409, "conflict");
    verified(&sidecar);
    root.post(&organization("/invitation"), &json!({ "user_email": "stranger@example.com" })).ok();
}

#[test]
fn a_token_makes_none_that_may_do_more_than_itself() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    made(&sidecar, "jane@example.com", &[]);
    let anybody = Person::stranger(&sidecar);
    let jane = anybody.logged_in("jane@example.com", PASSWORD);
    let body = json!({ "scopes": ["user:read", "user:write"], "ip_allowlist": ["127.0.0.0/8"] });
    let narrow = anybody.with(jane.post("/v1/access_token", &body).ok().text("full_token"));
    let inherited = narrow.post("/v1/access_token", &json!({})).ok();
    assert_eq!(inherited.body["scopes"], body["scopes"]);
    assert_eq!(inherited.body["ip_allowlist"], body["ip_allowlist"]);
    narrow
        .post("/v1/access_token", &json!({ "scopes": ["service:data:write"] }))
        .refused(403, "insufficient_scope");
    narrow
        .post("/v1/access_token", &json!({ "ip_allowlist": ["0.0.0.0/0"] }))
        .refused(403, "ip_not_allowed_by_token");
    narrow.post("/v1/access_token", &json!({ "scopes": ["user:fly"] })).refused(400, "bad_request");
    let reader = json!({ "scopes": ["user:read"], "ip_allowlist": ["127.0.0.1"] });
    let reader = anybody.with(narrow.post("/v1/access_token", &reader).ok().text("full_token"));
    reader.get("/v1/me").ok();
    reader.post("/v1/access_token", &json!({})).refused(403, "insufficient_scope");
    reader.post("/v1/me/expire_tokens", &json!({})).refused(403, "insufficient_scope");
    reader.from([127, 0, 0, 2]).get("/v1/me").refused(403, "ip_not_allowed_by_token");
    reader
        .put("/v1/me/password", &json!({ "password": PASSWORD, "new_password": OTHER_PASSWORD }))
        .refused(403, "insufficient_scope");
    // Changed and revoked by prefix or by the whole token, and by nobody else.
    let own = jane.post("/v1/access_token", &json!({ "description": "old" })).ok();
    let (prefix, full) = (own.text("token_prefix"), own.text("full_token"));
    let changed = jane.put(&format!("/v1/access_token/{full}"), &json!({ "description": "new" })).ok();
    assert_eq!((changed.text("description"), changed.text("token_prefix")), ("new", prefix));
    made(&sidecar, "john@example.com", &[]);
    let john = anybody.logged_in("john@example.com", PASSWORD);
    let missing = john.delete(&format!("/v1/access_token/{full}")).refused(404, "not_found");
    assert!(!missing.body.to_string().contains(full));
    jane.delete(&format!("/v1/access_token/{prefix}")).ok();
    jane.delete(&format!("/v1/access_token/{full}")).ok();
    anybody.with(full).get("/v1/me").refused(401, "token_revoked");
    assert!(!sidecar.output().contains(full), "a whole token is in the log");
    // Logging out as `avn` does it.
    let session = anybody.log_in("jane@example.com", PASSWORD, None).ok();
    let leaving = anybody.with(session.text("token"));
    leaving.delete(&format!("/v1/access_token/{}", session.text("token"))).ok();
    leaving.get("/v1/me").refused(401, "token_revoked");
    jane.post("/v1/me/logout", &json!({})).ok();
    jane.get("/v1/me").refused(401, "token_revoked");
}

#[test]
fn ways_to_log_in_are_listed_and_deleted_with_what_is_bound_to_them() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let jane_id = made(&sidecar, "jane@example.com", &[]);
    let anybody = Person::stranger(&sidecar);
    let jane = anybody.logged_in("jane@example.com", PASSWORD);
    let methods = jane.get("/v1/me/authentication_methods").ok().body["authentication_methods"].clone();
    let password = methods[0]["user_authentication_method_id"].as_str().unwrap().to_owned();
    let path = format!("/v1/me/authentication_methods/{password}");
    jane.delete(&path).refused(409, "conflict");
    jane.delete("/v1/me/authentication_methods/uam000000000000").refused(404, "not_found");
    let google = sidecar.directory.method(&jane_id, postern::directory::model::MethodKind::Google, None);
    let through_google =
        sidecar.directory.token_with(&jane_id, postern::token::TokenKind::Session, |token| {
            token.authentication_method_id = Some(google.clone());
        });
    sidecar.wait_for(&through_google);
    assert_eq!(jane.get("/v1/me").ok().body["user"]["auth"], json!(["password", "google_oauth"]));
    jane.delete(&path).ok();
    jane.get("/v1/me").refused(401, "token_revoked");
    anybody.log_in("jane@example.com", PASSWORD, None).refused(401, "invalid_credentials");
    let jane = anybody.with(&through_google.token);
    assert_eq!(jane.get("/v1/me").ok().body["user"]["auth"], json!(["google_oauth"]));
    jane.put("/v1/me/2fa", &json!({ "method": "totp", "password": PASSWORD }))
        .refused(401, "invalid_credentials");
    jane.delete(&format!("/v1/me/authentication_methods/{google}")).refused(409, "conflict");
}

#[test]
fn a_program_sees_itself_and_its_tokens_and_has_no_password() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let program = sidecar.super_admin();
    let program_itself = Person::stranger(&sidecar).with(&program.token);
    let me = program_itself.get("/v1/me").ok().body["user"].clone();
    assert_eq!(me["user_id"], program.user_id);
    assert_eq!(me["auth"], json!([]));
    assert_eq!(me["projects"], json!(["demo"]));
    let tokens = program_itself.get("/v1/access_token").ok().body["tokens"].clone();
    assert_eq!(
        (&tokens[0]["token_prefix"], &tokens[0]["currently_active"]),
        (&program.prefix.clone().into(), &true.into())
    );
    program_itself.post("/v1/access_token", &json!({})).refused(403, "application_user");
    let change = json!({ "password": PASSWORD, "new_password": OTHER_PASSWORD });
    program_itself.put("/v1/me/password", &change).refused(403, "application_user");
    program_itself
        .put("/v1/me/2fa", &json!({ "method": "totp", "password": "" }))
        .refused(403, "application_user");
    assert_eq!(
        program_itself.get("/v1/me/authentication_methods").ok().body["authentication_methods"],
        json!([])
    );
    program_itself.delete(&format!("/v1/access_token/{}", program.token)).ok();
    program_itself.get("/v1/me").refused(401, "token_revoked");
}

#[test]
fn the_command_line_makes_the_first_admin_and_recovers_people() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let refused = try_postern_user(&sidecar, &["create", "root@example.com"], "root").unwrap_err();
    assert!(refused.contains("the password must have 8 to 256 characters"), "{refused}");
    let shown = postern_user(&sidecar, &["create", "Root@Example.com", "--super-admin"], PASSWORD);
    assert_eq!((&shown["user_email"], &shown["is_super_admin"]), (&"root@example.com".into(), &true.into()));
    assert_eq!((&shown["has_password"], &shown["two_factor_enabled"]), (&true.into(), &false.into()));
    let taken = try_postern_user(&sidecar, &["create", "root@example.com"], PASSWORD).unwrap_err();
    assert!(taken.contains("already exists"), "{taken}");
    let anybody = Person::stranger(&sidecar);
    let root = anybody.logged_in("root@example.com", PASSWORD);
    postern_user(&sidecar, &["set-password", "root@example.com"], OTHER_PASSWORD);
    until("the session to end", || root.get("/v1/me").status == 401);
    let root = anybody.logged_in("root@example.com", OTHER_PASSWORD);
    let begun = root.put("/v1/me/2fa", &json!({ "method": "totp", "password": OTHER_PASSWORD })).ok();
    let app = app(begun.text("uri"), "root@example.com");
    let proof =
        json!({ "otp": app.password_at(seconds()), "password": OTHER_PASSWORD, "uri": begun.text("uri") });
    root.put("/v1/me/2fa/otp", &proof).ok();
    anybody.log_in("root@example.com", OTHER_PASSWORD, None).refused(510, "otp_required");
    let shown = postern_user(&sidecar, &["reset-two-factor", "root@example.com"], "");
    assert_eq!(shown["two_factor_enabled"], false);
    anybody.logged_in("root@example.com", OTHER_PASSWORD);
    // What would be recoverable is unreadable without the key file, which is its owner's alone.
    let key = std::fs::metadata(sidecar.folder().join("store.db.key")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777, 0o600);
    postern_user(&sidecar, &["create", "jane@example.com", "--without-password"], "");
    anybody.log_in("jane@example.com", "", None).refused(401, "invalid_credentials");
    let people = postern_user(&sidecar, &["list"], "")["users"].clone();
    assert_eq!(people.as_array().unwrap().len(), 2);
    postern_user(&sidecar, &["delete", "jane@example.com", "--yes"], "");
    assert!(
        try_postern_user(&sidecar, &["show", "jane@example.com"], "").unwrap_err().contains("does not exist")
    );
}
