//! A store whose changes have a condition: it is asked in the change's own transaction, so that what it saw is what is
//! changed.
//!
//! What must not live here: what the conditions are.

use std::fmt;

use super::author::Author;
use super::error::{OperationError, StoreError};
use super::model::{Sequence, Timestamp};
use super::store::{Changes, Records, SnapshotReceiver, Store, UsageUpdate};

/// What has to hold for a change to happen.
pub type Condition<'a> = dyn Fn(&dyn Records) -> Result<(), OperationError> + Send + Sync + 'a;

/// A store that changes nothing unless a condition holds.
pub struct GuardedStore<'a> {
    store: &'a dyn Store,
    condition: &'a Condition<'a>,
}

impl<'a> GuardedStore<'a> {
    /// `store`, with `condition` asked first in every transaction that changes it.
    pub fn new(store: &'a dyn Store, condition: &'a Condition<'a>) -> Self {
        Self { store, condition }
    }
}

impl fmt::Debug for GuardedStore<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedStore").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Store for GuardedStore<'_> {
    fn location(&self) -> String {
        self.store.location()
    }

    fn follow_with(
        &self,
        work: &mut dyn FnMut(&dyn Records) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.store.follow_with(work)
    }

    fn read_with(
        &self,
        work: &mut dyn FnMut(&dyn Records) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.store.read_with(work)
    }

    fn change_with(
        &self,
        now: Timestamp,
        work: &mut dyn FnMut(&dyn Changes) -> Result<(), OperationError>,
    ) -> Result<Sequence, OperationError> {
        self.store.change_with(now, &mut |changes| {
            (self.condition)(changes.records())?;
            work(changes)
        })
    }

    fn change_by(
        &self,
        author: &Author,
        now: Timestamp,
        work: &mut dyn FnMut(&dyn Changes) -> Result<(), OperationError>,
    ) -> Result<Sequence, OperationError> {
        self.store.change_by(author, now, &mut |changes| {
            (self.condition)(changes.records())?;
            work(changes)
        })
    }

    fn snapshot(&self, receiver: &mut dyn SnapshotReceiver) -> Result<(), StoreError> {
        self.store.snapshot(receiver)
    }

    fn version(&self) -> Result<u64, StoreError> {
        self.store.version()
    }

    fn record_usage(&self, updates: &[UsageUpdate]) -> Result<(), StoreError> {
        self.store.record_usage(updates)
    }

    fn prune_events(&self, before: Timestamp, at_most: u32) -> Result<usize, StoreError> {
        self.store.prune_events(before, at_most)
    }
}
