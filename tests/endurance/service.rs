//! The services of an endurance run: one that always answers, and one that fails in ways that change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use crate::endurance::world::NEVER;
use crate::support::upstream::Request;
use crate::support::{Peer, Upstream};

/// How many ways to fail [`faulty`] has; 0 is to answer.
pub const FAULTS: u8 = 6;

const LARGE: usize = 1 << 20;

const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Answers with the request's body, or a large one, or as a WebSocket, and says whose token it was told of. Counts what must
/// not arrive.
pub fn sound(arrived: Arc<AtomicU64>) -> Upstream {
    Upstream::start(move |peer| {
        while let Some(request) = peer.read_request() {
            peer.forget();
            if request.target.contains(NEVER) {
                arrived.fetch_add(1, Ordering::SeqCst);
            }
            if request.header("upgrade").is_some() {
                peer.write(SWITCHING);
                return repeat_messages(peer);
            }
            let large = request.target == "/large";
            let body = if large { vec![b'x'; LARGE] } else { request.body.clone() };
            if !answer(peer, &request, &body) {
                return;
            }
        }
    })
}

/// Fails as it is told to.
pub fn faulty(fault: Arc<AtomicU8>) -> Upstream {
    Upstream::start(move |peer| {
        while let Some(request) = peer.read_request() {
            peer.forget();
            match fault.load(Ordering::SeqCst) {
                0 => {
                    if !answer(peer, &request, b"sound at the moment") {
                        return;
                    }
                    continue;
                }
                1 => {}
                2 => drop(peer.write(b"HTTP/1.1 200 OK\r\nContent-Len")),
                3 => drop(peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot all of it")),
                4 => drop(peer.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")),
                _ => std::thread::sleep(Duration::from_millis(300)),
            }
            return;
        }
    })
}

fn answer(peer: &mut Peer, request: &Request, body: &[u8]) -> bool {
    let prefix = request.header("x-postern-token-prefix").unwrap_or_default();
    peer.respond(200, &[("x-seen-prefix", prefix)], body)
}

/// Sends back each short message, until it is told to close.
fn repeat_messages(peer: &mut Peer) {
    while let Some(head) = peer.read_exactly(2) {
        let length = usize::from(head[1] & 0x7f);
        let Some(masked) = peer.read_exactly(4 + length) else { return };
        let (mask, payload) = masked.split_at(4);
        let plain = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        let mut frame = vec![head[0], head[1] & 0x7f];
        frame.extend(plain);
        peer.forget();
        if !peer.write(&frame) || head[0] & 0xf == 8 {
            return;
        }
    }
}
