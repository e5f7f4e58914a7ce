//! Keeping tokens in order: which nobody uses any more (`…/tokens/stale`), which have leaked (`/v1/tokens/revoke-leaked`).

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
use crate::directory::operations::{self, LeakedToken};
use crate::directory::stale::{StalePage, StalePlace, StaleTokens, stale_tokens};
use crate::directory::summary::TokenSummary;
use crate::policy::Permission;
use crate::token::pasted::{self, PastedToken};
use crate::token::{TokenDigest, TokenKind};

/// Most tokens of a page.
const MOST: usize = 1_000;

/// Most unused tokens that are revoked in one request, and so in one transaction: no other change waits long.
const MOST_EXPIRED: usize = 500;

/// Most pasted tokens that are revoked in one request.
const MOST_PASTED: usize = 1_000;

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

/// Tokens that have become known to others.
#[derive(Default, Deserialize, ToSchema)]
#[schema(as = LeakedTokens)]
#[serde(deny_unknown_fields)]
pub(super) struct Pasted {
    /// Whole tokens.
    #[schema(max_items = 1000)]
    tokens: Option<Vec<String>>,
    /// A text that they are somewhere in, such as a file or a log.
    text: Option<String>,
}

/// What became of each.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RevokedTokens)]
pub(super) struct ShownLeaked {
    tokens: Vec<Leaked>,
    message: String,
}

/// One of them. Whether a token is known is told to who manages its user, and to its user.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RevokedToken)]
struct Leaked {
    /// Where it was, from 1: its position in `tokens`, or the line of `text`.
    position: usize,
    /// Its prefix, as its own text has it.
    token_prefix: Option<String>,
    /// Always true: it opens nothing (any more).
    is_void: bool,
    /// Whose it was, and when and from where it was last used.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<TokenSummary>,
    /// Whether it had been revoked before.
    #[serde(skip_serializing_if = "Option::is_none")]
    was_revoked: Option<bool>,
}

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(stale)).routes(routes!(expire_unused)).routes(routes!(revoke_leaked))
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

/// Revokes tokens that have become known to others, at once.
///
/// Whoever is logged in may: who has the whole token could use it as well. Whose it was, and how it was used, is told only to
/// who manages its user, and to the user; to everybody else a token that is known reads as one that is not.
#[utoipa::path(post, path = "/v1/tokens/revoke-leaked", tag = "tokens", security(("token" = [])),
    request_body = Pasted, responses((status = OK, body = ShownLeaked)))]
async fn revoke_leaked(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    JsonBody(pasted): JsonBody<Pasted>,
) -> Result<Json<ShownLeaked>, ApiError> {
    let found = pasted.read()?;
    let digests: Vec<TokenDigest> = found.iter().map(|token| token.digest).collect();
    let leaked = admin
        .change(caller.author(), move |store, now| operations::revoke_leaked_tokens(store, &digests, now))
        .await?;
    let told: Vec<_> =
        leaked.into_iter().map(|leaked| leaked.filter(|leaked| may_know(&admin, &caller, leaked))).collect();
    let view = Arc::clone(&admin.shared.directory);
    let tokens = admin.read(move |records| {
        let pairs = found.iter().zip(&told);
        let each = pairs.map(|(pasted, told)| {
            let summary = told.as_ref().map(|leaked| TokenSummary::of(records, &view, leaked.stored.clone()));
            Ok(Leaked {
                position: pasted.line,
                token_prefix: pasted.prefix.clone(),
                is_void: true,
                token: summary.transpose()?,
                was_revoked: told.as_ref().map(|leaked| leaked.was_revoked),
            })
        });
        each.collect::<Result<Vec<_>, _>>()
    });
    let tokens = tokens.await?;
    let message = format!("None of these {} tokens opens anything any more.", tokens.len());
    Ok(Json(ShownLeaked { tokens, message }))
}

impl Pasted {
    fn read(self) -> Result<Vec<PastedToken>, ApiError> {
        let too_many = |field| ApiError::bad_request(field, format!("has more than {MOST_PASTED} tokens"));
        match (self.tokens, self.text) {
            (Some(tokens), None) => {
                if tokens.len() > MOST_PASTED {
                    return Err(too_many("tokens"));
                }
                let each = tokens.iter().enumerate().map(|(position, token)| {
                    let token = token.trim();
                    let (own, _) = pasted::find(token, 1);
                    let prefix = own.into_iter().find_map(|own| own.prefix);
                    PastedToken { digest: TokenDigest::of(token.as_bytes()), prefix, line: position + 1 }
                });
                Ok(each.collect())
            }
            (None, Some(text)) => match pasted::find(&text, MOST_PASTED) {
                (found, false) => Ok(found),
                (_, true) => Err(too_many("text")),
            },
            (None, None) | (Some(_), Some(_)) => {
                Err(ApiError::bad_request("tokens", "give either this or `text`"))
            }
        }
    }
}

/// Whether the caller manages the token's user, or is it.
fn may_know(admin: &Admin, caller: &Caller, leaked: &LeakedToken) -> bool {
    let permission = match leaked.stored.token.kind {
        TokenKind::Application => Permission::OrganizationAppUsersWrite,
        TokenKind::Personal | TokenKind::Session => Permission::OrganizationUsersWrite,
    };
    leaked.stored.token.user_id == caller.user_id()
        || leaked.organization_ids.iter().any(|id| {
            let organization = Resource::Organization(id.clone());
            caller.require(admin, &organization, permission).is_ok()
        })
}
