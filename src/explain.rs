//! A decision as it is told to people, check by check: the same rows for `postern explain` and for the management API.
//!
//! Nothing is decided here, and nothing looked up but names.

mod names;
pub mod question;

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::SystemTime;

use http::HeaderValue;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::directory::StoreError;
use crate::directory::model::Timestamp;
use crate::directory::store::Records;
use crate::directory::view::DirectoryView;
use crate::pipeline::denials::RecentDenial;
use crate::policy::{self, CheckResult, Denial, ExplainedCheck, Facts};
use crate::token::TokenKind;

pub use names::Names;

/// One row of the policy's table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DecisionCheck)]
pub struct Row {
    /// The check's number in the policy's table.
    pub number: u8,
    /// What it asks.
    #[schema(value_type = String)]
    pub check: Cow<'static, str>,
    /// The values it was evaluated on.
    pub inputs: String,
    /// How it came out.
    pub result: RowResult,
    /// Why it failed, if it did.
    #[schema(value_type = Option<String>)]
    pub reason: Option<Cow<'static, str>>,
}

/// How a row came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DecisionCheckResult)]
#[serde(rename_all = "snake_case")]
pub enum RowResult {
    /// It holds.
    Passed,
    /// It does not concern this token.
    NotApplicable,
    /// It fails.
    Failed,
    /// Known from the question: a prefix is given in place of a request with a whole token.
    Assumed,
}

/// Checks 1 to 3, which find the token: `kind` is the token's, `None` if there is none of this prefix.
pub fn first_rows(kind: Option<TokenKind>) -> Vec<Row> {
    let assumed = |number, check: &'static str, inputs: &str| Row {
        number,
        check: check.into(),
        inputs: inputs.to_owned(),
        result: RowResult::Assumed,
        reason: None,
    };
    let (found, result, reason) = match kind {
        Some(kind) => (format!("{kind} token of this prefix: known"), RowResult::Passed, None),
        None => {
            ("token of this prefix: unknown".to_owned(), RowResult::Failed, Some(Denial::UnknownToken.code()))
        }
    };
    vec![
        assumed(1, "one credential", "one `Authorization: Bearer` header"),
        assumed(2, "token well-formed", "the whole token, complete and right"),
        Row {
            number: 3,
            check: "token known".into(),
            inputs: found,
            result,
            reason: reason.map(Cow::Borrowed),
        },
    ]
}

impl Row {
    /// A check of the policy, with names for the numbers in it.
    pub fn of(explained: &ExplainedCheck, names: &Names) -> Self {
        let (result, reason) = match explained.result {
            CheckResult::Passed => (RowResult::Passed, None),
            CheckResult::NotApplicable => (RowResult::NotApplicable, None),
            CheckResult::Failed(denial) => (RowResult::Failed, Some(denial.code().into())),
        };
        Self {
            number: explained.number,
            check: explained.title.into(),
            inputs: names.put_into(explained.check, &explained.inputs),
            result,
            reason,
        }
    }

    /// How it came out, for people.
    pub fn result_in_words(&self) -> String {
        match (self.result, self.reason.as_deref()) {
            (RowResult::Passed, _) => "passed".to_owned(),
            (RowResult::NotApplicable, _) => "does not apply".to_owned(),
            (RowResult::Assumed, _) => "assumed".to_owned(),
            (RowResult::Failed, reason) => format!("FAILED: {}", reason.unwrap_or_default()),
        }
    }
}

/// All rows of a decision about a token that is known.
pub fn rows(facts: &Facts<'_>, names: &Names) -> Vec<Row> {
    let mut rows = first_rows(Some(facts.token.kind));
    rows.extend(policy::explain(facts).iter().map(|check| Row::of(check, names)));
    rows
}

/// A refused request as it is told to people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Denial)]
pub struct DenialReport {
    /// Its id, as client, upstream and access log know it.
    #[schema(example = "5f2c9a0d1e4b4f6a8c7d2f3a9c0d1e4b")]
    pub request_id: String,
    /// When it came.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// From where; `null`: that is not known, as over a Unix socket.
    #[schema(value_type = Option<String>)]
    pub client_address: Option<IpAddr>,
    /// The route; `null`: there is none for it.
    pub route: Option<String>,
    /// The route's project.
    pub project: Option<String>,
    /// The organization that owned the project.
    pub organization_id: Option<String>,
    /// What the route asks for.
    pub required_permission: Option<String>,
    /// Prefix of the token, if it was a known one.
    pub token_prefix: Option<String>,
    /// Whose token it was.
    pub user_id: Option<String>,
    /// Why it was refused.
    #[schema(value_type = String, example = "token_expired")]
    pub reason: &'static str,
    /// The status that the client was answered.
    pub status: u16,
    /// Every check with its inputs and its result, as they were then; of a stranger's request only the first three.
    pub checks: Vec<Row>,
}

impl DenialReport {
    /// The report of a denial that is remembered.
    pub fn new(recent: &RecentDenial, view: &DirectoryView, names: &Names) -> Self {
        let denied = recent.denied();
        let label = denied.route.as_ref();
        let since_epoch = denied.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let checks = match recent.of_token() {
            // Without a route, only the checks of the token itself were made.
            Some(of_token) if label.is_none() => {
                let mut rows = presented(of_token.facts.facts().token.kind);
                let checks = policy::explain(&of_token.facts.facts());
                let of_token = checks.iter().filter(|check| check.number <= LAST_CHECK_OF_TOKEN);
                rows.extend(of_token.map(|check| Row::of(check, names)));
                rows
            }
            Some(of_token) => {
                let facts = of_token.facts.facts();
                let mut rows = presented(facts.token.kind);
                rows.extend(policy::explain(&facts).iter().map(|check| Row::of(check, names)));
                rows
            }
            None => of_stranger(denied.reason),
        };
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Self {
            request_id: String::from_utf8_lossy(&denied.request_id).into_owned(),
            time: Timestamp(u32::try_from(since_epoch.as_secs()).unwrap_or(u32::MAX)),
            client_address: Some(denied.client_address.to_canonical()).filter(|it| !it.is_unspecified()),
            route: label.map(|label| label.name.to_string()),
            project: label.map(|label| label.project.to_string()),
            organization_id: organization_of(recent, view).as_ref().map(text),
            required_permission: denied.required.map(|required| required.as_str().to_owned()),
            token_prefix: recent.of_token().map(|of_token| of_token.token_prefix().into_owned()),
            user_id: recent.of_token().map(|of_token| text(&of_token.facts.user().id)),
            reason: denied.reason.code(),
            status: denied.reason.status().as_u16(),
            checks,
        }
    }

    /// The names that a report about this denial may come across.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn names(
        records: &dyn Records,
        view: &DirectoryView,
        recent: &RecentDenial,
    ) -> Result<Names, StoreError> {
        let Some(of_token) = recent.of_token() else { return Ok(Names::default()) };
        let project = of_token.denied.route.as_ref().map(|label| &*label.project);
        Names::of(records, view, &of_token.token_prefix(), project)
    }
}

/// Who owns the project that a refused request was for: as it was then, or for a stranger's as it is now.
pub fn organization_of(recent: &RecentDenial, view: &DirectoryView) -> Option<HeaderValue> {
    match recent.of_token() {
        Some(of_token) => of_token.facts.organization_id().cloned(),
        None => {
            let label = recent.denied().route.as_ref()?;
            let project = view.project(&label.project).current.load_full()?;
            Some(project.organization.id.clone())
        }
    }
}

/// Checks up to this one concern the token and its user, whatever is asked for.
pub const LAST_CHECK_OF_TOKEN: u8 = 6;

/// Checks 1 to 3 of a request that came with a known token.
fn presented(kind: TokenKind) -> Vec<Row> {
    first_three([
        (RowResult::Passed, None, "one credential".to_owned()),
        (RowResult::Passed, None, "a whole token".to_owned()),
        (RowResult::Passed, None, format!("{kind} token: known")),
    ])
}

/// Checks 1 to 3 of a request that came without a known token.
fn of_stranger(reason: Denial) -> Vec<Row> {
    let failed = Some(reason.code());
    let not_made = || (RowResult::NotApplicable, None, "not looked at".to_owned());
    let passed = |inputs: &str| (RowResult::Passed, None, inputs.to_owned());
    match reason {
        Denial::MissingCredentials => {
            let inputs = "no `Authorization` header".to_owned();
            first_three([(RowResult::Failed, failed, inputs), not_made(), not_made()])
        }
        Denial::UnknownToken => first_three([
            passed("one credential"),
            passed("a whole token"),
            (RowResult::Failed, failed, "no token of the directory".to_owned()),
        ]),
        // Which of the two it was is not remembered: that would say too much of what a stranger sent.
        _ => {
            let inputs = "not one well-formed bearer token".to_owned();
            first_three([(RowResult::Failed, failed, inputs), not_made(), not_made()])
        }
    }
}

fn first_three(results: [(RowResult, Option<&'static str>, String); 3]) -> Vec<Row> {
    let checks = [(1, "one credential"), (2, "token well-formed"), (3, "token known")];
    let rows = checks.into_iter().zip(results);
    rows.map(|((number, check), (result, reason, inputs))| Row {
        number,
        check: check.into(),
        inputs,
        result,
        reason: reason.map(Cow::Borrowed),
    })
    .collect()
}
