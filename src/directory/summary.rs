//! A token as reports show it: what it is, whose, and how it is used, as of now. Never more of it than its prefix.
//!
//! Use comes from memory, which is ahead of the store by up to one flush; all else from the store.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::StoreError;
use super::model::{MethodKind, Timestamp, TokenWithUsage, Word as _};
use super::store::Records;
use super::view::DirectoryView;
use crate::token::TokenKind;

/// One token, its user and its use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenSummary {
    /// The token's public handle.
    #[schema(example = "psta_AbCdEfGhIjKl")]
    pub token_prefix: String,
    /// Application, personal or session token.
    #[schema(value_type = String, example = "application")]
    pub kind: TokenKind,
    /// What it is for.
    pub description: String,
    /// Whose.
    #[schema(example = "u1a2b3c4d5e6f")]
    pub user_id: String,
    /// The user's name.
    pub user_name: String,
    /// The user's email address.
    pub user_email: String,
    /// The login method it is bound to; `null` for application tokens.
    #[schema(example = "password")]
    pub authentication_method: Option<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub create_time: Timestamp,
    /// When it ends, use included; `null`: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expiry_time: Option<Timestamp>,
    /// When it was revoked; `null`: it was not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_time: Option<Timestamp>,
    /// When it was last used; `null`: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_time: Option<Timestamp>,
    /// From where.
    #[schema(value_type = Option<String>)]
    pub last_ip: Option<IpAddr>,
    /// By what.
    pub last_user_agent: Option<String>,
    /// For how many requests it has been used.
    pub request_count: u64,
}

impl TokenSummary {
    /// A token that the store has.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn of(
        records: &dyn Records,
        view: &DirectoryView,
        stored: TokenWithUsage,
    ) -> Result<Self, StoreError> {
        Self::of_stored(records, with_latest_use(view, stored))
    }

    /// The same, with the use that the store knows.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn of_stored(records: &dyn Records, stored: TokenWithUsage) -> Result<Self, StoreError> {
        let user = records.user(&stored.token.user_id)?;
        let (user_name, user_email) = user.map(|user| (user.name, user.email)).unwrap_or_default();
        let authentication_method = match &stored.token.authentication_method_id {
            Some(id) => method_name(records, id)?,
            None => None,
        };
        let TokenWithUsage { token, usage, expiry_time } = stored;
        let request_count = usage.as_ref().map_or(0, |usage| usage.request_count);
        let last = usage.map(|usage| (usage.last_used_time, usage.last_ip, usage.last_user_agent));
        let (last_used_time, last_ip, last_user_agent) = match last {
            Some((time, address, agent)) => (Some(time), address, agent),
            None => (None, None, None),
        };
        Ok(Self {
            token_prefix: token.token_prefix,
            kind: token.kind,
            description: token.description,
            user_id: token.user_id,
            user_name,
            user_email,
            authentication_method,
            create_time: token.create_time,
            expiry_time,
            revoked_time: token.revoked_time,
            last_used_time,
            last_ip,
            last_user_agent,
            request_count,
        })
    }

    /// The same for an organization whose business the token is not: without what it is for, its times and its use.
    #[must_use]
    pub fn for_others(self) -> Self {
        Self {
            description: String::new(),
            expiry_time: None,
            revoked_time: None,
            last_used_time: None,
            last_ip: None,
            last_user_agent: None,
            request_count: 0,
            ..self
        }
    }

    /// The token with this number; `None`: the store does not have it (any more).
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn of_number(
        records: &dyn Records,
        view: &DirectoryView,
        number: u32,
    ) -> Result<Option<Self>, StoreError> {
        let found = records.token_by_number(number)?;
        found.map(|stored| Self::of(records, view, stored)).transpose()
    }
}

/// With the last use as it is in memory, unless the store knows a later one, by another sidecar; and with the requests that
/// the store has not been told of yet.
pub fn with_latest_use(view: &DirectoryView, stored: TokenWithUsage) -> TokenWithUsage {
    let Some(entry) = view.tokens.find(&stored.token.digest) else { return stored };
    let Some(noted) = entry.last_used_at().map(Timestamp) else { return stored };
    let TokenWithUsage { token, usage, .. } = stored;
    let stored_count = usage.as_ref().map_or(0, |usage| usage.request_count);
    let request_count = stored_count + u64::from(entry.requests_unwritten());
    let usage = match usage {
        Some(usage) if usage.last_used_time > noted => super::model::Usage { request_count, ..usage },
        _ => {
            let (last_ip, agent) = entry.last_used_by();
            let last_user_agent = agent.map(|agent| agent.as_str().to_owned());
            super::model::Usage { last_used_time: noted, last_ip, last_user_agent, request_count }
        }
    };
    // Its end may have moved with its last use.
    TokenWithUsage::new(token, Some(usage))
}

/// The kind of an authentication method, an identity provider by its name.
fn method_name(records: &dyn Records, id: &str) -> Result<Option<String>, StoreError> {
    let Some(method) = records.authentication_method(id)? else { return Ok(None) };
    let provider = match (&method.kind, &method.identity_provider_id) {
        (MethodKind::IdentityProvider, Some(id)) => records.identity_provider(id)?,
        _ => None,
    };
    Ok(Some(match provider {
        Some(provider) => format!("{}: {}", method.kind.word(), provider.name),
        None => method.kind.word().to_owned(),
    }))
}
