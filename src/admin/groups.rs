//! `/v1/organization/{organization_id}/user-groups`: groups of users and their members.
//!
//! Members of a group have what the group has been granted. Who manages groups without being an admin of the
//! organization therefore changes only groups that have no more than they have themselves: members, name, and whether there
//! is one. A name that is free again could be given to another group.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::{JsonBody, PathParameters};
use super::member::{self, ShownMember};
use super::version::{self, Versioned};
use super::{Admin, ApiError, Caller};
use crate::directory::guarded::GuardedStore;
use crate::directory::model::{Group, Principal, Resource, Timestamp};
use crate::directory::operations::{self, GroupUpdate};
use crate::directory::store::Records;
use crate::directory::{Changed, OperationError, StoreError};
use crate::policy::{Permission, permission};

/// A group.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = UserGroup)]
pub(super) struct Shown {
    #[schema(example = "ug1a2b3c4d5e6f")]
    user_group_id: String,
    user_group_name: String,
    description: String,
    /// Whether an identity provider keeps its members.
    managed_by_scim: bool,
    member_count: usize,
    #[schema(value_type = String, format = DateTime)]
    create_time: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    update_time: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UserGroupList)]
pub(super) struct ShownList {
    user_groups: Vec<Shown>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UserGroupMembers)]
pub(super) struct Members {
    members: Vec<ShownMember>,
}

/// What a group is made from.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewUserGroup)]
#[serde(deny_unknown_fields)]
pub(super) struct New {
    /// Unique in the organization.
    #[schema(min_length = 1, max_length = 128, example = "operators")]
    user_group_name: String,
    #[schema(max_length = 1000)]
    description: Option<String>,
}

/// What may change of a group; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = UserGroupChanges)]
#[serde(deny_unknown_fields)]
pub(super) struct Changes {
    #[schema(min_length = 1, max_length = 128)]
    user_group_name: Option<String>,
    #[schema(max_length = 1000)]
    description: Option<String>,
}

/// Who comes in or goes out.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = UserGroupMemberChanges)]
#[serde(deny_unknown_fields)]
pub(super) struct MemberChanges {
    operation: MemberOperation,
    member_ids: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum MemberOperation {
    AddMembers,
    RemoveMembers,
}

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, change, delete))
        .routes(routes!(list_members, change_members))
        .routes(routes!(list_of_user))
}

/// Lists the groups.
///
/// Needs `organization:groups:write`.
#[utoipa::path(get, path = "/v1/organization/{organization_id}/user-groups", tag = "groups",
    security(("token" = [])), params(("organization_id" = String, Path)),
    responses((status = OK, body = ShownList)))]
async fn list(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(organization_id): PathParameters<String>,
) -> Result<Json<ShownList>, ApiError> {
    require_manager(&admin, &caller, &organization_id)?;
    let user_groups = admin
        .read(move |records| {
            let groups = records.groups(&organization_id)?.into_iter();
            groups.map(|group| Shown::new(records, group)).collect()
        })
        .await?;
    Ok(Json(ShownList { user_groups }))
}

/// Makes a group without members.
///
/// Needs `organization:groups:write`.
#[utoipa::path(post, path = "/v1/organization/{organization_id}/user-groups", tag = "groups",
    security(("token" = [])), params(("organization_id" = String, Path)), request_body = New,
    responses((status = CREATED, body = Shown)))]
async fn create(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(organization_id): PathParameters<String>,
    JsonBody(new): JsonBody<New>,
) -> Result<(StatusCode, Json<Shown>), ApiError> {
    require_manager(&admin, &caller, &organization_id)?;
    let made = admin
        .change(caller.author(), move |store, now| {
            let description = new.description.unwrap_or_default();
            operations::create_group(store, &organization_id, &new.user_group_name, &description, now)
        })
        .await?;
    Ok((StatusCode::CREATED, Json(Shown::with_count(made, 0))))
}

/// Shows a group.
///
/// Needs `organization:groups:write`.
#[utoipa::path(get, path = "/v1/organization/{organization_id}/user-groups/{user_group_id}", tag = "groups",
    security(("token" = [])), params(("organization_id" = String, Path), ("user_group_id" = String, Path)),
    responses((status = OK, body = Shown)))]
async fn show(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, id)): PathParameters<(String, String)>,
) -> Result<Versioned<Shown>, ApiError> {
    require_manager(&admin, &caller, &organization_id)?;
    Ok(Versioned(find(&admin, &organization_id, &id).await?))
}

/// Changes a group.
///
/// Needs `organization:groups:write`, and whatever the group has been granted.
#[utoipa::path(patch, path = "/v1/organization/{organization_id}/user-groups/{user_group_id}", tag = "groups",
    security(("token" = [])), params(("organization_id" = String, Path), ("user_group_id" = String, Path)),
    request_body = Changes, responses((status = OK, body = Shown)))]
async fn change(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, id)): PathParameters<(String, String)>,
    headers: HeaderMap,
    JsonBody(changes): JsonBody<Changes>,
) -> Result<Versioned<Shown>, ApiError> {
    require_manager(&admin, &caller, &organization_id)?;
    let update = GroupUpdate { name: changes.user_group_name, description: changes.description };
    let expected = version::expected(&headers);
    let (organization, group) = (organization_id.clone(), id.clone());
    let here = Arc::clone(&admin);
    admin
        .change(caller.author(), move |store, now| {
            let condition = |records: &dyn Records| {
                is_as_expected(records, &organization, &group, &expected)?;
                check_has_as_much(&here, &caller, records, &organization, &group)
            };
            operations::update_group(&GuardedStore::new(store, &condition), &group, &update, now)
        })
        .await?;
    Ok(Versioned(find(&admin, &organization_id, &id).await?))
}

/// Deletes a group: its members lose what they had through it.
///
/// Needs `organization:groups:write`, and whatever the group has been granted.
#[utoipa::path(delete, path = "/v1/organization/{organization_id}/user-groups/{user_group_id}", tag = "groups",
    security(("token" = [])), params(("organization_id" = String, Path), ("user_group_id" = String, Path)),
    responses((status = NO_CONTENT)))]
async fn delete(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, id)): PathParameters<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    require_manager(&admin, &caller, &organization_id)?;
    let expected = version::expected(&headers);
    let here = Arc::clone(&admin);
    admin
        .change(caller.author(), move |store, now| {
            let condition = |records: &dyn Records| {
                is_as_expected(records, &organization_id, &id, &expected)?;
                check_has_as_much(&here, &caller, records, &organization_id, &id)
            };
            operations::delete_group(&GuardedStore::new(store, &condition), &id, now)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the members of a group.
///
/// Needs `organization:groups:write`.
#[utoipa::path(get, path = "/v1/organization/{organization_id}/user-groups/{user_group_id}/members",
    tag = "groups", security(("token" = [])),
    params(("organization_id" = String, Path), ("user_group_id" = String, Path)),
    responses((status = OK, body = Members)))]
async fn list_members(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, id)): PathParameters<(String, String)>,
) -> Result<Json<Members>, ApiError> {
    require_manager(&admin, &caller, &organization_id)?;
    members(&admin, organization_id, id).await
}

/// Adds members to a group or takes them out of it; who is in or out already stays so.
///
/// Needs `organization:groups:write`, and whatever the group has been granted.
#[utoipa::path(patch, path = "/v1/organization/{organization_id}/user-groups/{user_group_id}/members",
    tag = "groups", security(("token" = [])),
    params(("organization_id" = String, Path), ("user_group_id" = String, Path)),
    request_body = MemberChanges, responses((status = OK, body = Members)))]
async fn change_members(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, id)): PathParameters<(String, String)>,
    JsonBody(changes): JsonBody<MemberChanges>,
) -> Result<Json<Members>, ApiError> {
    require_manager(&admin, &caller, &organization_id)?;
    find(&admin, &organization_id, &id).await?;
    let (organization, group) = (organization_id.clone(), id.clone());
    let (author, here) = (caller.author(), Arc::clone(&admin));
    admin
        .change(author, move |store, now| -> Result<Changed<()>, OperationError> {
            let is_allowed = |records: &dyn Records| {
                found_in(records, &organization, &group)?;
                check_has_as_much(&here, &caller, records, &organization, &group)
            };
            let store = GuardedStore::new(store, &is_allowed);
            match changes.operation {
                MemberOperation::AddMembers => {
                    operations::add_group_members(&store, &group, &changes.member_ids, now)
                }
                MemberOperation::RemoveMembers => {
                    operations::remove_group_members(&store, &group, &changes.member_ids, now)
                }
            }
        })
        .await?;
    members(&admin, organization_id, id).await
}

/// Lists the organization's groups that a user is in.
///
/// Needs `organization:groups:write`.
#[utoipa::path(get, path = "/v1/organization/{organization_id}/user/{user_id}/user-groups", tag = "groups",
    security(("token" = [])), params(("organization_id" = String, Path), ("user_id" = String, Path)),
    responses((status = OK, body = ShownList)))]
async fn list_of_user(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, user_id)): PathParameters<(String, String)>,
) -> Result<Json<ShownList>, ApiError> {
    require_manager(&admin, &caller, &organization_id)?;
    let user = user_id.clone();
    let found = admin
        .read(move |records| {
            let mut memberships = records.memberships(&user)?.into_iter();
            if !memberships.any(|membership| membership.organization_id == organization_id) {
                return Ok(None);
            }
            let groups = records.groups_of_user(&user)?.into_iter();
            let here = groups.filter(|group| group.organization_id == organization_id);
            here.map(|group| Shown::new(records, group)).collect::<Result<Vec<_>, _>>().map(Some)
        })
        .await?;
    let user_groups = found.ok_or_else(|| ApiError::not_found("user", &user_id))?;
    Ok(Json(ShownList { user_groups }))
}

fn require_manager(admin: &Admin, caller: &Caller, organization_id: &str) -> Result<(), ApiError> {
    let organization = Resource::Organization(organization_id.to_owned());
    caller.require(admin, &organization, Permission::OrganizationGroupsWrite)
}

/// Asks that the caller has whatever the members of a group have through it, as it is in the transaction that changes it.
fn check_has_as_much(
    admin: &Admin,
    caller: &Caller,
    records: &dyn Records,
    organization_id: &str,
    id: &str,
) -> Result<(), OperationError> {
    if caller.require_organization_admin(admin, organization_id).is_ok() {
        return Ok(());
    }
    let grants = records.grants_of(&Principal::UserGroup(id.to_owned()))?;
    let has_as_much = grants.iter().all(|grant| {
        permission::expand(&grant.permissions)
            .is_ok_and(|granted| caller.require_all(admin, &grant.resource, granted).is_ok())
    });
    if has_as_much {
        return Ok(());
    }
    Err(OperationError::Forbidden {
        code: "group_has_more_than_caller",
        message: "This group has been granted more than the user of this token holds: only an admin of the organization \
                  changes it."
            .to_owned(),
    })
}

async fn find(admin: &Admin, organization_id: &str, id: &str) -> Result<Shown, ApiError> {
    let (organization, group) = (organization_id.to_owned(), id.to_owned());
    let found = admin
        .read(move |records| match records.group(&group)? {
            Some(found) if found.organization_id == organization => Shown::new(records, found).map(Some),
            _ => Ok(None),
        })
        .await?;
    found.ok_or_else(|| ApiError::not_found("group", id))
}

fn found_in(records: &dyn Records, organization_id: &str, id: &str) -> Result<Group, OperationError> {
    let found = records.group(id)?.filter(|group| group.organization_id == organization_id);
    found.ok_or_else(|| OperationError::NotFound { entity: "group", id: id.to_owned() })
}

fn is_as_expected(
    records: &dyn Records,
    organization_id: &str,
    id: &str,
    expected: &version::Expected,
) -> Result<(), OperationError> {
    let current = Shown::new(records, found_in(records, organization_id, id)?)?;
    expected.check("group", id, &current)
}

async fn members(admin: &Arc<Admin>, organization_id: String, id: String) -> Result<Json<Members>, ApiError> {
    let group = id.clone();
    let found = admin
        .read(move |records| {
            if records.group(&group)?.is_none_or(|found| found.organization_id != organization_id) {
                return Ok(None);
            }
            let ids = records.group_members(&group)?;
            let members = ids.iter().map(|user| member::find(records, &organization_id, user));
            members.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>().map(Some)
        })
        .await?;
    let found = found.ok_or_else(|| ApiError::not_found("group", &id))?;
    Ok(Json(Members { members: found.into_iter().map(|stored| ShownMember::new(admin, stored)).collect() }))
}

impl Shown {
    fn new(records: &dyn Records, group: Group) -> Result<Self, StoreError> {
        let member_count = records.group_members(&group.id)?.len();
        Ok(Self::with_count(group, member_count))
    }

    fn with_count(group: Group, member_count: usize) -> Self {
        Self {
            user_group_id: group.id,
            user_group_name: group.name,
            description: group.description,
            managed_by_scim: group.managed_by_scim,
            member_count,
            create_time: group.create_time,
            update_time: group.update_time,
        }
    }
}
