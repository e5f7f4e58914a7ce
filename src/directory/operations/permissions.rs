//! Grants: principal × resource × permissions and roles. Grants add up; names are kept as they were given.

use super::users::find_membership;
use super::{Result, invalid, not_found, user};
use crate::directory::model::{Grant, Principal, Resource, Timestamp};
use crate::directory::store::{Changed, Changes, Records, Store};
use crate::policy::permission;

/// Adds permissions and roles to what the principal has on the resource; returns all it has there then.
///
/// # Errors
///
/// If principal or resource do not exist or are not of one organization, a name is unknown, or the store fails.
pub fn grant(
    store: &dyn Store,
    principal: &Principal,
    resource: &Resource,
    names: &[String],
    now: Timestamp,
) -> Result<Changed<Grant>> {
    check_names(names)?;
    if names.is_empty() {
        return Err(invalid("permissions", "name at least one permission or role"));
    }
    replace(store, principal, resource, now, |held| held.iter().chain(names).cloned().collect())
}

/// Takes permissions and roles away from what the principal has on the resource; returns what is left. Names it does
/// not have are passed over. A role is taken away as a role: its permissions granted by name stay.
///
/// # Errors
///
/// If principal or resource do not exist, or the store fails.
pub fn revoke(
    store: &dyn Store,
    principal: &Principal,
    resource: &Resource,
    names: &[String],
    now: Timestamp,
) -> Result<Changed<Grant>> {
    replace(store, principal, resource, now, |held| {
        held.iter().filter(|name| !names.contains(name)).cloned().collect()
    })
}

/// Replaces what the principal has on the resource; an empty list removes it.
///
/// # Errors
///
/// As [`grant`].
pub fn set_grant(
    store: &dyn Store,
    principal: &Principal,
    resource: &Resource,
    names: &[String],
    now: Timestamp,
) -> Result<Changed<Grant>> {
    check_names(names)?;
    replace(store, principal, resource, now, |_| names.to_vec())
}

/// All grants on a resource.
///
/// # Errors
///
/// If the resource does not exist, or the store fails.
pub fn list_grants(store: &dyn Store, resource: &Resource) -> Result<Vec<Grant>> {
    store.read(|records| match organization_of(records, resource) {
        Ok(_) => Ok(Ok(records.grants_on(resource)?)),
        Err(error) => Ok(Err(error)),
    })?
}

fn replace(
    store: &dyn Store,
    principal: &Principal,
    resource: &Resource,
    now: Timestamp,
    permissions: impl Fn(&[String]) -> Vec<String>,
) -> Result<Changed<Grant>> {
    store.change(now, |changes| {
        let records = changes.records();
        let organization_id = organization_of(records, resource)?;
        check_principal(records, principal, &organization_id)?;
        let former = records.grant(principal, resource)?;
        let held = former.as_ref().map_or(&[][..], |grant| &grant.permissions);
        let mut permissions = permissions(held);
        permissions.sort();
        permissions.dedup();
        let grant = Grant {
            principal: principal.clone(),
            resource: resource.clone(),
            create_time: former.as_ref().map_or(now, |grant| grant.create_time),
            update_time: now,
            permissions,
        };
        store_grant(changes, former.as_ref(), &grant)?;
        Ok(grant)
    })
}

fn store_grant(changes: &dyn Changes, former: Option<&Grant>, grant: &Grant) -> Result<()> {
    match former {
        None if grant.permissions.is_empty() => Ok(()),
        Some(former) if former.permissions == grant.permissions => Ok(()),
        _ if grant.permissions.is_empty() => Ok(changes.delete_grant(&grant.principal, &grant.resource)?),
        _ => Ok(changes.put_grant(grant)?),
    }
}

fn check_names(names: &[String]) -> Result<()> {
    permission::expand(names).map_err(|error| invalid("permissions", error.to_string()))?;
    Ok(())
}

fn check_principal(records: &dyn Records, principal: &Principal, organization_id: &str) -> Result<()> {
    match principal {
        Principal::User(id) => {
            user(records, id)?;
            find_membership(records, id, organization_id)?.map(drop).ok_or_else(|| {
                invalid(
                    "principal_id",
                    format!("user {id:?} is no member of organization {organization_id:?}"),
                )
            })
        }
        Principal::UserGroup(id) => match records.group(id)? {
            Some(group) if group.organization_id == organization_id => Ok(()),
            _ => Err(not_found("group", id)),
        },
    }
}

/// The organization that a resource is in.
fn organization_of(records: &dyn Records, resource: &Resource) -> Result<String> {
    match resource {
        Resource::Organization(id) => records.organization(id)?.map(|organization| organization.id),
        Resource::OrganizationUnit(id) => records.unit(id)?.map(|unit| unit.organization_id),
        Resource::Project(name) => records.project(name)?.map(|project| project.organization_id),
    }
    .ok_or_else(|| resource_not_found(resource))
}

fn resource_not_found(resource: &Resource) -> super::OperationError {
    match resource {
        Resource::Organization(id) => not_found("organization", id),
        Resource::OrganizationUnit(id) => not_found("organizational unit", id),
        Resource::Project(name) => not_found("project", name),
    }
}
