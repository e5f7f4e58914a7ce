//! The unmodified `avn` in the hands of a person: logging in with and without a one-time password, tokens, another password,
//! people and invitations of the organization.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

#[path = "people/support.rs"]
mod people;
mod support;

use std::io::Write as _;
use std::process::{Command, Stdio};

use people::{OTHER_PASSWORD, PASSWORD, app, made, seconds};
use serde_json::{Value, json};
use support::avn::Avn;
use support::management::{ORGANIZATION, OverTls};
use support::{Sidecar, Upstream};

struct Managed {
    sidecar: Sidecar,
    avn: Avn,
    _upstream: Upstream,
}

impl Managed {
    /// `None` where `avn` is not installed and need not be.
    #[track_caller]
    fn start() -> Option<Self> {
        support::peers::python_program("avn")?;
        let upstream = Upstream::echo();
        let sidecar = OverTls::add_to(Sidecar::in_front_of(&upstream)).start();
        let avn = Avn::find(&OverTls::url(&sidecar), &OverTls::authority_file(&sidecar))?;
        Some(Self { sidecar, avn, _upstream: upstream })
    }

    /// Runs it as at a terminal that nobody sits at: what it asks for, it reads from its input.
    #[track_caller]
    fn typing(&self, arguments: &[&str], password: &str, typed: &str) -> (bool, String) {
        let avn = self.avn.command(arguments);
        let mut command = Command::new("setsid");
        command
            .arg("--wait")
            .arg(avn.get_program())
            .args(avn.get_args())
            .env_clear()
            .env("AIVEN_PASSWORD", password);
        for (name, value) in avn.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = streams.spawn().unwrap();
        let _unread = process.stdin.take().unwrap().write_all(typed.as_bytes());
        let output = process.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    #[track_caller]
    fn log_in(&self, email: &str, password: &str, otp: &str) {
        let (is_done, said) = self.typing(&["user", "login", email], password, &format!("{otp}\n"));
        assert!(is_done, "{said}");
    }

    #[track_caller]
    fn request(&self, token: &str, method: &str, path: &str, body: &Value) -> Value {
        let answer = OverTls::request(&self.sidecar, token, method, path, body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }
}

#[test]
fn a_person_logs_in_and_manages_tokens_and_password() {
    let Some(managed) = Managed::start() else { return };
    let avn = &managed.avn;
    made(&managed.sidecar, "jane@example.com", &["--name", "Jane Miller", "--super-admin"]);
    let (is_done, said) = managed.typing(&["user", "login", "jane@example.com"], "wrong", "");
    assert!(!is_done && said.contains("password"), "{said}");
    managed.log_in("jane@example.com", PASSWORD, "");

    let info = avn.json(&["user", "info"]);
    let me = if info.is_array() { info[0].clone() } else { info };
    assert_eq!((&me["user"], &me["real_name"]), (&json!("jane@example.com"), &json!("Jane Miller")));
    let table = avn.run(&["user", "info"]);
    assert!(table.contains("jane@example.com") && table.contains("demo"), "{table}");

    let made = avn.json(&[
        "user",
        "access-token",
        "create",
        "--description",
        "reports",
        "--max-age-seconds",
        "3600",
    ]);
    let created = if made.is_array() { made[0].clone() } else { made };
    let (prefix, full) = (created["token_prefix"].as_str().unwrap(), created["full_token"].as_str().unwrap());
    assert_eq!(created["max_age_seconds"], 3600);
    avn.run(&["user", "access-token", "update", prefix, "--description", "monthly reports"]);
    let table = avn.run(&["user", "access-token", "list"]);
    assert!(table.contains(prefix) && table.contains("monthly reports"), "{table}");
    assert_eq!(managed.request(full, "GET", "/v1/me", &json!({}))["user"]["user"], "jane@example.com");
    assert!(avn.run(&["user", "access-token", "revoke", full]).contains("Revoked"));
    assert_eq!(OverTls::request(&managed.sidecar, full, "GET", "/v1/me", &json!({})).status, 401);

    // People of the organization.
    let users = avn.run(&["organization", "user", "list", "--organization-id", ORGANIZATION]);
    assert!(users.contains("jane@example.com") && users.contains("active"), "{users}");
    avn.run(&["organization", "user", "invite", "--organization-id", ORGANIZATION, "john@example.com"]);
    let again =
        avn.fails(&["organization", "user", "invite", "--organization-id", ORGANIZATION, "john@example.com"]);
    assert!(again.contains("already exists"), "{again}");

    // Another password ends the session that changed it too: `avn` says to log in again.
    let typed = format!("{PASSWORD}\n{OTHER_PASSWORD}\n{OTHER_PASSWORD}\n");
    let (is_done, said) = managed.typing(&["user", "password-change"], OTHER_PASSWORD, &typed);
    assert!(is_done && said.contains("Password changed"), "{said}");
    avn.fails(&["user", "info"]);
    managed.log_in("jane@example.com", OTHER_PASSWORD, "");

    assert!(avn.run(&["user", "tokens-expire"]).contains("expired"));
    avn.fails(&["user", "info"]);
    managed.log_in("jane@example.com", OTHER_PASSWORD, "");
    avn.run(&["user", "logout"]);
    avn.fails(&["user", "info"]);
}

#[test]
fn a_one_time_password_is_asked_for() {
    let Some(managed) = Managed::start() else { return };
    made(&managed.sidecar, "jane@example.com", &[]);
    let credentials = json!({ "email": "jane@example.com", "password": PASSWORD });
    let session = managed.request("-none-of-all-", "POST", "/v1/userauth", &credentials);
    let token = session["token"].as_str().unwrap();
    let begin = json!({ "method": "totp", "password": PASSWORD });
    let begun = managed.request(token, "PUT", "/v1/me/2fa", &begin);
    let uri = begun["uri"].as_str().unwrap();
    let app = app(uri, "jane@example.com");
    let proof = json!({ "otp": app.password_at(seconds()), "password": PASSWORD, "uri": uri });
    managed.request(token, "PUT", "/v1/me/2fa/otp", &proof);
    let (is_done, said) = managed.typing(&["user", "login", "jane@example.com"], PASSWORD, "000000\n");
    assert!(!is_done && said.contains("OTP"), "{said}");
    managed.log_in("jane@example.com", PASSWORD, &app.password_at(seconds() + 30));
    assert!(managed.avn.run(&["user", "info"]).contains("totp"));
}
