//! A strict reader in front of hyper: it sees the client's raw bytes first, and passes on only complete heads
//! and bodies that have one meaning.
//!
//! hyper forgives much that other servers read differently, and what two readers of one connection read
//! differently is how requests are smuggled. Bytes go straight into hyper's buffer and are looked at there;
//! only a head that comes in pieces is copied. What must not live here: anything about the request but its
//! framing, timers (see [`GuardState`]), and HTTP/2.

mod authority;
mod chunked;
pub(in crate::serve) mod class;
mod close;
mod head;
mod screen;
mod sniff;
mod state;
mod violation;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use hyper::rt::ReadBufCursor;
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use close::Closing;
use screen::{Refused, Screen};
pub use sniff::{Prefixed, Protocol, sniff};
pub use state::{GuardState, Phase};
pub use violation::Violation;

/// Up to this, slices are put together: the system takes one piece for less than a list of them.
const GATHERED_BYTES: usize = 2048;

/// How much a client may send before its request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardLimits {
    /// Bytes of header lines in a request, without the request line; also of trailers, of which hyper takes at
    /// most 16 KiB.
    pub header_bytes: usize,
    /// Header lines in a request; also of trailers, of which hyper takes at most 100.
    pub header_count: usize,
    /// Bytes of the request's target; `http::Uri` takes at most 65,534.
    pub uri_bytes: usize,
}

/// A client's stream, as hyper may see it.
///
/// hyper must take what the guard lets through, or it would refuse in its own words: with more than 100 headers
/// allowed it needs `max_headers`, with more than 400 KB of them `max_buf_size`. `max_header_size` stays unset.
/// What a client sends behind a request for an upgrade, before the answer, is judged as HTTP.
#[derive(Debug)]
pub struct Guard<S> {
    stream: S,
    screen: Screen,
    closing: Closing,
}

impl<S> Guard<S> {
    /// Guards a stream from its first byte.
    pub fn new(stream: S, limits: GuardLimits) -> Self {
        Self::with_prefix(stream, BytesMut::new(), limits)
    }

    /// Guards a stream of which the first bytes have been read already, by [`sniff`].
    pub fn with_prefix(stream: S, prefix: BytesMut, limits: GuardLimits) -> Self {
        Self { stream, screen: Screen::new(limits, prefix), closing: Closing::Open }
    }

    /// What the service and the connection's timer share with this guard.
    pub fn state(&self) -> Rc<GuardState> {
        Rc::clone(self.screen.state())
    }

    /// The stream, and the bytes read from it that hyper has not seen. For a tunnel after an upgrade.
    pub fn into_parts(self) -> (S, BytesMut) {
        (self.stream, self.screen.into_held())
    }
}

impl<S: AsyncRead + Unpin> hyper::rt::Read for Guard<S> {
    /// Fails with `InvalidData` and the [`Violation`] when a body breaks the rules, else as the stream does.
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, screen, .. } = self.get_mut();
        screen.follow_order();
        loop {
            if screen.deliver(&mut cursor) {
                return Poll::Ready(Ok(()));
            }
            match screen.refused() {
                None => {}
                Some(Refused::Silence) => return Poll::Pending,
                Some(Refused::Error(violation)) => return Poll::Ready(Err(violation.into())),
            }
            let is_holding = screen.holds_bytes();
            let outcome = read_in_place(Pin::new(stream), context, &mut cursor, |bytes| {
                if is_holding {
                    screen.hold(bytes);
                    return 0;
                }
                screen.look_at(bytes)
            });
            let ReadBytes { read, passed } = match outcome {
                Poll::Ready(bytes) => bytes?,
                Poll::Pending => {
                    if screen.state().phase() == Phase::ReadingHead {
                        screen.state().remember_reader(context.waker());
                    }
                    return Poll::Pending;
                }
            };
            if read > 0 {
                screen.state().count_progress();
            }
            if passed > 0 || read == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> hyper::rt::Write for Guard<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, screen, .. } = self.get_mut();
        let written = ready!(Pin::new(stream).poll_write(context, bytes))?;
        screen.state().count_progress();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, screen, .. } = self.get_mut();
        let stream = Pin::new(stream);
        let written = match slices {
            [only] => ready!(stream.poll_write(context, only))?,
            several if several.iter().map(|slice| slice.len()).sum::<usize>() <= GATHERED_BYTES => {
                let mut gathered: SmallVec<[u8; GATHERED_BYTES]> = SmallVec::new();
                several.iter().for_each(|slice| gathered.extend_from_slice(slice));
                ready!(stream.poll_write(context, &gathered))?
            }
            several => ready!(stream.poll_write_vectored(context, several))?,
        };
        screen.state().count_progress();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    /// Ends the write side. If the client may still be sending, reads on for a bounded time and amount, since
    /// a reset would make the client lose the answer.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, screen, closing } = self.get_mut();
        closing.poll(Pin::new(stream), context, || screen.is_mid_message())
    }
}

/// Whether a value is `host[:port]`. For HTTP/2, which comes past no guard: what is refused on HTTP/1 must not reach an
/// upstream, which speaks it, on another way.
pub fn is_host(value: &[u8]) -> bool {
    authority::Authority::parse(value).is_some()
}

/// Whether only bytes that a target's query may have are in one. For HTTP/2, as [`is_host`].
pub fn is_query(query: &[u8]) -> bool {
    class::run(query, class::QUERY) == query.len()
}

/// Whether a value is one plain number of bytes. For HTTP/2, as [`is_host`].
pub fn is_content_length(value: &[u8]) -> bool {
    head::number(value).is_some()
}

/// How many bytes a read brought, and how many of them are in hyper's buffer now.
struct ReadBytes {
    read: usize,
    passed: usize,
}

/// Reads straight into hyper's buffer, shows `look` what came, and leaves there as many bytes, from the front,
/// as it says.
#[expect(unsafe_code, reason = "reading into hyper's buffer without zeroing it first, as hyper-util does")]
fn read_in_place<S: AsyncRead>(
    stream: Pin<&mut S>,
    context: &mut Context<'_>,
    cursor: &mut ReadBufCursor<'_>,
    look: impl FnOnce(&[u8]) -> usize,
) -> Poll<io::Result<ReadBytes>> {
    // SAFETY: `ReadBuf` has no way to make initialized bytes uninitialized again.
    let unfilled = unsafe { cursor.as_mut() };
    let start = unfilled.as_ptr().cast::<u8>();
    let mut buffer = ReadBuf::uninit(unfilled);
    ready!(stream.poll_read(context, &mut buffer))?;
    let bytes = buffer.filled();
    assert_eq!(bytes.as_ptr(), start, "a stream fills the buffer that it is given");
    let read = bytes.len();
    let passed = look(bytes).min(read);
    // SAFETY: `passed` is at most the number of bytes that were just filled, from the cursor's position on,
    // in the cursor's own memory, as the assertion above shows.
    unsafe { cursor.advance(passed) };
    Poll::Ready(Ok(ReadBytes { read, passed }))
}
