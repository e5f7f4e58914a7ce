//! The directory as commands reach it: through the store itself, for the configuration's organization. A running
//! sidecar sees within moments what changes.

use std::sync::Arc;

use super::arguments::ConfigArguments;
use super::failure::Failure;
use crate::config::{Config, StoreConfig};
use crate::directory::{self, Author, AuthoredStore, Channel, Store};

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
}
