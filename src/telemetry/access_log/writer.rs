//! The thread behind the queues: takes records, makes lines, writes them in batches. It may block; nobody waits for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tracing::{error, info};

use super::destination::Destination;
use super::{Shared, line};
use crate::config::LogFormat;
use crate::telemetry::Metrics;

/// How often the writer looks for records while there is traffic: the most a line waits, and what spares workers a
/// system call for each record.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Looks in vain before the writer sleeps until it is woken.
const IDLE_POLLS: u32 = 20;

/// Bytes of lines that are written in one go.
const BATCH_BYTES: usize = 64 * 1024;

pub(super) struct Writer {
    shared: Arc<Shared>,
    destination: Destination,
    format: LogFormat,
    metrics: Arc<Metrics>,
    batch: Vec<u8>,
    failing: bool,
}

enum Taken {
    Nothing,
    Everything,
    /// The batch was full first.
    Some,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        destination: Destination,
        format: LogFormat,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { shared, destination, format, metrics, batch: Vec::new(), failing: false }
    }

    /// Runs until the log is stopped and its queues are empty.
    pub(super) fn run(mut self) {
        let mut idle = 0;
        loop {
            // Looked at first: what was submitted before the stop is then found below.
            let stop = self.shared.stop.load(Ordering::Acquire);
            if self.shared.reopen.swap(false, Ordering::AcqRel) {
                self.reopen();
            }
            match self.take() {
                Taken::Nothing if stop => return,
                Taken::Nothing => idle += 1,
                Taken::Everything => idle = 0,
                Taken::Some => {
                    idle = 0;
                    continue;
                }
            }
            if stop {
                continue;
            }
            if idle < IDLE_POLLS { thread::park_timeout(POLL_INTERVAL) } else { self.sleep() }
        }
    }

    /// Writes up to one batch of lines.
    fn take(&mut self) -> Taken {
        let queues = &self.shared.queues;
        self.batch.clear();
        let everything = loop {
            let before = self.batch.len();
            // In turn, so that lines come out about in the order of their ends.
            for entry in queues.iter().filter_map(crossbeam_queue::ArrayQueue::pop) {
                line::append(self.format, &entry, &mut self.batch);
            }
            if self.batch.len() == before {
                break true;
            }
            if self.batch.len() >= BATCH_BYTES {
                break false;
            }
        };
        if self.batch.is_empty() {
            return Taken::Nothing;
        }
        self.write();
        if everything { Taken::Everything } else { Taken::Some }
    }

    fn write(&mut self) {
        match self.destination.write(&self.batch) {
            Ok(()) => {
                if std::mem::replace(&mut self.failing, false) {
                    info!("the access log can be written again");
                }
            }
            Err(failure) => {
                self.metrics.control().access_log_error();
                self.metrics.control().access_log_dropped(failure.lines_lost);
                if !std::mem::replace(&mut self.failing, true) {
                    error!(
                        error = %failure.source,
                        "cannot write the access log; lines are lost until it can be written again \
                         (is the disk full, the reader gone?)"
                    );
                }
            }
        }
    }

    fn reopen(&mut self) {
        match self.destination.reopen() {
            Ok(()) => info!("access log reopened"),
            Err(failure) => {
                self.metrics.control().access_log_error();
                let source = std::error::Error::source(&failure).map(ToString::to_string);
                error!(error = source, "{failure}; lines go on to the old file");
            }
        }
    }

    /// Until a worker, a reopening or the stop wakes it.
    fn sleep(&self) {
        self.shared.sleeping.store(true, Ordering::SeqCst);
        if self.shared.queues.iter().all(crossbeam_queue::ArrayQueue::is_empty) {
            // A wake between the check and here makes this return at once.
            thread::park();
        }
        self.shared.sleeping.store(false, Ordering::SeqCst);
    }
}
