//! `/v1/tokens/revoke-leaked`: which of the tokens that somebody pastes are known, whose they are, and ending them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::JsonBody;
use super::{Admin, ApiError, Caller};
use crate::directory::model::Resource;
use crate::directory::operations::{self, LeakedToken};
use crate::directory::summary::TokenSummary;
use crate::policy::Permission;
use crate::token::pasted::{self, PastedToken};
use crate::token::{TokenDigest, TokenKind};

/// Most pasted tokens that are revoked in one request.
const MOST_PASTED: usize = 1_000;

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
    OpenApiRouter::new().routes(routes!(revoke_leaked))
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
