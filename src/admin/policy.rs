//! `…/config/authentication`: the organization's authentication policy, what another one would do (a preview), and one
//! that is tried on real requests (a candidate).

#![allow(unused_qualifications, reason = "utoipa writes them for query parameters")]

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::{JsonBody, PathParameters, QueryParameters};
use super::version::{self, Versioned};
use super::{Admin, ApiError, Caller, beside, parameters};
use crate::directory::guarded::GuardedStore;
use crate::directory::model::{Resource, Timestamp};
use crate::directory::operations::{self, PolicyUpdate};
use crate::directory::preview::report::{PreviewReport, QuestionReport};
use crate::directory::preview::{PreviewPage, PreviewQuestion, preview as preview_of};
use crate::directory::store::Records;
use crate::directory::view::OrganizationCell;
use crate::policy::{AuthenticationPolicy, Denial, Permission, address};

/// Most tokens of each list of a preview.
const MOST: usize = 1_000;

/// Keys of the policy with other values; what is left out stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(as = AuthenticationPolicyUpdate)]
#[serde(deny_unknown_fields)]
pub(super) struct Changes {
    /// People may log in with a password.
    password_auth_enabled: Option<bool>,
    /// Password logins need two-factor authentication.
    two_factor_required: Option<bool>,
    /// People may log in with Google, Microsoft or GitHub.
    oauth_enabled: Option<bool>,
    /// People may log in with an identity provider.
    saml_enabled: Option<bool>,
    /// Identity providers of other organizations count too.
    saml_allow_external: Option<bool>,
    /// Personal tokens may be used.
    personal_tokens_enabled: Option<bool>,
    /// Personal tokens work only while the method they were made with is allowed.
    personal_tokens_require_allowed_auth_method: Option<bool>,
    /// Model Context Protocol servers may be used.
    mcp_enabled: Option<bool>,
    /// Addresses and networks that any token may be used from; none: any.
    #[schema(max_items = 1000, example = json!(["10.0.0.0/8"]))]
    allowed_ip_ranges: Option<Vec<String>>,
}

/// Which change, and what is asked about it.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// Another value of this key of the policy; so for the other keys.
    password_auth_enabled: Option<bool>,
    two_factor_required: Option<bool>,
    oauth_enabled: Option<bool>,
    saml_enabled: Option<bool>,
    saml_allow_external: Option<bool>,
    personal_tokens_enabled: Option<bool>,
    personal_tokens_require_allowed_auth_method: Option<bool>,
    mcp_enabled: Option<bool>,
    /// Addresses and networks, separated by commas; empty: any.
    allowed_ip_ranges: Option<String>,
    /// Ask about requests for this project, with `permission`: scopes and grants count too.
    project: Option<String>,
    /// The permission that those requests need.
    permission: Option<String>,
    /// Where requests come from; left out: from where each token was used last.
    client_address: Option<String>,
    /// At most so many tokens in each list, 1 to 1000; 100 if left out.
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<u32>,
}

/// What somebody says who means it.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Confirmation {
    /// Change the policy though the token of this request would not be let in any more.
    confirm_lockout: bool,
}

/// A policy that is tried on real requests, with what came of it on this sidecar.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CandidatePolicy)]
pub(super) struct ShownCandidate {
    organization_id: String,
    /// The policy; `null`: none is tried.
    candidate: Option<AuthenticationPolicy>,
    /// Since when this sidecar counts.
    #[schema(value_type = Option<String>, format = DateTime)]
    counted_since: Option<Timestamp>,
    /// Requests it was tried on.
    requests: u64,
    /// Requests that were let in and that it would refuse, by its reason.
    #[schema(value_type = BTreeMap<String, u64>)]
    would_deny: BTreeMap<&'static str, u64>,
    /// Requests that were refused and that it would let in, by the reason they were refused for.
    #[schema(value_type = BTreeMap<String, u64>)]
    would_permit: BTreeMap<&'static str, u64>,
}

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(show, change)).routes(routes!(preview)).routes(routes!(
        show_candidate,
        put_candidate,
        delete_candidate
    ))
}

/// Shows the policy in force.
#[utoipa::path(get, path = "/v1/organization/{organization_id}/config/authentication", tag = "authentication policy",
    security(("token" = [])), params(("organization_id" = String, Path)),
    responses((status = OK, body = AuthenticationPolicy)))]
async fn show(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(organization_id): PathParameters<String>,
) -> Result<Versioned<AuthenticationPolicy>, ApiError> {
    caller.require_organization_admin(&admin, &organization_id)?;
    Ok(Versioned(in_force(&admin, &organization_id)?))
}

/// Changes what is named of the policy, and shows the whole.
///
/// A policy that the configuration pins is changed there: 409, and the message names the file. One under which the token of
/// this very request would not be let in any more is refused too (409, `policy_would_lock_you_out`) unless that is
/// confirmed.
#[utoipa::path(patch, path = "/v1/organization/{organization_id}/config/authentication",
    tag = "authentication policy", security(("token" = [])),
    params(("organization_id" = String, Path), Confirmation), request_body = Changes,
    responses((status = OK, body = AuthenticationPolicy)))]
async fn change(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(organization_id): PathParameters<String>,
    QueryParameters(confirmation): QueryParameters<Confirmation>,
    headers: HeaderMap,
    JsonBody(changes): JsonBody<Changes>,
) -> Result<Versioned<AuthenticationPolicy>, ApiError> {
    caller.require_organization_admin(&admin, &organization_id)?;
    refuse_if_pinned(&admin, &organization_id)?;
    let update = changes.read()?;
    if !confirmation.confirm_lockout {
        refuse_to_lock_out(&admin, &caller, &organization_id, &update)?;
    }
    let expected = version::expected(&headers);
    let changed = admin
        .change(caller.author(), move |store, now| {
            let is_expected = |records: &dyn Records| {
                let organization = records.organization(&organization_id)?;
                let policy = organization.and_then(|organization| organization.authentication_policy);
                expected.check("authentication policy", &organization_id, &policy.unwrap_or_default())
            };
            operations::set_policy(&GuardedStore::new(store, &is_expected), &organization_id, &update, now)
        })
        .await?;
    Ok(Versioned(changed))
}

/// Shows what another policy would do: which tokens and users would stop working, and which would start.
///
/// The deciding code itself says so. Without a key of the policy, the candidate policy is asked about, if there is one.
#[utoipa::path(get, path = "/v1/organization/{organization_id}/config/authentication/preview",
    tag = "authentication policy", security(("token" = [])),
    params(("organization_id" = String, Path), Asked), responses((status = OK, body = PreviewReport)))]
async fn preview(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(organization_id): PathParameters<String>,
    QueryParameters(asked): QueryParameters<Asked>,
) -> Result<Json<PreviewReport>, ApiError> {
    caller.require_organization_admin(&admin, &organization_id)?;
    let place = place(&admin, &organization_id)?;
    let update = asked.changes().read()?;
    let permission = parameters::permission("permission", asked.permission.as_deref())?;
    let client_address = parameters::address("client_address", asked.client_address.as_deref())?;
    let project = match (&asked.project, permission) {
        (None, None) => None,
        (Some(name), Some(permission)) => Some((project(&admin, &organization_id, name)?, permission)),
        (Some(_), None) => return Err(ApiError::bad_request("permission", "is missing beside `project`")),
        (None, Some(_)) => return Err(ApiError::bad_request("project", "is missing beside `permission`")),
    };
    let page =
        PreviewPage { after: asked.cursor.unwrap_or(0), limit: asked.limit.unwrap_or(100).clamp(1, MOST) };
    let now = caller.now().0;
    let report = beside(move || {
        let current = place.current.load_full();
        let before = current.policy.clone();
        let mut after = match &current.candidate {
            Some(candidate) if update == PolicyUpdate::default() => candidate.policy.clone(),
            _ => before.clone(),
        };
        update.apply(&mut after);
        let asked_for = project.as_ref().map(|(entry, permission)| (&**entry, *permission));
        let question = PreviewQuestion { asked: asked_for, client_address, now };
        let view = &admin.shared.directory;
        // The store is asked only afterwards, and only for the page: judging all tokens may take a while.
        let found = preview_of(view, &place, &after, question, page);
        let named = asked.project.as_deref().zip(permission.map(Permission::as_str));
        let report = admin.synchronizer.store().read(|records| {
            let question = QuestionReport::new(named, client_address);
            PreviewReport::new(records, view, &organization_id, [&before, &after], question, &found)
        })?;
        Ok(report)
    });
    Ok(Json(report.await?))
}

/// Shows the policy that is tried on real requests, with its counts.
#[utoipa::path(get, path = "/v1/organization/{organization_id}/config/authentication/candidate",
    tag = "authentication policy", security(("token" = [])), params(("organization_id" = String, Path)),
    responses((status = OK, body = ShownCandidate)))]
async fn show_candidate(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(organization_id): PathParameters<String>,
) -> Result<Json<ShownCandidate>, ApiError> {
    caller.require_organization_admin(&admin, &organization_id)?;
    Ok(Json(ShownCandidate::of(&organization_id, &*place(&admin, &organization_id)?)))
}

/// Tries a policy on real requests from now on, without refusing any. What is left out is as in the policy in force.
#[utoipa::path(put, path = "/v1/organization/{organization_id}/config/authentication/candidate",
    tag = "authentication policy", security(("token" = [])),
    params(("organization_id" = String, Path)), request_body = Changes,
    responses((status = OK, body = ShownCandidate)))]
async fn put_candidate(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(organization_id): PathParameters<String>,
    JsonBody(changes): JsonBody<Changes>,
) -> Result<Json<ShownCandidate>, ApiError> {
    caller.require_organization_admin(&admin, &organization_id)?;
    let mut candidate = in_force(&admin, &organization_id)?;
    changes.read()?.apply(&mut candidate);
    set_candidate(&admin, &caller, &organization_id, Some(candidate)).await?;
    Ok(Json(ShownCandidate::of(&organization_id, &*place(&admin, &organization_id)?)))
}

/// Tries no policy any more.
#[utoipa::path(delete, path = "/v1/organization/{organization_id}/config/authentication/candidate",
    tag = "authentication policy", security(("token" = [])), params(("organization_id" = String, Path)),
    responses((status = NO_CONTENT)))]
async fn delete_candidate(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(organization_id): PathParameters<String>,
) -> Result<StatusCode, ApiError> {
    caller.require_organization_admin(&admin, &organization_id)?;
    set_candidate(&admin, &caller, &organization_id, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_candidate(
    admin: &Admin,
    caller: &Caller,
    organization_id: &str,
    candidate: Option<AuthenticationPolicy>,
) -> Result<(), ApiError> {
    let id = organization_id.to_owned();
    let change = admin.change(caller.author(), move |store, now| {
        operations::set_candidate_policy(store, &id, candidate.as_ref(), now)
    });
    change.await
}

/// Refuses a policy that would refuse the token of this very request, which is let in now: nobody could undo it with that.
fn refuse_to_lock_out(
    admin: &Admin,
    caller: &Caller,
    organization_id: &str,
    update: &PolicyUpdate,
) -> Result<(), ApiError> {
    let mut after = in_force(admin, organization_id)?;
    update.apply(&mut after);
    caller.reaches_under(admin, organization_id, &after).map_err(|denial| {
        ApiError::new(
            StatusCode::CONFLICT,
            "policy_would_lock_you_out",
            format!(
                "Under this policy the token that you use would not be let in any more ({}), and you could not undo it \
                 with that. If you mean it, confirm with ?confirm_lockout=true.",
                denial.code()
            ),
        )
    })
}

fn refuse_if_pinned(admin: &Admin, organization_id: &str) -> Result<(), ApiError> {
    let settings = admin.settings();
    let organization = &settings.organization;
    if organization.id == organization_id && organization.authentication.is_some() {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "policy_pinned",
            format!(
                "The policy is pinned by {}: change [organization.authentication] there, or remove that table.",
                settings.file.display()
            ),
        ));
    }
    Ok(())
}

pub(super) fn place(admin: &Admin, organization_id: &str) -> Result<Arc<OrganizationCell>, ApiError> {
    let place = admin.shared.directory.organization(organization_id);
    place.ok_or_else(|| ApiError::not_found("organization", organization_id))
}

/// The configuration's policy if it pins one, else the store's.
fn in_force(admin: &Admin, organization_id: &str) -> Result<AuthenticationPolicy, ApiError> {
    Ok(place(admin, organization_id)?.current.load().policy.clone())
}

/// A project of the organization.
pub(super) fn project(
    admin: &Admin,
    organization_id: &str,
    name: &str,
) -> Result<Arc<crate::directory::view::ProjectEntry>, ApiError> {
    let cell = admin.shared.directory.resource(&Resource::Project(name.to_owned()));
    let entry = cell.and_then(|cell| cell.current.load_full());
    let ours = entry.filter(|entry| entry.organization.id.as_bytes() == organization_id.as_bytes());
    ours.ok_or_else(|| ApiError::not_found("project", name))
}

impl Asked {
    fn changes(&self) -> Changes {
        let ranges = self.allowed_ip_ranges.as_deref().map(|text| {
            let ranges = text.split(',').map(str::trim).filter(|range| !range.is_empty());
            ranges.map(str::to_owned).collect()
        });
        Changes {
            password_auth_enabled: self.password_auth_enabled,
            two_factor_required: self.two_factor_required,
            oauth_enabled: self.oauth_enabled,
            saml_enabled: self.saml_enabled,
            saml_allow_external: self.saml_allow_external,
            personal_tokens_enabled: self.personal_tokens_enabled,
            personal_tokens_require_allowed_auth_method: self.personal_tokens_require_allowed_auth_method,
            mcp_enabled: self.mcp_enabled,
            allowed_ip_ranges: ranges,
        }
    }
}

impl Changes {
    /// The update, ranges read.
    pub(super) fn read(self) -> Result<PolicyUpdate, ApiError> {
        const FIELD: &str = "allowed_ip_ranges";
        let read =
            |text: &String| address::parse_range(text).map_err(|error| ApiError::bad_request(FIELD, error));
        let ranges = self.allowed_ip_ranges.as_ref();
        if ranges.is_some_and(|ranges| ranges.len() > MOST) {
            return Err(ApiError::bad_request(FIELD, format!("has more than {MOST} ranges")));
        }
        let allowed_ip_ranges = ranges.map(|ranges| ranges.iter().map(read).collect()).transpose()?;
        Ok(PolicyUpdate {
            password_auth_enabled: self.password_auth_enabled,
            two_factor_required: self.two_factor_required,
            oauth_enabled: self.oauth_enabled,
            saml_enabled: self.saml_enabled,
            saml_allow_external: self.saml_allow_external,
            personal_tokens_enabled: self.personal_tokens_enabled,
            personal_tokens_require_allowed_auth_method: self.personal_tokens_require_allowed_auth_method,
            mcp_enabled: self.mcp_enabled,
            allowed_ip_ranges,
        })
    }
}

impl ShownCandidate {
    fn of(organization_id: &str, place: &OrganizationCell) -> Self {
        let current = place.current.load();
        let candidate = current.candidate.as_deref();
        let counts = candidate.map(|candidate| candidate.counts()).unwrap_or_default();
        let by_code =
            |counts: &[(Denial, u64)]| counts.iter().map(|(denial, count)| (denial.code(), *count)).collect();
        Self {
            organization_id: organization_id.to_owned(),
            candidate: candidate.map(|candidate| candidate.policy.clone()),
            counted_since: candidate.map(|candidate| candidate.counted_since),
            requests: counts.tried,
            would_deny: by_code(&counts.would_deny),
            would_permit: by_code(&counts.would_permit),
        }
    }
}
