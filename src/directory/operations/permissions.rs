//! Grants: principal × resource × permissions and roles. Grants add up; names are kept as they were given.

use std::collections::HashSet;

use super::members::find_membership;
use super::passwords::void_reset;
use super::{Result, check_count, invalid, not_found};
use crate::directory::model::{Grant, Principal, Resource, Timestamp};
use crate::directory::store::{Changed, Changes, Records, Store};
use crate::policy::permission;

/// What somebody is given, or left with, on a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Who.
    pub principal: Principal,
    /// Names of permissions and roles.
    pub names: Vec<String>,
}

/// How an assignment changes what its principal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignmentOperation {
    /// Replaces it; no names remove it.
    Set,
    /// Adds to it.
    Grant,
    /// Takes away from it.
    Revoke,
}

/// Changes what each of some principals has on a resource, all or nothing; returns all grants on the resource then.
///
/// # Errors
///
/// If a principal or the resource does not exist or they are not of one organization, a name is unknown or not for this
/// kind of resource, or the store fails.
pub fn change_grants(
    store: &dyn Store,
    resource: &Resource,
    operation: AssignmentOperation,
    assignments: &[Assignment],
    now: Timestamp,
) -> Result<Changed<Vec<Grant>>> {
    check_assignments(resource, operation, assignments)?;
    store.change(now, |changes| {
        organization_of(changes.records(), resource)?;
        for Assignment { principal, names } in assignments {
            replace_in(changes, principal, resource, now, |held| match operation {
                AssignmentOperation::Set => names.clone(),
                AssignmentOperation::Grant => held.iter().chain(names).cloned().collect(),
                AssignmentOperation::Revoke => without(held, names),
            })?;
        }
        Ok(changes.records().grants_on(resource)?)
    })
}

/// Makes these the only grants on a resource, all or nothing; returns them.
///
/// # Errors
///
/// As [`change_grants`].
pub fn replace_grants(
    store: &dyn Store,
    resource: &Resource,
    assignments: &[Assignment],
    now: Timestamp,
) -> Result<Changed<Vec<Grant>>> {
    check_assignments(resource, AssignmentOperation::Set, assignments)?;
    store.change(now, |changes| {
        organization_of(changes.records(), resource)?;
        let former = changes.records().grants_on(resource)?;
        let kept: HashSet<&Principal> = assignments.iter().map(|one| &one.principal).collect();
        for grant in former.iter().filter(|grant| !kept.contains(&grant.principal)) {
            changes.delete_grant(&grant.principal, resource)?;
        }
        for Assignment { principal, names } in assignments {
            replace_in(changes, principal, resource, now, |_| names.clone())?;
        }
        Ok(changes.records().grants_on(resource)?)
    })
}

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
    check_names(resource, names)?;
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
    replace(store, principal, resource, now, |held| without(held, names))
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
    store.change(now, |changes| replace_in(changes, principal, resource, now, &permissions))
}

fn replace_in(
    changes: &dyn Changes,
    principal: &Principal,
    resource: &Resource,
    now: Timestamp,
    permissions: impl Fn(&[String]) -> Vec<String>,
) -> Result<Grant> {
    let records = changes.records();
    let organization_id = organization_of(records, resource)?;
    let former = records.grant(principal, resource)?;
    let held = former.as_ref().map_or(&[][..], |grant| &grant.permissions);
    let mut permissions = permissions(held);
    permissions.sort();
    permissions.dedup();
    // Who has left has nothing, and to be left with nothing is no mistake.
    if former.is_some() || !permissions.is_empty() {
        check_principal(records, principal, &organization_id)?;
    }
    let grant = Grant {
        principal: principal.clone(),
        resource: resource.clone(),
        create_time: former.as_ref().map_or(now, |grant| grant.create_time),
        update_time: now,
        permissions,
    };
    if grant.permissions.iter().any(|name| !held.contains(name)) {
        void_resets(changes, principal)?;
    }
    store_grant(changes, former.as_ref(), &grant)?;
    Ok(grant)
}

fn without(held: &[String], names: &[String]) -> Vec<String> {
    held.iter().filter(|name| !names.contains(name)).cloned().collect()
}

fn store_grant(changes: &dyn Changes, former: Option<&Grant>, grant: &Grant) -> Result<()> {
    match former {
        None if grant.permissions.is_empty() => Ok(()),
        Some(former) if former.permissions == grant.permissions => Ok(()),
        _ if grant.permissions.is_empty() => Ok(changes.delete_grant(&grant.principal, &grant.resource)?),
        _ => Ok(changes.put_grant(grant)?),
    }
}

/// Ends the codes of everybody whom a principal stands for.
fn void_resets(changes: &dyn Changes, principal: &Principal) -> Result<()> {
    match principal {
        Principal::User(id) => void_reset(changes, id),
        Principal::UserGroup(id) => {
            let members = changes.records().group_members(id)?;
            members.iter().try_for_each(|user_id| void_reset(changes, user_id))
        }
    }
}

fn check_names(resource: &Resource, names: &[String]) -> Result<()> {
    permission::expand(names).map_err(|error| invalid("permissions", error.to_string()))?;
    // Below the organization they would never be asked for: who grants one there expects something else.
    let belongs_to_organization =
        |name: &&String| name.starts_with("organization:") || name.starts_with("role:organization:");
    match names.iter().find(belongs_to_organization) {
        Some(name) if !matches!(resource, Resource::Organization(_)) => {
            let reason = format!("`{name}` can only be granted on the organization itself");
            Err(invalid("permissions", reason))
        }
        _ => Ok(()),
    }
}

fn check_assignments(
    resource: &Resource,
    operation: AssignmentOperation,
    assignments: &[Assignment],
) -> Result<()> {
    check_count("permissions", assignments.len())?;
    let mut principals = HashSet::new();
    for assignment in assignments {
        if operation != AssignmentOperation::Revoke {
            check_names(resource, &assignment.names)?;
        }
        if !principals.insert(&assignment.principal) {
            return Err(invalid("permissions", "has one principal twice: which is meant?"));
        }
    }
    Ok(())
}

fn check_principal(records: &dyn Records, principal: &Principal, organization_id: &str) -> Result<()> {
    match principal {
        // Whether another organization has it is nobody's business here.
        Principal::User(id) => find_membership(records, id, organization_id)?.map(drop).ok_or_else(|| {
            invalid("principal_id", format!("user {id:?} is no member of organization {organization_id:?}"))
        }),
        Principal::UserGroup(id) => match records.group(id)? {
            Some(group) if group.organization_id == organization_id => Ok(()),
            _ => {
                let reason = format!("group {id:?} is not one of organization {organization_id:?}");
                Err(invalid("principal_id", reason))
            }
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
