//! The task that sends traces, from its start to its end.
//!
//! What must not live here: spans and how they are told ([`crate::telemetry::spans`]).

use std::io;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::StartError;
use crate::config::Config;
use crate::telemetry::Metrics;
use crate::telemetry::spans::Spans;

/// The task that sends traces, if any are sent; it ends with this.
#[derive(Debug)]
pub(super) struct Tracing {
    ending: watch::Sender<bool>,
    exporter: JoinSet<()>,
}

impl Tracing {
    /// What is queued goes out, if the collector takes it soon.
    pub(super) async fn stop(&mut self) {
        self.ending.send_replace(true);
        while let Some(ended) = self.exporter.join_next().await {
            if let Err(error) = ended {
                tracing::error!(error = %error, "sending traces ended early");
            }
        }
    }
}

/// Where traces go, if the configuration says so.
pub(super) fn start_tracing(
    config: &Config,
    metrics: &Arc<Metrics>,
) -> Result<(Option<Arc<Spans>>, Tracing), StartError> {
    let mut running = Tracing { ending: watch::Sender::new(false), exporter: JoinSet::new() };
    let Some(tracing) = &config.tracing else { return Ok((None, running)) };
    let (spans, exporter) = Spans::new(tracing, metrics).map_err(io::Error::other)?;
    running.exporter.spawn(exporter.run(running.ending.subscribe()));
    Ok((Some(spans), running))
}
