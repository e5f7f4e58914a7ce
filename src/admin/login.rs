//! `/v1/userauth`: logging in with a password, and setting one with a code that an admin handed over.
//!
//! Which other ways there are for an address is in [`super::login_options`].

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::JsonBody;
use super::error::ErrorBody;
use super::proving::{self, Claim, Second};
use super::visitor::Visitor;
use super::{Admin, ApiError};
use crate::directory::operations::{self, CreatedToken};
use crate::token::TokenDigest;

/// What somebody logs in with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    #[schema(example = "jane@example.com")]
    email: String,
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// The one-time password, where two-factor authentication is on.
    otp: Option<String>,
    /// Postern has no tenants: not looked at.
    #[serde(rename = "tenant")]
    _tenant: Option<String>,
}

/// A code, and the password that somebody wants to have.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Setup {
    /// What an admin handed over: of an invitation, or of a password reset.
    #[schema(value_type = String)]
    code: SecretString,
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// Name of the person, for an account that is made now.
    #[schema(max_length = 128)]
    real_name: Option<String>,
}

/// A session that has just begun.
#[derive(Serialize, ToSchema)]
pub(super) struct LoggedIn {
    /// The session token. Keep it secret.
    token: String,
    state: &'static str,
    user_email: String,
}

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(log_in)).routes(routes!(set_up))
}

/// Logs in with a password.
#[utoipa::path(post, path = "/v1/userauth", tag = "login", request_body = Credentials, responses(
    (status = OK, body = LoggedIn),
    (status = UNAUTHORIZED, body = ErrorBody, description = "Address, password or one-time password is wrong."),
    (status = TOO_MANY_REQUESTS, body = ErrorBody, description = "Too many failed; `Retry-After` says when to return."),
    (status = NOT_EXTENDED, body = ErrorBody, description = "A one-time password is needed."),
))]
async fn log_in(
    State(admin): State<Arc<Admin>>,
    visitor: Visitor,
    JsonBody(credentials): JsonBody<Credentials>,
) -> Result<Json<LoggedIn>, ApiError> {
    let Credentials { email, password, otp, .. } = credentials;
    let claim = Claim { email, password, second: Second::IfEnabled(otp), address: visitor.address() };
    let proved = proving::prove(&admin, claim).await?;
    let terms = admin.login.session.beginning(admin.now());
    let author = visitor.author(Some(&proved.user_id));
    let user_id = proved.user_id.clone();
    let session =
        admin.change(author, move |store, now| operations::log_in(store, &proved, terms, now)).await?;
    logged_in(&admin, user_id, session).await
}

/// Sets the password of somebody who was handed a code, making their account if it is an invitation's, and logs in.
#[utoipa::path(post, path = "/v1/userauth/setup", tag = "login", request_body = Setup, responses(
    (status = OK, body = LoggedIn),
    (status = TOO_MANY_REQUESTS, body = ErrorBody),
))]
async fn set_up(
    State(admin): State<Arc<Admin>>,
    visitor: Visitor,
    JsonBody(setup): JsonBody<Setup>,
) -> Result<Json<LoggedIn>, ApiError> {
    // Before strength is judged: that compares with the name, letter by letter.
    setup.real_name.as_deref().map_or(Ok(()), operations::check_real_name)?;
    let code = TokenDigest::of(setup.code.expose_secret().trim().as_bytes());
    let now = admin.now();
    let whose = admin.read(move |records| operations::holder_of_code(records, &code, now)).await?;
    let whose = whose.ok_or_else(|| ApiError::from(operations::unusable_code()))?;
    let name = setup.real_name.unwrap_or(whose.name);
    let hash = proving::hash(&admin, "password", setup.password, &whose.email, &name).await?;
    let terms = admin.login.session.beginning(admin.now());
    let session = admin
        .change(visitor.author(whose.user_id.as_deref()), move |store, now| match whose.user_id {
            Some(_) => operations::finish_reset(store, &code, &hash, terms, now),
            None => operations::sign_up(store, &code, &name, &hash, terms, now),
        })
        .await?;
    let user_id = session.token.user_id.clone();
    // Who holds the code is where they log in from.
    admin.login.throttle.remember(&whose.email, visitor.address());
    logged_in(&admin, user_id, session).await
}

async fn logged_in(
    admin: &Admin,
    user_id: String,
    session: CreatedToken,
) -> Result<Json<LoggedIn>, ApiError> {
    let user = admin.read(move |records| records.user(&user_id)).await?;
    let user_email = user.map(|user| user.email).unwrap_or_default();
    let token = session.fresh.full.expose_secret().to_owned();
    Ok(Json(LoggedIn { token, state: "active", user_email }))
}
