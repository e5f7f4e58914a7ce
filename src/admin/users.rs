//! `…/user`: the people of an organization, for its admins: states, super admins, tokens, ways to log in, recovery.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access_tokens::{self, ShownList as ShownTokens};
use super::body::{JsonBody, PathParameters};
use super::me::Empty;
use super::member::{self, ShownMember, StoredMember};
use super::reach::{self, Reach};
use super::shown_method::{ShownMethod, ShownMethodList};
use super::{Admin, ApiError, Caller};
use crate::directory::guarded::GuardedStore;
use crate::directory::model::{Member, Resource, Timestamp};
use crate::directory::operations::{self, MemberUpdate};
use crate::directory::store::Records;
use crate::directory::{OperationError, concern};
use crate::policy::Permission;
use crate::policy::facts::{UserKind, UserState};
use crate::token::format::shown_prefix;

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrganizationUserList)]
pub(super) struct ShownMembers {
    users: Vec<ShownMember>,
}

/// What may change of a member; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OrganizationUserChanges)]
#[serde(deny_unknown_fields)]
pub(super) struct Changes {
    /// Of managed users only.
    state: Option<WantedState>,
    /// Whether they hold every permission in the organization.
    is_super_admin: Option<bool>,
    /// Of managed users only.
    #[schema(max_length = 128)]
    real_name: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = UserState)]
enum WantedState {
    Active,
    Deactivated,
    Deleted,
}

/// How a person gets back in.
#[derive(Serialize, ToSchema)]
pub(super) struct ResetStarted {
    message: &'static str,
    /// Hand it over to the person. With it they set a new password at `POST /v1/userauth/setup`. Shown this once.
    code: String,
    #[schema(value_type = String, format = DateTime)]
    expiry_time: Timestamp,
}

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, change, remove))
        .routes(routes!(tokens))
        .routes(routes!(revoke_token))
        .routes(routes!(methods))
        .routes(routes!(reset_password))
        .routes(routes!(reset_two_factor))
}

/// Lists the people of the organization.
#[utoipa::path(get, path = "/v1/organization/{organization_id}/user", tag = "organization users",
    security(("token" = [])), params(("organization_id" = String, Path)),
    responses((status = OK, body = ShownMembers)))]
async fn list(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(organization_id): PathParameters<String>,
) -> Result<Json<ShownMembers>, ApiError> {
    caller.require_member(&admin, &organization_id)?;
    let members = admin
        .read(move |records| {
            let people = records.members(&organization_id, UserKind::OrganizationUser)?.into_iter();
            let stored = people.map(|member| {
                let tokens = records.tokens(&member.user.id)?;
                Ok(StoredMember { member, tokens })
            });
            stored.collect::<Result<Vec<_>, _>>()
        })
        .await?;
    let users = members.into_iter().map(|member| ShownMember::new(&admin, member));
    Ok(Json(ShownMembers { users: users.collect() }))
}

/// Shows a person of the organization.
#[utoipa::path(get, path = "/v1/organization/{organization_id}/user/{user_id}", tag = "organization users",
    security(("token" = [])), params(("organization_id" = String, Path), ("user_id" = String, Path)),
    responses((status = OK, body = ShownMember)))]
async fn show(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, user_id)): PathParameters<(String, String)>,
) -> Result<Json<ShownMember>, ApiError> {
    caller.require_member(&admin, &organization_id)?;
    let member = person(&admin, &organization_id, &user_id).await?;
    Ok(Json(ShownMember::new(&admin, member)))
}

/// Changes a person of the organization.
///
/// Name and state are those of the account: only the organization that manages it changes them. Who is no admin of the
/// organization changes nobody who is a super admin or has been granted something.
#[utoipa::path(patch, path = "/v1/organization/{organization_id}/user/{user_id}", tag = "organization users",
    security(("token" = [])), params(("organization_id" = String, Path), ("user_id" = String, Path)),
    request_body = Changes,
    responses((status = OK, body = ShownMember)))]
async fn change(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, user_id)): PathParameters<(String, String)>,
    JsonBody(changes): JsonBody<Changes>,
) -> Result<Json<ShownMember>, ApiError> {
    require(&admin, &caller, &organization_id)?;
    let stored = person(&admin, &organization_id, &user_id).await?;
    let reach = Reach::of(&admin, &caller, &organization_id);
    // To repeat what is so already is no change, also if somebody else changes it meanwhile.
    let is_super_admin = changes.is_super_admin.filter(|wanted| *wanted != stored.member.is_super_admin);
    if is_super_admin.is_some() {
        caller.require_organization_admin(&admin, &organization_id)?;
    }
    let update = MemberUpdate {
        real_name: changes.real_name,
        state: changes.state.map(UserState::from),
        is_super_admin,
    };
    let member = admin
        .change(caller.author(), move |store, now| {
            let is_reached = |records: &dyn Records| reach.check(records, &user_id);
            let store = GuardedStore::new(store, &is_reached);
            operations::update_member(&store, &organization_id, &user_id, &update, now)
        })
        .await?;
    Ok(Json(ShownMember::new(&admin, StoredMember { member, tokens: stored.tokens })))
}

/// Removes a person from the organization, with what they were granted there. The account of a managed person is deleted.
#[utoipa::path(delete, path = "/v1/organization/{organization_id}/user/{user_id}", tag = "organization users",
    security(("token" = [])), params(("organization_id" = String, Path), ("user_id" = String, Path)),
    responses((status = OK, body = Empty)))]
async fn remove(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, user_id)): PathParameters<(String, String)>,
) -> Result<Json<Empty>, ApiError> {
    require(&admin, &caller, &organization_id)?;
    person(&admin, &organization_id, &user_id).await?;
    let reach = Reach::of(&admin, &caller, &organization_id);
    admin
        .change(caller.author(), move |store, now| {
            let is_reached = |records: &dyn Records| {
                check_person(records, &organization_id, &user_id)?;
                reach.check(records, &user_id)
            };
            let store = GuardedStore::new(store, &is_reached);
            operations::dismiss_member(&store, &user_id, &organization_id, now)
        })
        .await?;
    Ok(Json(Empty {}))
}

/// Lists the tokens that have not ended of a person whom the organization manages, or who belongs to no other.
#[utoipa::path(get, path = "/v1/organization/{organization_id}/user/{user_id}/access-tokens",
    tag = "organization users", security(("token" = [])),
    params(("organization_id" = String, Path), ("user_id" = String, Path)),
    responses((status = OK, body = ShownTokens)))]
async fn tokens(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, user_id)): PathParameters<(String, String)>,
) -> Result<Json<ShownTokens>, ApiError> {
    require(&admin, &caller, &organization_id)?;
    person(&admin, &organization_id, &user_id).await?;
    require_concerned(&admin, &user_id, &organization_id).await?;
    let tokens = access_tokens::living_tokens(&admin, &caller, &user_id).await?;
    Ok(Json(ShownTokens { tokens }))
}

/// Revokes a token of a person whom the organization manages, or who belongs to no other.
#[utoipa::path(delete, path = "/v1/organization/{organization_id}/user/{user_id}/access-token/{token_prefix}",
    tag = "organization users", security(("token" = [])),
    params(("organization_id" = String, Path), ("user_id" = String, Path), ("token_prefix" = String, Path)),
    responses((status = OK, body = Empty)))]
async fn revoke_token(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, user_id, named)): PathParameters<(String, String, String)>,
) -> Result<Json<Empty>, ApiError> {
    require(&admin, &caller, &organization_id)?;
    person(&admin, &organization_id, &user_id).await?;
    let prefix = access_tokens::prefix_of(&admin, &named);
    let reach = Reach::of(&admin, &caller, &organization_id);
    admin
        .change(caller.author(), move |store, now| {
            let is_allowed = |records: &dyn Records| {
                check_person(records, &organization_id, &user_id)?;
                check_concerned(records, &user_id, &organization_id)?;
                let found = records.token(&prefix)?.filter(|found| found.token.user_id == user_id);
                found
                    .ok_or_else(|| OperationError::NotFound { entity: "token", id: shown_prefix(&prefix) })?;
                reach.check(records, &user_id)
            };
            operations::revoke_token(&GuardedStore::new(store, &is_allowed), &prefix, now)
        })
        .await?;
    Ok(Json(Empty {}))
}

/// Lists a person's ways to log in.
#[utoipa::path(get, path = "/v1/organization/{organization_id}/user/{user_id}/authentication_methods",
    tag = "organization users", security(("token" = [])),
    params(("organization_id" = String, Path), ("user_id" = String, Path)),
    responses((status = OK, body = ShownMethodList)))]
async fn methods(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, user_id)): PathParameters<(String, String)>,
) -> Result<Json<ShownMethodList>, ApiError> {
    require(&admin, &caller, &organization_id)?;
    person(&admin, &organization_id, &user_id).await?;
    let methods = admin.read(move |records| ShownMethod::all_of(records, &user_id)).await?;
    Ok(Json(ShownMethodList { authentication_methods: methods }))
}

/// Lets a managed person who cannot log in any more set a new password: takes password and two-factor authentication
/// from the account, ends its sessions, and answers with a code to hand over.
///
/// Nobody resets their own: `PUT /v1/me/password`. Of who is a super admin or has been granted something, only an admin
/// does who has logged in: the token of a session is needed.
#[utoipa::path(post, path = "/v1/organization/{organization_id}/user/{user_id}/reset_password",
    tag = "organization users", security(("token" = [])),
    params(("organization_id" = String, Path), ("user_id" = String, Path)),
    responses((status = OK, body = ResetStarted)))]
async fn reset_password(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, user_id)): PathParameters<(String, String)>,
) -> Result<Json<ResetStarted>, ApiError> {
    require(&admin, &caller, &organization_id)?;
    check_is_other(&caller, &user_id, "/v1/me/password")?;
    person(&admin, &organization_id, &user_id).await?;
    let reach = Reach::of(&admin, &caller, &organization_id);
    let by = caller.token_kind();
    let started = admin
        .change(caller.author(), move |store, now| {
            let is_reached = |records: &dyn Records| {
                reach.check(records, &user_id)?;
                reach::check_may_reset(by, records, &user_id)
            };
            let store = GuardedStore::new(store, &is_reached);
            operations::start_reset(&store, &organization_id, &user_id, now)
        })
        .await?;
    Ok(Json(ResetStarted {
        message: "Hand the code over to the person; it can be used once, at POST /v1/userauth/setup.",
        code: started.code.expose_secret().to_owned(),
        expiry_time: started.expiry_time,
    }))
}

/// Switches the two-factor authentication of a managed person off who has lost their authenticator app. Their personal
/// tokens that were made with a password login end.
///
/// Nobody resets their own: `PUT /v1/me/2fa`. Of who is a super admin or has been granted something, only an admin does
/// who has logged in: the token of a session is needed.
#[utoipa::path(post, path = "/v1/organization/{organization_id}/user/{user_id}/reset_two_factor",
    tag = "organization users", security(("token" = [])),
    params(("organization_id" = String, Path), ("user_id" = String, Path)),
    responses((status = OK, body = Empty)))]
async fn reset_two_factor(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, user_id)): PathParameters<(String, String)>,
) -> Result<Json<Empty>, ApiError> {
    require(&admin, &caller, &organization_id)?;
    check_is_other(&caller, &user_id, "/v1/me/2fa")?;
    person(&admin, &organization_id, &user_id).await?;
    let reach = Reach::of(&admin, &caller, &organization_id);
    let by = caller.token_kind();
    admin
        .change(caller.author(), move |store, now| {
            let is_reached = |records: &dyn Records| {
                reach.check(records, &user_id)?;
                reach::check_may_reset(by, records, &user_id)
            };
            let store = GuardedStore::new(store, &is_reached);
            operations::reset_two_factor(&store, &organization_id, &user_id, now)
        })
        .await?;
    Ok(Json(Empty {}))
}

fn require(admin: &Admin, caller: &Caller, organization_id: &str) -> Result<(), ApiError> {
    let organization = Resource::Organization(organization_id.to_owned());
    caller.require(admin, &organization, Permission::OrganizationUsersWrite)
}

/// Refuses to reset how the caller itself logs in: that would ask for neither password nor second factor, of whoever
/// holds the token.
fn check_is_other(caller: &Caller, user_id: &str, own: &str) -> Result<(), ApiError> {
    if caller.user_id() != user_id {
        return Ok(());
    }
    Err(ApiError::forbidden(
        "own_account",
        format!("Nobody resets their own account: change it with PUT {own}, or ask another admin."),
    ))
}

/// Asks that a user whose tokens an organization wants to see is one that it manages, or one that belongs to no other:
/// what others' tokens are used for elsewhere, from where and by what, is not this organization's to know.
pub(super) async fn require_concerned(
    admin: &Admin,
    user_id: &str,
    organization_id: &str,
) -> Result<(), ApiError> {
    let (user, organization) = (user_id.to_owned(), organization_id.to_owned());
    let is_concerned =
        admin.read(move |records| concern::is_concerned(records, &user, &organization)).await?;
    if is_concerned { Ok(()) } else { Err(others().into()) }
}

/// The same, within a transaction.
pub(super) fn check_concerned(
    records: &dyn Records,
    user_id: &str,
    organization_id: &str,
) -> Result<(), OperationError> {
    if concern::is_concerned(records, user_id, organization_id)? { Ok(()) } else { Err(others()) }
}

/// What somebody hears who asks for tokens that are others' business.
pub(super) fn others() -> OperationError {
    OperationError::Forbidden {
        code: "user_not_managed",
        message: "The organization does not manage this user, who belongs to others as well: their tokens are theirs. \
                  The authentication policy says which of them may be used here."
            .to_owned(),
    }
}

async fn person(admin: &Admin, organization_id: &str, user_id: &str) -> Result<StoredMember, ApiError> {
    let (organization, id) = (organization_id.to_owned(), user_id.to_owned());
    let found = admin.read(move |records| member::find(records, &organization, &id)).await?;
    found
        .filter(|StoredMember { member: Member { user, .. }, .. }| user.kind == UserKind::OrganizationUser)
        .ok_or_else(|| ApiError::not_found("organization user", user_id))
}

/// The same, within a transaction.
fn check_person(records: &dyn Records, organization_id: &str, user_id: &str) -> Result<(), OperationError> {
    let found = member::find(records, organization_id, user_id)?;
    let person = found.filter(|stored| stored.member.user.kind == UserKind::OrganizationUser);
    person
        .map(drop)
        .ok_or_else(|| OperationError::NotFound { entity: "organization user", id: user_id.to_owned() })
}

impl From<WantedState> for UserState {
    fn from(state: WantedState) -> Self {
        match state {
            WantedState::Active => Self::Active,
            WantedState::Deactivated => Self::Deactivated,
            WantedState::Deleted => Self::Deleted,
        }
    }
}
