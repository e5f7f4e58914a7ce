//! An HTTP/2 body whose small frames are handed on together, as far as they are there: each frame that is sent costs what a
//! request's head costs, and streams of small messages are made of nothing else.
//!
//! What is alone is handed on at once and as it is. What must not live here: what becomes of a body.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// Beyond this, sending a frame costs less than copying it.
const SMALL_BYTES: usize = 4 * 1024;

/// What is handed on at once at most: as much as one frame may have that nobody has asked to be larger. With the frame that was met
/// behind it, a stream holds two of that size at most.
const GATHERED_BYTES: usize = 16 * 1024;

/// A body that hands on small frames together.
#[derive(Debug)]
pub struct Gathered<B: Body = Incoming> {
    body: B,
    /// What was met behind the last frames that were gathered. Rare, and large.
    next: Option<Box<Met<B::Error>>>,
}

/// What a body says: a frame, its end, or why there is none.
type Met<E> = Option<Result<Frame<Bytes>, E>>;

impl<B: Body<Data = Bytes> + Unpin> Gathered<B> {
    /// A body of which nothing was read.
    pub const fn new(body: B) -> Self {
        Self { body, next: None }
    }

    /// The next frame, which is never an empty one; `None` at the end.
    pub fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Met<B::Error>> {
        let met = match self.next.take() {
            Some(next) => *next,
            None => ready!(self.poll_body(context)),
        };
        let Some(Ok(frame)) = met else { return Poll::Ready(met) };
        let frame = match frame.into_data() {
            Ok(data) if data.len() < SMALL_BYTES => Frame::data(self.gather(data, context)),
            Ok(data) => Frame::data(data),
            Err(frame) => frame,
        };
        Poll::Ready(Some(Ok(frame)))
    }

    /// Whether nothing more comes, as far as it is known.
    pub fn is_end_stream(&self) -> bool {
        self.next.as_deref().is_none_or(Option::is_none) && self.body.is_end_stream()
    }

    /// How much is to come, where it was told, if nothing was read yet.
    pub fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    /// Adds the small frames that are there. Whoever is handed the result asks again, so it does not matter that it is woken for what is
    /// not there yet.
    fn gather(&mut self, first: Bytes, context: &mut Context<'_>) -> Bytes {
        let mut all = BytesMut::new();
        while self.next.is_none() && !self.body.is_end_stream() {
            let Poll::Ready(met) = self.poll_body(context) else { break };
            match small_data(&met) {
                Some(data) if first.len().max(all.len()) + data.len() <= GATHERED_BYTES => {
                    if all.is_empty() {
                        all.reserve(2 * (first.len() + data.len()));
                        all.extend_from_slice(&first);
                    }
                    all.extend_from_slice(data);
                }
                Some(_) | None => self.next = Some(Box::new(met)),
            }
        }
        if all.is_empty() { first } else { all.freeze() }
    }

    /// Frames that say nothing are left out. gRPC's clients end their side with one; sent on, it would be one more beside the end, and
    /// servers close a connection on which a hundred have come (h2 does), with all its calls.
    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Met<B::Error>> {
        loop {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
                polled => return polled,
            }
        }
    }
}

fn small_data<E>(met: &Met<E>) -> Option<&Bytes> {
    met.as_ref()?.as_ref().ok()?.data_ref().filter(|data| data.len() < SMALL_BYTES)
}

#[cfg(test)]
mod tests {
    //! What is handed on together, what is not, and that nothing is lost or moved.

    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::VecDeque;
    use std::task::Waker;

    use http::HeaderMap;

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Event {
        Data(usize),
        Wait,
        Trailers,
        Break,
    }
    use Event::{Break, Data, Trailers, Wait};

    /// Says what it was told to, then ends.
    struct Script {
        events: VecDeque<Event>,
        byte: u8,
    }

    impl Body for Script {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            match self.events.pop_front() {
                None => Poll::Ready(None),
                Some(Wait) => Poll::Pending,
                Some(Data(length)) => {
                    let bytes = (0..length).map(|_| {
                        self.byte = self.byte.wrapping_add(1);
                        self.byte
                    });
                    let bytes = bytes.collect::<Vec<_>>().into();
                    Poll::Ready(Some(Ok(Frame::data(bytes))))
                }
                Some(Trailers) => Poll::Ready(Some(Ok(Frame::trailers(HeaderMap::new())))),
                Some(Break) => Poll::Ready(Some(Err("broken"))),
            }
        }

        fn is_end_stream(&self) -> bool {
            self.events.is_empty()
        }
    }

    #[track_caller]
    fn check(said: &[Event], handed_on: &[Event]) {
        let mut gathered = Gathered::new(Script { events: said.iter().copied().collect(), byte: 0 });
        let mut context = Context::from_waker(Waker::noop());
        let (mut met, mut bytes) = (Vec::new(), Vec::new());
        loop {
            let is_at_end = gathered.is_end_stream();
            match gathered.poll_frame(&mut context) {
                Poll::Pending => met.push(Wait),
                Poll::Ready(None) => break,
                Poll::Ready(Some(Err(error))) => {
                    assert_eq!(error, "broken");
                    met.push(Break);
                }
                Poll::Ready(Some(Ok(frame))) => {
                    assert!(!is_at_end, "{frame:?} came behind the end");
                    met.push(frame.data_ref().map_or(Trailers, |data| Data(data.len())));
                    bytes.extend(frame.into_data().unwrap_or_default());
                }
            }
        }
        assert!(gathered.is_end_stream());
        assert_eq!(met, handed_on, "{said:?}");
        let mut expected = 0_u8;
        for byte in bytes {
            expected = expected.wrapping_add(1);
            assert_eq!(byte, expected, "{said:?}");
        }
    }

    #[test]
    fn small_frames_that_are_there_become_one() {
        check(&[Data(10), Data(20), Data(30)], &[Data(60)]);
        check(&[Data(10)], &[Data(10)]);
        check(&[], &[]);
        check(&[Data(1); 1000], &[Data(1000)]);
    }

    #[test]
    fn nothing_waits_for_what_is_not_there() {
        // The wait is met, and by who asks next not again: it was there to be waited for only once.
        check(&[Data(10), Wait, Data(20), Data(5), Wait, Wait], &[Data(10), Data(25), Wait]);
        check(&[Wait, Data(10)], &[Wait, Data(10)]);
    }

    #[test]
    fn what_is_large_is_handed_on_as_it_is() {
        check(&[Data(4096), Data(1)], &[Data(4096), Data(1)]);
        check(&[Data(1), Data(2), Data(4096), Data(3), Data(4)], &[Data(3), Data(4096), Data(7)]);
        check(&[Data(100_000)], &[Data(100_000)]);
    }

    #[test]
    fn no_more_is_held_than_one_frame_may_have() {
        check(&[Data(4000); 9], &[Data(16_000), Data(16_000), Data(4_000)]);
        check(&[Data(1); 20_000], &[Data(16_384), Data(3_616)]);
    }

    #[test]
    fn what_is_no_data_keeps_its_place() {
        check(&[Data(1), Data(2), Trailers], &[Data(3), Trailers]);
        check(&[Trailers], &[Trailers]);
        check(&[Data(1), Break], &[Data(1), Break]);
        check(&[Data(1), Data(2), Break, Data(3)], &[Data(3), Break, Data(3)]);
        check(&[Data(1), Wait, Break], &[Data(1), Break]);
    }

    #[test]
    fn frames_that_say_nothing_are_left_out() {
        check(&[Data(0)], &[]);
        check(&[Data(0), Data(1), Data(0), Data(2), Data(0)], &[Data(3)]);
        check(&[Data(0), Trailers], &[Trailers]);
    }
}
