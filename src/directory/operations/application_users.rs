//! Application users: making and changing them. Ending them is as for people, in [`super::users`].

use super::{Result, check_description, check_handle, not_found, organization, user};
use crate::directory::model::{Member, MembershipRecord, Timestamp, User, new_id};
use crate::directory::store::{Changed, Records, Store};
use crate::policy::facts::{UserKind, UserState};

/// What an application user is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewApplicationUser {
    /// The one organization it belongs to.
    pub organization_id: String,
    /// Name as people know it.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Whether it holds every permission in its organization.
    pub is_super_admin: bool,
}

/// A partial change of an application user: what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplicationUserUpdate {
    /// Name as people know it.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Whether it holds every permission in its organization.
    pub is_super_admin: Option<bool>,
}

/// Makes an application user, member of its organization, without any grant.
///
/// # Errors
///
/// If the organization does not exist, a value is not allowed, or the store fails.
pub fn create_application_user(
    store: &dyn Store,
    new: &NewApplicationUser,
    now: Timestamp,
) -> Result<Changed<Member>> {
    check_handle("name", &new.name)?;
    check_description(&new.description)?;
    let id = new_id("u");
    store.change(now, |changes| {
        organization(changes.records(), &new.organization_id)?;
        let user = User {
            id: id.clone(),
            kind: UserKind::ApplicationUser,
            email: format!("{id}@app-users.{}.invalid", new.organization_id),
            name: new.name.clone(),
            description: new.description.clone(),
            state: UserState::Active,
            two_factor_enabled: false,
            token_validity_begin: Timestamp(0),
            managing_organization_id: Some(new.organization_id.clone()),
            create_time: now,
        };
        changes.put_user(&user)?;
        changes.put_membership(&MembershipRecord {
            user_id: user.id.clone(),
            organization_id: new.organization_id.clone(),
            is_super_admin: new.is_super_admin,
            join_time: now,
        })?;
        Ok(Member { user, is_super_admin: new.is_super_admin, join_time: now })
    })
}

/// Changes what the update names.
///
/// # Errors
///
/// If there is no such application user, a value is not allowed, or the store fails.
pub fn update_application_user(
    store: &dyn Store,
    id: &str,
    update: &ApplicationUserUpdate,
    now: Timestamp,
) -> Result<Changed<Member>> {
    update.name.as_deref().map_or(Ok(()), |name| check_handle("name", name))?;
    update.description.as_deref().map_or(Ok(()), check_description)?;
    store.change(now, |changes| {
        let records = changes.records();
        let mut user = application_user(records, id)?;
        let mut membership =
            records.memberships(id)?.into_iter().next().ok_or_else(|| not_found("application user", id))?;
        user.name = update.name.clone().unwrap_or(user.name);
        user.description = update.description.clone().unwrap_or(user.description);
        membership.is_super_admin = update.is_super_admin.unwrap_or(membership.is_super_admin);
        changes.put_user(&user)?;
        changes.put_membership(&membership)?;
        Ok(Member { user, is_super_admin: membership.is_super_admin, join_time: membership.join_time })
    })
}

fn application_user(records: &dyn Records, id: &str) -> Result<User> {
    match user(records, id) {
        Ok(user) if user.kind == UserKind::ApplicationUser => Ok(user),
        Ok(_) => Err(not_found("application user", id)),
        Err(error) => Err(error),
    }
}
