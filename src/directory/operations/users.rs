//! Users of both kinds: making, changing and ending them, and what follows for their tokens.

use super::passwords::{
    PasswordOrigin, password_method, person, put_password, switch_two_factor_off, void_reset,
};
use super::{
    Result, already_exists, check_description, check_email, check_name, conflict, invalid, not_found,
    organization, user,
};
use crate::directory::error::OperationError;
use crate::directory::model::{Member, MembershipRecord, Principal, Timestamp, User, new_id};
use crate::directory::store::{Changed, Changes, NewEvent, Records, Store};
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

/// What an organization's admins may change of a member: what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberUpdate {
    /// Name as people know it; of managed users only.
    pub real_name: Option<String>,
    /// Active, deactivated or deleted; of managed users only.
    pub state: Option<UserState>,
    /// Whether they hold every permission in the organization.
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

fn delete(changes: &dyn Changes, user: &User) -> Result<()> {
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
/// If it is no member, the last super admin, or an application user, or the store fails.
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
        check_super_admins_remain(records, user_id, organization_id)?;
        Ok(changes.delete_membership(user_id, organization_id)?)
    })
}

/// Changes what the update names of a person who is a member. Name and state are changed only by the organization that
/// manages the person; others may remove them.
///
/// # Errors
///
/// If there is no such member, the organization does not manage the person, they are the last super admin, a value is not
/// allowed, or the store fails.
pub fn update_member(
    store: &dyn Store,
    organization_id: &str,
    user_id: &str,
    update: &MemberUpdate,
    now: Timestamp,
) -> Result<Changed<Member>> {
    update.real_name.as_deref().map_or(Ok(()), |name| check_name("real_name", name))?;
    store.change(now, |changes| {
        let records = changes.records();
        let (mut user, mut membership) = member(records, organization_id, user_id)?;
        if let Some(is_super_admin) = update.is_super_admin {
            if !is_super_admin {
                check_super_admins_remain(records, user_id, organization_id)?;
            }
            put_super_admin(changes, &mut membership, is_super_admin)?;
        }
        let name = update.real_name.as_ref().filter(|name| **name != user.name);
        let state = update.state.filter(|state| *state != user.state);
        if name.is_some() || state.is_some() {
            check_managed(records, organization_id, user_id)?;
            user.name = name.unwrap_or(&user.name).clone();
            match state {
                Some(UserState::Deleted) => {
                    delete(changes, &user)?;
                    user.state = UserState::Deleted;
                }
                state => {
                    if state == Some(UserState::Deactivated) {
                        check_super_admins_remain_everywhere(records, user_id)?;
                    }
                    user.state = state.unwrap_or(user.state);
                    changes.put_user(&user)?;
                }
            }
        }
        let MembershipRecord { is_super_admin, join_time, .. } = membership;
        Ok(Member { user, is_super_admin, join_time })
    })
}

/// Makes a member super admin of an organization, or an ordinary one again.
///
/// # Errors
///
/// If it is no member, the last super admin, or the store fails.
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
        if !is_super_admin {
            check_super_admins_remain(changes.records(), user_id, organization_id)?;
        }
        put_super_admin(changes, &mut membership, is_super_admin)?;
        Ok(membership)
    })
}

fn put_super_admin(
    changes: &dyn Changes,
    membership: &mut MembershipRecord,
    is_super_admin: bool,
) -> Result<()> {
    if is_super_admin && !membership.is_super_admin {
        void_reset(changes, &membership.user_id)?;
    }
    membership.is_super_admin = is_super_admin;
    Ok(changes.put_membership(membership)?)
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

/// A person who is a member.
fn member(records: &dyn Records, organization_id: &str, user_id: &str) -> Result<(User, MembershipRecord)> {
    let no_member = || not_found("organization user", user_id);
    let membership = find_membership(records, user_id, organization_id)?.ok_or_else(no_member)?;
    Ok((person(records, user_id)?, membership))
}

/// A person who is a member and whom the organization manages.
pub(super) fn check_managed(records: &dyn Records, organization_id: &str, user_id: &str) -> Result<User> {
    let (user, _) = member(records, organization_id, user_id)?;
    if user.managing_organization_id.as_deref() == Some(organization_id) {
        return Ok(user);
    }
    Err(OperationError::Forbidden {
        code: "user_not_managed",
        message: "The organization does not manage this user: it has not verified the domain of their address. It can \
                  only remove them."
            .to_owned(),
    })
}

/// Refuses to take away the last super admin of an organization, after whom nobody could make another one. Only active
/// people count: an application user is no one who could log in and look after it.
fn check_super_admins_remain(records: &dyn Records, without: &str, organization_id: &str) -> Result<()> {
    let people = records.members(organization_id, UserKind::OrganizationUser)?;
    let is_one = |member: &Member| member.is_super_admin && member.user.state == UserState::Active;
    let (leaving, staying): (Vec<_>, Vec<_>) =
        people.iter().filter(|member| is_one(member)).partition(|member| member.user.id == without);
    if leaving.is_empty() || !staying.is_empty() {
        return Ok(());
    }
    Err(conflict("This is the last super admin of the organization: make somebody else a super admin first."))
}

fn check_super_admins_remain_everywhere(records: &dyn Records, user_id: &str) -> Result<()> {
    let memberships = records.memberships(user_id)?;
    memberships
        .iter()
        .filter(|membership| membership.is_super_admin)
        .try_for_each(|membership| check_super_admins_remain(records, user_id, &membership.organization_id))
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
