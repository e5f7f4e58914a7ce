//! `postern permission`: who may do what on which resource of the organization.

use std::collections::HashMap;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Exit;
use super::backend::{self, Backend, PlaceArguments};
use super::failure::Failure;
use super::nearest::suggestion;
use super::output::{Output, joined, table};
use crate::directory::model::{Grant, Principal, Resource};
use crate::directory::operations::AssignmentOperation;

pub(super) const EXAMPLES: &str = "\
Examples:
  postern permission grant --user ingest --project metrics developer
  postern permission grant --group readers --organization role:project:read
  postern permission revoke --user ingest --project metrics developer
  postern permission list --project metrics";

const GRANT_EXAMPLES: &str = "\
Examples:
  postern permission grant --user ingest --project metrics developer
  postern permission grant --user ingest --project metrics service:data:write project:services:read
  postern permission grant --group readers --unit a1b2c3d4e5f6 read_only

Grants add up, and reach everything below the resource. A route asks for `project:services:read` to read and for \
`service:data:write` to write, if it does not say otherwise; the role `developer` has both.";

const REVOKE_EXAMPLES: &str = "\
Examples:
  postern permission revoke --user ingest --project metrics developer
  postern permission revoke --group readers --organization read_only

A role is taken away as a role: permissions that were granted by name stay.";

const LIST_EXAMPLES: &str = "\
Examples:
  postern permission list --project metrics
  postern permission list --organization --json | jq '.permissions[].principal_id'";

#[derive(Debug, Args)]
pub(super) struct PermissionArguments {
    #[command(flatten)]
    place: PlaceArguments,
    #[command(subcommand)]
    command: PermissionCommand,
}

#[derive(Debug, Subcommand)]
enum PermissionCommand {
    /// Grant permissions or roles.
    #[command(after_help = GRANT_EXAMPLES)]
    Grant(GrantArguments),
    /// Take granted permissions or roles away.
    #[command(after_help = REVOKE_EXAMPLES)]
    Revoke(GrantArguments),
    /// List the grants on a resource.
    #[command(after_help = LIST_EXAMPLES)]
    List {
        #[command(flatten)]
        resource: ResourceArguments,
    },
}

#[derive(Debug, Args)]
struct GrantArguments {
    #[command(flatten)]
    principal: PrincipalArguments,
    #[command(flatten)]
    resource: ResourceArguments,
    /// Permissions and roles, such as `service:data:write` or `developer`.
    #[arg(value_name = "PERMISSION", required = true)]
    permissions: Vec<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct PrincipalArguments {
    /// The user, by id or name.
    #[arg(long)]
    user: Option<String>,
    /// The group, by id or name.
    #[arg(long)]
    group: Option<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct ResourceArguments {
    /// The project, by name.
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// The organizational unit, by id.
    #[arg(long, value_name = "ID")]
    unit: Option<String>,
    /// The whole organization.
    #[arg(long)]
    organization: bool,
}

/// A grant as it is printed; field names as in Aiven's API.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    grant: Grant,
    principal_name: String,
}

#[derive(Debug, Serialize)]
struct ShownList {
    permissions: Vec<Shown>,
}

/// Which way permissions go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Grant,
    Revoke,
}

pub(super) fn execute(arguments: PermissionArguments, output: Output) -> Result<Exit, Failure> {
    let directory = &*backend::open(&arguments.place, output)?;
    match arguments.command {
        PermissionCommand::Grant(arguments) => change(directory, &arguments, Change::Grant, output),
        PermissionCommand::Revoke(arguments) => change(directory, &arguments, Change::Revoke, output),
        PermissionCommand::List { resource } => list(directory, &resource, output),
    }?;
    Ok(Exit::Done)
}

fn change(
    directory: &dyn Backend,
    arguments: &GrantArguments,
    change: Change,
    output: Output,
) -> Result<(), Failure> {
    let principal = principal(directory, &arguments.principal)?;
    let resource = resource(directory, &arguments.resource)?;
    let names = &arguments.permissions;
    let operation = match change {
        Change::Grant => AssignmentOperation::Grant,
        Change::Revoke => {
            check_held(directory, &principal, &resource, names)?;
            AssignmentOperation::Revoke
        }
    };
    let grant = directory.change_grant(&principal, &resource, operation, names)?;
    let shown = Shown { principal_name: Names::of(directory).of_principal(&principal), grant };
    output.result(&shown, |shown| {
        format!(
            "{} has on {}: {}",
            shown.principal_name,
            resource_name(&shown.grant.resource),
            joined(&shown.grant.permissions, "nothing")
        )
    })
}

/// A name that is not held is a slip more often than a wish: said, with what is held.
fn check_held(
    directory: &dyn Backend,
    principal: &Principal,
    resource: &Resource,
    names: &[String],
) -> Result<(), Failure> {
    let grants = directory.grants(resource)?.into_iter();
    let mut held = grants.filter(|grant| grant.principal == *principal).map(|grant| grant.permissions);
    let held = held.next().unwrap_or_default();
    match names.iter().find(|name| !held.contains(name)) {
        None => Ok(()),
        Some(name) => Err(Failure::Failed(format!(
            "{name:?} was not granted on {}{}; granted there: {}; nothing was changed",
            resource_name(resource),
            suggestion(name, held.iter().map(String::as_str)),
            joined(&held, "nothing")
        ))),
    }
}

fn list(directory: &dyn Backend, arguments: &ResourceArguments, output: Output) -> Result<(), Failure> {
    let resource = resource(directory, arguments)?;
    let names = Names::of(directory);
    let grants = directory.grants(&resource)?.into_iter();
    let permissions =
        grants.map(|grant| Shown { principal_name: names.of_principal(&grant.principal), grant }).collect();
    output.result(&ShownList { permissions }, |list| {
        if list.permissions.is_empty() {
            let resource = resource_name(&resource);
            return format!("nothing is granted on {resource}; see `postern permission grant --help`");
        }
        table(
            ["PRINCIPAL", "KIND", "ID", "PERMISSIONS", "CHANGED"],
            list.permissions.iter().map(|shown| {
                let (kind, id) = match &shown.grant.principal {
                    Principal::User(id) => ("user", id),
                    Principal::UserGroup(id) => ("group", id),
                };
                [
                    shown.principal_name.clone(),
                    kind.to_owned(),
                    id.clone(),
                    shown.grant.permissions.join(", "),
                    shown.grant.update_time.to_string(),
                ]
            }),
        )
    })
}

fn principal(directory: &dyn Backend, arguments: &PrincipalArguments) -> Result<Principal, Failure> {
    match (&arguments.user, &arguments.group) {
        (Some(user), _) => Ok(Principal::User(directory.user(user)?.user.id)),
        (None, Some(group)) => Ok(Principal::UserGroup(directory.group(group)?.id)),
        (None, None) => Err(Failure::Usage("say for whom: --user or --group".to_owned())),
    }
}

/// The resource, if it is one of the organization's.
fn resource(directory: &dyn Backend, arguments: &ResourceArguments) -> Result<Resource, Failure> {
    let organization_id = directory.organization_id();
    match (&arguments.project, &arguments.unit, arguments.organization) {
        (Some(name), ..) => {
            let projects = directory.projects()?;
            if projects.contains(name) {
                return Ok(Resource::Project(name.clone()));
            }
            let suggestion = suggestion(name, projects.iter().map(String::as_str));
            Err(Failure::Failed(format!(
                "project {name:?} does not exist{suggestion}; projects come from the configuration's routes"
            )))
        }
        (None, Some(id), _) => {
            if directory.has_unit(id)? {
                return Ok(Resource::OrganizationUnit(id.clone()));
            }
            Err(Failure::Failed(format!(
                "organizational unit {id:?} does not exist in organization {organization_id:?}"
            )))
        }
        (None, None, true) => Ok(Resource::Organization(organization_id.to_owned())),
        (None, None, false) => {
            Err(Failure::Usage("say on what: --project, --unit or --organization".to_owned()))
        }
    }
}

fn resource_name(resource: &Resource) -> String {
    match resource {
        Resource::Organization(id) => format!("organization {id}"),
        Resource::OrganizationUnit(id) => format!("unit {id}"),
        Resource::Project(name) => format!("project {name}"),
    }
}

/// Names of principals, by id.
struct Names(HashMap<String, String>);

impl Names {
    /// Who may not see names does without: ids say who is meant.
    fn of(directory: &dyn Backend) -> Self {
        let users = directory.users().unwrap_or_default().into_iter();
        let groups = directory.groups().unwrap_or_default().into_iter();
        let users = users.map(|member| (member.user.id, member.user.name));
        Self(users.chain(groups.map(|group| (group.id, group.name))).collect())
    }

    fn of_principal(&self, principal: &Principal) -> String {
        let (Principal::User(id) | Principal::UserGroup(id)) = principal;
        self.0.get(id).unwrap_or(id).clone()
    }
}
