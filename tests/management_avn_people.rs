//! The unmodified `avn` as a person uses it: logging in and out, two-factor authentication, tokens of one's own, the
//! password, and inviting others; over TLS.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

#[path = "people/support.rs"]
mod people;
mod support;

use people::{CHEAP, OTHER_PASSWORD, PASSWORD, app, made, postern_user, seconds};
use serde_json::{Value, json};
use support::avn::Avn;
use support::management::{ORGANIZATION, OverTls};
use support::{Sidecar, Upstream};

const EMAIL: &str = "jane@example.com";

/// A sidecar with its management API over TLS, and a person who is its admin.
struct Managed {
    sidecar: Sidecar,
    user_id: String,
    _upstream: Upstream,
}

impl Managed {
    /// `None` where `avn` is not installed and need not be.
    #[track_caller]
    fn start() -> Option<Self> {
        support::peers::python_program("avn")?;
        let upstream = Upstream::echo();
        let sidecar = OverTls::with_admin(Sidecar::in_front_of(&upstream), CHEAP).start();
        let user_id = made(&sidecar, EMAIL, &["--name", "Jane Miller", "--super-admin"]);
        Some(Self { sidecar, user_id, _upstream: upstream })
    }

    /// Somebody's `avn`, not logged in.
    #[track_caller]
    fn avn(&self) -> Avn {
        Avn::find(&OverTls::url(&self.sidecar), &OverTls::authority_file(&self.sidecar)).unwrap()
    }

    #[track_caller]
    fn logged_in(&self) -> Avn {
        let avn = self.avn();
        avn.run_with_password(&["user", "login", EMAIL], PASSWORD, "");
        avn
    }
}

/// What `avn` keeps of a login.
fn token_of(avn: &Avn) -> String {
    let kept: Value = serde_json::from_slice(&std::fs::read(avn.credentials_file()).unwrap()).unwrap();
    kept["auth_token"].as_str().unwrap().to_owned()
}

#[track_caller]
fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} of {value}"))
}

#[test]
fn logging_in_and_out() {
    let Some(managed) = Managed::start() else { return };
    let avn = managed.avn();
    let output = avn.try_run_with(&["user", "login", EMAIL], "", |command| {
        command.env("AIVEN_PASSWORD", "wrong-acorn-velvet-9");
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("(status 401)"), "{said}");
    assert!(!said.contains("wrong-acorn") && !avn.credentials_file().exists());

    avn.run_with_password(&["user", "login", EMAIL], PASSWORD, "");
    let token = token_of(&avn);
    assert!(token.starts_with("psts_"));
    let info = avn.json(&["user", "info"]);
    let info = &info[0];
    assert_eq!((text(info, "user"), text(info, "user_id")), (EMAIL, managed.user_id.as_str()));
    assert_eq!((text(info, "real_name"), text(info, "state")), ("Jane Miller", "active"));
    // The columns are printed by key: a key that is missing would end the client with a traceback.
    let table = avn.run(&["user", "info"]);
    assert!(table.contains(EMAIL) && table.contains("TOKEN_VALIDITY_BEGIN"), "{table}");
    let listed = avn.json(&["user", "access-token", "list"]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(
        (&listed[0]["currently_active"], &listed[0]["created_manually"]),
        (&json!(true), &json!(false))
    );

    avn.run(&["user", "logout"]);
    assert!(!avn.credentials_file().exists());
    assert!(avn.fails(&["user", "info"]).contains("not authenticated"));
    let again = managed.avn().with_token(&token);
    assert!(again.fails(&["user", "info"]).contains("(status 401)"));
}

#[test]
fn a_second_factor_is_asked_for() {
    let Some(managed) = Managed::start() else { return };
    let token = token_of(&managed.logged_in());
    let put = |path: &str, body: Value| {
        let answer = OverTls::request(&managed.sidecar, &token, "PUT", path, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let begun = put("/v1/me/2fa", json!({ "method": "totp", "password": PASSWORD }));
    let uri = text(&begun, "uri");
    let authenticator = app(uri, EMAIL);
    let otp = authenticator.password_at(seconds());
    put("/v1/me/2fa/otp", json!({ "otp": otp, "password": PASSWORD, "uri": uri }));
    let avn = managed.avn();
    let wrong = avn.try_run_with(&["user", "login", EMAIL], "000000\n", |command| {
        command.env("AIVEN_PASSWORD", PASSWORD);
    });
    assert!(!wrong.status.success() && !avn.credentials_file().exists());
    // No code is taken twice: the next one is that of the next half minute, which is accepted ahead of its time.
    let next = authenticator.password_at(seconds() + 30);
    let said = avn.run_with_password(&["user", "login", EMAIL], PASSWORD, &format!("{next}\n"));
    assert!(said.contains("Two-factor authentication OTP"), "{said}");
    assert_eq!(avn.json(&["user", "info"])[0]["user"], EMAIL);
}

#[test]
fn tokens_of_ones_own() {
    let Some(managed) = Managed::start() else { return };
    let avn = managed.logged_in();
    let create = ["user", "access-token", "create", "--description", "laptop"];
    assert!(avn.run(&create).contains("pstp_"));
    let options = ["--max-age-seconds", "3600", "--extend-when-used"];
    let made = avn.json(&[&create[..], &options].concat());
    let made = &made[0];
    let (full, prefix) = (text(made, "full_token"), text(made, "token_prefix"));
    assert!(full.starts_with(prefix));
    assert_eq!((&made["max_age_seconds"], &made["extend_when_used"]), (&json!(3600), &json!(true)));
    let table = avn.run(&["user", "access-token", "list"]);
    assert!(table.contains(prefix) && table.contains("laptop"), "{table}");
    assert!(!table.contains(full));
    let updated = avn.json(&["user", "access-token", "update", prefix, "--description", "old laptop"]);
    assert_eq!(updated[0]["description"], "old laptop");

    let with_token = managed.avn().with_token(full);
    assert_eq!(with_token.json(&["user", "info"])[0]["user"], EMAIL);
    let listed = avn.json(&["user", "access-token", "list"]);
    let used = listed.as_array().unwrap().iter().find(|token| token["token_prefix"] == prefix).unwrap();
    assert!(text(used, "last_user_agent").starts_with("aiven-client/"));
    // The whole token is taken for its prefix.
    assert!(avn.run(&["user", "access-token", "revoke", full]).contains("Revoked"));
    assert!(with_token.fails(&["user", "info"]).contains("(status 401)"));
    assert!(
        avn.fails(&["user", "access-token", "update", "pstp_0000/+=", "--description", "d"])
            .contains("(status 404)")
    );
}

#[test]
fn all_tokens_expire_at_once() {
    let Some(managed) = Managed::start() else { return };
    let (avn, elsewhere) = (managed.logged_in(), managed.logged_in());
    assert!(!avn.run(&["user", "tokens-expire"]).trim().is_empty());
    for ended in [&avn, &elsewhere] {
        assert!(ended.fails(&["user", "info"]).contains("(status 401)"));
    }
    managed.logged_in();
}

#[test]
fn the_password_changes() {
    let Some(managed) = Managed::start() else { return };
    let avn = managed.logged_in();
    let said = avn.run_with_password(&["user", "password-change"], OTHER_PASSWORD, &format!("{PASSWORD}\n"));
    assert!(said.contains("Password changed"), "{said}");
    let old = managed.avn().try_run_with(&["user", "login", EMAIL], "", |command| {
        command.env("AIVEN_PASSWORD", PASSWORD);
    });
    assert!(!old.status.success());
    managed.avn().run_with_password(&["user", "login", EMAIL], OTHER_PASSWORD, "");
}

#[test]
fn others_are_invited_and_listed() {
    let Some(managed) = Managed::start() else { return };
    let avn = managed.logged_in();
    let of_organization = ["--organization-id", ORGANIZATION];
    let table = avn.run(&[&["organization", "user", "list"], &of_organization[..]].concat());
    assert!(table.contains(EMAIL) && table.contains("USER_INFO.USER_EMAIL"), "{table}");
    let invite = [&["organization", "user", "invite"], &of_organization[..], &["new@example.com"]].concat();
    avn.run(&invite);
    assert!(avn.fails(&invite).contains("already exists (status 409)"));
    postern_user(&managed.sidecar, &["create", "joe@example.com"], PASSWORD);
    let listed = avn.json(&[&["organization", "user", "list"], &of_organization[..]].concat());
    let emails: Vec<_> =
        listed.as_array().unwrap().iter().map(|user| user["user_info"]["user_email"].clone()).collect();
    assert!(emails.contains(&json!("joe@example.com")), "{emails:?}");
}
