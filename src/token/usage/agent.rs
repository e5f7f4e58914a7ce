//! User agents as they are remembered: bounded, visible text, shared between the tokens that used the same.

use std::cell::RefCell;
use std::sync::Arc;

/// Bytes of a user agent that are remembered.
const MAX_BYTES: usize = 256;

/// How many user agents a worker remembers, so that equal ones share memory.
const REMEMBERED: usize = 16;

/// A client's name for itself: at most 256 bytes of visible ASCII; everything else was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UserAgent(Box<str>);

impl UserAgent {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is kept of a header's value: its first 256 bytes, with `?` for what is not visible ASCII or a space.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let visible =
            |&byte: &u8| if byte == b' ' || byte.is_ascii_graphic() { char::from(byte) } else { '?' };
        Self(bytes.iter().take(MAX_BYTES).map(visible).collect::<String>().into_boxed_str())
    }

    /// The same as [`Self::from_bytes`], shared with equal ones that this thread has seen lately.
    pub(super) fn shared(bytes: &[u8]) -> Arc<Self> {
        RECENT.with_borrow_mut(|recent| recent.find_or_make(&bytes[..bytes.len().min(MAX_BYTES)]))
    }
}

thread_local! {
    static RECENT: RefCell<Recent> = RefCell::default();
}

/// The user agents seen last, by their bytes as sent; the oldest gives way.
#[derive(Default)]
struct Recent {
    agents: Vec<(Box<[u8]>, Arc<UserAgent>)>,
    next: usize,
}

impl Recent {
    fn find_or_make(&mut self, bytes: &[u8]) -> Arc<UserAgent> {
        if let Some((_, agent)) = self.agents.iter().find(|(sent, _)| **sent == *bytes) {
            return Arc::clone(agent);
        }
        let agent = Arc::new(UserAgent::from_bytes(bytes));
        let remembered = (bytes.into(), Arc::clone(&agent));
        if self.agents.len() < REMEMBERED {
            self.agents.push(remembered);
        } else {
            self.agents[self.next] = remembered;
            self.next = (self.next + 1) % REMEMBERED;
        }
        agent
    }
}
