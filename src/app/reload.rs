//! Taking up a changed configuration: all that can change without a restart does, the rest is said by name, and a bad
//! file changes nothing.

use serde::Serialize;

use super::keeper::Declaration;
use super::{App, publish_certificates, start_access_log};
use crate::admin;
use crate::config::{Config, ListenerConfig, change};
use crate::lifecycle::notify::{State, notify};
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::ReloadOutcome;

/// What became of a reload, for the log and for whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReloadReport {
    /// Whether the new configuration is in force.
    pub applied: bool,
    /// What is wrong with it, if it is not.
    pub error: Option<String>,
    /// Keys whose change waits for a restart.
    pub needs_restart: Vec<String>,
}

impl App {
    /// Reads the configuration file again and puts it into force.
    pub async fn reload(&mut self) -> ReloadReport {
        notify(&State::Reloading);
        let report = match self.take_up().await {
            Ok(needs_restart) => ReloadReport { applied: true, error: None, needs_restart },
            Err(error) => ReloadReport { applied: false, error: Some(error), needs_restart: Vec::new() },
        };
        match &report.error {
            None => {
                self.metrics.control().config_reloaded(ReloadOutcome::Applied);
                notify(&State::Ready);
                tracing::info!("configuration reloaded");
                for key in &report.needs_restart {
                    tracing::warn!(key = %key, "this change needs a restart; the old value stays in force");
                }
            }
            Some(error) => {
                self.metrics.control().config_reloaded(ReloadOutcome::Rejected);
                notify(&State::Rejected);
                tracing::error!(error = %error, "configuration not reloaded; the last good one stays in force");
            }
        }
        report
    }

    async fn take_up(&mut self) -> Result<Vec<String>, String> {
        let file = self.config.file.clone();
        let mut config = Config::load(&file).map_err(|error| {
            // A certificate that is mended later must be noticed, even if the good configuration named another.
            self.watched.clone_from(&error.referenced_files);
            error.to_string()
        })?;
        self.watched.clone_from(&config.referenced_files);
        let needs_restart = change::needs_restart(&self.config, &config);
        keep_what_needs_restart(&self.config, &mut config);

        let access_log_changed = config.logging.access_log != self.config.logging.access_log;
        let access_log = if access_log_changed {
            start_access_log(&config, &self.metrics).map_err(|error| error.to_string())?
        } else {
            self.access_log.clone()
        };
        let (directory, before) = (&self.shared.directory, self.shared.snapshot());
        let snapshot = Snapshot::new(&config, directory, &self.metrics, access_log.clone(), Some(&before))
            .map_err(|error| error.to_string())?;
        let admin = admin::Settings::of(&config).map_err(|error| format!("[admin]: {error}"))?;
        self.keeper
            .declare(Declaration::of(&config))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        if let Some(log) = &self.log {
            log.set_level(&config.logging.level).map_err(|error| error.to_string())?;
        }

        // From here on nothing can fail: the new configuration comes into force as a whole.
        self.shared.directory.status.allow_age(config.store.stale_after);
        self.shared.identity_keys.configure(config.identity_key_rotation);
        self.upstream_tasks.follow(&snapshot).await;
        self.shared.replace(snapshot);
        if let (Some(running), Some(settings)) = (&self.admin, admin) {
            running.replace_settings(settings);
        }
        publish_certificates(&config, &self.metrics);
        // Requests that began before still write to the old access log: its thread ends with the last of them.
        self.access_log = access_log;
        self.config = config;
        Ok(needs_restart)
    }
}

/// What was bound and started stays: addresses, workers, store. Listeners are matched by name, so that everything
/// else about them can change.
fn keep_what_needs_restart(old: &Config, new: &mut Config) {
    new.workers = old.workers;
    new.store.path.clone_from(&old.store.path);
    new.ops = old.ops.clone();
    new.tracing.clone_from(&old.tracing);
    new.logging.format = old.logging.format;
    new.logging.recent_denials = old.logging.recent_denials;
    new.admin = match (&old.admin, new.admin.take()) {
        (Some(old), Some(mut new)) => {
            new.address = old.address;
            if new.tls.is_some() != old.tls.is_some() {
                new.tls.clone_from(&old.tls);
            }
            Some(new)
        }
        (old, _) => old.clone(),
    };
    let declared = std::mem::take(&mut new.listeners);
    new.listeners = old
        .listeners
        .iter()
        .map(|bound| {
            let changed = declared.iter().find(|listener| listener.name == bound.name);
            let Some(changed) = changed else { return bound.clone() };
            let tls = if bound.tls.is_some() == changed.tls.is_some() { &changed.tls } else { &bound.tls };
            ListenerConfig { address: bound.address.clone(), tls: tls.clone(), ..changed.clone() }
        })
        .collect();
}
