//! `/v1/userauth/login_options`: how somebody with an address logs in.
//!
//! It must answer the same for addresses that have an account and those that have none: who asks has proved nothing. So
//! it goes by the address's domain, which an organization has verified and linked to an identity provider, or has not.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::JsonBody;
use super::{Admin, ApiError};
use crate::directory::StoreError;
use crate::directory::operations::Via;
use crate::directory::store::Records;
use crate::login::identity::{canonical_email, email_domain};
use crate::login::sign_in;
use crate::login::sign_in::flow::via_text;
use crate::policy::method::ThirdParty;

/// Who wants to log in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    email: Option<String>,
}

/// How to log in. `action` and what goes with it is the way for this email address; `login_methods` are all that there
/// are for everybody.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LoginOptions {
    #[serde(flatten)]
    best: LoginOption,
    login_methods: Vec<LoginOption>,
}

/// A way to log in.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct LoginOption {
    /// `password`; `saml` for an identity provider of any kind; `google_oauth`, `azure_oauth` or `github_oauth`.
    action: &'static str,
    /// HTTP method for `redirect_url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'static str>,
    /// Name of the provider as people know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Where the browser is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    redirect_url: Option<String>,
}

const PASSWORD: LoginOption =
    LoginOption { action: "password", method: None, name: None, redirect_url: None };

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(login_options))
}

/// Says how to log in.
#[utoipa::path(post, path = "/v1/userauth/login_options", tag = "login", request_body = Question,
    responses((status = OK, body = LoginOptions)))]
async fn login_options(
    State(admin): State<Arc<Admin>>,
    JsonBody(question): JsonBody<Question>,
) -> Result<Json<LoginOptions>, ApiError> {
    let domain = match &question.email {
        None => None,
        Some(email) => {
            let email = canonical_email(email);
            let email = email.ok_or_else(|| ApiError::bad_request("email", "must be an email address"))?;
            email_domain(&email).map(str::to_owned)
        }
    };
    let settings = admin.settings();
    let Ok(public_url) = settings.others.public_url() else {
        return Ok(Json(LoginOptions { best: PASSWORD, login_methods: vec![PASSWORD] }));
    };
    let provider = match domain {
        Some(domain) => admin.read(move |records| provider_for(records, &domain)).await?,
        None => None,
    };
    let through = |action, name: &str, via: &Via| LoginOption {
        action,
        method: Some("GET"),
        name: Some(name.to_owned()),
        redirect_url: Some(format!("{public_url}/v1/userauth/sign_in/{}", via_text(via))),
    };
    let third_parties = settings.others.third_parties().map(|kind| {
        let (action, name) = match kind {
            ThirdParty::Google => ("google_oauth", "Google"),
            ThirdParty::Microsoft => ("azure_oauth", "Microsoft"),
            ThirdParty::GitHub => ("github_oauth", "GitHub"),
        };
        through(action, name, &Via::ThirdParty(kind))
    });
    let login_methods = std::iter::once(PASSWORD).chain(third_parties).collect();
    let best = provider.map_or(PASSWORD, |(id, name)| through("saml", &name, &Via::IdentityProvider(id)));
    Ok(Json(LoginOptions { best, login_methods }))
}

/// The enabled identity provider that logs in people of a domain: of several the one made first.
fn provider_for(records: &dyn Records, domain: &str) -> Result<Option<(String, String)>, StoreError> {
    let Some(domain) = records.verified_domain(domain)? else { return Ok(None) };
    let providers = records.identity_providers(&domain.organization_id)?.into_iter();
    let fitting = providers.filter(|provider| {
        provider.linked_domain_ids.contains(&domain.id) && sign_in::identity_provider(provider, None).is_ok()
    });
    let first = fitting.min_by(|a, b| (a.create_time, &a.id).cmp(&(b.create_time, &b.id)));
    Ok(first.map(|provider| (provider.id, provider.name)))
}
