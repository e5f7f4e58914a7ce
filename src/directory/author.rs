//! Who changes the directory, through what and from where: what the event log says of every change.
//!
//! What must not live here: what a change is, or whether its author may make it.

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

use super::error::{OperationError, StoreError};
use super::model::{Sequence, Timestamp};
use super::store::{Changes, Records, SnapshotReceiver, Store, UsageUpdate};

/// Who makes a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// Through what.
    pub channel: Channel,
    /// The user, if one is known.
    pub user_id: Option<String>,
    /// Prefix of the token that was presented.
    pub token_prefix: Option<String>,
    /// From where.
    pub address: Option<IpAddr>,
    /// The request that the change was asked for with.
    pub request_id: Option<String>,
}

/// The ways in which a change can come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// The management API.
    Api,
    /// Somebody logs in, or tries to.
    Login,
    /// The command line, with the store at hand.
    CommandLine,
    /// The configuration file.
    Configuration,
    /// Postern itself, by itself.
    System,
}

impl Author {
    /// Nobody but the channel is known.
    pub const fn of(channel: Channel) -> Self {
        Self { channel, user_id: None, token_prefix: None, address: None, request_id: None }
    }
}

/// A store whose changes are somebody's.
#[derive(Debug)]
pub struct AuthoredStore {
    store: Arc<dyn Store>,
    author: Author,
}

impl AuthoredStore {
    /// `store`, with every change made through this said to be `author`'s.
    pub fn new(store: Arc<dyn Store>, author: Author) -> Self {
        Self { store, author }
    }
}

impl Store for AuthoredStore {
    fn location(&self) -> String {
        self.store.location()
    }

    fn read_with(
        &self,
        work: &mut dyn FnMut(&dyn Records) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.store.read_with(work)
    }

    fn follow_with(
        &self,
        work: &mut dyn FnMut(&dyn Records) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.store.follow_with(work)
    }

    fn change_with(
        &self,
        now: Timestamp,
        work: &mut dyn FnMut(&dyn Changes) -> Result<(), OperationError>,
    ) -> Result<Sequence, OperationError> {
        self.store.change_by(&self.author, now, work)
    }

    fn change_by(
        &self,
        author: &Author,
        now: Timestamp,
        work: &mut dyn FnMut(&dyn Changes) -> Result<(), OperationError>,
    ) -> Result<Sequence, OperationError> {
        self.store.change_by(author, now, work)
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
