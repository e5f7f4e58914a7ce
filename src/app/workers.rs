//! The workers' threads: one runtime each, accepting on their own sockets until the drain.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions};

use crate::config::Config;
use crate::lifecycle::{Drain, Progress, Pulse, WorkerDrain};
use crate::listen::{self, BoundListener};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::ListenerMetrics;
use crate::worker::{Shared, Worker};

/// How often a worker looks for connections that have taken too long. Timeouts are late by no more than two looks.
const LOOK: Duration = Duration::from_millis(250);

/// Running workers.
#[derive(Debug)]
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
}

/// One worker's share of a listener.
struct Socket {
    listener: usize,
    socket: listen::Socket,
    metrics: Arc<ListenerMetrics>,
}

impl Workers {
    /// Starts one thread per worker, each with its own socket of every listener.
    pub(super) fn start(
        config: &Config,
        bound: Vec<BoundListener>,
        shared: &Arc<Shared>,
        drain: &Drain,
        metrics: &Metrics,
        progress: &Arc<Progress>,
    ) -> io::Result<Self> {
        let mut per_worker: Vec<Vec<Socket>> = (0..config.workers).map(|_| Vec::new()).collect();
        for (listener, bound) in bound.into_iter().enumerate() {
            let metrics = metrics.listener(&config.listeners[listener].name);
            for (sockets, socket) in per_worker.iter_mut().zip(bound.sockets) {
                sockets.push(Socket { listener, socket, metrics: Arc::clone(&metrics) });
            }
        }
        let start = |(index, sockets)| {
            let shared = Arc::clone(shared);
            let drain = drain.worker(index);
            let pulse = progress.of_worker(index);
            // Taken here, so that a drain that starts before the thread does waits for it.
            let live = drain.live();
            thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                if let Err(error) = run(index, sockets, shared, drain, pulse) {
                    tracing::error!(error = %error, worker = index, "a worker could not start");
                }
                drop(live);
            })
        };
        let threads = per_worker.into_iter().enumerate().map(start).collect::<io::Result<_>>()?;
        Ok(Self { threads })
    }

    /// Waits for the threads to end, which they do once drained or forced.
    pub(super) fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker's thread panicked");
            }
        }
    }
}

fn run(
    index: usize,
    sockets: Vec<Socket>,
    shared: Arc<Shared>,
    drain: WorkerDrain,
    pulse: Pulse,
) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let worker = Rc::new(Worker::new(index, shared, drain.clone()).map_err(io::Error::other)?);
    runtime.block_on(async {
        let accepting = sockets
            .into_iter()
            .map(|Socket { listener, socket, metrics }| {
                let socket = socket.accepting()?;
                Ok(tokio::task::spawn_local(listen::accept(Rc::clone(&worker), listener, socket, metrics)))
            })
            .collect::<io::Result<Vec<_>>>()?;
        until(&worker, &pulse, drain.started()).await;
        for task in accepting {
            // The socket must be closed before the drain counts what is left: nothing is accepted after this.
            if let Err(error) = task.await {
                tracing::error!(error = %error, worker = index, "accepting ended early");
            }
        }
        worker.registry.drain();
        until(&worker, &pulse, async {
            tokio::select! {
                () = worker.registry.open().below(1) => {}
                () = drain.forced() => {}
            }
        })
        .await;
        worker.fold_counts();
        pulse.finish();
        Ok(())
    })
}

/// Looks after connections until `end`, and says at each look that the worker gets on.
async fn until(worker: &Worker, pulse: &Pulse, end: impl Future<Output = ()>) {
    tokio::pin!(end);
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            () = &mut end => return,
            _ = looks.tick() => {
                let now = Instant::now();
                pulse.beat(now);
                let snapshot = worker.snapshot();
                worker.registry.look(now, &snapshot.shared.listeners);
                worker.sweep(now);
            }
        }
    }
}
