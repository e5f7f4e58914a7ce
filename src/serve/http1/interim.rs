//! Interim responses (RFC 9110, section 15.2) on their way to an HTTP/1.1 client, such as early hints: written whole, in order,
//! and before the response.
//!
//! What must not live here: `100 Continue`, which is ours to say and is said by who reads the body.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use http::StatusCode;
use tokio::io::AsyncWrite;

/// What may wait for a client that does not read. What exceeds it is left out: these responses only hint.
const MOST_WAITING_BYTES: usize = 32 * 1024;

/// What is still to be written of interim responses.
#[derive(Debug, Default)]
pub struct Interim {
    waiting: RefCell<BytesMut>,
}

impl Interim {
    /// Adds one, with header lines that are written already, each with its end. It goes out when its connection is polled
    /// the next time.
    pub fn push(&self, status: StatusCode, lines: &[u8]) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() + lines.len() > MOST_WAITING_BYTES {
            return;
        }
        waiting.extend_from_slice(b"HTTP/1.1 ");
        waiting.extend_from_slice(status.as_str().as_bytes());
        waiting.extend_from_slice(b" ");
        waiting.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        waiting.extend_from_slice(b"\r\n");
        waiting.extend_from_slice(lines);
        waiting.extend_from_slice(b"\r\n");
    }

    /// Whether nothing waits.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Writes what waits. Anything else may be written to the stream only once this is ready.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !waiting.is_empty() {
            let written = ready!(Pin::new(&mut *stream).poll_write(context, &waiting))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            waiting.advance(written);
        }
        *waiting = BytesMut::new();
        // TLS may hold some of it back: it leaves with whatever is written next, in order, if not now.
        let _flushed_now_or_later = Pin::new(stream).poll_flush(context);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    //! What waits has an end.

    use super::*;

    #[test]
    fn what_a_client_does_not_read_is_bounded() {
        let interim = Interim::default();
        let lines = b"link: </style.css>; rel=preload\r\n".repeat(100);
        for _ in 0..10_000 {
            interim.push(StatusCode::EARLY_HINTS, &lines);
        }
        let waiting = interim.waiting.borrow();
        assert!(waiting.len() <= MOST_WAITING_BYTES + 64, "{}", waiting.len());
        assert!(waiting.ends_with(b"\r\n\r\n"), "none is cut");
    }
}
