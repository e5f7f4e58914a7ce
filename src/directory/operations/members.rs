//! Members of an organization: who is one, who is super admin, and what the organization may change of whom it manages.

use super::passwords::{person, void_reset};
use super::users::delete;
use super::{Result, already_exists, check_name, conflict, invalid, not_found, organization, user};
use crate::directory::error::OperationError;
use crate::directory::model::{Member, MembershipRecord, Timestamp, User};
use crate::directory::store::{Changed, Changes, Records, Store};
use crate::policy::facts::{UserKind, UserState};

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
    store.change(now, |changes| remove(changes, user_id, organization_id))
}

/// Takes a person out of an organization for good: the account of one whom it manages is deleted.
///
/// # Errors
///
/// As [`remove_member`].
pub fn dismiss_member(
    store: &dyn Store,
    user_id: &str,
    organization_id: &str,
    now: Timestamp,
) -> Result<Changed<()>> {
    store.change(now, |changes| {
        let user = user(changes.records(), user_id)?;
        if user.managing_organization_id.as_deref() == Some(organization_id) {
            return delete(changes, &user);
        }
        remove(changes, user_id, organization_id)
    })
}

fn remove(changes: &dyn Changes, user_id: &str, organization_id: &str) -> Result<()> {
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

pub(super) fn check_super_admins_remain_everywhere(records: &dyn Records, user_id: &str) -> Result<()> {
    let memberships = records.memberships(user_id)?;
    memberships
        .iter()
        .filter(|membership| membership.is_super_admin)
        .try_for_each(|membership| check_super_admins_remain(records, user_id, &membership.organization_id))
}

pub(super) fn find_membership(
    records: &dyn Records,
    user_id: &str,
    organization_id: &str,
) -> Result<Option<MembershipRecord>> {
    let memberships = records.memberships(user_id)?;
    Ok(memberships.into_iter().find(|membership| membership.organization_id == organization_id))
}
