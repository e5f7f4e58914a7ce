//! An organization's own identity providers: making, setting up and removing them.
//!
//! What an OpenID Connect client's secret is, is not known here: it arrives sealed.

use super::domains::own_domain;
use super::{Result, already_exists, check_name, invalid, not_found, organization};
use crate::directory::model::{
    IdentityProvider, IdentityProviderKind, ProviderSettings, SamlSettings, Timestamp, new_id,
};
use crate::directory::store::{Changed, Changes, Records, Store};

/// Longest text among the settings, in bytes: a certificate has a few thousand.
const MAX_SETTING_BYTES: usize = 16 * 1024;

/// Most scopes that are asked for, and most providers of one organization.
const MAX_SCOPES: usize = 32;
const MAX_PROVIDERS: usize = 100;

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
    /// How it is reached and what it is asked.
    pub settings: SettingsUpdate,
    /// The sealed secret of an OpenID Connect client; `Some(None)`: it has none.
    pub sealed_client_secret: Option<Option<Vec<u8>>>,
}

/// A partial change of an identity provider's settings: what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsUpdate {
    /// OpenID Connect: the provider's address.
    pub oidc_issuer: Option<String>,
    /// OpenID Connect: who we are to it.
    pub oidc_client_id: Option<String>,
    /// OpenID Connect: what is asked for beside `openid`.
    pub oidc_scopes: Option<Vec<String>>,
    /// SAML's fields; what is absent in it stays.
    pub saml: SamlSettings,
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
    set_up_identity_provider(store, &new_id("am"), new, &IdentityProviderUpdate::default(), now)
}

/// Makes an identity provider with this id and sets it up in one go.
///
/// # Errors
///
/// As [`create_identity_provider`] and [`update_identity_provider`].
pub fn set_up_identity_provider(
    store: &dyn Store,
    id: &str,
    new: &NewIdentityProvider,
    update: &IdentityProviderUpdate,
    now: Timestamp,
) -> Result<Changed<IdentityProvider>> {
    check_name("authentication_method_name", &new.name)?;
    check(update)?;
    store.change(now, |changes| {
        let records = changes.records();
        organization(records, &new.organization_id)?;
        let others = records.identity_providers(&new.organization_id)?;
        if others.len() >= MAX_PROVIDERS {
            let reason = format!("an organization has at most {MAX_PROVIDERS} identity providers");
            return Err(invalid("authentication_method_type", reason));
        }
        if others.iter().any(|other| other.id == id) {
            return Err(already_exists("identity provider", id));
        }
        let mut provider = IdentityProvider {
            id: id.to_owned(),
            organization_id: new.organization_id.clone(),
            kind: new.kind,
            name: new.name.clone(),
            enabled: false,
            linked_domain_ids: Vec::new(),
            auto_join_user_group_id: None,
            auth_token_max_age_seconds: None,
            auth_token_extend_when_used: false,
            settings: ProviderSettings::default(),
            create_time: now,
            update_time: now,
        };
        apply(changes, &mut provider, update)?;
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
    check(update)?;
    store.change(now, |changes| {
        let mut provider = provider(changes.records(), id)?;
        provider.update_time = now;
        apply(changes, &mut provider, update)?;
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

/// What can be checked of an update without the directory.
fn check(update: &IdentityProviderUpdate) -> Result<()> {
    update.name.as_deref().map_or(Ok(()), |name| check_name("authentication_method_name", name))?;
    if let Some(Some(seconds)) = update.auth_token_max_age_seconds
        && !super::MAX_AGE_SECONDS.contains(&seconds)
    {
        return Err(invalid("auth_token_max_age_seconds", "must be 600 to 315360000, or absent"));
    }
    let SettingsUpdate { oidc_issuer, oidc_client_id, oidc_scopes, saml } = &update.settings;
    check_text("oidc_issuer", oidc_issuer.as_deref())?;
    check_text("oidc_client_id", oidc_client_id.as_deref())?;
    if let Some(scopes) = oidc_scopes {
        let is_scope =
            |scope: &String| !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic());
        if scopes.len() > MAX_SCOPES || !scopes.iter().all(is_scope) {
            return Err(invalid("oidc_scopes", "must be at most 32 words of visible ASCII characters"));
        }
    }
    check_text("saml_idp_url", saml.saml_idp_url.as_deref())?;
    check_text("saml_entity_id", saml.saml_entity_id.as_deref())?;
    check_text("saml_certificate", saml.saml_certificate.as_deref())?;
    for (field, attribute) in &saml.saml_field_mapping {
        check_text("saml_field_mapping", Some(field))?;
        check_text("saml_field_mapping", Some(attribute))?;
    }
    Ok(())
}

fn check_text(field: &'static str, text: Option<&str>) -> Result<()> {
    let fits = text.is_none_or(|text| {
        text.len() <= MAX_SETTING_BYTES && text.chars().all(|c| !c.is_control() || c == '\n' || c == '\r')
    });
    if fits { Ok(()) } else { Err(invalid(field, "is too long, or has control characters")) }
}

fn apply(
    changes: &dyn Changes,
    provider: &mut IdentityProvider,
    update: &IdentityProviderUpdate,
) -> Result<()> {
    let records = changes.records();
    if let Some(name) = &update.name {
        provider.name.clone_from(name);
    }
    if let Some(domains) = &update.linked_domain_ids {
        for domain_id in domains {
            own_domain(records, &provider.organization_id, domain_id)?;
        }
        provider.linked_domain_ids.clone_from(domains);
        provider.linked_domain_ids.sort_unstable();
        provider.linked_domain_ids.dedup();
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
    if let Some(max_age_seconds) = update.auth_token_max_age_seconds {
        provider.auth_token_max_age_seconds = max_age_seconds;
    }
    if let Some(extend_when_used) = update.auth_token_extend_when_used {
        provider.auth_token_extend_when_used = extend_when_used;
    }
    check_secret_stays_home(records, provider, update)?;
    apply_settings(&mut provider.settings, &update.settings);
    provider.enabled = update.enabled.unwrap_or(provider.enabled);
    changes.put_identity_provider(provider)?;
    if let Some(sealed) = &update.sealed_client_secret {
        changes.put_sealed_client_secret(&provider.id, sealed.as_deref())?;
    }
    Ok(())
}

/// A client secret goes to the provider that it is for. Who could point it elsewhere without knowing it would be told it.
fn check_secret_stays_home(
    records: &dyn Records,
    provider: &IdentityProvider,
    update: &IdentityProviderUpdate,
) -> Result<()> {
    let issuer = update.settings.oidc_issuer.as_ref();
    let moves = issuer.is_some_and(|issuer| provider.settings.oidc_issuer.as_ref() != Some(issuer));
    if moves && update.sealed_client_secret.is_none() && records.sealed_client_secret(&provider.id)?.is_some()
    {
        let reason =
            "give the new issuer's client secret with it, or null for none: the kept one is the old issuer's";
        return Err(invalid("oidc_client_secret", reason));
    }
    Ok(())
}

fn apply_settings(settings: &mut ProviderSettings, update: &SettingsUpdate) {
    fn set<T: Clone>(value: &mut Option<T>, update: &Option<T>) {
        if update.is_some() {
            value.clone_from(update);
        }
    }
    set(&mut settings.oidc_issuer, &update.oidc_issuer);
    set(&mut settings.oidc_client_id, &update.oidc_client_id);
    if let Some(scopes) = &update.oidc_scopes {
        settings.oidc_scopes.clone_from(scopes);
    }
    let (saml, update) = (&mut settings.saml, &update.saml);
    set(&mut saml.saml_idp_url, &update.saml_idp_url);
    set(&mut saml.saml_entity_id, &update.saml_entity_id);
    set(&mut saml.saml_certificate, &update.saml_certificate);
    set(&mut saml.saml_digest_algorithm, &update.saml_digest_algorithm);
    set(&mut saml.saml_signature_algorithm, &update.saml_signature_algorithm);
    set(&mut saml.saml_variant, &update.saml_variant);
    set(&mut saml.saml_assertion_signed_enabled, &update.saml_assertion_signed_enabled);
    set(&mut saml.saml_authn_requests_signed_enabled, &update.saml_authn_requests_signed_enabled);
    set(&mut saml.saml_idp_login_allowed, &update.saml_idp_login_allowed);
    set(&mut saml.saml_requested_authn_context_enabled, &update.saml_requested_authn_context_enabled);
    if !update.saml_field_mapping.is_empty() {
        saml.saml_field_mapping.clone_from(&update.saml_field_mapping);
    }
}

pub(super) fn provider(records: &dyn Records, id: &str) -> Result<IdentityProvider> {
    records.identity_provider(id)?.ok_or_else(|| not_found("identity provider", id))
}
