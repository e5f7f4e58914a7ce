//! Follows HTTP/1's framing through the client's bytes and decides which of them hyper may see.
//!
//! What must not live here: reading and writing; nothing in here waits.

use std::rc::Rc;

use bytes::{Buf, BytesMut};
use hyper::rt::ReadBufCursor;

use super::chunked::{Chunked, Progress};
use super::head::{BodyLength, HeadScan};
use super::state::{Order, Part};
use super::{GuardLimits, GuardState, Phase, Violation};

/// What hyper gets in the place of a head that was refused, so that it calls the service in the right order.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\n\r\n";

/// The framing of one connection, and the bytes that hyper may not see yet.
#[derive(Debug)]
pub(super) struct Screen {
    limits: GuardLimits,
    state: Rc<GuardState>,
    framing: Framing,
    /// Bytes that could not stay in hyper's buffer: an incomplete head, or what follows one that was.
    held: BytesMut,
    /// How many of them, from the front, hyper may see.
    ready: usize,
    /// What is left of the stand-in to deliver.
    stand_in: &'static [u8],
}

/// Where in which message the next byte stands.
#[derive(Debug)]
enum Framing {
    Head(HeadScan),
    Body(u64),
    Chunked(Chunked),
    Refused(Refused),
    PassThrough,
}

/// What becomes of reads once a violation has ended the connection's input.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refused {
    /// Nothing more comes, and no end either, because hyper would drop the answer.
    Silence,
    /// The body breaks off with an error.
    Error(Violation),
}

impl Screen {
    pub(super) fn new(limits: GuardLimits, prefix: BytesMut) -> Self {
        let mut screen = Self {
            limits,
            state: Rc::new(GuardState::new()),
            framing: Framing::Head(HeadScan::new()),
            held: prefix,
            ready: 0,
            stand_in: &[],
        };
        screen.look_at_held();
        screen
    }

    pub(super) fn state(&self) -> &Rc<GuardState> {
        &self.state
    }

    pub(super) fn holds_bytes(&self) -> bool {
        !self.held.is_empty()
    }

    pub(super) fn into_held(self) -> BytesMut {
        self.held
    }

    /// What reads end in, once everything before it has been delivered.
    pub(super) fn refused(&self) -> Option<Refused> {
        match self.framing {
            Framing::Refused(refused) => Some(refused),
            Framing::Head(_) | Framing::Body(_) | Framing::Chunked(_) | Framing::PassThrough => None,
        }
    }

    /// Whether the client has begun what it has not finished, or was refused while it may still be sending.
    pub(super) fn is_mid_message(&self) -> bool {
        match self.framing {
            Framing::Head(_) => self.holds_bytes(),
            Framing::Body(_) | Framing::Chunked(_) | Framing::Refused(_) => true,
            Framing::PassThrough => false,
        }
    }

    /// Does what the state was told since the last read.
    pub(super) fn follow_order(&mut self) {
        match (self.state.order(), &self.framing) {
            (Order::Screen, _) | (_, Framing::Refused(_) | Framing::PassThrough) => {}
            (Order::TimeOutHead, Framing::Head(scan)) => {
                // The head may have become complete in the meantime.
                if self.ready == 0 && scan.has_begun(self.held.len()) {
                    self.refuse(Part::Head, Violation::HeaderTimeout);
                    self.drop_unready();
                }
            }
            (Order::TimeOutHead, Framing::Body(_) | Framing::Chunked(_)) => {}
            (Order::PassThrough, _) => {
                self.framing = Framing::PassThrough;
                self.ready = self.held.len();
                self.state.enter(Phase::Idle);
            }
        }
    }

    /// Looks at bytes that are in hyper's buffer already: so many, from the front, may stay there; the rest is
    /// held or, after a violation, gone.
    pub(super) fn look_at(&mut self, bytes: &[u8]) -> usize {
        let passed = self.inspect(bytes);
        if passed < bytes.len() && self.refused().is_none() {
            self.held.extend_from_slice(&bytes[passed..]);
        }
        self.note_phase();
        passed
    }

    /// Puts bytes behind those that are held, and looks at them together.
    pub(super) fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        self.look_at_held();
    }

    /// Copies as much as fits of what hyper may see; `false`: there is nothing.
    pub(super) fn deliver(&mut self, cursor: &mut ReadBufCursor<'_>) -> bool {
        if self.ready > 0 {
            let length = self.ready.min(cursor.remaining());
            cursor.put_slice(&self.held[..length]);
            self.held.advance(length);
            self.ready -= length;
            if self.held.is_empty() {
                // Most connections never hold anything again.
                self.held = BytesMut::new();
            }
            return true;
        }
        if !self.stand_in.is_empty() {
            let (now, later) = self.stand_in.split_at(self.stand_in.len().min(cursor.remaining()));
            cursor.put_slice(now);
            self.stand_in = later;
            return true;
        }
        false
    }

    fn look_at_held(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.ready = self.inspect(&held);
        self.held = held;
        if self.refused().is_some() {
            self.drop_unready();
        }
        self.note_phase();
    }

    fn drop_unready(&mut self) {
        self.held.truncate(self.ready);
    }

    /// Follows the framing through bytes that start where the framing stands; so many of them are valid.
    fn inspect(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        while passed < bytes.len() {
            let rest = &bytes[passed..];
            match &mut self.framing {
                Framing::Head(scan) => match scan.advance(rest, &self.limits) {
                    Ok(Some(head)) => {
                        self.state.count_head();
                        self.framing = match head.body {
                            BodyLength::Known(0) => Framing::Head(HeadScan::new()),
                            BodyLength::Known(length) => Framing::Body(length),
                            BodyLength::Chunked => Framing::Chunked(Chunked::new()),
                        };
                        passed += head.length;
                    }
                    Ok(None) => break,
                    Err(violation) => self.refuse(Part::Head, violation),
                },
                Framing::Body(remaining) => {
                    let length = usize::try_from(*remaining).map_or(rest.len(), |left| left.min(rest.len()));
                    *remaining -= length as u64;
                    if *remaining == 0 {
                        self.framing = Framing::Head(HeadScan::new());
                    }
                    passed += length;
                }
                Framing::Chunked(chunked) => match chunked.advance(rest, &self.limits) {
                    Ok(Progress::Continues) => passed = bytes.len(),
                    Ok(Progress::EndsAfter(length)) => {
                        self.framing = Framing::Head(HeadScan::new());
                        passed += length;
                    }
                    Err(violation) => self.refuse(Part::Body, violation),
                },
                Framing::Refused(_) => break,
                Framing::PassThrough => passed = bytes.len(),
            }
        }
        passed
    }

    fn refuse(&mut self, part: Part, violation: Violation) {
        self.state.refuse(part, violation);
        self.framing = Framing::Refused(match part {
            Part::Head => {
                self.stand_in = STAND_IN;
                Refused::Silence
            }
            Part::Body => Refused::Error(violation),
        });
    }

    fn note_phase(&self) {
        self.state.enter(match &self.framing {
            Framing::Head(scan) if scan.has_begun(self.held.len() - self.ready) => Phase::ReadingHead,
            Framing::Head(_) | Framing::Refused(_) | Framing::PassThrough => Phase::Idle,
            Framing::Body(_) | Framing::Chunked(_) => Phase::InBody,
        });
    }
}
