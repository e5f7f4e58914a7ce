//! The directory as commands reach it: through the store itself, for the configuration's organization. A running
//! sidecar sees within moments what changes.

use std::sync::Arc;

use super::arguments::ConfigArguments;
use super::failure::Failure;
use crate::config::{Config, StoreConfig};
use crate::directory::view::{DirectoryView, OrganizationCell};
use crate::directory::{self, Author, AuthoredStore, Channel, Store, StoreError, Synchronizer};

/// A configuration and its open store.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) config: Config,
    pub(super) store: Arc<dyn Store>,
}

impl Directory {
    /// Opens the store of a configuration. It is never made here, whatever the configuration says: a wrong path must
    /// not be taken for an empty directory.
    pub(super) fn open(arguments: &ConfigArguments) -> Result<Self, Failure> {
        let config = Config::load(&arguments.config)?;
        let store = directory::open(&StoreConfig { create_if_missing: false, ..config.store.clone() })?;
        let store: Arc<dyn Store> = Arc::new(AuthoredStore::new(store, Author::of(Channel::CommandLine)));
        let id = &config.organization.id;
        if store.read(|records| records.organization(id))?.is_none() {
            return Err(Failure::Failed(format!(
                "organization {id:?} is not in store {}: correct `id` under [organization], or enter it by starting \
                 `postern run` once",
                store.location()
            )));
        }
        Ok(Self { config, store })
    }

    /// The organization all commands are about.
    pub(super) fn organization_id(&self) -> &str {
        &self.config.organization.id
    }

    /// The directory in memory, as a sidecar with this configuration would have it. The last uses of tokens are those that
    /// the store has: a running sidecar's may be some seconds ahead.
    pub(super) fn in_memory(&self) -> Result<(Synchronizer, Arc<DirectoryView>), StoreError> {
        let organization = &self.config.organization;
        let pinned = organization.authentication.clone();
        let pinned = pinned.map(|policy| (organization.id.clone(), policy)).into_iter().collect();
        Synchronizer::start(Arc::clone(&self.store), pinned)
    }

    /// The organization's place in memory.
    pub(super) fn organization_in(&self, view: &DirectoryView) -> Result<Arc<OrganizationCell>, Failure> {
        let place = view.organization(self.organization_id());
        // It was in the store when this was opened.
        place.ok_or_else(|| Failure::Failed("the organization has gone from the store".to_owned()))
    }
}
