//! `/v1/account`: the organization once more, as older parts of Aiven's clients know it. `avn organization update` and
//! Terraform's `aiven_organization` go this way.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::{JsonBody, PathParameters};
use super::{Admin, ApiError, Caller, organizations};
use crate::directory::model::{Organization, Timestamp};
use crate::directory::operations;

/// An organization as an account. Account and organization are one here, and so are their ids.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Account)]
pub(super) struct Shown {
    account_id: String,
    account_name: String,
    organization_id: String,
    root_account_id: String,
    #[schema(value_type = String, format = DateTime)]
    create_time: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    update_time: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AccountList)]
pub(super) struct ShownList {
    accounts: Vec<Shown>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AccountAnswer)]
pub(super) struct ShownOne {
    account: Shown,
}

/// What may change of an account; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AccountChanges)]
#[serde(deny_unknown_fields)]
pub(super) struct Changes {
    #[schema(min_length = 1, max_length = 128)]
    account_name: Option<String>,
    /// Postern knows no billing: not looked at.
    #[serde(rename = "primary_billing_group_id")]
    _primary_billing_group_id: Option<String>,
}

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show, change))
}

/// Lists the accounts that the caller belongs to.
#[utoipa::path(get, path = "/v1/account", tag = "organizations", security(("token" = [])),
    responses((status = OK, body = ShownList)))]
async fn list(State(admin): State<Arc<Admin>>, caller: Caller) -> Result<Json<ShownList>, ApiError> {
    let organizations = organizations::reachable(&admin, &caller).await?;
    Ok(Json(ShownList { accounts: organizations.into_iter().map(Shown::from).collect() }))
}

/// Shows an account.
#[utoipa::path(get, path = "/v1/account/{account_id}", tag = "organizations", security(("token" = [])),
    params(("account_id" = String, Path)),
    responses((status = OK, body = ShownOne)))]
async fn show(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(id): PathParameters<String>,
) -> Result<Json<ShownOne>, ApiError> {
    caller.require_member(&admin, &id)?;
    let wanted = id.clone();
    let found = admin.read(move |records| records.organization(&wanted)).await?;
    let organization = found.ok_or_else(|| ApiError::not_found("organization", &id))?;
    Ok(Json(ShownOne { account: organization.into() }))
}

/// Gives an account, and with it its organization, another name.
///
/// Needs an admin of the organization.
#[utoipa::path(put, path = "/v1/account/{account_id}", tag = "organizations", security(("token" = [])),
    params(("account_id" = String, Path)), request_body = Changes,
    responses((status = OK, body = ShownOne)))]
async fn change(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(id): PathParameters<String>,
    JsonBody(changes): JsonBody<Changes>,
) -> Result<Json<ShownOne>, ApiError> {
    caller.require_organization_admin(&admin, &id)?;
    let Some(name) = changes.account_name else {
        return show(State(admin), caller, PathParameters(id)).await;
    };
    let changed = admin
        .change(caller.author(), move |store, now| operations::rename_organization(store, &id, &name, now))
        .await?;
    Ok(Json(ShownOne { account: changed.into() }))
}

impl From<Organization> for Shown {
    fn from(organization: Organization) -> Self {
        Self {
            account_id: organization.id.clone(),
            account_name: organization.name,
            root_account_id: organization.id.clone(),
            organization_id: organization.id,
            create_time: organization.create_time,
            update_time: organization.update_time,
        }
    }
}
