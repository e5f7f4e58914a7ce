//! The `Date` of responses that come with none (RFC 9110, section 6.6.1): written once a second and thread.
//!
//! What must not live here: any other use of the clock.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

struct Written {
    second: u64,
    line: String,
}

thread_local! {
    static WRITTEN: RefCell<Written> = const { RefCell::new(Written { second: 0, line: String::new() }) };
}

/// Shows the header line with the date of `time`, and its end.
pub(super) fn with_line(time: SystemTime, show: impl FnOnce(&[u8])) {
    let second = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    WRITTEN.with_borrow_mut(|written| {
        if written.second != second || written.line.is_empty() {
            *written = Written { second, line: format!("date: {}\r\n", httpdate::fmt_http_date(time)) };
        }
        show(written.line.as_bytes());
    });
}
