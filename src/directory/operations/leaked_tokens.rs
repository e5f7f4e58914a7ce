//! Revoking tokens that have become known to others.

use super::Result;
use crate::directory::concern::concerned_organizations;
use crate::directory::model::{Timestamp, TokenWithUsage};
use crate::directory::store::{Changed, Store};
use crate::token::TokenDigest;

/// A token that somebody pasted and that the store knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeakedToken {
    /// The token as it is now, revoked, with its last use.
    pub stored: TokenWithUsage,
    /// Whether it had been revoked before.
    pub was_revoked: bool,
    /// The organizations that its user's tokens are the business of.
    pub organization_ids: Vec<String>,
}

/// Revokes the tokens with these digests. The result has an element for each, `None` for those that nobody knows.
///
/// # Errors
///
/// If the store fails.
pub fn revoke_leaked_tokens(
    store: &dyn Store,
    digests: &[TokenDigest],
    now: Timestamp,
) -> Result<Changed<Vec<Option<LeakedToken>>>> {
    store.change(now, |changes| {
        let mut leaked = Vec::with_capacity(digests.len());
        for digest in digests {
            let records = changes.records();
            let Some(found) = records.token_by_digest(digest)? else {
                leaked.push(None);
                continue;
            };
            let was_revoked = found.token.revoked_time.is_some();
            if !was_revoked {
                changes.revoke_token(found.token.number)?;
            }
            let organization_ids = concerned_organizations(records, &found.token.user_id)?;
            let stored = records.token_by_digest(digest)?.unwrap_or(found);
            leaked.push(Some(LeakedToken { stored, was_revoked, organization_ids }));
        }
        Ok(leaked)
    })
}
