//! `postern policy preview` and `postern policy candidate`: what another policy would do, before it does.

use std::net::IpAddr;

use clap::{Args, Subcommand};
use http::Method;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{read, text_of};
use crate::cli::Exit;
use crate::cli::backend::{self, Backend, Place, Remote};
use crate::cli::directory::Directory;
use crate::cli::failure::Failure;
use crate::cli::output::{Output, joined, or_dash, table};
use crate::directory::model::Timestamp;
use crate::directory::operations::{self, PolicyUpdate};
use crate::directory::preview::report::{AffectedReport, PreviewReport, QuestionReport};
use crate::directory::preview::{PreviewPage, PreviewQuestion, preview};
use crate::directory::view::DirectoryView;
use crate::policy::{AuthenticationPolicy, Permission};

pub(super) const PREVIEW_EXAMPLES: &str = "\
Examples:
  postern policy preview --set personal_tokens_enabled=false
  postern policy preview --set password_auth_enabled=false --set two_factor_required=true --json | jq .users
  postern policy preview --set allowed_ip_ranges=10.0.0.0/8 --client-address 192.0.2.7
  postern policy preview --set oauth_enabled=false --project example --permission service:data:write

Nothing is changed. What is listed is what would be refused, and let in, were the policy in force: the deciding code \
itself says so, on the directory as it is in the store.";

pub(super) const CANDIDATE_EXAMPLES: &str = "\
Examples:
  postern policy candidate set personal_tokens_enabled=false
  postern policy candidate show
  postern policy candidate clear

A candidate is tried on real requests without refusing any: the metric postern_would_deny_total and the access log's \
`would_deny` say which it would refuse.";

const CANDIDATE_SET_EXAMPLES: &str = "\
Examples:
  postern policy candidate set personal_tokens_enabled=false
  postern policy candidate set password_auth_enabled=false two_factor_required=true

What is not named is as in the policy in force now.";

const CANDIDATE_SHOW_EXAMPLES: &str = "\
Examples:
  postern policy candidate show
  postern policy candidate show --json | jq .candidate";

const CANDIDATE_CLEAR_EXAMPLES: &str = "\
Examples:
  postern policy candidate clear";

/// What is asked about a change.
#[derive(Debug, Args)]
pub(super) struct PreviewArguments {
    /// A key with another value; repeat it for more.
    #[arg(long = "set", value_name = "KEY=VALUE", required = true)]
    changes: Vec<String>,
    /// Ask about requests for this project: scopes and grants count too.
    #[arg(long, requires = "permission")]
    project: Option<String>,
    /// The permission that those requests need.
    #[arg(long, requires = "project")]
    permission: Option<Permission>,
    /// Where requests come from; from where each token was used last if not given.
    #[arg(long, value_name = "ADDRESS")]
    client_address: Option<IpAddr>,
    /// List at most so many tokens that stop, as many that start, and as many users.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

#[derive(Debug, Subcommand)]
pub(super) enum CandidateCommand {
    /// Try a policy on real requests from now on.
    #[command(after_help = CANDIDATE_SET_EXAMPLES)]
    Set {
        /// Keys with their values: true or false, or address ranges separated by commas.
        #[arg(value_name = "KEY=VALUE", required = true)]
        changes: Vec<String>,
    },
    /// Show the policy that is tried.
    #[command(after_help = CANDIDATE_SHOW_EXAMPLES)]
    Show,
    /// Try none any more.
    #[command(after_help = CANDIDATE_CLEAR_EXAMPLES)]
    Clear,
}

/// The candidate as it is printed.
#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    organization_id: String,
    candidate: Option<AuthenticationPolicy>,
}

pub(super) fn execute_preview(
    directory: &dyn Backend,
    arguments: &PreviewArguments,
    output: Output,
) -> Result<Exit, Failure> {
    let report = match directory.place() {
        Place::Store(directory) => preview_of_store(directory, arguments)?,
        Place::Api(remote) => ask_for_preview(remote, arguments)?,
    };
    output.result(&report, text)?;
    Ok(Exit::Done)
}

fn preview_of_store(directory: &Directory, arguments: &PreviewArguments) -> Result<PreviewReport, Failure> {
    let (_synchronizer, view) = directory.in_memory()?;
    let organization = directory.organization_in(&view)?;
    let before = organization.current.load().policy.clone();
    let mut after = before.clone();
    read(&arguments.changes)?.apply(&mut after);
    let project = arguments.project.as_deref().map(|name| project(directory, &view, name)).transpose()?;
    let question = PreviewQuestion {
        asked: project.as_deref().zip(arguments.permission),
        client_address: arguments.client_address,
        now: Timestamp::now().0,
    };
    let page = PreviewPage { after: 0, limit: arguments.limit as usize };
    let found = preview(&view, &organization, &after, question, page);
    let asked = arguments.project.as_deref().zip(arguments.permission.map(Permission::as_str));
    Ok(directory.store.read(|records| {
        let question = QuestionReport::new(asked, arguments.client_address);
        PreviewReport::new(records, &view, directory.organization_id(), [&before, &after], question, &found)
    })?)
}

fn ask_for_preview(remote: &Remote, arguments: &PreviewArguments) -> Result<PreviewReport, Failure> {
    let mut query: Vec<(String, String)> = Vec::new();
    for (key, value) in fields_of(&read(&arguments.changes)?)? {
        let value = match value {
            Value::Array(ranges) => ranges.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
            value => value.to_string(),
        };
        query.push((key, value));
    }
    query.push(("limit".to_owned(), arguments.limit.to_string()));
    let more = [
        ("project", arguments.project.clone()),
        ("permission", arguments.permission.map(|permission| permission.to_string())),
        ("client_address", arguments.client_address.map(|address| address.to_string())),
    ];
    query.extend(more.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    let query: Vec<(&str, &str)> = query.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    Ok(remote.ask_with(Method::GET, &["config", "authentication", "preview"], &query, None)?)
}

/// The keys that an update names.
fn fields_of(update: &PolicyUpdate) -> Result<Map<String, Value>, Failure> {
    match serde_json::to_value(update).map_err(Failure::failed)? {
        Value::Object(fields) => Ok(fields.into_iter().filter(|(_, value)| !value.is_null()).collect()),
        _ => Ok(Map::new()),
    }
}

/// A project of the organization.
fn project(
    directory: &Directory,
    view: &DirectoryView,
    name: &str,
) -> Result<std::sync::Arc<crate::directory::view::ProjectEntry>, Failure> {
    let found = directory.store.read(|records| records.project(name))?;
    let ours = found.filter(|project| project.organization_id == directory.organization_id());
    let entry = ours.and_then(|project| view.project(&project.name).current.load_full());
    entry.ok_or_else(|| {
        let entity = "project";
        crate::directory::OperationError::NotFound { entity, id: name.to_owned() }.into()
    })
}

pub(super) fn execute_candidate(
    directory: &dyn Backend,
    command: &CandidateCommand,
    output: Output,
) -> Result<Exit, Failure> {
    let shown = match directory.place() {
        Place::Store(directory) => candidate_in_store(directory, command)?,
        Place::Api(remote) => ask_for_candidate(remote, command)?,
    };
    output.result(&shown, |shown| match &shown.candidate {
        None => format!("no policy is tried on requests of organization {}", shown.organization_id),
        Some(candidate) => format!(
            "policy that is tried on requests of organization {}, refusing none of them\n{}",
            shown.organization_id,
            text_of(candidate)
        ),
    })?;
    Ok(Exit::Done)
}

fn candidate_in_store(directory: &Directory, command: &CandidateCommand) -> Result<Shown, Failure> {
    let id = directory.organization_id();
    match command {
        CandidateCommand::Show => {}
        CandidateCommand::Clear => {
            operations::set_candidate_policy(&*directory.store, id, None, Timestamp::now())?;
        }
        CandidateCommand::Set { changes } => {
            let update = read(changes)?;
            let mut candidate = backend::policy_of_store(directory)?.policy;
            update.apply(&mut candidate);
            operations::set_candidate_policy(&*directory.store, id, Some(&candidate), Timestamp::now())?;
        }
    }
    let organization = directory.store.read(|records| records.organization(id))?;
    let candidate = organization.and_then(|organization| organization.candidate_policy);
    Ok(Shown { organization_id: id.to_owned(), candidate })
}

fn ask_for_candidate(remote: &Remote, command: &CandidateCommand) -> Result<Shown, Failure> {
    let path = ["config", "authentication", "candidate"];
    match command {
        CandidateCommand::Show => {}
        CandidateCommand::Clear => {
            let IgnoredAny = remote.ask_with(Method::DELETE, &path, &[], None)?;
        }
        CandidateCommand::Set { changes } => {
            let body = Value::Object(fields_of(&read(changes)?)?);
            let IgnoredAny = remote.ask_with(Method::PUT, &path, &[], Some(&body))?;
        }
    }
    Ok(remote.ask_with(Method::GET, &path, &[], None)?)
}

fn text(report: &PreviewReport) -> String {
    let mut text = format!("of {} tokens\n", report.tokens_considered);
    text += &affected("would stop working", &report.stopping, |reasons| reasons.1);
    text += &affected("would start working", &report.starting, |reasons| reasons.0);
    text += &format!(
        "{} users would lose their last working token, {} would get their first\n",
        report.users_stopping, report.users_starting
    );
    if !report.users.is_empty() {
        text += &table(
            ["USER", "EMAIL", "WORKING NOW", "WORKING THEN", "STOPPING", "STARTING"],
            report.users.iter().map(|user| {
                [
                    user.user_name.clone(),
                    user.user_email.clone(),
                    user.tokens_working_before.to_string(),
                    user.tokens_working_after.to_string(),
                    user.tokens_stopping.to_string(),
                    user.tokens_starting.to_string(),
                ]
            }),
        );
        text.push('\n');
    }
    if report.next_cursor.is_some() {
        text += "there are more: raise --limit to see them\n";
    }
    text += &format!("asked: {}", report.question.meaning);
    text
}

/// `reason` picks of the reasons before and after the one to be shown.
fn affected(
    what: &str,
    report: &AffectedReport,
    reason: impl for<'r> Fn((Option<&'r str>, Option<&'r str>)) -> Option<&'r str>,
) -> String {
    let reasons: Vec<String> =
        report.by_reason.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    let mut text = format!("{} {what}", report.count);
    if report.count > 0 {
        text += &format!(" ({})", joined(&reasons, ""));
    }
    text.push('\n');
    if report.tokens.is_empty() {
        return text;
    }
    text += &table(
        ["TOKEN PREFIX", "KIND", "USER", "BOUND TO", "LAST USED", "FROM", "REQUESTS", "REASON"],
        report.tokens.iter().map(|affected| {
            let token = &affected.token;
            [
                token.token_prefix.clone(),
                token.kind.to_string(),
                token.user_name.clone(),
                or_dash(token.authentication_method.as_deref()),
                token.last_used_time.map_or_else(|| "never".to_owned(), |time| time.to_string()),
                or_dash(token.last_ip),
                token.request_count.to_string(),
                or_dash(reason((affected.reason_before.as_deref(), affected.reason_after.as_deref()))),
            ]
        }),
    );
    text.push('\n');
    text
}
