//! The workers' threads: one runtime each, accepting on their own sockets from when they are opened until the drain.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::lifecycle::{Drain, Progress, Pulse, WorkerDrain};
use crate::listen::{self, Acceptor, BoundListener};
use crate::serve::registry::Open;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::ListenerMetrics;
use crate::worker::{Shared, Worker};

/// How often a worker looks for connections that have taken too long. Timeouts are late by no more than two looks.
const LOOK: Duration = Duration::from_millis(250);

/// Running workers.
#[derive(Debug)]
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
    opened: watch::Sender<bool>,
}

/// What tells a worker to begin, and whom it tells that it can.
struct Start {
    opened: watch::Receiver<bool>,
    started: mpsc::UnboundedSender<io::Result<()>>,
}

/// One worker's share of a listener.
struct Socket {
    listener: usize,
    socket: listen::Socket,
    metrics: Arc<ListenerMetrics>,
}

impl Workers {
    /// Starts one thread per worker, each with its own sockets of every listener, and returns when all of them can serve. None
    /// accepts a connection before [`Workers::open`].
    pub(super) async fn start(
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
            // Inherited ones may be more than there are workers; each is somebody's.
            for (position, socket) in bound.sockets.into_iter().enumerate() {
                per_worker[position % config.workers].push(Socket {
                    listener,
                    socket,
                    metrics: Arc::clone(&metrics),
                });
            }
        }
        let opened = watch::Sender::new(false);
        let (started, mut starting) = mpsc::unbounded_channel();
        let start = |(index, sockets)| {
            let shared = Arc::clone(shared);
            let drain = drain.worker(index);
            let start = Start { opened: opened.subscribe(), started: started.clone() };
            let pulse = progress.of_worker(index);
            // Taken here, so that a drain that starts before the thread does waits for it.
            let live = drain.live();
            thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                match Serving::begin(index, sockets, shared, drain, pulse) {
                    Ok(serving) => serving.run(start),
                    // Whoever waits for it gives up with the first.
                    Err(error) => drop(start.started.send(Err(error))),
                }
                drop(live);
            })
        };
        let threads: Vec<_> = per_worker.into_iter().enumerate().map(start).collect::<io::Result<_>>()?;
        drop(started);
        for _ in &threads {
            let ended = || io::Error::other("a worker's thread ended as it started");
            starting.recv().await.ok_or_else(ended)??;
        }
        Ok(Self { threads, opened })
    }

    /// Lets them accept.
    pub(super) fn open(&self) {
        self.opened.send_replace(true);
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

/// A worker on its thread, with sockets that its runtime knows.
struct Serving {
    runtime: tokio::runtime::LocalRuntime,
    worker: Rc<Worker>,
    pulse: Pulse,
    sockets: Vec<(usize, Acceptor, Arc<ListenerMetrics>)>,
}

impl Serving {
    fn begin(
        index: usize,
        sockets: Vec<Socket>,
        shared: Arc<Shared>,
        drain: WorkerDrain,
        pulse: Pulse,
    ) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        let worker = Rc::new(Worker::new(index, shared, drain).map_err(io::Error::other)?);
        let sockets = runtime.block_on(async {
            let accepting = |Socket { listener, socket, metrics }| -> io::Result<_> {
                Ok((listener, socket.accepting()?, metrics))
            };
            sockets.into_iter().map(accepting).collect::<io::Result<Vec<_>>>()
        })?;
        Ok(Self { runtime, worker, pulse, sockets })
    }

    fn run(self, start: Start) {
        let Self { runtime, worker, pulse, sockets } = self;
        let Start { mut opened, started } = start;
        let drain = worker.drain.clone();
        runtime.block_on(async {
            // If nobody waits for it any more, it is not opened either.
            let _unheard = started.send(Ok(()));
            drop(started);
            let is_opened = tokio::select! {
                opened = opened.wait_for(|opened| *opened) => opened.is_ok(),
                () = drain.nothing_new() => false,
            };
            // What comes to a socket that was never opened is served by the process that it was inherited from.
            let sockets = if is_opened { sockets } else { Vec::new() };
            let mut open: Vec<Rc<Open>> = Vec::new();
            let accepting: Vec<_> = sockets
                .into_iter()
                .map(|(listener, socket, metrics)| {
                    if open.len() <= listener {
                        open.resize_with(listener + 1, Rc::default);
                    }
                    let (worker, open) = (Rc::clone(&worker), Rc::clone(&open[listener]));
                    tokio::task::spawn_local(listen::accept(worker, listener, socket, open, metrics))
                })
                .collect();
            until(&worker, &pulse, drain.nothing_new()).await;
            for task in accepting {
                // The socket must be closed before the drain counts what is left: nothing is accepted after this.
                if let Err(error) = task.await {
                    tracing::error!(error = %error, worker = worker.index, "accepting ended early");
                }
            }
            worker.registry.leave();
            until_empty(&worker, &pulse, drain.started()).await;
            worker.registry.drain();
            until_empty(&worker, &pulse, drain.forced()).await;
            worker.fold_counts();
            pulse.finish();
        });
    }
}

/// The same until no connection is left, if that is before `end`.
async fn until_empty(worker: &Worker, pulse: &Pulse, end: impl Future<Output = ()>) {
    let emptied = async {
        tokio::select! {
            () = worker.registry.open().below(1) => {}
            () = end => {}
        }
    };
    until(worker, pulse, emptied).await;
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
