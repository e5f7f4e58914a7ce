//! The directory in one SQLite file: write-ahead log, every change synced to disk before it is acknowledged.
//!
//! Four connections, so that none waits for another within the process: one for changes, one for usage (which may
//! lose its last moments in a power cut), one for reading, and one for bringing changes into memory: a revocation waits
//! for nobody's long list. What the operations mean is not known here.

mod event_log;
mod events;
mod failure;
mod open;
mod people;
mod read;
mod rows;
mod schema;
mod snapshot;
#[cfg(test)]
mod tests;
mod write;

use std::path::PathBuf;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, TransactionBehavior, params};

use super::author::Author;
use super::error::{OperationError, StoreError};
use super::model::{Sequence, Timestamp};
use super::store::{Changes, Records, SnapshotReceiver, Store, UsageUpdate};
use crate::config::StoreConfig;
use failure::Failures;
use read::Reader;
use write::Writer;

/// How long a call waits for another process to give up the store's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The same for usage: who writes it has more urgent things to do, and comes back.
const USAGE_PATIENCE: Duration = Duration::from_millis(100);

/// The directory in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    failures: Failures,
    /// Device and number of the file that is open.
    file: (u64, u64),
    changes: Mutex<Connection>,
    usage: Mutex<Connection>,
    reading: Mutex<Connection>,
    following: Mutex<Connection>,
}

impl SqliteStore {
    /// Opens the store, or makes it if it is missing and the configuration says so.
    ///
    /// # Errors
    ///
    /// If the file is missing, not a Postern store, of a newer schema, damaged, locked, or cannot be written to.
    pub fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        Self::open_with_patience(config, BUSY_TIMEOUT)
    }

    /// The same as [`Self::open`], with another limit to how long each call waits for other processes' locks.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_with_patience(config: &StoreConfig, busy_timeout: Duration) -> Result<Self, StoreError> {
        let failures = Failures { path: config.path.clone(), busy_timeout };
        open::ensure_store(config, &failures)?;
        let file = open::file_identity(&failures)?;
        let changes = open::connect(&failures, open::Durability::EveryCommit)?;
        open::migrate(&changes, &failures)?;
        let usage = open::connect(&failures, open::Durability::EveryCheckpoint)?;
        usage.busy_timeout(busy_timeout.min(USAGE_PATIENCE)).map_err(|error| failures.of(error))?;
        let reading = open::connect(&failures, open::Durability::EveryCommit)?;
        let following = open::connect(&failures, open::Durability::EveryCommit)?;
        Ok(Self {
            failures,
            file,
            changes: Mutex::new(changes),
            usage: Mutex::new(usage),
            reading: Mutex::new(reading),
            following: Mutex::new(following),
        })
    }

    fn path(&self) -> &PathBuf {
        &self.failures.path
    }

    /// A connection, once nobody else in this process uses it: waited for no longer than for other processes' locks. Without an end,
    /// who waits while somebody holds the store's lock would wait for the patience of all before it, one after the other.
    fn turn<'a>(&self, connection: &'a Mutex<Connection>) -> Result<MutexGuard<'a, Connection>, StoreError> {
        connection.try_lock_for(self.failures.busy_timeout).ok_or_else(|| self.failures.locked())
    }

    /// Works with a connection in its turn. What was read of a damaged file is forgotten: SQLite keeps its pages until somebody writes to the
    /// store, which nobody may be able to while everybody keeps them, though the file is whole again.
    fn in_turn<T, E: From<StoreError> + TellsDamage>(
        &self,
        connection: &Mutex<Connection>,
        work: impl FnOnce(&mut Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut connection = self.turn(connection)?;
        let result = work(&mut connection);
        if result.as_ref().is_err_and(E::tells_damage) {
            // What cannot be forgotten now fails again, and is forgotten then.
            let _kept = connection.execute_batch(FORGET_PAGES);
        }
        result
    }

    /// Whether the file that was opened still is where it was.
    fn check_file(&self) -> Result<(), StoreError> {
        if open::file_identity(&self.failures)? == self.file {
            return Ok(());
        }
        Err(StoreError::Replaced { path: self.path().clone() })
    }
}

impl Store for SqliteStore {
    fn location(&self) -> String {
        self.path().display().to_string()
    }

    fn read_with(
        &self,
        work: &mut dyn FnMut(&dyn Records) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.in_turn(&self.reading, |connection| {
            let transaction = connection.transaction().map_err(|error| self.failures.of(error))?;
            work(&Reader::new(&transaction, &self.failures))
        })
    }

    fn follow_with(
        &self,
        work: &mut dyn FnMut(&dyn Records) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.in_turn(&self.following, |connection| {
            let transaction = connection.transaction().map_err(|error| self.failures.of(error))?;
            work(&Reader::new(&transaction, &self.failures))
        })
    }

    fn change_by(
        &self,
        author: &Author,
        now: Timestamp,
        work: &mut dyn FnMut(&dyn Changes) -> Result<(), OperationError>,
    ) -> Result<Sequence, OperationError> {
        self.in_turn(&self.changes, |connection| {
            let transaction = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(|error| self.failures.of(error))?;
            let writer = Writer::new(&transaction, &self.failures, author, now);
            // Whatever fails, dropping the transaction takes everything back.
            work(&writer)?;
            let sequence = writer.sequence()?;
            // What would be written to a file that has been put aside would be lost, after it was acknowledged.
            self.check_file()?;
            transaction.commit().map_err(|error| self.failures.of(error))?;
            Ok(sequence)
        })
    }

    fn snapshot(&self, receiver: &mut dyn SnapshotReceiver) -> Result<(), StoreError> {
        self.in_turn(&self.reading, |connection| {
            let transaction = connection.transaction().map_err(|error| self.failures.of(error))?;
            snapshot::send(&Reader::new(&transaction, &self.failures), receiver)?;
            drop(transaction);
            // Nobody will ask for them again.
            connection.execute_batch(FORGET_PAGES).map_err(|error| self.failures.of(error))
        })
    }

    fn version(&self) -> Result<u64, StoreError> {
        self.check_file()?;
        let connection = self.turn(&self.following)?;
        let version: i64 = connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(|error| self.failures.of(error))?;
        Ok(version.unsigned_abs())
    }

    fn record_usage(&self, updates: &[UsageUpdate]) -> Result<(), StoreError> {
        self.in_turn(&self.usage, |connection| {
            record_usage(connection, updates).map_err(|error| self.failures.of(error))
        })
    }

    fn prune_events(&self, before: Timestamp, at_most: u32) -> Result<usize, StoreError> {
        self.in_turn(&self.usage, |connection| {
            event_log::prune(connection, before.0, at_most).map_err(|error| self.failures.of(error))
        })
    }
}

/// Writes uses of tokens, all or none.
fn record_usage(connection: &mut Connection, updates: &[UsageUpdate]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut upsert = transaction.prepare_cached(UPSERT_USAGE)?;
        for update in updates {
            upsert.execute(params![
                update.token_number,
                update.last_used_at,
                update.address.map(|address| address.to_string()),
                update.user_agent.as_ref().map(|agent| agent.as_str()),
                update.requests,
            ])?;
        }
    }
    transaction.commit()
}

/// Errors that may come of pages as they were read, rather than of what was asked for.
trait TellsDamage {
    fn tells_damage(&self) -> bool;
}

impl TellsDamage for StoreError {
    fn tells_damage(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::NotAStore { .. } | Self::Unexpected { .. })
    }
}

impl TellsDamage for OperationError {
    fn tells_damage(&self) -> bool {
        matches!(self, Self::Store(error) if error.tells_damage())
    }
}

/// Gives back the memory of all pages that were read, which are so read again.
const FORGET_PAGES: &str = "PRAGMA shrink_memory";

/// Only forward: the later use wins, whoever writes last, and requests are added.
const UPSERT_USAGE: &str = "
    INSERT INTO token_usage (token_number, last_used_time, last_ip, last_user_agent, request_count)
    VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (token_number) DO UPDATE SET
        last_used_time = max(last_used_time, excluded.last_used_time),
        last_ip = iif(excluded.last_used_time > last_used_time, excluded.last_ip, last_ip),
        last_user_agent =
            iif(excluded.last_used_time > last_used_time, excluded.last_user_agent, last_user_agent),
        request_count = request_count + excluded.request_count
    WHERE excluded.last_used_time > last_used_time OR excluded.request_count > 0";
