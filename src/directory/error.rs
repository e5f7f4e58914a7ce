//! What can go wrong with the directory: the store's failures, and operations that are refused.
//!
//! Every message of a [`StoreError`] says what happened, where, and what to do about it.

use std::path::{Path, PathBuf};

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such file.
    #[error(
        "store {path:?} does not exist: check `path` under [store]; to start a new, empty directory there, set \
         `create_if_missing = true`"
    )]
    Missing {
        /// The store's file.
        path: PathBuf,
    },
    /// There is no such folder, so no file can be made in it.
    #[error("the folder of store {path:?} does not exist: make it, or correct `path` under [store]")]
    FolderMissing {
        /// The store's file.
        path: PathBuf,
    },
    /// A file is there, but it is not a Postern store.
    #[error(
        "{path:?} is not a Postern store ({detail}): check `path` under [store]; Postern never overwrites a file \
         that it did not make, so move this one away to start anew, or restore the store from a backup"
    )]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        detail: String,
    },
    /// The store was written by a later version.
    #[error(
        "store {path:?} has schema version {found}, this Postern knows versions up to {supported}: run the newer \
         Postern that wrote it, or restore a backup from before the upgrade"
    )]
    NewerSchema {
        /// The store's file.
        path: PathBuf,
        /// Schema version in the file.
        found: u32,
        /// Latest schema version this program knows.
        supported: u32,
    },
    /// Somebody else holds the store's lock for too long.
    #[error(
        "store {path:?} is locked by another process and did not become free within {waited_seconds} s: find it \
         with `fuser {path:?}`, let it finish or stop it, then try again"
    )]
    Locked {
        /// The store's file.
        path: PathBuf,
        /// How long it was waited for.
        waited_seconds: u64,
    },
    /// The file's content is damaged.
    #[error(
        "store {path:?} is damaged ({detail}): stop Postern, keep a copy of the file and of its -wal and -shm files, \
         and restore a backup, or try `sqlite3 {path:?} .recover`"
    )]
    Corrupt {
        /// The store's file.
        path: PathBuf,
        /// What SQLite found.
        detail: String,
    },
    /// The file or its file system cannot be written to.
    #[error(
        "store {path:?} is read-only: Postern writes usage and changes there, so make the file, its -wal and -shm \
         files and its folder writable, or mount the file system read-write"
    )]
    ReadOnly {
        /// The store's file.
        path: PathBuf,
    },
    /// No space is left.
    #[error(
        "no space is left for store {path:?}: nothing was changed; free space on its file system (or raise the \
         quota) and try again"
    )]
    Full {
        /// The store's file.
        path: PathBuf,
    },
    /// The system does not let this process have the file.
    #[error(
        "no permission to open store {path:?}: let the user that Postern runs as read and write the file and its \
         folder"
    )]
    PermissionDenied {
        /// The store's file.
        path: PathBuf,
    },
    /// Reading or writing the file failed.
    #[error(
        "store {path:?} cannot be read or written ({detail}): check the disk and the system's log, then try again"
    )]
    Unavailable {
        /// The store's file.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// Another file has taken the store's place while it was in use.
    #[error(
        "store {path:?} was replaced by another file while in use: what is in memory goes on being used; restart \
         Postern to load the new file"
    )]
    Replaced {
        /// The store's file.
        path: PathBuf,
    },
    /// The log of changes ends before what has been applied, or has another past.
    #[error(
        "store {path:?} was put back to an earlier state, from which it may have gone on (its last change is {found}, and \
         {applied} of another past has been applied): what is in memory goes on being used, what was revoked stays \
         revoked, and no later change comes into force; restart Postern to load the store as it is now"
    )]
    Rewound {
        /// The store's location.
        path: PathBuf,
        /// The store's last change.
        found: u64,
        /// The last change applied.
        applied: u64,
    },
    /// The log of changes lacks entries that have not been applied.
    #[error(
        "the log of changes in store {path:?} lacks entries between {applied}, which has been applied, and {last}, its last: \
         what is in memory goes on being used, and no later change comes into force; restart Postern to load the store \
         as it is now, and let nobody remove rows of its table `changes`"
    )]
    Truncated {
        /// The store's location.
        path: PathBuf,
        /// The last change applied.
        applied: u64,
        /// The store's last change.
        last: u64,
    },
    /// The store answered what it never should.
    #[error("store {path:?} answered unexpectedly ({detail}): this is a defect of Postern, please report it")]
    Unexpected {
        /// The store's file.
        path: PathBuf,
        /// What SQLite said.
        detail: String,
    },
}

impl StoreError {
    /// The store the error is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Missing { path }
            | Self::NotAStore { path, .. }
            | Self::NewerSchema { path, .. }
            | Self::Locked { path, .. }
            | Self::Corrupt { path, .. }
            | Self::FolderMissing { path }
            | Self::ReadOnly { path }
            | Self::Full { path }
            | Self::PermissionDenied { path }
            | Self::Unavailable { path, .. }
            | Self::Replaced { path }
            | Self::Rewound { path, .. }
            | Self::Truncated { path, .. }
            | Self::Unexpected { path, .. } => path,
        }
    }
}

/// Why an operation on the directory did not happen. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// What the operation is about is not there.
    #[error("{entity} {id:?} does not exist")]
    NotFound {
        /// Kind of thing, as people call it.
        entity: &'static str,
        /// The id, name or prefix that was asked for.
        id: String,
    },
    /// What was to be made is there.
    #[error("{entity} {id:?} already exists")]
    AlreadyExists {
        /// Kind of thing, as people call it.
        entity: &'static str,
        /// The id, name or prefix that is taken.
        id: String,
    },
    /// Somebody else has changed what was to be changed.
    #[error("{entity} {id:?} was changed meanwhile: look at it again, then decide anew")]
    ChangedMeanwhile {
        /// Kind of thing, as people call it.
        entity: &'static str,
        /// The id, name or prefix.
        id: String,
    },
    /// A value is not allowed.
    #[error("{field}: {reason}")]
    Invalid {
        /// Name of the field, as in Aiven's API.
        field: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// It would contradict what is there.
    #[error("{0}")]
    Conflict(String),
    /// The token that it was asked for with has been revoked, or its user switched off, since it was let in.
    #[error("the token that this was asked for with has been revoked meanwhile; nothing was changed")]
    TokenEnded,
    /// Nobody may do it, whatever they hold.
    #[error("{message}")]
    Forbidden {
        /// A word for programs, such as `user_not_managed`.
        code: &'static str,
        /// What is not allowed and what to do instead.
        message: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
