//! `postern upgrade`: lets a new process take over from the running sidecar, and says whether it has.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::Exit;
use super::arguments::{self, ConfigArguments};
use super::failure::Failure;
use super::output::{Format, Output};
use super::reload;
use crate::app::control_socket;
use crate::config::Config;

pub(super) const EXAMPLES: &str = "\
Examples:
  postern upgrade --config /etc/postern/postern.toml
  postern upgrade --within 5m                        a directory that takes long to load
  postern upgrade --json | jq '.process_id'

Put the new program in the place of the old one first (mv, or a symbolic link): the running sidecar starts what is there now, \
with its own arguments and environment. The new process takes its sockets over once it is ready; the old one then finishes \
what runs. Nobody is refused meanwhile. Exits with 64 if the configuration has problems, with 1 if no process has taken over: \
the old one then goes on.";

#[derive(Debug, Args)]
pub(super) struct UpgradeArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// How long the new process may take to be ready.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = arguments::seconds)]
    within: u32,
}

pub(super) fn execute(arguments: &UpgradeArguments, output: Output) -> Result<Exit, Failure> {
    // A file with problems is reported from here: the new process would say the same, and not start.
    let config = Config::load(&arguments.config.config)?;
    let patience = Duration::from_secs(arguments.within.into());
    let report = control_socket::request_upgrade(&config.store.path, patience)
        .map_err(|error| reload::unreachable(&config, &error))?;
    let taken_over = report.get("taken_over").and_then(Value::as_bool) == Some(true);
    match (taken_over, output.format()) {
        (false, Format::Text) => output.remark(&text(&report)),
        (true, Format::Text) | (_, Format::Json) => output.result(&report, text)?,
    }
    Ok(if taken_over { Exit::Done } else { Exit::Failed })
}

fn text(report: &Value) -> String {
    let field = |name: &str| report.get(name).and_then(Value::as_str).unwrap_or("unknown");
    match report.get("process_id").and_then(Value::as_u64) {
        Some(process_id) => {
            format!("process {process_id} (version {}) has taken over", field("version"))
        }
        None => format!("{}\nnot upgraded; the process that runs goes on", field("error")),
    }
}
