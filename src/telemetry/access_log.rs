//! The access log: one line a request, written off the workers.
//!
//! A worker puts its record on its own bounded queue and goes on; a thread turns records into lines and writes them.
//! When the thread cannot keep up, records are dropped and counted: a full disk or a stopped reader costs lines, never
//! requests. What must not live here: what is in a record (that is [`super::record`]).

mod destination;
mod line;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, Thread};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use parking_lot::Mutex;
use rustix::io::Errno;

use self::destination::Destination;
use self::line::Entry;
use self::writer::Writer;
use super::Metrics;
use super::record::Record;
use crate::config::{AccessLogConfig, LogFormat};

/// Records a worker can be ahead of the writer. At 50,000 requests a second: 80 ms.
const QUEUE_RECORDS: usize = 4096;

/// The workers' end of the access log. When the last handle is dropped, what is queued is still written.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    writer: Thread,
    written: Mutex<mpsc::Receiver<()>>,
    metrics: Arc<Metrics>,
}

/// Why an access log could not be opened, or not be finished.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The file cannot be opened for appending.
    #[error(
        "cannot open the access log {path} for appending: {source}; {remedy}",
        path = path.display(),
        remedy = open_remedy(source)
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Standard output is not there to be written to.
    #[error("cannot write the access log to standard output: {source}; is it closed?")]
    StandardOutput {
        /// What the system says.
        source: io::Error,
    },
    /// The system gives no thread.
    #[error("cannot start the access log's thread: {source}")]
    Thread {
        /// What the system says.
        source: io::Error,
    },
    /// The output takes nothing any more.
    #[error("the access log's output took nothing for {patience:?}; its last lines are lost")]
    Stuck {
        /// How long it was waited for.
        patience: Duration,
    },
}

/// What an operator can do about a file that cannot be opened.
fn open_remedy(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        // What the system says of a pipe without a reader.
        Some(Errno::NXIO) => "start what reads this named pipe first",
        Some(Errno::NOSPC | Errno::DQUOT) => "free space on its file system",
        _ => "check that its folder exists and that this user may write there",
    }
}

impl AccessLog {
    /// Opens the output and starts the thread that writes.
    ///
    /// # Errors
    /// If the output cannot be opened, or the system gives no thread.
    pub fn start(
        config: &AccessLogConfig,
        workers: usize,
        metrics: &Arc<Metrics>,
    ) -> Result<Arc<Self>, AccessLogError> {
        let destination = Destination::open(&config.output)?;
        Self::start_at(destination, config.format, workers, metrics)
    }

    fn start_at(
        destination: Destination,
        format: LogFormat,
        workers: usize,
        metrics: &Arc<Metrics>,
    ) -> Result<Arc<Self>, AccessLogError> {
        let shared = Arc::new(Shared::new(workers));
        let (finished, written) = mpsc::channel();
        let writer = Writer::new(Arc::clone(&shared), destination, format, Arc::clone(metrics));
        let thread = thread::Builder::new()
            .name("access-log".into())
            .spawn(move || {
                writer.run();
                // Nobody may be waiting for it.
                let _ = finished.send(());
            })
            .map_err(|source| AccessLogError::Thread { source })?;
        Ok(Arc::new(Self {
            shared,
            writer: thread.thread().clone(),
            written: Mutex::new(written),
            metrics: Arc::clone(metrics),
        }))
    }

    /// Hands over one record. Never waits: when the worker's queue is full, the record is dropped and counted.
    ///
    /// `worker` is the calling worker's index. Lines of one worker stay in order, those of different workers may mix.
    #[inline]
    pub fn submit(&self, worker: usize, record: Record) {
        if self.shared.queues[worker].push(Entry::new(record)).is_err() {
            self.metrics.control().access_log_dropped(1);
            return;
        }
        // The writer looks by itself while there is traffic; only when it sleeps for want of it, it must be woken. The
        // queue's own sequentially consistent exchange comes before this load, the writer's store before its last
        // look at the queue: one of the two sees the other.
        if self.shared.sleeping.load(Ordering::SeqCst) && self.shared.sleeping.swap(false, Ordering::SeqCst) {
            self.writer.unpark();
        }
    }

    /// Opens the file anew at its path, after it was moved away (logrotate). If that fails, the old one stays in use
    /// and the failure is logged and counted. Standard output stays as it is.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        self.writer.unpark();
    }

    /// Writes what is queued and ends the thread; for the end of a graceful stop, after the workers'. Blocks.
    ///
    /// # Errors
    /// If the output has not taken everything within `patience`.
    pub fn close(&self, patience: Duration) -> Result<(), AccessLogError> {
        self.stop();
        match self.written.lock().recv_timeout(patience) {
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => Ok(()),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(AccessLogError::Stuck { patience }),
        }
    }

    fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.writer.unpark();
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Between the workers and the writer.
#[derive(Debug)]
struct Shared {
    /// One for each worker, so that none waits for another.
    queues: Box<[ArrayQueue<Entry>]>,
    /// Set while the writer sleeps until it is woken.
    sleeping: AtomicBool,
    stop: AtomicBool,
    reopen: AtomicBool,
}

impl Shared {
    fn new(workers: usize) -> Self {
        Self {
            queues: (0..workers).map(|_| ArrayQueue::new(QUEUE_RECORDS)).collect(),
            sleeping: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            reopen: AtomicBool::new(false),
        }
    }
}

#[cfg(test)]
mod tests;
