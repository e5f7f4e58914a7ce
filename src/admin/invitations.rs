//! `…/invitation`: how people come to be members. The answer to an invitation of somebody without an account has the code
//! that whoever invited hands over: there is no mail server.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::{JsonBody, PathParameters};
use super::me::Empty;
use super::{Admin, ApiError, Caller};
use crate::directory::model::{Invitation, Resource, Timestamp};
use crate::directory::operations;
use crate::policy::Permission;
use crate::policy::facts::UserKind;

/// An invitation that has not been accepted.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Invitation)]
pub(super) struct Shown {
    user_email: String,
    /// Who invited; `null`: somebody at the command line.
    invited_by: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    create_time: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    expiry_time: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InvitationList)]
pub(super) struct ShownList {
    invitations: Vec<Shown>,
}

/// An invitation just made.
#[derive(Serialize, ToSchema)]
#[schema(as = CreatedInvitation)]
pub(super) struct Created {
    invitation: Shown,
    /// For somebody without an account: hand it over. With it the person sets a password at `POST /v1/userauth/setup`
    /// and becomes a member. Shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewInvitation)]
#[serde(deny_unknown_fields)]
pub(super) struct New {
    #[schema(example = "jane@example.com", max_length = 128)]
    user_email: String,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = InvitationAnswer)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    /// `accept`.
    #[schema(example = "accept")]
    action: String,
}

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(accept, delete))
}

/// Lists the invitations that can be accepted.
#[utoipa::path(get, path = "/v1/organization/{organization_id}/invitation", tag = "organization users",
    security(("token" = [])), params(("organization_id" = String, Path)),
    responses((status = OK, body = ShownList)))]
async fn list(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(organization_id): PathParameters<String>,
) -> Result<Json<ShownList>, ApiError> {
    require(&admin, &caller, &organization_id)?;
    let invitations = admin.read(move |records| records.invitations(&organization_id)).await?;
    let pending = invitations.into_iter().filter(|invitation| invitation.expiry_time > caller.now());
    Ok(Json(ShownList { invitations: pending.map(Shown::from).collect() }))
}

/// Invites an address.
#[utoipa::path(post, path = "/v1/organization/{organization_id}/invitation", tag = "organization users",
    security(("token" = [])), params(("organization_id" = String, Path)), request_body = New,
    responses((status = CREATED, body = Created)))]
async fn create(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(organization_id): PathParameters<String>,
    JsonBody(new): JsonBody<New>,
) -> Result<(StatusCode, Json<Created>), ApiError> {
    require(&admin, &caller, &organization_id)?;
    let inviter = caller.user_id().to_owned();
    let invited = admin
        .change(caller.author(), move |store, now| {
            operations::invite(store, &organization_id, &new.user_email, Some(&inviter), now)
        })
        .await?;
    let code = invited.code.map(|code| code.expose_secret().to_owned());
    Ok((StatusCode::CREATED, Json(Created { invitation: invited.invitation.into(), code })))
}

/// Accepts an invitation. Only whom it is for can.
#[utoipa::path(post, path = "/v1/organization/{organization_id}/invitation/{user_email}", tag = "organization users",
    security(("token" = [])), params(("organization_id" = String, Path), ("user_email" = String, Path)),
    request_body = Answer,
    responses((status = OK, body = Empty)))]
async fn accept(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, email)): PathParameters<(String, String)>,
    JsonBody(answer): JsonBody<Answer>,
) -> Result<Json<Empty>, ApiError> {
    caller.require_own(&admin, Permission::UserWrite)?;
    if answer.action != "accept" {
        return Err(ApiError::bad_request("action", "must be `accept`"));
    }
    let email = email.trim().to_lowercase();
    let user_id = caller.user_id().to_owned();
    let user = admin.read(move |records| records.user(&user_id)).await?;
    // Whoever is not invited does not learn who is.
    if caller.user_kind() != UserKind::OrganizationUser || user.is_none_or(|user| user.email != email) {
        return Err(ApiError::not_found("invitation", &email));
    }
    let user_id = caller.user_id().to_owned();
    admin
        .change(caller.author(), move |store, now| {
            operations::accept_invitation(store, &organization_id, &user_id, now)
        })
        .await?;
    Ok(Json(Empty {}))
}

/// Takes an invitation back.
#[utoipa::path(delete, path = "/v1/organization/{organization_id}/invitation/{user_email}", tag = "organization users",
    security(("token" = [])), params(("organization_id" = String, Path), ("user_email" = String, Path)),
    responses((status = OK, body = Empty)))]
async fn delete(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, email)): PathParameters<(String, String)>,
) -> Result<Json<Empty>, ApiError> {
    require(&admin, &caller, &organization_id)?;
    admin
        .change(caller.author(), move |store, now| {
            operations::delete_invitation(store, &organization_id, &email, now)
        })
        .await?;
    Ok(Json(Empty {}))
}

fn require(admin: &Admin, caller: &Caller, organization_id: &str) -> Result<(), ApiError> {
    let organization = Resource::Organization(organization_id.to_owned());
    caller.require(admin, &organization, Permission::OrganizationUsersWrite)
}

impl From<Invitation> for Shown {
    fn from(invitation: Invitation) -> Self {
        Self {
            user_email: invitation.user_email,
            invited_by: invitation.inviter_user_id,
            create_time: invitation.create_time,
            expiry_time: invitation.expiry_time,
        }
    }
}
