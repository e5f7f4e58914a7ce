//! `postern explain`: the decision, the check that makes it, and the exit code.

use postern::config::StoreConfig;
use postern::directory;
use postern::directory::model::{IdentityProviderKind, MethodKind, Timestamp};
use postern::directory::operations::{self, NewIdentityProvider, NewOrganizationUser, NewToken};
use postern::token::TokenKind;
use serde_json::Value;

use crate::support::{Folder, config};

/// A user with tokens of several kinds.
struct Explained {
    folder: Folder,
    plain: String,
    restricted: String,
    scoped: String,
    short: String,
    revoked: String,
}

impl Explained {
    fn new() -> Self {
        let folder = Folder::initialized();
        folder.done(&["application-user", "create", "ingest"]);
        folder.done(&["permission", "grant", "--user", "ingest", "--project", "metrics", "developer"]);
        let token = |options: &[&str]| {
            let created = folder.json(&[&["token", "create", "--user", "ingest"], options].concat());
            created["token_prefix"].as_str().unwrap().to_owned()
        };
        let plain = token(&[]);
        let restricted = token(&["--allow-address", "10.0.0.0/8"]);
        let scoped = token(&["--scope", "project:services:read"]);
        let short = token(&["--max-age", "1h"]);
        let revoked = token(&[]);
        folder.done(&["token", "revoke", &revoked]);
        Self { folder, plain, restricted, scoped, short, revoked }
    }

    /// Asks and compares the exit code, the decision, its reason, and the first check that failed.
    #[track_caller]
    fn check(
        &self,
        prefix: &str,
        request: &str,
        code: i32,
        decision: &str,
        failed: Option<(u64, &str)>,
    ) -> Value {
        let [method, route, address] = request.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let ran = self.folder.postern(&[
            "explain",
            "--json",
            "--token-prefix",
            prefix,
            "--route",
            route,
            "--method",
            method,
            "--client-address",
            address,
        ]);
        assert_eq!(ran.code, code, "{request}: {}{}", ran.stdout, ran.stderr);
        let explanation: Value = serde_json::from_str(&ran.stdout).unwrap();
        compare(&explanation, decision, failed);
        explanation
    }
}

#[track_caller]
fn compare(explanation: &Value, decision: &str, failed: Option<(u64, &str)>) {
    assert_eq!(explanation["decision"], decision, "{explanation}");
    assert_eq!(explanation["reason"].as_str(), failed.map(|(_, reason)| reason), "{explanation}");
    let checks = explanation["checks"].as_array().unwrap();
    let first = checks.iter().find(|check| check["result"] == "failed");
    let first = first.map(|check| (check["number"].as_u64().unwrap(), check["reason"].as_str().unwrap()));
    assert_eq!(first, failed, "{explanation}");
}

#[test]
fn the_first_check_that_fails_decides() {
    let asked = Explained::new();
    let get = "GET metrics.example.com/api 192.0.2.1";
    let post = "POST metrics.example.com/api 192.0.2.1";
    let permitted = asked.check(&asked.plain, get, 0, "permit", None);
    let numbers: Vec<u64> = permitted["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|check| check["number"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (1..=14).collect::<Vec<_>>());
    assert_eq!(permitted["route"], "metrics");
    assert_eq!(permitted["required_permission"], "project:services:read");

    asked.check(&asked.plain, post, 0, "permit", None);
    asked.check("psta_AbCdEfGhIjKl", get, 1, "deny", Some((3, "unknown_token")));
    asked.check(&asked.revoked, get, 1, "deny", Some((4, "token_revoked")));
    asked.check(&asked.restricted, get, 1, "deny", Some((9, "ip_not_allowed_by_token")));
    asked.check(&asked.restricted, "GET metrics.example.com/ 10.1.1.1", 0, "permit", None);
    asked.check(&asked.scoped, get, 0, "permit", None);
    asked.check(&asked.scoped, post, 1, "deny", Some((13, "insufficient_scope")));
    let elsewhere = "GET search.example.com/index/a 192.0.2.1";
    asked.check(&asked.plain, elsewhere, 1, "deny", Some((14, "permission_denied")));

    asked.folder.done(&["policy", "set", "allowed_ip_ranges=10.0.0.0/8"]);
    asked.check(&asked.plain, get, 1, "deny", Some((8, "ip_not_allowed_by_organization")));
}

#[test]
fn a_pinned_policy_decides_as_it_does_for_the_sidecar() {
    let asked = Explained::new();
    let pinned = "[organization.authentication]\nallowed_ip_ranges = [\"10.0.0.0/8\"]\n";
    asked.folder.write_config(&config(&[], pinned));
    let get = "GET metrics.example.com/api 192.0.2.1";
    asked.check(&asked.plain, get, 1, "deny", Some((8, "ip_not_allowed_by_organization")));
}

#[test]
fn a_token_expires_at_the_time_that_is_asked_about() {
    let asked = Explained::new();
    let get = "GET metrics.example.com/api 192.0.2.1";
    asked.check(&asked.short, get, 0, "permit", None);
    let ran = asked.folder.postern(&[
        "explain",
        "--json",
        "--token-prefix",
        &asked.short,
        "--route",
        "metrics.example.com/api",
        "--client-address",
        "192.0.2.1",
        "--at",
        "2100-01-01T00:00:00Z",
    ]);
    assert_eq!(ran.code, 1);
    let explanation: Value = serde_json::from_str(&ran.stdout).unwrap();
    compare(&explanation, "deny", Some((5, "token_expired")));
    assert_eq!(explanation["time"], "2100-01-01T00:00:00Z");
}

#[test]
fn routes_are_found_as_the_sidecar_finds_them() {
    let asked = Explained::new();
    asked.check(&asked.plain, "GET search.example.com/public/a 192.0.2.1", 0, "open", None);
    asked.check(&asked.plain, "GET search.example.com/other 192.0.2.1", 1, "no_route", None);
    asked.check(&asked.revoked, "GET nowhere.example.com/ 192.0.2.1", 1, "deny", Some((4, "token_revoked")));
    let found = asked.check(&asked.plain, "GET http://x 192.0.2.1", 1, "no_route", None);
    assert_eq!(found["route"], Value::Null);
    let found =
        asked.check(&asked.plain, "GET Metrics.Example.com:8080/%61pi?q=1 192.0.2.1", 0, "permit", None);
    assert_eq!(found["path"], "/api");
    let ran = asked.folder.postern(&[
        "explain",
        "--token-prefix",
        &asked.plain,
        "--route",
        "metrics.example.com/a/../b",
        "--client-address",
        "::1",
    ]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("400"), "{}", ran.stderr);
}

#[test]
fn organizations_and_resources_are_called_by_their_names() {
    let asked = Explained::new();
    let ran = asked.folder.postern(&[
        "explain",
        "--token-prefix",
        &asked.plain,
        "--route",
        "metrics.example.com/",
        "--client-address",
        "::1",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for part in ["user's organizations: org-a", "on project metrics", "decision: permit"] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
}

/// What the command line cannot make yet: a person of two organizations, with a personal token bound to the identity
/// provider of the other one. Returns the token's prefix.
fn guest_from_elsewhere(folder: &Folder) -> String {
    let store = StoreConfig { path: folder.path().join("store.sqlite"), create_if_missing: false };
    let store = directory::open(&store).unwrap();
    let (store, now) = (&*store, Timestamp::now());
    operations::ensure_organization(store, "org-b", "Org B", now).unwrap();
    operations::ensure_project(store, "theirs", "org-b", now).unwrap();
    let provider = NewIdentityProvider {
        organization_id: "org-b".to_owned(),
        kind: IdentityProviderKind::Saml,
        name: "Their login".to_owned(),
    };
    let provider = operations::create_identity_provider(store, &provider, now).unwrap().value;
    let person = NewOrganizationUser {
        email: "jane@example.com".to_owned(),
        real_name: "Jane".to_owned(),
        managing_organization_id: None,
    };
    let person = operations::create_organization_user(store, &person, now).unwrap().value;
    for organization in ["org-a", "org-b"] {
        operations::add_member(store, &person.id, organization, now).unwrap();
    }
    let kind = MethodKind::IdentityProvider;
    let method = operations::add_authentication_method(store, &person.id, kind, Some(&provider.id), now)
        .unwrap()
        .value;
    let token = NewToken {
        user_id: person.id,
        kind: TokenKind::Personal,
        description: String::new(),
        created_manually: true,
        max_age_seconds: None,
        extend_when_used: false,
        ip_allowlist: Vec::new(),
        scopes: Vec::new(),
        authentication_method_id: Some(method.id),
    };
    operations::create_token(store, &token, now).unwrap().value.token.token_prefix
}

#[test]
fn a_personal_token_is_asked_for_its_method() {
    let asked = Explained::new();
    let prefix = guest_from_elsewhere(&asked.folder);
    asked.folder.done(&["permission", "grant", "--user", "jane@example.com", "--organization", "admin"]);
    let get = "GET metrics.example.com/ 192.0.2.1";
    asked.check(&prefix, get, 0, "permit", None);

    let listed = asked.folder.json(&["token", "list"]);
    assert!(listed["tokens"].as_array().unwrap().iter().any(|token| token["kind"] == "personal"), "{listed}");
    asked.folder.done(&[
        "policy",
        "set",
        "personal_tokens_require_allowed_auth_method=true",
        "saml_allow_external=false",
    ]);
    let reason = "external_identity_provider_not_allowed";
    let explanation = asked.check(&prefix, get, 1, "deny", Some((11, reason)));
    let inputs = |number: usize| explanation["checks"][number - 1]["inputs"].as_str().unwrap();
    assert!(inputs(7).contains("user's organizations: org-a, org-b"), "{}", inputs(7));
    assert!(inputs(11).contains("bound to: identity provider Their login (am"), "{}", inputs(11));
    assert!(inputs(14).contains("on organization org-a"), "{}", inputs(14));
    asked.folder.done(&["policy", "set", "personal_tokens_enabled=false"]);
    asked.check(&prefix, get, 1, "deny", Some((10, "personal_tokens_disabled")));
}
