//! `postern explain --request-id`: why the running sidecar refused a request, as it remembers it.

use http::{Method, StatusCode};
use serde_json::Value;

use crate::app::control_socket;
use crate::cli::Exit;
use crate::cli::arguments::ConfigArguments;
use crate::cli::backend::{Refusal, Remote, Unanswered};
use crate::cli::failure::Failure;
use crate::cli::output::{Output, fields, table};
use crate::cli::reload;
use crate::config::Config;

pub(super) fn execute(
    arguments: &ConfigArguments,
    remote: Option<&Remote>,
    request_id: &str,
    output: Output,
) -> Result<Exit, Failure> {
    let is_id = request_id.len() == 32 && request_id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_id {
        return Err(Failure::Usage(
            "a request id has 32 hexadecimal digits; it is in the answer's `x-postern-request-id` and in the access log"
                .to_owned(),
        ));
    }
    let request_id = request_id.to_ascii_lowercase();
    let denial = match remote {
        Some(remote) => ask(remote, &request_id)?,
        None => {
            let config = Config::load(&arguments.config)?;
            control_socket::request_explanation(&config.store.path, &request_id)
                .map_err(|error| reload::unreachable(&config, &error))?
        }
    };
    if denial.is_null() {
        return Err(Failure::Failed(format!(
            "the sidecar does not remember to have refused request {request_id}: it was let in, it is too long ago, or \
             another sidecar refused it; the access log says more"
        )));
    }
    output.result(&denial, text)?;
    Ok(Exit::Failed)
}

/// What the API says; null if it does not remember such a request, as the sidecar itself answers.
fn ask(remote: &Remote, request_id: &str) -> Result<Value, Failure> {
    match remote.ask_with(Method::GET, &["decisions", request_id], &[], None) {
        Err(Unanswered::Refused(Refusal { status: StatusCode::NOT_FOUND, .. })) => Ok(Value::Null),
        answer => Ok(answer?),
    }
}

fn text(denial: &Value) -> String {
    let value = |key: &str| match &denial[key] {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let head = fields([
        ("request id", value("request_id")),
        ("time", value("time")),
        ("client", value("client_address")),
        ("route", value("route")),
        ("project", value("project")),
        ("organization", value("organization_id")),
        ("required", value("required_permission")),
        ("token", value("token_prefix")),
        ("user", value("user_id")),
    ]);
    let checks = denial["checks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows = checks.iter().map(|row| {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let result = match row["result"].as_str() {
            Some("not_applicable") => "does not apply".to_owned(),
            Some("failed") => format!("FAILED: {}", text("reason")),
            result => result.unwrap_or_default().to_owned(),
        };
        [row["number"].to_string(), text("check"), result, text("inputs")]
    });
    let checks = table(["#", "CHECK", "RESULT", "INPUTS"], rows);
    format!("{head}\n\n{checks}\n\ndecision: deny, {} ({})", value("reason"), value("status"))
}
