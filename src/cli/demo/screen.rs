//! What the demo shows: where it is, and lines to paste. The tokens in them are the demo's own and end with it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;

use super::directory::Made;
use crate::cli::output::fields;

/// What there is to show.
#[derive(Debug)]
pub(super) struct Screen {
    /// Ports of proxy, management API and ops as they were asked for.
    pub(super) asked: [u16; 3],
    pub(super) proxy: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) ops: SocketAddr,
    pub(super) upstream: SocketAddr,
    pub(super) folder: PathBuf,
    pub(super) config: PathBuf,
    pub(super) access_log: PathBuf,
    pub(super) program: PathBuf,
    pub(super) made: Made,
}

/// The same, ready to be printed.
#[derive(Serialize)]
pub(super) struct Contents {
    proxy: String,
    admin: String,
    ops: String,
    upstream: String,
    folder: PathBuf,
    config: PathBuf,
    access_log: PathBuf,
    token_prefix: String,
    notes: Vec<String>,
    commands: Vec<Command>,
}

/// A line to paste.
#[derive(Serialize)]
struct Command {
    name: &'static str,
    about: &'static str,
    command: String,
    /// What the proxy answers; `None` for lines that do not go through it.
    expected_status: Option<u16>,
    /// Why it is refused, if it is.
    expected_reason: Option<&'static str>,
}

impl Screen {
    pub(super) fn contents(&self) -> Contents {
        Contents {
            proxy: format!("http://{}", self.proxy),
            admin: format!("http://{}", self.admin),
            ops: format!("http://{}", self.ops),
            upstream: format!("http://{}", self.upstream),
            folder: self.folder.clone(),
            config: self.config.clone(),
            access_log: self.access_log.clone(),
            token_prefix: self.made.token_prefix.clone(),
            notes: self.notes(),
            commands: self.commands(),
        }
    }

    fn notes(&self) -> Vec<String> {
        let used = [self.proxy, self.admin, self.ops];
        let differs =
            self.asked.into_iter().zip(used).filter(|(asked, used)| *asked != 0 && *asked != used.port());
        differs.map(|(asked, used)| format!("port {asked} is taken, so {} is used", used.port())).collect()
    }

    fn commands(&self) -> Vec<Command> {
        let url = |path: &str| format!("http://{}{path}", self.proxy);
        let curl = |options: &str, token: &SecretString, path: &str| {
            format!("curl -i{options} -H 'Authorization: Bearer {}' {}", token.expose_secret(), url(path))
        };
        let made = &self.made;
        let allowed = |name, about, command| Command {
            name,
            about,
            command,
            expected_status: Some(200),
            expected_reason: None,
        };
        let refused = |name, about, command, status, reason| Command {
            name,
            about,
            command,
            expected_status: Some(status),
            expected_reason: Some(reason),
        };
        let beside = |name, about, command| Command {
            name,
            about,
            command,
            expected_status: None,
            expected_reason: None,
        };
        vec![
            allowed(
                "allowed",
                "let in: the service behind sees who it is, and no token",
                curl("", &made.token, "/hello"),
            ),
            refused(
                "no_token",
                "refused: no token",
                format!("curl -i {}", url("/hello")),
                401,
                "missing_credentials",
            ),
            refused(
                "revoked_token",
                "refused: this token has been revoked",
                curl("", &made.revoked_token, "/hello"),
                401,
                "token_revoked",
            ),
            refused(
                "no_permission",
                "refused: this token's user may read, not write",
                curl(" -X POST", &made.reader_token, "/hello"),
                403,
                "permission_denied",
            ),
            allowed("slow", "let in: an answer that takes three seconds", curl("", &made.token, "/slow")),
            allowed("stream", "let in: a line a second, as they come", curl("N", &made.token, "/stream")),
            beside(
                "usage",
                "when, from where and by what was each token last used?",
                format!("{} token list --config {}", quoted(&self.program), quoted(&self.config)),
            ),
            beside(
                "manage",
                "who may use the organization's projects? (the management API; `avn --url` speaks it too)",
                format!(
                    "curl -s -H 'Authorization: Bearer {}' http://{}/v1/organization/{}/application-users",
                    made.admin_token.expose_secret(),
                    self.admin,
                    super::directory::ORGANIZATION
                ),
            ),
            beside(
                "metrics",
                "what does Prometheus see?",
                format!(
                    "curl -s http://{}/metrics | grep -E '^postern_(requests|denials)_total.* [1-9]'",
                    self.ops
                ),
            ),
        ]
    }
}

impl Contents {
    pub(super) fn text(&self) -> String {
        let mut places = vec![
            ("proxy", self.proxy.clone()),
            ("service behind", self.upstream.clone()),
            ("management API", self.admin.clone()),
            ("metrics, health", self.ops.clone()),
            ("configuration", self.config.display().to_string()),
            ("access log", self.access_log.display().to_string()),
        ];
        places.extend(self.notes.iter().map(|note| ("note", note.clone())));
        let mut text =
            format!("Postern runs.\n\n{}\n\nPaste these lines into another terminal:\n", fields(places));
        for Command { about, command, expected_status, expected_reason, .. } in &self.commands {
            let status = expected_status.map_or_else(String::new, |status| format!(" ({status}"));
            let reason = expected_reason.map_or_else(String::new, |reason| format!(" {reason}"));
            let close = if expected_status.is_some() { ")" } else { "" };
            text.push_str(&format!("\n# {about}{status}{reason}{close}\n{command}\n"));
        }
        text.push_str("\nCtrl-C ends it and leaves nothing behind.");
        text
    }
}

/// A path as a shell takes it for one word.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | '@' | ',' | ':');
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_for_a_shell() {
        let cases = [
            ("/tmp/postern-demo-a1/postern.toml", "/tmp/postern-demo-a1/postern.toml"),
            ("/tmp/my files/a", "'/tmp/my files/a'"),
            ("/tmp/it's", r"'/tmp/it'\''s'"),
            ("", "''"),
        ];
        for (path, expected) in cases {
            assert_eq!(quoted(Path::new(path)), expected);
        }
    }
}
