//! `/v1/organization/{organization_id}/permissions/{resource_type}/{resource_id}`: who has been granted what on an
//! organization, a unit or a project.
//!
//! Each request that changes something is one transaction: all of it happens, or nothing.

use std::sync::Arc;

use axum::extract::State;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::{JsonBody, Object, PathParameters};
use super::version::{self, Versioned};
use super::{Admin, ApiError, Caller};
use crate::directory::OperationError;
use crate::directory::guarded::GuardedStore;
use crate::directory::model::{Grant, Principal, Resource, Timestamp};
use crate::directory::operations::{self, Assignment, AssignmentOperation};
use crate::directory::store::Records;
use crate::policy::Permission;

/// What one user or group has on the resource.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Grant)]
pub(super) struct Shown {
    principal_id: String,
    principal_type: PrincipalType,
    /// Names of permissions and roles, sorted.
    #[schema(example = json!(["developer"]))]
    permissions: Vec<String>,
    #[schema(value_type = String, format = DateTime)]
    create_time: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    update_time: Timestamp,
}

/// All grants on the resource itself; what is granted above it holds here too and is listed there.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = GrantList)]
pub(super) struct ShownList {
    permissions: Vec<Shown>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum PrincipalType {
    User,
    UserGroup,
}

/// What one user or group is to have.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = GrantRequest)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[schema(example = "u1a2b3c4d5e6f")]
    principal_id: String,
    principal_type: PrincipalType,
    /// Names of permissions and roles; none: nothing is left.
    #[schema(example = json!(["developer"]))]
    permissions: Vec<String>,
}

/// All grants that are to be on the resource.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = GrantReplacement)]
#[serde(deny_unknown_fields)]
pub(super) struct Replacement {
    #[schema(value_type = Vec<Wanted>)]
    permissions: Vec<Object<Wanted>>,
}

/// A change of what some users and groups have; of all others nothing changes.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = GrantChanges)]
#[serde(deny_unknown_fields)]
pub(super) struct Changes {
    /// `set` if left out.
    operation: Option<Operation>,
    #[schema(value_type = Vec<Wanted>)]
    permissions: Vec<Object<Wanted>>,
}

/// `set` replaces what each principal has, `grant` adds to it, `revoke` takes away from it.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[schema(as = GrantOperation)]
#[serde(rename_all = "snake_case")]
pub(super) enum Operation {
    Set,
    Grant,
    Revoke,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ResourceType {
    Organization,
    OrganizationUnit,
    Project,
}

/// Organization, kind of resource, and its id.
type Place = (String, ResourceType, String);

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(list, replace, change))
}

/// Lists the grants on a resource.
///
/// Needs `project:permissions:read` on it.
#[utoipa::path(get, path = "/v1/organization/{organization_id}/permissions/{resource_type}/{resource_id}",
    tag = "permissions", security(("token" = [])),
    params(("organization_id" = String, Path), ("resource_type" = inline(ResourceType), Path),
        ("resource_id" = String, Path)),
    responses((status = OK, body = ShownList)))]
async fn list(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(place): PathParameters<Place>,
) -> Result<Versioned<ShownList>, ApiError> {
    let resource = resource(&admin, &caller, place)?;
    caller.require(&admin, &resource, Permission::ProjectPermissionsRead)?;
    let grants = admin.read(move |records| records.grants_on(&resource)).await?;
    Ok(Versioned(grants.into()))
}

/// Makes these the only grants on a resource.
///
/// Needs an admin of the organization, or of the unit or project.
#[utoipa::path(put, path = "/v1/organization/{organization_id}/permissions/{resource_type}/{resource_id}",
    tag = "permissions", security(("token" = [])),
    params(("organization_id" = String, Path), ("resource_type" = inline(ResourceType), Path),
        ("resource_id" = String, Path)),
    request_body = Replacement, responses((status = OK, body = ShownList)))]
async fn replace(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(place): PathParameters<Place>,
    headers: HeaderMap,
    JsonBody(replacement): JsonBody<Replacement>,
) -> Result<Versioned<ShownList>, ApiError> {
    let resource = resource(&admin, &caller, place)?;
    caller.require_resource_admin(&admin, &resource)?;
    let assignments = assignments(replacement.permissions);
    let expected = version::expected(&headers);
    let grants = admin
        .change(caller.author(), move |store, now| {
            let condition = |records: &dyn Records| is_as_expected(records, &resource, &expected);
            operations::replace_grants(&GuardedStore::new(store, &condition), &resource, &assignments, now)
        })
        .await?;
    Ok(Versioned(grants.into()))
}

/// Changes what some users and groups have on a resource.
///
/// Needs an admin of the organization, or of the unit or project.
#[utoipa::path(patch, path = "/v1/organization/{organization_id}/permissions/{resource_type}/{resource_id}",
    tag = "permissions", security(("token" = [])),
    params(("organization_id" = String, Path), ("resource_type" = inline(ResourceType), Path),
        ("resource_id" = String, Path)),
    request_body = Changes, responses((status = OK, body = ShownList)))]
async fn change(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(place): PathParameters<Place>,
    headers: HeaderMap,
    JsonBody(changes): JsonBody<Changes>,
) -> Result<Versioned<ShownList>, ApiError> {
    let resource = resource(&admin, &caller, place)?;
    caller.require_resource_admin(&admin, &resource)?;
    let operation = match changes.operation {
        None | Some(Operation::Set) => AssignmentOperation::Set,
        Some(Operation::Grant) => AssignmentOperation::Grant,
        Some(Operation::Revoke) => AssignmentOperation::Revoke,
    };
    let assignments = assignments(changes.permissions);
    let expected = version::expected(&headers);
    let grants = admin
        .change(caller.author(), move |store, now| {
            let condition = |records: &dyn Records| is_as_expected(records, &resource, &expected);
            let store = GuardedStore::new(store, &condition);
            operations::change_grants(&store, &resource, operation, &assignments, now)
        })
        .await?;
    Ok(Versioned(grants.into()))
}

/// The resource that the path names, if it is one of the organization that the path names.
fn resource(
    admin: &Admin,
    caller: &Caller,
    (organization_id, kind, id): Place,
) -> Result<Resource, ApiError> {
    caller.require_member(admin, &organization_id)?;
    let (entity, resource) = match kind {
        ResourceType::Organization => ("organization", Resource::Organization(id.clone())),
        ResourceType::OrganizationUnit => ("organizational unit", Resource::OrganizationUnit(id.clone())),
        ResourceType::Project => ("project", Resource::Project(id.clone())),
    };
    let place = admin.shared.directory.resource(&resource);
    let place = place.and_then(|place| place.current.load_full());
    match place {
        Some(place) if place.organization.id == organization_id.as_str() => Ok(resource),
        _ => Err(ApiError::not_found(entity, &id)),
    }
}

fn is_as_expected(
    records: &dyn Records,
    resource: &Resource,
    expected: &version::Expected,
) -> Result<(), OperationError> {
    let current = ShownList::from(records.grants_on(resource)?);
    expected.check("permissions of", resource_id(resource), &current)
}

fn resource_id(resource: &Resource) -> &str {
    match resource {
        Resource::Organization(id) | Resource::OrganizationUnit(id) | Resource::Project(id) => id,
    }
}

fn assignments(wanted: Vec<Object<Wanted>>) -> Vec<Assignment> {
    let assignment = |Object(wanted): Object<Wanted>| Assignment {
        principal: match wanted.principal_type {
            PrincipalType::User => Principal::User(wanted.principal_id),
            PrincipalType::UserGroup => Principal::UserGroup(wanted.principal_id),
        },
        names: wanted.permissions,
    };
    wanted.into_iter().map(assignment).collect()
}

impl From<Vec<Grant>> for ShownList {
    fn from(grants: Vec<Grant>) -> Self {
        Self { permissions: grants.into_iter().map(Shown::from).collect() }
    }
}

impl From<Grant> for Shown {
    fn from(grant: Grant) -> Self {
        let (principal_type, principal_id) = match grant.principal {
            Principal::User(id) => (PrincipalType::User, id),
            Principal::UserGroup(id) => (PrincipalType::UserGroup, id),
        };
        Self {
            principal_id,
            principal_type,
            permissions: grant.permissions,
            create_time: grant.create_time,
            update_time: grant.update_time,
        }
    }
}
