//! `postern policy preview` and `postern policy candidate`: what another policy would do, before it does.

use std::net::IpAddr;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{read, text_of};
use crate::cli::Exit;
use crate::cli::backend::Backend;
use crate::cli::directory::Directory;
use crate::cli::failure::Failure;
use crate::cli::output::{Output, joined, or_dash, table};
use crate::directory::model::Timestamp;
use crate::directory::operations;
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
#[derive(Debug, Serialize)]
struct Shown {
    organization_id: String,
    candidate: Option<AuthenticationPolicy>,
}

/// What the management API does for those who are elsewhere.
const INSTEAD: &str =
    "the management API has it at /v1/organization/{organization_id}/config/authentication/";

pub(super) fn execute_preview(
    backend: &dyn Backend,
    arguments: &PreviewArguments,
    output: Output,
) -> Result<Exit, Failure> {
    let directory = backend.store_only("previewing a policy", &format!("{INSTEAD}preview"))?;
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
    let report = directory.store.read(|records| {
        let question = QuestionReport::new(asked, arguments.client_address);
        PreviewReport::new(records, &view, directory.organization_id(), [&before, &after], question, &found)
    })?;
    output.result(&report, text)?;
    Ok(Exit::Done)
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
    backend: &dyn Backend,
    command: &CandidateCommand,
    output: Output,
) -> Result<Exit, Failure> {
    let directory = backend.store_only("trying a policy", &format!("{INSTEAD}candidate"))?;
    let id = directory.organization_id();
    match command {
        CandidateCommand::Show => {}
        CandidateCommand::Clear => {
            operations::set_candidate_policy(&*directory.store, id, None, Timestamp::now())?;
        }
        CandidateCommand::Set { changes } => {
            let update = read(changes)?;
            let mut candidate = backend.policy()?.policy;
            update.apply(&mut candidate);
            operations::set_candidate_policy(&*directory.store, id, Some(&candidate), Timestamp::now())?;
        }
    }
    let organization = directory.store.read(|records| records.organization(id))?;
    let candidate = organization.and_then(|organization| organization.candidate_policy);
    let shown = Shown { organization_id: id.to_owned(), candidate };
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
    reason: impl Fn((Option<&'static str>, Option<&'static str>)) -> Option<&'static str>,
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
                or_dash(reason((affected.reason_before, affected.reason_after))),
            ]
        }),
    );
    text.push('\n');
    text
}
