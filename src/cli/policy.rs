//! `postern policy`: the organization's authentication policy, in the store or pinned by the configuration.

mod preview;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Exit;
use super::backend::{self, Backend, Lockout, PlaceArguments, PolicyInForce};
use super::failure::Failure;
use super::nearest::suggestion;
use super::output::{Output, fields};
use crate::directory::operations::PolicyUpdate;
use crate::policy::{AuthenticationPolicy, address};

pub(super) const EXAMPLES: &str = "\
Examples:
  postern policy show
  postern policy set two_factor_required=true
  postern policy set allowed_ip_ranges=10.0.0.0/8,192.0.2.1
  postern policy preview --set personal_tokens_enabled=false
  postern policy candidate set personal_tokens_enabled=false";

const SHOW_EXAMPLES: &str = "\
Examples:
  postern policy show
  postern policy show --json | jq .allowed_ip_ranges";

const SET_EXAMPLES: &str = "\
Examples:
  postern policy set two_factor_required=true
  postern policy set personal_tokens_enabled=false saml_allow_external=false
  postern policy set allowed_ip_ranges=10.0.0.0/8,192.0.2.1
  postern policy set allowed_ip_ranges=             any address

What is not named stays. A policy that the configuration pins is changed in the configuration.";

/// The one key that is a list; every other is a switch.
const RANGES: &str = "allowed_ip_ranges";

#[derive(Debug, Args)]
pub(super) struct PolicyArguments {
    #[command(flatten)]
    place: PlaceArguments,
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Show the policy in force, and where it comes from.
    #[command(after_help = SHOW_EXAMPLES)]
    Show,
    /// Change keys of the policy.
    #[command(after_help = SET_EXAMPLES)]
    Set {
        /// Keys with their new values: true or false, or address ranges separated by commas.
        #[arg(value_name = "KEY=VALUE", required = true)]
        changes: Vec<String>,
        /// Also where the token of this command would not be let in any more (with --url).
        #[arg(long)]
        yes: bool,
    },
    /// Show which tokens and users would stop working under another policy, and which would start.
    #[command(after_help = preview::PREVIEW_EXAMPLES)]
    Preview(preview::PreviewArguments),
    /// Try a policy on real requests without refusing any.
    #[command(after_help = preview::CANDIDATE_EXAMPLES)]
    Candidate {
        #[command(subcommand)]
        command: preview::CandidateCommand,
    },
}

/// The policy as it is printed; field names as in Aiven's API.
#[derive(Debug, Serialize)]
struct Shown {
    organization_id: String,
    /// The configuration file that pins it.
    pinned_by: Option<PathBuf>,
    #[serde(flatten)]
    policy: AuthenticationPolicy,
}

pub(super) fn execute(arguments: PolicyArguments, output: Output) -> Result<Exit, Failure> {
    let directory = &*backend::open(&arguments.place, output)?;
    let shown = match arguments.command {
        PolicyCommand::Show => show(directory),
        PolicyCommand::Set { changes, yes } => {
            set(directory, &changes, if yes { Lockout::Meant } else { Lockout::Refused })
        }
        PolicyCommand::Preview(arguments) => return preview::execute_preview(directory, &arguments, output),
        PolicyCommand::Candidate { command } => {
            return preview::execute_candidate(directory, &command, output);
        }
    }?;
    output.result(&shown, Shown::text)?;
    Ok(Exit::Done)
}

fn show(directory: &dyn Backend) -> Result<Shown, Failure> {
    let PolicyInForce { policy, pinned_by } = directory.policy()?;
    Ok(Shown { organization_id: directory.organization_id().to_owned(), pinned_by, policy })
}

fn set(directory: &dyn Backend, changes: &[String], lockout: Lockout) -> Result<Shown, Failure> {
    let policy = directory.set_policy(&read(changes)?, lockout)?;
    Ok(Shown { organization_id: directory.organization_id().to_owned(), pinned_by: None, policy })
}

/// Reads `KEY=VALUE` as the update that the operation takes.
fn read(changes: &[String]) -> Result<PolicyUpdate, Failure> {
    let mut update = Map::new();
    for change in changes {
        let Some((key, value)) = change.split_once('=') else {
            return Err(Failure::Usage(format!(
                "{change:?} is no KEY=VALUE; write one such as {RANGES}=10.0.0.0/8"
            )));
        };
        let known = keys();
        if !known.iter().any(|known| known == key) {
            let suggestion = suggestion(key, known.iter().map(String::as_str));
            let list = known.join(", ");
            return Err(Failure::Usage(format!("the policy has no key {key:?}{suggestion}; it has {list}")));
        }
        let value = if key == RANGES { ranges(value)? } else { switch(key, value)? };
        if update.insert(key.to_owned(), value).is_some() {
            return Err(Failure::Usage(format!("{key} is set twice")));
        }
    }
    serde_json::from_value(Value::Object(update)).map_err(Failure::failed)
}

/// The policy's keys, as the policy itself names them.
fn keys() -> Vec<String> {
    match serde_json::to_value(AuthenticationPolicy::default()) {
        Ok(Value::Object(policy)) => policy.into_iter().map(|(key, _)| key).collect(),
        _ => Vec::new(),
    }
}

fn switch(key: &str, value: &str) -> Result<Value, Failure> {
    match value {
        "true" => Ok(Value::Bool(true)),
        "false" => Ok(Value::Bool(false)),
        _ => Err(Failure::Usage(format!("{key} is {value:?}; write {key}=true or {key}=false"))),
    }
}

fn ranges(value: &str) -> Result<Value, Failure> {
    let texts = value.split(',').map(str::trim).filter(|text| !text.is_empty());
    let ranges = texts.map(|text| {
        let range =
            address::parse_range(text).map_err(|error| Failure::Usage(format!("{RANGES}: {error}")))?;
        Ok(json!(range.to_string()))
    });
    Ok(Value::Array(ranges.collect::<Result<_, Failure>>()?))
}

impl Shown {
    fn text(&self) -> String {
        let source = match &self.pinned_by {
            Some(file) => format!("pinned by {}; it wins over the store's", file.display()),
            None => "from the store".to_owned(),
        };
        format!("policy of organization {}, {source}\n{}", self.organization_id, text_of(&self.policy))
    }
}

fn text_of(policy: &AuthenticationPolicy) -> String {
    let policy = match serde_json::to_value(policy) {
        Ok(Value::Object(policy)) => policy,
        _ => Map::new(),
    };
    fields(policy.iter().map(|(key, value)| (key.as_str(), plain(value))))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Array(ranges) if ranges.is_empty() => "any address".to_owned(),
        Value::Array(ranges) => ranges.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[track_caller]
    fn check(changes: &[&str], expect: Result<&PolicyUpdate, &str>) {
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        match (read(&changes), expect) {
            (Ok(update), Ok(expected)) => assert_eq!(update, *expected),
            (Err(failure), Err(part)) => {
                assert_eq!(failure.exit(), Exit::Usage);
                assert!(failure.text().contains(part), "{}", failure.text());
            }
            (read, expect) => panic!("{read:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn keys_and_values_make_an_update() {
        let update = PolicyUpdate { two_factor_required: Some(true), ..PolicyUpdate::default() };
        check(&["two_factor_required=true"], Ok(&update));
        let ranges = vec!["10.0.0.0/8".parse().unwrap(), "192.0.2.1/32".parse().unwrap()];
        let update = PolicyUpdate { allowed_ip_ranges: Some(ranges), ..PolicyUpdate::default() };
        check(&["allowed_ip_ranges=10.0.0.0/8, 192.0.2.1"], Ok(&update));
        let update = PolicyUpdate { allowed_ip_ranges: Some(Vec::new()), ..PolicyUpdate::default() };
        check(&["allowed_ip_ranges="], Ok(&update));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_may_have_been() {
        check(&["two_factor_require=true"], Err("did you mean \"two_factor_required\"?"));
        check(&["colour=blue"], Err("it has allowed_ip_ranges"));
        check(&["saml_enabled"], Err("KEY=VALUE"));
        check(&["saml_enabled=yes"], Err("saml_enabled=true"));
        check(&["saml_enabled=true", "saml_enabled=false"], Err("twice"));
        check(&["allowed_ip_ranges=10.0.0.0/33"], Err("10.0.0.0/33"));
    }
}
