//! How far answers are read ahead of an HTTP/2 client: of all those on its connection together.
//!
//! A client may have a hundred answers under way and read none of them. What was read from services and is not yet on its way to the
//! client is counted for as long as it lies about, and the more that is, the less is read at once: little by little still, so that
//! answers that nobody reads hold up no others. Who reads has next to nothing lying about, and large reads.
//!
//! What must not live here: windows, which are h2's, and HTTP/1, where a connection has one answer at a time.

#[cfg(test)]
mod tests;

use std::cell::Cell;

/// What lies about of a connection's answers before their reads become small.
const LARGE_READS_BELOW_BYTES: usize = 2 * 1024 * 1024;
/// Bytes read at once where more than that lies about, and at most where nothing does.
const LEAST_READ_BYTES: usize = 16 * 1024;
const MOST_READ_BYTES: usize = 256 * 1024;

/// What lies about of one connection's answers.
#[derive(Debug, Default)]
pub struct Ahead {
    held_bytes: Cell<usize>,
}

impl Ahead {
    /// Bytes that may be read at once now.
    pub fn read_bytes(&self) -> usize {
        LARGE_READS_BELOW_BYTES.saturating_sub(self.held_bytes.get()).clamp(LEAST_READ_BYTES, MOST_READ_BYTES)
    }

    /// So many bytes lie about.
    pub fn hold(&self, bytes: usize) {
        self.held_bytes.set(self.held_bytes.get() + bytes);
    }

    /// They lie about no more: they were written, or nobody wants them.
    pub fn let_go(&self, bytes: usize) {
        self.held_bytes.set(self.held_bytes.get() - bytes);
    }
}
