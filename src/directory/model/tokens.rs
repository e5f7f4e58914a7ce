//! Tokens as the directory keeps them, and their last use.

use std::net::IpAddr;

use serde::Serialize;
use utoipa::ToSchema;

use super::{Timestamp, User, serialize_word};
use crate::token::{TokenDigest, TokenKind};

/// A token, in the only form in which it is kept: digest and prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Token {
    /// The store's number for it; 0 until it is stored.
    #[serde(skip)]
    pub number: u32,
    /// The public handle, unique.
    pub token_prefix: String,
    /// SHA-256 of the whole token.
    #[serde(skip)]
    pub digest: TokenDigest,
    /// Whose.
    pub user_id: String,
    /// Application, personal or session token.
    #[serde(serialize_with = "serialize_word")]
    pub kind: TokenKind,
    /// What it is for.
    pub description: String,
    /// When it was made.
    pub create_time: Timestamp,
    /// Whether somebody asked for it, as opposed to a login's.
    pub created_manually: bool,
    /// Whether it was made elsewhere and only its digest and prefix came here.
    pub imported: bool,
    /// Lifetime in seconds; `None`: never ends.
    pub max_age_seconds: Option<u32>,
    /// Whether the lifetime counts from the last use.
    pub extend_when_used: bool,
    /// When it ends however much it is used; `None`: its lifetime alone decides.
    pub end_time: Option<Timestamp>,
    /// Prefix of the token that has taken its place; `None`: none has.
    pub successor_prefix: Option<String>,
    /// Addresses and networks it may be used from; empty: any.
    pub ip_allowlist: Vec<String>,
    /// Names of permissions and roles it is restricted to; empty: not restricted.
    pub scopes: Vec<String>,
    /// The login method it was made with; `None` for application tokens.
    pub authentication_method_id: Option<String>,
    /// When it was revoked.
    pub revoked_time: Option<Timestamp>,
}

/// When, from where and by what a token was last used, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// When.
    pub last_used_time: Timestamp,
    /// From where.
    pub last_ip: Option<IpAddr>,
    /// By what, as the client called itself.
    pub last_user_agent: Option<String>,
    /// For how many requests, since it was made.
    pub request_count: u64,
}

/// A token and its usage, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenWithUsage {
    /// The token.
    #[serde(flatten)]
    pub token: Token,
    /// Its last use; `None`: never used, as far as the store knows.
    #[serde(flatten)]
    pub usage: Option<Usage>,
    /// When it ends, use included; `None`: never.
    pub expiry_time: Option<Timestamp>,
}

impl TokenWithUsage {
    /// Joins the two and computes the expiry.
    pub fn new(token: Token, usage: Option<Usage>) -> Self {
        let outlived = token.max_age_seconds.map(|max_age| {
            let last_used = usage.as_ref().map_or(Timestamp(0), |usage| usage.last_used_time);
            let start =
                if token.extend_when_used { token.create_time.max(last_used) } else { token.create_time };
            Timestamp(start.0.saturating_add(max_age))
        });
        let expiry_time = match (outlived, token.end_time) {
            (Some(outlived), Some(end)) => Some(outlived.min(end)),
            (outlived, end) => outlived.or(end),
        };
        Self { token, usage, expiry_time }
    }

    /// As it is for its user: revoked, if all the user's tokens were ended since it was made.
    #[must_use]
    pub fn of(mut self, user: &User) -> Self {
        if self.token.create_time < user.token_validity_begin {
            self.token.revoked_time.get_or_insert(user.token_validity_begin);
        }
        self
    }

    /// Whether the token itself can still be used, once [`Self::of`] has asked its user.
    pub fn state(&self, now: Timestamp) -> TokenState {
        match (self.token.revoked_time, self.expiry_time) {
            (Some(_), _) => TokenState::Revoked,
            (None, Some(end)) if end <= now => TokenState::Expired,
            (None, _) => TokenState::Active,
        }
    }
}

/// Whether a token itself can still be used; whether its user is active and what the policy says is another question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenState {
    /// It can.
    Active,
    /// It has ended by itself.
    Expired,
    /// It was ended, alone or with all of its user's.
    Revoked,
}
