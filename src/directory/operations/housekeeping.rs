//! Keeping tokens in order: revoking those that nobody uses, and putting a new one in the place of an old one.

use super::tokens::{self, CreatedToken, ImportedToken, NewToken, Origin};
use super::{Result, invalid, not_found};
use crate::directory::concern::concerned_organizations;
use crate::directory::model::{Timestamp, Token, TokenWithUsage};
use crate::directory::store::{Changed, Records, Store};
use crate::token::format::shown_prefix;
use crate::token::{TokenDigest, TokenKind};

/// Longest time for which a token that is being replaced stays valid: thirty days.
pub const MAX_OVERLAP_SECONDS: u32 = 30 * 86_400;

/// A token and its successor.
#[derive(Debug)]
pub struct RotatedToken {
    /// The new one; its full text is shown once.
    pub created: CreatedToken,
    /// The old one, which ends.
    pub replaced: Token,
}

/// How a token is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replacement {
    /// For how long the old one works beside the new one.
    pub overlap_seconds: u32,
    /// When the new one ends at the latest, whatever its lifetime is; `None`: nobody says so.
    pub latest_end_time: Option<Timestamp>,
}

/// Makes a successor of an application token: with its description, lifetime, addresses and scopes. The old one ends after
/// the overlap, and at once without one; an end that it already had stays if it is earlier.
///
/// # Errors
///
/// If the token does not exist, is revoked or is none of an application user, the user is not active, the overlap is too
/// long, or the store fails.
pub fn rotate_token(
    store: &dyn Store,
    prefix: &str,
    replacement: Replacement,
    now: Timestamp,
) -> Result<Changed<RotatedToken>> {
    let Replacement { overlap_seconds, latest_end_time } = replacement;
    if overlap_seconds > MAX_OVERLAP_SECONDS {
        return Err(invalid("overlap_seconds", format!("must be at most {MAX_OVERLAP_SECONDS}")));
    }
    let fresh = tokens::generate(TokenKind::Application)?;
    let identity = ImportedToken { prefix: fresh.prefix.clone(), digest: fresh.digest };
    let rotated = store.change(now, |changes| {
        let found = changes.records().token(prefix)?;
        let former =
            found.map(|found| found.token).ok_or_else(|| not_found("token", &shown_prefix(prefix)))?;
        if former.kind != TokenKind::Application {
            return Err(invalid("token_prefix", "only tokens of application users can be rotated"));
        }
        if former.revoked_time.is_some() {
            return Err(invalid("token_prefix", "the token is revoked: make a new one instead"));
        }
        let new = NewToken {
            user_id: former.user_id.clone(),
            kind: former.kind,
            description: former.description.clone(),
            created_manually: true,
            max_age_seconds: former.max_age_seconds,
            extend_when_used: former.extend_when_used,
            ip_allowlist: former.ip_allowlist.clone(),
            scopes: former.scopes.clone(),
            authentication_method_id: None,
        };
        let made = tokens::token(
            &new,
            &identity,
            Origin::Generated(latest_end_time),
            former.ip_allowlist.clone(),
            now,
        );
        let successor = tokens::insert_into(changes, &new, &made)?;
        if overlap_seconds == 0 {
            changes.revoke_token(former.number)?;
        } else {
            let end = Timestamp(now.0.saturating_add(overlap_seconds));
            let end_time = Some(former.end_time.map_or(end, |earlier| earlier.min(end)));
            changes.update_token(&Token { end_time, ..former.clone() })?;
        }
        let replaced = changes.records().token_by_number(former.number)?;
        Ok((successor, replaced.map_or(former, |replaced| replaced.token)))
    })?;
    let (token, replaced) = rotated.value;
    let created = CreatedToken { fresh, token };
    Ok(Changed { value: RotatedToken { created, replaced }, sequence: rotated.sequence })
}

/// Revokes those of these tokens (by the store's numbers) that have still not been used since `unused_since`, and whose
/// users are this organization's alone: a person who belongs to others as well has tokens for those too. Returns the
/// tokens that it revoked.
///
/// # Errors
///
/// If the store fails.
pub fn revoke_unused_tokens(
    store: &dyn Store,
    organization_id: &str,
    numbers: &[u32],
    unused_since: Timestamp,
    now: Timestamp,
) -> Result<Changed<Vec<TokenWithUsage>>> {
    store.change(now, |changes| {
        let mut revoked = Vec::new();
        for &number in numbers {
            let records = changes.records();
            if let Some(found) = records.token_by_number(number)?
                && found.token.revoked_time.is_none()
                && last_activity(&found) < unused_since
                && belongs_to(records, &found.token.user_id, organization_id)?
            {
                changes.revoke_token(number)?;
                revoked.push(found);
            }
        }
        Ok(revoked)
    })
}

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

fn last_activity(found: &TokenWithUsage) -> Timestamp {
    let used = found.usage.as_ref().map(|usage| usage.last_used_time);
    found.token.create_time.max(used.unwrap_or_default())
}

fn belongs_to(records: &dyn Records, user_id: &str, organization_id: &str) -> Result<bool> {
    let memberships = records.memberships(user_id)?;
    Ok(memberships.len() == 1 && memberships.iter().all(|one| one.organization_id == organization_id))
}
