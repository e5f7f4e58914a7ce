//! Standard error behind a queue: whoever logs never waits for whoever reads.
//!
//! A pipe that nobody empties would else hold up the worker that writes to it, and with it every request there.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait to be written; what comes beyond is lost, counted, and said so.
const QUEUE_LINES: usize = 4096;

/// Where lines are put; clones share one queue.
#[derive(Clone, Debug, Default)]
pub(super) struct QueuedWriter {
    queue: Arc<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
    /// Lines that were lost since the start.
    lost_total: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Box<[u8]>>,
    lost: u64,
    is_writing: bool,
}

impl QueuedWriter {
    /// Starts the thread that writes; it lives as long as the process.
    pub(super) fn start(mut output: impl Write + Send + 'static) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let writing = Arc::clone(&queue);
        thread::Builder::new().name("log".into()).spawn(move || {
            loop {
                let (lines, lost) = writing.wait();
                for line in lines {
                    // Closed, or a file on a disk that is full: only the metrics are left to say so.
                    if output.write_all(&line).is_err() {
                        writing.lost_total.fetch_add(1, Ordering::Relaxed);
                    }
                }
                writing.written();
                if lost > 0 {
                    tracing::warn!(
                        lost,
                        "lines of this log were lost: standard error was not read fast enough"
                    );
                }
            }
        })?;
        Ok(Self { queue })
    }

    /// How many lines were lost since the start: not read fast enough, or not written.
    pub(super) fn lost_total(&self) -> u64 {
        self.queue.lost_total.load(Ordering::Relaxed)
    }

    /// Waits until everything is written, but not for longer than `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let end = Instant::now() + patience;
        let mut state = self.queue.state.lock();
        while state.is_writing || !state.lines.is_empty() {
            if self.queue.emptied.wait_until(&mut state, end).timed_out() {
                return;
            }
        }
    }
}

impl Queue {
    fn push(&self, line: &[u8]) {
        let mut state = self.state.lock();
        if state.lines.len() < QUEUE_LINES {
            state.lines.push_back(line.into());
            self.filled.notify_one();
        } else {
            state.lost += 1;
            self.lost_total.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What is to be written, and how many lines were lost since the last time.
    fn wait(&self) -> (VecDeque<Box<[u8]>>, u64) {
        let mut state = self.state.lock();
        while state.lines.is_empty() {
            self.filled.wait(&mut state);
        }
        state.is_writing = true;
        (std::mem::take(&mut state.lines), std::mem::take(&mut state.lost))
    }

    fn written(&self) {
        self.state.lock().is_writing = false;
        self.emptied.notify_all();
    }
}

/// The subscriber writes each event at once, as one line.
impl Write for QueuedWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for QueuedWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::mpsc;

    use super::*;

    /// Takes a line only when it is let.
    struct Stuck(mpsc::Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // The test has ended when nobody lets it any more.
            let _ended = self.0.recv();
            self.1.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whoever_logs_never_waits_and_what_fits_is_written_in_order() {
        let (allow, allowed) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let mut writer = QueuedWriter::start(Stuck(allowed, Arc::clone(&written))).unwrap();
        writer.write_all(b"first\n").unwrap();
        for _ in 0..2 * QUEUE_LINES {
            writer.write_all(b"next\n").unwrap();
        }
        writer.flush(Duration::ZERO);
        assert!(written.lock().is_empty(), "flushing has its patience, too");
        drop(allow);
        writer.flush(Duration::from_secs(60));
        let written = written.lock();
        assert!(written.starts_with(b"first\nnext\n"));
        assert!(written.len() >= QUEUE_LINES * b"next\n".len());
        let lost = writer.lost_total();
        assert!((QUEUE_LINES as u64 - 1..=QUEUE_LINES as u64 + 1).contains(&lost), "{lost} are counted");
    }

    /// A file on a disk that is full.
    struct Full;

    impl Write for Full {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let mut writer = QueuedWriter::start(Full).unwrap();
        for _ in 0..3 {
            writer.write_all(b"nobody will read this\n").unwrap();
        }
        writer.flush(Duration::from_secs(60));
        assert_eq!(writer.lost_total(), 3);
    }
}
