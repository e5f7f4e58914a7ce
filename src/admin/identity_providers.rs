//! `/v1/account/{account_id}/authentication`: an organization's own identity providers. Its account is the organization
//! itself: both have the same id.
//!
//! Aiven's API knows `internal` and `saml`; `oidc` and its fields are Postern's. The client secret goes in and never
//! comes out.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::JsonBody;
use super::{Admin, ApiError, Caller};
use crate::directory::model::{
    IdentityProvider, IdentityProviderKind, SamlSettings, Timestamp, Word, new_id,
};
use crate::directory::operations::{self, IdentityProviderUpdate, NewIdentityProvider, SettingsUpdate};
use crate::login::outgoing;
use crate::login::seal::{Purpose, Sealer};
use crate::login::sign_in::CALLBACK_PATH;

/// Longest client secret, in bytes.
const MAX_SECRET: usize = 1024;

/// An identity provider, as Aiven's API shows authentication methods.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AccountAuthenticationMethod)]
pub(super) struct Shown {
    account_id: String,
    organization_id: String,
    authentication_method_id: String,
    authentication_method_name: String,
    /// `saml` or `oidc`.
    authentication_method_type: &'static str,
    authentication_method_enabled: bool,
    /// `active` once all is set that a login needs, else `pending_configuration`.
    state: &'static str,
    auto_join_user_group_id: Option<String>,
    /// There are no teams here: always null.
    auto_join_team_id: Option<String>,
    auth_token_max_age_seconds: Option<u32>,
    auth_token_extend_when_used: bool,
    linked_domains: Vec<LinkedDomain>,
    /// OpenID Connect: the provider's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    oidc_issuer: Option<String>,
    /// OpenID Connect: who Postern is to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    oidc_client_id: Option<String>,
    /// OpenID Connect: what is asked for beside `openid`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    oidc_scopes: Vec<String>,
    /// OpenID Connect: what to enter at the provider as the address that browsers are sent back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    oidc_redirect_uri: Option<String>,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    saml: SamlSettings,
    #[schema(value_type = String, format = DateTime)]
    create_time: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    update_time: Timestamp,
}

/// A domain whose people log in with the provider.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkedDomain {
    domain_id: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AccountAuthenticationMethodAnswer)]
pub(super) struct Answer {
    authentication_method: Shown,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AccountAuthenticationMethodList)]
pub(super) struct ShownList {
    authentication_methods: Vec<Shown>,
}

/// An identity provider to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewAccountAuthenticationMethod)]
pub(super) struct New {
    authentication_method_name: String,
    authentication_method_type: Type,
    #[serde(default)]
    authentication_method_enabled: Option<bool>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    auto_join_user_group_id: Option<Option<String>>,
    auto_join_team_id: Option<String>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    auth_token_max_age_seconds: Option<Option<u32>>,
    auth_token_extend_when_used: Option<bool>,
    linked_domains: Option<Vec<LinkedDomain>>,
    scim_enabled: Option<bool>,
    oidc_issuer: Option<String>,
    oidc_client_id: Option<String>,
    #[serde(default, deserialize_with = "given_secret")]
    #[schema(value_type = Option<String>)]
    oidc_client_secret: Option<Option<SecretString>>,
    oidc_scopes: Option<Vec<String>>,
    saml_idp_url: Option<String>,
    saml_entity_id: Option<String>,
    saml_certificate: Option<String>,
    saml_digest_algorithm: Option<Digest>,
    saml_signature_algorithm: Option<Signature>,
    saml_variant: Option<Variant>,
    saml_assertion_signed_enabled: Option<bool>,
    saml_authn_requests_signed_enabled: Option<bool>,
    saml_idp_login_allowed: Option<bool>,
    saml_requested_authn_context_enabled: Option<bool>,
    saml_field_mapping: Option<FieldMapping>,
}

/// What may change of an identity provider; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AccountAuthenticationMethodChanges)]
pub(super) struct Changes {
    authentication_method_name: Option<String>,
    authentication_method_enabled: Option<bool>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    auto_join_user_group_id: Option<Option<String>>,
    auto_join_team_id: Option<String>,
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    auth_token_max_age_seconds: Option<Option<u32>>,
    auth_token_extend_when_used: Option<bool>,
    linked_domains: Option<Vec<LinkedDomain>>,
    scim_enabled: Option<bool>,
    oidc_issuer: Option<String>,
    oidc_client_id: Option<String>,
    #[serde(default, deserialize_with = "given_secret")]
    #[schema(value_type = Option<String>)]
    oidc_client_secret: Option<Option<SecretString>>,
    oidc_scopes: Option<Vec<String>>,
    saml_idp_url: Option<String>,
    saml_entity_id: Option<String>,
    saml_certificate: Option<String>,
    saml_digest_algorithm: Option<Digest>,
    saml_signature_algorithm: Option<Signature>,
    saml_variant: Option<Variant>,
    saml_assertion_signed_enabled: Option<bool>,
    saml_authn_requests_signed_enabled: Option<bool>,
    saml_idp_login_allowed: Option<bool>,
    saml_requested_authn_context_enabled: Option<bool>,
    saml_field_mapping: Option<FieldMapping>,
}

/// Kinds of authentication methods. `internal` is the password, which every organization has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AuthenticationMethodType)]
pub(super) enum Type {
    Internal,
    Saml,
    Oidc,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = SamlDigestAlgorithm)]
pub(super) enum Digest {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = SamlSignatureAlgorithm)]
pub(super) enum Signature {
    RsaSha1,
    DsaSha1,
    RsaSha256,
    RsaSha384,
    RsaSha512,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = SamlVariant)]
pub(super) enum Variant {
    Adfs,
}

/// Names of the SAML attributes that carry a person's data.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SamlFieldMapping)]
pub(super) struct FieldMapping {
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    real_name: Option<String>,
}

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(list, make)).routes(routes!(show, change, remove))
}

/// Lists an organization's identity providers.
#[utoipa::path(get, path = "/v1/account/{account_id}/authentication", tag = "identity providers",
    security(("token" = [])), params(("account_id" = String, Path)),
    responses(
        (status = OK, body = ShownList),
    ))]
async fn list(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Path(account_id): Path<String>,
) -> Result<Json<ShownList>, ApiError> {
    caller.require_organization_admin(&admin, &account_id)?;
    let providers = admin.read(move |records| records.identity_providers(&account_id)).await?;
    let authentication_methods = providers.into_iter().map(|provider| Shown::of(&admin, provider)).collect();
    Ok(Json(ShownList { authentication_methods }))
}

/// Makes an identity provider.
#[utoipa::path(post, path = "/v1/account/{account_id}/authentication", tag = "identity providers",
    security(("token" = [])), params(("account_id" = String, Path)), request_body = New,
    responses(
        (status = OK, body = Answer),
    ))]
async fn make(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Path(account_id): Path<String>,
    JsonBody(new): JsonBody<New>,
) -> Result<Json<Answer>, ApiError> {
    caller.require_organization_admin(&admin, &account_id)?;
    let kind = match new.authentication_method_type {
        Type::Saml => IdentityProviderKind::Saml,
        Type::Oidc => IdentityProviderKind::Oidc,
        Type::Internal => {
            let reason = "every organization has the password method already; make one of type oidc or saml";
            return Err(ApiError::bad_request("authentication_method_type", reason));
        }
    };
    let (id, name) = (new_id("am"), new.authentication_method_name.clone());
    let request = NewIdentityProvider { organization_id: account_id, kind, name };
    let changes = Changes::from(new);
    check(kind, &changes)?;
    let (author, admin_there) = (caller.author(), Arc::clone(&admin));
    let work = move |store: &dyn crate::directory::Store, now| {
        let update = changes.update(&id, &admin_there.login.sealer)?;
        operations::set_up_identity_provider(store, &id, &request, &update, now).map_err(ApiError::from)
    };
    let provider = admin.change(author, work).await?;
    Ok(Json(Answer { authentication_method: Shown::of(&admin, provider) }))
}

/// Shows an identity provider.
#[utoipa::path(get, path = "/v1/account/{account_id}/authentication/{account_authentication_method_id}",
    tag = "identity providers", security(("token" = [])),
    params(("account_id" = String, Path), ("account_authentication_method_id" = String, Path)),
    responses(
        (status = OK, body = Answer),
    ))]
async fn show(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Path((account_id, id)): Path<(String, String)>,
) -> Result<Json<Answer>, ApiError> {
    caller.require_organization_admin(&admin, &account_id)?;
    let provider = find(&admin, &account_id, &id).await?;
    Ok(Json(Answer { authentication_method: Shown::of(&admin, provider) }))
}

/// Changes an identity provider. Switched off, tokens bound to it stop working; switched on again, they work again.
#[utoipa::path(put, path = "/v1/account/{account_id}/authentication/{account_authentication_method_id}",
    tag = "identity providers", security(("token" = [])),
    params(("account_id" = String, Path), ("account_authentication_method_id" = String, Path)),
    request_body = Changes,
    responses(
        (status = OK, body = Answer),
    ))]
async fn change(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Path((account_id, id)): Path<(String, String)>,
    JsonBody(changes): JsonBody<Changes>,
) -> Result<Json<Answer>, ApiError> {
    caller.require_organization_admin(&admin, &account_id)?;
    let provider = find(&admin, &account_id, &id).await?;
    check(provider.kind, &changes)?;
    let (author, admin_there) = (caller.author(), Arc::clone(&admin));
    let work = move |store: &dyn crate::directory::Store, now| {
        let update = changes.update(&id, &admin_there.login.sealer)?;
        operations::update_identity_provider(store, &id, &update, now).map_err(ApiError::from)
    };
    let provider = admin.change(author, work).await?;
    Ok(Json(Answer { authentication_method: Shown::of(&admin, provider) }))
}

/// Removes an identity provider, all ways to log in with it, and with them the tokens bound to it.
#[utoipa::path(delete, path = "/v1/account/{account_id}/authentication/{account_authentication_method_id}",
    tag = "identity providers", security(("token" = [])),
    params(("account_id" = String, Path), ("account_authentication_method_id" = String, Path)),
    responses(
        (status = OK, body = Object),
    ))]
async fn remove(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Path((account_id, id)): Path<(String, String)>,
) -> Result<Json<BTreeMap<String, String>>, ApiError> {
    caller.require_organization_admin(&admin, &account_id)?;
    find(&admin, &account_id, &id).await?;
    admin
        .change(caller.author(), move |store, now| operations::delete_identity_provider(store, &id, now))
        .await?;
    Ok(Json(BTreeMap::new()))
}

async fn find(admin: &Admin, organization_id: &str, id: &str) -> Result<IdentityProvider, ApiError> {
    let wanted = id.to_owned();
    let found = admin.read(move |records| records.identity_provider(&wanted)).await?;
    found
        .filter(|provider| provider.organization_id == organization_id)
        .ok_or_else(|| ApiError::not_found("identity provider", id))
}

/// What the wire format allows and this provider or Postern does not.
fn check(kind: IdentityProviderKind, changes: &Changes) -> Result<(), ApiError> {
    if changes.scim_enabled == Some(true) {
        return Err(ApiError::bad_request("scim_enabled", "SCIM is not supported"));
    }
    if changes.auto_join_team_id.as_ref().is_some_and(|team| !team.is_empty()) {
        let reason = "there are no teams here; name a group as auto_join_user_group_id";
        return Err(ApiError::bad_request("auto_join_team_id", reason));
    }
    let oidc = changes.oidc_issuer.is_some()
        || changes.oidc_client_id.is_some()
        || changes.oidc_client_secret.is_some()
        || changes.oidc_scopes.is_some();
    if kind == IdentityProviderKind::Saml && oidc {
        return Err(ApiError::bad_request("oidc_issuer", "the oidc_ fields are for providers of type oidc"));
    }
    if let Some(issuer) = &changes.oidc_issuer {
        check_issuer(issuer).map_err(|reason| ApiError::bad_request("oidc_issuer", reason))?;
    }
    if let Some(Some(secret)) = &changes.oidc_client_secret {
        let length = secret.expose_secret().len();
        if length == 0 || length > MAX_SECRET {
            let reason = format!("must have 1 to {MAX_SECRET} bytes; null for none");
            return Err(ApiError::bad_request("oidc_client_secret", reason));
        }
    }
    Ok(())
}

/// OpenID Connect Discovery: an issuer has neither query nor fragment.
fn check_issuer(issuer: &str) -> Result<(), String> {
    let url = reqwest::Url::parse(issuer).map_err(|error| format!("is no address: {error}"))?;
    outgoing::check_url(&url)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must have neither a query nor a fragment".to_owned());
    }
    Ok(())
}

impl Changes {
    /// The operation's update; the secret is sealed for the provider with this id.
    fn update(self, id: &str, sealer: &Sealer) -> Result<IdentityProviderUpdate, ApiError> {
        let sealed_client_secret = match self.oidc_client_secret {
            None => None,
            Some(None) => Some(None),
            Some(Some(secret)) => {
                let sealed = sealer.seal(Purpose::ClientSecret(id), secret.expose_secret().as_bytes());
                Some(Some(sealed.map_err(|error| {
                    tracing::error!(%error, "a client secret cannot be kept");
                    ApiError::internal()
                })?))
            }
        };
        let none_if_empty = |id: Option<String>| id.filter(|id| !id.is_empty());
        Ok(IdentityProviderUpdate {
            name: self.authentication_method_name,
            enabled: self.authentication_method_enabled,
            linked_domain_ids: self
                .linked_domains
                .map(|domains| domains.into_iter().map(|domain| domain.domain_id).collect()),
            auto_join_user_group_id: self.auto_join_user_group_id.map(none_if_empty),
            auth_token_max_age_seconds: self.auth_token_max_age_seconds,
            auth_token_extend_when_used: self.auth_token_extend_when_used,
            settings: SettingsUpdate {
                oidc_issuer: self.oidc_issuer,
                oidc_client_id: self.oidc_client_id,
                oidc_scopes: self.oidc_scopes,
                saml: SamlSettings {
                    saml_idp_url: self.saml_idp_url,
                    saml_entity_id: self.saml_entity_id,
                    saml_certificate: self.saml_certificate,
                    saml_digest_algorithm: self.saml_digest_algorithm.map(word),
                    saml_signature_algorithm: self.saml_signature_algorithm.map(word),
                    saml_variant: self.saml_variant.map(word),
                    saml_assertion_signed_enabled: self.saml_assertion_signed_enabled,
                    saml_authn_requests_signed_enabled: self.saml_authn_requests_signed_enabled,
                    saml_idp_login_allowed: self.saml_idp_login_allowed,
                    saml_requested_authn_context_enabled: self.saml_requested_authn_context_enabled,
                    saml_field_mapping: self.saml_field_mapping.map(FieldMapping::map).unwrap_or_default(),
                },
            },
            sealed_client_secret,
        })
    }
}

impl From<New> for Changes {
    fn from(new: New) -> Self {
        Self {
            authentication_method_name: None,
            authentication_method_enabled: new.authentication_method_enabled,
            auto_join_user_group_id: new.auto_join_user_group_id,
            auto_join_team_id: new.auto_join_team_id,
            auth_token_max_age_seconds: new.auth_token_max_age_seconds,
            auth_token_extend_when_used: new.auth_token_extend_when_used,
            linked_domains: new.linked_domains,
            scim_enabled: new.scim_enabled,
            oidc_issuer: new.oidc_issuer,
            oidc_client_id: new.oidc_client_id,
            oidc_client_secret: new.oidc_client_secret,
            oidc_scopes: new.oidc_scopes,
            saml_idp_url: new.saml_idp_url,
            saml_entity_id: new.saml_entity_id,
            saml_certificate: new.saml_certificate,
            saml_digest_algorithm: new.saml_digest_algorithm,
            saml_signature_algorithm: new.saml_signature_algorithm,
            saml_variant: new.saml_variant,
            saml_assertion_signed_enabled: new.saml_assertion_signed_enabled,
            saml_authn_requests_signed_enabled: new.saml_authn_requests_signed_enabled,
            saml_idp_login_allowed: new.saml_idp_login_allowed,
            saml_requested_authn_context_enabled: new.saml_requested_authn_context_enabled,
            saml_field_mapping: new.saml_field_mapping,
        }
    }
}

impl FieldMapping {
    fn map(self) -> BTreeMap<String, String> {
        let fields = [
            ("email", self.email),
            ("first_name", self.first_name),
            ("identity", self.identity),
            ("last_name", self.last_name),
            ("real_name", self.real_name),
        ];
        fields.into_iter().filter_map(|(field, attribute)| Some((field.to_owned(), attribute?))).collect()
    }
}

impl Shown {
    fn of(admin: &Admin, provider: IdentityProvider) -> Self {
        let state = if provider.is_set_up() { "active" } else { "pending_configuration" };
        let settings = admin.settings();
        let redirect = match (provider.kind, settings.others.public_url()) {
            (IdentityProviderKind::Oidc, Ok(url)) => Some(format!("{url}{CALLBACK_PATH}")),
            _ => None,
        };
        let linked = provider.linked_domain_ids.into_iter();
        Self {
            account_id: provider.organization_id.clone(),
            organization_id: provider.organization_id,
            authentication_method_id: provider.id,
            authentication_method_name: provider.name,
            authentication_method_type: provider.kind.word(),
            authentication_method_enabled: provider.enabled,
            state,
            auto_join_user_group_id: provider.auto_join_user_group_id,
            auto_join_team_id: None,
            auth_token_max_age_seconds: provider.auth_token_max_age_seconds,
            auth_token_extend_when_used: provider.auth_token_extend_when_used,
            linked_domains: linked.map(|domain_id| LinkedDomain { domain_id }).collect(),
            oidc_issuer: provider.settings.oidc_issuer,
            oidc_client_id: provider.settings.oidc_client_id,
            oidc_scopes: provider.settings.oidc_scopes,
            oidc_redirect_uri: redirect,
            saml: provider.settings.saml,
            create_time: provider.create_time,
            update_time: provider.update_time,
        }
    }
}

/// A value of a closed list as its word.
fn word<T: Serialize>(value: T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// Tells a field that is null from one that is left out.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn given_secret<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<SecretString>>, D::Error> {
    let secret: Option<String> = Option::deserialize(deserializer)?;
    Ok(Some(secret.map(SecretString::from)))
}
