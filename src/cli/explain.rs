//! `postern explain`: how a request would be decided now, or at another time, check by check.
//!
//! Route look-up, facts and decision are production's own code; what lives here is only how they are put together for
//! a token of which the prefix is known, and how they are told to people.

mod denial;
mod shown;

use std::net::IpAddr;

use clap::Args;
use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::Exit;
use super::arguments::{ConfigArguments, TokenPrefix, time};
use super::backend::{self, PlaceArguments, Remote};
use super::directory::Directory;
use super::failure::Failure;
use super::output::Output;
use crate::directory::gather::{Gathered, Question};
use crate::directory::model::Timestamp;
use crate::directory::view::DirectoryView;
use crate::explain::question::{AskedRequest, QuestionError, Required};
use crate::explain::{self, Names, Row};
use crate::policy::{self, Denial, Permission};
use crate::snapshot::{Route, Snapshot};
use crate::telemetry::Metrics;
use crate::token::TokenEntry;
use shown::{Decision, Explanation};

pub(super) const EXAMPLES: &str = "\
Examples:
  postern explain --token-prefix psta_AbCdEfGhIjKl --method POST \\
      --route metrics.example.com/api/v1/write --client-address 192.0.2.7
  postern explain --token-prefix psta_AbCdEfGhIjKl --route localhost/ \\
      --client-address ::1 --at 2027-01-01T00:00:00Z --json | jq .reason

  postern explain --token-prefix psta_AbCdEfGhIjKl --client-address 192.0.2.7 \\
      --route 'metrics.example.com/api?tenant=a' --header 'X-Version: 2' --header 'X-Debug:'

  postern explain --request-id 5f2c9a0d1e4b4f6a8c7d2f3a9c0d1e4b

With `--request-id` the running sidecar is asked why it refused that request, for as long as it remembers it \
(`recent_denials` under [logging]).

Where routes are chosen by headers or by the query, what was not said is listed: `--header` says a header, or with `Name:` that \
there is none; a query in `--route` is all of the query.

Exits with 0 if the request would be let in and with 1 if it would be refused. Every check is shown, also those after \
the first that fails, which is the one that decides. The store is asked, not the running sidecar: the last use of a \
token may be some seconds old. With --url the sidecar is asked, and decides with its own routes.";

#[derive(Debug, Args)]
pub(super) struct ExplainArguments {
    #[command(flatten)]
    place: PlaceArguments,
    /// A request that the running sidecar refused, by the id in its answer and in the access log.
    #[arg(long, value_name = "ID", conflicts_with_all = ["token_prefix", "route", "header", "client_address", "at"])]
    request_id: Option<String>,
    /// The first 17 characters of the token.
    #[arg(long, value_name = "PREFIX", value_parser = TokenPrefix::read, required_unless_present = "request_id")]
    token_prefix: Option<TokenPrefix>,
    /// What is asked for: host and path, with the query if routes are chosen by it.
    #[arg(long, value_name = "HOST/PATH", required_unless_present = "request_id")]
    route: Option<String>,
    /// A header of the request, such as `X-Version: 2`; `X-Version:` if it has none. Several times for several.
    #[arg(long, value_name = "LINE")]
    header: Vec<String>,
    /// How it is asked for.
    #[arg(long, default_value = "GET")]
    method: Method,
    /// Where the request comes from.
    #[arg(long, value_name = "ADDRESS", required_unless_present = "request_id")]
    client_address: Option<IpAddr>,
    /// When, such as 2027-01-01T00:00:00Z; now if not given.
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<Timestamp>,
}

/// A request that is asked about before it is made.
struct Asked<'a> {
    token_prefix: &'a TokenPrefix,
    /// As it was given, with its query.
    route: &'a str,
    headers: &'a [String],
    method: &'a Method,
    client_address: IpAddr,
    at: Option<Timestamp>,
}

impl Asked<'_> {
    fn question(&self) -> Result<AskedRequest, Failure> {
        let failed = |error: QuestionError| match error {
            QuestionError::Answered { .. } => Failure::Failed(error.to_string()),
            QuestionError::Header(_) | QuestionError::Credentials(_) => Failure::Usage(error.to_string()),
        };
        let mut question = AskedRequest::new(self.route, self.method.clone()).map_err(failed)?;
        for line in self.headers {
            question.say_line(line).map_err(failed)?;
        }
        Ok(question)
    }
}

pub(super) fn execute(arguments: &ExplainArguments, output: Output) -> Result<Exit, Failure> {
    let ExplainArguments { request_id, token_prefix, route, header, client_address, .. } = arguments;
    let remote = backend::remote(&arguments.place.remote, output)?;
    if let Some(request_id) = request_id {
        return denial::execute(&arguments.place.config, remote.as_ref(), request_id, output);
    }
    let (Some(token_prefix), Some(route), Some(client_address)) = (token_prefix, route, *client_address)
    else {
        let missing =
            "say which request: `--request-id`, or `--token-prefix`, `--route` and `--client-address`";
        return Err(Failure::Usage(missing.to_owned()));
    };
    let asked = Asked {
        token_prefix,
        route,
        headers: header,
        method: &arguments.method,
        client_address,
        at: arguments.at,
    };
    match &remote {
        Some(remote) => ask(remote, &asked, output),
        None => execute_asked(&arguments.place.config, &asked, output),
    }
}

/// What the API answers, for one token.
#[derive(Deserialize)]
struct Answer {
    route: Option<String>,
    required_permission: String,
    /// What an older sidecar does not say.
    #[serde(default)]
    depends_on: Vec<String>,
    time: Timestamp,
    decisions: Vec<AnsweredDecision>,
}

#[derive(Deserialize)]
struct AnsweredDecision {
    decision: String,
    reason: Option<String>,
    status: Option<u16>,
    checks: Vec<Row>,
}

/// Asks the API: the running sidecar's routes and its memory decide.
fn ask(remote: &Remote, arguments: &Asked<'_>, output: Output) -> Result<Exit, Failure> {
    let question = arguments.question()?;
    let token_prefix = arguments.token_prefix.as_str();
    let mut body = json!({
        "token_prefix": token_prefix,
        "url": arguments.route,
        "method": arguments.method.as_str(),
        "client_address": arguments.client_address,
    });
    if let Some(time) = arguments.at {
        body["time"] = time.to_string().into();
    }
    if !arguments.headers.is_empty() {
        // Those are lines: the question has been made of them.
        let header = |line: &String| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = Some(value.trim()).filter(|value| !value.is_empty());
            json!({ "name": name, "value": value })
        };
        body["headers"] = arguments.headers.iter().map(header).collect();
    }
    let answer: Answer = remote.ask_with(Method::POST, &["explain"], &[], Some(&body))?;
    let decided = answer.decisions.into_iter().next();
    let decided =
        decided.ok_or_else(|| Failure::Failed("the API decided nothing about this token".to_owned()))?;
    let request = shown::Request {
        route: answer.route,
        host: question.host,
        path: question.path,
        method: arguments.method.to_string(),
        required_permission: Some(answer.required_permission.into()),
        depends_on: answer.depends_on,
        client_address: arguments.client_address,
        time: answer.time,
    };
    let lets_in = decided.decision == "permit";
    let explanation = Explanation {
        decision: decided.decision.into(),
        reason: decided.reason.map(Into::into),
        status: decided.status,
        token_prefix: token_prefix.to_owned(),
        request,
        checks: decided.checks,
    };
    output.result(&explanation, Explanation::text)?;
    Ok(if lets_in { Exit::Done } else { Exit::Failed })
}

fn execute_asked(config: &ConfigArguments, arguments: &Asked<'_>, output: Output) -> Result<Exit, Failure> {
    let directory = Directory::open(config)?;
    let (synchronizer, view) = directory.in_memory()?;
    let snapshot =
        Snapshot::new(&directory.config, &view, &Metrics::new(1), None, None).map_err(Failure::failed)?;

    let mut request = Request::read(arguments, &snapshot)?;
    let entry = synchronizer.token_by_prefix(arguments.token_prefix.as_str())?;
    let (checks, decision) = match (&request.route, &entry) {
        (Some(route), _) if request.question.is_let_in_by(route) => (Vec::new(), Decision::Open),
        (_, None) => (explain::first_rows(None), Decision::Denied(Denial::UnknownToken)),
        (route, Some(entry)) => {
            let (prefix, project) = (arguments.token_prefix.as_str(), request.project(&directory));
            let names = directory.store.read(|records| Names::of(records, &view, prefix, project))?;
            let route = *route;
            match (evaluate(&request, route, &view, *entry, &names), request.then) {
                ((_, Decision::Permitted), Some(then)) => {
                    request.required = then;
                    evaluate(&request, route, &view, *entry, &names)
                }
                (decided, _) => decided,
            }
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
    question: AskedRequest,
    required: Permission,
    /// What it needs beside that.
    then: Option<Permission>,
    depends_on: Vec<String>,
    client_address: IpAddr,
    time: Timestamp,
}

impl<'a> Request<'a> {
    /// Finds the route as the pipeline does.
    fn read(arguments: &Asked<'_>, snapshot: &'a Snapshot) -> Result<Self, Failure> {
        let question = arguments.question()?;
        let position = question.route(snapshot).map_err(|error| Failure::Failed(error.to_string()))?;
        let route = position.and_then(|position| snapshot.routes.get(position));
        // Without a route nothing is required, and no check that asks for it is shown.
        let nothing = Required::one(Permission::ProjectServicesRead);
        let Required { first, then } = route.map_or(nothing, |route| question.required(route));
        Ok(Self {
            route,
            position,
            depends_on: question.depends_on(snapshot),
            question,
            required: first,
            then,
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
            host: self.question.host.clone(),
            path: self.question.path.clone(),
            method: self.question.method().to_string(),
            required_permission: self.route.map(|_| self.then.unwrap_or(self.required).as_str().into()),
            depends_on: self.depends_on.clone(),
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
    let mut rows = explain::rows(&facts, names);
    if route.is_none() {
        // Only the checks of the token itself are made: who holds a valid one learns that there is no route.
        rows.retain(|row| row.number <= explain::LAST_CHECK_OF_TOKEN);
        return match decided {
            Err(denial) if denial.status() == http::StatusCode::UNAUTHORIZED => {
                (rows, Decision::Denied(denial))
            }
            Ok(_) | Err(_) => (rows, Decision::NoRoute),
        };
    }
    match decided {
        Ok(_permit) => (rows, Decision::Permitted),
        Err(denial) => (rows, Decision::Denied(denial)),
    }
}
