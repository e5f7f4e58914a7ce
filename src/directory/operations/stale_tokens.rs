//! Revoking tokens that nobody uses any more. Which they are is [`crate::directory::stale`]'s to say.

use super::Result;
use crate::directory::model::{Timestamp, TokenWithUsage};
use crate::directory::store::{Changed, Records, Store};

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

fn last_activity(found: &TokenWithUsage) -> Timestamp {
    let used = found.usage.as_ref().map(|usage| usage.last_used_time);
    found.token.create_time.max(used.unwrap_or_default())
}

fn belongs_to(records: &dyn Records, user_id: &str, organization_id: &str) -> Result<bool> {
    let memberships = records.memberships(user_id)?;
    Ok(memberships.len() == 1 && memberships.iter().all(|one| one.organization_id == organization_id))
}
