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
use postern::login::session::SessionLifetime;
use serde_json::json;
use support::directory::{ORGANIZATION, now};
use support::{Upstream, until};

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
        kind: postern::token::TokenKind::Personal,
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
    assert!(answer.text("message").starts_with("email: invalid type"), "{}", answer.body);
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
