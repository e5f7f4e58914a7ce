//! `postern explain`: how a request would be decided now, or at another time, check by check.
//!
//! Route look-up, facts and decision are production's own code; what lives here is only how they are put together for
//! a token of which the prefix is known, and how they are told to people.

mod names;
mod shown;

use std::net::IpAddr;

use clap::Args;
use http::Method;

use super::Exit;
use super::arguments::{ConfigArguments, TokenPrefix, time};
use super::directory::Directory;
use super::failure::Failure;
use super::output::Output;
use crate::directory::Synchronizer;
use crate::directory::gather::{Gathered, Question};
use crate::directory::model::Timestamp;
use crate::directory::sync::PinnedPolicies;
use crate::directory::view::DirectoryView;
use crate::policy::{self, Denial, Permission};
use crate::serve::target;
use crate::snapshot::{Route, Snapshot};
use crate::telemetry::Metrics;
use crate::token::TokenEntry;
use crate::{pipeline, route};
use names::Names;
use shown::{Decision, Explanation, Row};

pub(super) const EXAMPLES: &str = "\
Examples:
  postern explain --token-prefix psta_AbCdEfGhIjKl --method POST \\
      --route metrics.example.com/api/v1/write --client-address 192.0.2.7
  postern explain --token-prefix psta_AbCdEfGhIjKl --route localhost/ \\
      --client-address ::1 --at 2027-01-01T00:00:00Z --json | jq .reason

Exits with 0 if the request would be let in and with 1 if it would be refused. Every check is shown, also those after \
the first that fails, which is the one that decides. The store is asked, not the running sidecar: the last use of a \
token may be some seconds old.";

#[derive(Debug, Args)]
pub(super) struct ExplainArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The first 17 characters of the token.
    #[arg(long, value_name = "PREFIX", value_parser = TokenPrefix::read)]
    token_prefix: TokenPrefix,
    /// What is asked for: host and path.
    #[arg(long, value_name = "HOST/PATH")]
    route: String,
    /// How it is asked for.
    #[arg(long, default_value = "GET")]
    method: Method,
    /// Where the request comes from.
    #[arg(long, value_name = "ADDRESS")]
    client_address: IpAddr,
    /// When, such as 2027-01-01T00:00:00Z; now if not given.
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<Timestamp>,
}

pub(super) fn execute(arguments: &ExplainArguments, output: Output) -> Result<Exit, Failure> {
    let directory = Directory::open(&arguments.config)?;
    let organization = &directory.config.organization;
    let pinned: PinnedPolicies = organization
        .authentication
        .clone()
        .map(|policy| (organization.id.clone(), policy))
        .into_iter()
        .collect();
    let (synchronizer, view) = Synchronizer::start(directory.store.clone(), pinned)?;
    let snapshot =
        Snapshot::new(&directory.config, &view, &Metrics::new(1), None).map_err(Failure::failed)?;

    let request = Request::read(arguments, &snapshot)?;
    let entry = synchronizer.token_by_prefix(arguments.token_prefix.as_str())?;
    let (checks, decision) = match (&request.route, &entry) {
        (Some(route), _) if route.declared_open().is_some() => (Vec::new(), Decision::Open),
        (_, None) => (shown::first_rows(None), Decision::Denied(Denial::UnknownToken)),
        (route, Some(entry)) => {
            let names = Names::of(&directory, &view, &arguments.token_prefix, request.project(&directory))?;
            evaluate(&request, *route, &view, *entry, &names)
        }
    };
    let explanation = Explanation::new(arguments.token_prefix.as_str(), &request.shown(), decision, checks);
    output.result(&explanation, Explanation::text)?;
    Ok(if decision.lets_in() { Exit::Done } else { Exit::Failed })
}

/// The request that is asked about.
struct Request<'a> {
    route: Option<&'a Route>,
    position: Option<usize>,
    host: String,
    path: String,
    method: &'a Method,
    required: Permission,
    client_address: IpAddr,
    time: Timestamp,
}

impl<'a> Request<'a> {
    /// Finds the route as the pipeline does.
    fn read(arguments: &'a ExplainArguments, snapshot: &'a Snapshot) -> Result<Self, Failure> {
        let asked = arguments.route.as_str();
        let asked = asked.strip_prefix("http://").or_else(|| asked.strip_prefix("https://")).unwrap_or(asked);
        let (host, path) = asked.split_at(asked.find('/').unwrap_or(asked.len()));
        let target = target::normalize(if path.is_empty() { "/" } else { path }).map_err(|ambiguity| {
            Failure::Failed(format!("this request would be answered 400: {}", ambiguity.message()))
        })?;
        let path = target.split_once('?').map_or(&*target, |(path, _query)| path);
        let host = route::host_name(host).to_ascii_lowercase();
        if matches!(arguments.method, Method::CONNECT | Method::TRACE) {
            let method = &arguments.method;
            return Err(Failure::Failed(format!(
                "this request would be answered 405: {method} is not allowed"
            )));
        }
        let position = snapshot.table.find(&host, path);
        let route = position.and_then(|position| snapshot.routes.get(position));
        Ok(Self {
            route,
            position,
            path: path.to_owned(),
            host,
            method: &arguments.method,
            // Without a route nothing is required, and no check that asks for it is shown.
            required: route.map_or(Permission::ProjectServicesRead, |route| {
                pipeline::required_permission(route, &arguments.method)
            }),
            client_address: arguments.client_address,
            time: arguments.at.unwrap_or_else(Timestamp::now),
        })
    }

    /// The project that the route names.
    fn project<'d>(&self, directory: &'d Directory) -> Option<&'d str> {
        let route = directory.config.routes.get(self.position?)?;
        Some(route.project.as_str())
    }

    fn shown(&self) -> shown::Request {
        shown::Request {
            route: self.route.map(|route| route.name.to_string()),
            host: self.host.clone(),
            path: self.path.clone(),
            method: self.method.to_string(),
            required_permission: self.route.map(|_| self.required.as_str()),
            client_address: self.client_address,
            time: self.time,
        }
    }
}

/// Puts the facts together as admission does, and asks the policy.
fn evaluate(
    request: &Request<'_>,
    route: Option<&Route>,
    view: &DirectoryView,
    entry: TokenEntry<'_>,
    names: &Names,
) -> (Vec<Row>, Decision) {
    let question =
        Question { now: request.time.0, client_address: request.client_address, required: request.required };
    let gathered = Gathered::new(view, entry, route.map(|route| &*route.project), question);
    let facts = gathered.facts();
    let decided = policy::decide(&facts);
    let explained = policy::explain(&facts);
    let mut rows = shown::first_rows(Some(facts.token.kind));
    if route.is_none() {
        // Only the checks of the token itself are made: who holds a valid one learns that there is no route.
        let of_token = explained.iter().filter(|check| check.number <= LAST_CHECK_OF_TOKEN);
        rows.extend(of_token.map(|check| Row::of(check, names)));
        return match decided {
            Err(denial) if denial.status() == http::StatusCode::UNAUTHORIZED => {
                (rows, Decision::Denied(denial))
            }
            Ok(_) | Err(_) => (rows, Decision::NoRoute),
        };
    }
    rows.extend(explained.iter().map(|check| Row::of(check, names)));
    match decided {
        Ok(_permit) => (rows, Decision::Permitted),
        Err(denial) => (rows, Decision::Denied(denial)),
    }
}

/// Checks up to this one concern the token and its user, whatever is asked for.
const LAST_CHECK_OF_TOKEN: u8 = 6;
