//! An upstream's response, from HTTP/1.1 bytes: its head, and its body out of its framing (RFC 9112, sections 4, 6 and
//! 7.1). What can be read in two ways is an error: a wrong answer must never look like a complete one.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body::Frame;
use httparse::{ParserConfig, Status};
use smallvec::SmallVec;

use crate::headers;

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
    /// Switched protocols without being asked.
    #[error("the response switches protocols, which nobody asked for")]
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
}

/// A response's header lines as they came, without what ends at this hop. Kept with the connection: the next response is
/// written over them.
#[derive(Debug, Default)]
pub struct Fields {
    head: Vec<u8>,
    lines: Vec<(Place, Place)>,
}

/// Where a name or a value stands in a head.
type Place = Range<u32>;

impl Fields {
    /// The header lines, names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|(name, value)| (self.at(name), self.at(value)))
    }

    /// The same as a map.
    pub fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.lines.len());
        for (name, value) in self.iter() {
            // What is read from an upstream has been found valid already.
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                map.append(name, value);
            }
        }
        map
    }

    fn at(&self, place: &Place) -> &[u8] {
        self.head.get(place.start as usize..place.end as usize).unwrap_or_default()
    }

    /// Lines that say the same length again are one too many for whoever reads on.
    fn keep_one_length(&mut self) {
        let Self { head, lines } = self;
        let mut has_length = false;
        lines.retain(|(name, _)| {
            let name = head.get(name.start as usize..name.end as usize).unwrap_or_default();
            !name.eq_ignore_ascii_case(b"content-length") || !std::mem::replace(&mut has_length, true)
        });
    }

    fn restart(&mut self) {
        self.head.clear();
        self.lines.clear();
    }
}

/// Takes a response's head out of what has been read, and its lines into `fields`; `None` if it is not complete. Interim
/// responses are skipped.
pub(super) fn head(
    read: &mut BytesMut,
    fields: &mut Fields,
    method: &Method,
) -> Result<Option<Head>, DecodeError> {
    loop {
        fields.restart();
        let Some(head) = final_or_interim(read, fields, method)? else { return Ok(None) };
        match head.status {
            StatusCode::SWITCHING_PROTOCOLS => return Err(DecodeError::Upgrade),
            status if status.is_informational() => {}
            _ => return Ok(Some(head)),
        }
    }
}

fn final_or_interim(
    read: &mut BytesMut,
    fields: &mut Fields,
    method: &Method,
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
    // Names and values are slices of the buffer; what goes on is copied once, with their places in it.
    let start = read.as_ptr() as usize;
    let place = |slice: &[u8]| {
        let offset = slice.as_ptr() as usize - start;
        offset as u32..(offset + slice.len()) as u32
    };
    for field in parsed.headers.iter() {
        if !headers::ends_with_response(field.name) && !framing.is_listed(field.name) {
            fields.lines.push((place(field.name.as_bytes()), place(field.value)));
        }
    }
    fields.head.extend_from_slice(&read[..length]);
    if framing.lengths > 1 {
        fields.keep_one_length();
    }
    let head = framing.finish(status, method);
    read.advance(length);
    Ok(Some(head))
}

/// What a response's header lines say about its framing and its connection.
struct Framing<'a> {
    is_http11: bool,
    length: Option<u64>,
    lengths: usize,
    is_chunked: bool,
    asks_to_close: bool,
    asks_to_keep: bool,
    /// The values of `Connection`.
    options: SmallVec<[&'a [u8]; 2]>,
}

impl<'a> Framing<'a> {
    fn of(fields: &[httparse::Header<'a>], is_http11: bool) -> Result<Self, DecodeError> {
        let mut framing = Self {
            is_http11,
            length: None,
            lengths: 0,
            is_chunked: false,
            asks_to_close: false,
            asks_to_keep: false,
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
                self.lengths += 1;
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
    fn finish(self, status: StatusCode, method: &Method) -> Head {
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
        Head { status, body, keeps_alive }
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
