//! Which files are watched for changes, the configuration's and what it refers to; a watch that fails is said and done without.
//!
//! What must not live here: what a change leads to.

use std::path::PathBuf;

use crate::config::Config;
use crate::config::watch::ConfigWatcher;

/// Watches the configuration file and what it refers to.
pub(super) fn watch(config: &Config) -> Option<ConfigWatcher> {
    let mut watcher = ConfigWatcher::start(&config.file)
        .inspect_err(|error| {
            tracing::warn!(error = %error, "changes of the configuration file will not be noticed; use `postern reload`");
        })
        .ok();
    follow(&mut watcher, &config.referenced_files);
    watcher
}

pub(super) fn follow(watcher: &mut Option<ConfigWatcher>, files: &[PathBuf]) {
    if let Some(watching) = watcher
        && let Err(error) = watching.follow(files)
    {
        tracing::warn!(error = %error, "changes of some referenced files will not be noticed");
    }
}

pub(super) async fn changed(watcher: &mut Option<ConfigWatcher>) {
    match watcher {
        Some(watcher) => watcher.changed().await,
        None => std::future::pending().await,
    }
}
