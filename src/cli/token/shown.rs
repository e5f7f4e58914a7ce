//! A token as it is printed; field names as in Aiven's API. Never the full token.

use std::net::IpAddr;

use serde::Serialize;

use crate::cli::output::{fields, joined, or_dash, table};
use crate::directory::model::{Timestamp, TokenState, TokenWithUsage};
use crate::token::TokenKind;

/// Longest user agent in a table, in characters; `show` and JSON have it whole.
const AGENT_IN_TABLE: usize = 40;

/// One token.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    pub(super) token_prefix: String,
    pub(super) user_id: String,
    pub(super) user_name: String,
    kind: TokenKind,
    description: String,
    state: TokenState,
    create_time: Timestamp,
    created_manually: bool,
    pub(super) expiry_time: Option<Timestamp>,
    max_age_seconds: Option<u32>,
    extend_when_used: bool,
    ip_allowlist: Vec<String>,
    scopes: Vec<String>,
    pub(super) revoked_time: Option<Timestamp>,
    last_used_time: Option<Timestamp>,
    last_ip: Option<IpAddr>,
    last_user_agent: Option<String>,
    request_count: u64,
    /// What has taken its place.
    successor_prefix: Option<String>,
}

/// Several.
#[derive(Debug, Serialize)]
pub(super) struct ShownList {
    pub(super) tokens: Vec<Shown>,
}

impl Shown {
    pub(super) fn new(token: TokenWithUsage, user_name: &str, now: Timestamp) -> Self {
        let state = token.state(now);
        let TokenWithUsage { token, usage, expiry_time } = token;
        let request_count = usage.as_ref().map_or(0, |usage| usage.request_count);
        let (last_used_time, last_ip, last_user_agent) = match usage {
            Some(usage) => (Some(usage.last_used_time), usage.last_ip, usage.last_user_agent),
            None => (None, None, None),
        };
        Self {
            token_prefix: token.token_prefix,
            user_id: token.user_id,
            user_name: user_name.to_owned(),
            kind: token.kind,
            description: token.description,
            state,
            create_time: token.create_time,
            created_manually: token.created_manually,
            expiry_time,
            max_age_seconds: token.max_age_seconds,
            extend_when_used: token.extend_when_used,
            ip_allowlist: token.ip_allowlist,
            scopes: token.scopes,
            revoked_time: token.revoked_time,
            last_used_time,
            last_ip,
            last_user_agent,
            request_count,
            successor_prefix: token.successor_prefix,
        }
    }

    pub(super) fn text(&self) -> String {
        let counted = if self.extend_when_used { " from the last use" } else { " from creation" };
        let lifetime = self.max_age_seconds.map(|seconds| format!("{seconds} s{counted}"));
        let mut rows = vec![
            ("token prefix", self.token_prefix.clone()),
            ("user", format!("{} ({})", self.user_name, self.user_id)),
            ("kind", self.kind.to_string()),
            ("description", self.description.clone()),
            ("state", self.state()),
            ("created", self.create_time.to_string()),
            ("lifetime", lifetime.unwrap_or_else(|| "without end".to_owned())),
            ("expires", self.expires()),
            ("allowed addresses", joined(&self.ip_allowlist, "any")),
            ("scopes", joined(&self.scopes, "not restricted")),
            ("last used", self.last_used()),
            ("from", or_dash(self.last_ip)),
            ("by", or_dash(self.last_user_agent.as_deref())),
            ("requests", self.request_count.to_string()),
        ];
        if let Some(time) = self.revoked_time {
            rows.insert(5, ("revoked", time.to_string()));
        }
        fields(rows)
    }

    /// Whether it works, and what has taken its place: who still uses it then has not changed to that.
    fn state(&self) -> String {
        match &self.successor_prefix {
            None => word(self.state).to_owned(),
            Some(successor) => format!("{}, replaced by {successor}", word(self.state)),
        }
    }

    fn expires(&self) -> String {
        self.expiry_time.map_or_else(|| "never".to_owned(), |time| time.to_string())
    }

    fn last_used(&self) -> String {
        self.last_used_time.map_or_else(|| "never".to_owned(), |time| time.to_string())
    }
}

impl ShownList {
    pub(super) fn text(&self) -> String {
        if self.tokens.is_empty() {
            return "no tokens; make one with `postern token create --user NAME`".to_owned();
        }
        let agent = |agent: &String| -> String {
            if agent.chars().count() <= AGENT_IN_TABLE {
                return agent.clone();
            }
            agent.chars().take(AGENT_IN_TABLE - 1).chain(['…']).collect()
        };
        table(
            [
                "TOKEN PREFIX",
                "USER",
                "STATE",
                "EXPIRES",
                "LAST USED",
                "FROM",
                "BY",
                "REQUESTS",
                "DESCRIPTION",
            ],
            self.tokens.iter().map(|token| {
                [
                    token.token_prefix.clone(),
                    token.user_name.clone(),
                    token.state(),
                    token.expires(),
                    token.last_used(),
                    or_dash(token.last_ip),
                    or_dash(token.last_user_agent.as_ref().map(agent)),
                    token.request_count.to_string(),
                    token.description.clone(),
                ]
            }),
        )
    }
}

const fn word(state: TokenState) -> &'static str {
    match state {
        TokenState::Active => "active",
        TokenState::Expired => "expired",
        TokenState::Revoked => "revoked",
    }
}
