//! Stopping without losing a request: control says when, workers finish what they have, control waits for them.
//!
//! The phases only go forward: serving → leaving → draining → forced. While leaving, workers accept nothing more and tell their
//! clients (GOAWAY, `Connection: close` with the next answer), but close no connection on which a request may be under way to
//! them; while draining, they close what is idle and finish what runs; when forced, they break off what is left. A process that
//! nobody follows goes to draining at once. What is still alive is counted per worker by [`Live`] guards: one for each accept loop and each connection (tunnels too).
//! An accept loop's guard must outlive its last accept, so that the count cannot touch zero between a connection's
//! accept and its own guard.
//!
//! Nothing here belongs to one runtime: workers and control may each run their own, on their own threads. What a
//! connection registers with is its worker's own, so workers never wait for each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// Control's end: starts the drain and waits for its end. Clones are the same drain.
#[derive(Clone, Debug)]
pub struct Drain {
    shared: Arc<Shared>,
}

/// A worker's end. Clones are cheap and the same worker's.
#[derive(Clone, Debug)]
pub struct WorkerDrain {
    shared: Arc<Shared>,
    worker: usize,
}

/// Something that the drain waits for, until this is dropped.
#[derive(Debug)]
pub struct Live {
    drain: WorkerDrain,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainOutcome {
    /// Everything finished by itself.
    Finished,
    /// So many [`Live`] guards were left at the deadline, or when somebody else forced the end.
    Forced {
        /// Guards left at that moment.
        live: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Leaving,
    Draining,
    Forced,
}

#[derive(Debug)]
struct Shared {
    workers: Box<[Worker]>,
    control: watch::Sender<Phase>,
    /// Woken by the last guard to go while draining.
    finished: Notify,
}

/// A worker's part, on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Worker {
    phase: watch::Sender<Phase>,
    /// Whether the phase is past serving, to be read without the channel's lock.
    is_past_serving: AtomicBool,
    live: AtomicUsize,
}

impl Drain {
    /// A drain over so many workers; their indexes are 0 to `workers` - 1.
    pub fn new(workers: usize) -> Self {
        let worker = |_| Worker {
            phase: watch::Sender::new(Phase::Serving),
            is_past_serving: AtomicBool::new(false),
            live: AtomicUsize::new(0),
        };
        Self {
            shared: Arc::new(Shared {
                workers: (0..workers).map(worker).collect(),
                control: watch::Sender::new(Phase::Serving),
                finished: Notify::new(),
            }),
        }
    }

    /// The end of one worker.
    ///
    /// # Panics
    /// If there is no worker of this index.
    pub fn worker(&self, worker: usize) -> WorkerDrain {
        assert!(worker < self.shared.workers.len(), "worker {worker} is not one of the drain's");
        WorkerDrain { shared: Arc::clone(&self.shared), worker }
    }

    /// Whether nothing new is to begin.
    pub fn draining(&self) -> bool {
        *self.shared.control.borrow() >= Phase::Leaving
    }

    /// Resolves when nothing new is to begin, at once if that is so.
    pub async fn nothing_new(&self) {
        reached(&self.shared.control, Phase::Leaving).await;
    }

    /// Resolves when the drain has started, at once if it has.
    pub async fn started(&self) {
        reached(&self.shared.control, Phase::Draining).await;
    }

    /// Resolves when the end has been forced, at once if it has.
    pub async fn forced(&self) {
        reached(&self.shared.control, Phase::Forced).await;
    }

    /// Tells all workers to stop accepting and to announce the end, and to leave open what is idle. Again: does nothing.
    pub fn leave(&self) {
        self.shared.advance(Phase::Leaving);
    }

    /// Tells all workers to stop accepting and to finish what runs. Again: does nothing.
    pub fn start(&self) {
        self.shared.advance(Phase::Draining);
    }

    /// Tells all workers to break off what is left. Again: does nothing.
    pub fn force(&self) {
        self.shared.advance(Phase::Forced);
    }

    /// [`Live`] guards over all workers.
    pub fn live(&self) -> usize {
        self.shared.live()
    }

    /// Drains behind a successor that accepts already: for `patience` idle connections stay open, since a request may be under
    /// way on any of them; then as [`Drain::finish`], within `grace` in all.
    pub async fn leave_and_finish(&self, patience: Duration, grace: Duration) -> DrainOutcome {
        self.leave();
        tokio::select! {
            biased;
            () = self.started() => {}
            () = self.nothing_alive() => {}
            () = tokio::time::sleep(patience) => {}
        }
        self.finish(grace.saturating_sub(patience)).await
    }

    /// Drains: starts, waits until nothing is alive, and forces what is left after `grace`. Ends early if somebody
    /// else calls [`Drain::force`] (a second signal).
    pub async fn finish(&self, grace: Duration) -> DrainOutcome {
        self.start();
        tokio::select! {
            // Who is forced ends at once: asked first, or what was broken off would pass for finished.
            biased;
            () = self.forced() => {}
            () = self.nothing_alive() => return DrainOutcome::Finished,
            () = tokio::time::sleep(grace) => {}
        }
        let live = self.live();
        self.force();
        DrainOutcome::Forced { live }
    }

    /// Resolves when nothing new is to begin and nothing is alive any more. After [`Drain::force`] too it says when the
    /// workers have let go.
    pub async fn nothing_alive(&self) {
        self.nothing_new().await;
        loop {
            let finished = self.shared.finished.notified();
            tokio::pin!(finished);
            // From here on a wake is not lost, so the count may be looked at.
            finished.as_mut().enable();
            if self.live() == 0 {
                return;
            }
            finished.await;
        }
    }
}

impl WorkerDrain {
    /// Whether nothing new is to begin. One relaxed load.
    #[inline]
    pub fn draining(&self) -> bool {
        self.this().is_past_serving.load(Ordering::Relaxed)
    }

    /// Resolves when nothing new is to begin, at once if that is so.
    pub async fn nothing_new(&self) {
        reached(&self.this().phase, Phase::Leaving).await;
    }

    /// Resolves when the drain has started and what is idle is to end, at once if it has.
    pub async fn started(&self) {
        reached(&self.this().phase, Phase::Draining).await;
    }

    /// Resolves when what is left is to be broken off, at once if it is.
    pub async fn forced(&self) {
        reached(&self.this().phase, Phase::Forced).await;
    }

    /// Makes the drain wait for as long as the result lives.
    #[must_use]
    pub fn live(&self) -> Live {
        self.this().live.fetch_add(1, Ordering::SeqCst);
        Live { drain: self.clone() }
    }

    fn this(&self) -> &Worker {
        &self.shared.workers[self.worker]
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let worker = self.drain.this();
        // Sequentially consistent, as the phase's store is: either this sees that nothing new begins, or the
        // drain, when it counts, sees that this guard is gone.
        let last = worker.live.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && worker.is_past_serving.load(Ordering::SeqCst) && self.drain.shared.live() == 0 {
            self.drain.shared.finished.notify_waiters();
        }
    }
}

impl Shared {
    fn advance(&self, phase: Phase) {
        let forward = |current: &mut Phase| {
            let advances = *current < phase;
            if advances {
                *current = phase;
            }
            advances
        };
        for worker in &self.workers {
            worker.is_past_serving.store(true, Ordering::SeqCst);
            worker.phase.send_if_modified(forward);
        }
        // Last: whoever waits at the control side looks at the workers' counts next.
        self.control.send_if_modified(forward);
    }

    fn live(&self) -> usize {
        self.workers.iter().map(|worker| worker.live.load(Ordering::SeqCst)).sum()
    }
}

async fn reached(phase: &watch::Sender<Phase>, wanted: Phase) {
    phase
        .subscribe()
        .wait_for(|current| *current >= wanted)
        .await
        .map(drop)
        .expect("the sender is borrowed for as long as this waits");
}

#[cfg(test)]
mod tests;
