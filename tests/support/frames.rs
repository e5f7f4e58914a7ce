//! HTTP/2 frame by frame, for what no well-behaved client sends. Header blocks are literals without Huffman coding.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls_pki_types::ServerName;

use super::PATIENCE;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const ACKNOWLEDGED: u8 = 1;
pub const PADDED: u8 = 8;

/// Settings (RFC 9113, section 6.5.2).
pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// What a ping says that asks whether everything before it was read.
const IN_STEP: &[u8] = b"in step?";

/// What a frame may carry unless the other side says otherwise (RFC 9113, section 4.2).
const FRAME_BYTES: usize = 16 * 1024;

/// A connection that sends exactly the frames it is told to.
pub struct FrameClient {
    stream: Box<dyn Stream>,
    /// The error's number of the last GOAWAY that came.
    goodbye: Option<u32>,
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A frame as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl FrameClient {
    /// Connects and greets.
    pub fn connect(address: SocketAddr) -> Self {
        Self::with_settings(address, &[])
    }

    /// Connects and greets with these settings.
    pub fn with_settings(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        Self::greet(Box::new(socket(address)), settings)
    }

    /// The same over TLS, with a configuration that offers `h2`.
    pub fn connect_tls(address: SocketAddr, name: &str, config: Arc<rustls::ClientConfig>) -> Self {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let session = rustls::ClientConnection::new(config, name).unwrap();
        Self::greet(Box::new(rustls::StreamOwned::new(session, socket(address))), &[])
    }

    fn greet(mut stream: Box<dyn Stream>, settings: &[(u16, u32)]) -> Self {
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let mut client = Self { stream, goodbye: None };
        client.send(SETTINGS, 0, 0, &encode_settings(settings));
        client
    }

    /// Sends exactly these bytes. Whether they were taken.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).and_then(|()| self.stream.flush()).is_ok()
    }

    /// Waits until the sidecar has read everything that was sent before: true, unless it has ended the connection. What else
    /// it says is passed over.
    pub fn is_in_step(&mut self) -> bool {
        self.send(PING, 0, 0, IN_STEP);
        while let Some(frame) = self.read() {
            match frame.kind {
                PING if frame.payload == IN_STEP => return true,
                GOAWAY => return false,
                _ => {}
            }
        }
        false
    }

    /// Sends a frame; the sidecar may have closed already.
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let _closed_already = self.send_bytes(&encode(kind, flags, stream, payload));
    }

    /// Sends a request's head, or its trailers, in as many frames as it takes.
    pub fn send_head(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) {
        let block = block(fields);
        let parts: Vec<_> = block.chunks(FRAME_BYTES).collect();
        for (number, part) in parts.iter().enumerate() {
            let (kind, flags) = if number == 0 { (HEADERS, flags) } else { (CONTINUATION, 0) };
            let last = if number + 1 == parts.len() { END_HEADERS } else { 0 };
            self.send(kind, flags | last, stream, part);
        }
    }

    /// Sends data in as many frames as it takes, the last of them with these flags.
    pub fn send_data(&mut self, stream: u32, flags: u8, data: &[u8]) {
        let last = data.len().saturating_sub(1) / FRAME_BYTES * FRAME_BYTES;
        let (first, last) = data.split_at(last);
        first.chunks(FRAME_BYTES).for_each(|part| self.send(DATA, 0, stream, part));
        self.send(DATA, flags, stream, last);
    }

    /// The error's number of the last GOAWAY that was read.
    pub fn goodbye(&self) -> Option<u32> {
        self.goodbye
    }

    /// The next frame; `None` at the end of the connection. Fails where neither comes in time.
    #[track_caller]
    pub fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.fill(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.fill(&mut payload)?;
        if head[3] == GOAWAY {
            self.goodbye = payload.get(4..8).map(|code| u32::from_be_bytes(code.try_into().unwrap()));
        }
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        // An end is only final once the client has answered the ping that goes with it.
        if head[3] == PING && head[4] & ACKNOWLEDGED == 0 {
            self.send(PING, ACKNOWLEDGED, 0, &payload);
        }
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    #[track_caller]
    fn fill(&mut self, bytes: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(bytes) {
            Ok(()) => Some(()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("waited {PATIENCE:?} for a frame or the connection's end")
            }
            Err(_) => None,
        }
    }

    /// The frames of one stream, or GOAWAY, up to the one that ends it; empty if the connection ended.
    pub fn read_stream(&mut self, stream: u32) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.read() {
            let ends = match frame.kind {
                RST_STREAM => frame.stream == stream,
                GOAWAY => true,
                DATA | HEADERS => frame.stream == stream && frame.flags & END_STREAM != 0,
                _ => false,
            };
            if frame.stream == stream || frame.kind == GOAWAY {
                frames.push(frame);
            }
            if ends {
                break;
            }
        }
        frames
    }
}

/// A frame's bytes.
pub fn encode(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// What a SETTINGS frame says.
pub fn encode_settings(settings: &[(u16, u32)]) -> Vec<u8> {
    settings
        .iter()
        .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect()
}

/// A request's head in one frame.
pub fn encode_head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    encode(HEADERS, END_HEADERS | flags, stream, &block(fields))
}

fn socket(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// A header block of literals that are not indexed.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    literals(0, fields)
}

/// The same, of literals that enter the dynamic table, where the last of them has the first place (RFC 7541, sections 2.3.2 and
/// 6.2.1).
pub fn remembered(fields: &[(&str, &str)]) -> Vec<u8> {
    literals(0x40, fields)
}

/// A field of the static table, from 1 to 61, or of the dynamic one, from 62 (RFC 7541, section 6.1).
pub fn reference(place: u8) -> u8 {
    assert!((1..127).contains(&place), "{place} takes more than a byte");
    0x80 | place
}

fn literals(representation: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(representation);
        for text in [name, value] {
            push_length(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541, section 5.1).
fn push_length(block: &mut Vec<u8>, length: usize) {
    if length < 127 {
        block.push(length as u8);
        return;
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// The status that a response's header block begins with, as the static table has it or as a literal of its own (RFC 7541,
/// sections 6.1 and 6.2); `None` for anything else, a reference into the dynamic table included.
pub fn status(block: &[u8]) -> Option<u16> {
    match block {
        // Indexed, or a literal whose name is the static table's `:status`.
        [index @ 0x88..=0x8e, ..] => Some([200, 204, 206, 304, 400, 404, 500][usize::from(index - 0x88)]),
        [0x48 | 0x08 | 0x18, length, value @ ..] => {
            let value = value.get(..usize::from(length & 0x7f))?;
            let digits = if length & 0x80 == 0 { value.to_vec() } else { huffman_digits(value) };
            String::from_utf8(digits).ok()?.parse().ok()
        }
        _ => None,
    }
}

/// Digits out of the Huffman code of RFC 7541 (appendix B): those up to 2 have five bits, the others six; what is left over is
/// padding.
fn huffman_digits(coded: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> = coded.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0, |number, bit| number << 1 | bit);
    let (mut digits, mut at) = (Vec::new(), 0);
    while let Some(five) = bits.get(at..at + 5) {
        match (number(five), bits.get(at..at + 6).map(number)) {
            (digit @ 0..=2, _) => {
                digits.push(b'0' + digit);
                at += 5;
            }
            (_, Some(six @ 0b01_1001..=0b01_1111)) => {
                digits.push(b'3' + (six - 0b01_1001));
                at += 6;
            }
            _ => break,
        }
    }
    digits
}
