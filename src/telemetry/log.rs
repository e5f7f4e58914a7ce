//! The program's own log, on standard error: events of the process, not of single requests (those are
//! [`super::access_log`]'s).

mod writer;

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use tracing::Subscriber;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

use crate::config::LogFormat;
use writer::QueuedWriter;

/// Changes the log's level while the process runs.
#[derive(Clone, Debug)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
    writer: QueuedWriter,
}

/// Why the log is not as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is not a filter.
    #[error("`{level}` is not a log level; write one such as `info`, or `info,postern=debug`")]
    Level {
        /// As it was given.
        level: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The process has a log already.
    #[error("the process already has a log; it can be started only once")]
    Started {
        /// What the library says.
        source: tracing::subscriber::SetGlobalDefaultError,
    },
    /// The system gives no thread.
    #[error("cannot start the log's thread: {source}")]
    Thread {
        /// What the system says.
        source: io::Error,
    },
    /// The log that the handle belongs to is gone.
    #[error("the log's level cannot be changed any more")]
    Gone {
        /// What the library says.
        source: reload::Error,
    },
}

/// Starts the process's log. `level` is a filter such as `info` or `info,postern=debug`.
///
/// # Errors
/// If the level is not a filter, or the process has a log already.
pub fn start(level: &str, format: LogFormat) -> Result<LogHandle, LogError> {
    let writer = QueuedWriter::start(io::stderr()).map_err(|source| LogError::Thread { source })?;
    let (subscriber, filter) = build(level, format, writer.clone())?;
    tracing::subscriber::set_global_default(subscriber).map_err(|source| LogError::Started { source })?;
    Ok(LogHandle { filter, writer })
}

/// Checks a level without using it; for the configuration's report.
///
/// # Errors
/// If the level is not a filter.
pub fn check_level(level: &str) -> Result<(), LogError> {
    parse(level).map(drop)
}

/// An error with its causes, each once: what went wrong with a connection stands in the last of them, and a log has one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

impl LogHandle {
    /// Puts another level in force; after an error the old one stays.
    ///
    /// # Errors
    /// If the level is not a filter.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        reload_level(&self.filter, level)
    }

    /// How many lines were lost since the start, because standard error was not read fast enough or could not be written.
    pub fn lines_lost(&self) -> u64 {
        self.writer.lost_total()
    }

    /// Waits until every line is written, but not for longer than `patience`; for the process's end.
    pub fn flush(&self, patience: Duration) {
        self.writer.flush(patience);
    }
}

fn reload_level(filter: &reload::Handle<EnvFilter, Registry>, level: &str) -> Result<(), LogError> {
    filter.reload(parse(level)?).map_err(|source| LogError::Gone { source })
}

fn parse(level: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder().parse(level).map_err(|source| LogError::Level { level: level.into(), source })
}

fn build<W>(
    level: &str,
    format: LogFormat,
    writer: W,
) -> Result<(impl Subscriber + Send + Sync, reload::Handle<EnvFilter, Registry>), LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(parse(level)?);
    let lines = match format {
        LogFormat::Text => fmt::layer().with_writer(writer).with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => fmt::layer().with_writer(writer).json().flatten_event(true).boxed(),
    };
    Ok((tracing_subscriber::registry().with(filter).with(lines), handle))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::{debug, info};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Memory {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap()
        }

        fn build(
            &self,
            format: LogFormat,
        ) -> (impl Subscriber + Send + Sync + use<>, reload::Handle<EnvFilter, Registry>) {
            let memory = self.clone();
            build("info", format, move || memory.clone()).unwrap()
        }
    }

    #[test]
    fn the_level_changes_while_it_runs() {
        let memory = Memory::default();
        let (subscriber, handle) = memory.build(LogFormat::Text);
        tracing::subscriber::with_default(subscriber, || {
            debug!("quiet");
            assert_eq!(memory.take(), "");
            reload_level(&handle, "debug").unwrap();
            debug!("loud");
            assert!(memory.take().contains("loud"));
            reload_level(&handle, "postern=nonsense").unwrap_err();
            debug!("still loud");
            assert!(memory.take().contains("still loud"));
        });
    }

    #[test]
    fn json_lines_parse() {
        let memory = Memory::default();
        let (subscriber, _handle) = memory.build(LogFormat::Json);
        tracing::subscriber::with_default(subscriber, || info!(listener = "a\"b\n", "bound"));
        let line = memory.take();
        assert_eq!(line.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["message"], "bound");
        assert_eq!(value["listener"], "a\"b\n");
    }

    #[test]
    fn levels_are_checked_without_a_log() {
        check_level("info,postern=debug").unwrap();
        let error = check_level("postern=loud").unwrap_err();
        assert!(error.to_string().contains("postern=loud"), "{error}");
    }
}
