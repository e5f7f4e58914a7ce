//! `/v1/organization/{organization_id}/tokens`: tokens by their prefix alone, or of any one user, ended ones too. Postern's
//! own addition: Aiven's API asks for the user first, and whoever finds a prefix in a log does not know whose it is.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access_tokens::prefix_of;
use super::body::{PathParameters, QueryParameters};
use super::reach::Reach;
use super::shown_token::ShownToken;
use super::{Admin, ApiError, Caller, users};
use crate::directory::guarded::GuardedStore;
use crate::directory::model::{Resource, Timestamp, TokenState, TokenWithUsage, User, Word as _};
use crate::directory::operations;
use crate::directory::store::Records;
use crate::directory::summary::with_latest_use;
use crate::directory::{OperationError, StoreError};
use crate::policy::Permission;
use crate::policy::facts::UserKind;
use crate::token::format::shown_prefix;

/// A token and whose it is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrganizationToken)]
pub(super) struct Shown {
    user_id: String,
    user_name: String,
    /// `application`, `personal` or `session`.
    #[schema(value_type = String)]
    kind: &'static str,
    state: TokenState,
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_time: Option<Timestamp>,
    #[serde(flatten)]
    token: ShownToken,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrganizationTokenList)]
pub(super) struct ShownList {
    tokens: Vec<Shown>,
}

/// Which tokens.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    /// Whose.
    user_id: String,
    /// Revoked and expired ones too.
    #[serde(default)]
    include_ended: bool,
}

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show, revoke))
}

/// Lists the tokens of one user, newest first.
///
/// Of an application user it needs `organization:app_users:write`, of a person, who has to be managed by the
/// organization or to belong to no other, `organization:users:write`.
#[utoipa::path(get, path = "/v1/organization/{organization_id}/tokens", tag = "tokens", security(("token" = [])),
    params(("organization_id" = String, Path), ("user_id" = String, Query, description = "Whose"),
        ("include_ended" = Option<bool>, Query, description = "Revoked and expired ones too")),
    responses((status = OK, body = ShownList)))]
async fn list(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(organization_id): PathParameters<String>,
    QueryParameters(wanted): QueryParameters<Wanted>,
) -> Result<Json<ShownList>, ApiError> {
    let (organization, user_id) = (organization_id.clone(), wanted.user_id.clone());
    let found = admin
        .read(move |records| {
            let user = own_user(records, &organization, &user_id)?;
            user.map(|user| Ok((user, records.tokens(&user_id)?))).transpose()
        })
        .await?;
    let (user, tokens) = found.ok_or_else(|| nobody(&admin, &caller, &organization_id, &wanted.user_id))?;
    require_manager(&admin, &caller, &organization_id, user.kind)?;
    users::require_concerned(&admin, &user.id, &organization_id).await?;
    let shown = tokens.into_iter().map(|stored| Shown::new(&admin, &caller, &user, stored));
    let tokens = shown.filter(|token| wanted.include_ended || token.state == TokenState::Active);
    Ok(Json(ShownList { tokens: tokens.collect() }))
}

/// Shows a token, ended or not.
///
/// Of an application user it needs `organization:app_users:write`, of a person, who has to be managed by the
/// organization or to belong to no other, `organization:users:write`.
#[utoipa::path(get, path = "/v1/organization/{organization_id}/tokens/{token_prefix}", tag = "tokens",
    security(("token" = [])), params(("organization_id" = String, Path), ("token_prefix" = String, Path)),
    responses((status = OK, body = Shown)))]
async fn show(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, token_prefix)): PathParameters<(String, String)>,
) -> Result<Json<Shown>, ApiError> {
    let prefix = prefix_of(&admin, &token_prefix);
    let (user, stored) = find(&admin, &caller, &organization_id, &prefix).await?;
    Ok(Json(Shown::new(&admin, &caller, &user, stored)))
}

/// Revokes a token: no request after the answer is let in with it. To repeat it does no harm.
///
/// Of an application user it needs `organization:app_users:write`, of a person, who has to be managed by the
/// organization or to belong to no other, `organization:users:write`; of a person who is a super admin or has been granted
/// something, an admin of the organization.
#[utoipa::path(delete, path = "/v1/organization/{organization_id}/tokens/{token_prefix}", tag = "tokens",
    security(("token" = [])), params(("organization_id" = String, Path), ("token_prefix" = String, Path)),
    responses((status = OK, body = Shown)))]
async fn revoke(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, token_prefix)): PathParameters<(String, String)>,
) -> Result<Json<Shown>, ApiError> {
    let prefix = prefix_of(&admin, &token_prefix);
    let (user, _) = find(&admin, &caller, &organization_id, &prefix).await?;
    // To stop a program's token that has leaked waits for no admin.
    let reach = match user.kind {
        UserKind::ApplicationUser => Reach::Everybody,
        UserKind::OrganizationUser => Reach::of(&admin, &caller, &organization_id),
    };
    let (organization, wanted) = (organization_id.clone(), prefix.clone());
    admin
        .change(caller.author(), move |store, now| {
            let is_own = |records: &dyn Records| {
                let found = own_token(records, &organization, &wanted)?;
                let (user, _) = found.ok_or_else(|| no_token(&wanted))?;
                users::check_concerned(records, &user.id, &organization)?;
                reach.check(records, &user.id)
            };
            operations::revoke_token(&GuardedStore::new(store, &is_own), &wanted, now)
        })
        .await?;
    let (user, stored) = find(&admin, &caller, &organization_id, &prefix).await?;
    Ok(Json(Shown::new(&admin, &caller, &user, stored)))
}

async fn find(
    admin: &Admin,
    caller: &Caller,
    organization_id: &str,
    prefix: &str,
) -> Result<(User, TokenWithUsage), ApiError> {
    caller.require_member(admin, organization_id)?;
    let (organization, wanted) = (organization_id.to_owned(), prefix.to_owned());
    let found = admin.read(move |records| own_token(records, &organization, &wanted)).await?;
    let (user, stored) = found.ok_or_else(|| no_token(prefix))?;
    require_manager(admin, caller, organization_id, user.kind)?;
    users::require_concerned(admin, &user.id, organization_id).await?;
    Ok((user, stored))
}

fn own_token(
    records: &dyn Records,
    organization_id: &str,
    prefix: &str,
) -> Result<Option<(User, TokenWithUsage)>, StoreError> {
    let Some(stored) = records.token(prefix)? else { return Ok(None) };
    let user = own_user(records, organization_id, &stored.token.user_id)?;
    Ok(user.map(|user| (user, stored)))
}

/// A user of the organization. Who has been deleted is a member of nothing any more, but was managed by it.
fn own_user(records: &dyn Records, organization_id: &str, user_id: &str) -> Result<Option<User>, StoreError> {
    let Some(user) = records.user(user_id)? else { return Ok(None) };
    let is_managed = user.managing_organization_id.as_deref() == Some(organization_id);
    let mut memberships = records.memberships(user_id)?.into_iter();
    let is_own = is_managed || memberships.any(|membership| membership.organization_id == organization_id);
    Ok(is_own.then_some(user))
}

fn require_manager(
    admin: &Admin,
    caller: &Caller,
    organization_id: &str,
    kind: UserKind,
) -> Result<(), ApiError> {
    let organization = Resource::Organization(organization_id.to_owned());
    caller.require(
        admin,
        &organization,
        match kind {
            UserKind::ApplicationUser => Permission::OrganizationAppUsersWrite,
            UserKind::OrganizationUser => Permission::OrganizationUsersWrite,
        },
    )
}

/// What somebody hears who asks for a user that is not there: first of all, whether they may ask.
fn nobody(admin: &Admin, caller: &Caller, organization_id: &str, user_id: &str) -> ApiError {
    match caller.require_member(admin, organization_id) {
        Ok(()) => ApiError::not_found("user", user_id),
        Err(refusal) => refusal,
    }
}

fn no_token(prefix: &str) -> OperationError {
    OperationError::NotFound { entity: "token", id: shown_prefix(prefix) }
}

impl Shown {
    fn new(admin: &Admin, caller: &Caller, user: &User, stored: TokenWithUsage) -> Self {
        let stored = with_latest_use(&admin.shared.directory, stored).of(user);
        let state = stored.state(caller.now());
        let (kind, revoked_time) = (stored.token.kind, stored.token.revoked_time);
        let token = ShownToken::new(admin, caller, stored);
        Self {
            user_id: user.id.clone(),
            user_name: user.name.clone(),
            kind: kind.word(),
            state,
            revoked_time,
            token,
        }
    }
}
