//! `…/tokens/stale` and `…/tokens/expire-unused`: which tokens nobody uses any more, and ending them.

#![allow(unused_qualifications, reason = "utoipa writes them for query parameters")]

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::{JsonBody, PathParameters, QueryParameters};
use super::{Admin, ApiError, Caller, beside, policy as policies};
use crate::directory::model::{Resource, Timestamp};
use crate::directory::operations;
use crate::directory::stale::{StalePage, StalePlace, StaleTokens, stale_tokens};
use crate::directory::summary::TokenSummary;
use crate::policy::Permission;
use crate::token::TokenKind;

/// Most tokens of a page.
const MOST: usize = 1_000;

/// Most unused tokens that are revoked in one request, and so in one transaction: no other change waits long.
const MOST_EXPIRED: usize = 500;

const DAY_SECONDS: u32 = 86_400;

/// Which tokens, and how many.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// Not used for so many days, 1 to 3650; 90 if left out. A token that was never used counts from when it was made.
    unused_for_days: Option<u32>,
    /// At most so many, 1 to 1000; 100 if left out.
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Tokens that could be used and are not, the longest unused first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StaleTokens)]
pub(super) struct ShownStale {
    unused_for_days: u32,
    /// How many there are.
    count: usize,
    tokens: Vec<TokenSummary>,
    /// What to ask for to go on; left out where nothing follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Which tokens are to end.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ExpireUnused)]
#[serde(deny_unknown_fields)]
pub(super) struct ToExpire {
    /// Not used for so many days. A token that was never used counts from when it was made.
    #[schema(minimum = 1, maximum = 3650, example = 90)]
    unused_for_days: u32,
    /// `next_cursor` of the answer before.
    cursor: Option<String>,
}

/// The tokens that were revoked.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ExpiredTokens)]
pub(super) struct ShownExpired {
    unused_for_days: u32,
    tokens: Vec<TokenSummary>,
    /// What to ask for to go on; left out where nothing follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(stale)).routes(routes!(expire_unused))
}

/// Lists tokens that could be used and have not been for long: those of application users for who manages these, those of
/// people for who manages those.
#[utoipa::path(get, path = "/v1/organization/{organization_id}/tokens/stale", tag = "tokens",
    security(("token" = [])), params(("organization_id" = String, Path), Asked),
    responses((status = OK, body = ShownStale)))]
async fn stale(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(organization_id): PathParameters<String>,
    QueryParameters(asked): QueryParameters<Asked>,
) -> Result<Json<ShownStale>, ApiError> {
    let organization = Resource::Organization(organization_id.clone());
    let applications = caller.require(&admin, &organization, Permission::OrganizationAppUsersWrite);
    let people = caller.require(&admin, &organization, Permission::OrganizationUsersWrite);
    let (sees_applications, sees_people) = (applications.is_ok(), people.is_ok());
    if !sees_people {
        applications?;
    }
    let days = asked.unused_for_days.unwrap_or(90);
    let unused_since = unused_since(days, caller.now())?;
    let after = asked.cursor.as_deref().map(read_cursor).transpose()?;
    let page = StalePage { after, limit: asked.limit.unwrap_or(100).clamp(1, MOST) };
    let place = policies::place(&admin, &organization_id)?;
    let now = caller.now();
    let shown = beside(move || {
        let view = &admin.shared.directory;
        let is_asked = |kind| match kind {
            TokenKind::Application => sees_applications,
            TokenKind::Personal | TokenKind::Session => sees_people,
        };
        let stale = stale_tokens(view, &place, unused_since, now, is_asked, page);
        let next_cursor = next_cursor(&stale);
        let tokens = admin.synchronizer.store().read(|records| {
            let each = stale.listed.iter().map(|place| TokenSummary::of_number(records, view, place.number));
            each.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()
        })?;
        Ok(ShownStale { unused_for_days: days, count: stale.count, tokens, next_cursor })
    });
    Ok(Json(shown.await?))
}

/// Revokes tokens that could be used and have not been for long, at most 500 at a time: go on with `next_cursor` until there
/// is none. For admins of the organization. `GET …/tokens/stale` says beforehand which they are; tokens of people who belong
/// to other organizations as well are left alone.
#[utoipa::path(post, path = "/v1/organization/{organization_id}/tokens/expire-unused", tag = "tokens",
    security(("token" = [])), params(("organization_id" = String, Path)), request_body = ToExpire,
    responses((status = OK, body = ShownExpired)))]
async fn expire_unused(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(organization_id): PathParameters<String>,
    JsonBody(wanted): JsonBody<ToExpire>,
) -> Result<Json<ShownExpired>, ApiError> {
    caller.require_organization_admin(&admin, &organization_id)?;
    let days = wanted.unused_for_days;
    let unused_since = unused_since(days, caller.now())?;
    let after = wanted.cursor.as_deref().map(read_cursor).transpose()?;
    let place = policies::place(&admin, &organization_id)?;
    let (looking, now) = (Arc::clone(&admin), caller.now());
    let stale = beside(move || {
        let page = StalePage { after, limit: MOST_EXPIRED };
        Ok(stale_tokens(&looking.shared.directory, &place, unused_since, now, |_| true, page))
    })
    .await?;
    let next_cursor = next_cursor(&stale);
    let numbers: Vec<u32> = stale.listed.iter().map(|place| place.number).collect();
    let revoked = admin
        .change(caller.author(), move |store, now| {
            operations::revoke_unused_tokens(store, &organization_id, &numbers, unused_since, now)
        })
        .await?;
    let view = Arc::clone(&admin.shared.directory);
    let tokens = admin.read(move |records| {
        let each = revoked.iter().map(|found| TokenSummary::of_number(records, &view, found.token.number));
        each.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()
    });
    Ok(Json(ShownExpired { unused_for_days: days, tokens: tokens.await?, next_cursor }))
}

fn unused_since(days: u32, now: Timestamp) -> Result<Timestamp, ApiError> {
    if !(1..=3_650).contains(&days) {
        return Err(ApiError::bad_request("unused_for_days", "must be 1 to 3650"));
    }
    Ok(Timestamp(now.0.saturating_sub(days * DAY_SECONDS)))
}

fn next_cursor(stale: &StaleTokens) -> Option<String> {
    let last = stale.listed.last().filter(|_| stale.has_more);
    last.map(|place| format!("{}-{}", place.last_activity.0, place.number))
}

fn read_cursor(text: &str) -> Result<StalePlace, ApiError> {
    let read = || {
        let (time, number) = text.split_once('-')?;
        Some(StalePlace { last_activity: Timestamp(time.parse().ok()?), number: number.parse().ok()? })
    };
    read().ok_or_else(|| ApiError::bad_request("cursor", "give a `next_cursor` as it came"))
}
