//! Closing so that the last answer arrives: a socket closed with unread input resets the connection, and a
//! reset makes the client throw away what it has not read yet.
//!
//! What must not live here: when to close.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::unconstrained;
use tokio::time::{Sleep, sleep};

/// How much of what a client still sends is read and thrown away.
const LINGER_BYTES: usize = 256 * 1024;
/// How long a client is waited for.
const LINGER: Duration = Duration::from_secs(2);
const DISCARDED_AT_ONCE: usize = 4096;

/// How far the closing has come.
#[derive(Debug)]
pub(super) enum Closing {
    Open,
    Lingering { deadline: Pin<Box<Sleep>>, bytes_left: usize },
    Closed,
}

impl Closing {
    /// Shuts the write side down; then, if `is_mid_message` or unread bytes are there, reads until the client
    /// has closed too, or enough time or bytes have passed. Fails only as the stream's shutdown does.
    pub(super) fn poll<S: AsyncRead + AsyncWrite>(
        &mut self,
        mut stream: Pin<&mut S>,
        context: &mut Context<'_>,
        is_mid_message: impl Fn() -> bool,
    ) -> Poll<io::Result<()>> {
        loop {
            match self {
                Self::Open => {
                    ready!(stream.as_mut().poll_shutdown(context))?;
                    let unread = discard(stream.as_mut(), context);
                    *self = match unread {
                        Poll::Ready(0) => Self::Closed,
                        Poll::Pending if !is_mid_message() => Self::Closed,
                        Poll::Ready(_) | Poll::Pending => {
                            Self::Lingering { deadline: Box::pin(sleep(LINGER)), bytes_left: LINGER_BYTES }
                        }
                    };
                }
                Self::Lingering { deadline, bytes_left } => {
                    let is_over = match discard(stream.as_mut(), context) {
                        Poll::Ready(0) => true,
                        Poll::Ready(length) => {
                            *bytes_left = bytes_left.saturating_sub(length);
                            *bytes_left == 0
                        }
                        Poll::Pending => {
                            ready!(deadline.as_mut().poll(context));
                            true
                        }
                    };
                    if is_over {
                        *self = Self::Closed;
                    }
                }
                Self::Closed => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// Throws away what has come; 0 bytes: the client has closed, or is gone.
fn discard<S: AsyncRead>(mut stream: Pin<&mut S>, context: &mut Context<'_>) -> Poll<usize> {
    let mut scratch = [0; DISCARDED_AT_ONCE];
    let mut buffer = ReadBuf::new(&mut scratch);
    // Whatever the task has used of its budget: what seems not to have come would be answered with a reset.
    let read = poll_fn(|context| stream.as_mut().poll_read(context, &mut buffer));
    match ready!(pin!(unconstrained(read)).poll(context)) {
        Ok(()) => Poll::Ready(buffer.filled().len()),
        Err(_) => Poll::Ready(0),
    }
}
