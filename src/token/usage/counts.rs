//! How often each token is used, as one worker counts: in a small table of its own, folded into the tokens' entries a few
//! times a second. No count is lost or made twice; one worker's busy token costs the other workers nothing.

use std::cell::Cell;

use super::UsageLog;
use crate::token::{TokenCache, TokenEntry, TokenIndex};

/// Tokens that a worker counts by itself at a time: eight KiB.
const SLOTS: usize = 1 << 10;

/// One worker's counts since they were last folded. Not for two threads: it is the worker's own.
#[derive(Debug)]
pub struct RequestCounts {
    slots: Box<[Cell<Slot>]>,
}

/// Requests of one token; a slot that counts none is free.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    token: u32,
    count: u32,
}

impl Default for RequestCounts {
    fn default() -> Self {
        Self { slots: vec![Cell::default(); SLOTS].into() }
    }
}

impl RequestCounts {
    /// Counts one request. Whose slot another token holds until the next fold is counted in its entry at once: its cache
    /// line is at hand, the other's would have to be fetched.
    #[inline]
    pub fn count(&self, entry: TokenEntry<'_>, usage: &UsageLog) {
        let token = entry.index().number();
        let slot = &self.slots[token as usize % SLOTS];
        let held = slot.get();
        if held.count == 0 || held.token == token {
            slot.set(Slot { token, count: held.count + 1 });
        } else {
            usage.add_requests(entry, 1);
        }
    }

    /// Adds what was counted to the tokens' entries, to be called several times a second and when the worker ends.
    pub fn fold(&self, tokens: &TokenCache, usage: &UsageLog) {
        for slot in &self.slots {
            let Slot { token, count } = slot.take();
            if count > 0
                && let Some(entry) = tokens.entry(TokenIndex::at(token))
            {
                usage.add_requests(entry, count);
            }
        }
    }
}
