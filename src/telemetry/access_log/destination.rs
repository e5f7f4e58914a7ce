//! Where lines go: standard output, or a file that may be moved away under us. Only whole lines are written, unless
//! the system fails in the middle of one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;

use super::AccessLogError;
use crate::config::AccessLogOutput;

/// How long to leave an output alone that is full and does not block.
const FULL_PAUSE: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Destination {
    file: File,
    /// `None`: not ours to reopen.
    path: Option<PathBuf>,
    /// The last write ended within a line.
    torn: bool,
}

/// What a failed write left behind.
#[derive(Debug)]
pub(super) struct WriteError {
    pub(super) source: io::Error,
    /// Lines that were not written, or not to their end.
    pub(super) lines_lost: u64,
}

impl Destination {
    pub(super) fn open(output: &AccessLogOutput) -> Result<Self, AccessLogError> {
        match output {
            AccessLogOutput::StandardOutput => {
                // A descriptor of our own: the library's standard output would buffer by line, behind a lock.
                let descriptor = io::stdout()
                    .as_fd()
                    .try_clone_to_owned()
                    .map_err(|source| AccessLogError::StandardOutput { source })?;
                Ok(Self::to_file(descriptor.into()))
            }
            AccessLogOutput::File(path) => {
                let file = open_for_appending(path)
                    .map_err(|source| AccessLogError::Open { path: path.clone(), source })?;
                Ok(Self { path: Some(path.clone()), ..Self::to_file(file) })
            }
        }
    }

    /// Something open that stays what it is.
    pub(super) fn to_file(file: File) -> Self {
        Self { file, path: None, torn: false }
    }

    /// Opens the file at its path anew; after an error the old one is still in use.
    pub(super) fn reopen(&mut self) -> Result<(), AccessLogError> {
        if let Some(path) = &self.path {
            self.file = open_for_appending(path)
                .map_err(|source| AccessLogError::Open { path: path.clone(), source })?;
            self.torn = false;
        }
        Ok(())
    }

    /// Writes whole lines; waits for as long as the output takes nothing.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), WriteError> {
        if self.torn {
            self.write_all(b"\n").map_err(|(_, source)| WriteError { source, lines_lost: count(lines) })?;
            self.torn = false;
        }
        self.write_all(lines).map_err(|(written, source)| {
            let (done, lost) = lines.split_at(written);
            self.torn = done.last().is_some_and(|byte| *byte != b'\n');
            WriteError { source, lines_lost: count(lost) }
        })
    }

    /// As the library's, but says how far it came.
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write(&bytes[written..]) {
                Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
                Ok(more) => written += more,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    // A named pipe that is full; or standard output, made non-blocking by whoever shares it.
                    io::ErrorKind::WouldBlock => thread::sleep(FULL_PAUSE),
                    _ => return Err((written, error)),
                },
            }
        }
        Ok(())
    }
}

/// Appending, so that several processes may share the file. User agents and addresses are nobody else's business.
///
/// A named pipe that nobody reads is refused at once: to wait for its reader would hold up the start, or a reload and with it
/// everything else on the control side.
fn open_for_appending(path: &Path) -> io::Result<File> {
    let without_waiting = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(without_waiting).open(path)
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}
