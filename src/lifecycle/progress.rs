//! Whether the threads that the sidecar lives by get on: each says so from its own loop, and which has not for too long is stuck.
//!
//! Nothing speaks for another thread: a timer elsewhere would go on while the thread hangs. What must not live here: what follows
//! when one is stuck (the [`watchdog`](super::watchdog), and the health probe).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a worker may be silent. It speaks four times a second, so that this is more than a busy machine takes away from it.
pub const WORKER_PATIENCE: Duration = Duration::from_secs(10);

/// How long the keeper may be silent. It waits for a store that others hold locked, several times in a row if need be.
pub const KEEPER_PATIENCE: Duration = Duration::from_secs(60);

/// The cell of a thread that does not run: nothing is expected of it.
const NOT_RUNNING: u64 = u64::MAX;

/// A thread that the sidecar lives by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runner {
    /// Serves requests; its number, from 0.
    Worker(usize),
    /// Keeps the directory in step with the store.
    Keeper,
}

/// All of them. What happens to the thread that asks shows by its not asking.
#[derive(Debug)]
pub struct Progress {
    begun: Instant,
    /// Milliseconds from `begun` to when each was last heard of: the workers in their order, then the keeper.
    heard: Box<[AtomicU64]>,
}

/// A thread's own end. One that is dropped without [`Pulse::finish`], as by a panic, leaves a thread that is missed.
#[derive(Debug)]
pub struct Pulse {
    progress: Arc<Progress>,
    place: usize,
}

/// A thread that does not get on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Which.
    pub runner: Runner,
    /// For how long it has not been heard of.
    pub silent: Duration,
}

impl fmt::Display for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(number) => write!(f, "worker {number}"),
            Self::Keeper => f.write_str("the directory's keeper"),
        }
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has not got on for {} s", self.runner, self.silent.as_secs())
    }
}

impl Progress {
    /// Of a process with so many workers. Nothing is expected of a thread before its pulse is taken.
    pub fn new(workers: usize) -> Arc<Self> {
        let heard = (0..=workers).map(|_| AtomicU64::new(NOT_RUNNING)).collect();
        Arc::new(Self { begun: Instant::now(), heard })
    }

    /// From now on something is expected of this worker.
    ///
    /// # Panics
    /// If there is no worker of this number.
    pub fn of_worker(self: &Arc<Self>, number: usize) -> Pulse {
        assert!(number < self.keeper(), "worker {number} is not one of this process's");
        self.pulse(number)
    }

    /// From now on something is expected of the keeper.
    pub fn of_keeper(self: &Arc<Self>) -> Pulse {
        self.pulse(self.keeper())
    }

    /// Who does not get on, as of `now`; empty if everybody does.
    pub fn stuck(&self, now: Instant) -> Vec<Stuck> {
        let since_begin = self.since_begin(now);
        let runners = (0..self.keeper())
            .map(|number| (Runner::Worker(number), WORKER_PATIENCE))
            .chain([(Runner::Keeper, KEEPER_PATIENCE)]);
        let silent = |heard: &AtomicU64| match heard.load(Ordering::Relaxed) {
            NOT_RUNNING => Duration::ZERO,
            heard => Duration::from_millis(since_begin.saturating_sub(heard)),
        };
        runners
            .zip(&self.heard)
            .map(|((runner, patience), heard)| (Stuck { runner, silent: silent(heard) }, patience))
            .filter_map(|(stuck, patience)| (stuck.silent > patience).then_some(stuck))
            .collect()
    }

    fn pulse(self: &Arc<Self>, place: usize) -> Pulse {
        let pulse = Pulse { progress: Arc::clone(self), place };
        pulse.beat(Instant::now());
        pulse
    }

    /// The keeper's place, and the number of workers.
    fn keeper(&self) -> usize {
        self.heard.len() - 1
    }

    fn since_begin(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.begun).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Pulse {
    /// The thread got on. To be called from its own loop only.
    pub fn beat(&self, now: Instant) {
        self.progress.heard[self.place].store(self.progress.since_begin(now), Ordering::Relaxed);
    }

    /// The thread ends as it should: nothing is expected of it any more.
    pub fn finish(self) {
        self.progress.heard[self.place].store(NOT_RUNNING, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    //! Who is missed, and who is not.

    use super::*;

    fn who(progress: &Progress, now: Instant) -> Vec<Runner> {
        progress.stuck(now).into_iter().map(|stuck| stuck.runner).collect()
    }

    #[test]
    fn each_has_a_patience_of_its_own_and_speaks_for_nobody_else() {
        let progress = Progress::new(2);
        let (first, second, keeper) = (progress.of_worker(0), progress.of_worker(1), progress.of_keeper());
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for pulse in [&first, &second, &keeper] {
            pulse.beat(start);
        }
        assert_eq!(who(&progress, at(10)), []);
        assert_eq!(who(&progress, at(11)), [Runner::Worker(0), Runner::Worker(1)]);
        second.beat(at(11));
        assert_eq!(who(&progress, at(12)), [Runner::Worker(0)]);
        first.beat(at(60));
        second.beat(at(60));
        assert_eq!(who(&progress, at(62)), [Runner::Keeper]);
        keeper.beat(at(63));
        second.beat(at(65));
        assert_eq!(who(&progress, at(65)), []);
        let [stuck] = progress.stuck(at(71))[..] else { panic!("{:?}", progress.stuck(at(71))) };
        assert_eq!(stuck.to_string(), "worker 0 has not got on for 11 s");
    }

    #[test]
    fn nothing_is_expected_before_the_start_and_after_the_end() {
        let progress = Progress::new(1);
        let ages = Instant::now() + Duration::from_secs(86_400);
        assert_eq!(who(&progress, ages), []);
        let worker = progress.of_worker(0);
        assert_eq!(who(&progress, ages), [Runner::Worker(0)]);
        worker.finish();
        assert_eq!(who(&progress, ages), []);
    }

    #[test]
    fn a_thread_that_panicked_is_missed() {
        let progress = Progress::new(1);
        let worker = progress.of_worker(0);
        let panicked = std::thread::spawn(move || {
            worker.beat(Instant::now());
            panic!("as a defect would");
        });
        assert!(panicked.join().is_err());
        assert_eq!(who(&progress, Instant::now() + Duration::from_secs(11)), [Runner::Worker(0)]);
    }

    #[test]
    fn a_clock_that_was_read_before_is_no_progress_and_no_harm() {
        let progress = Progress::new(1);
        let worker = progress.of_worker(0);
        let now = Instant::now();
        worker.beat(now + Duration::from_secs(5));
        assert_eq!(who(&progress, now), []);
        if let Some(before) = now.checked_sub(Duration::from_secs(1)) {
            worker.beat(before);
        }
        assert_eq!(who(&progress, now + Duration::from_secs(12)), [Runner::Worker(0)]);
    }
}
