//! What the guard tells the rest of a connection, and what it is told: one small value, shared on one thread.
//!
//! What must not live here: deadlines and timers. They belong to who serves the connection; this only says
//! where the client is.

use std::cell::{Cell, RefCell};
use std::task::Waker;

use tokio::time::Instant;

use super::Violation;

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

/// Shared between a [`Guard`](super::Guard), the service behind hyper, and the connection's timer.
///
/// Requests of a connection are numbered from 0, in the order in which the service is called.
#[derive(Debug)]
pub struct GuardState {
    heads: Cell<u64>,
    phase: Cell<Phase>,
    head_started: Cell<Option<Instant>>,
    progress: Cell<u64>,
    refusal: Cell<Option<Refusal>>,
    order: Cell<Order>,
    reader: RefCell<Option<Waker>>,
}

/// The one violation of a connection, and the request that it belongs to.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    request: u64,
    part: Part,
    violation: Violation,
}

/// The part of a request that broke a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Head,
    Body,
}

/// What the guard was told to do at its next read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Screen,
    TimeOutHead,
    PassThrough,
}

impl GuardState {
    pub(super) fn new() -> Self {
        Self {
            heads: Cell::new(0),
            phase: Cell::new(Phase::Idle),
            head_started: Cell::new(None),
            progress: Cell::new(0),
            refusal: Cell::new(None),
            order: Cell::new(Order::Screen),
            reader: RefCell::new(None),
        }
    }

    /// Why the head of this request was refused, if it was. The service then answers with the violation's
    /// status and `Connection: close`, and looks at nothing of the request, which is a stand-in.
    pub fn violation_at(&self, request: u64) -> Option<Violation> {
        self.refused(request, Part::Head)
    }

    /// Why the body of this request was broken off, if it was: the client's fault, not an upstream's.
    pub fn body_violation_at(&self, request: u64) -> Option<Violation> {
        self.refused(request, Part::Body)
    }

    /// The connection's violation, whichever request it belongs to. No byte is read after it.
    pub fn violation(&self) -> Option<Violation> {
        self.refusal.get().map(|refusal| refusal.violation)
    }

    /// How many good heads have come so far.
    pub fn heads(&self) -> u64 {
        self.heads.get()
    }

    /// Where the client is in what it sends.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// When the first bytes of the incomplete head came; only while [`Phase::ReadingHead`].
    pub fn head_started(&self) -> Option<Instant> {
        self.head_started.get()
    }

    /// A number that changes whenever bytes are read from or written to the client.
    pub fn progress(&self) -> u64 {
        self.progress.get()
    }

    /// Gives up on an incomplete head: the next read delivers a stand-in whose violation is
    /// [`Violation::HeaderTimeout`]. Does nothing unless a head has begun.
    pub fn time_out_head(&self) {
        if self.phase() == Phase::ReadingHead && self.order.get() == Order::Screen {
            self.give(Order::TimeOutHead);
        }
    }

    /// Stops looking at what comes: from now on every byte goes through unchanged, those held back first.
    /// For a connection that has been upgraded to another protocol; it cannot be taken back.
    pub fn pass_through(&self) {
        self.give(Order::PassThrough);
    }

    fn give(&self, order: Order) {
        self.order.set(order);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn refused(&self, request: u64, part: Part) -> Option<Violation> {
        self.refusal
            .get()
            .filter(|refusal| refusal.request == request && refusal.part == part)
            .map(|refusal| refusal.violation)
    }

    pub(super) fn order(&self) -> Order {
        self.order.get()
    }

    pub(super) fn count_head(&self) {
        self.heads.set(self.heads.get() + 1);
    }

    pub(super) fn count_progress(&self) {
        self.progress.set(self.progress.get().wrapping_add(1));
    }

    pub(super) fn enter(&self, phase: Phase) {
        if phase != self.phase.get() {
            self.phase.set(phase);
            // The clock is only read for a head that does not come in one piece.
            self.head_started.set((phase == Phase::ReadingHead).then(Instant::now));
        }
    }

    pub(super) fn refuse(&self, part: Part, violation: Violation) {
        let request = match part {
            Part::Head => self.heads.get(),
            Part::Body => self.heads.get().saturating_sub(1),
        };
        self.refusal.set(Some(Refusal { request, part, violation }));
    }

    pub(super) fn remember_reader(&self, waker: &Waker) {
        *self.reader.borrow_mut() = Some(waker.clone());
    }
}
