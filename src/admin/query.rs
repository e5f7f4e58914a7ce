//! Query parameters that nobody knows: refused where they are Postern's own to name. `unused_for_day=1` that is ignored
//! answers another question than was asked, and looks like an answer to it.
//!
//! Aiven's operations ignore them: its clients add their own. What must not live here: what a parameter means.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::{MatchedPath, Query, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::Method;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::{OpenApi, RefOr};

use super::{ApiError, document};

/// What Aiven's API does not have.
const OWN: [&str; 12] = [
    "/v1/organization/{organization_id}/application-users/{user_id}/access-tokens/{token_prefix}/rotate",
    "/v1/organization/{organization_id}/config/authentication/candidate",
    "/v1/organization/{organization_id}/config/authentication/preview",
    "/v1/organization/{organization_id}/decisions/{request_id}",
    "/v1/organization/{organization_id}/events",
    "/v1/organization/{organization_id}/explain",
    "/v1/organization/{organization_id}/tokens",
    "/v1/organization/{organization_id}/tokens/expire-unused",
    "/v1/organization/{organization_id}/tokens/stale",
    "/v1/organization/{organization_id}/tokens/{token_prefix}",
    "/v1/organization/{organization_id}/user/{user_id}/reset_two_factor",
    "/v1/tokens/revoke-leaked",
];

/// Aiven's Go clients append it to every GET.
const ANYWHERE: &str = "limit";

/// The query parameters of each of Postern's own operations, as the OpenAPI document has them.
#[derive(Debug, Default)]
pub(super) struct KnownParameters(BTreeMap<&'static str, Vec<(Method, BTreeSet<String>)>>);

impl KnownParameters {
    pub(super) fn new(document: &mut OpenApi) -> Self {
        let mut known = BTreeMap::new();
        for path in OWN {
            let item = document.paths.paths.get_mut(path);
            debug_assert!(item.is_some(), "{path} is none of the API's");
            let Some(item) = item else { continue };
            let operations = document::operations(item).map(|(method, operation)| (method, of(operation)));
            known.insert(path, operations.collect());
        }
        Self(known)
    }
}

fn of(operation: &Operation) -> BTreeSet<String> {
    let parameters = operation.parameters.iter().flatten().filter_map(|parameter| match parameter {
        RefOr::T(parameter) => Some(parameter),
        RefOr::Ref(_) => None,
    });
    let in_query = parameters.filter(|parameter| matches!(parameter.parameter_in, ParameterIn::Query));
    in_query.map(|parameter| parameter.name.clone()).collect()
}

/// Refuses a request with a parameter that its operation does not have.
pub(super) async fn refuse_unknown(
    State(known): State<Arc<KnownParameters>>,
    matched: MatchedPath,
    request: Request,
    next: Next,
) -> Response {
    match check(&known, matched.as_str(), &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn check(known: &KnownParameters, path: &str, request: &Request) -> Result<(), ApiError> {
    let Some(operations) = known.0.get(path) else { return Ok(()) };
    let operation = operations.iter().find(|(method, _)| method == request.method());
    let Some((_, parameters)) = operation else { return Ok(()) };
    // What cannot be read is refused by whoever reads it; who reads nothing has nothing to misread.
    let Ok(Query(given)) = Query::<Vec<(String, String)>>::try_from_uri(request.uri()) else { return Ok(()) };
    let unknown = given.iter().find(|(name, _)| name != ANYWHERE && !parameters.contains(name));
    let Some((name, _)) = unknown else { return Ok(()) };
    let named: Vec<&str> = parameters.iter().map(String::as_str).collect();
    let reason = match named.as_slice() {
        [] => "there are no query parameters here".to_owned(),
        named => format!("there is no such query parameter here; there are {}", named.join(", ")),
    };
    Err(ApiError::bad_request(name, reason))
}
