//! The PROXY protocol, versions 1 and 2: what a load balancer says about a client before the client's first byte.
//!
//! Parsing is strict and pure: bytes in, a header or a refusal out, however they were cut. Who may speak it and for how
//! long is the caller's to say. What must not live here: HTTP, and what becomes of the address.
//!
//! Specification: <https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt>.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What version 2 begins with: no text, and no beginning of HTTP or TLS.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What version 1 begins with.
const WORD: &[u8; 6] = b"PROXY ";

/// The longest line of version 1, with its end.
const LINE_BYTES: usize = 107;

/// What stands before the addresses of version 2: signature, version and command, family and transport, length.
const FIXED_BYTES: usize = 16;

/// The longest rest of version 2 that is taken: addresses, and room for a client's certificate among the extensions.
const REST_BYTES: usize = 16 * 1024;

/// Most headers come with the first read, and little else.
const FIRST_READ_BYTES: usize = 256;

/// Whom a connection comes from, by the word of the proxy that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The proxy itself: a look at whether anybody is there.
    Proxy,
    /// The client at this address, which is canonical.
    Client(IpAddr),
    /// A client whose address the proxy does not know or cannot say.
    Unknown,
}

/// Why a connection has no header of the PROXY protocol.
#[derive(Debug, thiserror::Error)]
pub enum ProxyProtocolError {
    /// What came is none.
    #[error("this is no header of the PROXY protocol: {0}")]
    Malformed(&'static str),
    /// The connection broke or ended before a whole one had come.
    #[error("the connection ended amid the header of the PROXY protocol")]
    Disconnected(#[source] io::Error),
}

type Parsed = Result<Option<(Source, usize)>, &'static str>;

/// Reads a header; what has been read behind it belongs to the client and comes back with it.
///
/// # Errors
/// At the first byte that cannot be one's, at the end of the stream, and as the stream fails. There is no deadline here.
pub async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(Source, BytesMut), ProxyProtocolError> {
    let mut read = BytesMut::with_capacity(FIRST_READ_BYTES);
    loop {
        let length = stream.read_buf(&mut read).await.map_err(ProxyProtocolError::Disconnected)?;
        if length == 0 {
            return Err(ProxyProtocolError::Disconnected(io::ErrorKind::UnexpectedEof.into()));
        }
        if let Some((source, length)) = parse(&read).map_err(ProxyProtocolError::Malformed)? {
            return Ok((source, read.split_off(length)));
        }
    }
}

/// The header at the beginning of what has come so far, and its length; `None` while more of it has to come.
fn parse(read: &[u8]) -> Parsed {
    if begins(read, SIGNATURE) {
        binary(read)
    } else if begins(read, WORD) {
        line(read)
    } else {
        Err("it begins otherwise")
    }
}

/// Whether what has come so far is the beginning, or a part of it.
fn begins(read: &[u8], beginning: &[u8]) -> bool {
    let known = read.len().min(beginning.len());
    read[..known] == beginning[..known]
}

/// Version 1: one line of words with single spaces.
fn line(read: &[u8]) -> Parsed {
    let within = &read[..read.len().min(LINE_BYTES)];
    let Some(end) = memchr::memchr(b'\n', within) else {
        return if read.len() < LINE_BYTES { Ok(None) } else { Err("the line is too long") };
    };
    let line = within[..end].strip_suffix(b"\r").ok_or("the line does not end with CR and LF")?;
    let line = std::str::from_utf8(line).ok().filter(|line| line.is_ascii()).ok_or("the line is no text")?;
    // What stands behind `UNKNOWN` has no meaning.
    let mut words = line.split(' ').skip(1);
    let source = match words.next() {
        Some("UNKNOWN") => Source::Unknown,
        Some("TCP4") => Source::Client(addresses::<Ipv4Addr>(words)?.into()),
        Some("TCP6") => Source::Client(IpAddr::from(addresses::<Ipv6Addr>(words)?).to_canonical()),
        _ => return Err("there is no such family"),
    };
    Ok(Some((source, end + 1)))
}

/// Source and destination, then their ports. The source's address counts; the rest must be right.
fn addresses<'a, A: std::str::FromStr>(mut words: impl Iterator<Item = &'a str>) -> Result<A, &'static str> {
    let mut address = || words.next()?.parse::<A>().ok();
    let (Some(source), Some(_destination)) = (address(), address()) else {
        return Err("an address is missing or none of its family");
    };
    match (words.next(), words.next(), words.next()) {
        (Some(source_port), Some(port), None) if is_port(source_port) && is_port(port) => Ok(source),
        _ => Err("a port is missing or none, or something follows"),
    }
}

/// A number as the protocol writes it: without a sign and without zeros in front.
fn is_port(word: &str) -> bool {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    is_plain && word.parse::<u16>().is_ok()
}

/// Version 2.
fn binary(read: &[u8]) -> Parsed {
    let Some((fixed, rest)) = read.split_first_chunk::<FIXED_BYTES>() else { return Ok(None) };
    let [.., version_and_command, family_and_transport, length_high, length_low] = *fixed;
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err("there is no such version or command"),
    };
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    if length > REST_BYTES {
        return Err("it is too long");
    }
    let Some(rest) = rest.get(..length) else { return Ok(None) };
    let whole = FIXED_BYTES + length;
    // Families that are not known yet may come with it, and have no meaning.
    if is_local {
        return Ok(Some((Source::Proxy, whole)));
    }
    let too_short = "it is too short for its addresses";
    let (source, extensions) = match family_and_transport {
        // Unspecified: nothing behind it can be understood.
        0x00 => return Ok(Some((Source::Unknown, whole))),
        0x11 => {
            let (addresses, extensions) = rest.split_first_chunk::<12>().ok_or(too_short)?;
            let [a, b, c, d, ..] = *addresses;
            (Source::Client(Ipv4Addr::new(a, b, c, d).into()), extensions)
        }
        0x21 => {
            let (source, rest) = rest.split_first_chunk::<16>().ok_or(too_short)?;
            let (_destination_and_ports, extensions) = rest.split_first_chunk::<20>().ok_or(too_short)?;
            (Source::Client(IpAddr::from(*source).to_canonical()), extensions)
        }
        // A Unix socket's path says nothing about where somebody is.
        0x31 => {
            let (_paths, extensions) = rest.split_first_chunk::<216>().ok_or(too_short)?;
            (Source::Unknown, extensions)
        }
        _ => return Err("there is no such family or transport for a stream"),
    };
    skip_extensions(extensions)?;
    Ok(Some((source, whole)))
}

/// Extensions are not understood, but have to be whole: type, length, value.
fn skip_extensions(mut extensions: &[u8]) -> Result<(), &'static str> {
    while !extensions.is_empty() {
        let cut = "an extension is cut short";
        let ([_kind, length @ ..], rest) = extensions.split_first_chunk::<3>().ok_or(cut)?;
        extensions = rest.get(usize::from(u16::from_be_bytes(*length))..).ok_or(cut)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
