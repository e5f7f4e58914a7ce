//! HTTP/2 frame by frame, for what no well-behaved client sends. Header blocks are literals without Huffman coding.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

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

/// A connection that sends exactly the frames it is told to.
pub struct FrameClient {
    stream: TcpStream,
    /// The error's number of the last GOAWAY that came.
    goodbye: Option<u32>,
}

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
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let mut client = Self { stream, goodbye: None };
        client.send(SETTINGS, 0, 0, &encode_settings(settings));
        client
    }

    /// Sends exactly these bytes. Whether they were taken.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
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
        let _closed_already = self.stream.write_all(&encode(kind, flags, stream, payload));
    }

    /// Sends a request's head in one frame.
    pub fn send_head(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) {
        let _closed_already = self.stream.write_all(&encode_head(stream, flags, fields));
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
    settings.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect()
}

/// A request's head in one frame.
pub fn encode_head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    encode(HEADERS, END_HEADERS | flags, stream, &block(fields))
}

/// A header block of literals that are not indexed.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
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
