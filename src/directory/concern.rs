//! Which organizations a user's tokens are the business of: the one that manages the user, and the only one that the user
//! belongs to. What a person's tokens are for, and from where and by what they are used, is not for every organization to
//! know that the person has joined.
//!
//! What must not live here: who in an organization may look.

use super::error::StoreError;
use super::store::Records;

/// The organizations that a user's tokens are the business of; none, of somebody who belongs to several and whom none
/// manages.
///
/// # Errors
///
/// If the store fails.
pub fn concerned_organizations(records: &dyn Records, user_id: &str) -> Result<Vec<String>, StoreError> {
    let managing = records.user(user_id)?.and_then(|user| user.managing_organization_id);
    let mut memberships = records.memberships(user_id)?.into_iter();
    let only = memberships.next().filter(|_| memberships.next().is_none());
    let only = only.map(|membership| membership.organization_id).filter(|id| managing.as_ref() != Some(id));
    Ok(managing.into_iter().chain(only).collect())
}

/// Whether a user's tokens are the business of this organization.
///
/// # Errors
///
/// If the store fails.
pub fn is_concerned(records: &dyn Records, user_id: &str, organization_id: &str) -> Result<bool, StoreError> {
    Ok(concerned_organizations(records, user_id)?.iter().any(|id| id == organization_id))
}
