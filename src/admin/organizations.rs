//! `/v1/organizations` and `/v1/organization/{organization_id}`: the organizations that the caller belongs to.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::{JsonBody, PathParameters};
use super::version::{self, Versioned};
use super::{Admin, ApiError, Caller};
use crate::directory::OperationError;
use crate::directory::guarded::GuardedStore;
use crate::directory::model::{Organization, Timestamp};
use crate::directory::operations;
use crate::directory::store::Records;

/// An organization.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Organization)]
pub(super) struct Shown {
    #[schema(example = "org1a2b3c4d5e6")]
    organization_id: String,
    organization_name: String,
    /// The account of the same organization; here they are one.
    account_id: String,
    tier: Tier,
    #[schema(value_type = String, format = DateTime)]
    create_time: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    update_time: Timestamp,
}

/// Postern has no tiers: every organization has all there is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Tier {
    Business,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrganizationList)]
pub(super) struct ShownList {
    organizations: Vec<Shown>,
}

/// What may change of an organization; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OrganizationChanges)]
#[serde(deny_unknown_fields)]
pub(super) struct Changes {
    #[schema(min_length = 1, max_length = 128)]
    organization_name: Option<String>,
    /// The same, as Aiven's Go client calls it.
    #[schema(min_length = 1, max_length = 128)]
    name: Option<String>,
    #[serde(rename = "tier")]
    _tier: Option<Tier>,
}

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show, change))
}

/// Lists the organizations that the caller belongs to.
#[utoipa::path(get, path = "/v1/organizations", tag = "organizations", security(("token" = [])),
    responses((status = OK, body = ShownList)))]
async fn list(State(admin): State<Arc<Admin>>, caller: Caller) -> Result<Json<ShownList>, ApiError> {
    let organizations = reachable(&admin, &caller).await?;
    Ok(Json(ShownList { organizations: organizations.into_iter().map(Shown::from).collect() }))
}

/// Shows an organization.
#[utoipa::path(get, path = "/v1/organization/{organization_id}", tag = "organizations", security(("token" = [])),
    params(("organization_id" = String, Path)),
    responses((status = OK, body = Shown)))]
async fn show(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(id): PathParameters<String>,
) -> Result<Versioned<Shown>, ApiError> {
    caller.require_member(&admin, &id)?;
    let wanted = id.clone();
    let found = admin.read(move |records| records.organization(&wanted)).await?;
    let organization = found.ok_or_else(|| ApiError::not_found("organization", &id))?;
    Ok(Versioned(organization.into()))
}

/// Gives an organization another name.
///
/// Needs an admin of the organization.
#[utoipa::path(patch, path = "/v1/organization/{organization_id}", tag = "organizations",
    security(("token" = [])), params(("organization_id" = String, Path)), request_body = Changes,
    responses((status = OK, body = Shown)))]
async fn change(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(id): PathParameters<String>,
    headers: HeaderMap,
    JsonBody(changes): JsonBody<Changes>,
) -> Result<Versioned<Shown>, ApiError> {
    caller.require_organization_admin(&admin, &id)?;
    let name = match (changes.organization_name, changes.name) {
        (Some(name), Some(other)) if name != other => {
            return Err(ApiError::bad_request("name", "is not the same as organization_name"));
        }
        (Some(name), _) | (None, Some(name)) => name,
        (None, None) => return show(State(admin), caller, PathParameters(id)).await,
    };
    let expected = version::expected(&headers);
    let changed = admin
        .change(caller.author(), move |store, now| {
            let condition = |records: &dyn Records| {
                let not_found = || OperationError::NotFound { entity: "organization", id: id.clone() };
                let current = records.organization(&id)?.ok_or_else(not_found)?;
                expected.check("organization", &id, &Shown::from(current))
            };
            operations::rename_organization(&GuardedStore::new(store, &condition), &id, &name, now)
        })
        .await?;
    Ok(Versioned(changed.into()))
}

/// The organizations that the caller belongs to and that let the caller in: whom an organization's policy keeps out does
/// not see it.
pub(super) async fn reachable(admin: &Admin, caller: &Caller) -> Result<Vec<Organization>, ApiError> {
    let user_id = caller.user_id().to_owned();
    let organizations = admin
        .read(move |records| {
            let memberships = records.memberships(&user_id)?.into_iter();
            let found = memberships.map(|membership| records.organization(&membership.organization_id));
            found.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()
        })
        .await?;
    let lets_in = |organization: &Organization| caller.require_member(admin, &organization.id).is_ok();
    Ok(organizations.into_iter().filter(lets_in).collect())
}

impl From<Organization> for Shown {
    fn from(organization: Organization) -> Self {
        Self {
            account_id: organization.id.clone(),
            organization_id: organization.id,
            organization_name: organization.name,
            tier: Tier::Business,
            create_time: organization.create_time,
            update_time: organization.update_time,
        }
    }
}
