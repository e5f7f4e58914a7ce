//! Hostile traffic of an endurance run. Whatever it asks for is [`NEVER`], and the services count that.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::endurance::world::{NEVER, Random, World};
use crate::support::PATIENCE;
use crate::support::frames::{END_STREAM, FrameClient, RST_STREAM};
use crate::support::sidecar::HOST;

const KIND: &str = "attack";

/// One attack after another.
pub fn mixed(world: &World, random: &mut Random) {
    let plain = world.sidecar.address();
    let good = &world.spare.token;
    let line = format!("GET {NEVER} HTTP/1.1\r\nHost: {HOST}\r\n");
    while !world.is_over() {
        match random.below(8) {
            0 => {
                let length = 1 + random.below(4_000);
                send(plain, &random.bytes(length), &[]);
                world.ledger.count(KIND, "garbage");
            }
            1 => {
                send(plain, format!("{line}\r\n").as_bytes(), b" 401 ");
                world.ledger.count(KIND, "no token");
            }
            2 => {
                let token = format!("psta_{:028x}", random.next());
                send(plain, format!("{line}Authorization: Bearer {token}\r\n\r\n").as_bytes(), b" 401 ");
                world.ledger.count(KIND, "guessed token");
            }
            3 => {
                let smuggled = format!("0\r\n\r\n{line}\r\n");
                let head = format!(
                    "POST / HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {good}\r\nTransfer-Encoding: chunked\r\nContent-Length: {}\r\n\r\n",
                    smuggled.len()
                );
                send(plain, format!("{head}{smuggled}").as_bytes(), b" 400 ");
                world.ledger.count(KIND, "smuggled request");
            }
            4 => {
                send(world.tls_address(), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[]);
                world.ledger.count(KIND, "TLS handshake broken off");
            }
            5 => {
                let mut client = FrameClient::connect(plain);
                let fields =
                    [(":method", "GET"), (":scheme", "http"), (":authority", HOST), (":path", NEVER)];
                for number in 0..300 {
                    client.send_head(2 * number + 1, END_STREAM, &fields);
                    client.send(RST_STREAM, 0, 2 * number + 1, &8_u32.to_be_bytes());
                }
                world.ledger.count(KIND, "HTTP/2 rapid reset");
            }
            6 => {
                send(
                    plain,
                    format!("{line}Authorization: Bearer {good}\r\nHost: other.test\r\n\r\n").as_bytes(),
                    b" 400 ",
                );
                world.ledger.count(KIND, "two hosts");
            }
            _ => {
                send(plain, format!("{line}X: {}\r\n\r\n", "x".repeat(100 << 10)).as_bytes(), &[]);
                world.ledger.count(KIND, "enormous head");
            }
        }
        world.pause(Duration::from_millis(20));
    }
}

/// Connections that never say all, some dozens at once.
pub fn slow(world: &World, _: &mut Random) {
    let mut open = Vec::new();
    while !world.is_over() {
        let mut socket = TcpStream::connect_timeout(&world.sidecar.address(), PATIENCE).unwrap();
        let _closed_already =
            socket.write_all(format!("GET {NEVER} HTTP/1.1\r\nHost: {HOST}\r\nX-Slow: ").as_bytes());
        open.push(socket);
        for socket in &mut open {
            let _closed_already = socket.write_all(b"x");
        }
        if open.len() > 40 {
            open.remove(0);
        }
        world.ledger.count(KIND, "slow head");
        world.pause(Duration::from_millis(200));
    }
}

/// Permitted requests whose client goes away in the middle of the answer.
pub fn broken_off(world: &World, _: &mut Random) {
    while !world.is_over() {
        let mut socket = TcpStream::connect_timeout(&world.sidecar.address(), PATIENCE).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let _closed_already =
            socket.write_all(world.sidecar.head_with(&world.spare.token, "GET /large", "").as_bytes());
        let _some = socket.read(&mut [0; 1000]);
        world.ledger.count(KIND, "client gone within an answer");
        world.pause(Duration::from_millis(100));
    }
}

/// Sends bytes and the end, and waits for the other side's; a status line, if there is one to be, is the expected one.
fn send(address: SocketAddr, bytes: &[u8], status: &[u8]) {
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    let _closed_already = socket.write_all(bytes);
    let mut received = Vec::new();
    if status.is_empty() {
        let _closed_already = socket.shutdown(Shutdown::Write);
        let _reset = socket.read_to_end(&mut received);
        return;
    }
    let mut part = [0; 4096];
    while received.len() < 16 {
        match socket.read(&mut part) {
            Ok(0) | Err(_) => break,
            Ok(length) => received.extend(&part[..length]),
        }
    }
    let text = String::from_utf8_lossy(&received);
    assert!(
        received.windows(status.len()).take(16).any(|part| part == status),
        "{status:?} was expected, not {text}"
    );
}
