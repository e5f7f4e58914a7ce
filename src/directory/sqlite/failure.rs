//! From SQLite's errors to the store's: which of them an operator can do what about.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::ffi::ErrorCode;

use crate::directory::error::StoreError;

/// What errors need to know of the store.
#[derive(Clone, Debug)]
pub(super) struct Failures {
    /// The store's file.
    pub(super) path: PathBuf,
    /// How long each call waits for locks.
    pub(super) busy_timeout: Duration,
}

impl Failures {
    /// The store's error for one of SQLite's.
    pub(super) fn of(&self, error: rusqlite::Error) -> StoreError {
        let path = self.path.clone();
        let rusqlite::Error::SqliteFailure(failure, message) = &error else {
            return StoreError::Unexpected { path, detail: error.to_string() };
        };
        let detail = message.clone().unwrap_or_else(|| failure.to_string());
        match failure.code {
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
                self.locked()
            }
            ErrorCode::DatabaseCorrupt => StoreError::Corrupt { path, detail },
            ErrorCode::NotADatabase => StoreError::NotAStore { path, detail },
            ErrorCode::ReadOnly => StoreError::ReadOnly { path },
            ErrorCode::DiskFull => StoreError::Full { path },
            ErrorCode::PermissionDenied => StoreError::PermissionDenied { path },
            ErrorCode::CannotOpen => self.of_opening(detail),
            ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory | ErrorCode::NoLargeFileSupport => {
                StoreError::Unavailable { path, detail }
            }
            _ => StoreError::Unexpected { path, detail },
        }
    }

    /// Somebody keeps the store, or the way to it, for longer than is waited.
    pub(super) fn locked(&self) -> StoreError {
        StoreError::Locked { path: self.path.clone(), waited_seconds: self.busy_timeout.as_secs() }
    }

    /// The store's error for one of the system's.
    pub(super) fn of_system(&self, error: &std::io::Error) -> StoreError {
        let path = self.path.clone();
        match error.kind() {
            std::io::ErrorKind::NotFound if !self.folder().is_dir() => StoreError::FolderMissing { path },
            std::io::ErrorKind::NotFound => StoreError::Missing { path },
            std::io::ErrorKind::PermissionDenied => StoreError::PermissionDenied { path },
            std::io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly { path },
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreError::Full { path },
            _ => StoreError::Unavailable { path, detail: error.to_string() },
        }
    }

    /// The folder that the store is in.
    pub(super) fn folder(&self) -> &Path {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        folder.unwrap_or_else(|| Path::new("."))
    }

    /// SQLite does not say why it cannot open a file; the system does.
    fn of_opening(&self, detail: String) -> StoreError {
        match std::fs::OpenOptions::new().read(true).write(true).open(&self.path) {
            Err(error) => self.of_system(&error),
            Ok(_) => StoreError::Unavailable { path: self.path.clone(), detail },
        }
    }
}
