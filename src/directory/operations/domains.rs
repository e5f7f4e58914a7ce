//! Domains: claiming them, showing that they are the organization's, and giving them up.
//!
//! Who has a verified domain manages the members whose email address is at it. How ownership is shown is not known
//! here ([`crate::login::domain`]).

use super::{Result, already_exists, invalid, not_found, organization};
use crate::directory::model::{Domain, DomainState, DomainVerification, Timestamp, User, new_id};
use crate::directory::store::{Changed, Changes, Records, Store};

/// Most domains that one organization claims.
const MAX_DOMAINS: usize = 1_000;

/// Claims a domain for an organization, unverified.
///
/// # Errors
///
/// If the organization does not exist, it claims the domain already, the name is not allowed, or the store fails.
pub fn add_domain(
    store: &dyn Store,
    organization_id: &str,
    name: &str,
    verification_type: DomainVerification,
    now: Timestamp,
) -> Result<Changed<Domain>> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let labels = name.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    });
    // A last label of digits would make it an address.
    let last = name.rsplit('.').next().unwrap_or_default();
    let address = last.bytes().all(|byte| byte.is_ascii_digit());
    if !labels || address || !name.contains('.') || name.len() > 253 {
        return Err(invalid("domain_name", "must be a domain, such as example.com"));
    }
    let (id, challenge) = (new_id("dom"), new_id(&new_id("")));
    store.change(now, |changes| {
        let records = changes.records();
        organization(records, organization_id)?;
        let claims = |domain: &Domain| domain.name == name && domain.state != DomainState::Deleted;
        let domains = records.domains(organization_id)?;
        if domains.iter().any(claims) {
            return Err(already_exists("domain", &name));
        }
        if domains.iter().filter(|domain| domain.state != DomainState::Deleted).count() >= MAX_DOMAINS {
            return Err(invalid(
                "domain_name",
                format!("an organization claims at most {MAX_DOMAINS} domains"),
            ));
        }
        let domain = Domain {
            id: id.clone(),
            organization_id: organization_id.to_owned(),
            name: name.clone(),
            state: DomainState::Unverified,
            verification_type,
            challenge_token: challenge.clone(),
            create_time: now,
        };
        changes.put_domain(&domain)?;
        Ok(domain)
    })
}

/// Changes how the ownership of a domain is shown. One that had been verified another way has to be verified again.
///
/// # Errors
///
/// If it does not exist, or the store fails.
pub fn update_domain(
    store: &dyn Store,
    organization_id: &str,
    id: &str,
    verification_type: DomainVerification,
    now: Timestamp,
) -> Result<Changed<Domain>> {
    store.change(now, |changes| {
        let mut domain = own_domain(changes.records(), organization_id, id)?;
        if domain.verification_type != verification_type {
            if domain.state == DomainState::Verified {
                release_people(changes, &domain)?;
            }
            domain.verification_type = verification_type;
            domain.state = DomainState::Unverified;
            changes.put_domain(&domain)?;
        }
        Ok(domain)
    })
}

/// Notes that the ownership of a domain has been shown: from now on the organization manages its members whose email
/// address is at the domain.
///
/// # Errors
///
/// If it does not exist, another organization has verified it, or the store fails.
pub fn verify_domain(
    store: &dyn Store,
    organization_id: &str,
    id: &str,
    now: Timestamp,
) -> Result<Changed<Domain>> {
    store.change(now, |changes| {
        let records = changes.records();
        let domain = Domain { state: DomainState::Verified, ..own_domain(records, organization_id, id)? };
        if records.verified_domain(&domain.name)?.is_some_and(|other| other.id != domain.id) {
            return Err(already_exists("verified domain", &domain.name));
        }
        changes.put_domain(&domain)?;
        for person in records.people_at(&domain.name)? {
            let mut memberships = records.memberships(&person.id)?.into_iter();
            if memberships.any(|membership| membership.organization_id == organization_id) {
                manage(changes, person, Some(organization_id))?;
            }
        }
        Ok(domain)
    })
}

/// Gives a domain up: its people are no longer managed, and no identity provider logs them in.
///
/// # Errors
///
/// If it does not exist, or the store fails.
pub fn delete_domain(
    store: &dyn Store,
    organization_id: &str,
    id: &str,
    now: Timestamp,
) -> Result<Changed<Domain>> {
    store.change(now, |changes| {
        let records = changes.records();
        let domain = own_domain(records, organization_id, id)?;
        if domain.state == DomainState::Verified {
            release_people(changes, &domain)?;
        }
        for mut provider in records.identity_providers(organization_id)? {
            if provider.linked_domain_ids.iter().any(|linked| linked == id) {
                provider.linked_domain_ids.retain(|linked| linked != id);
                provider.update_time = now;
                changes.put_identity_provider(&provider)?;
            }
        }
        let domain = Domain { state: DomainState::Deleted, ..domain };
        changes.put_domain(&domain)?;
        Ok(domain)
    })
}

fn release_people(changes: &dyn Changes, domain: &Domain) -> Result<()> {
    for person in changes.records().people_at(&domain.name)? {
        if person.managing_organization_id.as_deref() == Some(&*domain.organization_id) {
            manage(changes, person, None)?;
        }
    }
    Ok(())
}

fn manage(changes: &dyn Changes, person: User, organization_id: Option<&str>) -> Result<()> {
    if person.managing_organization_id.as_deref() == organization_id {
        return Ok(());
    }
    Ok(changes.put_user(&User { managing_organization_id: organization_id.map(str::to_owned), ..person })?)
}

pub(super) fn own_domain(records: &dyn Records, organization_id: &str, id: &str) -> Result<Domain> {
    records
        .domain(id)?
        .filter(|domain| domain.organization_id == organization_id && domain.state != DomainState::Deleted)
        .ok_or_else(|| not_found("domain", id))
}
