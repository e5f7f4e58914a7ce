//! Whether this process should be sent requests, and if not, why not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::Drain;
use crate::directory::DirectoryView;

/// Answers the readiness probe; shared by whoever makes a part of it true.
#[derive(Debug)]
pub struct Readiness {
    directory: OnceLock<Arc<DirectoryView>>,
    listeners_bound: AtomicBool,
    drain: Drain,
}

/// Something that keeps the process from being ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unready {
    /// The token cache has not been filled from the store yet.
    DirectoryNotLoaded,
    /// The token cache has not been in step with the store for longer than is allowed: no token is let in.
    DirectoryStale,
    /// Not every listener accepts connections yet.
    ListenersNotBound,
    /// The process is on its way out.
    Draining,
}

impl Unready {
    /// The word that the probe's answer uses.
    pub const fn code(self) -> &'static str {
        match self {
            Self::DirectoryNotLoaded => "directory_not_loaded",
            Self::DirectoryStale => "directory_stale",
            Self::ListenersNotBound => "listeners_not_bound",
            Self::Draining => "draining",
        }
    }

    /// The same for people.
    pub const fn message(self) -> &'static str {
        match self {
            Self::DirectoryNotLoaded => "The token cache has not been loaded from the store yet.",
            Self::DirectoryStale => {
                "The store has not been heard for longer than store.stale_after_seconds: no token is let in."
            }
            Self::ListenersNotBound => "Not every listener accepts connections yet.",
            Self::Draining => "This process is stopping; it finishes what runs and takes nothing new.",
        }
    }
}

impl Readiness {
    /// Not ready yet; from `drain` it learns when it no longer is.
    pub fn new(drain: Drain) -> Arc<Self> {
        Arc::new(Self { directory: OnceLock::new(), listeners_bound: AtomicBool::new(false), drain })
    }

    /// The token cache holds the whole directory. Losing the store later does not make a process unready, unless the directory
    /// becomes older than it may.
    pub fn directory_loaded(&self, directory: Arc<DirectoryView>) {
        // It is loaded once.
        let _first = self.directory.set(directory);
    }

    /// Every listener accepts connections.
    pub fn listeners_bound(&self) {
        self.listeners_bound.store(true, Ordering::Release);
    }

    /// What is missing as of now; empty if the process is ready.
    pub fn missing(&self) -> Vec<Unready> {
        let directory = self.directory.get();
        [
            (directory.is_none(), Unready::DirectoryNotLoaded),
            (directory.is_some_and(|directory| directory.status.is_stale()), Unready::DirectoryStale),
            (!self.listeners_bound.load(Ordering::Acquire), Unready::ListenersNotBound),
            (self.drain.draining(), Unready::Draining),
        ]
        .into_iter()
        .filter_map(|(missing, what)| missing.then_some(what))
        .collect()
    }
}
