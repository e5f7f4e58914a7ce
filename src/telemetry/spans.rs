//! Traces for OpenTelemetry: spans of sampled requests, sent to a collector over OTLP (HTTP, protobuf), off the workers.
//!
//! A worker puts what is known of a sampled request into a bounded queue and goes on; a task of the control runtime turns it into
//! spans and sends them in batches. When the queue is full or the collector takes nothing, traces are dropped and counted: a collector
//! costs traces, never requests. What must not live here: who is traced (that is [`crate::headers::trace`]), what spans are on the
//! wire (`otlp`).

mod otlp;

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, StatusCode};
use tokio::sync::{mpsc, watch};

use super::Metrics;
use super::record::Record;
use crate::config::TracingConfig;
use crate::headers::trace::{Sampling, TraceContext};

#[cfg(test)]
mod tests;

/// Traces that wait to be sent; with a collector that takes nothing, about 2 MiB.
const QUEUE: usize = 4_096;
/// Traces sent in one request at most: three spans each.
const AT_ONCE: usize = 512;
/// How long a trace waits for others to be sent with.
const GATHERING: Duration = Duration::from_secs(1);
/// How long the collector may take for a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a batch is sent, and the pause before the second time; then it is dropped.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause that a collector may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long the last batches may take when the process ends.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// One sampled request at its end.
#[derive(Clone, Debug)]
pub struct Traced {
    /// Its ids.
    pub context: TraceContext,
    /// What became of it.
    pub record: Record,
    /// From the head's arrival to the decision; `None` if it did not come to one.
    pub decided: Option<Duration>,
    /// From the head's arrival to the call of the upstream; `None` if there was none.
    pub called: Option<Duration>,
}

/// The workers' end: whom to sample, and where traces go.
#[derive(Debug)]
pub struct Spans {
    sampling: Sampling,
    queue: mpsc::Sender<Traced>,
    metrics: Arc<Metrics>,
}

/// The control side's end.
#[derive(Debug)]
pub struct Exporter {
    endpoint: String,
    service_name: String,
    client: Client,
    queue: mpsc::Receiver<Traced>,
    metrics: Arc<Metrics>,
    is_failing: bool,
    last_patience: Duration,
}

/// Why a batch was not taken.
enum Refusal {
    /// It may be taken later; the collector may say when.
    ForNow(Option<Duration>, String),
    /// Never.
    Final(String),
}

impl Spans {
    /// Both ends. Nothing is sent before [`Exporter::run`].
    ///
    /// # Errors
    ///
    /// If no client for HTTP can be made.
    pub fn new(
        config: &TracingConfig,
        metrics: &Arc<Metrics>,
    ) -> Result<(Arc<Self>, Exporter), reqwest::Error> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let client = Client::builder()
            .user_agent(concat!("postern/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(PATIENCE)
            .build()?;
        let exporter = Exporter {
            endpoint: config.endpoint.clone(),
            service_name: config.service_name.clone(),
            client,
            queue: receiver,
            metrics: Arc::clone(metrics),
            is_failing: false,
            last_patience: LAST_PATIENCE,
        };
        let sampling =
            Sampling { per_million: config.sampled_per_million, follows_parent: config.follow_parent };
        Ok((Arc::new(Self { sampling, queue: sender, metrics: Arc::clone(metrics) }), exporter))
    }

    /// Whom to sample.
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// Hands over a request. Never waits: when the queue is full, its trace is dropped and counted.
    pub fn submit(&self, traced: Traced) {
        if self.queue.try_send(traced).is_err() {
            self.metrics.control().traces_dropped(1);
        }
    }
}

impl Exporter {
    /// Sends until `ending` says true; then what is queued still goes out, if the collector takes it soon.
    pub async fn run(mut self, mut ending: watch::Receiver<bool>) {
        let mut batch = Vec::with_capacity(AT_ONCE);
        // An error means that the sender is gone, and with it the process.
        let mut ended = std::pin::pin!(async move { drop(ending.wait_for(|ending| *ending).await) });
        loop {
            let first = tokio::select! {
                first = self.queue.recv() => first,
                () = &mut ended => None,
            };
            let Some(first) = first else { break };
            batch.push(first);
            tokio::select! {
                () = gather(&mut self.queue, &mut batch) => {}
                () = &mut ended => break,
            }
            tokio::select! {
                () = self.send(&mut batch) => {}
                // What was being sent is sent once more.
                () = &mut ended => break,
            }
        }
        self.queue.close();
        let patience = self.last_patience;
        let last = async {
            loop {
                while batch.len() < AT_ONCE
                    && let Ok(traced) = self.queue.try_recv()
                {
                    batch.push(traced);
                }
                if batch.is_empty() {
                    break;
                }
                self.send(&mut batch).await;
            }
        };
        if tokio::time::timeout(patience, last).await.is_err() {
            let traces = batch.len() + self.queue.len();
            self.metrics.control().traces_dropped(traces as u64);
            tracing::warn!(traces, "the tracing collector takes nothing: the last traces are dropped");
        }
    }

    /// Sends a batch and empties it, whatever came of it. Given up half-way, it leaves the batch.
    async fn send(&mut self, batch: &mut Vec<Traced>) {
        let traces = batch.len() as u64;
        let body = otlp::request(&self.service_name, batch).encode_to_vec();
        let mut attempt = 1;
        let refused = loop {
            match self.post(body.clone()).await {
                Ok(()) => break None,
                Err(Refusal::ForNow(pause, _)) if attempt < ATTEMPTS => {
                    let pause = pause.unwrap_or(PAUSE * attempt).min(LONGEST_PAUSE);
                    tokio::time::sleep(pause).await;
                    attempt += 1;
                }
                Err(Refusal::ForNow(_, reason) | Refusal::Final(reason)) => break Some(reason),
            }
        };
        batch.clear();
        match refused {
            None => {
                self.metrics.control().traces_exported(traces);
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("the tracing collector takes traces again");
                }
            }
            Some(reason) => {
                self.metrics.control().traces_dropped(traces);
                // Told when it begins, not for each batch.
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(endpoint = %self.endpoint, %reason, "traces are dropped: the collector does not take them");
                }
            }
        }
    }

    async fn post(&self, body: Vec<u8>) -> Result<(), Refusal> {
        let request =
            self.client.post(&self.endpoint).header(CONTENT_TYPE, "application/x-protobuf").body(body);
        let response =
            request.send().await.map_err(|error| Refusal::ForNow(None, error.without_url().to_string()))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let reason = format!("it answered {status}");
        // Those that OTLP says to repeat.
        match status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                let seconds =
                    response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
                Err(Refusal::ForNow(seconds.map(Duration::from_secs), reason))
            }
            _ => Err(Refusal::Final(reason)),
        }
    }
}

/// Waits for others to go with the first.
async fn gather(queue: &mut mpsc::Receiver<Traced>, batch: &mut Vec<Traced>) {
    let fill = async {
        while batch.len() < AT_ONCE
            && let Some(traced) = queue.recv().await
        {
            batch.push(traced);
        }
    };
    // That the time is over is no error.
    let _filled = tokio::time::timeout(GATHERING, fill).await;
}
