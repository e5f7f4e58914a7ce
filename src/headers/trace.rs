//! Request ids and `traceparent` (W3C Trace Context): made here when the client brings none that is valid.
//!
//! Ids must be unique, not secret: one fast generator per worker, seeded by the system.

use std::cell::Cell;

use bytes::Bytes;
use http::HeaderValue;

/// Makes ids for one worker. A 128-bit state stepped by the wyrand construction.
#[derive(Debug)]
pub struct IdGenerator {
    state: Cell<u64>,
}

/// The ids of one request.
#[derive(Clone, Debug)]
pub struct RequestIds {
    /// 32 hexadecimal digits.
    pub request_id: HeaderValue,
    /// `traceparent`, the client's or a new one.
    pub traceparent: HeaderValue,
}

const TRACEPARENT_LENGTH: usize = 55;

impl IdGenerator {
    /// A generator of its own sequence.
    pub fn seeded() -> Result<Self, getrandom::Error> {
        Ok(Self { state: Cell::new(getrandom::u64()?) })
    }

    /// New ids for a request that came with `traceparent` or without.
    pub fn request(&self, traceparent: Option<&HeaderValue>) -> RequestIds {
        let passed_on = traceparent.filter(|value| is_valid(value.as_bytes()));
        let mut text = Vec::with_capacity(32 + TRACEPARENT_LENGTH);
        push_hex(&mut text, self.next());
        push_hex(&mut text, self.next());
        if passed_on.is_none() {
            text.extend_from_slice(b"00-");
            push_hex(&mut text, self.next() | 1);
            push_hex(&mut text, self.next());
            text.push(b'-');
            push_hex(&mut text, self.next() | 1);
            text.extend_from_slice(b"-00");
        }
        let text = Bytes::from(text);
        RequestIds {
            request_id: ascii(text.slice(..32)),
            traceparent: passed_on.cloned().unwrap_or_else(|| ascii(text.slice(32..))),
        }
    }

    fn next(&self) -> u64 {
        let state = self.state.get().wrapping_add(0xa076_1d64_78bd_642f);
        self.state.set(state);
        let product = u128::from(state) * u128::from(state ^ 0xe703_7ed1_a0b4_28db);
        (product >> 64) as u64 ^ product as u64
    }
}

/// The trace id within a `traceparent` that this module passed on or made.
pub fn trace_id(traceparent: &HeaderValue) -> [u8; 32] {
    traceparent.as_bytes().get(3..35).and_then(|id| id.try_into().ok()).unwrap_or([b'0'; 32])
}

fn push_hex(text: &mut Vec<u8>, number: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text.extend((0..16).rev().map(|nibble| DIGITS[(number >> (nibble * 4)) as usize & 15]));
}

fn ascii(text: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(text).expect("hexadecimal digits and dashes are valid in a header")
}

/// Version 00 exactly, lower-case hexadecimal digits, neither id all zero (W3C Trace Context, section 3.2.2).
fn is_valid(value: &[u8]) -> bool {
    let is_hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &[u8]| part.iter().all(|byte| *byte == b'0');
    value.len() == TRACEPARENT_LENGTH
        && value.starts_with(b"00-")
        && value[35] == b'-'
        && value[52] == b'-'
        && is_hex(&value[3..35])
        && is_hex(&value[36..52])
        && is_hex(&value[53..])
        && !is_zero(&value[3..35])
        && !is_zero(&value[36..52])
}
