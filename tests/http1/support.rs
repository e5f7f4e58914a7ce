//! A client whose every read is scripted, and a service that records what it is asked.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use postern::serve::body::{BodyError, RequestBody};
use postern::serve::http1::{self, AtClose, Closable, Limits, Received, Respond, State, Violation};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) const LIMITS: Limits = Limits { header_bytes: 65_536, header_count: 100, uri_bytes: 16_384 };

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

impl Closable for Script {
    fn at_close(&self, _: AtClose) {}
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

/// Serves one scripted connection, until the server has closed it.
pub(crate) fn serve(pieces: Vec<Bytes>, then: Then) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(serve_within(pieces, then))
}

async fn serve_within(pieces: Vec<Bytes>, then: Then) -> Outcome {
    let script = Script::new(pieces, then);
    let written = Rc::clone(&script.written);
    let seen = RefCell::default();
    let handler = async |received| answer(received, &seen).await;
    let connection = http1::serve(script, BytesMut::new(), LIMITS, Rc::new(State::new()), handler);
    // The time is a net for a connection that hangs, never waited for.
    let _ = tokio::time::timeout(Duration::from_secs(20), connection).await.expect("the connection must end");
    let answers = parse_answers(&written.borrow());
    Outcome { seen: seen.take(), answers }
}

async fn answer(received: Received, all_seen: &RefCell<Vec<Seen>>) -> TestAnswer {
    let Received { head, body, violation, .. } = received;
    if let Some(violation) = violation {
        return TestAnswer::refusal(violation);
    }
    let collected = collect(body).await;
    let mut seen = Seen {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        headers: head.headers,
        body: None,
        trailers: HeaderMap::new(),
    };
    let answer = match collected {
        Ok((body, trailers)) => {
            seen.trailers = trailers;
            seen.body = Some(body);
            TestAnswer::new(StatusCode::OK)
        }
        Err(BodyError::Violation(violation)) => TestAnswer::refusal(violation),
        // The client went away in its body.
        Err(_) => TestAnswer::new(StatusCode::IM_A_TEAPOT),
    };
    all_seen.borrow_mut().push(seen);
    answer
}

/// A body to its end, with its trailers.
pub(crate) async fn collect(mut body: RequestBody) -> Result<(Vec<u8>, HeaderMap), BodyError> {
    // Nothing comes of a tunnel that was not opened, not even its end.
    if let RequestBody::Tunnel(..) = body {
        return Ok((Vec::new(), HeaderMap::new()));
    }
    let (mut bytes, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = poll_fn(|context| body.poll_frame(context)).await.transpose()? {
        match frame.into_data() {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap(),
        }
    }
    Ok((bytes, trailers))
}

/// An answer of the service: its violation's code if it is a refusal, and a body.
pub(crate) struct TestAnswer {
    status: StatusCode,
    code: Option<&'static str>,
    body: Bytes,
    /// Where it is set, the length is not told.
    request_body: Option<RequestBody>,
    /// Whether who asks for more than its length is told that it broke off.
    breaks_behind_its_end: bool,
}

impl TestAnswer {
    /// An answer of unknown length that could still ask for the request's body, and does not.
    pub(crate) fn with_request_body(request_body: RequestBody) -> Self {
        Self { request_body: Some(request_body), ..Self::new(StatusCode::OK) }
    }

    pub(crate) fn new(status: StatusCode) -> Self {
        Self { status, code: None, body: Bytes::new(), request_body: None, breaks_behind_its_end: false }
    }

    pub(crate) fn with_body(body: Vec<u8>) -> Self {
        Self { body: body.into(), ..Self::new(StatusCode::OK) }
    }

    /// All of its body is there, and yet it breaks off, as one whose token ends at that moment.
    pub(crate) fn breaking_behind_its_end(body: Vec<u8>) -> Self {
        Self { breaks_behind_its_end: true, ..Self::with_body(body) }
    }

    pub(crate) fn refusal(violation: Violation) -> Self {
        Self { code: Some(violation.code()), ..Self::new(violation.status()) }
    }
}

impl Respond for TestAnswer {
    type Error = io::Error;

    fn status(&self) -> StatusCode {
        self.status
    }

    fn lines(&self) -> &[u8] {
        b""
    }

    fn has_date(&self) -> bool {
        false
    }

    fn write_fields(&self, write: &mut impl FnMut(&[u8], &[u8])) {
        write(b"x-from", b"service");
        if self.request_body.is_none() {
            write(b"content-length", self.body.len().to_string().as_bytes());
        }
        if let Some(code) = self.code {
            write(b"x-code", code.as_bytes());
        }
    }

    fn remaining(&self) -> Option<u64> {
        self.request_body.is_none().then_some(self.body.len() as u64)
    }

    fn closes(&self) -> bool {
        self.code.is_some()
    }

    fn protocol(&self) -> &str {
        "websocket"
    }

    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let body = std::mem::take(&mut self.body);
        if body.is_empty() && self.breaks_behind_its_end {
            return Poll::Ready(Some(Err(io::Error::other("the token has ended"))));
        }
        Poll::Ready((!body.is_empty()).then(|| Ok(Frame::data(body))))
    }
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
