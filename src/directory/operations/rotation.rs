//! Putting a new token in the place of an old one.

use super::tokens::{self, CreatedToken, ImportedToken, NewToken, Origin};
use super::{Result, invalid, not_found};
use crate::directory::model::{Timestamp, Token};
use crate::directory::store::{Changed, Store};
use crate::token::TokenKind;
use crate::token::format::shown_prefix;

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
        let end = (overlap_seconds > 0).then(|| Timestamp(now.0.saturating_add(overlap_seconds)));
        let end_time = former.end_time.into_iter().chain(end).min();
        let successor_prefix = Some(successor.token_prefix.clone());
        changes.update_token(&Token { end_time, successor_prefix, ..former.clone() })?;
        if overlap_seconds == 0 {
            changes.revoke_token(former.number)?;
        }
        let replaced = changes.records().token_by_number(former.number)?;
        Ok((successor, replaced.map_or(former, |replaced| replaced.token)))
    })?;
    let (token, replaced) = rotated.value;
    let created = CreatedToken { fresh, token };
    Ok(Changed { value: RotatedToken { created, replaced }, sequence: rotated.sequence })
}
