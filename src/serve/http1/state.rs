//! What a client's connection tells the worker's registry, and what it is told: one small value, shared on one thread.
//!
//! What must not live here: deadlines and timers. They belong to who looks over the connections; this only says where
//! the client is.

use std::cell::{Cell, RefCell};
use std::task::Waker;

use super::Interim;

/// Where the client is in what it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Between two messages: not a byte of the next head has come.
    Idle,
    /// A head has begun and is not complete.
    ReadingHead,
    /// In a request's body.
    InBody,
}

/// Shared between a connection, its requests and the registry.
#[derive(Debug)]
pub struct State {
    phase: Cell<Phase>,
    is_timing_out: Cell<bool>,
    is_last: Cell<bool>,
    is_ending: Cell<bool>,
    reader: RefCell<Option<Waker>>,
    interim: Interim,
}

impl State {
    /// A connection from which nothing has come.
    #[expect(clippy::new_without_default, reason = "a connection begins, it has no default")]
    pub fn new() -> Self {
        Self {
            phase: Cell::new(Phase::Idle),
            is_timing_out: Cell::new(false),
            is_last: Cell::new(false),
            is_ending: Cell::new(false),
            reader: RefCell::new(None),
            interim: Interim::default(),
        }
    }

    /// Interim responses to the request that is being served.
    pub fn interim(&self) -> &Interim {
        &self.interim
    }

    /// Where the client is in what it sends.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Gives up on an incomplete head: it is refused as [`HeaderTimeout`](super::Violation::HeaderTimeout). Does nothing
    /// unless a head has begun.
    pub fn time_out_head(&self) {
        if self.phase() == Phase::ReadingHead {
            self.is_timing_out.set(true);
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
    }

    /// The connection ends with the next answer: that to the request that is being served, or that comes.
    pub fn end_after_next(&self) {
        self.is_last.set(true);
    }

    /// The connection ends with the request that is being served, or at once between two. Whoever drives the connection
    /// polls it after that.
    pub fn end_after_this(&self) {
        self.is_last.set(true);
        self.is_ending.set(true);
    }

    pub(super) fn is_timing_out(&self) -> bool {
        self.is_timing_out.get()
    }

    /// Whether the next answer is the last.
    pub(super) fn is_last(&self) -> bool {
        self.is_last.get()
    }

    /// Whether nothing is waited for between two requests.
    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.get()
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
    }

    pub(super) fn remember_reader(&self, waker: &Waker) {
        *self.reader.borrow_mut() = Some(waker.clone());
    }
}
