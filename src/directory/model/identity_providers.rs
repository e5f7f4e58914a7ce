//! Identity providers of organizations, and what is set up of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Timestamp, serialize_word};

/// An organization's own identity provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IdentityProvider {
    /// Such as `am1a2b3c4d5e6`.
    pub id: String,
    /// Whose.
    pub organization_id: String,
    /// SAML or OIDC.
    #[serde(serialize_with = "serialize_word")]
    pub kind: IdentityProviderKind,
    /// Name as people know it.
    pub name: String,
    /// Switched on by the organization's admins.
    pub enabled: bool,
    /// Domains whose users log in with it.
    pub linked_domain_ids: Vec<String>,
    /// Group that users join by logging in.
    pub auto_join_user_group_id: Option<String>,
    /// Lifetime of the session tokens it makes, in seconds; `None`: the default.
    pub auth_token_max_age_seconds: Option<u32>,
    /// Whether the session tokens it makes live longer by being used.
    pub auth_token_extend_when_used: bool,
    /// How it is reached and what it is asked, by its kind.
    pub settings: ProviderSettings,
    /// When it was made.
    pub create_time: Timestamp,
    /// When it changed last.
    pub update_time: Timestamp,
}

impl IdentityProvider {
    /// Whether all is there that a login with it needs.
    pub fn is_set_up(&self) -> bool {
        let ProviderSettings { oidc_issuer, oidc_client_id, saml, .. } = &self.settings;
        match self.kind {
            IdentityProviderKind::Oidc => oidc_issuer.is_some() && oidc_client_id.is_some(),
            IdentityProviderKind::Saml => {
                saml.saml_idp_url.is_some()
                    && saml.saml_entity_id.is_some()
                    && saml.saml_certificate.is_some()
            }
        }
    }
}

/// How an identity provider is reached and what it is asked. What is absent has not been set up. The secret of an
/// OpenID Connect client is not here: it is kept sealed, and never shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProviderSettings {
    /// OpenID Connect: the provider's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oidc_issuer: Option<String>,
    /// OpenID Connect: who we are to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oidc_client_id: Option<String>,
    /// OpenID Connect: what is asked for beside `openid`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub oidc_scopes: Vec<String>,
    /// SAML's fields, named as in the API.
    #[serde(flatten)]
    pub saml: SamlSettings,
}

/// SAML's settings, named as in the API. Kept, not acted upon yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SamlSettings {
    /// Address that browsers are sent to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saml_idp_url: Option<String>,
    /// What the provider calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saml_entity_id: Option<String>,
    /// Certificate that assertions are signed with, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saml_certificate: Option<String>,
    /// Digest of requests, such as `sha256`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saml_digest_algorithm: Option<String>,
    /// Signature of requests, such as `rsa-sha256`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saml_signature_algorithm: Option<String>,
    /// Peculiarities, such as `adfs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saml_variant: Option<String>,
    /// Whether assertions have to be signed themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saml_assertion_signed_enabled: Option<bool>,
    /// Whether requests are signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saml_authn_requests_signed_enabled: Option<bool>,
    /// Whether the provider may begin a login by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saml_idp_login_allowed: Option<bool>,
    /// Whether a way of logging in is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saml_requested_authn_context_enabled: Option<bool>,
    /// Names of the attributes that carry email, names and identity.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub saml_field_mapping: BTreeMap<String, String>,
}

/// The protocols of identity providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdentityProviderKind {
    /// SAML 2.0.
    Saml,
    /// OpenID Connect.
    Oidc,
}
