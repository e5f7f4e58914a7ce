//! `…/events`: the organization's event log, page by page.

#![allow(unused_qualifications, reason = "utoipa writes them for query parameters")]

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::{PathParameters, QueryParameters};
use super::{Admin, ApiError, Caller, parameters};
use crate::directory::model::{Event, Resource};
use crate::directory::store::{EventOrder, EventQuery, EventScope};
use crate::policy::Permission;

/// Most entries of a page.
const MOST: u32 = 1_000;

/// Which entries, and how many.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// At most so many entries, 1 to 1000; 100 if left out.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<u64>,
    /// `latest_first` (the default) or `oldest_first`.
    order: Option<String>,
    /// Of this type, such as `token_revoked`.
    #[serde(rename = "type")]
    #[param(rename = "type")]
    event_type: Option<String>,
    /// Done by the user with this id.
    actor: Option<String>,
    /// That happened to this kind of thing, such as `token`.
    entity: Option<String>,
    /// That happened to the thing with this id.
    entity_id: Option<String>,
    /// Done with the token with this prefix, or to it.
    token_prefix: Option<String>,
    /// At this time or later: RFC 3339, or seconds since the Unix epoch.
    since: Option<String>,
    /// Before this time.
    until: Option<String>,
}

/// A page of the event log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventPage)]
pub(super) struct Shown {
    events: Vec<Event>,
    /// What to ask for to go on; left out where nothing follows. There may be a next page though this one is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<u64>,
}

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Lists who changed what, and who logged in, when and from where.
#[utoipa::path(get, path = "/v1/organization/{organization_id}/events", tag = "event log", security(("token" = [])),
    params(("organization_id" = String, Path), Asked), responses((status = OK, body = Shown)))]
async fn list(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(organization_id): PathParameters<String>,
    QueryParameters(asked): QueryParameters<Asked>,
) -> Result<Json<Shown>, ApiError> {
    let organization = Resource::Organization(organization_id.clone());
    caller.require(&admin, &organization, Permission::OrganizationEventLogsRead)?;
    let order = match asked.order.as_deref() {
        None | Some("latest_first") => EventOrder::LatestFirst { before: asked.cursor },
        Some("oldest_first") => EventOrder::OldestFirst { after: asked.cursor.unwrap_or(0) },
        Some(_) => return Err(ApiError::bad_request("order", "write `latest_first` or `oldest_first`")),
    };
    let since = parameters::time("since", asked.since.as_deref())?;
    let until = parameters::time("until", asked.until.as_deref())?;
    let limit = asked.limit.unwrap_or(100).clamp(1, MOST);
    let page = admin
        .read(move |records| {
            records.events(&EventQuery {
                scope: EventScope::Organization(&organization_id),
                order,
                event_type: asked.event_type.as_deref(),
                actor_user_id: asked.actor.as_deref(),
                entity: asked.entity.as_deref(),
                entity_id: asked.entity_id.as_deref(),
                token_prefix: asked.token_prefix.as_deref(),
                since,
                until,
                limit,
            })
        })
        .await?;
    Ok(Json(Shown { events: page.events, next_cursor: page.next }))
}
