//! Users of both kinds: making, changing and ending them, and what follows for their tokens.

use super::{Result, already_exists, check_description, check_name, invalid, not_found, organization, user};
use crate::directory::model::{Member, MembershipRecord, Principal, Timestamp, User, new_id};
use crate::directory::store::{Changed, Changes, Records, Store};
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

/// What a person is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOrganizationUser {
    /// Address, unique among the users that have not been deleted.
    pub email: String,
    /// Name as people know it.
    pub real_name: String,
    /// The organization that has verified the domain of the address.
    pub managing_organization_id: Option<String>,
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
    check_name("name", &new.name)?;
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
    update.name.as_deref().map_or(Ok(()), |name| check_name("name", name))?;
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

/// Makes a person, member of no organization yet.
///
/// # Errors
///
/// If the address is taken, a value is not allowed, or the store fails.
pub fn create_organization_user(
    store: &dyn Store,
    new: &NewOrganizationUser,
    now: Timestamp,
) -> Result<Changed<User>> {
    check_name("real_name", &new.real_name)?;
    let email = new.email.trim().to_lowercase();
    check_name("user_email", &email)?;
    if email.split_once('@').is_none_or(|(local, domain)| local.is_empty() || domain.is_empty()) {
        return Err(invalid("user_email", "must be an email address, such as jane@example.com"));
    }
    let id = new_id("u");
    store.change(now, |changes| {
        let records = changes.records();
        if let Some(managing) = &new.managing_organization_id {
            organization(records, managing)?;
        }
        if records.user_by_email(&email)?.is_some() {
            return Err(already_exists("user", &email));
        }
        let user = User {
            id: id.clone(),
            kind: UserKind::OrganizationUser,
            email: email.clone(),
            name: new.real_name.clone(),
            description: String::new(),
            state: UserState::Active,
            two_factor_enabled: false,
            token_validity_begin: Timestamp(0),
            managing_organization_id: new.managing_organization_id.clone(),
            create_time: now,
        };
        changes.put_user(&user)?;
        Ok(user)
    })
}

/// Deletes a user for good: its tokens end, its grants, memberships and groups go. It stays known as deleted, so that
/// its tokens can be told apart from unknown ones.
///
/// # Errors
///
/// If it does not exist, or the store fails.
pub fn delete_user(store: &dyn Store, id: &str, now: Timestamp) -> Result<Changed<()>> {
    store.change(now, |changes| {
        let records = changes.records();
        let user = user(records, id)?;
        for membership in records.memberships(id)? {
            changes.delete_membership(id, &membership.organization_id)?;
        }
        for group in records.groups_of_user(id)? {
            changes.remove_group_member(&group.id, id)?;
        }
        let principal = Principal::User(id.to_owned());
        for grant in records.grants_of(&principal)? {
            changes.delete_grant(&principal, &grant.resource)?;
        }
        Ok(changes.put_user(&User { state: UserState::Deleted, ..user })?)
    })
}

/// Switches a user off or on again.
///
/// # Errors
///
/// If it does not exist, the state is [`UserState::Deleted`] (see [`delete_user`]), or the store fails.
pub fn set_user_state(
    store: &dyn Store,
    id: &str,
    state: UserState,
    now: Timestamp,
) -> Result<Changed<User>> {
    if state == UserState::Deleted {
        return Err(invalid("state", "must be active or deactivated; to delete a user, delete it"));
    }
    change_user(store, id, now, |_, user| {
        user.state = state;
        Ok(())
    })
}

/// Ends all tokens of a user that were made before `now`.
///
/// # Errors
///
/// If it does not exist, or the store fails.
pub fn expire_tokens(store: &dyn Store, id: &str, now: Timestamp) -> Result<Changed<User>> {
    change_user(store, id, now, |_, user| {
        // Tokens made in this very second end too.
        user.token_validity_begin = Timestamp(now.0.saturating_add(1)).max(user.token_validity_begin);
        Ok(())
    })
}

/// Switches a person's two-factor authentication on or off. A change revokes the personal tokens that are bound to
/// the password method.
///
/// # Errors
///
/// If there is no such person, or the store fails.
pub fn set_two_factor(store: &dyn Store, id: &str, enabled: bool, now: Timestamp) -> Result<Changed<User>> {
    change_user(store, id, now, |changes, user| {
        if user.kind != UserKind::OrganizationUser {
            return Err(not_found("organization user", id));
        }
        if user.two_factor_enabled != enabled {
            user.two_factor_enabled = enabled;
            changes.revoke_personal_password_tokens(id)?;
        }
        Ok(())
    })
}

/// Makes a person a member of an organization.
///
/// # Errors
///
/// If either does not exist, it is a member already, the user is an application user, or the store fails.
pub fn add_member(
    store: &dyn Store,
    user_id: &str,
    organization_id: &str,
    now: Timestamp,
) -> Result<Changed<MembershipRecord>> {
    store.change(now, |changes| {
        let records = changes.records();
        organization(records, organization_id)?;
        if user(records, user_id)?.kind != UserKind::OrganizationUser {
            return Err(invalid("user_id", "an application user belongs to the organization it was made in"));
        }
        if find_membership(records, user_id, organization_id)?.is_some() {
            return Err(already_exists("member", user_id));
        }
        let membership = MembershipRecord {
            user_id: user_id.to_owned(),
            organization_id: organization_id.to_owned(),
            is_super_admin: false,
            join_time: now,
        };
        changes.put_membership(&membership)?;
        Ok(membership)
    })
}

/// Takes a person out of an organization, with its grants and group memberships there.
///
/// # Errors
///
/// If it is no member, it is an application user, or the store fails.
pub fn remove_member(
    store: &dyn Store,
    user_id: &str,
    organization_id: &str,
    now: Timestamp,
) -> Result<Changed<()>> {
    store.change(now, |changes| {
        let records = changes.records();
        find_membership(records, user_id, organization_id)?.ok_or_else(|| not_found("member", user_id))?;
        if user(records, user_id)?.kind == UserKind::ApplicationUser {
            return Err(invalid(
                "user_id",
                "an application user cannot leave its organization; delete it instead",
            ));
        }
        Ok(changes.delete_membership(user_id, organization_id)?)
    })
}

/// Makes a member super admin of an organization, or an ordinary one again.
///
/// # Errors
///
/// If it is no member, or the store fails.
pub fn set_super_admin(
    store: &dyn Store,
    user_id: &str,
    organization_id: &str,
    is_super_admin: bool,
    now: Timestamp,
) -> Result<Changed<MembershipRecord>> {
    store.change(now, |changes| {
        let mut membership = find_membership(changes.records(), user_id, organization_id)?
            .ok_or_else(|| not_found("member", user_id))?;
        membership.is_super_admin = is_super_admin;
        changes.put_membership(&membership)?;
        Ok(membership)
    })
}

fn change_user(
    store: &dyn Store,
    id: &str,
    now: Timestamp,
    change: impl Fn(&dyn Changes, &mut User) -> Result<()>,
) -> Result<Changed<User>> {
    store.change(now, |changes| {
        let mut user = user(changes.records(), id)?;
        change(changes, &mut user)?;
        changes.put_user(&user)?;
        Ok(user)
    })
}

fn application_user(records: &dyn Records, id: &str) -> Result<User> {
    match user(records, id) {
        Ok(user) if user.kind == UserKind::ApplicationUser => Ok(user),
        Ok(_) => Err(not_found("application user", id)),
        Err(error) => Err(error),
    }
}

pub(super) fn find_membership(
    records: &dyn Records,
    user_id: &str,
    organization_id: &str,
) -> Result<Option<MembershipRecord>> {
    let memberships = records.memberships(user_id)?;
    Ok(memberships.into_iter().find(|membership| membership.organization_id == organization_id))
}
