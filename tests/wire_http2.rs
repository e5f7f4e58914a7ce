//! HTTP/2 frame by frame: what no well-behaved client sends ends the stream or the connection, and nothing complete
//! reaches the upstream. Frames without end are in `floods.rs`.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame as BodyFrame};
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::frames::{
    ACKNOWLEDGED, DATA, END_STREAM, Frame, FrameClient, GOAWAY, HEADERS, PING, RST_STREAM,
};
use support::http2::{empty, request_with};
use support::sidecar::HOST;
use support::{Http2Client, PATIENCE, Sidecar, Upstream, until};

/// A permitted request with further fields.
fn fields<'a>(
    authorization: &'a str,
    method: &'a str,
    more: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![
        (":method", method),
        (":scheme", "http"),
        (":authority", HOST),
        (":path", "/items"),
        ("authorization", authorization),
    ];
    for (name, value) in more {
        match fields.iter_mut().find(|(own, _)| own == name && name.starts_with(':')) {
            Some(field) => field.1 = value,
            None => fields.push((name, value)),
        }
    }
    fields
}

/// Sends half a body, and once the upstream has it, gives the stream up with this error code.
#[track_caller]
fn given_up_amid_its_body(more: &[(&str, &str)], code: u32) {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let authorization = format!("Bearer {}", sidecar.permitted.token);
    let mut client = FrameClient::connect(sidecar.address());
    client.send_head(1, 0, &fields(&authorization, "POST", more));
    client.send(DATA, 0, 1, b"the first half");
    until("the first half to arrive", || upstream.received_text().contains("the first half"));
    client.send(RST_STREAM, 0, 1, &code.to_be_bytes());
    upstream.wait_closed(0);
    let received = upstream.received_text();
    assert_eq!(upstream.requests().len(), 0, "half a body looks whole: {received:?}");
    assert!(!received.ends_with("0\r\n\r\n"), "half a body looks whole: {received:?}");
    assert_eq!(sidecar.access_log(1)[0]["ending"], "client_aborted");
}

#[test]
fn a_stream_that_is_given_up_amid_its_body() {
    const NO_ERROR: u32 = 0;
    const CANCEL: u32 = 8;
    given_up_amid_its_body(&[], CANCEL);
    given_up_amid_its_body(&[], NO_ERROR);
    given_up_amid_its_body(&[("content-length", "28")], NO_ERROR);
}

#[test]
fn a_stream_given_up_as_its_answer_comes_leaves_no_half_a_request_in_the_pool() {
    let (go_on, told) = std::sync::mpsc::channel();
    let told = parking_lot::Mutex::new(told);
    let (answered, has_answered) = std::sync::mpsc::channel();
    let upstream = Upstream::start(move |peer| {
        let Some(head) = peer.read_head() else { return };
        if head.header("content-length").is_some() {
            let _go_on = told.lock().recv_timeout(PATIENCE);
        }
        peer.respond(200, &[], b"");
        let _asked_only_once = answered.send(());
        peer.read_to_end();
    });
    let sidecar = Sidecar::in_front_of(&upstream).one_worker().start();
    let authorization = format!("Bearer {}", sidecar.permitted.token);
    let mut client = FrameClient::connect(sidecar.address());
    client.send_head(1, 0, &fields(&authorization, "POST", &[("content-length", "100")]));
    client.send(DATA, 0, 1, b"the beginning");
    until("the head to arrive", || upstream.received_text().contains("/items"));
    // Both arrive while the worker cannot look: it sees them at once.
    sidecar.signal("STOP");
    client.send(RST_STREAM, 0, 1, &0_u32.to_be_bytes());
    go_on.send(()).unwrap();
    has_answered.recv_timeout(PATIENCE).unwrap();
    sidecar.signal("CONT");
    let _ended = sidecar.access_log(1);
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
    assert_eq!(upstream.connections(), 2, "{}", upstream.received_text());
}

#[test]
fn many_streams_at_once() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = Http2Client::connect(sidecar.address());
    let token = sidecar.permitted.token.clone();
    let requests: Vec<_> = (0..200)
        .map(|number| client.sender.send_request(request_with(&token, "GET", &format!("/{number}"), empty())))
        .collect();
    let responses = client.runtime.block_on(async {
        let mut statuses = Vec::new();
        for request in requests {
            statuses.push(tokio::time::timeout(PATIENCE, request).await.unwrap().unwrap().status());
        }
        statuses
    });
    assert!(responses.iter().all(|status| *status == 200));
    assert_eq!(upstream.requests().len(), 200);
}

/// A service that speaks HTTP/2 and sends small frames for as long as they are taken; to HEAD it only answers.
struct Pouring {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    frames: Arc<AtomicUsize>,
}

/// A body without end, or none.
struct Drops(Option<Arc<AtomicUsize>>);

impl Body for Drops {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.as_ref().map(|poured| {
            poured.fetch_add(1, Ordering::Relaxed);
            Ok(BodyFrame::data(Bytes::from_static(&[b'x'; 100])))
        }))
    }
}

impl Pouring {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let (connections, frames) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (accepted, poured) = (Arc::clone(&connections), Arc::clone(&frames));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    accepted.fetch_add(1, Ordering::Relaxed);
                    let poured = Arc::clone(&poured);
                    let answer = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let drops =
                            Drops((request.method() != http::Method::HEAD).then(|| Arc::clone(&poured)));
                        async { Ok::<_, Infallible>(http::Response::new(drops)) }
                    });
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    tokio::spawn(server.serve_connection(TokioIo::new(stream), answer));
                }
            });
        });
        Self { address, connections, frames }
    }
}

#[test]
fn clients_that_do_not_read_cost_nobody_else_the_upstreams_connection() {
    // What each of them may have under way is many times what h2 lets lie about of a small window.
    const SLOW: u32 = 12;
    let service = Pouring::start();
    let sidecar =
        Sidecar::with_endpoint(service.address).upstream("protocol = \"http2\"").one_worker().start();
    let token = sidecar.permitted.token.clone();
    let mut other = Http2Client::connect(sidecar.address());
    let mut ask = || other.request(request_with(&token, "HEAD", "/", empty())).status;
    assert_eq!(ask(), 200);

    let authorization = format!("Bearer {token}");
    let mut slow = FrameClient::connect(sidecar.address());
    for number in 0..SLOW {
        slow.send_head(number * 2 + 1, END_STREAM, &fields(&authorization, "GET", &[]));
    }
    // Until nothing more is taken: an answer comes over the same connection, behind what was sent before it.
    let (mut before, mut unchanged) = (0, 0);
    until("the windows to be full", || {
        assert_eq!(ask(), 200);
        let frames = service.frames.load(Ordering::Relaxed);
        unchanged = if frames == before { unchanged + 1 } else { 0 };
        before = frames;
        unchanged >= 20
    });
    assert!(before > 20_000, "{before} frames were taken");
    assert_eq!(service.connections.load(Ordering::Relaxed), 1, "a connection was given up");
    slow.send(PING, 0, 0, b"12345678");
    while let Some(frame) = slow.read() {
        assert!(!matches!(frame.kind, RST_STREAM | GOAWAY), "{frame:?}");
        if frame.kind == PING && frame.flags & ACKNOWLEDGED != 0 {
            break;
        }
    }
}

/// A body of these frames, the last one first.
struct Parts(Vec<Bytes>);

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Infallible>>> {
        Poll::Ready(self.get_mut().0.pop().map(|data| Ok(BodyFrame::data(data))))
    }
}

/// A service that speaks HTTP/2 and sends every body back; with an empty frame behind it, if that is what it says.
fn echo_over_http2() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let echo = |request: http::Request<hyper::body::Incoming>| async {
        let body = request.into_body().collect().await?.to_bytes();
        let parts = if body == *WITH_AN_EMPTY_FRAME { vec![Bytes::new(), body] } else { vec![body] };
        Ok::<_, hyper::Error>(http::Response::new(Parts(parts)))
    };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service_fn(echo)));
            }
        });
    });
    address
}

const WITH_AN_EMPTY_FRAME: &[u8] = b"with an empty frame";

#[test]
fn empty_frames_end_here() {
    // More than the service takes over a connection's life.
    const CALLS: u32 = 150;
    let sidecar =
        Sidecar::with_endpoint(echo_over_http2()).upstream("protocol = \"http2\"").one_worker().start();
    let authorization = format!("Bearer {}", sidecar.permitted.token);
    let mut client = FrameClient::connect(sidecar.address());
    let mut call = |number: u32, body: &[u8]| {
        let stream = number * 2 + 1;
        client.send_head(stream, 0, &fields(&authorization, "POST", &[]));
        client.send(DATA, 0, stream, body);
        client.send(DATA, END_STREAM, stream, b"");
        let frames = client.read_stream(stream);
        let seen: Vec<_> = frames.iter().map(|frame| (frame.kind, &frame.payload[..])).collect();
        let [(HEADERS, _), (DATA, echoed), ref end @ ..] = seen[..] else {
            panic!("call {number}: {frames:?}");
        };
        assert_eq!(echoed, body, "call {number}");
        let is_end = |frame: &Frame| frame.payload.is_empty() && frame.flags & END_STREAM != 0;
        assert!(end.len() <= 1 && frames[2..].iter().all(is_end), "call {number}: {frames:?}");
    };
    (0..CALLS).for_each(|number| call(number, b"hello"));
    call(CALLS, WITH_AN_EMPTY_FRAME);
}

#[test]
fn a_broken_upload_is_not_held_against_a_service_that_speaks_http2() {
    let sidecar =
        Sidecar::with_endpoint(echo_over_http2()).upstream("protocol = \"http2\"").one_worker().start();
    for chunk in ["0x5\r\nhello\r\n", "5;\r\nhello\r\n", "5;a\nb\r\nhello\r\n", "5\r\nhelloX\r\n"] {
        let mut client = sidecar.connect();
        client.send(sidecar.head("POST /", "Transfer-Encoding: chunked\r\n") + "3\r\nabc\r\n");
        let _closed = client.try_send(format!("{chunk}0\r\n\r\n"));
        assert_eq!(client.response().status, 400, "{chunk:?}");
        client.assert_closed();
    }
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
    let metrics = sidecar.metrics();
    let mut requests = metrics.lines().filter(|line| line.starts_with("postern_upstream_requests_total{"));
    let is_harmless =
        |line: &str| line.contains("\"ok\"") || line.contains("\"aborted\"") || line.ends_with(" 0");
    assert!(requests.all(is_harmless), "{metrics}");
}
