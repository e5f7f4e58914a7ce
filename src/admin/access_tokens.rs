//! `/v1/access_token`: the caller's own tokens. People make personal tokens here; an application user sees its tokens and
//! may revoke them, an admin makes them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::{JsonBody, PathParameters};
use super::me::Empty;
use super::shown_token::ShownToken;
use super::{Admin, ApiError, Caller};
use crate::directory::OperationError;
use crate::directory::model::{Resource, Timestamp, Token, TokenState, TokenWithUsage};
use crate::directory::operations::{self, NewToken, TokenUpdate};
use crate::directory::summary::with_latest_use;
use crate::policy::facts::UserKind;
use crate::policy::{Permission, address, permission};
use crate::token::format::{self, Format, shown_prefix};
use crate::token::{TokenDigest, TokenKind};

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MyTokenList)]
pub(super) struct ShownList {
    pub(super) tokens: Vec<ShownToken>,
}

/// A token just made, with the text that is shown this once.
#[derive(Serialize, ToSchema)]
#[schema(as = MyCreatedToken)]
pub(super) struct Created {
    /// The token itself. Keep it: it cannot be had again.
    full_token: String,
    #[serde(flatten)]
    token: ShownToken,
}

/// What a personal token is made from.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = MyNewToken)]
#[serde(deny_unknown_fields)]
pub(super) struct New {
    /// What it is for.
    #[schema(max_length = 1000)]
    description: Option<String>,
    /// Lifetime in seconds; without one it never ends.
    #[schema(minimum = 600, maximum = 315_360_000)]
    max_age_seconds: Option<u32>,
    /// Count the lifetime from the last use.
    extend_when_used: Option<bool>,
    /// Addresses and networks it may be used from; none: any.
    ip_allowlist: Option<Vec<String>>,
    /// Permissions and roles it is restricted to; none: it is not restricted.
    scopes: Option<Vec<String>>,
}

/// What may change of a token; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = MyTokenChanges)]
#[serde(deny_unknown_fields)]
pub(super) struct Changes {
    #[schema(max_length = 1000)]
    description: Option<String>,
    /// Lifetime in seconds; `null`: it never ends.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u32>, minimum = 600, maximum = 315_360_000)]
    max_age_seconds: Option<Option<u32>>,
    extend_when_used: Option<bool>,
    ip_allowlist: Option<Vec<String>>,
}

/// A field that is there, `null` or not: left out is something else.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u32>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(update, revoke))
}

/// Lists the caller's tokens that have not ended, sessions included.
#[utoipa::path(get, path = "/v1/access_token", tag = "my tokens", security(("token" = [])), responses((status = OK, body = ShownList)))]
async fn list(State(admin): State<Arc<Admin>>, caller: Caller) -> Result<Json<ShownList>, ApiError> {
    caller.require_own(&admin, Permission::UserRead)?;
    let tokens = living_tokens(&admin, &caller, caller.user_id()).await?;
    Ok(Json(ShownList { tokens }))
}

/// Makes a personal token, bound to the method that the caller logged in with.
///
/// It may do no more than the token that makes it: restrictions of that one are passed on. One that a personal token
/// makes ends with that one at the latest.
#[utoipa::path(post, path = "/v1/access_token", tag = "my tokens", security(("token" = [])), request_body = New,
    responses((status = OK, body = Created)))]
async fn create(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    JsonBody(new): JsonBody<New>,
) -> Result<Json<Created>, ApiError> {
    caller.require_own(&admin, Permission::UserWrite)?;
    if caller.user_kind() != UserKind::OrganizationUser {
        return Err(ApiError::forbidden(
            "application_user",
            "Tokens of application users are made by an admin: POST \
             /v1/organization/…/application-users/…/access-tokens.",
        ));
    }
    let (user_id, prefix) = (caller.user_id().to_owned(), caller.token_prefix().to_owned());
    let (user, own) =
        admin.read(move |records| Ok((records.user(&user_id)?, records.token(&prefix)?))).await?;
    let user = user.ok_or_else(|| ApiError::not_found("user", caller.user_id()))?;
    let own = own.ok_or_else(|| ApiError::not_found("token", caller.token_prefix()))?.token;
    check_manager_allows(&admin, user.managing_organization_id.as_deref())?;
    let new = NewToken {
        user_id: user.id,
        kind: TokenKind::Personal,
        description: new.description.unwrap_or_default(),
        created_manually: true,
        max_age_seconds: new.max_age_seconds,
        extend_when_used: extension(new.extend_when_used, new.max_age_seconds)?,
        ip_allowlist: within_addresses(&own, new.ip_allowlist.unwrap_or_default())?,
        scopes: within_scopes(&own, new.scopes.unwrap_or_default())?,
        authentication_method_id: own.authentication_method_id,
    };
    let end_time = latest_end(&admin, &caller);
    let created = admin
        .change(caller.author(), move |store, now| operations::create_token_until(store, &new, end_time, now))
        .await?;
    let stored = TokenWithUsage::new(created.token, None);
    Ok(Json(Created {
        full_token: created.fresh.full.expose_secret().to_owned(),
        token: ShownToken::new(&admin, &caller, stored),
    }))
}

/// Changes one of the caller's tokens, named by prefix or by the whole token.
///
/// Where a personal token changes a lifetime, its own or another's, that ends with it at the latest.
#[utoipa::path(put, path = "/v1/access_token/{token_prefix}", tag = "my tokens", security(("token" = [])),
    params(("token_prefix" = String, Path, description = "The token's prefix, or the whole token.")),
    request_body = Changes,
    responses((status = OK, body = ShownToken)))]
async fn update(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(named): PathParameters<String>,
    JsonBody(changes): JsonBody<Changes>,
) -> Result<Json<ShownToken>, ApiError> {
    caller.require_own(&admin, Permission::UserWrite)?;
    if caller.user_kind() != UserKind::OrganizationUser {
        return Err(ApiError::forbidden(
            "application_user",
            "Tokens of application users are changed by an admin.",
        ));
    }
    let own = own_token(&admin, &caller).await?;
    let token = find_own(&admin, &caller, &named).await?;
    let update = TokenUpdate {
        description: changes.description,
        ip_allowlist: match changes.ip_allowlist {
            Some(ranges) => Some(within_addresses(&own, ranges)?),
            None => None,
        },
        max_age_seconds: changes.max_age_seconds,
        extend_when_used: changes.extend_when_used,
        latest_end_time: latest_end(&admin, &caller),
    };
    let prefix = token.token.token_prefix;
    let changed = admin
        .change(caller.author(), move |store, now| operations::update_token(store, &prefix, &update, now))
        .await?;
    Ok(Json(ShownToken::new(&admin, &caller, TokenWithUsage::new(changed, token.usage))))
}

/// Revokes one of the caller's tokens, named by prefix or by the whole token. To repeat it does no harm.
#[utoipa::path(delete, path = "/v1/access_token/{token_prefix}", tag = "my tokens", security(("token" = [])),
    params(("token_prefix" = String, Path, description = "The token's prefix, or the whole token.")),
    responses((status = OK, body = Empty)))]
async fn revoke(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(named): PathParameters<String>,
) -> Result<Json<Empty>, ApiError> {
    let prefix = find_own(&admin, &caller, &named).await?.token.token_prefix;
    // Whoever holds a token may end it, whatever its scopes.
    if prefix != caller.token_prefix() {
        caller.require_own(&admin, Permission::UserWrite)?;
    }
    admin.change(caller.author(), move |store, now| operations::revoke_token(store, &prefix, now)).await?;
    Ok(Json(Empty {}))
}

/// The tokens of a user that have not ended, as they are shown.
pub(super) async fn living_tokens(
    admin: &Admin,
    caller: &Caller,
    user_id: &str,
) -> Result<Vec<ShownToken>, ApiError> {
    let (named, user_id) = (user_id.to_owned(), user_id.to_owned());
    let (user, tokens) =
        admin.read(move |records| Ok((records.user(&user_id)?, records.tokens(&user_id)?))).await?;
    let user = user.ok_or_else(|| ApiError::not_found("user", &named))?;
    let living = tokens
        .into_iter()
        .map(|stored| with_latest_use(&admin.shared.directory, stored).of(&user))
        .filter(|stored| stored.state(caller.now()) == TokenState::Active)
        .map(|stored| ShownToken::new(admin, caller, stored));
    Ok(living.collect())
}

/// The prefix of what may be a prefix or a whole token. What is no known token is taken for a prefix.
pub(super) fn prefix_of(admin: &Admin, named: &str) -> String {
    if let Format::Own(_) = format::inspect(named.as_bytes()) {
        return shown_prefix(named);
    }
    let entry = admin.shared.directory.tokens.find(&TokenDigest::of(named.as_bytes()));
    let imported = entry.and_then(|entry| entry.state().imported_prefix().map(str::to_owned));
    imported.unwrap_or_else(|| named.to_owned())
}

async fn find_own(admin: &Admin, caller: &Caller, named: &str) -> Result<TokenWithUsage, ApiError> {
    let prefix = prefix_of(admin, named);
    let wanted = prefix.clone();
    let found = admin.read(move |records| records.token(&wanted)).await?;
    found
        .filter(|found| found.token.user_id == caller.user_id())
        .ok_or_else(|| ApiError::not_found("token", &shown_prefix(&prefix)))
}

/// A person whom an organization manages makes no personal tokens while it has them switched off.
fn check_manager_allows(admin: &Admin, organization_id: Option<&str>) -> Result<(), ApiError> {
    let Some(id) = organization_id else { return Ok(()) };
    let place = admin.shared.directory.resource(&Resource::Organization(id.to_owned()));
    let entry = place.and_then(|place| place.current.load_full());
    // An organization that memory does not know of allows nothing.
    if entry.is_some_and(|entry| entry.organization.current.load().policy.personal_tokens_enabled) {
        return Ok(());
    }
    Err(ApiError::forbidden(
        "personal_tokens_disabled",
        "The organization that manages this user does not allow personal tokens.",
    ))
}

/// The token that the request came with.
pub(super) async fn own_token(admin: &Admin, caller: &Caller) -> Result<Token, ApiError> {
    let prefix = caller.token_prefix().to_owned();
    let own = admin.read(move |records| records.token(&prefix)).await?;
    own.map(|own| own.token).ok_or_else(|| ApiError::not_found("token", caller.token_prefix()))
}

/// Whether a new token's lifetime counts from its last use: without a lifetime nothing does.
pub(super) fn extension(wanted: Option<bool>, max_age_seconds: Option<u32>) -> Result<bool, ApiError> {
    match (wanted.unwrap_or(false), max_age_seconds) {
        (true, None) => Err(ApiError::bad_request(
            "extend_when_used",
            "there is no lifetime to extend: give `max_age_seconds` as well, or leave this out",
        )),
        (extends, _) => Ok(extends),
    }
}

/// When what this token makes or changes ends at the latest. A session is somebody who has logged in, and may leave behind
/// what outlives it; a personal token that was handed out for a while must not become one for ever.
pub(super) fn latest_end(admin: &Admin, caller: &Caller) -> Option<Timestamp> {
    match caller.token_kind() {
        TokenKind::Session => None,
        TokenKind::Personal | TokenKind::Application => caller.expiry_time(admin),
    }
}

/// The scopes of a token that this one makes.
fn within_scopes(own: &Token, wanted: Vec<String>) -> Result<Vec<String>, ApiError> {
    if own.scopes.is_empty() {
        return Ok(wanted);
    }
    if wanted.is_empty() {
        return Ok(own.scopes.clone());
    }
    let ours = permission::scopes(&own.scopes).unwrap_or_default();
    let theirs = permission::scopes(&wanted).map_err(|error| ApiError::bad_request("scopes", error))?;
    if theirs.iter().all(|permission| ours.contains(permission)) {
        return Ok(wanted);
    }
    Err(ApiError::forbidden(
        "insufficient_scope",
        "A token makes none that may do more than itself: choose scopes among its own.",
    ))
}

/// The addresses of a token that this one makes or changes.
pub(super) fn within_addresses(own: &Token, wanted: Vec<String>) -> Result<Vec<String>, ApiError> {
    if wanted.is_empty() {
        return Ok(own.ip_allowlist.clone());
    }
    check_addresses(own, &wanted)?;
    Ok(wanted)
}

/// Refuses addresses, of which none means any, that are not all among a token's own.
pub(super) fn check_addresses(own: &Token, wanted: &[String]) -> Result<(), OperationError> {
    let parse = |ranges: &[String]| {
        let parsed = ranges.iter().map(|range| address::parse_range(range));
        parsed
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| OperationError::Invalid { field: "ip_allowlist", reason: error.to_string() })
    };
    if own.ip_allowlist.is_empty() {
        return Ok(());
    }
    let (ours, theirs) = (parse(&own.ip_allowlist)?, parse(wanted)?);
    if !theirs.is_empty() && theirs.iter().all(|their| ours.iter().any(|our| our.contains(their))) {
        return Ok(());
    }
    Err(OperationError::Forbidden {
        code: "ip_not_allowed_by_token",
        message: "A token makes none that may be used from more places than itself: choose addresses among its own."
            .to_owned(),
    })
}
