//! Groups and their members.

use super::members::find_membership;
use super::passwords::void_reset;
use super::{
    Result, already_exists, check_count, check_description, check_handle, invalid, not_found, organization,
};
use crate::directory::model::{Group, Timestamp, new_id};
use crate::directory::store::{Changed, Records, Store};

/// A partial change of a group: what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupUpdate {
    /// Unique in the organization.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
}

/// Makes a group without members.
///
/// # Errors
///
/// If the organization does not exist, the name is taken or not allowed, or the store fails.
pub fn create_group(
    store: &dyn Store,
    organization_id: &str,
    name: &str,
    description: &str,
    now: Timestamp,
) -> Result<Changed<Group>> {
    check_handle("user_group_name", name)?;
    check_description(description)?;
    let id = new_id("ug");
    store.change(now, |changes| {
        organization(changes.records(), organization_id)?;
        check_free(changes.records(), organization_id, name)?;
        let group = Group {
            id: id.clone(),
            organization_id: organization_id.to_owned(),
            name: name.to_owned(),
            description: description.to_owned(),
            managed_by_scim: false,
            create_time: now,
            update_time: now,
        };
        changes.put_group(&group)?;
        Ok(group)
    })
}

/// Changes what the update names.
///
/// # Errors
///
/// If the group does not exist, the name is taken or not allowed, or the store fails.
pub fn update_group(
    store: &dyn Store,
    id: &str,
    update: &GroupUpdate,
    now: Timestamp,
) -> Result<Changed<Group>> {
    update.name.as_deref().map_or(Ok(()), |name| check_handle("user_group_name", name))?;
    update.description.as_deref().map_or(Ok(()), check_description)?;
    store.change(now, |changes| {
        let mut group = find(changes.records(), id)?;
        if let Some(name) = update.name.as_ref().filter(|name| **name != group.name) {
            check_free(changes.records(), &group.organization_id, name)?;
            group.name.clone_from(name);
        }
        group.description = update.description.clone().unwrap_or(group.description);
        group.update_time = now;
        changes.put_group(&group)?;
        Ok(group)
    })
}

/// Removes a group; its members lose what they had through it.
///
/// # Errors
///
/// If it does not exist, or the store fails.
pub fn delete_group(store: &dyn Store, id: &str, now: Timestamp) -> Result<Changed<()>> {
    store.change(now, |changes| {
        find(changes.records(), id)?;
        Ok(changes.delete_group(id)?)
    })
}

/// Adds members of the group's organization to the group; those who are in stay in.
///
/// # Errors
///
/// If the group or a user does not exist, a user is not of the organization, there are too many, or the store fails.
pub fn add_group_members(
    store: &dyn Store,
    id: &str,
    user_ids: &[String],
    now: Timestamp,
) -> Result<Changed<()>> {
    check_count("member_ids", user_ids.len())?;
    store.change(now, |changes| {
        let records = changes.records();
        let group = find(records, id)?;
        for user_id in user_ids {
            if find_membership(records, user_id, &group.organization_id)?.is_none() {
                let reason =
                    format!("user {user_id:?} is no member of organization {:?}", group.organization_id);
                return Err(invalid("member_ids", reason));
            }
            changes.add_group_member(id, user_id)?;
            void_reset(changes, user_id)?;
        }
        Ok(())
    })
}

/// Takes users out of a group; those who are not in are passed over.
///
/// # Errors
///
/// If the group does not exist, or the store fails.
pub fn remove_group_members(
    store: &dyn Store,
    id: &str,
    user_ids: &[String],
    now: Timestamp,
) -> Result<Changed<()>> {
    check_count("member_ids", user_ids.len())?;
    store.change(now, |changes| {
        find(changes.records(), id)?;
        for user_id in user_ids {
            changes.remove_group_member(id, user_id)?;
        }
        Ok(())
    })
}

fn find(records: &dyn Records, id: &str) -> Result<Group> {
    records.group(id)?.ok_or_else(|| not_found("group", id))
}

fn check_free(records: &dyn Records, organization_id: &str, name: &str) -> Result<()> {
    let taken = records.groups(organization_id)?.iter().any(|group| group.name == name);
    if taken { Err(already_exists("group", name)) } else { Ok(()) }
}
