//! Why a command did not do what it was asked, and what the process exits with then.

use std::fmt::Display;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::Exit;
use crate::app::StartError;
use crate::config::ConfigError;
use crate::directory::{OperationError, StoreError};

/// Why a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The configuration has problems.
    Config(ConfigError),
    /// The command line is well-formed, but not what this situation needs.
    Usage(String),
    /// Anything else: what happened, where, and what to do about it.
    Failed(String),
}

impl Failure {
    pub(super) fn failed(message: impl Display) -> Self {
        Self::Failed(message.to_string())
    }

    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Config(_) => Exit::Config,
            Self::Usage(_) => Exit::Usage,
            Self::Failed(_) => Exit::Failed,
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Config(error) => error.to_string(),
            Self::Usage(message) | Self::Failed(message) => format!("error: {message}"),
        }
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        match self {
            Self::Config(error) => problems(error),
            Self::Usage(message) | Self::Failed(message) => json!({ "error": message }),
        }
    }
}

/// A configuration's problems as objects.
pub(super) fn problems(error: &ConfigError) -> Value {
    #[derive(Serialize)]
    struct Report<'a> {
        ok: bool,
        error: &'static str,
        file: &'a Path,
        problems: &'a [crate::config::Problem],
    }
    let report = Report {
        ok: false,
        error: "the configuration has problems",
        file: &error.file,
        problems: &error.problems,
    };
    serde_json::to_value(report).unwrap_or_else(|error| json!({ "error": error.to_string() }))
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Missing { path } => Self::Failed(format!(
                "store {path:?} does not exist: make it with `postern init`, or correct `path` under [store]"
            )),
            error => Self::failed(error),
        }
    }
}

impl From<OperationError> for Failure {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::Store(error) => error.into(),
            OperationError::NotFound { entity: "token", id } => Self::Failed(format!(
                "token {id:?} does not exist; `postern token list --all` shows the prefixes of all tokens"
            )),
            error => Self::failed(error),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Store(error) => error.into(),
            error => Self::failed(error),
        }
    }
}

/// Only standard output and the system's resources fail with bare I/O errors.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Failed(format!("the system refused: {error}"))
    }
}
