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

/// Three routes of one host, told apart by what only some requests have; one that lets preflight requests pass, and one over
/// HTTPS only.
const CONDITIONAL: &str = r#"
[[routes]]
name = "by-header"
hosts = ["api.example.com"]
match_headers = { "x-version" = "2" }
project = "search"
service = "s"
upstream = "service"

[[routes]]
name = "by-query"
hosts = ["api.example.com"]
match_headers = { "x-debug" = false }
match_query = { tenant = "a" }
project = "metrics"
service = "s"
upstream = "service"

[[routes]]
name = "rest"
hosts = ["api.example.com"]
project = "metrics"
service = "s"
upstream = "service"

[[routes]]
name = "browsers"
hosts = ["web.example.com"]
project = "metrics"
service = "s"
upstream = "service"
cors_preflight = "pass"

[[routes]]
name = "secure"
hosts = ["secure.example.com"]
project = "metrics"
service = "s"
upstream = "service"
redirect = "https"
permissions = { GET = "project:audit_logs:read" }
upgrades = ["tcp"]
"#;

struct Conditional(Explained);

impl Conditional {
    fn new() -> Self {
        let asked = Explained::new();
        asked.folder.write_config(&config(&[], CONDITIONAL));
        Self(asked)
    }

    fn run(&self, method: &str, route: &str, headers: &[&str]) -> crate::support::Ran {
        let mut arguments =
            vec!["explain", "--json", "--token-prefix", &self.0.plain, "--client-address", "::1"];
        arguments.extend(["--method", method, "--route", route]);
        for header in headers {
            arguments.extend(["--header", header]);
        }
        self.0.folder.postern(&arguments)
    }

    /// Asks, and compares the route, the decision and what it depends on.
    #[track_caller]
    fn check(
        &self,
        request: &str,
        headers: &[&str],
        route: &str,
        decision: &str,
        depends_on: &[&str],
    ) -> Value {
        let (method, address) = request.split_once(' ').unwrap();
        let ran = self.run(method, address, headers);
        let told: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.stderr));
        assert_eq!((&told["route"], &told["decision"]), (&route.into(), &decision.into()), "{told}");
        assert_eq!(told["depends_on"], serde_json::json!(depends_on), "{told}");
        assert_eq!(ran.code, i32::from(!matches!(decision, "permit" | "open")));
        told
    }

    #[track_caller]
    fn refused(&self, request: &str, headers: &[&str], code: i32, says: &str) {
        let (method, address) = request.split_once(' ').unwrap();
        let ran = self.run(method, address, headers);
        assert_eq!(ran.code, code, "{}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains(says), "{says}: {}", ran.stderr);
    }
}

#[test]
fn headers_and_the_query_choose_the_route_as_they_do_for_the_sidecar() {
    let asked = Conditional::new();
    let (version, debug, tenant) =
        ("the header `x-version`", "the header `x-debug`", "the query parameter `tenant`");
    let get = "GET api.example.com/x";
    // The user is a developer of one of the two projects only.
    asked.check(get, &["X-Version: 2"], "by-header", "deny", &[]);
    asked.check(get, &[], "rest", "permit", &[version, debug, tenant]);
    asked.check(get, &["x-version: 1"], "rest", "permit", &[debug, tenant]);
    asked.check(get, &["x-version:"], "rest", "permit", &[debug, tenant]);
    asked.check(get, &["x-version:", "x-debug: yes"], "rest", "permit", &[]);
    asked.check("GET api.example.com/x?tenant=a", &[], "by-query", "permit", &[version, debug]);
    asked.check("GET api.example.com/x?tenant=%61", &["x-version:", "x-debug:"], "by-query", "permit", &[]);
    asked.check("GET api.example.com/x?tenant=b", &["x-version: 22"], "rest", "permit", &[]);
    asked.check("GET api.example.com/x?", &["x-version: 22"], "rest", "permit", &[]);
    // Who sends both gets no answer from either route.
    let twice = ["x-version: 2", "x-version: 1"];
    asked.refused(get, &twice, 1, "would be answered 400: A header or query parameter");
    asked.refused("GET api.example.com/x?tenant=a&tenant=b", &["x-version:"], 1, "400");
    for line in ["Authorization: Bearer psta_x", "Cookie: a=b"] {
        asked.refused(get, &[line], 2, "holds credentials");
    }
    for line in ["", "x-version", "a b: c", "x: a\r\ny: b"] {
        asked.refused(get, &[line], 2, "is no header line");
    }
    let ran = asked.run("GET", "api.example.com/x", &[]);
    assert!(!ran.stdout.contains("It may be another one"));
    let told = asked.0.folder.done(&[
        "explain",
        "--token-prefix",
        &asked.0.plain,
        "--client-address",
        "::1",
        "--route",
        "api.example.com/x",
    ]);
    assert!(told.contains("It may be another one: this depends on the header `x-version`"), "{told}");
}

#[test]
fn what_a_request_is_besides_its_method_counts() {
    let asked = Conditional::new();
    let preflight = ["Origin: https://a.example.com", "Access-Control-Request-Method: PUT"];
    asked.check("OPTIONS web.example.com/", &preflight, "browsers", "open", &[]);
    asked.check(
        "OPTIONS web.example.com/",
        &["Origin:"],
        "browsers",
        "permit",
        &["whether it is a browser's preflight request, which the route lets pass"],
    );
    asked.check("PUT web.example.com/", &preflight, "browsers", "permit", &[]);

    let redirected = "whether it comes over HTTPS: in the clear it is redirected";
    // Who may write but not do what this GET needs.
    let get = asked.check("GET secure.example.com/", &[], "secure", "deny", &[redirected]);
    compare(&get, "deny", Some((14, "permission_denied")));
    asked.check("POST https://secure.example.com/", &[], "secure", "permit", &[]);
    asked.refused("POST http://secure.example.com/", &[], 1, "would be answered 308");
    // A WebSocket is a GET until the service takes it.
    let offer = ["Upgrade: websocket", "Connection: upgrade"];
    asked.check("GET https://secure.example.com/", &offer, "secure", "deny", &[]);
    let raw = asked.check("POST https://secure.example.com/", &["Upgrade: TCP"], "secure", "permit", &[]);
    assert_eq!(raw["required_permission"], "service:data:write");
    asked.0.folder.done(&[
        "permission",
        "grant",
        "--user",
        "ingest",
        "--project",
        "metrics",
        "project:audit_logs:read",
    ]);
    let offered = asked.check("GET https://secure.example.com/", &offer, "secure", "permit", &[]);
    assert_eq!(offered["required_permission"], "service:data:write");
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
    let store =
        StoreConfig { path: folder.path().join("store.sqlite"), create_if_missing: false, stale_after: None };
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
