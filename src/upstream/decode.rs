//! An upstream's response, from HTTP/1.1 bytes: its head, and its body out of its framing (RFC 9112, sections 4, 6 and
//! 7.1). What can be read in two ways is an error: a wrong answer must never look like a complete one.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body::Frame;
use httparse::{ParserConfig, Status};
use smallvec::SmallVec;

use super::InterimWay;
use crate::headers;
use crate::headers::change::HeaderChanges;

#[cfg(test)]
mod tests;

/// Bytes of a response's head at most; more is the upstream's fault.
const HEAD_BYTES: usize = 256 * 1024;
/// Header lines of a response at most.
const HEADERS: usize = 256;
/// Header lines that most responses stay below.
const USUAL_HEADERS: usize = 32;
/// Bytes of a chunk's size with its extensions, and of all trailers, at most.
const CHUNK_LINE_BYTES: usize = 4 * 1024;
const TRAILER_BYTES: usize = 64 * 1024;

/// Why a response cannot be passed on.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not HTTP/1.
    #[error("the response is not HTTP/1.1: {0}")]
    Head(#[from] httparse::Error),
    /// A value that no header may have.
    #[error("the response has a header that is not allowed")]
    Header,
    /// More than can be passed on.
    #[error("the response's head is larger than {HEAD_BYTES} bytes or {HEADERS} lines")]
    HeadTooLarge,
    /// A length that can be read in more than one way.
    #[error("the response's Content-Length or Transfer-Encoding is not one plain length or `chunked`")]
    Framing,
    /// Switched protocols without being asked, or to another than was offered.
    #[error("the response switches to a protocol that nobody asked for")]
    Upgrade,
    /// A malformed chunk or trailer.
    #[error("the response's chunked body is malformed")]
    Chunk,
}

/// How a response's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// After this many more bytes.
    Length(u64),
    /// With the last chunk.
    Chunked(Chunk),
    /// With the connection.
    UntilClose,
}

/// Where in a chunked body the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// Before a chunk's size.
    Size,
    /// Within a chunk's data, with this many bytes to come.
    Data(u64),
    /// Behind a chunk's data.
    End,
    /// In the trailers.
    Trailers,
    /// Behind everything.
    Complete,
}

/// A response's head, with what its connection needs to know.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) body: Body,
    /// Whether the connection can serve another request after this one.
    pub(super) keeps_alive: bool,
    /// Whether `Upgrade` names what was offered, and nothing else.
    takes_offer: bool,
}

/// WebSocket's name as a protocol.
pub(super) const WEBSOCKET: &str = "websocket";

/// What a request offered beside HTTP.
#[derive(Clone, Debug)]
pub(super) enum Offer {
    Nothing,
    WebSocket,
    /// By its name.
    Protocol(Arc<str>),
}

impl Offer {
    /// The protocol's name.
    pub(super) fn protocol(&self) -> &str {
        match self {
            Self::Nothing => "",
            Self::WebSocket => WEBSOCKET,
            Self::Protocol(name) => name,
        }
    }

    /// Whether this is what a response's `Upgrade` names.
    fn is(&self, named: Option<&[u8]>) -> bool {
        let is = |named: &[u8]| {
            !matches!(self, Self::Nothing) && named.eq_ignore_ascii_case(self.protocol().as_bytes())
        };
        named.is_some_and(is)
    }
}

/// A response's header lines as they came, without what ends at this hop. Kept with the connection: the next response is
/// written over them.
#[derive(Debug, Default)]
pub struct Fields {
    lines: Vec<u8>,
    has_date: bool,
}

impl Fields {
    /// The header lines, each a name, a colon, a space, a value and CR LF.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Whether `Date` is among them.
    pub fn has_date(&self) -> bool {
        self.has_date
    }

    /// Adds a line.
    pub(super) fn add(&mut self, name: &[u8], value: &[u8]) {
        self.has_date |= name.eq_ignore_ascii_case(b"date");
        headers::write_field(&mut self.lines, name, value);
    }

    /// Adds lines that are written already.
    pub(super) fn add_lines(&mut self, lines: &[u8]) {
        self.lines.extend_from_slice(lines);
    }

    /// Changes the lines as a route says.
    pub(super) fn change(&mut self, changes: &HeaderChanges) {
        changes.apply(&mut self.lines);
    }

    fn restart(&mut self) {
        self.lines.clear();
        self.has_date = false;
    }
}

/// Copies lines out of a head: those that stand side by side at once.
struct Copying<'a> {
    head: &'a [u8],
    fields: &'a mut Fields,
    /// What is copied next.
    run: Range<usize>,
}

impl Copying<'_> {
    /// Takes over one line, whose name and value are slices of the head.
    fn add(&mut self, name: &[u8], value: &[u8]) {
        self.fields.has_date |= name.len() == 4 && name.eq_ignore_ascii_case(b"date");
        let start = name.as_ptr() as usize - self.head.as_ptr() as usize;
        let end = start + name.len() + 2 + value.len() + 2;
        let is_plain = self.head.get(start + name.len()..start + name.len() + 2) == Some(b": ")
            && value.as_ptr() as usize - self.head.as_ptr() as usize == start + name.len() + 2
            && self.head.get(end - 2..end) == Some(b"\r\n");
        if !is_plain {
            // Other white space, or a bare line feed: written as it should be.
            self.flush();
            headers::write_field(&mut self.fields.lines, name, value);
            return;
        }
        if self.run.end != start {
            self.flush();
            self.run.start = start;
        }
        self.run.end = end;
    }

    fn flush(&mut self) {
        self.fields.lines.extend_from_slice(self.head.get(self.run.clone()).unwrap_or_default());
        self.run = 0..0;
    }
}

/// Takes a response's head out of what has been read, and its lines into `fields`; `None` if it is not complete. Interim
/// responses go to a client that takes them, but for `100 Continue`: it has been told already, or has not asked.
pub(super) fn head(
    read: &mut BytesMut,
    fields: &mut Fields,
    method: &Method,
    offer: &Offer,
    interim: Option<InterimWay<'_>>,
) -> Result<Option<Head>, DecodeError> {
    loop {
        fields.restart();
        let Some(head) = final_or_interim(read, fields, method, offer)? else { return Ok(None) };
        match head.status {
            StatusCode::SWITCHING_PROTOCOLS if head.takes_offer => {
                return Ok(Some(Head { body: Body::UntilClose, keeps_alive: false, ..head }));
            }
            StatusCode::SWITCHING_PROTOCOLS => return Err(DecodeError::Upgrade),
            status if status.is_informational() => {
                if let Some(interim) = interim.filter(|_| status != StatusCode::CONTINUE) {
                    if let Some(changes) = interim.changes {
                        changes.take_out_of(&mut fields.lines);
                    }
                    interim.client.push(status, fields.lines());
                }
            }
            _ => return Ok(Some(head)),
        }
    }
}

fn final_or_interim(
    read: &mut BytesMut,
    fields: &mut Fields,
    method: &Method,
    offer: &Offer,
) -> Result<Option<Head>, DecodeError> {
    if read.is_empty() {
        return Ok(None);
    }
    let parser = ParserConfig::default();
    let mut few = [const { MaybeUninit::uninit() }; USUAL_HEADERS];
    let mut many;
    let mut parsed = httparse::Response::new(&mut []);
    let mut outcome = parser.parse_response_with_uninit_headers(&mut parsed, read, &mut few);
    if outcome == Err(httparse::Error::TooManyHeaders) {
        many = [const { MaybeUninit::uninit() }; HEADERS];
        parsed = httparse::Response::new(&mut []);
        outcome = parser.parse_response_with_uninit_headers(&mut parsed, read, &mut many);
    }
    let length = match outcome {
        Ok(Status::Complete(length)) if length <= HEAD_BYTES => length,
        Ok(Status::Partial) if read.len() <= HEAD_BYTES => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(DecodeError::HeadTooLarge),
        Err(error) => return Err(error.into()),
    };
    let is_http11 = parsed.version == Some(1);
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(DecodeError::Header)?;
    let framing = Framing::of(parsed.headers, is_http11)?;
    let mut copying = Copying { head: read, fields, run: 0..0 };
    let mut has_length = false;
    for field in parsed.headers.iter() {
        let is_length = field.name.eq_ignore_ascii_case("content-length");
        // One line tells the length, and none where there can be no body (RFC 9110, section 8.6).
        let is_idle_length =
            is_length && (has_length || status == StatusCode::NO_CONTENT || status.is_informational());
        has_length |= is_length;
        if !is_idle_length && !headers::ends_with_response(field.name) && !framing.is_listed(field.name) {
            copying.add(field.name.as_bytes(), field.value);
        }
    }
    copying.flush();
    let head = framing.finish(status, method, offer);
    read.advance(length);
    Ok(Some(head))
}

/// What a response's header lines say about its framing and its connection.
struct Framing<'a> {
    is_http11: bool,
    length: Option<u64>,
    is_chunked: bool,
    asks_to_close: bool,
    asks_to_keep: bool,
    /// The value of the one `Upgrade`; of several, which may disagree, one that names nothing.
    upgrade: Option<&'a [u8]>,
    /// The values of `Connection`.
    options: SmallVec<[&'a [u8]; 2]>,
}

impl<'a> Framing<'a> {
    fn of(fields: &[httparse::Header<'a>], is_http11: bool) -> Result<Self, DecodeError> {
        let mut framing = Self {
            is_http11,
            length: None,
            is_chunked: false,
            asks_to_close: false,
            asks_to_keep: false,
            upgrade: None,
            options: SmallVec::new(),
        };
        for field in fields {
            framing.add(field.name, field.value)?;
        }
        if framing.is_chunked && framing.length.is_some() {
            return Err(DecodeError::Framing);
        }
        Ok(framing)
    }

    fn add(&mut self, name: &str, value: &'a [u8]) -> Result<(), DecodeError> {
        match name.len() {
            7 if name.eq_ignore_ascii_case("upgrade") => {
                self.upgrade = Some(if self.upgrade.is_none() { value } else { b"" });
            }
            10 if name.eq_ignore_ascii_case("connection") => {
                for option in options(value) {
                    self.asks_to_close |= option.eq_ignore_ascii_case(b"close");
                    self.asks_to_keep |= option.eq_ignore_ascii_case(b"keep-alive");
                }
                self.options.push(value);
            }
            14 if name.eq_ignore_ascii_case("content-length") => {
                let length = plain_number(value).ok_or(DecodeError::Framing)?;
                if self.length.is_some_and(|before| before != length) {
                    return Err(DecodeError::Framing);
                }
                self.length = Some(length);
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") || !self.is_http11 {
                    return Err(DecodeError::Framing);
                }
                self.is_chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether `Connection` names a header as concerning this hop. The length cannot be named away.
    fn is_listed(&self, name: &str) -> bool {
        !self.options.is_empty()
            && !name.eq_ignore_ascii_case("content-length")
            && self
                .options
                .iter()
                .flat_map(|value| options(value))
                .any(|option| option.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// RFC 9112, section 6.3.
    fn finish(self, status: StatusCode, method: &Method, offer: &Offer) -> Head {
        let has_no_body = *method == Method::HEAD
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let body = match (has_no_body, self.is_chunked, self.length) {
            (true, _, _) => Body::Length(0),
            (false, true, _) => Body::Chunked(Chunk::Size),
            (false, false, Some(length)) => Body::Length(length),
            (false, false, None) => Body::UntilClose,
        };
        let keeps_alive =
            body != Body::UntilClose && !self.asks_to_close && (self.is_http11 || self.asks_to_keep);
        Head { status, body, keeps_alive, takes_offer: offer.is(self.upgrade) }
    }
}

fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

impl Body {
    /// Whether nothing more comes.
    pub(super) fn is_complete(self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::Complete))
    }

    /// The number of bytes to come, where the head told.
    pub(super) fn remaining(self) -> Option<u64> {
        match self {
            Self::Length(length) => Some(length),
            Self::Chunked(Chunk::Complete) => Some(0),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Takes the next frame out of what has been read; `None` if more must be read, or nothing more comes.
    pub(super) fn decode(&mut self, read: &mut BytesMut) -> Result<Option<Frame<Bytes>>, DecodeError> {
        match self {
            Self::Length(remaining) => Ok(take(read, remaining)),
            Self::UntilClose => Ok((!read.is_empty()).then(|| Frame::data(read.split().freeze()))),
            Self::Chunked(chunk) => chunk.decode(read),
        }
    }
}

impl Chunk {
    fn decode(&mut self, read: &mut BytesMut) -> Result<Option<Frame<Bytes>>, DecodeError> {
        loop {
            match self {
                Self::Size => {
                    let Some(end) = line_end(read, CHUNK_LINE_BYTES)? else { return Ok(None) };
                    let size = chunk_size(&read[..end])?;
                    read.advance(end + 2);
                    *self = if size == 0 { Self::Trailers } else { Self::Data(size) };
                }
                Self::Data(remaining) => {
                    let frame = take(read, remaining);
                    if *remaining == 0 {
                        *self = Self::End;
                    }
                    return Ok(frame);
                }
                Self::End => {
                    if read.len() < 2 {
                        return Ok(None);
                    }
                    if !read.starts_with(b"\r\n") {
                        return Err(DecodeError::Chunk);
                    }
                    read.advance(2);
                    *self = Self::Size;
                }
                Self::Trailers => {
                    let Some(trailers) = trailers(read)? else { return Ok(None) };
                    *self = Self::Complete;
                    return Ok((!trailers.is_empty()).then(|| Frame::trailers(trailers)));
                }
                Self::Complete => return Ok(None),
            }
        }
    }
}

fn take(read: &mut BytesMut, remaining: &mut u64) -> Option<Frame<Bytes>> {
    if read.is_empty() || *remaining == 0 {
        return None;
    }
    let length = usize::try_from(*remaining).map_or(read.len(), |remaining| remaining.min(read.len()));
    *remaining -= length as u64;
    Some(Frame::data(read.split_to(length).freeze()))
}

/// Where the first line ends, before its CR LF.
fn line_end(read: &BytesMut, most: usize) -> Result<Option<usize>, DecodeError> {
    match memchr::memchr(b'\n', read) {
        Some(feed) if feed > 0 && read[feed - 1] == b'\r' && feed <= most => Ok(Some(feed - 1)),
        Some(_) => Err(DecodeError::Chunk),
        None if read.len() > most => Err(DecodeError::Chunk),
        None => Ok(None),
    }
}

/// 1 to 16 hexadecimal digits, then nothing or an extension, which is ignored.
fn chunk_size(line: &[u8]) -> Result<u64, DecodeError> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let rest = line[digits..].trim_ascii_start();
    if digits == 0 || digits > 16 || !(rest.is_empty() || rest.starts_with(b";")) || line.contains(&b'\r') {
        return Err(DecodeError::Chunk);
    }
    let digits = std::str::from_utf8(&line[..digits]).map_err(|_| DecodeError::Chunk)?;
    u64::from_str_radix(digits, 16).map_err(|_| DecodeError::Chunk)
}

/// The trailers, once they are complete; without what concerns this hop.
fn trailers(read: &mut BytesMut) -> Result<Option<HeaderMap>, DecodeError> {
    let mut fields = [httparse::EMPTY_HEADER; USUAL_HEADERS];
    let (length, trailers) = match httparse::parse_headers(read, &mut fields) {
        Ok(Status::Partial) if read.len() <= TRAILER_BYTES => return Ok(None),
        Ok(Status::Complete((length, fields))) => {
            let mut trailers = HeaderMap::with_capacity(fields.len());
            for field in fields {
                let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| DecodeError::Chunk)?;
                let value = HeaderValue::from_bytes(field.value).map_err(|_| DecodeError::Chunk)?;
                trailers.append(name, value);
            }
            (length, trailers)
        }
        Ok(Status::Partial) | Err(_) => return Err(DecodeError::Chunk),
    };
    read.advance(length);
    Ok(Some(headers::response_trailers(trailers)))
}

/// Digits only.
fn plain_number(value: &[u8]) -> Option<u64> {
    let is_plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    is_plain.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}
