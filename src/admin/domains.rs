//! `/v1/organization/{organization_id}/domains`: the domains that an organization claims, and showing that they are its.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::JsonBody;
use super::{Admin, ApiError, Caller};
use crate::directory::StoreError;
use crate::directory::model::{Domain, DomainState, DomainVerification, Resource, Timestamp, Word};
use crate::directory::operations;
use crate::directory::store::Records;
use crate::policy::Permission;

/// A domain, as Aiven's API shows it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Domain)]
pub(super) struct Shown {
    domain_id: String,
    domain_name: String,
    organization_id: String,
    /// `unverified`, `verified` or `deleted`.
    state: &'static str,
    /// `dns` or `http`.
    verification_type: &'static str,
    /// What has to be found at the domain: the TXT record of `_aiven-challenge.{domain}` says
    /// `token=…,expiry=never`, or a line of the file `/.well-known/aiven` is it.
    challenge_token: String,
    /// Identity providers that log in people of the domain.
    linked_authentication_method_ids: Vec<String>,
    #[schema(value_type = String, format = DateTime)]
    create_time: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DomainList)]
pub(super) struct ShownList {
    domains: Vec<Shown>,
}

/// A domain to claim.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewDomain)]
pub(super) struct New {
    domain_name: String,
    verification_type: Option<Verification>,
}

/// What may change of a domain; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DomainChanges)]
pub(super) struct Changes {
    verification_type: Option<Verification>,
}

/// How a domain is shown to be the organization's.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = DomainVerificationType)]
pub(super) enum Verification {
    /// By a TXT record.
    Dns,
    /// By a file on its web server.
    Http,
}

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(change, remove)).routes(routes!(verify))
}

/// Lists the domains that an organization claims.
#[utoipa::path(get, path = "/v1/organization/{organization_id}/domains", tag = "domains",
    security(("token" = [])), params(("organization_id" = String, Path)),
    responses(
        (status = OK, body = ShownList),
    ))]
async fn list(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Path(organization_id): Path<String>,
) -> Result<Json<ShownList>, ApiError> {
    require(&admin, &caller, &organization_id)?;
    let domains = admin
        .read(move |records| {
            let domains = records.domains(&organization_id)?.into_iter();
            let claimed = domains.filter(|domain| domain.state != DomainState::Deleted);
            claimed.map(|domain| Shown::of(records, domain)).collect::<Result<_, _>>()
        })
        .await?;
    Ok(Json(ShownList { domains }))
}

/// Claims a domain. It is the organization's once it is verified.
#[utoipa::path(post, path = "/v1/organization/{organization_id}/domains", tag = "domains",
    security(("token" = [])), params(("organization_id" = String, Path)), request_body = New,
    responses(
        (status = OK, body = Shown),
    ))]
async fn add(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Path(organization_id): Path<String>,
    JsonBody(new): JsonBody<New>,
) -> Result<Json<Shown>, ApiError> {
    require(&admin, &caller, &organization_id)?;
    let verification = new.verification_type.unwrap_or(Verification::Dns).into();
    let domain = admin
        .change(caller.author(), move |store, now| {
            operations::add_domain(store, &organization_id, &new.domain_name, verification, now)
        })
        .await?;
    shown(&admin, domain).await
}

/// Changes how a domain is verified. One that was verified another way has to be verified again.
#[utoipa::path(patch, path = "/v1/organization/{organization_id}/domains/{domain_id}", tag = "domains",
    security(("token" = [])), params(("organization_id" = String, Path), ("domain_id" = String, Path)),
    request_body = Changes,
    responses(
        (status = OK, body = Shown),
    ))]
async fn change(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Path((organization_id, id)): Path<(String, String)>,
    JsonBody(changes): JsonBody<Changes>,
) -> Result<Json<Shown>, ApiError> {
    require(&admin, &caller, &organization_id)?;
    let domain = match changes.verification_type {
        None => find(&admin, &organization_id, &id).await?,
        Some(verification) => {
            let change = move |store: &dyn crate::directory::Store, now| {
                operations::update_domain(store, &organization_id, &id, verification.into(), now)
            };
            admin.change(caller.author(), change).await?
        }
    };
    shown(&admin, domain).await
}

/// Gives a domain up: its people are no longer managed, and identity providers no longer log them in.
#[utoipa::path(delete, path = "/v1/organization/{organization_id}/domains/{domain_id}", tag = "domains",
    security(("token" = [])), params(("organization_id" = String, Path), ("domain_id" = String, Path)),
    responses(
        (status = NO_CONTENT),
    ))]
async fn remove(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Path((organization_id, id)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    require(&admin, &caller, &organization_id)?;
    admin
        .change(caller.author(), move |store, now| {
            operations::delete_domain(store, &organization_id, &id, now)
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Looks for the challenge at the domain; if it is there, the domain is verified.
#[utoipa::path(post, path = "/v1/organization/{organization_id}/domains/{domain_id}/verify", tag = "domains",
    security(("token" = [])), params(("organization_id" = String, Path), ("domain_id" = String, Path)),
    responses(
        (status = OK, body = Shown),
    ))]
async fn verify(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    Path((organization_id, id)): Path<(String, String)>,
) -> Result<Json<Shown>, ApiError> {
    require(&admin, &caller, &organization_id)?;
    let domain = find(&admin, &organization_id, &id).await?;
    if domain.state == DomainState::Verified {
        return shown(&admin, domain).await;
    }
    let settings = admin.settings();
    let check = settings.others.domain_check()?;
    check.check(&domain).await.map_err(|reason| {
        ApiError::new(StatusCode::BAD_REQUEST, "domain_not_verified", format!("domain: {reason}"))
    })?;
    let domain = admin
        .change(caller.author(), move |store, now| {
            operations::verify_domain(store, &organization_id, &id, now)
        })
        .await?;
    shown(&admin, domain).await
}

fn require(admin: &Admin, caller: &Caller, organization_id: &str) -> Result<(), ApiError> {
    let organization = Resource::Organization(organization_id.to_owned());
    caller.require(admin, &organization, Permission::OrganizationDomainsWrite)
}

async fn find(admin: &Admin, organization_id: &str, id: &str) -> Result<Domain, ApiError> {
    let wanted = id.to_owned();
    let found = admin.read(move |records| records.domain(&wanted)).await?;
    found
        .filter(|domain| domain.organization_id == organization_id && domain.state != DomainState::Deleted)
        .ok_or_else(|| ApiError::not_found("domain", id))
}

async fn shown(admin: &Admin, domain: Domain) -> Result<Json<Shown>, ApiError> {
    admin.read(move |records| Shown::of(records, domain.clone())).await.map(Json)
}

impl Shown {
    fn of(records: &dyn Records, domain: Domain) -> Result<Self, StoreError> {
        let providers = records.identity_providers(&domain.organization_id)?;
        let linked = providers.into_iter().filter(|provider| provider.linked_domain_ids.contains(&domain.id));
        Ok(Self {
            linked_authentication_method_ids: linked.map(|provider| provider.id).collect(),
            state: domain.state.word(),
            verification_type: domain.verification_type.word(),
            domain_id: domain.id,
            domain_name: domain.name,
            organization_id: domain.organization_id,
            challenge_token: domain.challenge_token,
            create_time: domain.create_time,
        })
    }
}

impl From<Verification> for DomainVerification {
    fn from(verification: Verification) -> Self {
        match verification {
            Verification::Dns => Self::Dns,
            Verification::Http => Self::Http,
        }
    }
}
