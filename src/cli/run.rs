//! `postern run`: the sidecar itself, from its configuration to the end of its drain.

use std::time::Duration;

use super::Exit;
use super::arguments::ConfigArguments;
use super::failure::Failure;
use super::output::{Format, Output};
use crate::app::App;
use crate::app::hand_over::{Predecessor, Program, TakenOver};
use crate::config::{Config, LogFormat};
use crate::lifecycle::notify::{State, notify};
use crate::lifecycle::{SignalEvent, Signals, core_dumps, descriptors};
use crate::listen::inherited::Inherited;
use crate::telemetry::log::{self, LogHandle};

pub(super) const EXAMPLES: &str = "\
Examples:
  postern run --config /etc/postern/postern.toml
  POSTERN_CONFIG=/etc/postern/postern.toml postern run
  postern run --json                    the program's own log as JSON, whatever the file says

Signals:
  SIGTERM, SIGINT   not ready, no new connections, finish what runs, exit 0; once more: stop at once
  SIGHUP            take up the changed configuration and certificates
  SIGUSR1           reopen the access log
  SIGUSR2           hand over to a new process, as `postern upgrade`

Sockets that systemd passes (socket activation) are used for the listeners of their names.";

/// How long the process's end may wait for whoever reads its log.
pub(super) const LOG_PATIENCE: Duration = Duration::from_secs(1);

pub(super) fn execute(arguments: &ConfigArguments, output: Output) -> Result<Exit, Failure> {
    // First of all, while there is one thread: what has been passed is named in the environment.
    let (predecessor, inherited) = match Predecessor::of_this_process().map_err(unheard)? {
        Some((predecessor, inherited)) => (Some(predecessor), inherited),
        None => (None, Inherited::from_service_manager().map_err(unusable)?),
    };
    let ran = run(arguments, output, predecessor.as_ref(), inherited);
    if let (Some(predecessor), Err(failure)) = (&predecessor, &ran) {
        predecessor.tell_failure(&failure.text());
    }
    ran
}

fn unheard(error: std::io::Error) -> Failure {
    Failure::Failed(format!("cannot take over from the process that has started this one: {error}"))
}

fn unusable(error: std::io::Error) -> Failure {
    Failure::Failed(format!(
        "cannot listen on a socket that systemd passes: {error}; each has to be a ListenStream= with Accept=no"
    ))
}

fn run(
    arguments: &ConfigArguments,
    output: Output,
    predecessor: Option<&Predecessor>,
    inherited: Inherited,
) -> Result<Exit, Failure> {
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
    let served = serve(config, log.clone(), predecessor, inherited);
    log.flush(LOG_PATIENCE);
    served.map(|()| Exit::Done)
}

fn serve(
    config: Config,
    log: LogHandle,
    predecessor: Option<&Predecessor>,
    inherited: Inherited,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::install()?;
        let app = App::prepare(config, Some(log), inherited).await?;
        let mut app = app.replaceable_by(Program::of_this_process());
        match predecessor {
            None => app.open(),
            Some(predecessor) => match taken_over(predecessor, &app, &mut signals).await? {
                Some(taken_over) => app.take_over(taken_over).await,
                None => return Ok(()),
            },
        }
        announce(&app);
        notify(&State::Ready);
        app.run(signals).await;
        Ok(())
    })
}

/// Waits until the process before this one has let go; `None`: this one is to stop.
async fn taken_over(
    predecessor: &Predecessor,
    app: &App,
    signals: &mut Signals,
) -> Result<Option<TakenOver>, Failure> {
    let process_id = predecessor.process_id;
    tracing::info!(process_id, "ready to take over");
    let mut is_reload_missed = false;
    let mut taking_over = std::pin::pin!(predecessor.take_over(app.took()));
    loop {
        tokio::select! {
            taken_over = &mut taking_over => {
                let TakenOver { reload } = taken_over.map_err(unheard)?;
                tracing::info!(process_id, "taken over");
                return Ok(Some(TakenOver { reload: reload || is_reload_missed }));
            }
            event = signals.next() => match event {
                SignalEvent::Drain | SignalEvent::StopNow => return Ok(None),
                SignalEvent::Reload => is_reload_missed = true,
                // Logs are reopened in any case; who is not in charge yet is not followed.
                SignalEvent::ReopenLogs | SignalEvent::HandOver => {}
            }
        }
    }
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
