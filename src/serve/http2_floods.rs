//! Frames that make work and bring nothing, counted on an HTTP/2 connection: who sends them without end is told to go away.
//!
//! h2 bounds what can be seen in one block or stream (CONTINUATION, empty DATA, resets before a stream is served and those by
//! its own errors), and answers the rest one by one for ever: PING, SETTINGS, windows opened by a byte, requests given up as soon as
//! they run. Here each of them is paid for from an allowance, which what is sent to the client and time fill up again. Bytes pass
//! unchanged, and only the heads of frames are looked at.
//!
//! What must not live here: what frames mean, and requests.

mod scan;
#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;

use crate::telemetry::metrics::{GoAway, ListenerMetrics};
use scan::{Frame, Kind, Scan};

/// What a connection has to spend at first, and at most.
const ALLOWANCE: u32 = 2_000;
/// What a second adds to it.
const ADDED_A_SECOND: u128 = 400;
/// What each frame of an answer adds, and each further [`BYTES_OF_ANSWER`] of it: two window updates and a ping cost no more.
const ADDED_BY_ANSWER: u32 = 7;
/// After so many bytes that were read, Go's client opens the windows of stream and connection again; none that is known does so more often.
const BYTES_OF_ANSWER: u32 = 4 * 1024;

const PRICE_OF_PING: u32 = 1;
const PRICE_OF_SETTINGS: u32 = 1;
/// For settings that say something: a window's size is worked out anew for each stream. Clients that fit it to what the line bears do
/// so a dozen times.
const PRICE_OF_CHANGED_SETTINGS: u32 = 20;
const PRICE_OF_WINDOW: u32 = 3;
/// For a window that is opened by hardly anything: more than the frame adds that it lets out.
const PRICE_OF_TINY_WINDOW: u32 = ADDED_BY_ANSWER + 3;
/// Bytes below which a window is opened by hardly anything. There are clients that return what each message took at once; messages of
/// gRPC and lines of server-sent events seldom take less.
const TINY_WINDOW_BYTES: u32 = 8;
const PRICE_OF_RESET: u32 = 4;
/// Priorities, frames of unknown kinds, goodbyes.
const PRICE_OF_OTHER: u32 = 3;
/// Nothing is pinged but at a connection's end, and h2 logs each answer to no question.
const PRICE_OF_PONG: u32 = 100;
/// Bytes of a frame's payload that cost as much as one of the cheapest frames.
const BYTES_FOR_ONE: u32 = 64;

/// So many of the cheapest frames use up as much of a task's turn as one read: others on the worker have theirs soon.
const PAID_FOR_A_TURN: u32 = 8;

/// `ENHANCE_YOUR_CALM` (RFC 9113, section 7).
const CALM: u32 = 11;
const NO_ERROR: u32 = 0;

/// For h2 the connection of who has spent everything goes on as the one flood that it answers with `ENHANCE_YOUR_CALM` in any state: a
/// block of headers without end. So the goodbye has its place among the frames that h2 sends.
const ENDLESS: [[u8; scan::HEAD_BYTES]; 2] = [[0, 0, 0, 1, 0, 0, 0, 0, 1], [0, 0, 0, 9, 0, 0, 0, 0, 1]];
/// Frames of it that are read at most: more than any limit on a request's head lets h2 take.
const MOST_OF_ENDLESS: u32 = 10_000;

/// An HTTP/2 connection, its frames counted from the client's preface on.
#[derive(Debug)]
pub struct Counted<S> {
    stream: S,
    received: Scan,
    sent: Scan,
    allowance: Allowance,
    input: Input,
    metrics: Arc<ListenerMetrics>,
    worker: usize,
}

/// What is read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// What the client sends.
    Client,
    /// The same to the end of a frame, which is the last.
    LastFrame,
    /// So many frames of what makes h2 say goodbye were read, and bytes of the next.
    Endless { frames: u32, bytes: usize },
}

/// What a connection has to spend.
#[derive(Debug)]
struct Allowance {
    left: u32,
    /// Time has been counted until then.
    since: Instant,
}

impl<S> Counted<S> {
    /// A connection of which nothing has been read. `worker` is the calling worker's own index.
    pub fn new(stream: S, metrics: Arc<ListenerMetrics>, worker: usize) -> Self {
        Self {
            stream,
            received: Scan::behind_preface(),
            sent: Scan::default(),
            allowance: Allowance { left: ALLOWANCE, since: Instant::now() },
            input: Input::Client,
            metrics,
            worker,
        }
    }

    /// Counts what was read; where the allowance is used up, what stands behind the frame that did it is cut off.
    fn count_received(&mut self, buffer: &mut ReadBuf<'_>, before: usize, context: &mut Context<'_>) {
        let mut rest = &buffer.filled()[before..];
        let left_before = self.allowance.left;
        while let Some(frame) = self.received.next(&mut rest) {
            if !self.allowance.pay(price(&frame)) {
                tracing::debug!(last = ?frame.kind, "an HTTP/2 client makes work without end");
                let own = self.received.skip(rest);
                let end = buffer.filled().len() - (rest.len() - own);
                buffer.set_filled(end);
                self.input = self.input_behind_last();
                return;
            }
        }
        let paid = left_before.saturating_sub(self.allowance.left);
        take_turns(paid / PAID_FOR_A_TURN, context);
    }

    /// Passes the rest of the last frame.
    fn end_last(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        let own = self.received.skip(&buffer.filled()[before..]);
        buffer.set_filled(before + own);
        self.input = self.input_behind_last();
    }

    fn input_behind_last(&self) -> Input {
        if self.received.is_between() { Input::Endless { frames: 0, bytes: 0 } } else { Input::LastFrame }
    }

    fn count_sent(&mut self, mut bytes: &[u8]) {
        while let Some(frame) = self.sent.next(&mut bytes) {
            match frame.kind {
                Kind::DATA => {
                    let begun = frame.length.div_ceil(BYTES_OF_ANSWER).max(1);
                    self.allowance.add(ADDED_BY_ANSWER * begun);
                }
                Kind::HEADERS => self.allowance.add(ADDED_BY_ANSWER),
                Kind::GO_AWAY => match frame.value {
                    NO_ERROR => {}
                    CALM => self.metrics.went_away(self.worker, GoAway::Flood),
                    _ => self.metrics.went_away(self.worker, GoAway::Error),
                },
                _ => {}
            }
        }
    }
}

/// What a frame costs its sender.
fn price(frame: &Frame) -> u32 {
    let (price, counts_by_size) = match frame.kind {
        // The requests themselves: limits on heads, streams and windows are h2's.
        Kind::DATA | Kind::HEADERS | Kind::CONTINUATION => return 0,
        Kind::PING if frame.is_acknowledgement() => (PRICE_OF_PONG, Size::Ignored),
        Kind::PING => (PRICE_OF_PING, Size::Ignored),
        Kind::WINDOW_UPDATE if frame.value < TINY_WINDOW_BYTES => (PRICE_OF_TINY_WINDOW, Size::Ignored),
        Kind::WINDOW_UPDATE => (PRICE_OF_WINDOW, Size::Ignored),
        Kind::RST_STREAM => (PRICE_OF_RESET, Size::Ignored),
        Kind::SETTINGS if frame.length > 0 => (PRICE_OF_CHANGED_SETTINGS, Size::Counts),
        Kind::SETTINGS => (PRICE_OF_SETTINGS, Size::Ignored),
        _ => (PRICE_OF_OTHER, Size::Counts),
    };
    match counts_by_size {
        Size::Ignored => price,
        Size::Counts => price + frame.length / BYTES_FOR_ONE,
    }
}

/// Whether a frame's price grows with its size.
#[derive(Clone, Copy)]
enum Size {
    Ignored,
    Counts,
}

/// Uses up so much of the task's turn. What was read is still passed on; the next read waits for the next turn.
fn take_turns(count: u32, context: &mut Context<'_>) {
    for _ in 0..count {
        match coop::poll_proceed(context) {
            Poll::Ready(turn) => turn.made_progress(),
            Poll::Pending => return,
        }
    }
}

impl Allowance {
    /// Whether it was enough.
    fn pay(&mut self, price: u32) -> bool {
        if let Some(left) = self.left.checked_sub(price) {
            self.left = left;
            return true;
        }
        // The clock is only read here: once for each time that it was all spent.
        self.add_time(self.since.elapsed());
        match self.left.checked_sub(price) {
            Some(left) => self.left = left,
            None => return false,
        }
        true
    }

    fn add_time(&mut self, elapsed: Duration) {
        let added = elapsed.as_millis() * ADDED_A_SECOND / 1_000;
        self.since += elapsed;
        self.add(u32::try_from(added).unwrap_or(ALLOWANCE));
    }

    fn add(&mut self, added: u32) {
        self.left = self.left.saturating_add(added).min(ALLOWANCE);
    }
}

/// Fills the buffer with what comes of `frames` and `bytes` of the next on; nothing, which is an end, once there was enough.
fn read_endless(frames: &mut u32, bytes: &mut usize, buffer: &mut ReadBuf<'_>) {
    while *frames < MOST_OF_ENDLESS && buffer.remaining() > 0 {
        let frame = &ENDLESS[usize::from(*frames > 0)][*bytes..];
        let length = frame.len().min(buffer.remaining());
        buffer.put_slice(&frame[..length]);
        *bytes += length;
        if *bytes == scan::HEAD_BYTES {
            *frames += 1;
            *bytes = 0;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if let Input::Endless { frames, bytes } = &mut this.input {
            read_endless(frames, bytes, buffer);
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        match this.input {
            Input::Client => this.count_received(buffer, before, context),
            Input::LastFrame => this.end_last(buffer, before),
            Input::Endless { .. } => {}
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, bytes))?;
        this.count_sent(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(context, slices))?;
        let mut left = written;
        for slice in slices {
            let own = slice.len().min(left);
            this.count_sent(&slice[..own]);
            left -= own;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
