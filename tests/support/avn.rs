//! `avn`, Aiven's own command line, run as people run it: with a configuration folder of its own, over TLS, against a
//! sidecar's management API.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::peers;

/// One person's `avn`.
pub struct Avn {
    program: PathBuf,
    url: String,
    authority: PathBuf,
    folder: tempfile::TempDir,
    /// Given to each call; without one, what `avn user login` has left in the folder is used.
    token: Option<String>,
}

impl Avn {
    /// `None`, and a line that says so, where it is not installed and need not be.
    #[track_caller]
    pub fn find(url: &str, authority: &Path) -> Option<Self> {
        let program = peers::python_program("avn")?;
        let folder = tempfile::tempdir().unwrap();
        Some(Self { program, url: url.into(), authority: authority.into(), folder, token: None })
    }

    /// The file in which it keeps the token of a login.
    pub fn credentials_file(&self) -> PathBuf {
        self.folder.path().join("aiven-credentials.json")
    }

    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Its command, for what needs more than the helpers below.
    pub fn command(&self, arguments: &[&str]) -> Command {
        // Without a terminal it asks standard input for passwords.
        let mut command = Command::new("setsid");
        let folder = self.folder.path();
        command.arg("--wait").arg(&self.program);
        command.args(["--url", &self.url, "--auth-ca"]).arg(&self.authority).args(arguments);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("AIVEN_CONFIG_DIR", folder).env("HOME", folder).env("COLUMNS", "500");
        if let Some(token) = &self.token {
            command.env("AIVEN_AUTH_TOKEN", token);
        }
        command
    }

    /// Runs it with something to read; it may fail.
    pub fn try_run(&self, arguments: &[&str], input: &str) -> Output {
        self.try_run_with(arguments, input, |_| {})
    }

    /// The same with a changed command.
    pub fn try_run_with(&self, arguments: &[&str], input: &str, change: impl FnOnce(&mut Command)) -> Output {
        let mut command = self.command(arguments);
        change(&mut command);
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        // It may have ended without reading.
        let _unread = process.stdin.take().unwrap().write_all(input.as_bytes());
        process.wait_with_output().unwrap()
    }

    /// Runs it and returns what it prints.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.try_run(arguments, "");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "avn {arguments:?}: {}\n{}{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// Runs it with a password at hand and something to read, and returns what it prints.
    #[track_caller]
    pub fn run_with_password(&self, arguments: &[&str], password: &str, input: &str) -> String {
        let output = self.try_run_with(arguments, input, |command| {
            command.env("AIVEN_PASSWORD", password);
        });
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "avn {arguments:?}: {}\n{}{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// Runs it with `--json` and returns what it prints, without what it says around it.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let printed = self.run(&[arguments, &["--json"]].concat());
        let start = printed.find(['{', '[']).unwrap_or_else(|| panic!("avn {arguments:?}: {printed}"));
        serde_json::from_str(&printed[start..]).unwrap_or_else(|error| panic!("{error}: {printed}"))
    }

    /// Runs it, expects it to fail, and returns what it says about that.
    #[track_caller]
    pub fn fails(&self, arguments: &[&str]) -> String {
        let output = self.try_run(arguments, "");
        assert!(!output.status.success(), "avn {arguments:?} should have failed");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // A traceback would be a body that the client does not understand.
        assert!(!said.contains("Traceback"), "avn {arguments:?}: {said}");
        said
    }
}
