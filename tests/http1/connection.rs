//! HTTP/1 over a connection's life: deadlines, large bodies, closing, and HTTP/2's preface.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use postern::serve::http1::{self, Phase, Prefixed, Protocol, Received, State, Violation, sniff};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, LocalSet, yield_now};

use crate::support::{LIMITS, Script, TestAnswer, Then, collect, cut, drip};

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

/// Answers with the violation's status, or 200; never looks at a body. The task's result is the violations of its requests.
fn serve_without_reading(stream: TcpStream) -> (Rc<State>, JoinHandle<Vec<Option<Violation>>>) {
    let state = Rc::new(State::new());
    let shared = Rc::clone(&state);
    let connection = tokio::task::spawn_local(async move {
        let violations = RefCell::new(Vec::new());
        let handler = async |received: Received| {
            violations.borrow_mut().push(received.violation);
            received.violation.map_or_else(|| TestAnswer::new(StatusCode::OK), TestAnswer::refusal)
        };
        let _ = http1::serve(stream, BytesMut::new(), LIMITS, shared, handler).await;
        violations.into_inner()
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
        state.time_out_head();
        let mut answers = String::new();
        client.read_to_string(&mut answers).await.unwrap();
        assert!(answers.starts_with("HTTP/1.1 200"), "{answers}");
        assert!(answers.contains("HTTP/1.1 408"), "{answers}");
        drop(client);
        assert_eq!(connection.await.unwrap(), [None, Some(Violation::HeaderTimeout)]);
    });
}

#[test]
fn a_head_cannot_time_out_before_it_has_begun_or_in_a_body() {
    on_one_thread(async {
        let (mut client, server) = loopback().await;
        let state = Rc::new(State::new());
        let shared = Rc::clone(&state);
        let connection = tokio::task::spawn_local(async move {
            let served = Cell::new(0);
            let handler = async |received: Received| {
                collect(received.body).await.unwrap();
                served.set(served.get() + 1);
                TestAnswer::new(StatusCode::OK)
            };
            http1::serve(server, BytesMut::new(), LIMITS, shared, handler).await.unwrap();
            served.get()
        });
        let mut sent = 0;
        for (piece, phase) in [
            (&b"\r\n"[..], Phase::Idle),
            (GOOD, Phase::Idle),
            (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na", Phase::InBody),
            (b"b", Phase::InBody),
            (b"c\r\n", Phase::Idle),
        ] {
            client.write_all(piece).await.unwrap();
            sent += piece.len();
            // An empty line begins no head.
            until(|| state.phase() == phase).await;
            yield_now().await;
            state.time_out_head();
        }
        assert!(sent > 0);
        client.shutdown().await.unwrap();
        let mut answers = String::new();
        client.read_to_string(&mut answers).await.unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
        assert_eq!(connection.await.unwrap(), 2);
    });
}

#[test]
fn the_phase_follows_what_comes() {
    on_one_thread(async {
        let (mut client, server) = loopback().await;
        let state = Rc::new(State::new());
        let shared = Rc::clone(&state);
        let connection = tokio::task::spawn_local(async move {
            let handler = async |received: Received| {
                let _ = collect(received.body).await;
                TestAnswer::new(StatusCode::OK)
            };
            let _ = http1::serve(server, BytesMut::new(), LIMITS, shared, handler).await;
        });
        assert_eq!(state.phase(), Phase::Idle);
        for (piece, phase) in [
            ("GET", Phase::ReadingHead),
            (" / HTTP/1.1\r\nHost: a\r\n\r\n", Phase::Idle),
            ("PO", Phase::ReadingHead),
            ("ST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", Phase::InBody),
            ("0\r\n\r\n", Phase::Idle),
        ] {
            client.write_all(piece.as_bytes()).await.unwrap();
            until(|| state.phase() == phase).await;
        }
        drop(client);
        connection.await.unwrap();
    });
}

#[test]
fn an_idle_connection_ends_when_told_to_and_a_begun_head_is_served_first() {
    on_one_thread(async {
        for (begun, answered) in [("", 0), ("GET / HTTP/1.1\r\nHo", 1)] {
            let (mut client, server) = loopback().await;
            let state = Rc::new(State::new());
            let shared = Rc::clone(&state);
            let connection = tokio::task::spawn_local(async move {
                let handler = async |_: Received| TestAnswer::new(StatusCode::OK);
                let mut served =
                    Box::pin(http1::serve(server, BytesMut::new(), LIMITS, Rc::clone(&shared), handler));
                std::future::poll_fn(|context| served.as_mut().poll(context)).await
            });
            client.write_all(GOOD).await.unwrap();
            let mut first = vec![0; 15];
            client.read_exact(&mut first).await.unwrap();
            client.write_all(begun.as_bytes()).await.unwrap();
            until(|| begun.is_empty() || state.phase() == Phase::ReadingHead).await;
            state.end_after_this();
            // What wakes the connection here is its own next event; a server wakes it itself.
            client.write_all(if begun.is_empty() { b"\r\n" } else { b"st: a\r\n\r\n" }).await.unwrap();
            let mut rest = String::new();
            client.read_to_string(&mut rest).await.unwrap();
            assert_eq!(rest.matches("HTTP/1.1 200").count(), answered, "{rest}");
            assert_eq!(rest.matches("connection: close").count(), answered, "{rest}");
            connection.await.unwrap().unwrap();
        }
    });
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
            let handler =
                async |received: Received| TestAnswer::with_body(collect(received.body).await.unwrap().0);
            let connection = http1::serve(server, BytesMut::new(), LIMITS, Rc::new(State::new()), handler);
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
        assert_eq!(connection.await.unwrap().len(), 1);
    });
}

/// A final answer tells a client that holds its body back not to send it: what comes next would be taken for the body.
#[test]
fn a_body_that_was_never_asked_for_ends_the_connection() {
    on_one_thread(async {
        let (mut client, server) = loopback().await;
        let connection = tokio::task::spawn_local(async move {
            let handler = async |received: Received| TestAnswer::with_request_body(received.body);
            http1::serve(server, BytesMut::new(), LIMITS, Rc::new(State::new()), handler).await
        });
        let head = "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        assert!(!answer.contains("100 Continue"), "{answer}");
        let _ = connection.await.unwrap();
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
        assert_eq!(connection.await.unwrap().len(), 1);
    });
}

#[test]
fn a_client_that_never_closes_is_cut_off() {
    on_one_thread(async {
        let (mut client, server) = loopback().await;
        let (_, connection) = serve_without_reading(server);
        client.write_all(b"BAD\r\n\r\n").await.unwrap();
        assert_eq!(connection.await.unwrap().len(), 1);
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
            let (_, connection) = serve_without_reading(server);
            client.write_all(request.as_bytes()).await.unwrap();
            client.shutdown().await.unwrap();
            let mut text = String::new();
            client.read_to_string(&mut text).await.unwrap();
            assert_eq!(connection.await.unwrap(), vec![None; answers], "{text}");
        });
    }
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
fn a_connection_starts_with_what_was_sniffed() {
    on_one_thread(async {
        for pieces in [vec![Bytes::from_static(GOOD)], drip(GOOD), cut(&GOOD.repeat(3), [40])] {
            let requests = pieces.concat().len() / GOOD.len();
            let (protocol, read, stream) = sniffed(pieces, Then::Closes).await;
            assert_eq!(protocol, Protocol::Http1);
            let served = Cell::new(0);
            let handler = async |received: Received| {
                assert_eq!(received.violation, None);
                served.set(served.get() + 1);
                TestAnswer::new(StatusCode::OK)
            };
            http1::serve(stream, read, LIMITS, Rc::new(State::new()), handler).await.unwrap();
            assert_eq!(served.get(), requests);
        }
        let refused = Cell::new(None);
        let handler = async |received: Received| {
            refused.set(received.violation);
            TestAnswer::refusal(received.violation.unwrap())
        };
        let read = BytesMut::from(&b"BAD\r\n"[..]);
        http1::serve(Script::new(vec![], Then::Waits), read, LIMITS, Rc::new(State::new()), handler)
            .await
            .unwrap();
        assert_eq!(refused.get(), Some(Violation::RequestLine));
    });
}

#[test]
fn an_answer_that_is_all_there_leaves_its_connection_to_the_next_request() {
    // Small enough to leave with its head, and too large for that.
    for length in [1, 1_000, 100_000] {
        on_one_thread(async {
            let (mut client, server) = loopback().await;
            let handler = async move |_| TestAnswer::breaking_behind_its_end(vec![b'x'; length]);
            let connection = http1::serve(server, BytesMut::new(), LIMITS, Rc::new(State::new()), handler);
            let connection = tokio::task::spawn_local(connection);
            let last = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            client.write_all(&[GOOD, GOOD, last].concat()).await.unwrap();
            let mut answers = Vec::new();
            client.read_to_end(&mut answers).await.unwrap();
            let bodies = answers.iter().filter(|byte| **byte == b'x').count();
            // Each head has one of its own.
            assert_eq!(bodies, 3 * (length + 1), "all three are answered, {length} bytes each");
            connection.await.unwrap().unwrap();
        });
    }
}
