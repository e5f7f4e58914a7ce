//! The unmodified `avn` manages a sidecar over TLS: every command of Aiven's documentation on application users, tokens,
//! permissions, organizations and groups, as people type them.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod support;

use serde_json::{Value, json};
use support::avn::Avn;
use support::directory::Credential;
use support::management::{ORGANIZATION, OverTls};
use support::{Sidecar, Upstream};

/// A sidecar with its management API over TLS, and an admin's `avn`.
struct Managed {
    sidecar: Sidecar,
    admin: Credential,
    avn: Avn,
}

impl Managed {
    /// `None` where `avn` is not installed and need not be.
    #[track_caller]
    fn start() -> Option<Self> {
        support::peers::python_program("avn")?;
        let upstream = Upstream::echo();
        let sidecar = OverTls::add_to(Sidecar::in_front_of(&upstream)).start();
        let admin = sidecar.directory.super_admin();
        sidecar.wait_for(&admin);
        let avn = Avn::find(&OverTls::url(&sidecar), &OverTls::authority_file(&sidecar))?;
        let avn = avn.with_token(&admin.token);
        Some(Self { sidecar, admin, avn })
    }

    /// Runs `avn` for the organization.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        self.avn.run(&[arguments, &["--organization-id", ORGANIZATION]].concat())
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        self.avn.json(&[arguments, &["--organization-id", ORGANIZATION]].concat())
    }

    #[track_caller]
    fn fails(&self, arguments: &[&str]) -> String {
        self.avn.fails(&[arguments, &["--organization-id", ORGANIZATION]].concat())
    }
}

/// The text of a field.
#[track_caller]
fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} of {value}"))
}

#[test]
fn application_users() {
    let Some(managed) = Managed::start() else { return };
    let made = managed.json(&["application-user", "create", "--name", "ingest"]);
    let id = text(&made, "user_id");
    assert_eq!((&made["name"], &made["is_super_admin"]), (&json!("ingest"), &json!(false)));
    assert!(text(&made, "user_email").contains('@'));

    let table = managed.run(&["application-user", "list"]);
    assert!(table.contains(id) && table.contains("USER_EMAIL"), "{table}");
    let listed = managed.json(&["application-user", "list"]);
    assert!(listed.as_array().unwrap().contains(&made), "{listed}");
    assert_eq!(managed.json(&["application-user", "info", id]), made);

    let renamed = managed.json(&["application-user", "update", id, "--name", "ingest-eu"]);
    assert_eq!(renamed["name"], "ingest-eu");
    assert_eq!(managed.json(&["application-user", "info", id]), renamed);

    let said = managed.run(&["application-user", "delete", id, "--force"]);
    assert!(said.contains("deleted successfully"), "{said}");
    let said = managed.fails(&["application-user", "info", id]);
    assert!(said.contains("does not exist (status 404)"), "{said}");
    let said = managed.fails(&["application-user", "delete", id, "--force"]);
    assert!(said.contains("(status 404)"), "{said}");
}

#[test]
fn to_create_an_application_user_twice_says_that_it_exists() {
    let Some(managed) = Managed::start() else { return };
    managed.run(&["application-user", "create", "--name", "ingest"]);
    let said = managed.fails(&["application-user", "create", "--name", "ingest"]);
    assert!(said.contains("already exists (status 409)"), "{said}");
}

#[test]
fn tokens_of_application_users() {
    let Some(managed) = Managed::start() else { return };
    let made = managed.json(&["application-user", "create", "--name", "ingest"]);
    let user = text(&made, "user_id");
    // The columns are printed by key: a key that is in no row would end the client with a traceback.
    assert_eq!(managed.run(&["application-user", "token", "list", user]).trim(), "");

    let said = managed.run(&["application-user", "token", "create", user, "--description", "plain"]);
    assert!(said.contains("Copy and safely store the full token value"), "{said}");
    let restricted = managed.json(&[
        "application-user",
        "token",
        "create",
        user,
        "--description",
        "restricted",
        "--max-age-seconds",
        "3600",
        "--extend-when-used",
        "--ip-allowlist",
        "10.0.0.1",
        "--ip-allowlist",
        "2001:db8::/32",
        "--scopes",
        "service:data:write",
        "--scopes",
        "project:services:read",
    ]);
    let prefix = text(&restricted, "token_prefix");
    assert!(text(&restricted, "full_token").starts_with(prefix));

    for verbose in [&[][..], &["--verbose"]] {
        let table = managed.run(&[&["application-user", "token", "list", user], verbose].concat());
        assert!(table.contains(prefix) && table.contains("restricted") && table.contains("plain"), "{table}");
        managed.run(&[&["application-user", "token", "info", user, prefix], verbose].concat());
    }
    let listed = managed.json(&["application-user", "token", "list", user]);
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let info = managed.json(&["application-user", "token", "info", user, prefix]);
    assert!(info.get("full_token").is_none(), "{info}");
    assert_eq!(info["ip_allowlist"], json!(["10.0.0.1", "2001:db8::/32"]));
    assert_eq!(info["scopes"], json!(["service:data:write", "project:services:read"]));
    assert_eq!((&info["max_age_seconds"], &info["extend_when_used"]), (&json!(3600), &json!(true)));
    assert_eq!((&info["created_manually"], &info["currently_active"]), (&json!(true), &json!(false)));
    assert!(text(&info, "expiry_time") > text(&info, "create_time"));
    assert_eq!((&info["last_used_time"], &info["last_ip"]), (&Value::Null, &Value::Null));

    // The admin's own: it is the one that asks.
    let own = managed.json(&["application-user", "token", "list", &managed.admin.user_id]);
    assert_eq!(own[0]["currently_active"], true);
    assert_eq!(own[0]["last_user_agent_human_readable"], "Aiven CLI 4.18.0");
    assert_eq!(own[0]["last_ip"], "127.0.0.1");

    let revoke = ["application-user", "token", "revoke", user, prefix, "--force"];
    let said = managed.run(&revoke);
    assert!(said.contains("revoked successfully"), "{said}");
    // Its answer might not have arrived: to ask again does no harm.
    managed.run(&revoke);
    let listed = managed.json(&["application-user", "token", "list", user]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let unknown = ["application-user", "token", "revoke", user, "psta_0000/+=%00", "--force"];
    let said = managed.fails(&unknown);
    assert!(said.contains("(status 404)"), "{said}");
}

#[test]
fn what_is_wrong_with_a_token_is_named() {
    let Some(managed) = Managed::start() else { return };
    let made = managed.json(&["application-user", "create", "--name", "ingest"]);
    let create = ["application-user", "token", "create", text(&made, "user_id"), "--description", "d"];
    for (option, value, field) in [
        ("--max-age-seconds", "1", "max_age_seconds"),
        ("--max-age-seconds", "-1", "max_age_seconds"),
        ("--ip-allowlist", "10.0.0.0/33", "ip_allowlist"),
        ("--scopes", "service:data:fly", "scopes"),
    ] {
        let said = managed.fails(&[&create[..], &[&format!("{option}={value}")]].concat());
        assert!(said.contains(field) && said.contains("(status 400)"), "{option} {value}: {said}");
    }
}

#[test]
fn permissions() {
    let Some(managed) = Managed::start() else { return };
    let made = managed.json(&["application-user", "create", "--name", "ingest"]);
    let user = text(&made, "user_id");
    let of_project = ["--resource-type", "project", "--resource-id", "demo"];
    let principal = ["--principal-id", user, "--principal-type", "user"];
    let list = [&["permissions", "list"], &of_project[..], &principal].concat();
    assert!(managed.run(&list).contains("No permissions found"));

    let set = [&["permissions", "set", "--force"], &of_project[..], &principal].concat();
    let two = ["--permission", "developer", "--permission", "service:data:write"];
    assert!(managed.run(&[&set[..], &two].concat()).contains("Done"));
    let granted = managed.json(&list);
    assert_eq!(granted[0]["permissions"], json!(["developer", "service:data:write"]));
    assert_eq!((text(&granted[0], "principal_id"), text(&granted[0], "principal_type")), (user, "user"));
    assert!(managed.run(&list).contains("developer, service:data:write"));

    managed.run(&[&set[..], &["--permission", "read_only"]].concat());
    assert_eq!(managed.json(&list)[0]["permissions"], json!(["read_only"]));
    managed.run(&set);
    assert!(managed.run(&list).contains("No permissions found"));

    // On the organization the id is left out.
    let of_organization = ["--resource-type", "organization"];
    let permission = ["--permission", "organization:app_users:write"];
    managed
        .run(&[&["permissions", "set", "--force"], &of_organization[..], &principal, &permission].concat());
    let list = [&["permissions", "list"], &of_organization[..], &principal].concat();
    assert_eq!(managed.json(&list)[0]["permissions"], json!(["organization:app_users:write"]));

    let said = managed.fails(&[&set[..], &["--permission", "service:data:fly"]].concat());
    assert!(said.contains("permissions: ") && said.contains("(status 400)"), "{said}");
    let nowhere = ["permissions", "list", "--resource-type", "project", "--resource-id", "nowhere"];
    assert!(managed.fails(&nowhere).contains("(status 404)"));
}

#[test]
fn organizations_and_projects() {
    let Some(managed) = Managed::start() else { return };
    let table = managed.avn.run(&["organization", "list"]);
    assert!(table.contains(ORGANIZATION) && table.contains("Example"), "{table}");
    let renamed = managed.avn.json(&["organization", "update", ORGANIZATION, "--name", "Example Ltd"]);
    assert_eq!(renamed["organization_name"], "Example Ltd");
    let listed = managed.avn.json(&["organization", "list"]);
    assert_eq!(listed, json!([renamed]));
    assert!(managed.avn.run(&["project", "list"]).contains("demo"));
}

#[test]
fn groups() {
    let Some(managed) = Managed::start() else { return };
    assert_eq!(managed.run(&["organization", "group", "list"]).trim(), "");
    let made = managed.json(&["organization", "group", "create", "operators", "--description", "on call"]);
    let id = text(&made, "user_group_id");
    assert_eq!((text(&made, "user_group_name"), text(&made, "description")), ("operators", "on call"));
    let table = managed.run(&["organization", "group", "list"]);
    assert!(table.contains(id) && table.contains("on call"), "{table}");
    let said = managed.fails(&["organization", "group", "create", "operators"]);
    assert!(said.contains("already exists (status 409)"), "{said}");

    let renamed = managed.json(&["organization", "group", "update", id, "--name", "on-call"]);
    assert_eq!((text(&renamed, "user_group_name"), text(&renamed, "description")), ("on-call", "on call"));

    assert_eq!(managed.run(&["organization", "group", "show", id]).trim(), "");
    let (person, _) = managed.sidecar.directory.person("jane@example.com");
    let members = format!("/v1/organization/{ORGANIZATION}/user-groups/{id}/members");
    let added = json!({ "operation": "add_members", "member_ids": [person] });
    // `avn` has no command for members.
    let response = OverTls::request(&managed.sidecar, &managed.admin.token, "PATCH", &members, &added);
    assert_eq!(response.status, 200, "{}", response.text());
    let table = managed.run(&["organization", "group", "show", id]);
    assert!(table.contains("jane@example.com") && table.contains("active"), "{table}");
    assert_eq!(managed.json(&["organization", "group", "list"])[0]["member_count"], 1);

    managed.run(&["organization", "group", "delete", id, "--force"]);
    assert_eq!(managed.run(&["organization", "group", "list"]).trim(), "");
}

#[test]
fn a_token_that_is_not_good_is_told_so() {
    let Some(managed) = Managed::start() else { return };
    let wrong = Avn::find(&OverTls::url(&managed.sidecar), &OverTls::authority_file(&managed.sidecar));
    let wrong = wrong.unwrap().with_token("psta_thisisnotatokenatall");
    let said = wrong.fails(&["organization", "list"]);
    assert!(said.contains("(status 401)"), "{said}");
}
