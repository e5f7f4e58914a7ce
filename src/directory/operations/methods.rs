//! How people log in: their authentication methods.

use super::identity_providers::provider;
use super::{Result, already_exists, invalid, not_found, user};
use crate::directory::model::{AuthenticationMethod, MethodKind, Timestamp, new_id};
use crate::directory::store::{Changed, Store};
use crate::policy::facts::UserKind;

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
            subject: None,
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
        method.ok_or_else(|| not_found("authentication method", id))?;
        Ok(changes.delete_authentication_method(id)?)
    })
}
