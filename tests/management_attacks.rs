//! The management API under attack by somebody with a stolen token, a found password, or nothing but connections.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "people/support.rs"]
mod people;
mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use people::{Answer, OTHER_PASSWORD, PASSWORD, Person, app, made, seconds, with_api};
use postern::directory::model::{DomainVerification, Grant, Principal, Resource};
use postern::directory::operations;
use postern::directory::store::{EventOrder, EventQuery, EventScope};
use postern::login::session::SessionLifetime;
use postern::token::TokenKind;
use serde_json::json;
use support::directory::{ORGANIZATION, now};
use support::{Sidecar, Upstream, until};

/// A request whose head has been sent and whose body is held back.
struct Held {
    stream: TcpStream,
    body: String,
}

impl Held {
    fn begin(person: &Person, method: &str, path: &str, body: &serde_json::Value) -> Self {
        let request = person.request(method, path, Some(body), "close");
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let mut stream = person.connect();
        stream.write_all(format!("{head}\r\n\r\n{{").as_bytes()).unwrap();
        // Long enough for the head to have been looked at.
        std::thread::sleep(Duration::from_millis(300));
        Self { stream, body: body[1..].to_owned() }
    }

    fn finish(mut self) -> Answer {
        self.stream.write_all(self.body.as_bytes()).unwrap();
        let mut whole = String::new();
        self.stream.read_to_string(&mut whole).unwrap();
        Answer::parse(&whole)
    }
}

#[test]
fn what_a_token_had_begun_before_it_was_revoked_makes_no_new_one() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    made(&sidecar, "jane@example.com", &[]);
    let anybody = Person::stranger(&sidecar);
    for revoke in ["/v1/me/logout", "/v1/me/expire_tokens"] {
        let jane = anybody.logged_in("jane@example.com", PASSWORD);
        let stolen = jane.post("/v1/access_token", &json!({})).ok();
        let thief = anybody.with(stolen.text("full_token"));
        let minting = Held::begin(&thief, "POST", "/v1/access_token", &json!({ "description": "mine" }));
        let by_session = Held::begin(&jane, "POST", "/v1/access_token", &json!({ "description": "mine" }));
        let extending = Held::begin(
            &thief,
            "PUT",
            &format!("/v1/access_token/{}", stolen.text("token_prefix")),
            &json!({ "max_age_seconds": 315_360_000 }),
        );
        jane.delete(&format!("/v1/access_token/{}", stolen.text("token_prefix"))).ok();
        jane.post(revoke, &json!({})).ok();
        minting.finish().refused(401, "token_revoked");
        by_session.finish().refused(401, "token_revoked");
        extending.finish().refused(401, "token_revoked");
        let jane = anybody.logged_in("jane@example.com", PASSWORD);
        let left = jane.get("/v1/access_token").ok().body["tokens"].clone();
        assert!(!left.to_string().contains("mine"), "{left}");
    }
}

#[test]
fn a_personal_token_and_a_found_password_are_no_login() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let jane_id = made(&sidecar, "jane@example.com", &[]);
    let anybody = Person::stranger(&sidecar);
    let jane = anybody.logged_in("jane@example.com", PASSWORD);
    let begun = jane.put("/v1/me/2fa", &json!({ "method": "totp", "password": PASSWORD })).ok();
    let uri = begun.text("uri");
    let otp = app(uri, "jane@example.com").password_at(seconds());
    let proof = json!({ "otp": otp, "password": PASSWORD, "uri": uri });
    let jane = anybody.with(jane.put("/v1/me/2fa/otp", &proof).ok().text("token"));
    let narrow = json!({ "scopes": ["user:read", "user:write"], "ip_allowlist": ["127.0.0.1"] });
    let program = anybody.with(jane.post("/v1/access_token", &narrow).ok().text("full_token"));
    sidecar.directory.method(&jane_id, postern::directory::model::MethodKind::Google, None);
    let methods = jane.get("/v1/me/authentication_methods").ok().body["authentication_methods"].clone();
    let password_method = methods[0]["user_authentication_method_id"].as_str().unwrap();
    // A session without restrictions, without the second factor.
    let change = json!({ "password": PASSWORD, "new_password": OTHER_PASSWORD });
    program.put("/v1/me/password", &change).refused(403, "session_required");
    // The second factor switched off; taken over by an app of one's own; deleted with the password.
    program
        .put("/v1/me/2fa", &json!({ "method": "", "password": PASSWORD }))
        .refused(403, "session_required");
    program.put("/v1/me/2fa/otp", &proof).refused(403, "session_required");
    program
        .delete(&format!("/v1/me/authentication_methods/{password_method}"))
        .refused(403, "session_required");
    assert_eq!(jane.get("/v1/me").ok().body["user"]["auth"], json!(["password", "google_oauth", "totp"]));
}

#[test]
fn a_personal_token_makes_nothing_that_outlives_it() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    made(&sidecar, "jane@example.com", &[]);
    let anybody = Person::stranger(&sidecar);
    let jane = anybody.logged_in("jane@example.com", PASSWORD);
    let forever = jane.post("/v1/access_token", &json!({})).ok();
    assert_eq!(forever.body["expiry_time"], json!(null), "a session may leave behind what outlives it");
    let for_a_while = jane.post("/v1/access_token", &json!({ "max_age_seconds": 600 })).ok();
    let end = for_a_while.text("expiry_time");
    let thief = anybody.with(for_a_while.text("full_token"));
    // Times in RFC 3339 and UTC sort as texts do.
    let ends_with_it = |answer: &Answer| {
        assert!(answer.text("expiry_time") <= end, "{} outlives {end}", answer.body);
    };
    let long = json!({ "max_age_seconds": 315_360_000, "extend_when_used": true });
    let made = thief.post("/v1/access_token", &json!({})).ok();
    ends_with_it(&made);
    ends_with_it(&thief.post("/v1/access_token", &long).ok());
    // Nor does what that one makes, nor what any of them changes.
    let grandchild = anybody.with(made.text("full_token")).post("/v1/access_token", &long).ok();
    ends_with_it(&grandchild);
    for changed in [&for_a_while, &made, &forever] {
        let path = format!("/v1/access_token/{}", changed.text("token_prefix"));
        ends_with_it(&thief.put(&path, &long).ok());
        let path = format!("/v1/access_token/{}", made.text("token_prefix"));
        ends_with_it(&thief.put(&path, &json!({ "extend_when_used": true })).ok());
    }
    // What is not about lifetimes shortens none.
    let other = jane.post("/v1/access_token", &json!({})).ok();
    let path = format!("/v1/access_token/{}", other.text("token_prefix"));
    let described = thief.put(&path, &json!({ "description": "reports" })).ok();
    assert_eq!(described.body["expiry_time"], json!(null));
}

#[test]
fn nobody_makes_tokens_without_end() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let jane_id = made(&sidecar, "jane@example.com", &[]);
    let anybody = Person::stranger(&sidecar);
    let oldest = anybody.logged_in("jane@example.com", PASSWORD);
    let store = &*sidecar.directory.store;
    let method = store.read(|records| records.authentication_methods(&jane_id)).unwrap().remove(0).id;
    let begin_sessions = |count: usize| {
        let lifetime = SessionLifetime { idle_seconds: 3_600, absolute_seconds: 86_400 };
        let terms = lifetime.beginning(now());
        let (user_id, authentication_method_id) = (jane_id.clone(), method.clone());
        let session = operations::NewSession { user_id, authentication_method_id, terms };
        for _ in 0..count {
            operations::create_session(store, &session, now()).unwrap();
        }
    };
    begin_sessions(98);
    let last = anybody.logged_in("jane@example.com", PASSWORD);
    oldest.get("/v1/me").ok();
    begin_sessions(1);
    until("the oldest session to end", || oldest.get("/v1/me").status == 401);
    oldest.get("/v1/me").refused(401, "token_revoked");
    last.get("/v1/me").ok();

    let first = last.post("/v1/access_token", &json!({})).ok();
    let expired = operations::NewToken {
        user_id: jane_id.clone(),
        kind: TokenKind::Personal,
        description: String::new(),
        created_manually: true,
        max_age_seconds: Some(600),
        extend_when_used: false,
        ip_allowlist: Vec::new(),
        scopes: Vec::new(),
        authentication_method_id: Some(method.clone()),
    };
    let long_ago = postern::directory::model::Timestamp(now().0 - 601);
    operations::create_token(store, &expired, long_ago).unwrap();
    for _ in 1..1_000 {
        operations::create_token(store, &expired, now()).unwrap();
    }
    let refused = last.post("/v1/access_token", &json!({})).refused(409, "conflict");
    assert!(refused.text("message").contains("1000 personal tokens"), "{}", refused.body);
    last.delete(&format!("/v1/access_token/{}", first.text("token_prefix"))).ok();
    last.post("/v1/access_token", &json!({})).ok();
    last.post("/v1/access_token", &json!({})).refused(409, "conflict");
}

#[test]
fn nobody_keeps_the_store_busy_with_one_request() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    made(&sidecar, "root@example.com", &["--super-admin"]);
    let anybody = Person::stranger(&sidecar);
    let root = anybody.logged_in("root@example.com", PASSWORD);
    let path = |rest: &str| format!("/v1/organization/{ORGANIZATION}{rest}");
    let group = root.post(&path("/user-groups"), &json!({ "user_group_name": "All" })).ok();
    let members = path(&format!("/user-groups/{}/members", group.text("user_group_id")));
    let ids: Vec<String> = (0..1_001).map(|number| format!("u{number:012}")).collect();
    for operation in ["add_members", "remove_members"] {
        let change = json!({ "operation": operation, "member_ids": ids });
        let refused = root.patch(&members, &change).refused(400, "bad_request");
        assert!(
            refused.text("message").starts_with("member_ids: names 1001, at most 1000"),
            "{}",
            refused.body
        );
        let at_once = json!({ "operation": "remove_members", "member_ids": ids[1..] });
        root.patch(&members, &at_once).ok();
    }
    let wanted = |id: &String| json!({ "principal_type": "user", "principal_id": id, "permissions": [] });
    let grants = path("/permissions/project/demo");
    let permissions: Vec<_> = ids.iter().map(wanted).collect();
    for refused in [
        root.put(&grants, &json!({ "permissions": permissions })),
        root.patch(&grants, &json!({ "permissions": permissions })),
    ] {
        let refused = refused.refused(400, "bad_request");
        assert!(refused.text("message").starts_with("permissions: names 1001"), "{}", refused.body);
    }
    root.patch(&grants, &json!({ "permissions": permissions[1..] })).ok();
    let twice = json!({ "permissions": [permissions[0], permissions[0]] });
    root.patch(&grants, &twice).refused(400, "bad_request");

    // A name is judged before anything is compared with it.
    let invited = root.post(&path("/invitation"), &json!({ "user_email": "jane@example.com" })).ok();
    let long = "jane ".repeat(2_000);
    let set_up = json!({ "code": invited.text("code"), "password": "jane", "real_name": long });
    let refused = anybody.post("/v1/userauth/setup", &set_up).refused(400, "bad_request");
    assert!(refused.text("message").starts_with("real_name: "), "{}", refused.body);
}

#[test]
fn a_right_that_was_given_a_moment_before_counts() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let store = &*sidecar.directory.store;
    let domain = operations::add_domain(store, ORGANIZATION, "example.com", DomainVerification::Dns, now());
    operations::verify_domain(store, ORGANIZATION, &domain.unwrap().value.id, now()).unwrap();
    let helper_id = made(&sidecar, "helper@example.com", &[]);
    let all = Resource::Organization(ORGANIZATION.into());
    let rights = ["users", "app_users", "groups"].map(|what| format!("organization:{what}:write"));
    operations::grant(store, &Principal::User(helper_id), &all, &rights, now()).unwrap();
    let helper = Person::stranger(&sidecar).logged_in("helper@example.com", PASSWORD);
    let group = operations::create_group(store, ORGANIZATION, "Plain", "", now()).unwrap().value.id;
    let path = |rest: String| format!("/v1/organization/{ORGANIZATION}/{rest}");
    let person = |number: u32| made(&sidecar, &format!("jane{number}@example.com"), &[]);
    let people: Vec<String> = (0..4).map(person).collect();
    let program = operations::NewApplicationUser {
        organization_id: ORGANIZATION.into(),
        name: "ingest".into(),
        description: String::new(),
        is_super_admin: false,
    };
    let program = operations::create_application_user(store, &program, now()).unwrap().value.user.id;
    let user = |id: &str| Principal::User(id.to_owned());
    let of_person = |rest: &str, id: &str| path(format!("user/{id}{rest}"));
    let joining = json!({ "operation": "add_members", "member_ids": [people[3]] });
    let members = path(format!("user-groups/{group}/members"));
    let tokens = path(format!("application-users/{program}/access-tokens"));
    type Case<'a> = (Principal, &'a str, String, serde_json::Value, &'a str);
    let more = "user_has_more_than_caller";
    let cases: [Case<'_>; 5] = [
        (user(&people[0]), "POST", of_person("/reset_password", &people[0]), json!({}), more),
        (user(&people[1]), "PATCH", of_person("", &people[1]), json!({ "state": "deactivated" }), more),
        (user(&people[2]), "DELETE", of_person("", &people[2]), json!({}), more),
        (user(&program), "POST", tokens, json!({}), more),
        (Principal::UserGroup(group), "PATCH", members, joining, "group_has_more_than_caller"),
    ];
    for (principal, method, path, body, code) in cases {
        let granted = Grant {
            principal,
            resource: Resource::Project("demo".into()),
            create_time: now(),
            update_time: now(),
            permissions: vec!["developer".to_owned()],
        };
        // While the store is being written to, the request comes as far as it can without it.
        std::thread::scope(|scope| {
            let mut asking = None;
            let changed = store.change_with(now(), &mut |changes| {
                asking = Some(scope.spawn(|| helper.send(method, &path, Some(&body))));
                std::thread::sleep(Duration::from_millis(500));
                Ok(changes.put_grant(&granted)?)
            });
            changed.unwrap();
            asking.unwrap().join().unwrap().refused(403, code);
        });
    }
}

#[test]
fn one_time_passwords_cannot_be_tried_from_many_places() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    made(&sidecar, "jane@example.com", &[]);
    let anybody = Person::stranger(&sidecar);
    let jane = anybody.logged_in("jane@example.com", PASSWORD);
    let begun = jane.put("/v1/me/2fa", &json!({ "method": "totp", "password": PASSWORD })).ok();
    let app = app(begun.text("uri"), "jane@example.com");
    let proof = json!({ "otp": app.password_at(seconds()), "password": PASSWORD, "uri": begun.text("uri") });
    jane.put("/v1/me/2fa/otp", &proof).ok();
    for place in 1..=20 {
        let thief = anybody.from([127, 0, 44, place]);
        thief.log_in("jane@example.com", PASSWORD, Some("no code")).refused(401, "invalid_credentials");
    }
    let next = app.password_at(seconds() + 30);
    for otp in ["no code", &next] {
        let thief = anybody.from([127, 0, 45, otp.len() as u8]);
        let refused = thief.log_in("jane@example.com", PASSWORD, Some(otp));
        refused.refused(429, "too_many_requests");
    }
    anybody.log_in("jane@example.com", PASSWORD, Some(&next)).ok();
}

#[test]
fn a_password_of_the_wrong_type_is_not_repeated() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let anybody = Person::stranger(&sidecar);
    let answer =
        anybody.post("/v1/userauth", &json!({ "email": "jane@example.com", "password": 20_041_989 }));
    let answer = answer.refused(400, "bad_request");
    assert_eq!(answer.text("message"), "password: must be a text");
    let answer =
        anybody.post("/v1/userauth", &json!({ "email": 7, "password": "x" })).refused(400, "bad_request");
    assert_eq!(answer.text("message"), "email: must be a text");
    // A field that is not there at all is not one of the wrong type, though its name is a secret's elsewhere.
    let body = json!({ "code": "x", "new_password": "hunter2" });
    let answer = anybody.post("/v1/userauth/setup", &body).refused(400, "bad_request");
    let message = answer.text("message");
    assert_eq!(message, "new_password: there is no such field here; there are code, password, real_name");
}

#[test]
fn connections_without_a_request_end_and_one_source_does_not_take_all() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let anybody = Person::stranger(&sidecar);
    let hoarder = anybody.from([127, 0, 66, 1]);
    let opened = Instant::now();
    let mut silent: Vec<TcpStream> = (0..600).map(|_| hoarder.connect()).collect();
    // Those that are too many are closed at once.
    let mut last = silent.pop().unwrap();
    assert!(matches!(last.read(&mut [0]), Ok(0) | Err(_)));
    assert!(opened.elapsed() < Duration::from_secs(20), "{:?}", opened.elapsed());
    anybody.get("/v1/openapi.json").ok();
    // The others when they have said nothing for half a minute, or no more than a part of HTTP/2's first words.
    let mut first = silent.swap_remove(0);
    silent[0].write_all(b"PRI * HT").unwrap();
    for stream in [&mut first, &mut silent[0]] {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        assert!(
            !matches!(stream.read(&mut [0; 64]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        );
    }
    let waited = opened.elapsed();
    assert!((Duration::from_secs(25)..Duration::from_secs(55)).contains(&waited), "{waited:?}");
}

#[test]
fn a_token_that_was_handed_out_does_not_become_a_login() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let store = &*sidecar.directory.store;
    let domain = operations::add_domain(store, ORGANIZATION, "example.com", DomainVerification::Dns, now());
    operations::verify_domain(store, ORGANIZATION, &domain.unwrap().value.id, now()).unwrap();
    let root_id = made(&sidecar, "root@example.com", &["--super-admin"]);
    let other_id = made(&sidecar, "other@example.com", &["--super-admin"]);
    let plain_id = made(&sidecar, "plain@example.com", &[]);
    let granted_id = made(&sidecar, "granted@example.com", &[]);
    sidecar.directory.grant(&granted_id, &["developer"]);
    let anybody = Person::stranger(&sidecar);
    let root = anybody.logged_in("root@example.com", PASSWORD);
    let stolen = anybody.with(root.post("/v1/access_token", &json!({})).ok().text("full_token"));
    let program = sidecar.super_admin();
    sidecar.wait_for(&program);
    let program = anybody.with(&program.token);
    let user = |id: &str, rest: &str| format!("/v1/organization/{ORGANIZATION}/user/{id}/{rest}");
    for reset in ["reset_password", "reset_two_factor"] {
        // Its own holder's, and by a session neither: whoever holds that has shown no password now.
        for own in [&stolen, &root] {
            own.post(&user(&root_id, reset), &json!({})).refused(403, "own_account");
        }
        for id in [&other_id, &granted_id] {
            for thief in [&stolen, &program] {
                thief.post(&user(id, reset), &json!({})).refused(403, "session_required");
            }
        }
    }
    // Nothing of that has happened.
    root.get("/v1/me").ok();
    anybody.logged_in("other@example.com", PASSWORD);
    // Who has nothing is reset by programs too, who has something by somebody who has logged in.
    program.post(&user(&plain_id, "reset_password"), &json!({})).ok();
    root.post(&user(&granted_id, "reset_password"), &json!({})).ok();
    root.post(&user(&other_id, "reset_password"), &json!({})).ok();
}

#[test]
fn nobody_takes_a_name_that_somebody_with_more_had() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let root = sidecar.managed();
    let organization = |rest: &str| format!("/v1/organization/{ORGANIZATION}/{rest}");
    let users = organization("application-users");
    let made =
        |body: serde_json::Value| root.post(&users, body).json()["user_id"].as_str().unwrap().to_owned();
    let boss = made(json!({ "name": "boss", "is_super_admin": true }));
    let granted = made(json!({ "name": "ingest" }));
    sidecar.directory.grant(&granted, &["developer"]);
    let plain = made(json!({ "name": "plain" }));
    let groups = organization("user-groups");
    let group = |name: &str| {
        let made = root.post(&groups, json!({ "user_group_name": name })).json();
        made["user_group_id"].as_str().unwrap().to_owned()
    };
    let (admins, own) = (group("admins"), group("own"));
    let store = &*sidecar.directory.store;
    let resource = Resource::Organization(ORGANIZATION.into());
    let all = ["role:organization:admin".to_owned()];
    operations::grant(store, &Principal::UserGroup(admins.clone()), &resource, &all, now()).unwrap();
    let rights = ["organization:app_users:write", "organization:groups:write"];
    let helper = sidecar.directory.organization_user_with(&rights);
    sidecar.wait_for(&helper);
    let helper = sidecar.managed_as(&helper);

    for id in [&boss, &granted] {
        let path = format!("{users}/{id}");
        helper.patch(&path, json!({ "name": "boss-old" })).assert_error(403, "user_has_more_than_caller");
        helper.patch(&path, json!({ "description": "" })).assert_error(403, "user_has_more_than_caller");
        helper.delete(&path).assert_error(403, "user_has_more_than_caller");
    }
    let path = format!("{groups}/{admins}");
    helper.patch(&path, json!({ "user_group_name": "old" })).assert_error(403, "group_has_more_than_caller");
    helper.delete(&path).assert_error(403, "group_has_more_than_caller");
    let emptied = json!({ "operation": "remove_members", "member_ids": [boss] });
    helper.patch(&format!("{path}/members"), emptied).assert_error(403, "group_has_more_than_caller");
    assert_eq!(root.get(&path).json()["user_group_name"], "admins");

    // To stop a token that has leaked waits for no admin, by either path.
    let token = sidecar.directory.token(&boss);
    let path = format!("{users}/{boss}/access-tokens/{}", token.prefix);
    assert_eq!(helper.delete(&path).status, 204);
    let token = sidecar.directory.token(&boss);
    assert_eq!(helper.delete(&organization(&format!("tokens/{}", token.prefix))).status, 200);
    // Who has nothing is theirs, and so is a group that has nothing.
    let path = format!("{users}/{plain}");
    assert_eq!(helper.patch(&path, json!({ "name": "plainer" })).status, 200);
    assert_eq!(helper.delete(&path).status, 204);
    let path = format!("{groups}/{own}");
    assert_eq!(helper.patch(&path, json!({ "user_group_name": "ours" })).status, 200);
    assert_eq!(helper.delete(&path).status, 204);
}

#[test]
fn an_organization_that_somebody_joins_learns_nothing_of_their_tokens() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let jane_id = made(&sidecar, "jane@example.com", &[]);
    sidecar.directory.joins_another_organization(&jane_id);
    let anybody = Person::stranger(&sidecar).from([127, 0, 77, 7]);
    let jane = anybody.logged_in("jane@example.com", PASSWORD);
    let secret =
        json!({ "description": "elsewhere", "ip_allowlist": ["127.0.77.0/24"], "max_age_seconds": 86_400 });
    let token = jane.post("/v1/access_token", &secret).ok();
    let (prefix, full) = (token.text("token_prefix"), token.text("full_token"));
    let path = format!("/v1/access_token/{prefix}");
    jane.put(&path, &json!({ "description": "elsewhere too" })).ok();
    anybody.with(full).get("/v1/me").ok();
    let root = sidecar.super_admin();
    sidecar.wait_for(&root);
    let root = Person::stranger(&sidecar).with(&root.token);
    let organization = |rest: &str| format!("/v1/organization/{ORGANIZATION}/{rest}");
    let tells_nothing = |answer: &Answer| {
        for secret in ["elsewhere", "127.0.77."] {
            assert!(!answer.body.to_string().contains(secret), "{secret} is in {}", answer.body);
        }
    };

    for whose in [json!({ "user_id": jane_id }), json!({ "token_prefix": prefix })] {
        let mut question = whose;
        question["project"] = "demo".into();
        question["permission"] = "project:services:read".into();
        let refused = root.post(&organization("explain"), &question).refused(403, "user_not_managed");
        tells_nothing(&refused);
    }
    // That her tokens stop here, and why, is the organization's own doing.
    let preview = root.get(&organization("config/authentication/preview?personal_tokens_enabled=false")).ok();
    tells_nothing(&preview);
    let listed = &preview.body["stopping"]["tokens"][0];
    assert_eq!((&listed["token_prefix"], &listed["kind"]), (&json!(prefix), &json!("personal")));
    assert_eq!(listed["reason_after"], "personal_tokens_disabled");
    for field in ["client_address", "last_used_time", "last_ip", "last_user_agent", "expiry_time"] {
        assert_eq!(listed[field], json!(null), "{field}");
    }
    assert_eq!(listed["request_count"], 0);
    let events = root.get(&organization(&format!("events?token_prefix={prefix}"))).ok();
    assert_eq!(events.body["events"], json!([]));
    let leaked = root.post("/v1/tokens/revoke-leaked", &json!({ "tokens": [full] })).ok();
    tells_nothing(&leaked);
    assert_eq!(leaked.body["tokens"][0]["token"], json!(null));
    anybody.with(full).get("/v1/me").refused(401, "token_revoked");
    let events = root.get(&organization(&format!("events?entity_id={prefix}"))).ok();
    assert_eq!(events.body["events"], json!([]));
    // Nothing is lost: the operator's log has it.
    let of_token = store_events(&sidecar, prefix);
    assert_eq!(of_token, ["token_created", "token_changed", "token_revoked"]);
}

/// The types of all events about something, whoever may read them, oldest first.
fn store_events(sidecar: &Sidecar, entity_id: &str) -> Vec<String> {
    let query = EventQuery {
        scope: EventScope::All,
        order: EventOrder::OldestFirst { after: 0 },
        event_type: None,
        actor_user_id: None,
        entity: None,
        entity_id: Some(entity_id),
        token_prefix: None,
        since: None,
        until: None,
        limit: 100,
    };
    let page = sidecar.directory.store.read(|records| records.events(&query)).unwrap();
    page.events.into_iter().map(|event| event.event_type).collect()
}

#[test]
fn a_token_for_a_while_or_some_places_makes_no_program_s_token_without_them() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let root = sidecar.super_admin();
    let narrow = sidecar.directory.token_with(&root.user_id, TokenKind::Application, |token| {
        token.max_age_seconds = Some(600);
        token.ip_allowlist = vec!["127.0.0.0/24".into()];
    });
    sidecar.wait_for(&narrow);
    let thief = Person::stranger(&sidecar).with(&narrow.token);
    let root = thief.with(&root.token);
    let end = sidecar.directory.stored(&narrow.prefix).expiry_time.unwrap().to_string();
    let user = sidecar.directory.application_user();
    let tokens = format!("/v1/organization/{ORGANIZATION}/application-users/{user}/access-tokens");
    let long = json!({ "max_age_seconds": 315_360_000, "extend_when_used": true });
    for asked in [json!({}), long] {
        let made = thief.post(&tokens, &asked).ok();
        assert!(*made.text("expiry_time") <= *end, "{} outlives {end}", made.body);
        assert_eq!(made.body["ip_allowlist"], json!(["127.0.0.0/24"]));
    }
    let made = thief.post(&tokens, &json!({ "ip_allowlist": ["127.0.0.7"] })).ok();
    assert_eq!(made.body["ip_allowlist"], json!(["127.0.0.7"]));
    for wider in ["127.0.0.0/8", "::1", "0.0.0.0/0"] {
        let refused = thief.post(&tokens, &json!({ "ip_allowlist": [wider] }));
        refused.refused(403, "ip_not_allowed_by_token");
    }
    // Nor does it put one without them in the place of another.
    let wide = root.post(&tokens, &json!({})).ok();
    assert_eq!(wide.body["expiry_time"], json!(null), "what has no end passes none on");
    let rotate = |token: &Answer| format!("{tokens}/{}/rotate", token.text("token_prefix"));
    thief.post(&rotate(&wide), &json!({})).refused(403, "ip_not_allowed_by_token");
    let local = root.post(&tokens, &json!({ "ip_allowlist": ["127.0.0.9"] })).ok();
    let rotated = thief.post(&rotate(&local), &json!({})).ok();
    assert!(*rotated.text("expiry_time") <= *end, "{} outlives {end}", rotated.body);
    let rotated = root.post(&rotate(&wide), &json!({})).ok();
    assert_eq!((&rotated.body["expiry_time"], &rotated.body["ip_allowlist"]), (&json!(null), &json!([])));
}

#[test]
fn nobody_makes_their_own_session_last() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    made(&sidecar, "jane@example.com", &[]);
    let jane = Person::stranger(&sidecar).logged_in("jane@example.com", PASSWORD);
    let sessions = jane.get("/v1/access_token").ok().body["tokens"].clone();
    let (prefix, seconds) = (sessions[0]["token_prefix"].as_str().unwrap(), &sessions[0]["max_age_seconds"]);
    let path = format!("/v1/access_token/{prefix}");
    for lasting in [json!({ "max_age_seconds": 315_360_000 }), json!({ "extend_when_used": false })] {
        let refused = jane.put(&path, &lasting).refused(400, "bad_request");
        assert!(refused.text("message").contains("a session lasts"), "{}", refused.body);
    }
    let unchanged = jane.get("/v1/access_token").ok().body["tokens"].clone();
    assert_eq!(unchanged[0]["expiry_time"], sessions[0]["expiry_time"]);
    // What is repeated is no change, and a name and addresses are its holder's to give.
    let same = json!({ "description": "laptop", "max_age_seconds": seconds, "extend_when_used": true });
    assert_eq!(jane.put(&path, &same).ok().text("description"), "laptop");
}

#[test]
fn what_was_ended_with_all_of_a_user_s_tokens_is_shown_as_revoked() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let (jane_id, method) = sidecar.directory.person("jane@example.com");
    let old = sidecar.directory.token_with(&jane_id, TokenKind::Personal, |token| {
        token.authentication_method_id = Some(method.clone());
    });
    operations::expire_tokens(&*sidecar.directory.store, &jane_id, now()).unwrap();
    let root = sidecar.managed();
    let all = format!("/v1/organization/{ORGANIZATION}/tokens");
    let shown = root.get(&format!("{all}/{}", old.prefix)).json();
    assert_eq!(shown["state"], "revoked");
    assert!(shown["revoked_time"].is_string(), "{shown}");
    assert_eq!(root.get(&format!("{all}?user_id={jane_id}")).json()["tokens"], json!([]));
    let ended = root.get(&format!("{all}?user_id={jane_id}&include_ended=true")).json();
    assert_eq!(ended["tokens"][0], shown);
    // The command line says the same, of the store beside it.
    let told = std::process::Command::new(env!("CARGO_BIN_EXE_postern"))
        .args(["token", "show", &old.prefix, "--json", "--config"])
        .arg(sidecar.config_file())
        .output()
        .unwrap();
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!((&told["state"], &told["revoked_time"]), (&shown["state"], &shown["revoked_time"]));
}

#[test]
fn what_is_refused_says_so_in_few_words_of_people() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let anybody = Person::stranger(&sidecar);
    let long = "x".repeat(900_000);
    let answer = anybody.post("/v1/userauth", &json!({ &*long: 1 })).refused(400, "bad_request");
    assert!(answer.body.to_string().len() < 2_000, "{} bytes", answer.body.to_string().len());
    let root = sidecar.super_admin();
    sidecar.wait_for(&root);
    let root = anybody.with(&root.token);
    let organization = |rest: &str| format!("/v1/organization/{ORGANIZATION}/{rest}");
    let grant = json!({ "operation": "grant", "permissions": [
        { "principal_type": "user", "principal_id": long, "permissions": ["developer"] },
    ] });
    let answer = root.patch(&organization("permissions/project/demo"), &grant);
    assert!(answer.status >= 400 && answer.body.to_string().len() < 2_000, "{}", answer.status);

    let user = sidecar.directory.application_user();
    let tokens = organization(&format!("application-users/{user}/access-tokens"));
    for (asked, says) in [
        (json!({ "max_age_seconds": "1d" }), "max_age_seconds: must be a whole number"),
        (json!({ "max_age_seconds": -1 }), "max_age_seconds: must be a whole number"),
        (json!({ "extend_when_used": 1 }), "extend_when_used: must be true or false"),
        (json!({ "scopes": "all" }), "scopes: must be a list"),
        (json!([]), "body: must be an object"),
    ] {
        assert_eq!(root.post(&tokens, &asked).refused(400, "bad_request").text("message"), says, "{asked}");
    }
    let refused = root.post(&tokens, &json!({ "extend_when_used": true })).refused(400, "bad_request");
    assert!(
        refused.text("message").starts_with("extend_when_used: there is no lifetime"),
        "{}",
        refused.body
    );
    let twice = json!({ "scopes": ["service:data:write", "user:read", "service:data:write"] });
    let made = root.post(&tokens, &twice).ok();
    assert_eq!(made.body["scopes"], json!(["service:data:write", "user:read"]));
    // Who is no admin hears what is missing, not which part of it comes first.
    let plain = sidecar.directory.organization_user_with(&["organization:users:write"]);
    sidecar.wait_for(&plain);
    let refused = anybody.with(&plain.token).get(&organization("config/authentication"));
    let refused = refused.refused(403, "permission_denied");
    assert!(
        refused.text("message").contains("role:organization:admin, or a super admin"),
        "{}",
        refused.body
    );

    // A lifetime is taken away by `null`, and left alone by silence.
    made_person_takes_a_lifetime_away(&sidecar);
}

fn made_person_takes_a_lifetime_away(sidecar: &Sidecar) {
    made(sidecar, "jane@example.com", &[]);
    let jane = Person::stranger(sidecar).logged_in("jane@example.com", PASSWORD);
    let made = jane.post("/v1/access_token", &json!({ "max_age_seconds": 600 })).ok();
    let path = format!("/v1/access_token/{}", made.text("token_prefix"));
    let kept = jane.put(&path, &json!({ "description": "d" })).ok();
    assert_eq!(kept.body["max_age_seconds"], 600);
    let freed = jane.put(&path, &json!({ "max_age_seconds": null })).ok();
    assert_eq!((&freed.body["max_age_seconds"], &freed.body["expiry_time"]), (&json!(null), &json!(null)));
}

#[test]
fn a_mistyped_query_parameter_answers_no_other_question() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let api = sidecar.managed();
    let organization = |rest: &str| format!("/v1/organization/{ORGANIZATION}/{rest}");
    for path in [
        "config/authentication/preview?personal_tokens_enable=false",
        "tokens/stale?unused_for_day=1",
        "events?typ=token_revoked",
        "tokens?user_id=u1&include_end=true",
    ] {
        api.get(&organization(path)).assert_error(400, "bad_request");
    }
    let refused = api.get(&organization("tokens/stale?unused_for_day=1")).json();
    let message = refused["message"].as_str().unwrap();
    assert!(message.starts_with("unused_for_day: ") && message.contains("unused_for_days"), "{message}");
    let token = sidecar.directory.permitted();
    sidecar.wait_for(&token);
    let wanted = json!({ "unused_for_days": 1 });
    api.post(&organization("tokens/expire-unused?dry_run=true"), wanted).assert_error(400, "bad_request");
    let leaked = json!({ "tokens": [token.token] });
    api.post("/v1/tokens/revoke-leaked?dry_run=true", leaked).assert_error(400, "bad_request");
    assert!(sidecar.directory.stored(&token.prefix).token.revoked_time.is_none());
    // Aiven's clients add their own.
    for path in ["tokens/stale?limit=999", "events?limit=999", "decisions/x?limit=999"] {
        assert_ne!(api.get(&organization(path)).status, 400, "{path}");
    }
    assert_eq!(api.get(&organization("application-users?limit=999&anything=1")).status, 200);
}

#[test]
fn nobody_locks_themselves_out_unawares() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let store = &*sidecar.directory.store;
    made(&sidecar, "root@example.com", &["--super-admin"]);
    let root = Person::stranger(&sidecar).logged_in("root@example.com", PASSWORD);
    let program = sidecar.managed();
    let path = format!("/v1/organization/{ORGANIZATION}/config/authentication");
    let code = "policy_would_lock_you_out";
    for policy in [
        json!({ "allowed_ip_ranges": ["192.0.2.0/24"] }),
        json!({ "two_factor_required": true }),
        json!({ "password_auth_enabled": false }),
    ] {
        root.patch(&path, &policy).refused(409, code);
    }
    program.patch(&path, json!({ "allowed_ip_ranges": ["192.0.2.0/24"] })).assert_error(409, code);
    let stored = store.read(|records| records.organization(ORGANIZATION)).unwrap().unwrap();
    assert_eq!(stored.authentication_policy.unwrap_or_default(), Default::default(), "nothing has changed");
    // What locks others out is theirs to decide, and what is meant is done.
    assert_eq!(program.patch(&path, json!({ "two_factor_required": true })).status, 200);
    root.patch(&path, &json!({})).refused(403, "two_factor_required");
    let meant = format!("{path}?confirm_lockout=true");
    assert_eq!(program.patch(&meant, json!({ "allowed_ip_ranges": ["192.0.2.0/24"] })).status, 200);
    program.get(&path).assert_error(403, "ip_not_allowed_by_organization");
}

#[test]
fn no_name_is_taken_for_another_s() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let api = sidecar.managed();
    let path = |kind: &str| format!("/v1/organization/{ORGANIZATION}/{kind}");
    let user = sidecar.directory.application_user();
    for name in [
        "reporting ",
        " reporting",
        "report\u{200b}ing",
        "report\u{2028}ing",
        "\u{202e}gnitroper",
        "jane@example.com",
        "-rf",
        &user,
    ] {
        api.post(&path("application-users"), json!({ "name": name })).assert_error(400, "bad_request");
        api.post(&path("user-groups"), json!({ "user_group_name": name })).assert_error(400, "bad_request");
        let change = json!({ "name": name });
        api.patch(&path(&format!("application-users/{user}")), change).assert_error(400, "bad_request");
    }
    for name in ["reporting eu", "u1", "Zoë 日本", "ingest-2", "umbrella"] {
        assert_eq!(api.post(&path("application-users"), json!({ "name": name })).status, 201, "{name}");
    }
}
