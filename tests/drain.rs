//! Stopping: not ready, no new connections, what runs finishes, clients are told, and the process ends within its
//! grace.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; figures are shown")]

mod support;

use std::net::TcpStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use support::client::Broken;
use support::frames::{DATA, END_STREAM, Frame, FrameClient, GOAWAY, HEADERS};
use support::sidecar::HOST;
use support::{Http2Client, PATIENCE, Sidecar, Upstream, until};

/// An upstream that answers when told to.
fn answering_when_told() -> (Upstream, mpsc::Sender<()>) {
    let (go_on, told) = mpsc::channel();
    let told = parking_lot::Mutex::new(told);
    let upstream = Upstream::start(move |peer| {
        while let Some(request) = peer.read_request() {
            if request.target == "/slow" && told.lock().recv_timeout(PATIENCE).is_err() {
                return;
            }
            peer.respond(200, &[], b"finished");
        }
    });
    (upstream, go_on)
}

#[test]
fn what_runs_finishes_and_nothing_new_begins() {
    let (upstream, go_on) = answering_when_told();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut slow = sidecar.connect();
    slow.send(sidecar.head("GET /slow", ""));
    let mut idle = sidecar.connect();
    assert_eq!(idle.request(sidecar.get()).status, 200);
    let mut silent = sidecar.connect();
    until("the slow request to run", || upstream.requests().iter().any(|request| request.target == "/slow"));

    sidecar.signal("TERM");
    let asked = Instant::now();
    until("it not to be ready", || sidecar.ops("/readyz").status == 503);
    println!("not ready after {:?}", asked.elapsed());
    assert_eq!(sidecar.ops("/healthz").status, 200, "it is alive as long as it drains");
    idle.assert_closed();
    silent.assert_closed();
    until("new connections to be refused", || TcpStream::connect(sidecar.address()).is_err());
    assert!(sidecar.is_running());

    go_on.send(()).unwrap();
    let response = slow.response();
    assert_eq!((response.status, response.text().as_str()), (200, "finished"));
    assert_eq!(response.values("connection"), ["close"], "the client is told");
    slow.assert_closed();
    sidecar.assert_finished();
}

#[test]
fn http2_clients_are_told_and_their_streams_finish() {
    let (upstream, go_on) = answering_when_told();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let authorization = format!("Bearer {}", sidecar.permitted.token);
    let mut client = FrameClient::connect(sidecar.address());
    let head = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", HOST),
        (":path", "/slow"),
        ("authorization", &authorization),
    ];
    client.send_head(1, END_STREAM, &head);
    until("the slow request to run", || upstream.requests().len() == 1);
    sidecar.signal("TERM");
    let mut goaway = false;
    while !goaway {
        goaway = client.read().expect("a GOAWAY").kind == GOAWAY;
    }
    go_on.send(()).unwrap();
    let frames: Vec<_> = std::iter::from_fn(|| client.read()).collect();
    assert!(frames.iter().any(|frame| frame.kind == HEADERS && frame.stream == 1), "{frames:?}");
    let ends = |frame: &Frame| frame.kind == DATA && frame.stream == 1 && frame.flags & END_STREAM != 0;
    assert!(frames.iter().any(ends), "{frames:?}");
    sidecar.assert_finished();
}

#[test]
fn an_idle_http2_connection_does_not_hold_it_up() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = Http2Client::connect(sidecar.address());
    assert_eq!(client.request(support::http2::get(&sidecar, "/")).status, 200);
    let asked = Instant::now();
    sidecar.signal("TERM");
    let ended =
        client.runtime.block_on(async { tokio::time::timeout(PATIENCE, &mut client.connection).await });
    ended.expect("the connection ends in time").unwrap().unwrap();
    sidecar.assert_finished();
    println!("stopped with an idle HTTP/2 connection after {:?}", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}

#[test]
fn half_a_request_does_not_hold_it_up_for_long() {
    let upstream = Upstream::echo();
    let sidecar =
        Sidecar::in_front_of(&upstream).timeouts("header_read_seconds = 1\ndrain_seconds = 20").start();
    let mut half = sidecar.connect();
    half.send("GET / HTTP/1.1\r\nHost: ");
    until("the half request to be read", || sidecar.metric("postern_connections{listener=\"main\"}") > 0.5);
    let asked = Instant::now();
    sidecar.signal("TERM");
    sidecar.assert_finished();
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
}

#[test]
fn a_process_without_file_descriptors_ends_too() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut idle = sidecar.connect();
    assert_eq!(idle.request(sidecar.get()).status, 200);
    let process = rustix::process::Pid::from_raw(i32::try_from(sidecar.id()).unwrap()).unwrap();
    let limit = rustix::process::Rlimit { current: Some(3), maximum: Some(3) };
    rustix::process::prlimit(Some(process), rustix::process::Resource::Nofile, limit).unwrap();
    let _waiting: Vec<_> = (0..20).map(|_| TcpStream::connect(sidecar.address()).unwrap()).collect();
    until("accepting to fail", || sidecar.output().contains("cannot accept connections"));
    sidecar.signal("TERM");
    idle.assert_closed();
    sidecar.assert_finished();
}

#[test]
fn after_its_grace_it_breaks_off_what_still_runs() {
    let (upstream, _go_on) = answering_when_told();
    let sidecar = Sidecar::in_front_of(&upstream).timeouts("drain_seconds = 1").start();
    let mut slow = sidecar.connect();
    slow.send(sidecar.head("GET /slow", ""));
    until("the slow request to run", || upstream.requests().len() == 1);
    let asked = Instant::now();
    sidecar.signal("TERM");
    assert!(matches!(slow.try_response(), Err(Broken::Closed)), "it is broken off");
    sidecar.assert_forced();
    let taken = asked.elapsed();
    println!("grace 1 s: ended after {taken:?}");
    assert!(taken >= Duration::from_secs(1) && taken < Duration::from_secs(5), "{taken:?}");
    assert_eq!(sidecar.access_log(1)[0]["ending"], "client_aborted");
}

#[test]
fn a_second_signal_cuts_the_grace_short() {
    let (upstream, _go_on) = answering_when_told();
    let sidecar = Sidecar::in_front_of(&upstream).timeouts("drain_seconds = 600").start();
    let mut slow = sidecar.connect();
    slow.send(sidecar.head("GET /slow", ""));
    until("the slow request to run", || upstream.requests().len() == 1);
    sidecar.signal("TERM");
    until("it not to be ready", || sidecar.ops("/readyz").status == 503);
    sidecar.signal("TERM");
    sidecar.assert_forced();
}

#[test]
fn nothing_is_left_behind() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
    sidecar.stop();
    assert!(!sidecar.folder().join("store.db.control").exists(), "the control socket goes with the process");
    let log = sidecar.access_log(1);
    assert_eq!(log.len(), 1, "the last lines are written");
}
