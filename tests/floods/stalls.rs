//! HTTP/2 clients that ask for much and take nothing: what waits for them is bounded, and given up after a while.

use http_body_util::BodyExt as _;

use crate::alone;
use crate::attacks::grown;
use crate::others::{Bound, Measure, Noticed, Others};
use crate::service::Service;
use crate::support::frames::{
    END_STREAM, FrameClient, GOAWAY, INITIAL_WINDOW_SIZE, RST_STREAM, WINDOW_UPDATE, encode_head,
};
use crate::support::http2::{empty, request_with};
use crate::support::sidecar::HOST;
use crate::support::{Http2Client, PATIENCE, Sidecar, until};

/// What clients are told that they may have under way, and what they take.
const STREAMS: u32 = 100;
const MOST_WINDOW: u32 = 0x7fff_ffff;
const DEFAULT_WINDOW: u32 = 65_535;

/// `CANCEL`.
const CANCEL: u32 = 8;

/// What the sidecar may hold of a hundred answers: of all of them together what is read at large, and of each two small pieces more and what hyper
/// holds ready.
const MOST_MEMORY: u64 = 32 * 1024 * 1024;

const MEASURE: Measure = Measure { pairs: 3, requests: 50, percent: 90 };

fn sidecar(service: &Service) -> Sidecar {
    Sidecar::with_endpoint(service.address)
        .one_worker()
        .timeouts("header_read_seconds = 1\nidle_seconds = 2")
        .start()
}

/// A client that asks for this on all the streams it may have.
fn ask(sidecar: &Sidecar, window: u32, path: &str) -> FrameClient {
    let authorization = format!("Bearer {}", sidecar.permitted.token);
    let mut client = FrameClient::with_settings(sidecar.address(), &[(INITIAL_WINDOW_SIZE, window)]);
    client.send(WINDOW_UPDATE, 0, 0, &(MOST_WINDOW - DEFAULT_WINDOW).to_be_bytes());
    for number in 0..STREAMS {
        let head = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", HOST),
            (":path", path),
            ("authorization", &authorization),
        ];
        assert!(client.send_bytes(&encode_head(number * 2 + 1, END_STREAM, &head)));
    }
    client
}

/// Lets such a client wait, and looks at what that costs.
#[track_caller]
fn costs_little(what: &str, sidecar: &Sidecar, begin: impl FnOnce() -> FrameClient) -> FrameClient {
    let others = Others::of(sidecar);
    let quiet: Vec<_> = (0..MEASURE.pairs).map(|_| MEASURE.of(&others.slice(MEASURE.requests))).collect();
    let mut client = None;
    let mut pairs = Vec::new();
    let memory = grown(sidecar, || {
        client = Some(begin());
        let attacked = quiet.iter().map(|quiet| (*quiet, MEASURE.of(&others.slice(MEASURE.requests))));
        pairs = attacked.collect();
    });
    let noticed = Noticed::of(&pairs);
    println!("{what}: {:.1} MiB, {noticed:?}", memory as f64 / 1024.0 / 1024.0);
    assert!(memory < MOST_MEMORY, "{what}: {memory} bytes of memory");
    Bound::Served.check(what, noticed);
    client.unwrap()
}

#[test]
fn answers_that_no_window_is_opened_for_are_given_up() {
    let _alone = alone();
    let service = Service::start();
    let sidecar = sidecar(&service);
    let mut client = costs_little("no window", &sidecar, || {
        let client = ask(&sidecar, 0, "/pour");
        until("the service to pour", || service.open() >= STREAMS as usize);
        client
    });
    let mut given_up = 0;
    while given_up < STREAMS {
        let frame = client.read().expect("the connection outlives its streams");
        assert_ne!(frame.kind, GOAWAY, "{frame:?}");
        if frame.kind == RST_STREAM {
            assert_eq!(frame.payload, CANCEL.to_be_bytes());
            given_up += 1;
        }
    }
    until("the service to be left alone", || service.open() <= 2);
    assert!(client.is_in_step(), "the connection is still good");
}

#[test]
fn answers_that_are_not_read_are_given_up() {
    let _alone = alone();
    let service = Service::start();
    let sidecar = sidecar(&service);
    let _client = costs_little("not read", &sidecar, || {
        let client = ask(&sidecar, MOST_WINDOW, "/pour");
        until("the service to pour", || service.open() >= STREAMS as usize);
        client
    });
    until("the service to be left alone", || service.open() <= 2);
}

#[test]
fn connections_that_served_large_answers_before_cost_no_more() {
    let _alone = alone();
    let service = Service::start();
    let sidecar = sidecar(&service);
    let mut client = Http2Client::connect(sidecar.address());
    let token = &sidecar.permitted.token;
    // All at once: what one of them leaves lying about holds up the others.
    let answers: Vec<_> = (0..STREAMS)
        .map(|_| {
            let answer = client.sender.send_request(request_with(token, "GET", "/large", empty()));
            let length =
                async { answer.await.unwrap().into_body().collect().await.unwrap().to_bytes().len() };
            client.runtime.spawn(length)
        })
        .collect();
    client.runtime.block_on(async {
        for answer in answers {
            let length = tokio::time::timeout(PATIENCE, answer).await.unwrap().unwrap();
            assert_eq!(length, 1024 * 1024);
        }
    });
    drop(client);
    let client =
        costs_little("no window, over connections that were used", &sidecar, || ask(&sidecar, 0, "/large"));
    drop(client);
}
