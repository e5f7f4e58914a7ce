//! Domains over the management API: claimed, verified by a TXT record or a file, given up; against a name server and a web
//! server of the test's own.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use postern::directory::operations;
use serde_json::{Value, json};
use support::certificates::Authority;
use support::directory::{ORGANIZATION, now};
use support::stub::{self, NameServer};
use support::{Response, Sidecar, Upstream};

struct Case {
    sidecar: Sidecar,
    admin: String,
    names: NameServer,
    /// What the web server of every domain says at the challenge's path; 404 elsewhere.
    file: Arc<Mutex<stub::Answer>>,
    _upstream: Upstream,
}

impl Case {
    /// The web server has a certificate for these names.
    fn start(names_in_certificate: &[&str], private_networks: &str) -> Self {
        let authority = Authority::new();
        let file = Arc::new(Mutex::new((404, String::new(), String::new())));
        let said = Arc::clone(&file);
        let web =
            stub::http(Some(authority.certificate(names_in_certificate).server()), move |asked| match asked
                .target
                .as_str()
            {
                "/.well-known/aiven" => said.lock().unwrap().clone(),
                _ => (404, String::new(), String::new()),
            });
        let names = NameServer::start();
        let upstream = Upstream::echo();
        let sidecar = Sidecar::in_front_of(&upstream)
            .file("ca.pem", &authority.pem())
            .admin(&format!(
                "[admin.http]\nca_file = \"ca.pem\"\nprivate_networks = {private_networks}\ndomain_check_port = {}\n\
                 [admin.resolver]\naddresses = [\"{}\"]\n",
                web.port(),
                names.address
            ))
            .start();
        let admin = sidecar.super_admin().token;
        Self { sidecar, admin, names, file, _upstream: upstream }
    }

    #[track_caller]
    fn api(&self, method_and_rest: &str, body: &Value) -> Response {
        let (method, rest) = method_and_rest.split_once(' ').unwrap();
        let target = format!("{method} /v1/organization/{ORGANIZATION}/domains{rest}");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.sidecar.api(&self.admin, &target, &body)
    }

    /// Claims a domain; returns its id and the challenge.
    #[track_caller]
    fn claim(&self, name: &str, verification: &str) -> (String, String) {
        let claimed = self.api("POST ", &json!({"domain_name": name, "verification_type": verification}));
        assert_eq!(claimed.status, 200, "{}", claimed.text());
        let claimed = claimed.json();
        assert_eq!(
            (&claimed["state"], &claimed["verification_type"]),
            (&json!("unverified"), &json!(verification))
        );
        let text = |field: &str| claimed[field].as_str().unwrap().to_owned();
        (text("domain_id"), text("challenge_token"))
    }

    #[track_caller]
    fn refused(&self, id: &str, why: &str) {
        let refused = self.api(&format!("POST /{id}/verify"), &Value::Null);
        refused.assert_error(400, "domain_not_verified");
        assert!(refused.text().contains(why), "{}", refused.text());
    }

    #[track_caller]
    fn verified(&self, id: &str) {
        let verified = self.api(&format!("POST /{id}/verify"), &Value::Null);
        assert_eq!(
            (verified.status, verified.json()["state"].as_str()),
            (200, Some("verified")),
            "{}",
            verified.text()
        );
    }

    fn say(&self, status: u16, headers: &str, body: &str) {
        *self.file.lock().unwrap() = (status, headers.into(), body.into());
    }

    fn manager(&self, user: &str) -> Option<String> {
        let user = self.sidecar.directory.store.read(|records| records.user(user)).unwrap();
        user.unwrap().managing_organization_id
    }
}

const LOOPBACK: &str = "[\"127.0.0.0/8\"]";

#[test]
fn a_record_shows_a_domain_and_its_people_are_managed_from_then_on() {
    let case = Case::start(&["example.test"], LOOPBACK);
    let (jane, _) = case.sidecar.directory.person("jane@example.test");
    let (id, challenge) = case.claim("Example.TEST", "dns");
    case.refused(&id, "_aiven-challenge.example.test");
    let place = "_aiven-challenge.example.test";
    let right = format!("token={challenge},expiry=never");
    for wrong in [&[][..], &["v=spf1 -all"], &[&challenge], &["token=,expiry=never"], &[&format!("{right}x")]]
    {
        case.names.texts(place, wrong);
        case.refused(&id, place);
    }
    // At the domain itself it is of no use.
    case.names.texts("example.test", &[&right]);
    case.refused(&id, place);
    assert_eq!(case.manager(&jane), None);
    case.names.texts(place, &["v=spf1 -all", &right]);
    case.verified(&id);
    assert_eq!(case.manager(&jane).as_deref(), Some(ORGANIZATION));
    // Again it is no question.
    case.names.texts(place, &[]);
    case.verified(&id);

    let list = case.api("GET ", &Value::Null).json();
    assert_eq!(list["domains"][0]["domain_name"], "example.test");
    assert_eq!(list["domains"][0]["linked_authentication_method_ids"], json!([]));
    // In another way it has to be shown again.
    let changed = case.api(&format!("PATCH /{id}"), &json!({"verification_type": "http"})).json();
    assert_eq!((&changed["state"], &changed["challenge_token"]), (&json!("unverified"), &json!(challenge)));
    assert_eq!(case.manager(&jane), None);
    case.names.texts(place, &[&right]);
    case.api(&format!("PATCH /{id}"), &json!({"verification_type": "dns"}));
    case.verified(&id);
    assert_eq!(case.api(&format!("DELETE /{id}"), &Value::Null).status, 204);
    assert_eq!(case.manager(&jane), None);
    assert_eq!(case.api("GET ", &Value::Null).json(), json!({"domains": []}));
    for rest in [format!("POST /{id}/verify"), format!("DELETE /{id}"), format!("PATCH /{id}")] {
        case.api(&rest, &json!({})).assert_error(404, "not_found");
    }
}

#[test]
fn a_file_shows_a_domain() {
    let case = Case::start(&["example.test"], LOOPBACK);
    let (id, challenge) = case.claim("example.test", "http");
    case.refused(&id, "no address record");
    case.names.host("example.test", Ipv4Addr::LOCALHOST);
    case.refused(&id, "404");
    for wrong in ["", "something else", &format!("x{challenge}"), &challenge[1..]] {
        case.say(200, "", wrong);
        case.refused(&id, "no line of the file");
    }
    // A redirect leads elsewhere, whose file says nothing about this domain.
    case.say(302, "Location: https://elsewhere.test/.well-known/aiven\r\n", &challenge);
    case.refused(&id, "302");
    case.say(200, "", &"x".repeat(1 << 20));
    case.refused(&id, "longer than");
    case.say(
        200,
        "Content-Type: text/html\r\n",
        &format!("<html>\n<body>\n  {challenge}  \n</body></html>\n"),
    );
    case.verified(&id);
}

#[test]
fn the_web_server_must_be_the_domains_own_and_reachable() {
    let case = Case::start(&["other.test"], LOOPBACK);
    case.names.host("example.test", Ipv4Addr::LOCALHOST);
    let (id, challenge) = case.claim("example.test", "http");
    case.say(200, "", &challenge);
    // Its certificate is for another name.
    case.refused(&id, "no answer");
    // Nothing behind the firewall is asked.
    let inside = Case::start(&["example.test"], "[]");
    inside.names.host("example.test", Ipv4Addr::LOCALHOST);
    let (id, challenge) = inside.claim("example.test", "http");
    inside.say(200, "", &challenge);
    inside.refused(&id, "private_networks");
}

#[test]
fn who_may_not_and_what_cannot_be_is_refused() {
    let case = Case::start(&["example.test"], LOOPBACK);
    let (id, _) = case.claim("example.test", "dns");
    let claim = |body: Value| case.api("POST ", &body);
    claim(json!({"domain_name": "EXAMPLE.test."})).assert_error(409, "already_exists");
    for (body, field) in [
        (json!({"domain_name": "no domain"}), "domain_name"),
        (json!({"domain_name": "127.0.0.1"}), "domain_name"),
        (json!({"domain_name": "a.test", "verification_type": "mail"}), "verification_type"),
        (json!({"verification_type": "dns"}), "domain_name"),
        (json!({"domain_name": "a.test", "state": "verified"}), "state"),
    ] {
        let refused = claim(body);
        refused.assert_error(400, "bad_request");
        assert!(refused.json()["message"].as_str().unwrap().contains(field), "{}", refused.text());
    }
    let member = &case.sidecar.permitted.token;
    let target = format!("/v1/organization/{ORGANIZATION}/domains");
    case.sidecar.api(member, &format!("GET {target}"), "").assert_error(403, "permission_denied");
    case.sidecar
        .api(member, &format!("POST {target}/{id}/verify"), "")
        .assert_error(403, "permission_denied");
    // Of another organization it is not there.
    let store = &*case.sidecar.directory.store;
    const OTHER: &str = "org9f8e7d6c5b4a";
    operations::ensure_organization(store, OTHER, "Other", now()).unwrap();
    let theirs = operations::add_domain(
        store,
        OTHER,
        "theirs.test",
        postern::directory::model::DomainVerification::Dns,
        now(),
    );
    let theirs = theirs.unwrap().value;
    for rest in ["POST /{id}/verify", "DELETE /{id}", "PATCH /{id}"] {
        case.api(&rest.replace("{id}", &theirs.id), &json!({})).assert_error(404, "not_found");
    }
    // What another organization has verified is taken.
    let claimed =
        operations::add_domain(store, OTHER, "example.test", theirs.verification_type, now()).unwrap().value;
    operations::verify_domain(store, OTHER, &claimed.id, now()).unwrap();
    let (_, challenge) = {
        let list = case.api("GET ", &Value::Null).json();
        let domain = list["domains"][0].clone();
        (domain["domain_id"].clone(), domain["challenge_token"].as_str().unwrap().to_owned())
    };
    case.names.texts("_aiven-challenge.example.test", &[&format!("token={challenge},expiry=never")]);
    case.api(&format!("POST /{id}/verify"), &Value::Null).assert_error(409, "already_exists");
}
