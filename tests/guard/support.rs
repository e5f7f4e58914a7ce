//! A client whose every read is scripted, and a hyper server behind the guard that records what it is asked.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::rt::Read;
use hyper::service::service_fn;
use postern::serve::guard::{Guard, GuardLimits, GuardState, Violation};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) const LIMITS: GuardLimits =
    GuardLimits { header_bytes: 65_536, header_count: 100, uri_bytes: 16_384 };

/// What a client does once it has sent everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It waits for the server to close.
    Waits,
    /// It closes its write side.
    Closes,
}

/// A stream whose reads bring one piece each, with a wait before every one.
#[derive(Debug)]
pub(crate) struct Script {
    pieces: VecDeque<Bytes>,
    then: Then,
    is_due: bool,
    is_shut_down: bool,
    written: Rc<RefCell<Vec<u8>>>,
}

impl Script {
    pub(crate) fn new(pieces: Vec<Bytes>, then: Then) -> Self {
        let pieces = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        Self { pieces, then, is_due: false, is_shut_down: false, written: Rc::default() }
    }
}

impl AsyncRead for Script {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_shut_down {
            this.pieces.clear();
            return Poll::Ready(Ok(()));
        }
        let Some(piece) = this.pieces.front_mut() else {
            return match this.then {
                Then::Waits => Poll::Pending,
                Then::Closes => Poll::Ready(Ok(())),
            };
        };
        this.is_due = !this.is_due;
        if this.is_due {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        buffer.put_slice(&piece.split_to(piece.len().min(buffer.remaining())));
        if piece.is_empty() {
            this.pieces.pop_front();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.written.borrow_mut().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().is_shut_down = true;
        Poll::Ready(Ok(()))
    }
}

/// A request as the service saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub method: String,
    pub target: String,
    pub headers: HeaderMap,
    /// `None`: it broke off.
    pub body: Option<Vec<u8>>,
    pub trailers: HeaderMap,
}

/// A response as the client saw it: its status, its violation's code, and whether it came from the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub status: u16,
    pub code: Option<String>,
    pub is_from_service: bool,
    pub closes: bool,
}

/// What became of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub seen: Vec<Seen>,
    pub answers: Vec<Answer>,
}

impl Outcome {
    pub(crate) fn statuses(&self) -> Vec<u16> {
        self.answers.iter().map(|answer| answer.status).collect()
    }
}

/// Serves one scripted connection with hyper behind the guard, until the server has closed it.
pub(crate) fn serve(pieces: Vec<Bytes>, then: Then) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(serve_within(pieces, then))
}

async fn serve_within(pieces: Vec<Bytes>, then: Then) -> Outcome {
    let script = Script::new(pieces, then);
    let written = Rc::clone(&script.written);
    let guard = Guard::new(script, LIMITS);
    let recorder =
        Rc::new(Recorder { state: guard.state(), seen: RefCell::default(), calls: RefCell::new(0) });
    let service = {
        let recorder = Rc::clone(&recorder);
        service_fn(move |request| Rc::clone(&recorder).answer(request))
    };
    let connection = hyper::server::conn::http1::Builder::new()
        .half_close(then == Then::Closes)
        .serve_connection(guard, service);
    // The time is a net for a connection that hangs, never waited for.
    let _ = tokio::time::timeout(Duration::from_secs(20), connection).await.expect("the connection must end");
    let answers = parse_answers(&written.borrow());
    Outcome { seen: recorder.seen.take(), answers }
}

struct Recorder {
    state: Rc<GuardState>,
    seen: RefCell<Vec<Seen>>,
    calls: RefCell<u64>,
}

impl Recorder {
    async fn answer(
        self: Rc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Empty<Bytes>>, Infallible> {
        let call = self.calls.replace_with(|calls| *calls + 1);
        if let Some(violation) = self.state.violation_at(call) {
            return Ok(refusal(violation));
        }
        let (head, body) = request.into_parts();
        let collected = body.collect().await;
        let mut seen = Seen {
            method: head.method.to_string(),
            target: head.uri.to_string(),
            headers: head.headers,
            body: None,
            trailers: HeaderMap::new(),
        };
        let response = match collected {
            Ok(collected) => {
                seen.trailers = collected.trailers().cloned().unwrap_or_default();
                seen.body = Some(collected.to_bytes().to_vec());
                response(StatusCode::OK)
            }
            Err(_) => match self.state.body_violation_at(call) {
                Some(violation) => refusal(violation),
                // The client went away in its body.
                None => response(StatusCode::IM_A_TEAPOT),
            },
        };
        self.seen.borrow_mut().push(seen);
        Ok(response)
    }
}

fn response(status: StatusCode) -> Response<Empty<Bytes>> {
    Response::builder().status(status).header("x-from", "service").body(Empty::new()).unwrap()
}

fn refusal(violation: Violation) -> Response<Empty<Bytes>> {
    let mut response = response(violation.status());
    response.headers_mut().insert("connection", "close".parse().unwrap());
    response.headers_mut().insert("x-code", violation.code().parse().unwrap());
    response
}

fn parse_answers(written: &[u8]) -> Vec<Answer> {
    let text = std::str::from_utf8(written).unwrap().replace("HTTP/1.1 100 Continue\r\n\r\n", "");
    let heads = text.split_terminator("\r\n\r\n");
    heads
        .map(|head| Answer {
            status: head[9..12].parse().unwrap(),
            code: head.split("x-code: ").nth(1).map(|rest| rest.lines().next().unwrap().to_owned()),
            is_from_service: head.contains("x-from: service"),
            closes: head.contains("connection: close"),
        })
        .collect()
}

/// What the guard does to bytes, without hyper.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Screened {
    pub delivered: Vec<u8>,
    pub violation: Option<Violation>,
    pub heads: u64,
}

/// Reads a scripted client's bytes through the guard until it waits, ends or fails, with buffers of one size.
pub(crate) fn screen(pieces: Vec<Bytes>, buffer_bytes: usize) -> Screened {
    let mut guard = Guard::new(Script::new(pieces, Then::Closes), LIMITS);
    let state = guard.state();
    let mut context = Context::from_waker(Waker::noop());
    let mut delivered = Vec::new();
    let mut pending_in_a_row = 0;
    loop {
        let mut memory = vec![0; buffer_bytes];
        let mut buffer = hyper::rt::ReadBuf::new(&mut memory);
        match Pin::new(&mut guard).poll_read(&mut context, buffer.unfilled()) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => break,
            Poll::Ready(Ok(())) => {
                pending_in_a_row = 0;
                delivered.extend_from_slice(buffer.filled());
            }
            Poll::Ready(Err(_)) => break,
            // A script waits once before a piece; silence after a violation lasts.
            Poll::Pending if pending_in_a_row == 1 => break,
            Poll::Pending if state.violation().is_some() => pending_in_a_row += 1,
            Poll::Pending => {}
        }
    }
    Screened { delivered, violation: state.violation(), heads: state.heads() }
}

/// Cuts bytes at the given places.
pub(crate) fn cut(bytes: &[u8], at: impl IntoIterator<Item = usize>) -> Vec<Bytes> {
    let mut places: Vec<_> = at.into_iter().map(|place| place.min(bytes.len())).collect();
    places.push(bytes.len());
    places.sort_unstable();
    let mut start = 0;
    places
        .into_iter()
        .map(|end| {
            let piece = Bytes::copy_from_slice(&bytes[start..end]);
            start = end;
            piece
        })
        .collect()
}

/// One byte a read.
pub(crate) fn drip(bytes: &[u8]) -> Vec<Bytes> {
    cut(bytes, 0..bytes.len())
}
