//! Users of both kinds: making, changing and ending them, and what follows for their tokens.

use super::members::check_super_admins_remain_everywhere;
use super::passwords::{PasswordOrigin, password_method, person, put_password, switch_two_factor_off};
use super::{Result, already_exists, check_email, check_name, invalid, organization, user};
use crate::directory::model::{Member, MembershipRecord, Principal, Timestamp, User, new_id};
use crate::directory::store::{Changed, Changes, NewEvent, Records, Store};
use crate::policy::facts::{UserKind, UserState};

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

/// What a person is made from who is a member, and can log in, from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPerson {
    /// Address, unique among the users that have not been deleted.
    pub email: String,
    /// Name as people know it.
    pub real_name: String,
    /// The organization they become a member of.
    pub organization_id: String,
    /// Whether they hold every permission in the organization.
    pub is_super_admin: bool,
    /// Hash of their password; `None`: they log in otherwise.
    pub password_hash: Option<String>,
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
    let email = check_email(&new.email)?;
    store.change(now, |changes| {
        let records = changes.records();
        if let Some(managing) = &new.managing_organization_id {
            organization(records, managing)?;
        }
        if records.user_by_email(&email)?.is_some() {
            return Err(already_exists("user", &email));
        }
        let user = new_person(&email, &new.real_name, new.managing_organization_id.clone(), now);
        changes.put_user(&user)?;
        Ok(user)
    })
}

/// Makes a person who is a member and, with a password, can log in: how the first admin of an organization comes into
/// being. Managed by the organization that has verified the domain of the address.
///
/// # Errors
///
/// If the address is taken, the organization does not exist, a value is not allowed, or the store fails.
pub fn create_person(store: &dyn Store, new: &NewPerson, now: Timestamp) -> Result<Changed<Member>> {
    check_name("real_name", &new.real_name)?;
    let email = check_email(&new.email)?;
    store.change(now, |changes| {
        let records = changes.records();
        organization(records, &new.organization_id)?;
        if records.user_by_email(&email)?.is_some() {
            return Err(already_exists("user", &email));
        }
        let user = new_person(&email, &new.real_name, managing_organization(records, &email)?, now);
        changes.put_user(&user)?;
        changes.put_membership(&MembershipRecord {
            user_id: user.id.clone(),
            organization_id: new.organization_id.clone(),
            is_super_admin: new.is_super_admin,
            join_time: now,
        })?;
        if let Some(hash) = &new.password_hash {
            password_method(changes, &user.id, now)?;
            put_password(changes, &user.id, hash, PasswordOrigin::Operator, now)?;
        }
        Ok(Member { user, is_super_admin: new.is_super_admin, join_time: now })
    })
}

/// The organization that manages people with this address: the one that has verified its domain.
///
/// # Errors
///
/// If the store fails.
pub fn managing_organization(records: &dyn Records, email: &str) -> Result<Option<String>> {
    let domain = email.rsplit_once('@').map_or("", |(_, domain)| domain);
    Ok(records.verified_domain(domain)?.map(|domain| domain.organization_id))
}

/// Deletes a user for good: its tokens end, its grants, memberships and groups go. It stays known as deleted, so that
/// its tokens can be told apart from unknown ones.
///
/// # Errors
///
/// If it does not exist, it is the last super admin of an organization, or the store fails.
pub fn delete_user(store: &dyn Store, id: &str, now: Timestamp) -> Result<Changed<()>> {
    store.change(now, |changes| delete(changes, &user(changes.records(), id)?))
}

pub(super) fn delete(changes: &dyn Changes, user: &User) -> Result<()> {
    let records = changes.records();
    let id = user.id.as_str();
    check_super_admins_remain_everywhere(records, id)?;
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
    changes.delete_password(id)?;
    changes.delete_totp(id)?;
    Ok(changes.put_user(&User { state: UserState::Deleted, ..user.clone() })?)
}

/// Switches a user off or on again.
///
/// # Errors
///
/// If it does not exist, it is the last super admin of an organization and would be switched off, the state is
/// [`UserState::Deleted`] (see [`delete_user`]), or the store fails.
pub fn set_user_state(
    store: &dyn Store,
    id: &str,
    state: UserState,
    now: Timestamp,
) -> Result<Changed<User>> {
    if state == UserState::Deleted {
        return Err(invalid("state", "must be active or deactivated; to delete a user, delete it"));
    }
    change_user(store, id, now, |changes, user| {
        if state == UserState::Deactivated {
            check_super_admins_remain_everywhere(changes.records(), id)?;
        }
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
    store.change(now, |changes| {
        let user = person(changes.records(), id)?;
        if !enabled {
            return switch_two_factor_off(changes, &user);
        }
        if user.two_factor_enabled {
            return Ok(user);
        }
        let user = User { two_factor_enabled: true, ..user };
        changes.put_user(&user)?;
        changes.revoke_personal_password_tokens(id)?;
        Ok(user)
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

/// A new person, not stored yet.
pub(super) fn new_person(
    email: &str,
    real_name: &str,
    managing_organization_id: Option<String>,
    now: Timestamp,
) -> User {
    User {
        id: new_id("u"),
        kind: UserKind::OrganizationUser,
        email: email.to_owned(),
        name: real_name.to_owned(),
        description: String::new(),
        state: UserState::Active,
        two_factor_enabled: false,
        token_validity_begin: Timestamp(0),
        managing_organization_id,
        create_time: now,
    }
}

/// Notes what changed no record in the event log of every organization that the user belongs to.
pub(super) fn note_of_user(changes: &dyn Changes, user_id: &str, event_type: &str) -> Result<()> {
    let memberships = changes.records().memberships(user_id)?;
    let nobodys = memberships.is_empty().then_some(None);
    let organizations = memberships.iter().map(|membership| Some(membership.organization_id.as_str()));
    organizations.chain(nobodys).try_for_each(|organization_id| {
        Ok(changes.record_event(&NewEvent {
            organization_id,
            event_type,
            entity: "user",
            entity_id: user_id,
            before: None,
            after: None,
        })?)
    })
}
