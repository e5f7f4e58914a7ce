//! `…/application-users/{user_id}/access-tokens`: the tokens of an application user. A full token is in the one answer
//! that makes it and can never be had again.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access_tokens::{self, ShownList, living_tokens, prefix_of};
use super::application_users::{find, found_in, require_manager};
use super::body::{JsonBody, PathParameters};
use super::reach::Reach;
use super::shown_token::ShownToken;
use super::{Admin, ApiError, Caller};
use crate::directory::OperationError;
use crate::directory::guarded::GuardedStore;
use crate::directory::model::{Token, TokenWithUsage};
use crate::directory::operations::{self, NewToken, Replacement};
use crate::directory::store::Records;
use crate::token::TokenKind;
use crate::token::format::shown_prefix;

/// A token just made, with the text that is shown this once.
#[derive(Serialize, ToSchema)]
#[schema(as = CreatedToken)]
pub(super) struct Created {
    /// The token itself. Keep it: it cannot be had again.
    full_token: String,
    #[serde(flatten)]
    token: ShownToken,
}

/// What a token is made from.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewToken)]
#[serde(deny_unknown_fields)]
pub(super) struct New {
    /// What it is for.
    #[schema(max_length = 1000, example = "writes the metrics of eu-west")]
    description: Option<String>,
    /// Lifetime in seconds; without one it never ends.
    #[schema(minimum = 600, maximum = 315_360_000)]
    max_age_seconds: Option<u32>,
    /// Count the lifetime from the last use; only beside one.
    extend_when_used: Option<bool>,
    /// Addresses and networks it may be used from; none: any.
    #[schema(max_items = 100, example = json!(["10.0.0.0/8"]))]
    ip_allowlist: Option<Vec<String>>,
    /// Permissions and roles it is restricted to; none: it is not restricted.
    #[schema(max_items = 100, example = json!(["service:data:write"]))]
    scopes: Option<Vec<String>>,
}

/// How an old token goes.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = TokenRotation)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    /// For how long the old one works beside the new one; 0 if left out.
    #[schema(maximum = 2_592_000)]
    overlap_seconds: Option<u32>,
}

/// A token just made, with the text that is shown this once, and the one whose place it takes.
#[derive(Serialize, ToSchema)]
#[schema(as = RotatedToken)]
pub(super) struct Rotated {
    /// The token itself. Keep it: it cannot be had again.
    full_token: String,
    #[serde(flatten)]
    token: ShownToken,
    /// The old one; `expiry_time` says when it ends.
    replaced: ShownToken,
}

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke)).routes(routes!(rotate))
}

/// Lists the tokens that have not ended, with their last use.
///
/// Needs `organization:app_users:write`.
#[utoipa::path(get, path = "/v1/organization/{organization_id}/application-users/{user_id}/access-tokens",
    tag = "application users", security(("token" = [])),
    params(("organization_id" = String, Path), ("user_id" = String, Path)),
    responses((status = OK, body = ShownList)))]
async fn list(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, user_id)): PathParameters<(String, String)>,
) -> Result<Json<ShownList>, ApiError> {
    require_manager(&admin, &caller, &organization_id)?;
    find(&admin, &organization_id, &user_id).await?;
    Ok(Json(ShownList { tokens: living_tokens(&admin, &caller, &user_id).await? }))
}

/// Makes a token.
///
/// Needs `organization:app_users:write`. Who is no admin of the organization makes none for a super admin or for a user
/// that has been granted something: the token could do more than its maker. One that another token than a session's makes ends
/// with that one at the latest, and can be used from no more places.
#[utoipa::path(post, path = "/v1/organization/{organization_id}/application-users/{user_id}/access-tokens",
    tag = "application users", security(("token" = [])),
    params(("organization_id" = String, Path), ("user_id" = String, Path)), request_body = New,
    responses((status = CREATED, body = Created)))]
async fn create(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, user_id)): PathParameters<(String, String)>,
    JsonBody(new): JsonBody<New>,
) -> Result<(StatusCode, Json<Created>), ApiError> {
    require_manager(&admin, &caller, &organization_id)?;
    let reach = Reach::of(&admin, &caller, &organization_id);
    // What may be used for a while, or from some places, must not become what may be used for ever and from everywhere.
    let end_time = access_tokens::latest_end(&admin, &caller);
    let own = access_tokens::own_token(&admin, &caller).await?;
    let ip_allowlist = access_tokens::within_addresses(&own, new.ip_allowlist.unwrap_or_default())?;
    let new = NewToken {
        user_id,
        kind: TokenKind::Application,
        description: new.description.unwrap_or_default(),
        created_manually: true,
        max_age_seconds: new.max_age_seconds,
        extend_when_used: access_tokens::extension(new.extend_when_used, new.max_age_seconds)?,
        ip_allowlist,
        scopes: new.scopes.unwrap_or_default(),
        authentication_method_id: None,
    };
    let created = admin
        .change(caller.author(), move |store, now| {
            let is_reached = |records: &dyn Records| {
                found_in(records, &organization_id, &new.user_id)?;
                reach.check(records, &new.user_id)
            };
            operations::create_token_until(&GuardedStore::new(store, &is_reached), &new, end_time, now)
        })
        .await?;
    let full_token = created.fresh.full.expose_secret().to_owned();
    let token = ShownToken::new(&admin, &caller, TokenWithUsage::new(created.token, None));
    Ok((StatusCode::CREATED, Json(Created { full_token, token })))
}

/// Puts a new token in the place of an old one, which ends after the overlap: until then both work.
///
/// The new one has the old one's description, lifetime, addresses and scopes. An overlap of 0 ends the old one at once. Where another token than a session's asks for
/// it, the new one ends with that one at the latest, and has to be restricted to addresses among that one's.
#[utoipa::path(post,
    path = "/v1/organization/{organization_id}/application-users/{user_id}/access-tokens/{token_prefix}/rotate",
    tag = "application users", security(("token" = [])),
    params(("organization_id" = String, Path), ("user_id" = String, Path),
        ("token_prefix" = String, Path, description = "The prefix, percent-encoded; the full token is accepted too")),
    request_body = Rotation, responses((status = CREATED, body = Rotated)))]
async fn rotate(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, user_id, token_prefix)): PathParameters<(String, String, String)>,
    JsonBody(rotation): JsonBody<Rotation>,
) -> Result<(StatusCode, Json<Rotated>), ApiError> {
    require_manager(&admin, &caller, &organization_id)?;
    let reach = Reach::of(&admin, &caller, &organization_id);
    let prefix = prefix_of(&admin, &token_prefix);
    let replacement = Replacement {
        overlap_seconds: rotation.overlap_seconds.unwrap_or(0),
        latest_end_time: access_tokens::latest_end(&admin, &caller),
    };
    let own = access_tokens::own_token(&admin, &caller).await?;
    let rotated = admin
        .change(caller.author(), move |store, now| {
            let is_reached = |records: &dyn Records| {
                let former = find_token_of(records, &organization_id, &user_id, &prefix)?;
                // Narrowed silently, it would not work where the old one does.
                access_tokens::check_addresses(&own, &former.ip_allowlist)?;
                reach.check(records, &user_id)
            };
            operations::rotate_token(&GuardedStore::new(store, &is_reached), &prefix, replacement, now)
        })
        .await?;
    let full_token = rotated.created.fresh.full.expose_secret().to_owned();
    let created = TokenWithUsage::new(rotated.created.token, None);
    let replaced = TokenWithUsage::new(rotated.replaced, None);
    Ok((
        StatusCode::CREATED,
        Json(Rotated {
            full_token,
            token: ShownToken::new(&admin, &caller, created),
            replaced: ShownToken::new(&admin, &caller, replaced),
        }),
    ))
}

/// The token, if there is such a user of this organization with such a token.
fn find_token_of(
    records: &dyn Records,
    organization_id: &str,
    user_id: &str,
    prefix: &str,
) -> Result<Token, OperationError> {
    found_in(records, organization_id, user_id)?;
    let found = records.token(prefix)?.filter(|found| found.token.user_id == user_id);
    let found = found.map(|found| found.token);
    found.ok_or_else(|| OperationError::NotFound { entity: "token", id: shown_prefix(prefix) })
}

/// Revokes a token: no request after the answer is let in with it. To repeat it does no harm.
///
/// Needs `organization:app_users:write`, whatever the user has: to stop a token that has leaked waits for no admin.
#[utoipa::path(delete,
    path = "/v1/organization/{organization_id}/application-users/{user_id}/access-tokens/{token_prefix}",
    tag = "application users", security(("token" = [])),
    params(("organization_id" = String, Path), ("user_id" = String, Path),
        ("token_prefix" = String, Path, description = "The prefix, percent-encoded; the full token is accepted too")),
    responses((status = NO_CONTENT)))]
async fn revoke(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, user_id, token_prefix)): PathParameters<(String, String, String)>,
) -> Result<StatusCode, ApiError> {
    require_manager(&admin, &caller, &organization_id)?;
    let prefix = prefix_of(&admin, &token_prefix);
    admin
        .change(caller.author(), move |store, now| {
            let is_theirs =
                |records: &dyn Records| find_token_of(records, &organization_id, &user_id, &prefix).map(drop);
            operations::revoke_token(&GuardedStore::new(store, &is_theirs), &prefix, now)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
