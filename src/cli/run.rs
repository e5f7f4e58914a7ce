//! `postern run`: the sidecar itself, from its configuration to the end of its drain.

use std::time::Duration;

use super::Exit;
use super::arguments::ConfigArguments;
use super::failure::Failure;
use super::output::{Format, Output};
use crate::app::App;
use crate::config::{Config, LogFormat};
use crate::lifecycle::{Signals, core_dumps, descriptors};
use crate::telemetry::log::{self, LogHandle};

pub(super) const EXAMPLES: &str = "\
Examples:
  postern run --config /etc/postern/postern.toml
  POSTERN_CONFIG=/etc/postern/postern.toml postern run
  postern run --json                    the program's own log as JSON, whatever the file says

Signals:
  SIGTERM, SIGINT   not ready, no new connections, finish what runs, exit 0; once more: stop at once
  SIGHUP            take up the changed configuration and certificates
  SIGUSR1           reopen the access log";

/// How long the process's end may wait for whoever reads its log.
pub(super) const LOG_PATIENCE: Duration = Duration::from_secs(1);

pub(super) fn execute(arguments: &ConfigArguments, output: Output) -> Result<Exit, Failure> {
    let config = Config::load(&arguments.config)?;
    let format = match output.format() {
        Format::Text => config.logging.format,
        Format::Json => LogFormat::Json,
    };
    let log = log::start(&config.logging.level, format).map_err(Failure::failed)?;
    if !config.core_dumps {
        core_dumps::switch_off();
    }
    check_descriptors(&config);
    let served = serve(config, log.clone());
    log.flush(LOG_PATIENCE);
    served.map(|()| Exit::Done)
}

fn serve(config: Config, log: LogHandle) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let signals = Signals::install()?;
        let app = App::start(config, Some(log)).await?;
        announce(&app);
        app.run(signals).await;
        Ok(())
    })
}

/// Says at the start what would else show under load: too few open files for the configured connections.
fn check_descriptors(config: &Config) {
    let Some(open_files) = descriptors::raise_limit() else { return };
    let allowed = descriptors::connections_allowed(open_files);
    if (config.limits.connections as u64) > allowed {
        tracing::warn!(
            open_files,
            limits_connections = config.limits.connections,
            allowed,
            "open files run out before limits.connections is reached; raise the hard limit (LimitNOFILE, ulimit -Hn) or lower limits.connections"
        );
    }
}

/// One line per bound address, ports resolved.
fn announce(app: &App) {
    let addresses = app.addresses();
    for (listener, address) in app.config().listeners.iter().zip(&addresses.listeners) {
        tracing::info!(listener = %listener.name, address = %address, "listening");
    }
    if let Some(address) = addresses.admin {
        tracing::info!(listener = %"admin", address = %address, "listening");
    }
    tracing::info!(listener = %"ops", address = %addresses.ops, "listening");
}
