//! HTTP/2 streams whose client takes nothing of its answer: given up after a while, with all that waits behind them, or at once when
//! their request may not go on.
//!
//! Over HTTP/1 the system gives up the connection (`TCP_USER_TIMEOUT`). Over HTTP/2 a stream can stand still while its connection lives, for as
//! long as its client opens no window; only who hands over the answer's pieces sees that. No timer is set before a stream
//! stands still.
//!
//! What must not live here: what is answered, and connections as a whole.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::upstream::ahead::Ahead;

/// Spawns a connection's streams on this worker's thread, each with the patience of its listener.
#[derive(Clone, Debug)]
pub(super) struct StreamExecutor {
    patience: Duration,
    /// Of the request that was handed to the service last, until its stream is spawned, which hyper does next.
    begun: Rc<RefCell<Option<Rc<Progress>>>>,
}

/// How far an answer has come on the way to its client.
#[derive(Debug, Default)]
pub struct Progress {
    /// Counts whatever is handed over or written.
    steps: Cell<u32>,
    /// Whether the last one is still to be taken before the next is asked for.
    waits_for_client: Cell<bool>,
    is_given_up: Cell<bool>,
    /// Of the task that serves the stream.
    waker: RefCell<Option<Waker>>,
}

/// An answer's body that notes how far it has come, and counts what lies about of it.
#[derive(Debug)]
pub(super) struct Noted<B> {
    body: B,
    progress: Rc<Progress>,
    ahead: Rc<Ahead>,
}

/// A piece of an answer, which lies about until it is dropped: once it was written, or nobody wants it any more.
#[derive(Debug)]
pub(super) struct Piece {
    rest: Bytes,
    /// As many as there were at first.
    bytes: usize,
    progress: Rc<Progress>,
    ahead: Rc<Ahead>,
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.ahead.let_go(self.bytes);
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.rest
    }

    fn advance(&mut self, count: usize) {
        self.progress.step();
        self.rest.advance(count);
    }
}

impl Progress {
    /// Ends the stream, whatever waits in it: its client is told of a reset.
    pub fn give_up(&self) {
        self.is_given_up.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Ready once the stream was given up.
    fn poll_given_up(&self, context: &Context<'_>) -> Poll<()> {
        if self.is_given_up.get() {
            return Poll::Ready(());
        }
        let mut waker = self.waker.borrow_mut();
        if waker.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }

    /// Something moves on.
    pub(super) fn step(&self) {
        self.steps.set(self.steps.get().wrapping_add(1));
    }

    /// Whether there is something that the client has to take before more is asked for.
    pub(super) fn wait_for_client(&self, waits: bool) {
        self.waits_for_client.set(waits);
    }
}

impl StreamExecutor {
    /// With a client that takes nothing for so long, a stream is given up.
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, begun: Rc::default() }
    }

    /// A stream begins: the next one that is spawned.
    pub(super) fn begin(&self) -> Rc<Progress> {
        let progress = Rc::<Progress>::default();
        self.begun.replace(Some(Rc::clone(&progress)));
        progress
    }

    /// A stream goes on as a tunnel: what is spawned next is its writer, and ends with it. Whoever writes to that watches whether it takes
    /// anything.
    pub(super) fn go_on(&self, progress: &Rc<Progress>) -> Stall {
        self.begun.replace(Some(Rc::clone(progress)));
        Stall::new(Rc::clone(progress), self.patience)
    }
}

impl<F: Future + 'static> hyper::rt::Executor<F> for StreamExecutor {
    fn execute(&self, future: F) {
        match self.begun.take() {
            Some(progress) => {
                let stall = Stall::new(progress, self.patience);
                tokio::task::spawn_local(Stream { served: future, stall });
            }
            None => drop(tokio::task::spawn_local(future)),
        }
    }
}

pin_project_lite::pin_project! {
    /// A stream that ends as it is served, or when its client has taken nothing for too long.
    struct Stream<F> {
        #[pin]
        served: F,
        stall: Stall,
    }
}

impl<F: Future> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.served.poll(context).is_ready() {
            return Poll::Ready(());
        }
        // What is dropped with this resets the stream.
        if this.stall.progress.poll_given_up(context).is_ready() {
            return Poll::Ready(());
        }
        this.stall.poll(context)
    }
}

/// Watches over one stream.
#[derive(Debug)]
pub(super) struct Stall {
    progress: Rc<Progress>,
    patience: Duration,
    /// Steps when the alarm was last set.
    seen: u32,
    /// Set when the stream first stands still, and reset only when it rings too early.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    fn new(progress: Rc<Progress>, patience: Duration) -> Self {
        Self { progress, patience, seen: 0, alarm: None }
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Ready once the client has taken nothing for too long.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.progress.waits_for_client.get() {
            let steps = self.progress.steps.get();
            let alarm = self.alarm.get_or_insert_with(|| {
                self.seen = steps;
                Box::pin(tokio::time::sleep(self.patience))
            });
            ready!(alarm.as_mut().poll(context));
            if self.seen == steps {
                tracing::debug!("an HTTP/2 client takes nothing of an answer, which is given up");
                return Poll::Ready(());
            }
            self.seen = steps;
            alarm.as_mut().reset(Instant::now() + self.patience);
        }
        Poll::Pending
    }
}

impl<B> Noted<B> {
    pub(super) fn new(body: B, progress: Rc<Progress>, ahead: Rc<Ahead>) -> Self {
        Self { body, progress, ahead }
    }
}

impl<B> Noted<B> {
    fn hold(&self, piece: Bytes) -> Piece {
        let bytes = piece.len();
        self.ahead.hold(bytes);
        Piece { rest: piece, bytes, progress: Rc::clone(&self.progress), ahead: Rc::clone(&self.ahead) }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Noted<B> {
    type Data = Piece;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, B::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(context);
        let is_handed_over = matches!(polled, Poll::Ready(Some(Ok(_))));
        this.progress.waits_for_client.set(is_handed_over);
        if is_handed_over {
            this.progress.step();
        }
        polled.map_ok(|frame| frame.map_data(|piece| this.hold(piece)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
