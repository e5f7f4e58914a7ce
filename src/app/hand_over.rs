//! Handing over to a new process without a pause: a new program takes the place of this one while both have the same sockets.
//!
//! The running process starts the program that now stands where it was started from itself, and sends it its listening sockets
//! over a pair of sockets, whose other end is the new one's standard input. The new one loads everything that it needs and says
//! that it is ready; it accepts nothing yet. Only then the old one lets go: it says so, accepts nothing more and drains, while the new
//! one accepts from the same queues, so that nobody is refused and nobody waits. Until that moment the old one serves
//! as ever, and where the new one ends, says that it cannot, or takes too long, it goes on doing so.
//!
//! What must not live here: what is started and stopped on either side (that is [`super::App`]), and sockets themselves
//! ([`crate::listen`]).

mod channel;
mod predecessor;
mod successor;

use std::process::ExitStatus;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::predecessor::{Predecessor, TakenOver};
pub use self::successor::Program;
pub(super) use self::successor::{Passed, Successor, prepare};
use crate::listen::inherited::Purpose;

/// The variable that tells the new process where the old one is to be heard.
const VARIABLE: &str = "POSTERN_HAND_OVER";

/// Its only value.
const AT_STANDARD_INPUT: &str = "stdin";

/// How long a new process may take to become ready, unless somebody says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What the two processes say to each other. They may be of different versions: what is here stays.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    /// Old to new: a socket, whose descriptor comes with it.
    Socket { purpose: Purpose, owns_file: bool },
    /// Old to new: these were all.
    Begin { process_id: u32 },
    /// New to old: it can serve from now on; of these purposes it has taken the sockets.
    Ready { version: String, took: Vec<Purpose> },
    /// New to old: it cannot serve.
    Failed { error: String },
    /// Old to new: it accepts nothing more. Whether a reload was asked for meanwhile, which the new one may have missed.
    TakeOver { reload: bool },
}

/// Why no other process took over.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandOverError {
    #[error("another process is being started to take over already: wait for what comes of it")]
    UnderWay,
    #[error("this process was not started by `postern run`, and cannot be replaced")]
    NotReplaceable,
    #[error(
        "this is the first process of its container, which ends with it, whoever follows: start a new container in place of \
         this one"
    )]
    FirstProcess,
    #[error("cannot start {program:?}: {source}; is the new program in its place, and may this user run it?")]
    Start { program: std::ffi::OsString, source: std::io::Error },
    #[error("the new process cannot be talked to: {0}")]
    Channel(#[from] std::io::Error),
    #[error("the new process cannot serve: {0}")]
    Refused(String),
    #[error("the new process ended before it was ready ({0}); the log may say why")]
    Ended(ExitStatus),
    #[error("the new process was not ready within {} seconds, and was ended", .0.as_secs())]
    TooLate(Duration),
    #[error("the new process said something that this version does not understand")]
    Misunderstood,
}

/// What became of a hand-over, for whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HandOverReport {
    /// Whether another process serves now.
    pub taken_over: bool,
    /// Its number.
    pub process_id: Option<u32>,
    /// Its version.
    pub version: Option<String>,
    /// Why there is none.
    pub error: Option<String>,
}

impl HandOverReport {
    pub(super) fn of(outcome: &Result<Successor, HandOverError>) -> Self {
        match outcome {
            Ok(successor) => Self {
                taken_over: true,
                process_id: Some(successor.process_id),
                version: Some(successor.version.clone()),
                error: None,
            },
            Err(error) => {
                Self { taken_over: false, process_id: None, version: None, error: Some(error.to_string()) }
            }
        }
    }
}

#[cfg(test)]
mod tests;
