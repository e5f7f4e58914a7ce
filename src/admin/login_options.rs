//! `/v1/userauth/login_options`: how somebody with an address logs in.
//!
//! [`options`] is where other ways than the password come in. It must answer the same for addresses that have an account
//! and those that have none: who asks has proved nothing.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::JsonBody;
use super::error::ErrorBody;
use super::{Admin, ApiError};

/// Who wants to log in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    email: Option<String>,
}

/// A way to log in.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LoginOption {
    /// `password`, or the kind of provider that the browser is sent to.
    action: &'static str,
    /// Authentication method, for identity providers.
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    /// Name of the provider as people know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Where the browser is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    redirect_url: Option<String>,
}

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(login_options))
}

/// Says how to log in.
#[utoipa::path(post, path = "/v1/userauth/login_options", tag = "login", security(()), request_body = Question,
    responses((status = OK, body = LoginOption), (status = BAD_REQUEST, body = ErrorBody)))]
async fn login_options(
    State(admin): State<Arc<Admin>>,
    JsonBody(question): JsonBody<Question>,
) -> Result<Json<LoginOption>, ApiError> {
    options(&admin, question.email.as_deref()).await.map(Json)
}

/// The way that comes first.
async fn options(_admin: &Arc<Admin>, _email: Option<&str>) -> Result<LoginOption, ApiError> {
    Ok(LoginOption { action: "password", method: None, name: None, redirect_url: None })
}
