//! The `Date` of responses that come with none (RFC 9110, section 6.6.1): written once a second and thread.
//!
//! What must not live here: any other use of the clock.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

struct Written {
    second: u64,
    text: String,
}

thread_local! {
    static WRITTEN: RefCell<Written> = const { RefCell::new(Written { second: 0, text: String::new() }) };
}

/// Shows the present date.
pub(super) fn with(show: impl FnOnce(&[u8])) {
    let now = SystemTime::now();
    let second = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    WRITTEN.with_borrow_mut(|written| {
        if written.second != second || written.text.is_empty() {
            *written = Written { second, text: httpdate::fmt_http_date(now) };
        }
        show(written.text.as_bytes());
    });
}
