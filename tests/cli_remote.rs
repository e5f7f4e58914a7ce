//! The command line against a running sidecar's management API: it prints what it prints beside the store, with a token that
//! no argument shows.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod support;

use std::fs;
use std::process::{Command, Stdio};

use postern::directory::model::Timestamp;
use postern::token::TokenKind;
use serde_json::{Value, json};
use support::directory::{Credential, now};
use support::management::{ORGANIZATION, OTHER_ORGANIZATION, OverTls};
use support::{Sidecar, Upstream, until};

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

struct Place {
    sidecar: Sidecar,
    admin: Credential,
    _upstream: Upstream,
}

impl Place {
    fn start() -> Self {
        let upstream = Upstream::echo();
        let sidecar = OverTls::add_to(Sidecar::in_front_of(&upstream)).start();
        let admin = sidecar.super_admin();
        Self { sidecar, admin, _upstream: upstream }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.args(arguments).current_dir(self.sidecar.folder()).stdin(Stdio::null());
        for name in
            ["POSTERN_URL", "POSTERN_TOKEN", "POSTERN_TOKEN_FILE", "POSTERN_CA_FILE", "POSTERN_CONFIG"]
        {
            command.env_remove(name);
        }
        command
    }

    /// Beside the store.
    fn local(&self, arguments: &[&str]) -> Ran {
        run(&mut self.command(arguments))
    }

    /// Through the API, as the environment says.
    fn remote(&self, arguments: &[&str]) -> Ran {
        run(self
            .command(arguments)
            // There is no configuration here.
            .current_dir("/")
            .env("POSTERN_URL", OverTls::url(&self.sidecar))
            .env("POSTERN_CA_FILE", OverTls::authority_file(&self.sidecar))
            .env("POSTERN_TOKEN", &self.admin.token))
    }

    /// The same printed by both, whatever it is.
    #[track_caller]
    fn same(&self, arguments: &[&str]) -> Ran {
        let (local, remote) = (self.local(arguments), self.remote(arguments));
        assert_eq!(remote, local, "{arguments:?}");
        remote
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) -> String {
        let ran = self.remote(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
        ran.stdout
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.done(&[arguments, &["--json"]].concat())).unwrap()
    }
}

fn run(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn application_users_tokens_and_permissions() {
    let place = Place::start();
    let made = place.json(&["application-user", "create", "ingest", "--description", "writes the metrics"]);
    assert_eq!(made["name"], "ingest");
    for format in [&[][..], &["--json"]] {
        place.same(&[&["application-user", "show", "ingest"], format].concat());
        place.same(&[&["application-user", "list"], format].concat());
    }
    let updated = place.json(&["application-user", "update", "ingest", "--name", "ingest-eu"]);
    assert_eq!(
        (&updated["name"], &updated["description"]),
        (&"ingest-eu".into(), &"writes the metrics".into())
    );

    let token = place.json(&[
        "token",
        "create",
        "--user",
        "ingest-eu",
        "--description",
        "eu",
        "--max-age",
        "30d",
        "--extend-when-used",
        "--allow-address",
        "127.0.0.0/8",
        "--scope",
        "developer",
    ]);
    let prefix = token["token_prefix"].as_str().unwrap();
    let full = token["full_token"].as_str().unwrap();
    assert!(full.starts_with(prefix) && full.len() == 55);
    for format in [&[][..], &["--json"]] {
        place.same(&[&["token", "show", prefix], format].concat());
        place.same(&[&["token", "list", "--user", "ingest-eu"], format].concat());
    }
    let many = place.done(&["token", "create", "--user", "ingest-eu", "--count", "3"]);
    assert_eq!(many.lines().count(), 3, "{many}");

    let grant = ["permission", "grant", "--user", "ingest-eu", "--project", "demo", "developer"];
    assert!(place.done(&grant).contains("ingest-eu has on project demo: developer"));
    for format in [&[][..], &["--json"]] {
        place.same(&[&["permission", "list", "--project", "demo"], format].concat());
        place.same(&[&["permission", "list", "--organization"], format].concat());
    }
    let head = place.sidecar.head_with(full, "GET /", "");
    assert_eq!(place.sidecar.request(&head).status, 200, "in force before the command ends");
    let revoke = ["permission", "revoke", "--user", "ingest-eu", "--project", "demo", "developer"];
    assert!(place.done(&revoke).contains("nothing"));
    assert_eq!(place.sidecar.request(&head).status, 403, "in force before the command ends");

    // The whole token is taken for its prefix, as beside the store.
    assert!(place.done(&["token", "revoke", full]).contains(&format!("revoked token {prefix} of ingest-eu")));
    place.sidecar.request(&head).assert_error(401, "token_revoked");
    assert!(place.done(&["token", "revoke", prefix]).contains("had been revoked before"));
    // The store hears of the last use a moment later than the API knows of it.
    until("the last use to be flushed", || {
        let show = ["token", "show", prefix];
        place.local(&show) == place.remote(&show)
    });
    place.same(&["token", "list", "--user", "ingest-eu", "--all"]);

    let refused = place.remote(&["application-user", "delete", "ingest-eu"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(place.done(&["application-user", "delete", "ingest-eu", "--yes"]).contains("deleted"));
    // Of who has been deleted, the tokens are still known.
    place.same(&["token", "show", prefix, "--json"]);
}

#[test]
fn the_policy() {
    let place = Place::start();
    for format in [&[][..], &["--json"]] {
        place.same(&[&["policy", "show"], format].concat());
    }
    let set = place.json(&["policy", "set", "two_factor_required=true", "allowed_ip_ranges=127.0.0.0/8"]);
    assert_eq!(set["two_factor_required"], true);
    place.same(&["policy", "show", "--json"]);
}

#[test]
fn what_another_policy_would_do() {
    let place = Place::start();
    let (person, method) = place.sidecar.directory.person("jane@example.com");
    let personal = place.sidecar.directory.token_with(&person, TokenKind::Personal, |token| {
        token.authentication_method_id = Some(method.clone());
    });
    place.sidecar.wait_for(&personal);
    for more in [&[][..], &["--client-address", "192.0.2.7"], &["--limit", "1"]] {
        let preview = [&["policy", "preview", "--set", "personal_tokens_enabled=false"], more].concat();
        let same = |ran: Ran| {
            let mut report: Value = serde_json::from_str(&ran.stdout).unwrap();
            // The token that asks is used by asking.
            report.as_object_mut().unwrap().remove("users");
            report
        };
        let json = [&preview[..], &["--json"]].concat();
        assert_eq!(same(place.remote(&json)), same(place.local(&json)));
        assert!(place.done(&preview).contains(&personal.prefix));
    }
    let set = place.json(&["policy", "candidate", "set", "allowed_ip_ranges=192.0.2.0/24,2001:db8::/32"]);
    assert_eq!(set["candidate"]["allowed_ip_ranges"], json!(["192.0.2.0/24", "2001:db8::/32"]));
    place.same(&["policy", "candidate", "show"]);
    assert_eq!(place.json(&["policy", "candidate", "clear"])["candidate"], Value::Null);
    place.same(&["policy", "candidate", "show", "--json"]);
    place.same(&["policy", "preview", "--set", "colour=blue"]);
}

#[test]
fn tokens_are_rotated_and_leaked_ones_revoked() {
    let place = Place::start();
    place.done(&["application-user", "create", "ingest"]);
    let made = place.json(&["token", "create", "--user", "ingest", "--description", "eu"]);
    let (prefix, full) = (made["token_prefix"].as_str().unwrap(), made["full_token"].as_str().unwrap());
    let rotated = place.json(&["token", "rotate", prefix, "--overlap", "1h"]);
    assert_eq!(
        (&rotated["description"], &rotated["replaced"]["token_prefix"]),
        (&"eu".into(), &prefix.into())
    );
    assert!(rotated["replaced"]["expiry_time"].is_string());
    let newer = rotated["full_token"].as_str().unwrap();
    // Whoever is seen to use the old one has not changed to the new one.
    let replaced = format!("active, replaced by {}", rotated["token_prefix"].as_str().unwrap());
    let list = place.done(&["token", "list", "--user", "ingest"]);
    let lines: Vec<_> = list.lines().filter(|line| line.contains(&replaced)).collect();
    assert!(matches!(lines[..], [line] if line.starts_with(prefix)), "{list}");
    place.same(&["token", "show", prefix]);
    let shown = place.json(&["token", "show", prefix]);
    assert_eq!(shown["successor_prefix"], rotated["token_prefix"]);

    let log = place.sidecar.folder().join("build.log");
    let unknown = "psta_0123456789012345678901234567890123456789";
    let noise = "nothing to be seen here\n".repeat(20_000);
    fs::write(&log, format!("{noise}TOKEN={full}\n{noise}\"{newer}\" {unknown}\n{noise}{full}\n")).unwrap();
    let leaked = place.json(&["token", "leaked", "--file", log.to_str().unwrap()]);
    let found: Vec<_> = leaked["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|leaked| (leaked["line"].as_u64().unwrap(), leaked["token"]["token_prefix"].clone()))
        .collect();
    assert_eq!(found, [(20_001, prefix.into()), (40_002, rotated["token_prefix"].clone())]);
    assert_eq!(leaked["unknown"], 1);
    for token in [full, newer] {
        let head = place.sidecar.head_with(token, "GET /", "");
        place.sidecar.request(&head).assert_error(401, "token_revoked");
    }
    let again = place.done(&["token", "leaked", "--file", log.to_str().unwrap()]);
    assert!(again.contains("0 tokens were revoked, 2 had been before"), "{again}");
    assert!(place.done(&["token", "stale"]).contains("has been used"));
    assert_eq!(place.remote(&["token", "stale", "--unused-for", "12h"]).code, 2);
}

#[test]
fn unused_tokens_are_revoked() {
    let place = Place::start();
    let directory = &place.sidecar.directory;
    let application = directory.application_user();
    directory.grant(&application, &["developer"]);
    let long_ago = Timestamp(now().0 - 100 * 86_400);
    let unused = || directory.token_made_at(long_ago, &application, TokenKind::Application, |_| {});
    let old = unused();
    place.sidecar.wait_for(&old);
    let expire = ["token", "expire-unused", "--unused-for", "90d"];
    let dry_run = [&expire[..], &["--dry-run"]].concat();
    for format in [&[][..], &["--json"]] {
        let ran = place.same(&[&dry_run[..], format].concat());
        assert!(ran.stdout.contains(&old.prefix) && !ran.stdout.contains(&place.admin.prefix), "{ran:?}");
    }
    let head = place.sidecar.head_with(&old.token, "GET /", "");
    assert_eq!(place.sidecar.request(&head).status, 200);
    // The store does not know of that use yet.
    assert_eq!(place.remote(&expire).code, 2, "nobody is there to agree");
    let expire = [&expire[..], &["--yes"]].concat();
    assert_eq!(place.json(&expire)["tokens"], json!([]));
    let another = unused();
    place.sidecar.wait_for(&another);
    let expired = place.json(&expire);
    assert_eq!(expired["tokens"][0]["token_prefix"], another.prefix, "{expired}");
    assert_eq!(expired["tokens"].as_array().unwrap().len(), 1, "{expired}");
    let head = place.sidecar.head_with(&another.token, "GET /", "");
    place.sidecar.request(&head).assert_error(401, "token_revoked");
    assert_eq!(place.remote(&["token", "expire-unused", "--unused-for", "12h"]).code, 2);
    assert_eq!(place.remote(&["token", "expire-unused", "--unused-for", "3651d", "--yes"]).code, 1);
}

#[test]
fn events_and_explanations() {
    let place = Place::start();
    place.done(&["application-user", "create", "ingest"]);
    let made = place.json(&["token", "create", "--user", "ingest"]);
    let (prefix, full) = (made["token_prefix"].as_str().unwrap(), made["full_token"].as_str().unwrap());
    for more in
        [&["--type", "token_created"][..], &["--token-prefix", prefix], &["--entity", "user", "--limit", "1"]]
    {
        let ran = place.same(&[&["events", "--json"], more].concat());
        assert!(ran.stdout.contains("token_created") || ran.stdout.contains("user_created"), "{ran:?}");
    }
    let since = ["events", "--since", "1h", "--until", "2099-01-01T00:00:00Z"];
    assert!(place.done(&since).contains("token_created"));

    let refused = place.sidecar.request(place.sidecar.head_with(full, "GET /", ""));
    refused.assert_error(403, "permission_denied");
    let id = refused.header("x-postern-request-id").unwrap().to_owned();
    for format in [&[][..], &["--json"]] {
        let ran = place.same(&[&["explain", "--request-id", &id], format].concat());
        assert!(ran.code == 1 && ran.stdout.contains("permission_denied"), "{ran:?}");
    }
    place.same(&["explain", "--request-id", "0123456789abcdef0123456789abcdef"]);
    place.same(&["explain", "--request-id", "nonsense"]);
    let at = ["--at", "2026-12-31T00:00:00Z", "--client-address", "192.0.2.7"];
    for route in ["service.test/", "https://Service.test:443/a%20b?c=d"] {
        for method in ["GET", "POST"] {
            let explain =
                [&["explain", "--token-prefix", prefix, "--route", route, "--method", method], &at[..]]
                    .concat();
            let ran = place.same(&explain);
            assert!(ran.code == 1 && ran.stdout.contains("permission_denied"), "{ran:?}");
            place.same(&[&explain[..], &["--json"]].concat());
        }
    }
    let said = ["--route", "service.test/a?b=c", "--header", "X-Version: 2", "--header", "X-Debug:"];
    place.same(&[&["explain", "--token-prefix", prefix], &said[..], &at[..]].concat());
    let refused = place.same(
        &[&["explain", "--token-prefix", prefix, "--header", "Cookie: a=b"], &said[..2], &at[..]].concat(),
    );
    assert!(refused.code == 2 && refused.stderr.contains("holds credentials"), "{refused:?}");
    place.done(&["permission", "grant", "--user", "ingest", "--project", "demo", "developer"]);
    let explain = [&["explain", "--token-prefix", prefix, "--route", "service.test/"], &at[..]].concat();
    until("the grant to be in the store", || place.local(&explain).code == 0);
    assert_eq!(place.same(&explain).code, 0);
}

#[test]
fn people() {
    let place = Place::start();
    let typed = place.sidecar.folder().join("password.txt");
    fs::write(&typed, "tidal-acorn-velvet-9\n").unwrap();
    for email in ["jane@example.com", "joe@example.com"] {
        let made = run(place.command(&["user", "create", email]).stdin(fs::File::open(&typed).unwrap()));
        assert_eq!(made.code, 0, "{made:?}");
    }
    let without = run(&mut place.command(&["user", "create", "ann@example.com", "--without-password"]));
    assert_eq!(without.code, 0, "{without:?}");
    until("the sidecar to know them", || place.remote(&["user", "list"]).stdout.contains("ann@example.com"));
    for format in [&[][..], &["--json"]] {
        place.same(&[&["user", "list"], format].concat());
        place.same(&[&["user", "show", "jane@example.com"], format].concat());
        place.same(&[&["user", "show", "ann@example.com"], format].concat());
    }
    let user = place.json(&["user", "show", "jane@example.com"]);
    let shown = place.json(&["user", "set-super-admin", "jane@example.com", "true"]);
    assert_eq!((&shown["is_super_admin"], &shown["user_id"]), (&true.into(), &user["user_id"]));
    place.same(&["user", "show", "jane@example.com", "--json"]);
    // The account is not the organization's.
    let refused = place.remote(&["user", "deactivate", "joe@example.com"]);
    assert!(refused.code == 1 && refused.stderr.contains("does not manage"), "{refused:?}");
    let ended = place.done(&["user", "delete", "joe@example.com", "--yes"]);
    assert!(ended.contains("out of the organization"), "{ended}");
}

#[test]
fn people_get_in_by_codes() {
    let place = Place::start();
    // Who is invited chooses name and password.
    for option in [&["--name", "Kim"][..], &["--super-admin"], &["--without-password"]] {
        let refused = place.remote(&[&["user", "create", "kim@example.com"], option].concat());
        assert!(refused.code == 2 && refused.stderr.contains(option[0]), "{refused:?}");
    }
    let invited = place.json(&["user", "create", "kim@example.com"]);
    assert_eq!(invited["user_email"], "kim@example.com");
    assert!(place.remote(&["user", "invite", "kim@example.com"]).stderr.contains("already exists"));
    let code = invited["code"].as_str().unwrap();
    let post = |path, body: Value| OverTls::request(&place.sidecar, "", "POST", path, &body);
    let password = "tidal-acorn-velvet-9";
    let setup = json!({ "code": code, "password": password, "real_name": "Kim" });
    let answer = post("/v1/userauth/setup", setup);
    assert_eq!((answer.status, &answer.json()["user_email"]), (200, &"kim@example.com".into()));
    assert_eq!(place.json(&["user", "show", "kim@example.com"])["real_name"], "Kim");

    // To the organization that has not verified the domain, the account is not one to reset.
    for arguments in [
        &["user", "set-password", "kim@example.com", "--yes"][..],
        &["user", "reset-two-factor", "kim@example.com"],
    ] {
        let refused = place.remote(arguments);
        assert!(refused.code == 1 && refused.stderr.contains("does not manage"), "{refused:?}");
    }
    place.sidecar.directory.verify("example.com");
    until("the account to be managed", || {
        place.json(&["user", "show", "kim@example.com"])["managing_organization_id"] == ORGANIZATION
    });
    assert_eq!(place.json(&["user", "reset-two-factor", "kim@example.com"])["two_factor_enabled"], false);
    let refused = place.remote(&["user", "set-password", "kim@example.com"]);
    assert!(refused.code == 2 && refused.stderr.contains("--yes"), "{refused:?}");
    let reset = place.json(&["user", "set-password", "kim@example.com", "--yes"]);
    assert_eq!(post("/v1/userauth", json!({ "email": "kim@example.com", "password": password })).status, 401);
    let setup = json!({ "code": reset["code"], "password": "velvet-tidal-acorn-7" });
    assert_eq!(post("/v1/userauth/setup", setup).status, 200);
    let shown = place.done(&["user", "set-password", "kim@example.com", "--yes"]);
    assert!(shown.contains("shown this once"), "{shown}");
}

#[test]
fn failures_read_as_they_do_beside_the_store() {
    let place = Place::start();
    place.done(&["application-user", "create", "ingest"]);
    for arguments in [
        &["application-user", "show", "ingst"][..],
        &["application-user", "update", "ingest", "--name", ""],
        &["application-user", "create", "a\nb"],
        &["token", "show", "psta_000000000000"],
        &["token", "revoke", "psta_000000000000"],
        &["token", "create", "--user", "ingest", "--max-age", "1m"],
        &["token", "create", "--user", "ingest", "--scope", "service:data:fly"],
        &["token", "create", "--user", "ingest", "--allow-address", "everywhere"],
        &["permission", "grant", "--user", "ingest", "--project", "dem", "developer"],
        &["permission", "grant", "--user", "ingest", "--project", "demo", "develper"],
        &["permission", "revoke", "--user", "ingest", "--project", "demo", "developer"],
        &["permission", "list", "--unit", "a1b2c3d4e5f6"],
        &["policy", "set", "colour=blue"],
    ] {
        let ran = place.same(arguments);
        assert_ne!(ran.code, 0, "{arguments:?}");
        place.same(&[arguments, &["--json"]].concat());
    }
}

#[test]
fn the_token_comes_from_the_environment_or_a_file_and_nowhere_else() {
    let place = Place::start();
    let url = OverTls::url(&place.sidecar);
    let authority = OverTls::authority_file(&place.sidecar);
    let authority = authority.to_str().unwrap();
    let list = ["application-user", "list", "--url", &url, "--ca-file", authority];
    let none = run(&mut place.command(&list));
    assert_eq!(none.code, 2);
    assert!(none.stderr.contains("POSTERN_TOKEN"), "{none:?}");

    let file = place.sidecar.folder().join("token");
    fs::write(&file, format!("{}\n", place.admin.token)).unwrap();
    let with_file = [&list[..], &["--token-file", file.to_str().unwrap()]].concat();
    let ran = run(&mut place.command(&with_file));
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    assert_eq!(run(&mut place.command(&["application-user", "list", "--token", "x"])).code, 2);

    let wrong = run(place.command(&list).env("POSTERN_TOKEN", "psta_thisisnotatokenatall"));
    assert_eq!(wrong.code, 1);
    assert!(wrong.stderr.contains("token"), "{wrong:?}");
    for ran in [&none, &ran, &wrong] {
        assert!(!format!("{ran:?}").contains(&place.admin.token), "a token is never printed");
    }
}

#[test]
fn what_is_for_elsewhere_does_nothing_here() {
    let place = Place::start();
    let user = place.sidecar.directory.application_user();
    for option in ["--token-file", "--ca-file", "--organization-id"] {
        let ran = place.local(&["application-user", "delete", &user, "--yes", option, "x"]);
        assert!(ran.code == 2 && ran.stderr.contains(option) && ran.stderr.contains("--url"), "{ran:?}");
    }
    assert_eq!(place.local(&["application-user", "show", &user]).code, 0);
}

/// A URL, what else is different, the exit code, and what is said.
type Case<'a> = (&'a str, &'a dyn Fn(&mut Command), i32, &'a str);

#[test]
fn what_is_wrong_with_the_way_there_is_said() {
    let place = Place::start();
    let url = OverTls::url(&place.sidecar);
    let authority = OverTls::authority_file(&place.sidecar);
    let ask = |url: &str, change: &dyn Fn(&mut Command)| {
        let mut command = place.command(&["application-user", "list", "--url", url]);
        command.env("POSTERN_TOKEN", &place.admin.token);
        change(&mut command);
        run(&mut command)
    };
    let believing = |command: &mut Command| {
        command.env("POSTERN_CA_FILE", &authority);
    };
    let cases: &[Case<'_>] = &[
        (&url, &|_| {}, 1, "certificate"),
        ("https://127.0.0.1:1", &believing, 1, "https://127.0.0.1:1"),
        ("postern.example.com", &believing, 2, "--url"),
        ("https://postern.example.com/v1", &believing, 2, "/v1"),
        (&format!("https://{}", place.sidecar.ops), &believing, 1, "write http://"),
        ("ftp://127.0.0.1", &believing, 2, "no http or https URL"),
        ("https://jane:secret@127.0.0.1", &believing, 2, "password"),
        (
            &url,
            &|command: &mut Command| {
                command.env("POSTERN_CA_FILE", "/nowhere.pem");
            },
            1,
            "/nowhere.pem",
        ),
        // What answers is no management API.
        (&format!("http://{}", place.sidecar.ops), &believing, 1, "There is nothing here"),
    ];
    for (url, change, code, says) in cases {
        let ran = ask(url, change);
        assert_eq!(ran.code, *code, "{url}: {ran:?}");
        assert!(ran.stderr.contains(says), "{url}: {says:?} is not in {ran:?}");
        assert!(!ran.stderr.contains(&place.admin.token) && !ran.stderr.contains("secret"), "{ran:?}");
    }
}

#[test]
fn a_user_of_several_organizations_says_which() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).admin("").start();
    let store = &*sidecar.directory.store;
    let now = now();
    postern::directory::operations::ensure_organization(store, OTHER_ORGANIZATION, "Other", now).unwrap();
    let (person, method) = sidecar.directory.person("jane@example.com");
    postern::directory::operations::add_member(store, &person, OTHER_ORGANIZATION, now).unwrap();
    postern::directory::operations::set_super_admin(store, &person, ORGANIZATION, true, now).unwrap();
    let token = sidecar.directory.token_with(&person, TokenKind::Personal, |token| {
        token.authentication_method_id = Some(method.clone());
    });
    sidecar.wait_for(&token);
    let list = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.args(["application-user", "list", "--url", &format!("http://{}", sidecar.admin.unwrap())]);
        run(command.args(more).env("POSTERN_TOKEN", &token.token).current_dir("/"))
    };
    let asked = list(&[]);
    assert_eq!(asked.code, 2, "{asked:?}");
    assert!(asked.stderr.contains(ORGANIZATION) && asked.stderr.contains(OTHER_ORGANIZATION), "{asked:?}");
    assert_eq!(list(&["--organization-id", ORGANIZATION]).code, 0);
    let other = list(&["--organization-id", OTHER_ORGANIZATION]);
    assert!(other.code == 1 && other.stderr.contains("organization:app_users:write"), "{other:?}");
}
