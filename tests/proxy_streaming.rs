//! Bodies on their way: as they come, in both directions, with backpressure and trailers, in bounded memory.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; figures are shown")]

#[path = "proxy_streaming/cut.rs"]
mod cut;
mod support;

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Frame;
use support::http2::{full, request_with};
use support::{Client, Http2Client, PATIENCE, Sidecar, Upstream, eventually, until};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const MEBIBYTE: usize = 1024 * 1024;
const BIG: usize = 64 * MEBIBYTE;

/// What a big body may cost the sidecar in memory: socket and connection buffers, not the body.
const BOUND: u64 = 24 * MEBIBYTE as u64;

/// Waits until a count has stopped growing, and returns it.
fn settled(count: &AtomicUsize) -> usize {
    let mut last = (count.load(Ordering::SeqCst), std::time::Instant::now());
    eventually("the sidecar to stop taking more", || {
        let now = count.load(Ordering::SeqCst);
        if now != last.0 {
            last = (now, std::time::Instant::now());
        }
        (last.1.elapsed() > Duration::from_millis(300)).then_some(now)
    })
}

/// Sends [`BIG`] bytes, counting what is taken.
fn big_download(sent: &Arc<AtomicUsize>) -> Upstream {
    let sent = Arc::clone(sent);
    Upstream::start(move |peer| {
        while peer.read_request().is_some() {
            peer.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {BIG}\r\n\r\n").as_bytes());
            let chunk = vec![7; MEBIBYTE / 16];
            for _ in 0..BIG / chunk.len() {
                if !peer.write(&chunk) {
                    return;
                }
                sent.fetch_add(chunk.len(), Ordering::SeqCst);
            }
        }
    })
}

#[test]
fn a_big_response_waits_for_a_slow_reader() {
    let sent = Arc::new(AtomicUsize::new(0));
    let upstream = big_download(&sent);
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let before = sidecar.resident_bytes();
    let mut client = sidecar.connect();
    client.send(sidecar.get());
    assert_eq!(client.read_head().unwrap().status, 200);
    let taken = settled(&sent);
    assert!(taken < BIG / 2, "{taken} bytes were taken for a client that reads nothing");
    let grown = sidecar.resident_bytes().saturating_sub(before);
    assert!(grown < BOUND, "{grown} bytes of memory for a client that reads nothing");
    assert_eq!(client.read_exactly(BIG).len(), BIG);
    let grown = sidecar.resident_bytes().saturating_sub(before);
    println!("64 MiB down: {taken} bytes ahead of a client that reads nothing, {grown} bytes of memory");
    assert!(grown < BOUND, "{grown} bytes of memory after 64 MiB");
}

#[test]
fn a_big_response_over_http2_waits_for_a_slow_reader() {
    let sent = Arc::new(AtomicUsize::new(0));
    let upstream = big_download(&sent);
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let before = sidecar.resident_bytes();
    let mut client = Http2Client::connect(sidecar.address());
    let response = client.send(support::http2::get(&sidecar, "/")).unwrap();
    let taken = settled(&sent);
    assert!(taken < BIG / 2, "{taken} bytes were taken for a client that reads nothing");
    let response = client.collect(response).unwrap();
    assert_eq!(response.body.len(), BIG);
    let grown = sidecar.resident_bytes().saturating_sub(before);
    assert!(grown < BOUND, "{grown} bytes of memory after 64 MiB");
}

#[test]
fn a_big_upload_waits_for_a_slow_upstream() {
    let (go_on, told) = mpsc::channel::<()>();
    let told = parking_lot::Mutex::new(told);
    let upstream = Upstream::start(move |peer| {
        let Some(head) = peer.read_head() else { return };
        let _go_on = told.lock().recv_timeout(PATIENCE);
        let length = head.header("content-length").unwrap().parse().unwrap();
        if peer.read_exactly(length).is_some() {
            peer.respond(200, &[], length.to_string().as_bytes());
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let before = sidecar.resident_bytes();
    let mut client = sidecar.connect();
    client.send(sidecar.head("POST /", &format!("Content-Length: {BIG}\r\n")));
    let sent = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&sent);
    let uploading = std::thread::spawn(move || {
        let chunk = vec![7; MEBIBYTE / 16];
        for _ in 0..BIG / chunk.len() {
            client.send(&chunk);
            counting.fetch_add(chunk.len(), Ordering::SeqCst);
        }
        client
    });
    let taken = settled(&sent);
    assert!(taken < BIG / 2, "{taken} bytes were taken for an upstream that reads nothing");
    let grown = sidecar.resident_bytes().saturating_sub(before);
    assert!(grown < BOUND, "{grown} bytes of memory for an upstream that reads nothing");
    go_on.send(()).unwrap();
    let mut client: Client = uploading.join().unwrap();
    assert_eq!(client.response().text(), BIG.to_string());
    let grown = sidecar.resident_bytes().saturating_sub(before);
    println!("64 MiB up: {taken} bytes ahead of an upstream that reads nothing, {grown} bytes of memory");
    assert!(grown < BOUND, "{grown} bytes of memory after 64 MiB");
}

#[test]
fn a_big_upload_over_http2_arrives_whole() {
    let upstream = Upstream::start(|peer| {
        while let Some(request) = peer.read_request() {
            peer.respond(200, &[], request.body.len().to_string().as_bytes());
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let body = full(vec![7; 8 * MEBIBYTE]);
    let request = request_with(&sidecar.permitted.token, "POST", "/", body);
    let response = Http2Client::connect(sidecar.address()).request(request);
    assert_eq!(response.text(), (8 * MEBIBYTE).to_string());
}

/// Sends back each chunk as it comes.
fn chunk_by_chunk() -> Upstream {
    Upstream::start(|peer| {
        while peer.read_head().is_some() {
            peer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while let Some(size) = peer.read_line() {
                let size = usize::from_str_radix(&size, 16).unwrap();
                let Some(mut chunk) = peer.read_exactly(size + 2) else { return };
                chunk.truncate(size);
                peer.write(format!("{size:x}\r\n").as_bytes());
                peer.write(&chunk);
                peer.write(b"\r\n");
                if size == 0 {
                    break;
                }
            }
        }
    })
}

#[test]
fn a_conversation_of_chunks() {
    let upstream = chunk_by_chunk();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = sidecar.connect();
    client.send(sidecar.head("POST /", "Transfer-Encoding: chunked\r\n"));
    // The upstream's head comes before the client has sent anything of its body.
    assert_eq!(client.read_head().unwrap().status, 200);
    for number in 0..10 {
        client.send(format!("5\r\nping{number}\r\n"));
        assert_eq!(client.read_exactly(10), format!("5\r\nping{number}\r\n").into_bytes());
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.read_exactly(5), b"0\r\n\r\n");
    assert_eq!(
        client.request(sidecar.head("POST /", "Transfer-Encoding: chunked\r\n") + "0\r\n\r\n").status,
        200
    );
}

#[test]
fn a_conversation_over_http2() {
    let upstream = chunk_by_chunk();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = Http2Client::connect(sidecar.address());
    let (sender, receiver) = unbounded_channel();
    let body = Received(receiver).boxed();
    let response = client.send(request_with(&sidecar.permitted.token, "POST", "/", body)).unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    for number in 0..10 {
        let ping = format!("ping{number}");
        sender.send(Frame::data(ping.clone().into())).unwrap();
        let frame = client.runtime.block_on(async { tokio::time::timeout(PATIENCE, body.frame()).await });
        let frame = frame.expect("a frame in time").expect("a frame").unwrap();
        assert_eq!(frame.into_data().unwrap(), ping);
    }
    drop(sender);
    let rest = client.runtime.block_on(async { tokio::time::timeout(PATIENCE, body.collect()).await });
    assert!(rest.expect("the end in time").unwrap().to_bytes().is_empty());
}

/// A body of what is sent into a channel.
struct Received(UnboundedReceiver<Frame<Bytes>>);

impl hyper::body::Body for Received {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(context).map(|frame| frame.map(Ok))
    }
}

#[test]
fn a_response_comes_on_while_it_is_open() {
    let (go_on, told) = mpsc::channel::<&'static str>();
    let told = parking_lot::Mutex::new(told);
    let upstream = Upstream::start(move |peer| {
        if peer.read_request().is_some() {
            peer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while let Ok(event) = told.lock().recv_timeout(PATIENCE) {
                peer.write(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
            }
            peer.write(b"0\r\n\r\n");
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = sidecar.connect();
    client.send(sidecar.get());
    assert_eq!(client.read_head().unwrap().status, 200);
    for event in ["first", "other"] {
        go_on.send(event).unwrap();
        assert_eq!(client.read_exactly(10), format!("5\r\n{event}\r\n").into_bytes());
    }
    drop(go_on);
    assert_eq!(client.read_exactly(5), b"0\r\n\r\n");
}

#[test]
fn trailers_of_the_upstream_arrive() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Grpc-Status, X-Checksum\r\n\r\n\
         5\r\nhello\r\n0\r\nGrpc-Status: 0\r\nX-Checksum: abc\r\n\r\n",
    );
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let over_2 = Http2Client::connect(sidecar.address()).request(support::http2::get(&sidecar, "/"));
    let over_1 = sidecar.request(sidecar.head("GET /", "TE: trailers\r\n"));
    for response in [over_1, over_2] {
        assert_eq!(response.text(), "hello");
        let mut trailers = response.trailers.clone();
        trailers.sort();
        assert_eq!(trailers, [("grpc-status".into(), "0".into()), ("x-checksum".into(), "abc".into())]);
    }
}

#[test]
fn methods_and_statuses_without_a_body() {
    let upstream = Upstream::start(|peer| {
        while let Some(request) = peer.read_request() {
            match request.target.as_str() {
                "/head" => peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"),
                "/204" => peer.write(b"HTTP/1.1 204 No Content\r\n\r\n"),
                "/304" => peer.write(b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 99\r\n\r\n"),
                "/103" => peer.write(
                    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                ),
                _ => peer.respond(200, &[("allow", "GET, POST")], b""),
            };
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream).one_worker().start();
    let mut client = sidecar.connect();
    // All on one connection: nothing may be left over after any of them.
    for _ in 0..2 {
        let response = client.request(sidecar.head("HEAD /head", ""));
        assert_eq!((response.status, response.header("content-length")), (200, Some("1234")));
        assert_eq!(client.request(sidecar.head("GET /204", "")).status, 204);
        let response = client.request(sidecar.head("GET /304", "If-None-Match: \"x\"\r\n"));
        assert_eq!((response.status, response.header("etag")), (304, Some("\"x\"")));
        let response = client.request(sidecar.head("OPTIONS /options", ""));
        assert_eq!((response.status, response.header("allow")), (200, Some("GET, POST")));
        assert_eq!(client.request(sidecar.head("GET /103", "")).status, 103);
        let response = client.response();
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    }
    assert_eq!(upstream.connections(), 1);
    let head = request_with(&sidecar.permitted.token, "HEAD", "/head", support::http2::empty());
    let response = Http2Client::connect(sidecar.address()).request(head);
    assert_eq!((response.status, response.header("content-length")), (200, Some("1234")));
    let requests = upstream.requests();
    assert!(requests.iter().all(|request| request.header("transfer-encoding").is_none()), "{requests:?}");
}

#[test]
fn both_framings_arrive_as_sent() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    sidecar.request(sidecar.head("POST /length", "Content-Length: 5\r\n") + "hello");
    sidecar.request(
        sidecar.head("POST /chunks", "Transfer-Encoding: chunked\r\n") + "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    );
    sidecar.request(sidecar.head("POST /nothing", "Content-Length: 0\r\n"));
    let request =
        |target: &str| upstream.requests().into_iter().find(|request| request.target == target).unwrap();
    assert_eq!(request("/length").values("content-length"), ["5"]);
    assert_eq!(request("/length").body, b"hello");
    assert_eq!(request("/chunks").values("transfer-encoding"), ["chunked"]);
    assert_eq!(request("/chunks").header("content-length"), None);
    assert_eq!(request("/chunks").body, b"hello");
    assert_eq!(request("/nothing").header("transfer-encoding"), None);
}

#[test]
fn bytes_both_ways_are_counted() {
    let upstream = Upstream::start(|peer| {
        while peer.read_request().is_some() {
            peer.respond(200, &[], &[7; 1000]);
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let response = sidecar.request(sidecar.head("POST /", "Content-Length: 5\r\n") + "hello");
    assert_eq!(response.body.len(), 1000);
    let log = sidecar.access_log(1);
    assert_eq!((&log[0]["bytes_received"], &log[0]["bytes_sent"]), (&5.into(), &1000.into()));
    until("no connection to be open", || sidecar.metric("postern_connections{listener=\"main\"}") < 0.5);
}
