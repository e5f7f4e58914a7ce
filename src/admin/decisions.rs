//! `…/decisions/{request_id}` and `…/explain`: why a request was refused, and how one would be decided.
//!
//! Nothing is decided here: the rows are [`crate::policy`]'s, on facts as they were or as they are now.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::Method;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::{JsonBody, PathParameters};
use super::policy::{self as policies, Changes};
use super::{Admin, ApiError, Caller, beside, parameters, users};
use crate::directory::gather::{Gathered, Question};
use crate::directory::model::{Resource, Timestamp, TokenWithUsage};
use crate::directory::view::{ProjectCell, ProjectEntry};
use crate::directory::{StoreError, concern};
use crate::explain::question::{AskedRequest, Required};
use crate::explain::{self, DenialReport, Names, Row};
use crate::policy::{self, AuthenticationPolicy, Facts, Permission};
use crate::token::format::shown_prefix;

/// Most tokens of a user that are judged at once.
const MOST_TOKENS: usize = 100;

/// A request that is asked about before it is made.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = DecisionQuestion)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// The token, by its prefix.
    token_prefix: Option<String>,
    /// All tokens of this user in place of one token; the latest hundred that are not revoked.
    user_id: Option<String>,
    /// Where the request comes from; left out: from where the token was used last.
    client_address: Option<String>,
    /// Host and path, as in `metrics.example.com/api/v1/write`: the route says project and permission. With a query, that is all of
    /// the query.
    url: Option<String>,
    /// The method, with `url`; `GET` if left out.
    method: Option<String>,
    /// What is known of the request's headers, with `url`.
    #[serde(default)]
    headers: Vec<AskedHeader>,
    /// The project, in place of `url`.
    project: Option<String>,
    /// The permission, with `project`.
    permission: Option<String>,
    /// When: RFC 3339, or seconds since the Unix epoch; now if left out.
    time: Option<String>,
    /// Decide once more, were these keys of the policy so.
    policy: Option<Changes>,
}

/// A header of a request that is asked about.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = DecisionHeader)]
#[serde(deny_unknown_fields)]
struct AskedHeader {
    /// Its name.
    name: String,
    /// Its value; left out: the request has none of this name.
    value: Option<String>,
}

/// How a request would be decided.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DecisionAnswer)]
pub(super) struct Shown {
    /// The route that `url` leads to.
    route: Option<String>,
    /// The project.
    project: String,
    /// What is asked for there; of an offer to go on in another protocol the last, for it needs what its method needs as well.
    required_permission: &'static str,
    /// What was not said of the request, in words, and may lead to another route.
    depends_on: Vec<String>,
    #[schema(value_type = String, format = DateTime)]
    time: Timestamp,
    decisions: Vec<Decision>,
}

/// How it would be decided for one token.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Decision)]
struct Decision {
    token_prefix: String,
    user_id: String,
    #[schema(value_type = Option<String>)]
    client_address: Option<IpAddr>,
    #[serde(flatten)]
    verdict: Verdict,
    /// The same under the other policy, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    under_policy: Option<Verdict>,
}

/// What is decided, with every check.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DecisionVerdict)]
struct Verdict {
    /// `permit` or `deny`.
    decision: &'static str,
    /// Why it is denied.
    reason: Option<&'static str>,
    /// The status of Postern's own answer; `null`: the service's.
    status: Option<u16>,
    checks: Vec<Row>,
}

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(show)).routes(routes!(explain))
}

/// Says why a request was refused, check by check, on the facts as they were: for as long as this sidecar remembers it.
#[utoipa::path(get, path = "/v1/organization/{organization_id}/decisions/{request_id}", tag = "decisions",
    security(("token" = [])), params(("organization_id" = String, Path), ("request_id" = String, Path)),
    responses((status = OK, body = DenialReport)))]
async fn show(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters((organization_id, request_id)): PathParameters<(String, String)>,
) -> Result<Json<DenialReport>, ApiError> {
    require_reader(&admin, &caller, &organization_id)?;
    let view = &admin.shared.directory;
    let found = admin.shared.denials.find(&request_id.to_ascii_lowercase()).filter(|recent| {
        explain::organization_of(recent, view).is_some_and(|id| id.as_bytes() == organization_id.as_bytes())
    });
    let recent = found.ok_or_else(|| {
        let shown: String = request_id.chars().take(32).collect();
        ApiError::not_found("refused request", &shown)
    })?;
    let project = recent.denied().route.as_ref().map(|label| label.project.to_string());
    let directory = Arc::clone(view);
    let names =
        admin.read(move |records| Names::within(records, &directory, &organization_id, project.as_deref()));
    Ok(Json(DenialReport::new(&recent, view, &names.await?)))
}

/// Says how a request would be decided, check by check.
///
/// Not for tokens of people who belong to other organizations as well and whom this one does not manage: what restricts
/// them, and from where they are used, is theirs.
#[utoipa::path(post, path = "/v1/organization/{organization_id}/explain", tag = "decisions",
    security(("token" = [])), params(("organization_id" = String, Path)), request_body = Asked,
    responses((status = OK, body = Shown)))]
async fn explain(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(organization_id): PathParameters<String>,
    JsonBody(asked): JsonBody<Asked>,
) -> Result<Json<Shown>, ApiError> {
    require_reader(&admin, &caller, &organization_id)?;
    let place = Place::of(&admin, &organization_id, &asked)?;
    let client_address = parameters::address("client_address", asked.client_address.as_deref())?;
    let time = parameters::time("time", asked.time.as_deref())?.unwrap_or(caller.now());
    let other = match asked.policy {
        None => None,
        Some(changes) => {
            let mut other = policies::place(&admin, &organization_id)?.current.load().policy.clone();
            changes.read()?.apply(&mut other);
            Some(other)
        }
    };
    let (token_prefix, user_id) = (asked.token_prefix, asked.user_id);
    let decided = beside(move || {
        let store = admin.synchronizer.store();
        let view = &admin.shared.directory;
        let (tokens, of_others, names) = store.read(|records| {
            let tokens = match (&token_prefix, &user_id) {
                (Some(prefix), None) => records.token(prefix)?.into_iter().collect(),
                (None, Some(user_id)) => records.tokens(user_id)?,
                (None, None) | (Some(_), Some(_)) => Vec::new(),
            };
            // Of whom is not a member nothing is told, not even that it is there.
            let is_member = |token: &TokenWithUsage| {
                let memberships = records.memberships(&token.token.user_id)?;
                Ok(memberships.iter().any(|membership| membership.organization_id == organization_id))
            };
            let tokens = tokens.into_iter().map(|token| Ok(is_member(&token)?.then_some(token)));
            let tokens = tokens.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()?;
            let is_others = |token: &TokenWithUsage| {
                Ok(!concern::is_concerned(records, &token.token.user_id, &organization_id)?)
            };
            let of_others: Vec<bool> = tokens.iter().map(is_others).collect::<Result<_, StoreError>>()?;
            let names = Names::within(records, view, &organization_id, Some(&place.project))?;
            Ok((tokens, of_others.contains(&true), names))
        })?;
        if of_others {
            return Err(users::others().into());
        }
        let tokens = match (&token_prefix, &user_id) {
            (Some(prefix), None) if tokens.is_empty() => {
                return Err(ApiError::not_found("token", &shown_prefix(prefix)));
            }
            (None, Some(_)) => tokens
                .into_iter()
                .filter(|token| token.token.revoked_time.is_none())
                .take(MOST_TOKENS)
                .collect(),
            (Some(_), None) => tokens,
            (None, None) | (Some(_), Some(_)) => {
                return Err(ApiError::bad_request("token_prefix", "give either this or `user_id`"));
            }
        };
        let cell = ProjectCell { current: Some(Arc::clone(&place.entry)).into() };
        let decisions = tokens.into_iter().filter_map(|stored| {
            let entry = view.tokens.find(&stored.token.digest)?;
            let from = client_address.or_else(|| entry.last_used_by().0);
            let gathered = |required| {
                let client_address = from.unwrap_or(IpAddr::from([0, 0, 0, 0]));
                Gathered::new(view, entry, Some(&cell), Question { now: time.0, client_address, required })
            };
            let Required { first, then } = place.required;
            let (first, then) = (gathered(first), then.map(gathered));
            let verdict = |under: Option<&AuthenticationPolicy>| {
                let of = |gathered: &Gathered<'_>| {
                    let facts = gathered.facts();
                    match under {
                        None => Verdict::of(&facts, &names),
                        Some(policy) => Verdict::of(&facts.under(policy), &names),
                    }
                };
                let verdict = of(&first);
                if verdict.reason.is_none() { then.as_ref().map_or(verdict, of) } else { verdict }
            };
            Some(Decision {
                token_prefix: stored.token.token_prefix,
                user_id: stored.token.user_id,
                client_address: from,
                verdict: verdict(None),
                under_policy: other.as_ref().map(|policy| verdict(Some(policy))),
            })
        });
        Ok(Shown {
            decisions: decisions.collect(),
            route: place.route,
            project: place.project,
            required_permission: place.required.then.unwrap_or(place.required.first).as_str(),
            depends_on: place.depends_on,
            time,
        })
    });
    Ok(Json(decided.await?))
}

/// Whoever may read the event log may know how requests are decided.
fn require_reader(admin: &Admin, caller: &Caller, organization_id: &str) -> Result<(), ApiError> {
    let organization = Resource::Organization(organization_id.to_owned());
    caller.require(admin, &organization, Permission::OrganizationEventLogsRead)
}

/// What a request is for.
struct Place {
    route: Option<String>,
    project: String,
    entry: Arc<ProjectEntry>,
    required: Required,
    depends_on: Vec<String>,
}

impl Place {
    fn of(admin: &Admin, organization_id: &str, asked: &Asked) -> Result<Self, ApiError> {
        match (&asked.url, &asked.project) {
            (Some(url), None) => Self::of_url(admin, organization_id, url, asked),
            (None, Some(name)) => {
                let required = parameters::permission("permission", asked.permission.as_deref())?;
                let required = required
                    .ok_or_else(|| ApiError::bad_request("permission", "is missing beside `project`"))?;
                if !asked.headers.is_empty() {
                    return Err(ApiError::bad_request("headers", "say something only beside `url`"));
                }
                let entry = policies::project(admin, organization_id, name)?;
                let required = Required::one(required);
                Ok(Self { route: None, project: name.clone(), entry, required, depends_on: Vec::new() })
            }
            (None, None) | (Some(_), Some(_)) => {
                Err(ApiError::bad_request("url", "give either this or `project` and `permission`"))
            }
        }
    }

    /// Finds the route as the pipeline does.
    fn of_url(admin: &Admin, organization_id: &str, url: &str, asked: &Asked) -> Result<Self, ApiError> {
        let method = asked.method.as_deref().unwrap_or("GET").parse::<Method>();
        let method = method.map_err(|_| ApiError::bad_request("method", "this is no method of HTTP"))?;
        let mut request =
            AskedRequest::new(url, method).map_err(|error| ApiError::bad_request("url", error))?;
        for AskedHeader { name, value } in &asked.headers {
            let said = request.say_header(name, value.as_deref());
            said.map_err(|error| ApiError::bad_request("headers", error))?;
        }
        let snapshot = admin.shared.snapshot();
        let found = request.route(&snapshot).map_err(|error| ApiError::bad_request("url", error))?;
        let found = found.and_then(|position| snapshot.routes.get(position));
        let no_route = || {
            ApiError::new(
                http::StatusCode::NOT_FOUND,
                "no_route",
                "No route of this organization leads there.",
            )
        };
        let route = found.ok_or_else(no_route)?;
        if request.is_let_in_by(route) {
            return Err(ApiError::conflict(
                "This route is declared open: everybody is let in, no token is asked for.",
            ));
        }
        let entry =
            policies::project(admin, organization_id, &route.label.project).map_err(|_| no_route())?;
        Ok(Self {
            route: Some(route.name.to_string()),
            project: route.label.project.to_string(),
            entry,
            required: request.required(route),
            depends_on: request.depends_on(&snapshot),
        })
    }
}

impl Verdict {
    fn of(facts: &Facts<'_>, names: &Names) -> Self {
        let denial = policy::decide(facts).err();
        Self {
            decision: if denial.is_none() { "permit" } else { "deny" },
            reason: denial.map(|denial| denial.code()),
            status: denial.map(|denial| denial.status().as_u16()),
            checks: explain::rows(facts, names),
        }
    }
}
