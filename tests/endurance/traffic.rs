//! Good traffic of an endurance run, by all protocols, with tokens of which some have ended; every answer is judged.

use std::net::TcpStream;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};

use crate::endurance::ledger::{Phase, Service};
use crate::endurance::world::{FAULTY_HOST, Random, World};
use crate::support::http2::{self, Http2Client};
use crate::support::sidecar::HOST;
use crate::support::{Client, PATIENCE, Response};

/// Between two requests of one thread.
const PACE: Duration = Duration::from_millis(10);

const OFFER: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const MASK: [u8; 4] = [7, 5, 3, 1];

/// HTTP/1.1 on a connection that is kept.
pub fn kept(world: &World, random: &mut Random) {
    http1("HTTP/1.1, kept", world, random, true, || connect(world));
}

/// HTTP/1.1 on a new connection each.
pub fn new(world: &World, random: &mut Random) {
    http1("HTTP/1.1, new", world, random, false, || connect(world));
}

/// HTTP/1.1 over TLS, on a new connection each, with both versions.
pub fn over_tls(world: &World, random: &mut Random) {
    let configs = [&TLS12, &TLS13].map(|version| world.authority.client(&[version], &[]));
    let mut turn = 0;
    http1("HTTP/1.1 over TLS, new", world, random, false, move || {
        turn += 1;
        let stream = TcpStream::connect_timeout(&world.tls_address(), PATIENCE)?;
        Client::on(stream).over_tls(HOST, configs[turn % 2].clone())
    });
}

/// HTTP/1.1 to the service that fails.
pub fn to_faulty(world: &World, random: &mut Random) {
    let mut client = None;
    while !world.is_over() {
        let asked = world.any_pass(random).asks();
        let head = head(FAULTY_HOST, &asked.pass.credential.token, "GET /", 0);
        let answer = exchange(&mut client, || connect(world), head.as_bytes());
        world.ledger.judge(
            "HTTP/1.1 to the faulty",
            Service::Faulty,
            &asked,
            answer.as_ref().map_err(String::as_str),
        );
        world.pause(PACE);
    }
}

/// HTTP/2, a hundred requests a connection.
pub fn http2(world: &World, random: &mut Random) {
    const KIND: &str = "HTTP/2";
    while !world.is_over() {
        let mut client = Http2Client::connect(world.sidecar.address());
        for _ in 0..100 {
            if world.is_over() {
                break;
            }
            let asked = world.any_pass(random).asks();
            let body = body_for(&asked.pass.phase(), random);
            let method = if body.is_empty() { "GET" } else { "POST" };
            let request =
                http2::request_with(&asked.pass.credential.token, method, "/", http2::full(body.clone()));
            let answer = client.try_request(request).map_err(|error| error.to_string());
            check_body(&answer, &body);
            world.ledger.judge(KIND, Service::Sound, &asked, answer.as_ref().map_err(String::as_str));
            if answer.is_err() {
                break;
            }
            world.pause(PACE);
        }
    }
}

/// WebSockets that are used for some seconds, or until their token ends.
pub fn websockets(world: &World, random: &mut Random) {
    const KIND: &str = "WebSocket";
    while !world.is_over() {
        let asked = world.any_pass(random).asks();
        if asked.pass.phase() != Phase::Good {
            continue;
        }
        let request = world.sidecar.head_with(&asked.pass.credential.token, "GET /socket", OFFER);
        let Ok(mut client) = connect(world) else { continue };
        let sending = client.try_send(request);
        match client.read_head() {
            Ok(head) if head.status == 101 => {}
            Ok(_) if !asked.was_good() => continue,
            other => panic!("a WebSocket was expected ({sending:?}), not {other:?}"),
        }
        world.ledger.count(KIND, "opened");
        for number in 0..200_u32 {
            let message = number.to_be_bytes();
            let mut frame = vec![0x82, 0x84];
            frame.extend(MASK);
            frame.extend(message.iter().zip(MASK).map(|(byte, mask)| byte ^ mask));
            let _ended_already = client.try_send(&frame);
            let mut expected = vec![0x82, 4];
            expected.extend(message);
            let Ok(received) = client.try_read_exactly(expected.len()) else {
                world.ledger.stream_ended(KIND, &asked);
                break;
            };
            if received[0] == 0x88 {
                assert_eq!(received[2..4], 1008_u16.to_be_bytes(), "how it was closed");
                world.ledger.stream_ended(KIND, &asked);
                break;
            }
            assert_eq!(received, expected, "the message comes back");
            world.ledger.goes_on(KIND, &asked.pass);
            world.ledger.count(KIND, "messages there and back");
            if world.is_over() {
                break;
            }
            world.pause(2 * PACE);
        }
    }
}

fn http1(
    kind: &'static str,
    world: &World,
    random: &mut Random,
    is_kept: bool,
    mut open: impl FnMut() -> std::io::Result<Client>,
) {
    let mut client = None;
    while !world.is_over() {
        let asked = world.any_pass(random).asks();
        let body = body_for(&asked.pass.phase(), random);
        let large = body.is_empty() && random.below(50) == 0;
        let request = match (body.is_empty(), large) {
            (true, true) => "GET /large",
            (true, false) => "GET /",
            (false, _) => "POST /",
        };
        let mut bytes = head(HOST, &asked.pass.credential.token, request, body.len()).into_bytes();
        bytes.extend(&body);
        let answer = exchange(&mut client, &mut open, &bytes);
        if !large {
            check_body(&answer, &body);
        }
        world.ledger.judge(kind, Service::Sound, &asked, answer.as_ref().map_err(String::as_str));
        if !is_kept {
            client = None;
        }
        world.pause(PACE);
    }
}

/// Mostly none, at times much: only with a good token, since who is refused need not be listened to.
fn body_for(phase: &Phase, random: &mut Random) -> Vec<u8> {
    let length = match random.below(100) {
        _ if *phase != Phase::Good => 0,
        0 => 1 << 20,
        1..=9 => random.below(64 << 10),
        _ => 0,
    };
    random.bytes(length)
}

fn check_body(answer: &Result<Response, String>, body: &[u8]) {
    if let Ok(response) = answer
        && response.status == 200
    {
        assert!(response.body == body, "what comes back is what was sent, {} bytes", body.len());
    }
}

fn head(host: &str, token: &str, request: &str, length: usize) -> String {
    format!(
        "{request} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n"
    )
}

fn connect(world: &World) -> std::io::Result<Client> {
    TcpStream::connect_timeout(&world.sidecar.address(), PATIENCE).map(Client::on)
}

/// Sends on the connection that is there, or a new one, and keeps it for the next if it may be.
fn exchange(
    kept: &mut Option<Client>,
    mut open: impl FnMut() -> std::io::Result<Client>,
    bytes: &[u8],
) -> Result<Response, String> {
    let mut client = match kept.take() {
        Some(client) => client,
        None => open().map_err(|error| format!("not connected: {error}"))?,
    };
    let sending = client.try_send(bytes);
    let response = client.try_response().map_err(|broken| format!("{broken:?}, sent: {sending:?}"))?;
    if !response.values("connection").contains(&"close") {
        *kept = Some(client);
    }
    Ok(response)
}
