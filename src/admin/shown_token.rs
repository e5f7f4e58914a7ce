//! A token as the API shows it, with its last use as it is in memory: what the store has may be a flush behind.
//!
//! The full token is never here; who makes one adds it to the one answer that has it.

use std::net::IpAddr;

use serde::Serialize;
use utoipa::ToSchema;

use super::{Admin, Caller, agent_name};
use crate::directory::model::{Timestamp, TokenWithUsage};
use crate::directory::summary::with_latest_use;

/// A token. What does not apply is `null`: clients print columns that all rows have to have.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Token)]
pub(super) struct ShownToken {
    /// The token's public handle, the first characters of it.
    #[schema(example = "psta_AbCdEfGhIjKl")]
    pub(super) token_prefix: String,
    pub(super) description: String,
    #[schema(value_type = String, format = DateTime)]
    pub(super) create_time: Timestamp,
    /// Whether somebody asked for it, as opposed to a login's.
    pub(super) created_manually: bool,
    /// Whether this very request was made with it.
    pub(super) currently_active: bool,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) expiry_time: Option<Timestamp>,
    /// Lifetime; `null`: it never ends.
    pub(super) max_age_seconds: Option<u32>,
    /// Whether the lifetime counts from the last use.
    pub(super) extend_when_used: bool,
    /// Addresses and networks it may be used from; empty: any.
    pub(super) ip_allowlist: Vec<String>,
    /// Permissions and roles it is restricted to; empty: it is not restricted.
    pub(super) scopes: Vec<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) last_used_time: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    pub(super) last_ip: Option<IpAddr>,
    pub(super) last_user_agent: Option<String>,
    /// The same in a person's words.
    pub(super) last_user_agent_human_readable: Option<String>,
    /// For how many requests it has been used.
    pub(super) request_count: u64,
    /// The token that has taken its place; until `expiry_time` both work.
    pub(super) successor_prefix: Option<String>,
}

impl ShownToken {
    /// A token as it is now; whether it is the caller's own shows too.
    pub(super) fn new(admin: &Admin, caller: &Caller, stored: TokenWithUsage) -> Self {
        let stored = with_latest_use(&admin.shared.directory, stored);
        let TokenWithUsage { token, usage, expiry_time } = stored;
        let request_count = usage.as_ref().map_or(0, |usage| usage.request_count);
        let usage = usage.map(|usage| (usage.last_used_time, usage.last_ip, usage.last_user_agent));
        let (last_used_time, last_ip, last_user_agent) = match usage {
            Some((time, address, agent)) => (Some(time), address, agent),
            None => (None, None, None),
        };
        Self {
            currently_active: token.token_prefix == caller.token_prefix(),
            token_prefix: token.token_prefix,
            description: token.description,
            create_time: token.create_time,
            created_manually: token.created_manually,
            expiry_time,
            max_age_seconds: token.max_age_seconds,
            extend_when_used: token.extend_when_used,
            ip_allowlist: token.ip_allowlist,
            scopes: token.scopes,
            last_used_time,
            last_ip,
            last_user_agent_human_readable: last_user_agent.as_deref().and_then(agent_name::readable),
            last_user_agent,
            request_count,
            successor_prefix: token.successor_prefix,
        }
    }
}
