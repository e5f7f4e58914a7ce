//! The guard over a connection's life: deadlines, large bodies, closing, upgrades, and HTTP/2's preface.

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::rt::Read;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use postern::serve::guard::{Guard, GuardState, Phase, Prefixed, Protocol, Violation, sniff};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, yield_now};

use crate::support::{LIMITS, Script, Then, cut, drip};

const GOOD: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Runs a test whose connections are tasks of one thread, like those of a worker.
fn on_one_thread<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The time is a net for a test that hangs, never waited for.
    let test = async { tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test hangs") };
    runtime.block_on(LocalSet::new().run_until(test))
}

/// Both ends of a loopback connection.
async fn loopback() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

/// Answers with the violation's status, or 200; never looks at a body.
fn serve_without_reading(stream: TcpStream) -> (Rc<GuardState>, tokio::task::JoinHandle<u64>) {
    let guard = Guard::new(stream, LIMITS);
    let state = guard.state();
    let shared = Rc::clone(&state);
    let calls = Rc::new(Cell::new(0));
    let counted = Rc::clone(&calls);
    let service = service_fn(move |_request: Request<Incoming>| {
        let call = counted.replace(counted.get() + 1);
        let response = match shared.violation_at(call) {
            None => Response::new(Empty::<Bytes>::new()),
            Some(violation) => Response::builder()
                .status(violation.status())
                .header("connection", "close")
                .body(Empty::new())
                .unwrap(),
        };
        async { Ok::<_, Infallible>(response) }
    });
    let connection = tokio::task::spawn_local(async move {
        let _ = http1::Builder::new().serve_connection(guard, service).await;
        calls.get()
    });
    (state, connection)
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        yield_now().await;
    }
}

#[test]
fn a_head_that_takes_too_long_is_answered_408() {
    on_one_thread(async {
        let (mut client, server) = loopback().await;
        let (state, connection) = serve_without_reading(server);
        client.write_all(&[GOOD, b"GET /slow HTTP/1.1\r\nHo"].concat()).await.unwrap();
        until(|| state.phase() == Phase::ReadingHead).await;
        assert!(state.head_started().is_some());
        state.time_out_head();
        let mut answers = String::new();
        client.read_to_string(&mut answers).await.unwrap();
        assert!(answers.starts_with("HTTP/1.1 200"), "{answers}");
        assert!(answers.contains("HTTP/1.1 408"), "{answers}");
        drop(client);
        assert_eq!(connection.await.unwrap(), 2);
        assert_eq!(state.violation_at(1), Some(Violation::HeaderTimeout));
        assert_eq!(state.violation_at(0), None);
    });
}

#[test]
fn a_head_cannot_time_out_before_it_has_begun_or_in_a_body() {
    let mut guard = Guard::new(
        Script::new(
            [b"\r\n", GOOD, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na", b"b", b"c\r\n"]
                .map(Bytes::from_static)
                .to_vec(),
            Then::Waits,
        ),
        LIMITS,
    );
    let state = guard.state();
    let mut phases = Vec::new();
    while let Some(read) = read_all_that_is_there(&mut guard) {
        phases.push((state.phase(), read.len()));
        state.time_out_head();
    }
    // Piece by piece; an empty line belongs to the head behind it and goes with it.
    assert_eq!(
        phases,
        [(Phase::Idle, 2 + GOOD.len()), (Phase::InBody, 48), (Phase::InBody, 1), (Phase::Idle, 1),]
    );
    assert_eq!(state.violation(), None);
    assert_eq!(state.heads(), 2);
}

/// One read, over as many waits as the script has before it; `None`: nothing more comes.
fn read_all_that_is_there(guard: &mut Guard<Script>) -> Option<Vec<u8>> {
    let mut context = Context::from_waker(Waker::noop());
    let mut memory = [0; 4096];
    for _ in 0..200 {
        let mut buffer = hyper::rt::ReadBuf::new(&mut memory);
        if let Poll::Ready(result) = Pin::new(&mut *guard).poll_read(&mut context, buffer.unfilled()) {
            result.unwrap();
            return Some(buffer.filled().to_vec());
        }
    }
    None
}

#[test]
fn phase_and_progress_follow_what_comes() {
    let pieces = [
        "GET",
        " / HTTP/1.1\r\nHost: a\r\n\r\nPO",
        "ST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "0\r\n\r\n",
    ];
    let mut guard = Guard::new(Script::new(pieces.map(Bytes::from).to_vec(), Then::Waits), LIMITS);
    let state = guard.state();
    assert_eq!((state.phase(), state.progress(), state.heads()), (Phase::Idle, 0, 0));
    // The first piece is not delivered: the read goes on to the second.
    let read = read_all_that_is_there(&mut guard).unwrap();
    assert_eq!(read, GOOD);
    assert_eq!((state.phase(), state.progress(), state.heads()), (Phase::ReadingHead, 2, 1));
    let started = state.head_started();
    assert!(started.is_some());
    read_all_that_is_there(&mut guard).unwrap();
    assert_eq!((state.phase(), state.progress(), state.heads()), (Phase::InBody, 3, 2));
    assert_eq!(state.head_started(), None);
    read_all_that_is_there(&mut guard).unwrap();
    assert_eq!((state.phase(), state.progress()), (Phase::Idle, 4));
}

#[test]
fn large_bodies_arrive_whole_in_both_directions() {
    const BODY_BYTES: usize = 8 * 1024 * 1024;
    let body: Vec<u8> = (0..BODY_BYTES).map(|at| (at * 31 + at / 251) as u8).collect();
    let mut chunked = Vec::new();
    for chunk in body.chunks(70_001) {
        chunked.extend(format!("{:x}\r\n", chunk.len()).bytes());
        chunked.extend(chunk);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    let head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
    let with_length = [format!("{head}Content-Length: {BODY_BYTES}\r\n\r\n").as_bytes(), &body].concat();
    let with_chunks = [format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes(), &chunked].concat();
    for request in [with_length, with_chunks] {
        on_one_thread(async {
            let (client, server) = loopback().await;
            let service = service_fn(|request: Request<Incoming>| async {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                Ok::<_, Infallible>(Response::new(Full::new(body)))
            });
            let connection = http1::Builder::new().serve_connection(Guard::new(server, LIMITS), service);
            let connection = tokio::task::spawn_local(connection);
            let (mut reader, mut writer) = client.into_split();
            let sending =
                tokio::task::spawn_local(async move { writer.write_all(&request).await.map(|()| writer) });
            let mut answer = Vec::new();
            reader.read_to_end(&mut answer).await.unwrap();
            assert!(answer.ends_with(&body));
            sending.await.unwrap().unwrap();
            connection.await.unwrap().unwrap();
        });
    }
}

/// The client sends all of it before it reads; it must still get the whole answer and an orderly end.
#[track_caller]
fn answer_survives(sent: &[u8], status: &str) {
    on_one_thread(async {
        let (mut client, server) = loopback().await;
        let (_, connection) = serve_without_reading(server);
        client.write_all(sent).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        drop(client);
        assert_eq!(connection.await.unwrap(), 1);
    });
}

#[test]
fn an_answer_is_not_lost_to_a_reset_while_the_client_sends() {
    let more = vec![b'x'; 200_000];
    answer_survives(&[b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", &more[..]].concat(), "400");
    answer_survives(
        &[b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n", &more[..]].concat(),
        "200",
    );
}

#[test]
fn a_client_that_never_stops_sending_is_cut_off() {
    on_one_thread(async {
        let (mut client, server) = loopback().await;
        let (_, connection) = serve_without_reading(server);
        client.write_all(b"BAD\r\n\r\n").await.unwrap();
        let garbage = [b'x'; 16_384];
        while client.write_all(&garbage).await.is_ok() {}
        assert_eq!(connection.await.unwrap(), 1);
    });
}

#[test]
fn a_client_that_never_closes_is_cut_off() {
    on_one_thread(async {
        let (mut client, server) = loopback().await;
        let (_, connection) = serve_without_reading(server);
        client.write_all(b"BAD\r\n\r\n").await.unwrap();
        assert_eq!(connection.await.unwrap(), 1);
        drop(client);
    });
}

#[test]
fn an_unread_body_is_never_taken_for_a_request() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = smuggled.len();
    for (request, answers) in [
        (format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{smuggled}"), 1),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{smuggled}"), 1),
        (
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{smuggled}\r\n0\r\n\r\n"
            ),
            1,
        ),
    ] {
        on_one_thread(async {
            let (mut client, server) = loopback().await;
            let (state, connection) = serve_without_reading(server);
            client.write_all(request.as_bytes()).await.unwrap();
            client.shutdown().await.unwrap();
            let mut text = String::new();
            client.read_to_string(&mut text).await.unwrap();
            assert_eq!(connection.await.unwrap(), answers, "{text}");
            assert_eq!(state.heads(), answers);
        });
    }
}

#[test]
fn after_an_upgrade_everything_passes() {
    on_one_thread(async {
        let (mut client, server) = loopback().await;
        let guard = Guard::new(server, LIMITS);
        let state = guard.state();
        let shared = Rc::clone(&state);
        let service = service_fn(move |_request: Request<Incoming>| {
            shared.pass_through();
            let response = Response::builder()
                .status(101)
                .header("connection", "upgrade")
                .header("upgrade", "websocket");
            let response = response.body(Empty::<Bytes>::new()).unwrap();
            async { Ok::<_, Infallible>(response) }
        });
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly")
            .await
            .unwrap();
        let parts = http1::Builder::new().serve_connection(guard, service).without_shutdown().await.unwrap();
        let (mut server, held) = parts.io.into_parts();
        let mut answer = vec![0; 12];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, b"HTTP/1.1 101");
        // What came behind the request is not lost, wherever it was when the tunnel began.
        let mut got = [&parts.read_buf[..], &held[..]].concat();
        client.write_all(b"\0\r\n\xff").await.unwrap();
        while got.len() < 9 {
            server.read_buf(&mut got).await.unwrap();
        }
        assert_eq!(got, b"early\0\r\n\xff");
        assert_eq!(state.violation(), None);
    });
}

#[test]
fn what_was_held_passes_first_once_nothing_is_looked_at() {
    let pieces = vec![
        Bytes::from_static(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nnot http"),
        Bytes::from_static(b" \0\n\xff"),
    ];
    let mut guard = Guard::new(Script::new(pieces, Then::Waits), LIMITS);
    assert_eq!(read_all_that_is_there(&mut guard).unwrap(), GOOD);
    guard.state().pass_through();
    assert_eq!(read_all_that_is_there(&mut guard).unwrap(), b"not http");
    assert_eq!(read_all_that_is_there(&mut guard).unwrap(), b" \0\n\xff");
    assert_eq!(guard.state().violation(), None);
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Sniffs a client that waits behind what it has sent; returns what a reader then gets.
async fn sniffed(pieces: Vec<Bytes>, then: Then) -> (Protocol, BytesMut, Script) {
    let mut stream = Script::new(pieces, then);
    let (protocol, read) = sniff(&mut stream).await.unwrap();
    (protocol, read, stream)
}

#[test]
fn the_preface_tells_http2_from_http1() {
    on_one_thread(async {
        let http2 = [PREFACE, b"\0\0\0\x04\0\0\0\0\0"].concat();
        for pieces in (0..http2.len()).map(|at| cut(&http2, [at])).chain([drip(&http2)]) {
            let (protocol, read, stream) = sniffed(pieces, Then::Closes).await;
            assert_eq!(protocol, Protocol::Http2);
            let mut all = Vec::new();
            Prefixed::new(stream, read).read_to_end(&mut all).await.unwrap();
            assert_eq!(all, http2);
        }
        // The first byte that differs decides, without waiting for more.
        for at in 0..PREFACE.len() {
            let mut other = PREFACE[..=at].to_vec();
            other[at] ^= 1;
            for pieces in [vec![Bytes::copy_from_slice(&other)], drip(&other)] {
                let (protocol, read, _) = sniffed(pieces, Then::Waits).await;
                assert_eq!((protocol, &read[..]), (Protocol::Http1, &other[..]));
            }
        }
        let (protocol, read, _) = sniffed(vec![PREFACE[..20].into()], Then::Closes).await;
        assert_eq!((protocol, &read[..]), (Protocol::Http1, &PREFACE[..20]));
    });
}

#[test]
fn a_guard_starts_with_what_was_sniffed() {
    on_one_thread(async {
        for pieces in [vec![Bytes::from_static(GOOD)], drip(GOOD), cut(&GOOD.repeat(3), [40])] {
            let sent = pieces.concat();
            let (protocol, read, stream) = sniffed(pieces, Then::Waits).await;
            assert_eq!(protocol, Protocol::Http1);
            let mut guard = Guard::with_prefix(stream, read, LIMITS);
            let mut all = Vec::new();
            while let Some(read) = read_all_that_is_there(&mut guard) {
                all.extend(read);
            }
            assert_eq!(all, sent);
        }
        let mut guard =
            Guard::with_prefix(Script::new(vec![], Then::Waits), BytesMut::from(&b"BAD\r\n"[..]), LIMITS);
        assert_eq!(guard.state().violation_at(0), Some(Violation::RequestLine));
        assert!(read_all_that_is_there(&mut guard).unwrap().starts_with(b"GET / HTTP/1.1\r\n"));
    });
}
