//! `/v1/organizations` and `/v1/organization/{organization_id}`: the organizations that the caller belongs to.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::JsonBody;
use super::error::ErrorBody;
use super::{Admin, ApiError, Caller};
use crate::directory::model::{Organization, Timestamp};
use crate::directory::operations;

/// An organization, as Aiven's API shows it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Shown {
    organization_id: String,
    organization_name: String,
    /// The account of the same organization; here they are one.
    account_id: String,
    /// Postern has no tiers: always `business`.
    tier: &'static str,
    #[schema(value_type = String, format = DateTime)]
    create_time: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    update_time: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownList {
    organizations: Vec<Shown>,
}

/// What may change of an organization; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Changes {
    organization_name: Option<String>,
}

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show, change))
}

/// Lists the organizations that the caller belongs to.
#[utoipa::path(get, path = "/v1/organizations", tag = "organizations", security(("token" = [])), responses(
    (status = OK, body = ShownList),
    (status = UNAUTHORIZED, body = ErrorBody),
))]
async fn list(State(admin): State<Arc<Admin>>, caller: Caller) -> Result<Json<ShownList>, ApiError> {
    let user_id = caller.user_id().to_owned();
    let organizations = admin
        .read(move |records| {
            let memberships = records.memberships(&user_id)?.into_iter();
            let found = memberships.map(|membership| records.organization(&membership.organization_id));
            found.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()
        })
        .await?;
    // Whom an organization's policy keeps out does not see it here either.
    let reachable = organizations
        .into_iter()
        .filter(|organization| caller.require_member(&admin, &organization.id).is_ok())
        .map(Shown::from);
    Ok(Json(ShownList { organizations: reachable.collect() }))
}

/// Shows an organization.
#[utoipa::path(get, path = "/v1/organization/{organization_id}", tag = "organizations", security(("token" = [])),
    params(("organization_id" = String, Path)),
    responses(
        (status = OK, body = Shown),
        (status = UNAUTHORIZED, body = ErrorBody),
        (status = FORBIDDEN, body = ErrorBody),
        (status = NOT_FOUND, body = ErrorBody),
    ))]
async fn show(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Shown>, ApiError> {
    caller.require_member(&admin, &id)?;
    let wanted = id.clone();
    let found = admin.read(move |records| records.organization(&wanted)).await?;
    found
        .map(|organization| Json(organization.into()))
        .ok_or_else(|| ApiError::not_found("organization", &id))
}

/// Gives an organization another name.
#[utoipa::path(patch, path = "/v1/organization/{organization_id}", tag = "organizations", security(("token" = [])),
    params(("organization_id" = String, Path)), request_body = Changes,
    responses(
        (status = OK, body = Shown),
        (status = BAD_REQUEST, body = ErrorBody),
        (status = UNAUTHORIZED, body = ErrorBody),
        (status = FORBIDDEN, body = ErrorBody),
        (status = NOT_FOUND, body = ErrorBody),
    ))]
async fn change(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Path(id): Path<String>,
    JsonBody(changes): JsonBody<Changes>,
) -> Result<Json<Shown>, ApiError> {
    caller.require_organization_admin(&admin, &id)?;
    let Some(name) = changes.organization_name else {
        return show(State(admin), caller, Path(id)).await;
    };
    let changed = admin
        .change(caller.author(), move |store, now| operations::rename_organization(store, &id, &name, now))
        .await?;
    Ok(Json(changed.into()))
}

impl From<Organization> for Shown {
    fn from(organization: Organization) -> Self {
        Self {
            account_id: organization.id.clone(),
            organization_id: organization.id,
            organization_name: organization.name,
            tier: "business",
            create_time: organization.create_time,
            update_time: organization.update_time,
        }
    }
}
