//! Opening the file: making it if that was asked for, refusing what is not ours, and bringing its schema up to date.
//!
//! Nothing is written to a file before it is known to be a Postern store.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::failure::Failures;
use super::schema::{APPLICATION_ID, STEPS, latest_version};
use crate::config::StoreConfig;
use crate::directory::error::StoreError;

/// First bytes of every SQLite file.
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// When what was written reaches the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// Before a commit returns.
    EveryCommit,
    /// When the write-ahead log is written back; a power cut may undo the last commits, never damage the file.
    EveryCheckpoint,
}

/// Checks that the file is there and ours, or makes it.
pub(super) fn ensure_store(config: &StoreConfig, failures: &Failures) -> Result<(), StoreError> {
    let mut start = [0; SQLITE_MAGIC.len()];
    let length = match fs::File::open(&config.path).and_then(|mut file| read_start(&mut file, &mut start)) {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::NotFound && config.create_if_missing => {
            return create(failures);
        }
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            return Err(not_a_store(failures, "it is a folder"));
        }
        Err(error) => return Err(failures.of_system(&error)),
    };
    match length {
        0 => Err(not_a_store(failures, "the file is empty")),
        _ if start != *SQLITE_MAGIC => Err(not_a_store(failures, "it is not an SQLite file")),
        _ => Ok(()),
    }
}

/// Opens a connection to a file that is ours.
pub(super) fn connect(failures: &Failures, durability: Durability) -> Result<Connection, StoreError> {
    let connection = connect_to(&failures.path, failures)?;
    check_identity(&connection, failures)?;
    if connection.is_readonly("main").map_err(|error| failures.of(error))? {
        return Err(StoreError::ReadOnly { path: failures.path.clone() });
    }
    let synchronous = match durability {
        Durability::EveryCommit => "FULL",
        Durability::EveryCheckpoint => "NORMAL",
    };
    // No memory mapping: a file that is cut short under a mapping would end the process.
    let journal: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(|error| failures.of(error))?;
    if journal != "wal" {
        let detail = "its file system has no shared memory, which the write-ahead log needs; use a local one";
        return Err(StoreError::Unavailable { path: failures.path.clone(), detail: detail.to_owned() });
    }
    connection
        .execute_batch(&format!(
            "PRAGMA synchronous = {synchronous}; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;
             PRAGMA cell_size_check = ON;"
        ))
        .map_err(|error| failures.of(error))?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

/// What tells a file from another one at the same path.
pub(super) fn file_identity(failures: &Failures) -> Result<(u64, u64), StoreError> {
    let metadata = fs::metadata(&failures.path).map_err(|error| failures.of_system(&error))?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Brings the schema up to date, one transaction for all steps.
pub(super) fn migrate(connection: &Connection, failures: &Failures) -> Result<(), StoreError> {
    if version(connection, failures)? == latest_version() {
        return Ok(());
    }
    let run = || -> rusqlite::Result<()> {
        let transaction = rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        // Asked again, now that nobody else can be migrating.
        let from: u32 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        for step in STEPS.iter().skip(from as usize) {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "user_version", latest_version())?;
        transaction.commit()
    };
    run().map_err(|error| failures.of(error))
}

/// Makes the whole store under another name and then puts it in place at once: a crash leaves no half-made store,
/// and of two processes that make it at the same time one wins and both go on with it.
fn create(failures: &Failures) -> Result<(), StoreError> {
    let file = tempfile::Builder::new()
        .prefix(".postern-store-")
        .tempfile_in(failures.folder())
        .map_err(|error| failures.of_system(&error))?;
    {
        let connection = connect_to(file.path(), failures)?;
        let make = || -> rusqlite::Result<()> {
            connection.pragma_update(None, "application_id", APPLICATION_ID)?;
            Ok(())
        };
        make().map_err(|error| failures.of(error))?;
        migrate(&connection, failures)?;
    }
    file.as_file().sync_all().map_err(|error| failures.of_system(&error))?;
    match file.persist_noclobber(&failures.path) {
        Ok(_) => {
            let synced = fs::File::open(failures.folder()).and_then(|folder| folder.sync_all());
            synced.map_err(|error| failures.of_system(&error))
        }
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failures.of_system(&error.error)),
    }
}

fn connect_to(path: &std::path::Path, failures: &Failures) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| failures.of(error))?;
    connection.busy_timeout(failures.busy_timeout).map_err(|error| failures.of(error))?;
    Ok(connection)
}

fn check_identity(connection: &Connection, failures: &Failures) -> Result<(), StoreError> {
    let id: u32 = connection
        .query_row("PRAGMA application_id", [], |row| row.get(0))
        .map_err(|error| failures.of(error))?;
    if id != APPLICATION_ID {
        return Err(not_a_store(failures, "it is an SQLite file of another program"));
    }
    match version(connection, failures)? {
        0 => Err(not_a_store(failures, "it has no schema")),
        found if found > latest_version() => {
            Err(StoreError::NewerSchema { path: failures.path.clone(), found, supported: latest_version() })
        }
        _ => Ok(()),
    }
}

fn version(connection: &Connection, failures: &Failures) -> Result<u32, StoreError> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(|error| failures.of(error))
}

fn not_a_store(failures: &Failures, detail: &str) -> StoreError {
    StoreError::NotAStore { path: failures.path.clone(), detail: detail.to_owned() }
}

fn read_start(file: &mut fs::File, start: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < start.len() {
        match file.read(&mut start[length..])? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}
