//! An explanation as it is printed.

use std::borrow::Cow;
use std::net::IpAddr;

use http::StatusCode;
use serde::Serialize;

use crate::cli::output::{fields, table};
use crate::directory::model::Timestamp;
use crate::explain::Row;
use crate::policy::Denial;

/// How a request would end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The policy permits it.
    Permitted,
    /// The route is declared open.
    Open,
    /// The policy denies it.
    Denied(Denial),
    /// The token is valid, but there is no route.
    NoRoute,
}

/// What was asked about.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Request {
    pub(super) route: Option<String>,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) method: String,
    pub(super) required_permission: Option<Cow<'static, str>>,
    /// What was not said of the request, and may lead to another route.
    pub(super) depends_on: Vec<String>,
    pub(super) client_address: IpAddr,
    pub(super) time: Timestamp,
}

/// The whole explanation.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    pub(super) decision: Cow<'static, str>,
    pub(super) reason: Option<Cow<'static, str>>,
    /// Of Postern's own answer; `None`: the upstream's.
    pub(super) status: Option<u16>,
    pub(super) token_prefix: String,
    #[serde(flatten)]
    pub(super) request: Request,
    pub(super) checks: Vec<Row>,
}

impl Decision {
    pub(super) const fn lets_in(self) -> bool {
        match self {
            Self::Permitted | Self::Open => true,
            Self::Denied(_) | Self::NoRoute => false,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Permitted => "permit",
            Self::Open => "open",
            Self::Denied(_) => "deny",
            Self::NoRoute => "no_route",
        }
    }

    const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Denied(denial) => Some(denial.code()),
            Self::Permitted | Self::Open | Self::NoRoute => None,
        }
    }

    const fn status(self) -> Option<StatusCode> {
        match self {
            Self::Denied(denial) => Some(denial.status()),
            Self::NoRoute => Some(StatusCode::NOT_FOUND),
            Self::Permitted | Self::Open => None,
        }
    }
}

impl Explanation {
    pub(super) fn new(token_prefix: &str, request: &Request, decision: Decision, checks: Vec<Row>) -> Self {
        Self {
            decision: decision.word().into(),
            reason: decision.reason().map(Cow::Borrowed),
            status: decision.status().map(|status| status.as_u16()),
            token_prefix: token_prefix.to_owned(),
            request: request.clone(),
            checks,
        }
    }

    pub(super) fn text(&self) -> String {
        let request = &self.request;
        let head = fields([
            ("request", format!("{} {}{}", request.method, request.host, request.path)),
            ("route", request.route.clone().unwrap_or_else(|| "none".to_owned())),
            ("required", request.required_permission.as_deref().unwrap_or("-").to_owned()),
            ("token", self.token_prefix.clone()),
            ("client", request.client_address.to_string()),
            ("time", request.time.to_string()),
        ]);
        let rows = self.checks.iter().map(|row| {
            [row.number.to_string(), row.check.to_string(), row.result_in_words(), row.inputs.clone()]
        });
        let checks = table(["#", "CHECK", "RESULT", "INPUTS"], rows);
        let status = self.status.map_or_else(String::new, |status| format!(" ({status})"));
        let decision = match (&*self.decision, self.reason.as_deref()) {
            ("permit", _) => "decision: permit".to_owned(),
            ("open", _) => {
                return format!(
                    "{head}\n\ndecision: let in, the route is declared open: no token is asked for{}",
                    self.reservation()
                );
            }
            (_, Some(reason)) => format!("decision: deny, {reason}{status}"),
            (_, None) => format!("decision: no route{status}"),
        };
        format!("{head}\n\n{checks}\n\n{decision}{}", self.reservation())
    }

    /// What the decision depends on beside what was said.
    fn reservation(&self) -> String {
        let unsaid = &self.request.depends_on;
        if unsaid.is_empty() {
            return String::new();
        }
        format!("\nIt may be another one: this depends on {}, which was not said.", unsaid.join(", "))
    }
}
