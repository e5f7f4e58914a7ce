//! The head of a request: the rules of RFC 9112 and 9110 that decide where it ends and what follows it.
//!
//! A head is looked at line by line as it comes, each byte once, however it is split. What must not live
//! here: input and output, and what a header means to anyone but HTTP's framing.

use std::ops::Range;

use memchr::memchr;

use super::authority::Authority;
use super::class::{self, PATH, QUERY, TOKEN};
use super::{GuardLimits, Violation};

/// No method that anyone uses is longer.
const METHOD_BYTES: usize = 32;
/// What http's `Uri` takes at most.
const URI_BYTES: usize = u16::MAX as usize - 1;
/// ` HTTP/1.1`, the space included.
const VERSION_BYTES: usize = 9;

/// How far the scan of one head has come. Offsets count from the head's first byte.
#[derive(Debug)]
pub(super) struct HeadScan {
    stage: Stage,
    /// Where the current line starts.
    line_start: usize,
    /// Up to where the current line was searched for its end.
    searched: usize,
    fields_start: usize,
    fields: usize,
    version: Version,
    /// Where an absolute target's authority is, and its scheme's port.
    authority: Option<(Range<usize>, u16)>,
    host: Host,
    body: Option<BodyLength>,
}

/// A complete, valid head.
#[derive(Debug)]
pub(super) struct Head {
    /// Its bytes, up to and with the empty line.
    pub(super) length: usize,
    pub(super) body: BodyLength,
}

/// How a head says its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyLength {
    Known(u64),
    Chunked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// An empty line may still come first.
    Start,
    RequestLine,
    Fields,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    Missing,
    Seen,
}

/// What a whole line among the fields turned out to be.
enum Line {
    Field,
    /// The end of the head, which has so many bytes.
    Empty(usize),
    /// Not whole, or not valid.
    Other,
}

impl HeadScan {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Start,
            line_start: 0,
            searched: 0,
            fields_start: 0,
            fields: 0,
            version: Version::Http11,
            authority: None,
            host: Host::Missing,
            body: None,
        }
    }

    /// Whether more than an empty line has come, when `received` bytes have.
    pub(super) fn has_begun(&self, received: usize) -> bool {
        self.stage == Stage::Fields || received > self.line_start
    }

    /// Goes on with `bytes`, which start with the head's first byte and have more than at the call before.
    /// `None`: the head is not complete yet, and all of `bytes` belong to it.
    pub(super) fn advance(&mut self, bytes: &[u8], limits: &GuardLimits) -> Result<Option<Head>, Violation> {
        loop {
            if self.stage == Stage::Fields && self.searched == self.line_start {
                match self.whole_field(bytes, limits)? {
                    Line::Field => continue,
                    Line::Empty(length) => return self.finish(length).map(Some),
                    Line::Other => {}
                }
            }
            let Some(length) = memchr(b'\n', &bytes[self.searched..]) else {
                self.searched = bytes.len();
                return self.check_limits(bytes, limits).map(|()| None);
            };
            let end = self.searched + length;
            self.check_limits(&bytes[..end], limits)?;
            let Some((b'\r', line)) = bytes[self.line_start..end].split_last() else {
                return Err(Violation::LineEnding);
            };
            match self.stage {
                Stage::Start if line.is_empty() => self.stage = Stage::RequestLine,
                Stage::Start | Stage::RequestLine => {
                    self.request_line(line, limits)?;
                    self.stage = Stage::Fields;
                    self.fields_start = end + 1;
                }
                Stage::Fields if line.is_empty() => return self.finish(end + 1).map(Some),
                Stage::Fields => {
                    self.count_field(limits)?;
                    let (name, value) = split_field(line)?;
                    self.field(name, value, bytes)?;
                }
            }
            self.line_start = end + 1;
            self.searched = end + 1;
        }
    }

    /// The usual case in one pass: a field line that is whole and has nothing wrong with its form. What is left to
    /// the general way is not complete, or wrong; either way takes the same lines for valid.
    fn whole_field(&mut self, bytes: &[u8], limits: &GuardLimits) -> Result<Line, Violation> {
        let rest = &bytes[self.line_start..];
        let (name, behind) = rest.split_at(class::run(rest, TOKEN));
        match behind {
            [b':', behind @ ..] if !name.is_empty() => {
                let (value, behind) = behind.split_at(class::field_value_run(behind));
                if !behind.starts_with(b"\r\n") {
                    return Ok(Line::Other);
                }
                let end = self.line_start + name.len() + 1 + value.len() + 1;
                self.check_limits(&bytes[..end], limits)?;
                self.count_field(limits)?;
                self.field(name, value, bytes)?;
                self.line_start = end + 1;
                self.searched = end + 1;
                Ok(Line::Field)
            }
            [b'\r', b'\n', ..] if name.is_empty() => {
                self.check_limits(&bytes[..self.line_start + 1], limits)?;
                Ok(Line::Empty(self.line_start + 2))
            }
            _ => Ok(Line::Other),
        }
    }

    fn count_field(&mut self, limits: &GuardLimits) -> Result<(), Violation> {
        self.fields += 1;
        match self.fields > limits.header_count {
            true => Err(Violation::TooManyHeaders),
            false => Ok(()),
        }
    }

    /// Refuses what cannot become a valid head any more, whether or not its line has ended: early, so that it is
    /// not kept in memory, and for the same reason however the head is split.
    fn check_limits(&self, bytes: &[u8], limits: &GuardLimits) -> Result<(), Violation> {
        if self.stage == Stage::Fields {
            return match bytes.len() - self.fields_start > limits.header_bytes {
                true => Err(Violation::HeadersTooLarge),
                false => Ok(()),
            };
        }
        let line = &bytes[self.line_start..];
        if line.first().is_some_and(|&byte| byte != b'\r' && !class::is(byte, TOKEN)) {
            return Err(Violation::RequestLine);
        }
        let method = class::run(&line[..line.len().min(METHOD_BYTES + 1)], TOKEN);
        if method > METHOD_BYTES {
            return Err(Violation::RequestLine);
        }
        if line.len() > method + 1 + limits.uri_bytes.min(URI_BYTES) + VERSION_BYTES + 1 {
            return Err(Violation::TargetTooLong);
        }
        Ok(())
    }

    fn request_line(&mut self, line: &[u8], limits: &GuardLimits) -> Result<(), Violation> {
        let method_end = class::run(line, TOKEN);
        let (method, rest) = line.split_at(method_end);
        let Some((b' ', rest)) = rest.split_first() else {
            return Err(Violation::RequestLine);
        };
        if method.is_empty() || method.len() > METHOD_BYTES {
            return Err(Violation::RequestLine);
        }
        let target_end = memchr(b' ', rest).ok_or(Violation::RequestLine)?;
        let (target, version) = rest.split_at(target_end);
        if target.is_empty() {
            return Err(Violation::RequestLine);
        }
        if target.len() > limits.uri_bytes.min(URI_BYTES) {
            return Err(Violation::TargetTooLong);
        }
        self.version = match version {
            b" HTTP/1.1" => Version::Http11,
            b" HTTP/1.0" => Version::Http10,
            [b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(Violation::Version);
            }
            _ => return Err(Violation::RequestLine),
        };
        self.target(method, target, self.line_start + method_end + 1)
    }

    /// The four forms of RFC 9112, 3.2; `offset` is where the target starts in the head.
    fn target(&mut self, method: &[u8], target: &[u8], offset: usize) -> Result<(), Violation> {
        let is_valid = match target {
            _ if method == b"CONNECT" => {
                Authority::parse(target).is_some_and(|authority| authority.has_port())
            }
            [b'/', ..] => is_path_and_query(target),
            b"*" => method == b"OPTIONS",
            _ => {
                let (scheme, default_port) = scheme(target).ok_or(Violation::Target)?;
                let rest = &target[scheme..];
                let length = rest.iter().position(|&byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
                let start = offset + scheme;
                self.authority = Some((start..start + length, default_port));
                Authority::parse(&rest[..length]).is_some() && is_path_and_query(&rest[length..])
            }
        };
        is_valid.then_some(()).ok_or(Violation::Target)
    }

    /// What a valid field means for the framing.
    fn field(&mut self, name: &[u8], value: &[u8], bytes: &[u8]) -> Result<(), Violation> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.host(trim(value), bytes),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(trim(value)),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(trim(value)),
            _ => Ok(()),
        }
    }

    fn host(&mut self, value: &[u8], bytes: &[u8]) -> Result<(), Violation> {
        if self.host == Host::Seen {
            return Err(Violation::HostRepeated);
        }
        self.host = Host::Seen;
        let host = Authority::parse(value).ok_or(Violation::HostInvalid)?;
        if let Some((range, default_port)) = &self.authority {
            let authority = Authority::parse(&bytes[range.clone()]).ok_or(Violation::Target)?;
            if !authority.is_same(&host, *default_port) {
                return Err(Violation::HostMismatch);
            }
        }
        Ok(())
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Violation> {
        match self.body {
            None => {}
            Some(BodyLength::Known(_)) => return Err(Violation::ContentLengthRepeated),
            Some(BodyLength::Chunked) => return Err(Violation::AmbiguousLength),
        }
        let length = number(value).ok_or(Violation::ContentLength)?;
        self.body = Some(BodyLength::Known(length));
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Violation> {
        match self.body {
            None => {}
            Some(BodyLength::Known(_)) => return Err(Violation::AmbiguousLength),
            Some(BodyLength::Chunked) => return Err(Violation::TransferEncoding),
        }
        if self.version == Version::Http10 {
            return Err(Violation::TransferEncoding);
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            self.body = Some(BodyLength::Chunked);
            return Ok(());
        }
        Err(match is_list_of_known_codings(value) {
            true => Violation::TransferCoding,
            false => Violation::TransferEncoding,
        })
    }

    fn finish(&self, length: usize) -> Result<Head, Violation> {
        if self.version == Version::Http11 && self.host == Host::Missing {
            return Err(Violation::HostMissing);
        }
        Ok(Head { length, body: self.body.unwrap_or(BodyLength::Known(0)) })
    }
}

/// Name and value of a line; refuses one that is wrong in its form.
fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Violation::FoldedHeader);
    }
    let (name, rest) = line.split_at(class::run(line, TOKEN));
    let Some((b':', value)) = rest.split_first() else {
        return Err(Violation::HeaderName);
    };
    if name.is_empty() {
        return Err(Violation::HeaderName);
    }
    if class::field_value_run(value) < value.len() {
        return Err(match memchr(b'\r', value) {
            Some(_) => Violation::LineEnding,
            None => Violation::HeaderValue,
        });
    }
    Ok((name, value))
}

/// The length of `http://` or `https://` at the start, and the scheme's port.
fn scheme(target: &[u8]) -> Option<(usize, u16)> {
    let starts_with =
        |scheme: &[u8]| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    match () {
        () if starts_with(b"http://") => Some((7, 80)),
        () if starts_with(b"https://") => Some((8, 443)),
        () => None,
    }
}

/// Whether only bytes that may stand there are in a path and an optional query.
fn is_path_and_query(bytes: &[u8]) -> bool {
    match bytes.get(class::run(bytes, PATH)..) {
        None | Some([]) => true,
        Some([b'?', query @ ..]) => class::run(query, QUERY) == query.len(),
        Some(_) => false,
    }
}

/// Without the optional white space around a value.
fn trim(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

/// Decimal digits only, at most `i64::MAX`, which every other implementation takes too.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let number = digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })?;
    i64::try_from(number).ok()?;
    Some(number)
}

/// A list of registered codings that would be valid, with `chunked` nowhere but at its end.
fn is_list_of_known_codings(value: &[u8]) -> bool {
    const CODINGS: [&[u8]; 6] = [b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress", b"identity"];
    let is_known = |coding: &[u8]| CODINGS.iter().any(|known| known.eq_ignore_ascii_case(coding));
    let mut codings: Vec<_> = value.split(|&byte| byte == b',').map(trim).collect();
    if codings.len() > 1 {
        codings.pop_if(|last| last.eq_ignore_ascii_case(b"chunked"));
    }
    codings.iter().all(|coding| is_known(coding))
}
