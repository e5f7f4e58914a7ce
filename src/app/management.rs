//! The management API as the application makes it, before it has a listener.
//!
//! What must not live here: what it answers ([`crate::admin`]).

use std::sync::Arc;

use super::StartError;
use super::keeper::Keeper;
use crate::admin::{self, Admin};
use crate::config::Config;
use crate::directory::Store;
use crate::login::Login;
use crate::snapshot::SnapshotError;
use crate::telemetry::Metrics;
use crate::worker::Shared;

/// The management API without its listener; nothing without `[admin]`.
pub(super) fn make_admin(
    config: &Config,
    shared: &Arc<Shared>,
    keeper: &Keeper,
    metrics: &Arc<Metrics>,
) -> Result<Option<Arc<Admin>>, StartError> {
    let settings = admin::Settings::of(config).map_err(SnapshotError::Admin)?;
    let Some(settings) = settings else { return Ok(None) };
    let login = Login::new(&settings.admin.login, &config.store.path, Arc::clone(metrics));
    remember_sources(&login, &**keeper.synchronizer.store());
    Ok(Some(Admin::new(Arc::clone(shared), Arc::clone(&keeper.synchronizer), login, settings)))
}

/// Who logged in from where before the start still counts as known there, whatever strangers try meanwhile.
pub(super) fn remember_sources(login: &Login, store: &dyn Store) {
    match store.read(|records| records.session_addresses()) {
        Ok(sources) => {
            sources.iter().for_each(|(email, address)| login.throttle.remember(email, *address));
        }
        Err(error) => tracing::warn!(%error, "from where people have logged in before cannot be read"),
    }
}
