//! The header of the PROXY protocol: read alike however it comes, no longer than it says, and never out of half of one.

#![allow(dead_code, reason = "libFuzzer needs no words")]

use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use postern::listen::proxy_protocol::{self, ProxyProtocolError, Source};
use tokio::io::{AsyncRead, ReadBuf};

pub const WORDS: &[&[u8]] = &[
    b"PROXY ",
    b"TCP4 ",
    b"TCP6 ",
    b"UNKNOWN",
    b"\r\n",
    b" ",
    b"203.0.113.9",
    b"::ffff:10.1.2.3",
    b"2001:db8::7",
    b"65535",
    b"\r\n\r\n\0\r\nQUIT\n",
    b"\x20",
    b"\x21",
    b"\x11",
    b"\x31",
    b"\x00\x0c",
    b"\x00\x24",
    b"\x00\xd8",
    b"\x04\x00\x00",
    b"GET / HTTP/1.1\r\n\r\n",
];

/// The longest line of version 1.
const LINE_BYTES: usize = 107;

/// A connection of which so many bytes come with each read, and which ends behind them.
struct Cut<'a> {
    rest: &'a [u8],
    at_once: usize,
}

impl AsyncRead for Cut<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (piece, rest) = this.rest.split_at(this.rest.len().min(this.at_once).min(buffer.remaining()));
        buffer.put_slice(piece);
        this.rest = rest;
        Poll::Ready(Ok(()))
    }
}

/// The source and the header's length; or whether there is more to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Header(Source, usize),
    Malformed,
    Incomplete,
}

pub fn check(bytes: &[u8]) {
    let whole = read(bytes, usize::MAX);
    for at_once in [1, 7, 16] {
        assert_eq!(read(bytes, at_once), whole, "{at_once} bytes at a time");
    }
    let Read::Header(source, length) = whole else { return };
    let header = &bytes[..length];
    assert_eq!(read(header, usize::MAX), whole, "what follows does not matter");
    for cut in [length - 1, length / 2, 13.min(length - 1), 1] {
        assert_eq!(read(&header[..cut], usize::MAX), Read::Incomplete, "cut at {cut}");
    }
    match header.strip_prefix(b"PROXY ") {
        Some(words) => check_line(words, source, length),
        None => check_binary(header, source),
    }
}

fn read(bytes: &[u8], at_once: usize) -> Read {
    let mut stream = Cut { rest: bytes, at_once };
    let read = {
        let reading = pin!(proxy_protocol::read(&mut stream));
        reading.poll(&mut Context::from_waker(Waker::noop()))
    };
    let Poll::Ready(read) = read else { panic!("it waits though nothing is to come") };
    match read {
        Ok((source, behind)) => Read::Header(source, bytes.len() - stream.rest.len() - behind.len()),
        Err(ProxyProtocolError::Malformed(_)) => Read::Malformed,
        Err(ProxyProtocolError::Disconnected(_)) => Read::Incomplete,
    }
}

/// Version 1 says what its words say.
fn check_line(words: &[u8], source: Source, length: usize) {
    assert!(length <= LINE_BYTES && words.ends_with(b"\r\n") && words.is_ascii());
    let line = std::str::from_utf8(&words[..words.len() - 2]).expect("it is text");
    let words: Vec<&str> = line.split(' ').collect();
    let stated = match words[..] {
        ["UNKNOWN", ..] => Source::Unknown,
        ["TCP4" | "TCP6", from, to, from_port, to_port] => {
            assert!(from_port.parse::<u16>().is_ok() && to_port.parse::<u16>().is_ok());
            let [from, to] = [from, to].map(|address| address.parse::<IpAddr>().expect("an address"));
            assert!(from.is_ipv4() == (words[0] == "TCP4") && to.is_ipv4() == from.is_ipv4());
            Source::Client(from.to_canonical())
        }
        _ => panic!("{line:?} was taken"),
    };
    assert_eq!(source, stated, "{line:?}");
}

/// Version 2 is as long as it says, and whose bytes stand where they have to.
fn check_binary(header: &[u8], source: Source) {
    assert_eq!(header[..12], *b"\r\n\r\n\0\r\nQUIT\n");
    assert_eq!(header.len(), 16 + usize::from(u16::from_be_bytes([header[14], header[15]])));
    let stated = match (header[12], header[13]) {
        (0x20, _) => Source::Proxy,
        (0x21, 0x11) => {
            let octets: [u8; 4] = header[16..20].try_into().expect("four bytes");
            Source::Client(octets.into())
        }
        (0x21, 0x21) => {
            let octets: [u8; 16] = header[16..32].try_into().expect("sixteen bytes");
            Source::Client(IpAddr::from(octets).to_canonical())
        }
        (0x21, 0x00 | 0x31) => Source::Unknown,
        other => panic!("{other:02x?} was taken"),
    };
    assert_eq!(source, stated);
    let Source::Client(client) = source else { return };
    assert_eq!(client, client.to_canonical());
}
