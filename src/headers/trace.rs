//! Request ids and `traceparent` (W3C Trace Context): made here when the client brings none that is valid.
//!
//! Ids must be unique, not secret: one fast generator per worker, seeded by the system.

use std::cell::Cell;

use http::HeaderValue;

/// Makes ids for one worker. A 128-bit state stepped by the wyrand construction.
#[derive(Debug)]
pub struct IdGenerator {
    state: Cell<u64>,
}

/// The ids of one request, as the header lines that tell the upstream: the request id, and `traceparent`, the client's or a new
/// one. In place, as every request has them and most of them for no longer than it takes to answer.
#[derive(Clone, Debug)]
pub struct RequestIds {
    lines: [u8; LINES_BYTES],
}

/// Which requests are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Of those that nobody has decided about: so many in a million.
    pub per_million: u32,
    /// Whether a valid `traceparent` decides, by its flag.
    pub follows_parent: bool,
}

/// The ids of a request that is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The client's, or a new one.
    pub trace_id: [u8; 16],
    /// The client's span, if it named one.
    pub parent_id: Option<[u8; 8]>,
    /// The request's span.
    pub request_span: [u8; 8],
    /// The decision's span.
    pub decision_span: [u8; 8],
    /// The upstream call's span, which the upstream is told as its parent.
    pub upstream_span: [u8; 8],
}

/// A request id: 32 hexadecimal digits.
pub type RequestId = [u8; REQUEST_ID_BYTES];

const REQUEST_ID_BYTES: usize = 32;
const TRACEPARENT_BYTES: usize = 55;

/// The lines before there is anything in them; what they say of an unsampled trace is there.
const BLANK_LINES: &[u8; LINES_BYTES] = b"x-postern-request-id: 00000000000000000000000000000000\r\n\
    traceparent: 00-00000000000000000000000000000000-0000000000000000-00\r\n";

/// Where things stand in the lines.
const REQUEST_ID_START: usize = "x-postern-request-id: ".len();
const REQUEST_ID_END: usize = REQUEST_ID_START + REQUEST_ID_BYTES;
const TRACEPARENT_START: usize = REQUEST_ID_END + "\r\ntraceparent: ".len();
const TRACEPARENT_END: usize = TRACEPARENT_START + TRACEPARENT_BYTES;
const LINES_BYTES: usize = TRACEPARENT_END + "\r\n".len();

impl IdGenerator {
    /// A generator of its own sequence.
    pub fn seeded() -> Result<Self, getrandom::Error> {
        Ok(Self { state: Cell::new(getrandom::u64()?) })
    }

    /// New ids for a request that came with `traceparent` or without.
    pub fn request(&self, traceparent: Option<&HeaderValue>) -> RequestIds {
        let mut lines = *BLANK_LINES;
        let (high, low) = lines[REQUEST_ID_START..REQUEST_ID_END].split_at_mut(16);
        high.copy_from_slice(&hex(self.next()));
        low.copy_from_slice(&hex(self.next()));
        let written = &mut lines[TRACEPARENT_START..TRACEPARENT_END];
        match traceparent.map(HeaderValue::as_bytes).filter(|value| is_valid(value)) {
            Some(passed_on) => written.copy_from_slice(passed_on),
            None => {
                written[3..19].copy_from_slice(&hex(self.next() | 1));
                written[19..35].copy_from_slice(&hex(self.next()));
                written[36..52].copy_from_slice(&hex(self.next() | 1));
            }
        }
        RequestIds { lines }
    }

    /// The same, and whether the request is traced: then its upstream is told our span as its parent, and that it is sampled.
    pub fn traced(
        &self,
        traceparent: Option<&HeaderValue>,
        sampling: Sampling,
    ) -> (RequestIds, Option<TraceContext>) {
        let ids = self.request(traceparent);
        let parent = traceparent.map(HeaderValue::as_bytes).filter(|value| is_valid(value));
        let trace_id = bytes_of(&ids.trace_id());
        let is_sampled = match parent {
            Some(parent) if sampling.follows_parent => {
                let flags: [u8; 1] = bytes_of(&parent[TRACEPARENT_BYTES - 2..]);
                flags[0] & 1 == 1
            }
            Some(_) | None => sampling.takes(trace_id),
        };
        if !is_sampled {
            return (ids, None);
        }
        // Never zero: zero is no id.
        let span = || (self.next() | 1).to_be_bytes();
        let context = TraceContext {
            trace_id,
            parent_id: parent.map(|parent| bytes_of(&parent[36..52])),
            request_span: span(),
            decision_span: span(),
            upstream_span: span(),
        };
        (ids.naming(context.upstream_span), Some(context))
    }

    fn next(&self) -> u64 {
        let state = self.state.get().wrapping_add(0xa076_1d64_78bd_642f);
        self.state.set(state);
        let product = u128::from(state) * u128::from(state ^ 0xe703_7ed1_a0b4_28db);
        (product >> 64) as u64 ^ product as u64
    }
}

impl RequestIds {
    /// The header lines that tell the upstream.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// The request id.
    pub fn request_id(&self) -> RequestId {
        let id = self.lines.get(REQUEST_ID_START..REQUEST_ID_END);
        id.and_then(|id| id.try_into().ok()).unwrap_or([b'0'; REQUEST_ID_BYTES])
    }

    /// The same lines, with this span in `traceparent` and the flag of a sampled trace.
    fn naming(mut self, span: [u8; 8]) -> Self {
        let traceparent = &mut self.lines[TRACEPARENT_START..TRACEPARENT_END];
        traceparent[36..52].copy_from_slice(&hex(u64::from_be_bytes(span)));
        traceparent[TRACEPARENT_BYTES - 2..].copy_from_slice(b"01");
        self
    }

    /// The trace id within `traceparent`, 32 hexadecimal digits.
    pub fn trace_id(&self) -> [u8; 32] {
        let id = self.lines.get(TRACEPARENT_START + 3..TRACEPARENT_START + 35);
        id.and_then(|id| id.try_into().ok()).unwrap_or([b'0'; 32])
    }
}

/// Sixteen hexadecimal digits, all at once: a half byte in each of sixteen, then to its digit.
fn hex(number: u64) -> [u8; 16] {
    const LOW: u128 = u128::from_ne_bytes([1; 16]);
    let spread = u128::from(number);
    let spread = (spread | spread << 32) & 0x0000_0000_ffff_ffff_0000_0000_ffff_ffff;
    let spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff_0000_ffff_0000_ffff;
    let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff_00ff_00ff_00ff_00ff;
    let digits = (spread | spread << 4) & (LOW * 0x0f);
    // Above nine, adding six carries into the fifth bit: those become letters.
    let is_letter = (digits + LOW * 6) >> 4 & LOW;
    (digits + LOW * u128::from(b'0') + is_letter * u128::from(b'a' - b'0' - 10)).to_be_bytes()
}

/// The bytes that hexadecimal digits stand for; the digits are known to be some.
fn bytes_of<const N: usize>(digits: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    // Nothing else comes here; a byte that is none stays zero.
    let _decoded = data_encoding::HEXLOWER.decode_mut(digits, &mut bytes);
    bytes
}

impl Sampling {
    /// Decided by the trace's id, so that everybody who samples by it takes the same ones: its last seven bytes are random
    /// (W3C Trace Context, level 2).
    fn takes(self, trace_id: [u8; 16]) -> bool {
        const RANDOM_BITS: u32 = 56;
        let random = u128::from_be_bytes(trace_id) & ((1 << RANDOM_BITS) - 1);
        random * 1_000_000 < u128::from(self.per_million) << RANDOM_BITS
    }
}

/// Version 00 exactly, lower-case hexadecimal digits, neither id all zero (W3C Trace Context, section 3.2.2).
fn is_valid(value: &[u8]) -> bool {
    let is_hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &[u8]| part.iter().all(|byte| *byte == b'0');
    value.len() == TRACEPARENT_BYTES
        && value.starts_with(b"00-")
        && value[35] == b'-'
        && value[52] == b'-'
        && is_hex(&value[3..35])
        && is_hex(&value[36..52])
        && is_hex(&value[53..])
        && !is_zero(&value[3..35])
        && !is_zero(&value[36..52])
}

#[cfg(test)]
mod tests {
    //! Digits.

    use http::HeaderValue;

    use super::{IdGenerator, Sampling, hex};

    const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    #[track_caller]
    fn check_traced(traceparent: Option<&'static str>, sampling: (u32, bool), expected: bool) {
        let (per_million, follows_parent) = sampling;
        let ids = IdGenerator::seeded().expect("random bytes");
        let traceparent = traceparent.map(HeaderValue::from_static);
        let sampling = Sampling { per_million, follows_parent };
        let (told, context) = ids.traced(traceparent.as_ref(), sampling);
        assert_eq!(context.is_some(), expected, "{traceparent:?} {sampling:?}");
        let lines = String::from_utf8(told.lines().to_vec()).expect("ASCII");
        let line = lines.lines().find_map(|line| line.strip_prefix("traceparent: ")).expect("a line");
        let parts: Vec<_> = line.split('-').collect();
        if let Some(context) = context {
            let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
            assert_eq!(parts, ["00", &hex(&context.trace_id), &hex(&context.upstream_span), "01"]);
            assert_eq!(
                context.parent_id.map(|id| hex(&id)),
                traceparent.as_ref().map(|_| "b7ad6b7169203331".into())
            );
        }
        if let Some(given) = &traceparent {
            assert_eq!(parts[1], "0af7651916cd43dd8448eb211c80319c", "the trace goes on");
            assert!(expected || line.as_bytes() == given.as_bytes(), "passed on as it came");
        }
    }

    #[test]
    fn the_parent_decides_if_it_may_else_the_share() {
        check_traced(Some(SAMPLED), (0, true), true);
        check_traced(Some(UNSAMPLED), (1_000_000, true), false);
        check_traced(Some(SAMPLED), (0, false), false);
        check_traced(Some(UNSAMPLED), (1_000_000, false), true);
        check_traced(None, (0, true), false);
        check_traced(None, (1_000_000, true), true);
    }

    #[test]
    fn the_share_is_what_was_asked_for() {
        let ids = IdGenerator::seeded().expect("random bytes");
        let sampling = Sampling { per_million: 100_000, follows_parent: true };
        let taken = (0..10_000).filter(|_| ids.traced(None, sampling).1.is_some()).count();
        assert!((800..1_200).contains(&taken), "{taken} of 10,000, a tenth was asked for");
    }

    #[test]
    fn numbers_are_written_as_the_library_writes_them() {
        for number in [0, 1, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, u64::MAX, 0x9a9a_a9a9_0f0f_f0f0] {
            assert_eq!(std::str::from_utf8(&hex(number)), Ok(format!("{number:016x}").as_str()));
        }
    }
}
