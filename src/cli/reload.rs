//! `postern reload`: asks the running sidecar to take up its changed configuration, and says what came of it.

use std::io;

use serde_json::Value;

use super::Exit;
use super::arguments::ConfigArguments;
use super::failure::Failure;
use super::output::{Format, Output};
use crate::app::control_socket;
use crate::config::Config;

pub(super) const EXAMPLES: &str = "\
Examples:
  postern reload --config /etc/postern/postern.toml
  postern reload --json | jq '.needs_restart'

The sidecar is found through the store that the configuration names. Exits with 64 if the configuration has problems \
(the last good one stays in force), with 1 if no sidecar runs on that store.";

pub(super) fn execute(arguments: &ConfigArguments, output: Output) -> Result<Exit, Failure> {
    // A file with problems is reported from here: the sidecar would say the same, and keep its last good one.
    let config = Config::load(&arguments.config)?;
    let report =
        control_socket::request_reload(&config.store.path).map_err(|error| unreachable(&config, &error))?;
    let applied = report.get("applied").and_then(Value::as_bool) == Some(true);
    match (applied, output.format()) {
        (false, Format::Text) => output.remark(&text(&report, &config)),
        (true, Format::Text) | (_, Format::Json) => output.result(&report, |report| text(report, &config))?,
    }
    Ok(if applied { Exit::Done } else { Exit::Config })
}

fn text(report: &Value, config: &Config) -> String {
    if let Some(error) = report.get("error").and_then(Value::as_str) {
        return format!("{error}\nnot reloaded; the last good configuration stays in force");
    }
    let keys: Vec<&str> = report
        .get("needs_restart")
        .and_then(Value::as_array)
        .map(|keys| keys.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let mut text = format!("reloaded: {} is in force", config.file.display());
    for key in &keys {
        text.push_str("\nneeds a restart: ");
        text.push_str(key);
    }
    text
}

pub(super) fn unreachable(config: &Config, error: &io::Error) -> Failure {
    let socket = control_socket::path(&config.store.path);
    let socket = socket.display();
    let file = config.file.display();
    Failure::Failed(match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => format!(
            "no sidecar runs on store {}: start one with `postern run --config {file}`, or give the configuration \
             file of the one that runs",
            config.store.path.display()
        ),
        io::ErrorKind::PermissionDenied => format!(
            "not allowed to talk to the sidecar through {socket}: run this as the user that the sidecar runs as"
        ),
        _ => format!("the sidecar did not answer through {socket} ({error}): look into its log"),
    })
}
