//! HTTP/2 clients that open no window, or hardly any: what ends with their token ends all the same, and what they never take is given
//! up.

use std::time::{Duration, Instant};

use crate::support::frames::{
    DATA, END_STREAM, Frame, FrameClient, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, RST_STREAM, WINDOW_UPDATE,
};
use crate::support::sidecar::HOST;
use crate::support::{Sidecar, Upstream, until};
use crate::{greeting_tunnel, switching_for};

/// `CANCEL`.
const CANCEL: u32 = 8;

/// Longer than any test lasts.
const LONG: &str = "idle_seconds = 300";

/// What a client may be sent before it says more (RFC 9113, section 6.9.2).
const DEFAULT_WINDOW: usize = 65_535;

/// Pours frames into each WebSocket and bytes into each answer, as long as they are taken.
fn pouring() -> Upstream {
    Upstream::start(|peer| {
        if let Some(head) = peer.read_head() {
            let switching = head.header("sec-websocket-key").map(switching_for);
            let begun = switching.unwrap_or_else(|| "HTTP/1.1 200 OK\r\n\r\n".to_owned());
            let frames = [0x81, 2, b'h', b'i'].repeat(4_096);
            let mut goes_on = peer.write(begun.as_bytes());
            while goes_on {
                goes_on = peer.write(&frames);
            }
            // The end is seen by reading.
            peer.read_to_end();
        }
    })
}

fn sidecar(upstream: &Upstream, timeouts: &str) -> Sidecar {
    Sidecar::in_front_of(upstream).one_worker().timeouts(timeouts).start()
}

fn closed(sidecar: &Sidecar) -> FrameClient {
    FrameClient::with_settings(sidecar.address(), &[(INITIAL_WINDOW_SIZE, 0)])
}

/// Asks on a stream, and waits for the answer's head.
#[track_caller]
fn ask(client: &mut FrameClient, stream: u32, what: What, token: &str) {
    let authorization = format!("Bearer {token}");
    let mut head = match what {
        What::Answer => vec![(":method", "GET")],
        What::WebSocket => vec![(":method", "CONNECT"), (":protocol", "websocket")],
    };
    head.extend([
        (":scheme", "http"),
        (":authority", HOST),
        (":path", "/"),
        ("authorization", &authorization),
    ]);
    let flags = match what {
        What::Answer => END_STREAM,
        What::WebSocket => {
            head.push(("sec-websocket-version", "13"));
            0
        }
    };
    client.send_head(stream, flags, &head);
    let is_head = |frame: &Frame| frame.kind == HEADERS && frame.stream == stream;
    let answered = std::iter::from_fn(|| client.read()).find(is_head).expect("an answer");
    assert_eq!(answered.flags & END_STREAM, 0, "{answered:?}");
}

#[derive(Clone, Copy, Debug)]
enum What {
    Answer,
    WebSocket,
}

/// Waits for a stream to be reset, and for nothing else to end.
#[track_caller]
fn is_reset(client: &mut FrameClient, stream: u32) {
    let frames = client.read_stream(stream);
    let last = frames.last().expect("the connection goes on");
    assert_eq!((last.kind, last.payload.as_slice()), (RST_STREAM, &CANCEL.to_be_bytes()[..]), "{frames:?}");
}

/// Revokes what one of two streams runs with.
#[track_caller]
fn ends_alone(upstream: &Upstream, what: What) {
    let sidecar = sidecar(upstream, LONG);
    let doomed = sidecar.directory.permitted();
    sidecar.wait_for(&doomed);
    let mut client = closed(&sidecar);
    ask(&mut client, 1, what, &doomed.token);
    ask(&mut client, 3, what, &sidecar.permitted.token);
    let revoked = Instant::now();
    sidecar.directory.revoke(&doomed.prefix);
    is_reset(&mut client, 1);
    upstream.wait_closed(0);
    println!("{what:?}: {:?}", revoked.elapsed());
    assert!(revoked.elapsed().as_secs() < 5, "{:?}", revoked.elapsed());
    assert_eq!(upstream.open_connections(), 1, "the other one's");
    client.send(WINDOW_UPDATE, 0, 3, &1_000_u32.to_be_bytes());
    let frame =
        std::iter::from_fn(|| client.read()).find(|frame| frame.stream == 3).expect("the other goes on");
    assert_eq!(frame.kind, DATA, "{frame:?}");
}

#[test]
fn a_revoked_token_ends_an_answer_whose_window_is_closed() {
    ends_alone(&pouring(), What::Answer);
}

#[test]
fn a_revoked_token_ends_a_websocket_whose_window_is_closed() {
    ends_alone(&pouring(), What::WebSocket);
}

#[test]
fn a_revoked_token_ends_a_websocket_whose_client_does_not_take_its_end() {
    ends_alone(&greeting_tunnel(&[0x81, 2, b'h', b'i']), What::WebSocket);
}

#[test]
fn a_websocket_whose_client_takes_nothing_is_given_up() {
    let upstream = pouring();
    let sidecar = sidecar(&upstream, "idle_seconds = 2");
    let mut client = closed(&sidecar);
    let asked = Instant::now();
    ask(&mut client, 1, What::WebSocket, &sidecar.permitted.token);
    is_reset(&mut client, 1);
    assert!(asked.elapsed() >= Duration::from_secs(2), "{:?}", asked.elapsed());
    upstream.wait_closed(0);
    assert!(client.is_in_step(), "the connection is still good");
}

/// After a fast beginning, a window of a page opens each quarter of a second, for twice the sidecar's patience.
#[track_caller]
fn may_be_taken_slowly(what: What) {
    let upstream = pouring();
    let sidecar = sidecar(&upstream, "idle_seconds = 2");
    let mut client = FrameClient::connect(sidecar.address());
    ask(&mut client, 1, what, &sidecar.permitted.token);
    take(&mut client, DEFAULT_WINDOW);
    for _ in 0..16 {
        std::thread::sleep(Duration::from_millis(250));
        client.send(WINDOW_UPDATE, 0, 1, &4_096_u32.to_be_bytes());
        client.send(WINDOW_UPDATE, 0, 0, &4_096_u32.to_be_bytes());
        take(&mut client, 4_096);
    }
    // What is slow is alive; what stops is not.
    is_reset(&mut client, 1);
    until("the upstream to be left alone", || upstream.open_connections() == 0);
}

#[track_caller]
fn take(client: &mut FrameClient, size: usize) {
    let mut taken = 0;
    while taken < size {
        let frame = client.read().expect("it goes on");
        assert!(!matches!(frame.kind, RST_STREAM | GOAWAY), "after {taken} bytes: {frame:?}");
        if frame.kind == DATA {
            taken += frame.payload.len();
        }
    }
}

#[test]
fn a_slow_download_is_not_given_up() {
    may_be_taken_slowly(What::Answer);
}

#[test]
fn a_slow_websocket_is_not_given_up() {
    may_be_taken_slowly(What::WebSocket);
}

#[test]
fn a_websocket_in_which_nothing_waits_is_not_given_up() {
    let upstream = greeting_tunnel(&[0x81, 2, b'h', b'i']);
    let sidecar = sidecar(&upstream, "idle_seconds = 1");
    let mut client = FrameClient::connect(sidecar.address());
    ask(&mut client, 1, What::WebSocket, &sidecar.permitted.token);
    take(&mut client, 4);
    std::thread::sleep(Duration::from_secs(3));
    client.send(DATA, 0, 1, b"!");
    take(&mut client, 1);
}
