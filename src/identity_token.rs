//! A signed statement for upstreams of who is asking: beside the identity headers, a short-lived JWT (RFC 7519, ES256) that a
//! service can check without trusting the network in between.
//!
//! A statement costs a signature, tens of microseconds. So a worker keeps it for half of its lifetime and shows it again, as long as
//! everything in it is still what was decided; every request is decided anew all the same. Only an upstream that asks for the
//! request's id in it gets one of its own for each request. Which keys sign is in [`keys`]. What must not live here: who may pass.

pub mod keys;

use std::cell::RefCell;
use std::collections::HashMap;

use data_encoding::BASE64URL_NOPAD;
use http::HeaderValue;
use serde_json::json;

use crate::config::IdentityTokenConfig;
use crate::headers::Identity;
use crate::policy::{Facts, PermissionSet, held};
use crate::token::TokenIndex;
use keys::{IdentityKeys, SigningError};

#[cfg(test)]
mod tests;

/// Statements that a worker keeps at most; about a kibibyte each.
const KEPT: usize = 8_192;

/// What a permitted request's statement says beyond its identity headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whose statements these are.
    token: TokenIndex,
    /// All that the token may do to the project.
    permissions: PermissionSet,
    /// When the token ends, in seconds since the epoch; `None`: never.
    expires_at: Option<u32>,
}

/// What is to be stated, to whom and when.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a> {
    /// How the upstream wants it.
    pub wanted: &'a IdentityTokenConfig,
    /// The number of the configuration in force.
    pub generation: u64,
    /// The route's position in it.
    pub route: usize,
    /// Who is asking.
    pub identity: &'a Identity,
    /// What else was decided on.
    pub standing: Standing,
    /// The request's own id.
    pub request_id: &'a str,
    /// Seconds since the epoch.
    pub now: u32,
}

/// One worker's statements that can be shown again.
#[derive(Debug, Default)]
pub struct IdentityTokens {
    kept: RefCell<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The configuration that they were made under.
    generation: u64,
    by_token: HashMap<(TokenIndex, usize), Shown>,
}

#[derive(Debug)]
struct Shown {
    permissions: PermissionSet,
    organization_id: HeaderValue,
    /// Until when it has enough of its lifetime left, in seconds since the epoch.
    good_until: u32,
    value: HeaderValue,
}

impl Standing {
    /// What the facts of a permitted request say.
    pub fn of(token: TokenIndex, facts: &Facts<'_>) -> Self {
        Self { token, permissions: held(facts), expires_at: facts.token.expires_at }
    }
}

impl IdentityTokens {
    /// The statement, made anew or shown again.
    ///
    /// # Errors
    ///
    /// When there is no key to sign with.
    pub fn state(&self, keys: &IdentityKeys, statement: &Statement<'_>) -> Result<HeaderValue, SigningError> {
        if statement.wanted.request_id {
            return statement.signed(keys);
        }
        let key = (statement.standing.token, statement.route);
        let mut kept = self.kept.borrow_mut();
        if kept.generation != statement.generation {
            *kept = Kept { generation: statement.generation, by_token: HashMap::new() };
        }
        if let Some(shown) = kept.by_token.get(&key)
            && shown.still_says(statement)
        {
            return Ok(shown.value.clone());
        }
        let value = statement.signed(keys)?;
        if kept.by_token.len() >= KEPT {
            kept.by_token.retain(|_, shown| statement.now < shown.good_until);
            // Where more tokens are in use than are kept, all of them start anew together.
            if kept.by_token.len() >= KEPT {
                kept.by_token.clear();
            }
        }
        kept.by_token.insert(key, Shown::new(statement, value.clone()));
        Ok(value)
    }
}

impl Shown {
    fn new(statement: &Statement<'_>, value: HeaderValue) -> Self {
        let lifetime = statement.expires_at() - statement.now;
        Self {
            permissions: statement.standing.permissions,
            organization_id: statement.identity.organization_id.clone(),
            good_until: statement.now + lifetime / 2,
            value,
        }
    }

    /// Whether it says what would be said now. A token's user, kind and prefix never change, nor does a route's project
    /// within one configuration.
    fn still_says(&self, statement: &Statement<'_>) -> bool {
        statement.now < self.good_until
            && self.permissions == statement.standing.permissions
            && self.organization_id == statement.identity.organization_id
    }
}

impl Statement<'_> {
    /// No statement outlives the token that it was made for.
    fn expires_at(&self) -> u32 {
        let lifetime = u32::try_from(self.wanted.lifetime.as_secs()).unwrap_or(u32::MAX);
        let end = self.now.saturating_add(lifetime);
        self.standing.expires_at.map_or(end, |expires_at| end.min(expires_at)).max(self.now)
    }

    fn signed(&self, keys: &IdentityKeys) -> Result<HeaderValue, SigningError> {
        let key = keys.current(self.now)?;
        let header = json!({"alg": keys::ALGORITHM, "typ": "JWT", "kid": key.id()});
        let mut text = encoded(&header);
        text.push('.');
        text.push_str(&encoded(&self.claims()));
        let signature = key.sign(text.as_bytes())?;
        text.push('.');
        BASE64URL_NOPAD.encode_append(&signature, &mut text);
        let mut value = HeaderValue::try_from(text).map_err(|_| SigningError)?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn claims(&self) -> serde_json::Value {
        let Identity { user_id, user_kind, organization_id, project, token_prefix, .. } = self.identity;
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let permissions: Vec<_> = self.standing.permissions.iter().map(|it| it.as_str()).collect();
        let mut claims = json!({
            "iss": self.wanted.issuer,
            "aud": self.wanted.audience,
            "sub": text(user_id),
            "user_kind": text(user_kind),
            "organization": text(organization_id),
            "project": text(project),
            "permissions": permissions,
            "token_prefix": text(token_prefix),
            "iat": self.now,
            "nbf": self.now,
            "exp": self.expires_at(),
        });
        if self.wanted.request_id {
            claims["request_id"] = self.request_id.into();
        }
        claims
    }
}

fn encoded(value: &serde_json::Value) -> String {
    BASE64URL_NOPAD.encode(value.to_string().as_bytes())
}
