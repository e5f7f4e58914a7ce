//! The command line as people and scripts meet it: the built binary, its exit codes, what it prints and what it leaves
//! in the store.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "cli/demo.rs"]
mod demo;
#[path = "cli/explain.rs"]
mod explain;
#[path = "cli/run.rs"]
mod run;
#[path = "cli/support.rs"]
mod support;

use std::fs;
use std::io::Read as _;
use std::process::Stdio;

use serde_json::{Value, json};
use support::{Folder, contains, keys};

/// Commands that read a configuration, with what they need besides it.
const WITH_CONFIG: [&[&str]; 18] = [
    &["run"],
    &["check"],
    &["reload"],
    &["init"],
    &["application-user", "create", "a"],
    &["application-user", "list"],
    &["application-user", "show", "a"],
    &["application-user", "update", "a", "--name", "b"],
    &["application-user", "delete", "a", "--yes"],
    &["token", "create", "--user", "a"],
    &["token", "list"],
    &["token", "show", "psta_AbCdEfGhIjKl"],
    &["token", "revoke", "psta_AbCdEfGhIjKl"],
    &["policy", "show"],
    &["policy", "set", "saml_enabled=true"],
    &["permission", "grant", "--user", "a", "--project", "metrics", "developer"],
    &["permission", "list", "--organization"],
    &["explain", "--token-prefix", "psta_AbCdEfGhIjKl", "--route", "a/", "--client-address", "::1"],
];

#[test]
fn wrong_usage_exits_with_2() {
    let folder = Folder::initialized();
    let cases: [&[&str]; 9] = [
        &[],
        &["nonsense"],
        &["token"],
        &["token", "create"],
        &["token", "create", "--user", "a", "--max-age", "soon"],
        &["permission", "grant", "--user", "a", "developer"],
        &["policy", "set", "saml_enabled=maybe"],
        &["explain", "--token-prefix", "x", "--route", "a/", "--client-address", "nowhere"],
        &["completions", "tcsh"],
    ];
    for arguments in cases {
        let ran = folder.postern(arguments);
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.stderr);
        assert!(ran.stdout.is_empty(), "{arguments:?}: {}", ran.stdout);
    }
}

#[test]
fn every_command_reports_a_bad_configuration_and_exits_with_64() {
    let folder = Folder::empty();
    folder.write_config("[store]\npath = \"store.sqlite\"\ncolour = \"blue\"\n");
    for arguments in WITH_CONFIG {
        let ran = folder.postern(arguments);
        assert_eq!(ran.code, 64, "{arguments:?}: {}", ran.stderr);
        assert!(ran.stdout.is_empty(), "{arguments:?}: {}", ran.stdout);
        assert!(ran.stderr.contains("unknown key `colour`"), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("postern.toml:3:1"), "{arguments:?}: {}", ran.stderr);
    }
    assert_eq!(folder.names(), ["postern.toml"]);
    let ran = folder.postern(&["token", "list", "--json"]);
    let report: Value = serde_json::from_str(&ran.stderr).unwrap();
    assert!(report["problems"].as_array().unwrap().len() > 1, "{report}");
}

#[test]
fn a_missing_store_is_never_made_but_by_init() {
    let folder = Folder::empty();
    folder.write_config(&support::config(&[("create_if_missing", "true")], ""));
    for arguments in WITH_CONFIG.iter().filter(|arguments| !matches!(arguments[0], "run" | "check" | "init"))
    {
        let ran = folder.postern(arguments);
        assert_eq!(ran.code, 1, "{arguments:?}: {}", ran.stderr);
        let what_to_do = if arguments[0] == "reload" { "postern run" } else { "postern init" };
        assert!(ran.stderr.contains(what_to_do), "{arguments:?}: {}", ran.stderr);
    }
    assert_eq!(folder.names(), ["postern.toml"]);
}

#[test]
fn an_organization_that_is_not_in_the_store_is_said_so() {
    let folder = Folder::initialized();
    folder.write_config(&support::config(&[], "").replace("\"org-a\"", "\"org-b\""));
    let ran = folder.postern(&["application-user", "list"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("\"org-b\" is not in store"), "{}", ran.stderr);
}

#[test]
fn init_says_what_it_made_and_leaves_a_store_that_exists_alone() {
    let folder = Folder::empty();
    folder.write_config(&support::config(&[], ""));
    let made = folder.json(&["init"]);
    assert_eq!(keys(&made), ["organization_id", "organization_name", "projects", "store"]);
    assert_eq!(made["projects"], json!(["metrics", "search"]));
    folder.done(&["application-user", "create", "ingest"]);

    let again = folder.postern(&["init"]);
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("exists already"), "{}", again.stderr);
    assert!(folder.done(&["application-user", "list"]).contains("ingest"));

    let store = folder.path().join("store.sqlite");
    fs::write(&store, "not a store").unwrap();
    let no_store = folder.postern(&["init"]);
    assert_eq!(no_store.code, 1);
    assert!(no_store.stderr.contains("is not a Postern store"), "{}", no_store.stderr);
    assert_eq!(fs::read_to_string(&store).unwrap(), "not a store");
}

#[test]
fn a_store_in_no_folder_is_told_apart_from_a_missing_one() {
    let folder = Folder::empty();
    let config =
        support::config(&[("create_if_missing", "true")], "").replace("store.sqlite", "nowhere/store.sqlite");
    folder.write_config(&config);
    for arguments in [["init"], ["run"]] {
        let ran = folder.postern(&arguments);
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.contains("the folder of store"), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn check_shows_what_a_configuration_comes_to_or_all_that_is_wrong_with_it() {
    let folder = Folder::empty();
    folder.write_config(&support::config(&[], ""));
    let text = folder.done(&["check"]);
    assert!(text.starts_with("OK: "), "{text}");
    let summary = folder.json(&["check"]);
    assert_eq!(summary["ok"], true);
    assert!(text.contains("(missing; `postern init` makes it)"), "{text}");
    assert_eq!(summary["store"]["exists"], false);
    assert_eq!(summary["access_log"], "stdout");
    assert_eq!(summary["routes"][0]["project"], "metrics");
    assert_eq!(summary["upstreams"][0]["endpoints"], json!(["127.0.0.1:9"]));

    folder.write_config(&support::config(&[("pat", "\"x\"")], "[colours]\n"));
    let ran = folder.postern(&["check"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (64, ""));
    let ran = folder.postern(&["check", "--json"]);
    assert_eq!(ran.code, 64);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["ok"], false);
    let problems = report["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 2, "{report}");
    assert_eq!(keys(&problems[0]), ["excerpt", "key", "reason", "remedy", "value"]);
}

#[test]
fn application_users_are_made_listed_changed_and_deleted() {
    let folder = Folder::initialized();
    let user = folder.json(&["application-user", "create", "ingest", "--description", "writes"]);
    let expected = ["create_time", "description", "is_super_admin", "name", "state", "user_email", "user_id"];
    assert_eq!(keys(&user), expected);
    let id = user["user_id"].as_str().unwrap();
    assert!(user["create_time"].as_str().unwrap().ends_with('Z'), "{user}");

    assert_eq!(folder.json(&["application-user", "show", "ingest"]), user);
    assert_eq!(folder.json(&["application-user", "list"])["application_users"], json!([user]));
    let updated = folder.json(&["application-user", "update", id, "--name", "feed", "--super-admin", "true"]);
    assert_eq!((&updated["name"], &updated["is_super_admin"]), (&json!("feed"), &json!(true)));
    assert_eq!(updated["description"], "writes");

    let misspelt = folder.postern(&["application-user", "show", "feeed"]);
    assert_eq!(misspelt.code, 1);
    assert!(misspelt.stderr.contains("did you mean \"feed\"?"), "{}", misspelt.stderr);

    let unconfirmed = folder.postern(&["application-user", "delete", "feed"]);
    assert_eq!(unconfirmed.code, 2);
    assert!(unconfirmed.stderr.contains("--yes"), "{}", unconfirmed.stderr);
    let deleted = folder.json(&["application-user", "delete", "feed", "--yes"]);
    assert_eq!(deleted, json!({ "user_id": id, "name": "feed", "deleted": true }));
    assert_eq!(folder.json(&["application-user", "list"])["application_users"], json!([]));
}

#[test]
fn users_of_one_name_are_told_apart_by_id() {
    let folder = Folder::initialized();
    let first = folder.json(&["application-user", "create", "twin"]);
    let again = folder.postern(&["application-user", "create", "twin"]);
    assert_eq!(again.code, 1);
    assert!(
        again.stderr.contains("twin") && again.stderr.contains(first["user_id"].as_str().unwrap()),
        "{}",
        again.stderr
    );
    // They come about all the same: by two who do so at once, or by a new name.
    let second = folder.json(&["application-user", "create", "other"]);
    folder.json(&["application-user", "update", "other", "--name", "twin"]);
    let ran = folder.postern(&["token", "create", "--user", "twin"]);
    assert_eq!(ran.code, 1);
    for user in [&first, &second] {
        assert!(ran.stderr.contains(user["user_id"].as_str().unwrap()), "{}", ran.stderr);
    }
    folder.done(&["token", "create", "--user", first["user_id"].as_str().unwrap()]);
}

#[test]
fn a_full_token_is_shown_once_and_is_nowhere_in_the_store() {
    let folder = Folder::initialized();
    folder.done(&["application-user", "create", "ingest"]);
    let created = folder.json(&["token", "create", "--user", "ingest", "--description", "one"]);
    let text = folder.done(&["token", "create", "--user", "ingest", "--description", "two"]);
    assert!(text.contains("cannot be had again"), "{text}");
    let fulls = [created["full_token"].as_str().unwrap(), text.lines().next().unwrap()];

    for full in fulls {
        assert_eq!((full.len(), &full[..5]), (55, "psta_"));
        for command in [&["token", "list", "--all"][..], &["token", "show", full], &["token", "revoke", full]]
        {
            for format in [&[][..], &["--json"]] {
                let arguments = [command, format].concat();
                let printed = folder.done(&arguments);
                assert!(printed.contains(&full[..17]), "{arguments:?}: {printed}");
                assert!(!printed.contains(&full[17..]), "{arguments:?}: {printed}");
            }
        }
        for path in folder.files() {
            let bytes = fs::read(&path).unwrap();
            // The secret and its checksum, wherever the public part may stand.
            assert!(!contains(&bytes, &full.as_bytes()[17..]), "{}", path.display());
        }
    }
    assert!(folder.names().contains(&"store.sqlite".to_owned()));
}

#[test]
fn many_tokens_are_made_alike() {
    let folder = Folder::initialized();
    folder.done(&["application-user", "create", "fleet"]);
    let made =
        folder.json(&["token", "create", "--user", "fleet", "--count", "3", "--description", "sensor"]);
    let tokens = made["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 3);
    assert!(tokens.iter().all(|token| token["description"] == "sensor"));
    let printed = folder.done(&["token", "create", "--user", "fleet", "--count", "2"]);
    assert!(printed.lines().count() == 2 && printed.lines().all(|line| line.len() == 55), "{printed}");
    let listed = folder.json(&["token", "list", "--user", "fleet"]);
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 5);
}

#[test]
fn tokens_are_made_listed_shown_and_revoked() {
    let folder = Folder::initialized();
    folder.done(&["application-user", "create", "ingest"]);
    folder.done(&["application-user", "create", "other"]);
    let created = folder.json(&[
        "token",
        "create",
        "--user",
        "ingest",
        "--description",
        "eu",
        "--max-age",
        "30d",
        "--extend-when-used",
        "--allow-address",
        "10.0.0.0/8",
        "--allow-address",
        "2001:db8::1",
        "--scope",
        "developer",
    ]);
    let prefix = created["token_prefix"].as_str().unwrap();
    assert_eq!(created["max_age_seconds"], 2_592_000);
    assert_eq!(created["extend_when_used"], true);
    assert_eq!(created["ip_allowlist"], json!(["10.0.0.0/8", "2001:db8::1"]));
    assert_eq!(created["scopes"], json!(["developer"]));

    let shown = folder.json(&["token", "show", prefix]);
    let expected = [
        "create_time",
        "created_manually",
        "description",
        "expiry_time",
        "extend_when_used",
        "ip_allowlist",
        "kind",
        "last_ip",
        "last_used_time",
        "last_user_agent",
        "max_age_seconds",
        "request_count",
        "revoked_time",
        "scopes",
        "state",
        "successor_prefix",
        "token_prefix",
        "user_id",
        "user_name",
    ];
    assert_eq!(keys(&shown), expected);
    assert_eq!(folder.json(&["token", "list"])["tokens"], json!([shown]));
    assert_eq!(folder.json(&["token", "list", "--user", "other"])["tokens"], json!([]));

    let revoked = folder.json(&["token", "revoke", prefix]);
    assert_eq!(revoked["state"], "revoked");
    assert_eq!(folder.json(&["token", "revoke", prefix])["revoked_time"], revoked["revoked_time"]);
    assert_eq!(folder.json(&["token", "list"])["tokens"], json!([]));
    assert_eq!(folder.json(&["token", "list", "--all"])["tokens"], json!([revoked]));
}

#[test]
fn what_a_token_cannot_be_made_with_is_refused() {
    let folder = Folder::initialized();
    folder.done(&["application-user", "create", "ingest"]);
    let cases: [(&[&str], &str); 4] = [
        (&["--max-age", "9m"], "max_age_seconds"),
        (&["--max-age", "11w", "--allow-address", "10.0.0.0/33"], "10.0.0.0/33"),
        (&["--scope", "service:data:wrte"], "did you mean `service:data:write`?"),
        (&["--user", "nobody"], "nobody"),
    ];
    for (options, part) in cases {
        let user: &[&str] = if options[0] == "--user" { &[] } else { &["--user", "ingest"] };
        let ran = folder.postern(&[&["token", "create"], user, options].concat());
        assert_eq!(ran.code, 1, "{options:?}");
        assert!(ran.stderr.contains(part), "{options:?}: {}", ran.stderr);
    }
    assert_eq!(folder.json(&["token", "list", "--all"])["tokens"], json!([]));
}

#[test]
fn permissions_are_granted_listed_and_revoked() {
    let folder = Folder::initialized();
    let user = folder.json(&["application-user", "create", "ingest"]);
    let on = ["--user", "ingest", "--project", "metrics"];
    folder.done(&[&["permission", "grant"][..], &on, &["developer", "service:data:write"]].concat());
    let listed = folder.json(&["permission", "list", "--project", "metrics"]);
    let grant = &listed["permissions"][0];
    let expected = [
        "create_time",
        "permissions",
        "principal_id",
        "principal_name",
        "principal_type",
        "resource_id",
        "resource_type",
        "update_time",
    ];
    assert_eq!(keys(grant), expected);
    assert_eq!((&grant["principal_id"], &grant["principal_type"]), (&user["user_id"], &json!("user")));
    assert_eq!(grant["permissions"], json!(["developer", "service:data:write"]));
    assert_eq!(folder.json(&["permission", "list", "--organization"])["permissions"], json!([]));

    let cases: [(&[&str], &str); 4] = [
        (&["grant", "--user", "ingest", "--project", "metrics", "develper"], "did you mean `developer`?"),
        (&["grant", "--user", "ingest", "--project", "metric", "developer"], "did you mean \"metrics\"?"),
        (&["grant", "--group", "readers", "--organization", "developer"], "group \"readers\""),
        (&["revoke", "--user", "ingest", "--project", "metrics", "operator"], "was not granted"),
    ];
    for (arguments, part) in cases {
        let ran = folder.postern(&[&["permission"], arguments].concat());
        assert_eq!(ran.code, 1, "{arguments:?}");
        assert!(ran.stderr.contains(part), "{arguments:?}: {}", ran.stderr);
    }
    let left = folder.json(&[&["permission", "revoke"][..], &on, &["developer"]].concat());
    assert_eq!(left["permissions"], json!(["service:data:write"]));
}

#[test]
fn the_policy_is_shown_and_set() {
    let folder = Folder::initialized();
    let policy = folder.json(&["policy", "show"]);
    assert_eq!(policy["pinned_by"], Value::Null);
    assert_eq!(policy["two_factor_required"], false);
    let set = folder.json(&["policy", "set", "two_factor_required=true", "allowed_ip_ranges=10.1.2.3/8,::1"]);
    assert_eq!(set["two_factor_required"], true);
    assert_eq!(set["allowed_ip_ranges"], json!(["10.0.0.0/8", "::1/128"]));
    assert_eq!(folder.json(&["policy", "show"]), set);
    let ran = folder.postern(&["policy", "set", "two_factor_require=true"]);
    assert!(ran.stderr.contains("did you mean \"two_factor_required\"?"), "{}", ran.stderr);
}

#[test]
fn a_pinned_policy_is_shown_as_such_and_not_set() {
    let folder = Folder::initialized();
    folder.write_config(&support::config(&[], "[organization.authentication]\noauth_enabled = false\n"));
    let policy = folder.json(&["policy", "show"]);
    assert_eq!(policy["oauth_enabled"], false);
    assert!(policy["pinned_by"].as_str().unwrap().ends_with("postern.toml"), "{policy}");
    let ran = folder.postern(&["policy", "set", "oauth_enabled=true"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("postern.toml"), "{}", ran.stderr);

    folder.write_config(&support::config(&[], ""));
    assert_eq!(folder.json(&["policy", "show"])["oauth_enabled"], true);
}

#[test]
fn completions_know_the_commands_and_a_closed_pipe_is_no_failure() {
    let folder = Folder::empty();
    for shell in ["bash", "zsh", "fish"] {
        assert!(folder.done(&["completions", shell]).contains("application-user"), "{shell}");
    }
    let mut child = folder
        .command(&["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{stderr}");
    assert_eq!(stderr, "");
}
