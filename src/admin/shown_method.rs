//! An authentication method as the API shows it.

use serde::Serialize;
use utoipa::ToSchema;

use crate::directory::StoreError;
use crate::directory::model::{MethodKind, Timestamp};
use crate::directory::store::Records;

/// A way in which a person logs in.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UserAuthenticationMethod)]
pub(super) struct ShownMethod {
    user_authentication_method_id: String,
    /// `password`, `google_oauth`, `azure_oauth`, `github_oauth`, or `saml` for any identity provider.
    #[schema(value_type = String)]
    method_type: &'static str,
    /// The identity provider, by id.
    #[serde(skip_serializing_if = "Option::is_none")]
    authentication_method_id: Option<String>,
    /// The identity provider's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Whether two-factor authentication is set up; of the password only.
    #[serde(skip_serializing_if = "Option::is_none")]
    is_enabled_2fa: Option<bool>,
    #[schema(value_type = String, format = DateTime)]
    create_time: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UserAuthenticationMethodList)]
pub(super) struct ShownMethodList {
    pub(super) authentication_methods: Vec<ShownMethod>,
}

impl ShownMethod {
    /// Those of a user.
    pub(super) fn all_of(records: &dyn Records, user_id: &str) -> Result<Vec<Self>, StoreError> {
        let two_factor_enabled = records.user(user_id)?.is_some_and(|user| user.two_factor_enabled);
        let mut shown = Vec::new();
        for method in records.authentication_methods(user_id)? {
            let provider = match &method.identity_provider_id {
                Some(id) => records.identity_provider(id)?,
                None => None,
            };
            shown.push(Self {
                user_authentication_method_id: method.id,
                method_type: kind_word(method.kind),
                is_enabled_2fa: (method.kind == MethodKind::Password).then_some(two_factor_enabled),
                authentication_method_id: method.identity_provider_id,
                name: provider.map(|provider| provider.name),
                create_time: method.create_time,
            });
        }
        Ok(shown)
    }
}

/// The word of Aiven's API for a kind of method.
pub(super) fn kind_word(kind: MethodKind) -> &'static str {
    match kind {
        MethodKind::Password => "password",
        MethodKind::Google => "google_oauth",
        MethodKind::Microsoft => "azure_oauth",
        MethodKind::GitHub => "github_oauth",
        MethodKind::IdentityProvider => "saml",
    }
}
