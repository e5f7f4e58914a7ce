//! Whether this process should be sent requests, and if not, why not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Drain;

/// Answers the readiness probe; shared by whoever makes a part of it true.
#[derive(Debug)]
pub struct Readiness {
    directory_loaded: AtomicBool,
    listeners_bound: AtomicBool,
    drain: Drain,
}

/// Something that keeps the process from being ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unready {
    /// The token cache has not been filled from the store yet.
    DirectoryNotLoaded,
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
            Self::ListenersNotBound => "listeners_not_bound",
            Self::Draining => "draining",
        }
    }

    /// The same for people.
    pub const fn message(self) -> &'static str {
        match self {
            Self::DirectoryNotLoaded => "The token cache has not been loaded from the store yet.",
            Self::ListenersNotBound => "Not every listener accepts connections yet.",
            Self::Draining => "This process is stopping; it finishes what runs and takes nothing new.",
        }
    }
}

impl Readiness {
    /// Not ready yet; from `drain` it learns when it no longer is.
    pub fn new(drain: Drain) -> Arc<Self> {
        Arc::new(Self {
            directory_loaded: AtomicBool::new(false),
            listeners_bound: AtomicBool::new(false),
            drain,
        })
    }

    /// The token cache holds the whole directory. It stays so: losing the store later does not make a process unready.
    pub fn directory_loaded(&self) {
        self.directory_loaded.store(true, Ordering::Release);
    }

    /// Every listener accepts connections.
    pub fn listeners_bound(&self) {
        self.listeners_bound.store(true, Ordering::Release);
    }

    /// What is missing as of now; empty if the process is ready.
    pub fn missing(&self) -> Vec<Unready> {
        [
            (!self.directory_loaded.load(Ordering::Acquire), Unready::DirectoryNotLoaded),
            (!self.listeners_bound.load(Ordering::Acquire), Unready::ListenersNotBound),
            (self.drain.draining(), Unready::Draining),
        ]
        .into_iter()
        .filter_map(|(missing, what)| missing.then_some(what))
        .collect()
    }
}
