//! `postern init`: the store of a configuration, with the organization and the projects that it names.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Serialize;

use super::Exit;
use super::arguments::ConfigArguments;
use super::failure::Failure;
use super::output::Output;
use crate::config::{Config, StoreConfig};
use crate::directory::model::Timestamp;
use crate::directory::{self, Author, AuthoredStore, Channel, Store, operations};

pub(super) const EXAMPLES: &str = "\
Examples:
  postern init --config postern.toml
  postern init --json

A store that exists is left alone. `postern run` enters projects that are added to the configuration later.";

/// What was made.
#[derive(Debug, Serialize)]
struct Made {
    store: PathBuf,
    organization_id: String,
    organization_name: String,
    projects: Vec<String>,
}

pub(super) fn execute(arguments: &ConfigArguments, output: Output) -> Result<Exit, Failure> {
    let config = Config::load(&arguments.config)?;
    let path = &config.store.path;
    // Asked of the name itself: also a link that leads nowhere is somebody's.
    if path.symlink_metadata().is_ok() {
        let mut state = "it is ready to use".to_owned();
        // A file that is no store, or a damaged one, is told as such.
        if path.exists() {
            let store = directory::open(&StoreConfig { create_if_missing: false, ..config.store.clone() })?;
            if let Some(missing) = missing(&*store, &config)? {
                state = format!("it has no {missing}, which `postern run` enters");
            }
        }
        return Err(Failure::Failed(format!(
            "store {path:?} exists already and was left as it is: {state}; to start anew, move it away, with its -wal \
             and -shm files"
        )));
    }
    let store = directory::open(&StoreConfig { create_if_missing: true, ..config.store.clone() })?;
    let store = AuthoredStore::new(store, Author::of(Channel::CommandLine));
    let projects = enter(&store, &config)?;
    let made = Made {
        store: path.clone(),
        organization_id: config.organization.id.clone(),
        organization_name: config.organization.name.clone(),
        projects,
    };
    output.result(&made, text)?;
    Ok(Exit::Done)
}

/// What of a configuration is not in a store.
fn missing(store: &dyn Store, config: &Config) -> Result<Option<String>, Failure> {
    let id = &config.organization.id;
    let (organization, projects) =
        store.read(|records| Ok((records.organization(id)?, records.projects(id)?)))?;
    if organization.is_none() {
        return Ok(Some(format!("organization {id:?}")));
    }
    let is_there = |name: &String| projects.iter().any(|project| project.name == *name);
    Ok(projects_of(config).into_iter().find(|name| !is_there(name)).map(|name| format!("project {name:?}")))
}

fn projects_of(config: &Config) -> BTreeSet<&String> {
    config.routes.iter().map(|route| &route.project).filter(|project| !project.is_empty()).collect()
}

/// Enters a configuration's organization and the projects of its routes; what is there stays.
pub(super) fn enter(store: &dyn Store, config: &Config) -> Result<Vec<String>, Failure> {
    let now = Timestamp::now();
    let organization = &config.organization;
    operations::ensure_organization(store, &organization.id, &organization.name, now)?;
    let projects = projects_of(config);
    for project in &projects {
        operations::ensure_project(store, project, &organization.id, now)?;
    }
    Ok(projects.into_iter().cloned().collect())
}

fn text(made: &Made) -> String {
    let mut text = format!(
        "made store {}\nmade organization {} ({})",
        made.store.display(),
        made.organization_id,
        made.organization_name
    );
    for project in &made.projects {
        text.push_str("\nmade project ");
        text.push_str(project);
    }
    text.push_str("\n\nnext: `postern application-user create NAME`, then `postern permission grant` and `postern token create`");
    text
}
