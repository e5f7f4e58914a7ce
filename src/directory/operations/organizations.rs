//! Organizations with their policy, units, and projects.

use ipnet::IpNet;

use super::{Result, check_id, check_name, invalid, not_found, organization};
use crate::directory::model::{Organization, OrganizationalUnit, Project, Timestamp, new_id};
use crate::directory::store::{Changed, Records, Store};
use crate::policy::AuthenticationPolicy;

/// Where a unit or a project nests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Directly in its organization.
    Organization,
    /// In this unit of it, by id.
    Unit(String),
}

/// A partial change of an authentication policy: what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of AuthenticationPolicy")]
pub struct PolicyUpdate {
    pub password_auth_enabled: Option<bool>,
    pub two_factor_required: Option<bool>,
    pub oauth_enabled: Option<bool>,
    pub saml_enabled: Option<bool>,
    pub saml_allow_external: Option<bool>,
    pub personal_tokens_enabled: Option<bool>,
    pub personal_tokens_require_allowed_auth_method: Option<bool>,
    pub mcp_enabled: Option<bool>,
    pub allowed_ip_ranges: Option<Vec<IpNet>>,
}

impl PolicyUpdate {
    /// Changes what is named, and leaves the rest.
    pub fn apply(&self, policy: &mut AuthenticationPolicy) {
        let switches = [
            (&mut policy.password_auth_enabled, self.password_auth_enabled),
            (&mut policy.two_factor_required, self.two_factor_required),
            (&mut policy.oauth_enabled, self.oauth_enabled),
            (&mut policy.saml_enabled, self.saml_enabled),
            (&mut policy.saml_allow_external, self.saml_allow_external),
            (&mut policy.personal_tokens_enabled, self.personal_tokens_enabled),
            (
                &mut policy.personal_tokens_require_allowed_auth_method,
                self.personal_tokens_require_allowed_auth_method,
            ),
            (&mut policy.mcp_enabled, self.mcp_enabled),
        ];
        for (switch, change) in switches {
            *switch = change.unwrap_or(*switch);
        }
        if let Some(ranges) = &self.allowed_ip_ranges {
            policy.allowed_ip_ranges.clone_from(ranges);
        }
    }
}

/// Makes the organization if it is missing; one that exists stays as it is.
///
/// # Errors
///
/// If id or name are not allowed, or the store fails.
pub fn ensure_organization(
    store: &dyn Store,
    id: &str,
    name: &str,
    now: Timestamp,
) -> Result<Changed<Organization>> {
    check_id("organization_id", id)?;
    check_name("organization_name", name)?;
    store.change(now, |changes| {
        if let Some(existing) = changes.records().organization(id)? {
            return Ok(existing);
        }
        let organization = Organization {
            id: id.to_owned(),
            name: name.to_owned(),
            authentication_policy: Some(AuthenticationPolicy::default()),
            candidate_policy: None,
            create_time: now,
            update_time: now,
        };
        changes.put_organization(&organization)?;
        Ok(organization)
    })
}

/// Gives an organization another name.
///
/// # Errors
///
/// If it does not exist, the name is not allowed, or the store fails.
pub fn rename_organization(
    store: &dyn Store,
    id: &str,
    name: &str,
    now: Timestamp,
) -> Result<Changed<Organization>> {
    check_name("organization_name", name)?;
    store.change(now, |changes| {
        let former = organization(changes.records(), id)?;
        let renamed = Organization { name: name.to_owned(), update_time: now, ..former };
        changes.put_organization(&renamed)?;
        Ok(renamed)
    })
}

/// Changes what the update names of an organization's authentication policy, and returns the whole.
///
/// A stored policy that cannot be read is replaced by the default one with the update applied: it was closed, and an
/// admin who sets it sees the result.
///
/// # Errors
///
/// If the organization does not exist, or the store fails.
pub fn set_policy(
    store: &dyn Store,
    organization_id: &str,
    update: &PolicyUpdate,
    now: Timestamp,
) -> Result<Changed<AuthenticationPolicy>> {
    store.change(now, |changes| {
        let mut organization = organization(changes.records(), organization_id)?;
        let mut policy = organization.authentication_policy.take().unwrap_or_default();
        update.apply(&mut policy);
        organization.authentication_policy = Some(policy.clone());
        organization.update_time = now;
        changes.put_organization(&organization)?;
        Ok(policy)
    })
}

/// Tries a policy on an organization's real requests from now on, without refusing any of them; `None`: no longer.
///
/// # Errors
///
/// If the organization does not exist, or the store fails.
pub fn set_candidate_policy(
    store: &dyn Store,
    organization_id: &str,
    candidate: Option<&AuthenticationPolicy>,
    now: Timestamp,
) -> Result<Changed<()>> {
    store.change(now, |changes| {
        let former = organization(changes.records(), organization_id)?;
        // Neither name nor policy change, so the time of the last change stays.
        Ok(changes.put_organization(&Organization { candidate_policy: candidate.cloned(), ..former })?)
    })
}

/// Makes the project if it is missing; one that exists stays where it is within its organization.
///
/// # Errors
///
/// If the project is another organization's (whose policy and members would decide, not this one's), the organization
/// does not exist, the name is not allowed, or the store fails.
pub fn ensure_project(
    store: &dyn Store,
    name: &str,
    organization_id: &str,
    now: Timestamp,
) -> Result<Changed<Project>> {
    check_id("project", name)?;
    store.change(now, |changes| {
        if let Some(existing) = changes.records().project(name)? {
            let owner = &existing.organization_id;
            if owner == organization_id {
                return Ok(existing);
            }
            return Err(invalid(
                "project",
                format!(
                    "{name:?} belongs to organization {owner:?} in the directory, not to {organization_id:?}: correct \
                     `id` under [organization], or name another project"
                ),
            ));
        }
        organization(changes.records(), organization_id)?;
        let project = Project {
            name: name.to_owned(),
            organization_id: organization_id.to_owned(),
            unit_id: None,
            create_time: now,
        };
        changes.put_project(&project)?;
        Ok(project)
    })
}

/// Moves a project within its organization.
///
/// # Errors
///
/// If the project or the unit does not exist, the unit is another organization's, or the store fails.
pub fn move_project(
    store: &dyn Store,
    name: &str,
    to: &Placement,
    now: Timestamp,
) -> Result<Changed<Project>> {
    store.change(now, |changes| {
        let records = changes.records();
        let project = records.project(name)?.ok_or_else(|| not_found("project", name))?;
        let unit_id = unit_id(records, &project.organization_id, to)?;
        let moved = Project { unit_id, ..project };
        changes.put_project(&moved)?;
        Ok(moved)
    })
}

/// Removes a project and the grants on it. Requests for it are refused from then on.
///
/// # Errors
///
/// If it does not exist, or the store fails.
pub fn delete_project(store: &dyn Store, name: &str, now: Timestamp) -> Result<Changed<()>> {
    store.change(now, |changes| {
        changes.records().project(name)?.ok_or_else(|| not_found("project", name))?;
        Ok(changes.delete_project(name)?)
    })
}

/// Makes a unit in an organization.
///
/// # Errors
///
/// If the organization or the unit above does not exist, the name is not allowed, or the store fails.
pub fn create_unit(
    store: &dyn Store,
    organization_id: &str,
    name: &str,
    placement: &Placement,
    now: Timestamp,
) -> Result<Changed<OrganizationalUnit>> {
    check_name("name", name)?;
    let id = new_id("a");
    store.change(now, |changes| {
        organization(changes.records(), organization_id)?;
        let unit = OrganizationalUnit {
            id: id.clone(),
            name: name.to_owned(),
            organization_id: organization_id.to_owned(),
            parent_id: unit_id(changes.records(), organization_id, placement)?,
            create_time: now,
        };
        changes.put_unit(&unit)?;
        Ok(unit)
    })
}

/// Moves a unit with all that is in it within its organization.
///
/// # Errors
///
/// If a unit does not exist, the new place is another organization's or inside the unit itself, or the store fails.
pub fn move_unit(
    store: &dyn Store,
    id: &str,
    to: &Placement,
    now: Timestamp,
) -> Result<Changed<OrganizationalUnit>> {
    store.change(now, |changes| {
        let records = changes.records();
        let unit = records.unit(id)?.ok_or_else(|| not_found("organizational unit", id))?;
        let parent_id = unit_id(records, &unit.organization_id, to)?;
        let mut above = parent_id.clone();
        while let Some(ancestor) = above {
            if ancestor == id {
                return Err(invalid("parent_id", "a unit cannot be moved into itself"));
            }
            above = records.unit(&ancestor)?.and_then(|unit| unit.parent_id);
        }
        let moved = OrganizationalUnit { parent_id, ..unit };
        changes.put_unit(&moved)?;
        Ok(moved)
    })
}

/// Removes an empty unit and the grants on it.
///
/// # Errors
///
/// If it does not exist, has units or projects in it, or the store fails.
pub fn delete_unit(store: &dyn Store, id: &str, now: Timestamp) -> Result<Changed<()>> {
    store.change(now, |changes| {
        let records = changes.records();
        let unit = records.unit(id)?.ok_or_else(|| not_found("organizational unit", id))?;
        let holds_unit =
            records.units(&unit.organization_id)?.iter().any(|other| other.parent_id.as_deref() == Some(id));
        let holds_project = records
            .projects(&unit.organization_id)?
            .iter()
            .any(|project| project.unit_id.as_deref() == Some(id));
        if holds_unit || holds_project {
            return Err(invalid("unit_id", "the unit is not empty: move its units and projects away first"));
        }
        Ok(changes.delete_unit(id)?)
    })
}

fn unit_id(records: &dyn Records, organization_id: &str, placement: &Placement) -> Result<Option<String>> {
    let Placement::Unit(id) = placement else { return Ok(None) };
    match records.unit(id)? {
        Some(unit) if unit.organization_id == organization_id => Ok(Some(unit.id)),
        _ => Err(not_found("organizational unit", id)),
    }
}
