//! `/v1/project`: the projects of the organizations that the caller belongs to. They come from the configuration; the API
//! shows them and does not change them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::PathParameters;
use super::{Admin, ApiError, Caller};
use crate::directory::StoreError;
use crate::directory::model::Project;
use crate::directory::store::Records;

/// A project.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Project)]
pub(super) struct Shown {
    #[schema(example = "demo")]
    project_name: String,
    organization_id: String,
    /// The account of the organization; here they are one.
    account_id: String,
    account_name: String,
    /// What it nests in: an organizational unit, or the organization.
    parent_id: String,
    /// Aiven's clients print it; Postern places nothing in clouds.
    default_cloud: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProjectList)]
pub(super) struct ShownList {
    projects: Vec<Shown>,
    /// Aiven's clients expect it; grants say who may do what here.
    #[schema(value_type = Object)]
    project_membership: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProjectAnswer)]
pub(super) struct ShownOne {
    project: Shown,
}

pub(super) fn router() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show))
}

/// Lists the projects of the organizations that the caller belongs to.
#[utoipa::path(get, path = "/v1/project", tag = "projects", security(("token" = [])),
    responses((status = OK, body = ShownList)))]
async fn list(State(admin): State<Arc<Admin>>, caller: Caller) -> Result<Json<ShownList>, ApiError> {
    let user_id = caller.user_id().to_owned();
    let projects = admin
        .read(move |records| {
            let mut projects = Vec::new();
            for membership in records.memberships(&user_id)? {
                for project in records.projects(&membership.organization_id)? {
                    projects.push(shown(records, project)?);
                }
            }
            Ok(projects)
        })
        .await?;
    // Whom an organization's policy keeps out does not see what it has.
    let reachable = |project: &Shown| caller.require_member(&admin, &project.organization_id).is_ok();
    Ok(Json(ShownList {
        projects: projects.into_iter().filter(reachable).collect(),
        project_membership: serde_json::Map::new(),
    }))
}

/// Shows a project.
#[utoipa::path(get, path = "/v1/project/{project}", tag = "projects", security(("token" = [])),
    params(("project" = String, Path)),
    responses((status = OK, body = ShownOne)))]
async fn show(
    State(admin): State<Arc<Admin>>,
    caller: Caller,
    PathParameters(name): PathParameters<String>,
) -> Result<Json<ShownOne>, ApiError> {
    let wanted = name.clone();
    let found = admin
        .read(move |records| {
            let found = records.project(&wanted)?;
            found.map(|project| shown(records, project)).transpose()
        })
        .await?;
    let reachable = |project: &Shown| caller.require_member(&admin, &project.organization_id).is_ok();
    let project = found.filter(reachable).ok_or_else(|| ApiError::not_found("project", &name))?;
    Ok(Json(ShownOne { project }))
}

fn shown(records: &dyn Records, project: Project) -> Result<Shown, StoreError> {
    let organization = records.organization(&project.organization_id)?;
    Ok(Shown {
        project_name: project.name,
        account_id: project.organization_id.clone(),
        account_name: organization.map(|organization| organization.name).unwrap_or_default(),
        parent_id: project.unit_id.unwrap_or_else(|| project.organization_id.clone()),
        organization_id: project.organization_id,
        default_cloud: "",
    })
}
