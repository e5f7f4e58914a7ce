//! How people log in: authentication methods, identity providers, and domains.

use super::passwords::switch_two_factor_off;
use super::{Result, already_exists, check_name, conflict, invalid, not_found, organization, user};
use crate::directory::model::{
    AuthenticationMethod, Domain, DomainState, DomainVerification, IdentityProvider, IdentityProviderKind,
    MethodKind, Timestamp, new_id,
};
use crate::directory::store::{Changed, Changes, Records, Store};
use crate::policy::facts::UserKind;

/// What an identity provider is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewIdentityProvider {
    /// Whose.
    pub organization_id: String,
    /// SAML or OIDC.
    pub kind: IdentityProviderKind,
    /// Name as people know it.
    pub name: String,
}

/// A partial change of an identity provider: what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityProviderUpdate {
    /// Name as people know it.
    pub name: Option<String>,
    /// Switched on.
    pub enabled: Option<bool>,
    /// Domains whose users log in with it.
    pub linked_domain_ids: Option<Vec<String>>,
    /// Group that users join by logging in; `Some(None)`: no group.
    pub auto_join_user_group_id: Option<Option<String>>,
    /// Lifetime of the session tokens it makes, in seconds; `Some(None)`: the default.
    pub auth_token_max_age_seconds: Option<Option<u32>>,
    /// Whether the session tokens it makes live longer by being used.
    pub auth_token_extend_when_used: Option<bool>,
}

/// Adds a way to log in to a person.
///
/// # Errors
///
/// If person or identity provider do not exist, kind and provider do not fit, the person has it already, or the store
/// fails.
pub fn add_authentication_method(
    store: &dyn Store,
    user_id: &str,
    kind: MethodKind,
    identity_provider_id: Option<&str>,
    now: Timestamp,
) -> Result<Changed<AuthenticationMethod>> {
    if (kind == MethodKind::IdentityProvider) != identity_provider_id.is_some() {
        let reason = "must be given for an identity provider, and only for one";
        return Err(invalid("identity_provider_id", reason));
    }
    let id = new_id("uam");
    store.change(now, |changes| {
        let records = changes.records();
        if user(records, user_id)?.kind != UserKind::OrganizationUser {
            return Err(invalid("user_id", "an application user cannot log in"));
        }
        if let Some(provider_id) = identity_provider_id {
            provider(records, provider_id)?;
        }
        let method = AuthenticationMethod {
            id: id.clone(),
            user_id: user_id.to_owned(),
            kind,
            identity_provider_id: identity_provider_id.map(str::to_owned),
            create_time: now,
        };
        let same = |other: &AuthenticationMethod| {
            other.kind == kind && other.identity_provider_id == method.identity_provider_id
        };
        if let Some(existing) = records.authentication_methods(user_id)?.into_iter().find(same) {
            return Err(already_exists("authentication method", &existing.id));
        }
        changes.insert_authentication_method(&method)?;
        Ok(method)
    })
}

/// Removes a way to log in and revokes the tokens bound to it; returns how many it revoked.
///
/// # Errors
///
/// If it does not exist, or the store fails.
pub fn delete_authentication_method(store: &dyn Store, id: &str, now: Timestamp) -> Result<Changed<usize>> {
    store.change(now, |changes| {
        let method = changes.records().authentication_method(id)?;
        let method = method.ok_or_else(|| not_found("authentication method", id))?;
        delete(changes, &method)
    })
}

/// Removes one of a person's own ways to log in, as [`delete_authentication_method`] does. The last one stays: nobody
/// locks themselves out by a slip.
///
/// # Errors
///
/// If it is not one of theirs, or the only one, or the store fails.
pub fn delete_own_method(
    store: &dyn Store,
    user_id: &str,
    id: &str,
    now: Timestamp,
) -> Result<Changed<usize>> {
    store.change(now, |changes| {
        let methods = changes.records().authentication_methods(user_id)?;
        let method = methods.iter().find(|method| method.id == id);
        let method = method.ok_or_else(|| not_found("authentication method", id))?;
        if methods.len() == 1 {
            return Err(conflict("This is the only way to log in that is left: add another one first."));
        }
        delete(changes, method)
    })
}

fn delete(changes: &dyn Changes, method: &AuthenticationMethod) -> Result<usize> {
    let revoked = changes.delete_authentication_method(&method.id)?;
    if method.kind == MethodKind::Password {
        // Two-factor authentication is the password's: it goes with it.
        if let Some(user) = changes.records().user(&method.user_id)? {
            switch_two_factor_off(changes, &user)?;
        }
        changes.delete_password(&method.user_id)?;
    }
    Ok(revoked)
}

/// Makes an identity provider, switched off until it is set up.
///
/// # Errors
///
/// If the organization does not exist, the name is not allowed, or the store fails.
pub fn create_identity_provider(
    store: &dyn Store,
    new: &NewIdentityProvider,
    now: Timestamp,
) -> Result<Changed<IdentityProvider>> {
    check_name("authentication_method_name", &new.name)?;
    let id = new_id("am");
    store.change(now, |changes| {
        organization(changes.records(), &new.organization_id)?;
        let provider = IdentityProvider {
            id: id.clone(),
            organization_id: new.organization_id.clone(),
            kind: new.kind,
            name: new.name.clone(),
            enabled: false,
            linked_domain_ids: Vec::new(),
            auto_join_user_group_id: None,
            auth_token_max_age_seconds: None,
            auth_token_extend_when_used: false,
            create_time: now,
            update_time: now,
        };
        changes.put_identity_provider(&provider)?;
        Ok(provider)
    })
}

/// Changes what the update names.
///
/// # Errors
///
/// If the provider, a domain or the group does not exist in its organization, a value is not allowed, or the store
/// fails.
pub fn update_identity_provider(
    store: &dyn Store,
    id: &str,
    update: &IdentityProviderUpdate,
    now: Timestamp,
) -> Result<Changed<IdentityProvider>> {
    update.name.as_deref().map_or(Ok(()), |name| check_name("authentication_method_name", name))?;
    if let Some(Some(seconds)) = update.auth_token_max_age_seconds
        && !super::MAX_AGE_SECONDS.contains(&seconds)
    {
        return Err(invalid("auth_token_max_age_seconds", "must be 600 to 315360000, or absent"));
    }
    store.change(now, |changes| {
        let records = changes.records();
        let mut provider = provider(records, id)?;
        provider.name = update.name.clone().unwrap_or(provider.name);
        provider.enabled = update.enabled.unwrap_or(provider.enabled);
        if let Some(domains) = &update.linked_domain_ids {
            for domain_id in domains {
                own_domain(records, &provider.organization_id, domain_id)?;
            }
            provider.linked_domain_ids.clone_from(domains);
        }
        if let Some(group_id) = &update.auto_join_user_group_id {
            if let Some(group_id) = group_id {
                let group = records.group(group_id)?;
                group
                    .filter(|group| group.organization_id == provider.organization_id)
                    .ok_or_else(|| not_found("group", group_id))?;
            }
            provider.auto_join_user_group_id.clone_from(group_id);
        }
        let max_age = update.auth_token_max_age_seconds;
        provider.auth_token_max_age_seconds = max_age.unwrap_or(provider.auth_token_max_age_seconds);
        provider.auth_token_extend_when_used =
            update.auth_token_extend_when_used.unwrap_or(provider.auth_token_extend_when_used);
        provider.update_time = now;
        changes.put_identity_provider(&provider)?;
        Ok(provider)
    })
}

/// Removes an identity provider with all ways to log in with it, and revokes the tokens bound to them; returns how
/// many it revoked.
///
/// # Errors
///
/// If it does not exist, or the store fails.
pub fn delete_identity_provider(store: &dyn Store, id: &str, now: Timestamp) -> Result<Changed<usize>> {
    store.change(now, |changes| {
        provider(changes.records(), id)?;
        Ok(changes.delete_identity_provider(id)?)
    })
}

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
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    });
    if !labels || !name.contains('.') || name.len() > 253 {
        return Err(invalid("domain_name", "must be a domain, such as example.com"));
    }
    let (id, challenge) = (new_id("dom"), new_id(&new_id("")));
    store.change(now, |changes| {
        let records = changes.records();
        organization(records, organization_id)?;
        let claims = |domain: &Domain| domain.name == name && domain.state != DomainState::Deleted;
        if records.domains(organization_id)?.iter().any(claims) {
            return Err(already_exists("domain", &name));
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

/// Notes that the ownership of a domain has been shown.
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
    set_domain_state(store, organization_id, id, DomainState::Verified, now)
}

/// Gives a domain up.
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
    set_domain_state(store, organization_id, id, DomainState::Deleted, now)
}

fn set_domain_state(
    store: &dyn Store,
    organization_id: &str,
    id: &str,
    state: DomainState,
    now: Timestamp,
) -> Result<Changed<Domain>> {
    store.change(now, |changes| {
        let records = changes.records();
        let domain = Domain { state, ..own_domain(records, organization_id, id)? };
        let verified = records.verified_domain(&domain.name)?;
        if state == DomainState::Verified && verified.is_some_and(|other| other.id != domain.id) {
            return Err(already_exists("verified domain", &domain.name));
        }
        changes.put_domain(&domain)?;
        Ok(domain)
    })
}

fn own_domain(records: &dyn Records, organization_id: &str, id: &str) -> Result<Domain> {
    records
        .domain(id)?
        .filter(|domain| domain.organization_id == organization_id && domain.state != DomainState::Deleted)
        .ok_or_else(|| not_found("domain", id))
}

fn provider(records: &dyn Records, id: &str) -> Result<IdentityProvider> {
    records.identity_provider(id)?.ok_or_else(|| not_found("identity provider", id))
}
