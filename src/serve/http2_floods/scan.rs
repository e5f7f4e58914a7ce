//! The heads of HTTP/2's frames (RFC 9113, section 4.1) in bytes that pass, however they are cut.
//!
//! What must not live here: what a frame costs.

/// Bytes of a frame's head.
pub(super) const HEAD_BYTES: usize = 9;
/// Bytes of a client's preface, which are no frame.
const PREFACE_BYTES: u32 = 24;
/// Of a frame's payload, as far as it is looked at: the error's number in a goodbye ends furthest behind.
const MOST_BYTES: usize = HEAD_BYTES + 8;

/// Flag of PING and SETTINGS.
const ACKNOWLEDGEMENT: u8 = 1;

/// What kind of frame it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(u8);

impl Kind {
    pub(super) const DATA: Self = Self(0);
    pub(super) const HEADERS: Self = Self(1);
    pub(super) const RST_STREAM: Self = Self(3);
    pub(super) const SETTINGS: Self = Self(4);
    pub(super) const PING: Self = Self(6);
    pub(super) const GO_AWAY: Self = Self(7);
    pub(super) const WINDOW_UPDATE: Self = Self(8);
    pub(super) const CONTINUATION: Self = Self(9);

    /// How many bytes from a frame's beginning tell what has to be known of it.
    fn needed(self) -> usize {
        match self {
            Self::WINDOW_UPDATE => HEAD_BYTES + 4,
            Self::GO_AWAY => HEAD_BYTES + 8,
            _ => HEAD_BYTES,
        }
    }
}

/// What is known of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    flags: u8,
    /// Bytes of its payload.
    pub(super) length: u32,
    /// By how much it opens a window, or the number of the error that a goodbye names; else 0.
    pub(super) value: u32,
}

impl Frame {
    pub(super) fn is_acknowledgement(&self) -> bool {
        self.flags & ACKNOWLEDGEMENT != 0
    }
}

/// Where in which frame the next byte of one direction stands.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Bytes that are of no interest before the next frame.
    uninteresting: u32,
    /// The beginning of a frame that is not known yet, and how much of it is there.
    begun: [u8; MOST_BYTES],
    begun_bytes: usize,
}

impl Scan {
    /// Before a client's first byte.
    pub(super) fn behind_preface() -> Self {
        Self { uninteresting: PREFACE_BYTES, ..Self::default() }
    }

    /// The next frame of which enough has come; `bytes` then is what comes behind that. `None`, and nothing left, when none has.
    #[inline]
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        let skipped = self.skip(bytes);
        *bytes = &bytes[skipped..];
        if self.begun_bytes == 0
            && let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>()
        {
            let frame = Frame::of(head);
            if frame.kind.needed() == HEAD_BYTES {
                *bytes = rest;
                self.uninteresting = frame.length;
                return Some(frame);
            }
        }
        self.next_in_pieces(bytes)
    }

    /// The same where the frame's beginning came in pieces, or has more of interest than its head.
    fn next_in_pieces(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        loop {
            let mut needed = HEAD_BYTES;
            if let Some(head) = self.begun[..self.begun_bytes].first_chunk::<HEAD_BYTES>() {
                let frame = Frame::of(head);
                // One that is too short for its kind has no value: h2 refuses it.
                needed = frame.kind.needed().min(HEAD_BYTES + frame.length as usize);
                if self.begun_bytes == needed {
                    self.begun_bytes = 0;
                    let inspected = (needed - HEAD_BYTES) as u32;
                    self.uninteresting = frame.length - inspected;
                    return Some(Frame { value: self.value(frame.kind, needed), ..frame });
                }
            }
            let (next, rest) = bytes.split_first()?;
            self.begun[self.begun_bytes] = *next;
            self.begun_bytes += 1;
            *bytes = rest;
            debug_assert!(self.begun_bytes <= needed, "a frame is told of as soon as it is known");
        }
    }

    fn value(&self, kind: Kind, known: usize) -> u32 {
        match (kind, self.begun[..known].last_chunk::<4>()) {
            (Kind::WINDOW_UPDATE | Kind::GO_AWAY, Some(value)) if known == kind.needed() => {
                u32::from_be_bytes(*value)
            }
            _ => 0,
        }
    }

    /// How many of these bytes still belong to the frame that was told of last; they count as passed.
    pub(super) fn skip(&mut self, bytes: &[u8]) -> usize {
        let skipped = (self.uninteresting as usize).min(bytes.len());
        self.uninteresting -= skipped as u32;
        skipped
    }

    /// Whether the next byte is a frame's first.
    pub(super) fn is_between(&self) -> bool {
        self.uninteresting == 0 && self.begun_bytes == 0
    }
}

impl Frame {
    fn of(head: &[u8; HEAD_BYTES]) -> Self {
        let [high, middle, low, kind, flags, ..] = *head;
        Self { kind: Kind(kind), flags, length: u32::from_be_bytes([0, high, middle, low]), value: 0 }
    }
}
