//! `/v1/organization/{organization_id}/application-users`: the organization's non-human users.
//!
//! Who manages application users without being an admin of the organization may not make one that has more than they
//! have themselves: no super admin, and (in `application_tokens`) no token for a user that has been given something. Nor
//! do they rename or delete one: somebody could be given, by name, what was meant for another.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::{JsonBody, PathParameters};
use super::reach::Reach;
use super::version::{self, Versioned};
use super::{Admin, ApiError, Caller};
use crate::directory::guarded::GuardedStore;
use crate::directory::model::{Member, Resource, Timestamp, Word as _};
use crate::directory::operations::{self, ApplicationUserUpdate, NewApplicationUser};
use crate::directory::store::Records;
use crate::directory::{OperationError, StoreError};
use crate::policy::Permission;
use crate::policy::facts::{UserKind, UserState};

/// An application user.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ApplicationUser)]
pub(super) struct Shown {
    #[schema(example = "u1a2b3c4d5e6f")]
    user_id: String,
    #[schema(example = "ingest")]
    name: String,
    /// What it is for.
    description: String,
    /// Made up, and unique.
    user_email: String,
    /// Whether it holds every permission in the organization.
    is_super_admin: bool,
    /// `active` or `deactivated`.
    #[schema(value_type = String)]
    state: &'static str,
    #[schema(value_type = String, format = DateTime)]
    create_time: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApplicationUserList)]
pub(super) struct ShownList {
    application_users: Vec<Shown>,
}

/// What an application user is made from.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewApplicationUser)]
#[serde(deny_unknown_fields)]
pub(super) struct New {
    /// Unique among the organization's application users.
    #[schema(min_length = 1, max_length = 128, example = "ingest")]
    name: String,
    /// What it is for.
    #[schema(max_length = 1000)]
    description: Option<String>,
    /// Only an admin of the organization may make a super admin.
    is_super_admin: Option<bool>,
}

/// What may change of an application user; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ApplicationUserChanges)]
#[serde(deny_unknown_fields)]
pub(super) struct Changes {
    #[schema(min_length = 1, max_length = 128)]
    name: Option<String>,
    #[schema(max_length = 1000)]
    description: Option<String>,
    /// Only an admin of the organization may change it.
    is_super_admin: Option<bool>,
}

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, change, delete))
}

/// Lists the application users.
///
/// Needs `organization:app_users:write`.
#[utoipa::path(get, path = "/v1/organization/{organization_id}/application-users", tag = "application users",
    security(("token" = [])), params(("organization_id" = String, Path)),
    responses((status = OK, body = ShownList)))]
async fn list(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(organization_id): PathParameters<String>,
) -> Result<Json<ShownList>, ApiError> {
    require_manager(&admin, &caller, &organization_id)?;
    let members =
        admin.read(move |records| records.members(&organization_id, UserKind::ApplicationUser)).await?;
    Ok(Json(ShownList { application_users: members.into_iter().map(Shown::from).collect() }))
}

/// Makes an application user, which may do nothing until it is granted something.
///
/// Needs `organization:app_users:write`.
#[utoipa::path(post, path = "/v1/organization/{organization_id}/application-users", tag = "application users",
    security(("token" = [])), params(("organization_id" = String, Path)), request_body = New,
    responses((status = CREATED, body = Shown)))]
async fn create(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(organization_id): PathParameters<String>,
    JsonBody(new): JsonBody<New>,
) -> Result<(StatusCode, Json<Shown>), ApiError> {
    require_manager(&admin, &caller, &organization_id)?;
    let is_super_admin = new.is_super_admin.unwrap_or(false);
    if is_super_admin {
        require_right_to_make_super_admins(&admin, &caller, &organization_id)?;
    }
    let new = NewApplicationUser {
        organization_id,
        name: new.name,
        description: new.description.unwrap_or_default(),
        is_super_admin,
    };
    let made = admin
        .change(caller.author(), move |store, now| {
            // A client that did not hear the answer asks again.
            let is_free = |records: &dyn Records| check_free(records, &new.organization_id, &new.name);
            operations::create_application_user(&GuardedStore::new(store, &is_free), &new, now)
        })
        .await?;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// Shows an application user.
///
/// Needs `organization:app_users:write`.
#[utoipa::path(get, path = "/v1/organization/{organization_id}/application-users/{user_id}",
    tag = "application users", security(("token" = [])),
    params(("organization_id" = String, Path), ("user_id" = String, Path)),
    responses((status = OK, body = Shown)))]
async fn show(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, user_id)): PathParameters<(String, String)>,
) -> Result<Versioned<Shown>, ApiError> {
    require_manager(&admin, &caller, &organization_id)?;
    Ok(Versioned(find(&admin, &organization_id, &user_id).await?.into()))
}

/// Changes an application user.
///
/// Needs `organization:app_users:write`. Who is no admin of the organization changes none that is a super admin or has been
/// granted something.
#[utoipa::path(patch, path = "/v1/organization/{organization_id}/application-users/{user_id}",
    tag = "application users", security(("token" = [])),
    params(("organization_id" = String, Path), ("user_id" = String, Path)), request_body = Changes,
    responses((status = OK, body = Shown)))]
async fn change(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, user_id)): PathParameters<(String, String)>,
    headers: HeaderMap,
    JsonBody(changes): JsonBody<Changes>,
) -> Result<Versioned<Shown>, ApiError> {
    require_manager(&admin, &caller, &organization_id)?;
    let current = find(&admin, &organization_id, &user_id).await?;
    // To repeat what is so already is no change: clients send whole objects.
    let is_super_admin = changes.is_super_admin.filter(|wanted| *wanted != current.is_super_admin);
    if is_super_admin.is_some() {
        require_right_to_make_super_admins(&admin, &caller, &organization_id)?;
    }
    let update = ApplicationUserUpdate {
        name: changes.name.filter(|name| *name != current.user.name),
        description: changes.description,
        is_super_admin,
    };
    let expected = version::expected(&headers);
    let reach = Reach::of(&admin, &caller, &organization_id);
    let changed = admin
        .change(caller.author(), move |store, now| {
            let condition = |records: &dyn Records| {
                let current = found_in(records, &organization_id, &user_id)?;
                reach.check(records, &user_id)?;
                if let Some(name) = &update.name {
                    check_free(records, &organization_id, name)?;
                }
                expected.check("application user", &user_id, &Shown::from(current))
            };
            let store = GuardedStore::new(store, &condition);
            operations::update_application_user(&store, &user_id, &update, now)
        })
        .await?;
    Ok(Versioned(changed.into()))
}

/// Deletes an application user for good: all its tokens end before the answer is sent.
///
/// Needs `organization:app_users:write`. Who is no admin of the organization deletes none that is a super admin or has been
/// granted something; its tokens they may revoke.
#[utoipa::path(delete, path = "/v1/organization/{organization_id}/application-users/{user_id}",
    tag = "application users", security(("token" = [])),
    params(("organization_id" = String, Path), ("user_id" = String, Path)),
    responses((status = NO_CONTENT)))]
async fn delete(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, user_id)): PathParameters<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    require_manager(&admin, &caller, &organization_id)?;
    let expected = version::expected(&headers);
    let reach = Reach::of(&admin, &caller, &organization_id);
    admin
        .change(caller.author(), move |store, now| {
            let condition = |records: &dyn Records| {
                let current = found_in(records, &organization_id, &user_id)?;
                reach.check(records, &user_id)?;
                expected.check("application user", &user_id, &Shown::from(current))
            };
            operations::delete_user(&GuardedStore::new(store, &condition), &user_id, now)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What all of this, and the tokens of application users, need.
pub(super) fn require_manager(admin: &Admin, caller: &Caller, organization_id: &str) -> Result<(), ApiError> {
    let organization = Resource::Organization(organization_id.to_owned());
    caller.require(admin, &organization, Permission::OrganizationAppUsersWrite)
}

fn require_right_to_make_super_admins(
    admin: &Admin,
    caller: &Caller,
    organization_id: &str,
) -> Result<(), ApiError> {
    caller.require_organization_admin(admin, organization_id).map_err(|_refusal| {
        ApiError::forbidden(
            "not_an_organization_admin",
            "Only an admin of the organization can say who is a super admin.",
        )
    })
}

/// The application user of this organization with this id.
pub(super) async fn find(admin: &Admin, organization_id: &str, user_id: &str) -> Result<Member, ApiError> {
    let (organization, user) = (organization_id.to_owned(), user_id.to_owned());
    let found = admin.read(move |records| member(records, &organization, &user)).await?;
    found.ok_or_else(|| ApiError::not_found("application user", user_id))
}

/// The same, within a transaction.
pub(super) fn found_in(
    records: &dyn Records,
    organization_id: &str,
    user_id: &str,
) -> Result<Member, OperationError> {
    let not_found = || OperationError::NotFound { entity: "application user", id: user_id.to_owned() };
    member(records, organization_id, user_id)?.ok_or_else(not_found)
}

fn member(records: &dyn Records, organization_id: &str, user_id: &str) -> Result<Option<Member>, StoreError> {
    let Some(user) = records.user(user_id)? else { return Ok(None) };
    if user.kind != UserKind::ApplicationUser || user.state == UserState::Deleted {
        return Ok(None);
    }
    let mut memberships = records.memberships(user_id)?.into_iter();
    let membership = memberships.find(|membership| membership.organization_id == organization_id);
    Ok(membership.map(|membership| Member {
        user,
        is_super_admin: membership.is_super_admin,
        join_time: membership.join_time,
    }))
}

fn check_free(records: &dyn Records, organization_id: &str, name: &str) -> Result<(), OperationError> {
    let members = records.members(organization_id, UserKind::ApplicationUser)?;
    if members.iter().any(|member| member.user.name == name) {
        return Err(OperationError::AlreadyExists { entity: "application user", id: name.to_owned() });
    }
    Ok(())
}

impl From<Member> for Shown {
    fn from(member: Member) -> Self {
        let Member { user, is_super_admin, join_time: _ } = member;
        Self {
            user_id: user.id,
            name: user.name,
            description: user.description,
            user_email: user.email,
            is_super_admin,
            state: user.state.word(),
            create_time: user.create_time,
        }
    }
}
