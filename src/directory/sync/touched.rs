//! From entries of the log of changes to what must be read again. How it is applied is not known here.

use std::collections::HashSet;

use crate::directory::error::StoreError;
use crate::directory::store::{Entity, Records};

/// What a batch of changes touches, each once.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) organizations: HashSet<String>,
    /// Organizations in whose trees units have come or moved.
    pub(super) trees: HashSet<String>,
    pub(super) units_gone: HashSet<String>,
    pub(super) projects: HashSet<String>,
    pub(super) users: HashSet<String>,
    pub(super) tokens: HashSet<u32>,
}

impl Touched {
    /// Adds what a change of this entity touches, as the store is now.
    pub(super) fn add(&mut self, records: &dyn Records, entity: &Entity) -> Result<(), StoreError> {
        match entity {
            Entity::Organization(id) => {
                self.organizations.insert(id.clone());
            }
            Entity::IdentityProvider(id) => {
                self.organizations
                    .extend(records.identity_provider(id)?.map(|provider| provider.organization_id));
            }
            Entity::Unit(id) => {
                match records.unit(id)? {
                    Some(unit) => {
                        let projects = records.projects(&unit.organization_id)?;
                        self.projects.extend(projects.into_iter().map(|project| project.name));
                        self.trees.insert(unit.organization_id);
                    }
                    // It had nothing left in it.
                    None => {
                        self.units_gone.insert(id.clone());
                    }
                }
            }
            Entity::Project(name) => {
                self.projects.insert(name.clone());
            }
            Entity::User(id) => {
                self.users.insert(id.clone());
            }
            Entity::Group(id) => self.users.extend(records.group_members(id)?),
            Entity::Domain(_) => {}
            Entity::Token(number) => {
                self.tokens.insert(*number);
            }
        }
        Ok(())
    }
}
