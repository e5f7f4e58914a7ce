//! An upstream's response, from HTTP/1.1 bytes: its head, and its body out of its framing (RFC 9112, sections 4, 6 and
//! 7.1). What can be read in two ways is an error: a wrong answer must never look like a complete one.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header};
use http_body::Frame;
use httparse::Status;

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
    /// Without what ends at this hop.
    pub(super) response: Response<()>,
    pub(super) body: Body,
    /// Whether the connection can serve another request after this one.
    pub(super) keeps_alive: bool,
}

/// Takes a response's head out of what has been read; `None` if it is not complete. Interim responses are skipped.
pub(super) fn head(read: &mut BytesMut, method: &Method) -> Result<Option<Head>, DecodeError> {
    loop {
        let Some(head) = final_or_interim(read, method)? else { return Ok(None) };
        match head.response.status() {
            StatusCode::SWITCHING_PROTOCOLS => return Err(DecodeError::Upgrade),
            status if status.is_informational() => {}
            _ => return Ok(Some(head)),
        }
    }
}

fn final_or_interim(read: &mut BytesMut, method: &Method) -> Result<Option<Head>, DecodeError> {
    if read.is_empty() {
        return Ok(None);
    }
    let mut few = [httparse::EMPTY_HEADER; USUAL_HEADERS];
    let mut many;
    let mut parsed = httparse::Response::new(&mut few);
    let mut outcome = parsed.parse(read);
    if outcome == Err(httparse::Error::TooManyHeaders) {
        many = [httparse::EMPTY_HEADER; HEADERS];
        parsed = httparse::Response::new(&mut many);
        outcome = parsed.parse(read);
    }
    let length = match outcome {
        Ok(Status::Complete(length)) if length <= HEAD_BYTES => length,
        Ok(Status::Partial) if read.len() <= HEAD_BYTES => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(DecodeError::HeadTooLarge),
        Err(error) => return Err(error.into()),
    };
    let is_http11 = parsed.version == Some(1);
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(DecodeError::Header)?;
    // Where in the buffer names and values are: the buffer is taken over whole, and they become slices of it.
    let start = read.as_ptr() as usize;
    let places: smallvec::SmallVec<[_; USUAL_HEADERS]> = parsed
        .headers
        .iter()
        .map(|field| {
            let value = field.value.as_ptr() as usize - start;
            (HeaderName::from_bytes(field.name.as_bytes()), value..value + field.value.len())
        })
        .collect();
    let bytes = read.split_to(length).freeze();
    let mut fields = Fields::new(is_http11, places.len());
    for (name, place) in places {
        let name = name.map_err(|_| DecodeError::Header)?;
        fields.add(name, bytes.slice(place))?;
    }
    fields.finish(status, method).map(Some)
}

/// A response's header lines, sorted into what goes on and what concerns this hop.
struct Fields {
    headers: HeaderMap,
    is_http11: bool,
    length: Option<u64>,
    is_chunked: bool,
    asks_to_close: bool,
    asks_to_keep: bool,
}

impl Fields {
    fn new(is_http11: bool, lines: usize) -> Self {
        Self {
            headers: HeaderMap::with_capacity(lines),
            is_http11,
            length: None,
            is_chunked: false,
            asks_to_close: false,
            asks_to_keep: false,
        }
    }

    fn add(&mut self, name: HeaderName, value: Bytes) -> Result<(), DecodeError> {
        match name {
            header::CONTENT_LENGTH => {
                let length = plain_number(&value).ok_or(DecodeError::Framing)?;
                if self.length.is_some_and(|before| before != length) {
                    return Err(DecodeError::Framing);
                }
                if self.length.replace(length).is_some() {
                    return Ok(());
                }
            }
            header::TRANSFER_ENCODING => {
                if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") || !self.is_http11 {
                    return Err(DecodeError::Framing);
                }
                self.is_chunked = true;
                return Ok(());
            }
            header::CONNECTION => {
                for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    self.asks_to_close |= option.eq_ignore_ascii_case(b"close");
                    self.asks_to_keep |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            _ => {}
        }
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| DecodeError::Header)?;
        self.headers.append(name, value);
        Ok(())
    }

    /// RFC 9112, section 6.3.
    fn finish(mut self, status: StatusCode, method: &Method) -> Result<Head, DecodeError> {
        if self.is_chunked && self.length.is_some() {
            return Err(DecodeError::Framing);
        }
        headers::strip_response(&mut self.headers);
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
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.version_mut() = Version::HTTP_11;
        *response.headers_mut() = self.headers;
        Ok(Head { response, body, keeps_alive })
    }
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
