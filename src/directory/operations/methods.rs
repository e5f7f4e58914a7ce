//! How people log in: their authentication methods.

use super::identity_providers::provider;
use super::passwords::switch_two_factor_off;
use super::{Result, already_exists, conflict, invalid, not_found, user};
use crate::directory::model::{AuthenticationMethod, MethodKind, Timestamp, new_id};
use crate::directory::store::{Changed, Changes, Store};
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

pub(super) fn delete(changes: &dyn Changes, method: &AuthenticationMethod) -> Result<usize> {
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
