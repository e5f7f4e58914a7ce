//! The head of a request: the rules of RFC 9112 and 9110 that decide where it ends and what follows it.
//!
//! A head is looked at line by line as it comes, each byte once, however it is split; where its parts stand is noted on
//! the way. What must not live here: input and output, and what a header means to anyone but HTTP/1.

use std::ops::Range;

use memchr::memchr;
use smallvec::SmallVec;

use super::authority::Authority;
use super::class::{self, PATH, QUERY, TOKEN};
use super::{Limits, Violation};

/// No method that anyone uses is longer.
const METHOD_BYTES: usize = 32;
/// What http's `Uri` takes at most.
const URI_BYTES: usize = u16::MAX as usize - 1;
/// ` HTTP/1.1`, the space included.
const VERSION_BYTES: usize = 9;
/// Header lines that most requests stay below.
const USUAL_FIELDS: usize = 16;

/// How far the scan of one head has come. Offsets count from the head's first byte.
#[derive(Debug)]
pub(super) struct HeadScan {
    stage: Stage,
    /// Where the current line starts.
    line_start: usize,
    /// Up to where the current line was searched for its end.
    searched: usize,
    fields_start: usize,
    method: Place,
    target: Place,
    fields: SmallVec<[FieldPlace; USUAL_FIELDS]>,
    version: Version,
    /// Where an absolute target's authority is, and its scheme's port.
    authority: Option<(Range<usize>, u16)>,
    host: Host,
    body: Option<BodyLength>,
    options: Options,
}

/// Where something stands in a head.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    start: u32,
    end: u32,
}

/// Where a header line's name and value stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldPlace {
    pub(super) name: Place,
    /// Without the white space around it.
    pub(super) value: Place,
}

/// A complete, valid head, in the scan that found it.
#[derive(Debug)]
pub(super) struct Head<'a> {
    /// Its bytes, up to and with the empty line.
    pub(super) length: usize,
    pub(super) body: BodyLength,
    pub(super) method: Place,
    pub(super) target: Place,
    pub(super) fields: &'a [FieldPlace],
    pub(super) version: Version,
    pub(super) options: Options,
}

/// What a client asks of the connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    /// `Connection: close`.
    pub(super) asks_to_close: bool,
    /// `Connection: keep-alive`, which matters to HTTP/1.0.
    pub(super) asks_to_keep: bool,
    /// `Expect: 100-continue`.
    pub(super) expects_continue: bool,
    /// `TE: trailers`.
    pub(super) takes_trailers: bool,
    /// `Connection: upgrade`.
    pub(super) asks_to_upgrade: bool,
    /// What `Upgrade` names.
    pub(super) upgrade: Upgrade,
}

/// What a client would rather speak on its connection (RFC 9110, section 7.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Upgrade {
    /// Nothing else.
    #[default]
    None,
    /// WebSocket (RFC 6455), and nothing beside it.
    WebSocket,
    /// One other protocol. Whether it may be offered to anybody is its route's to say.
    Named,
    /// More than one, or what is none: the client's wish is not granted, and it goes on as it is.
    Other,
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

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
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

impl Place {
    fn new(start: usize, length: usize) -> Self {
        // Limits keep heads far below what does not fit; a longer one would yield a place that holds nothing.
        let at = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { start: at(start), end: at(start + length) }
    }

    pub(super) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// What stands there.
    pub(super) fn of(self, head: &[u8]) -> &[u8] {
        head.get(self.range()).unwrap_or_default()
    }
}

impl HeadScan {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Start,
            line_start: 0,
            searched: 0,
            fields_start: 0,
            method: Place::default(),
            target: Place::default(),
            fields: SmallVec::new(),
            version: Version::Http11,
            authority: None,
            host: Host::Missing,
            body: None,
            options: Options::default(),
        }
    }

    /// Forgets a head: the next one's first byte comes next.
    pub(super) fn restart(&mut self) {
        *self = Self::new();
    }

    /// Whether more than an empty line has come, when `received` bytes have.
    pub(super) fn has_begun(&self, received: usize) -> bool {
        self.stage == Stage::Fields || received > self.line_start
    }

    /// Goes on with `bytes`, which start with the head's first byte and have more than at the call before.
    /// `None`: the head is not complete yet, and all of `bytes` belong to it.
    pub(super) fn advance(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<Head<'_>>, Violation> {
        self.find_end(bytes, limits)?.map(|length| self.finish(length)).transpose()
    }

    /// The length of the head, once it is complete.
    fn find_end(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Violation> {
        loop {
            if self.stage == Stage::Fields && self.searched == self.line_start {
                match self.whole_field(bytes, limits)? {
                    Line::Field => continue,
                    Line::Empty(length) => return Ok(Some(length)),
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
                Stage::Fields if line.is_empty() => return Ok(Some(end + 1)),
                Stage::Fields => {
                    let (name, value) = split_field(line)?;
                    self.field(name, value, bytes, limits)?;
                }
            }
            self.line_start = end + 1;
            self.searched = end + 1;
        }
    }

    /// The usual case in one pass: a field line that is whole and has nothing wrong with its form. What is left to
    /// the general way is not complete, or wrong; either way takes the same lines for valid.
    fn whole_field(&mut self, bytes: &[u8], limits: &Limits) -> Result<Line, Violation> {
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
                self.field(name, value, bytes, limits)?;
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

    /// Refuses what cannot become a valid head any more, whether or not its line has ended: early, so that it is
    /// not kept in memory, and for the same reason however the head is split.
    fn check_limits(&self, bytes: &[u8], limits: &Limits) -> Result<(), Violation> {
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

    fn request_line(&mut self, line: &[u8], limits: &Limits) -> Result<(), Violation> {
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
        self.method = Place::new(self.line_start, method_end);
        self.target = Place::new(self.line_start + method_end + 1, target_end);
        self.check_target(method, target, self.line_start + method_end + 1)
    }

    /// The four forms of RFC 9112, 3.2; `offset` is where the target starts in the head.
    fn check_target(&mut self, method: &[u8], target: &[u8], offset: usize) -> Result<(), Violation> {
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

    /// Notes a valid field of the current line, and what it means for the framing.
    fn field(&mut self, name: &[u8], value: &[u8], bytes: &[u8], limits: &Limits) -> Result<(), Violation> {
        if self.fields.len() == limits.header_count {
            return Err(Violation::TooManyHeaders);
        }
        let value_start = self.line_start + name.len() + 1;
        let (leading, value) = trim(value);
        self.fields.push(FieldPlace {
            name: Place::new(self.line_start, name.len()),
            value: Place::new(value_start + leading, value.len()),
        });
        match name.len() {
            2 if name.eq_ignore_ascii_case(b"te") => {
                let takes_trailers = |coding: &[u8]| coding.eq_ignore_ascii_case(b"trailers");
                self.options.takes_trailers |= elements(value).any(takes_trailers);
            }
            4 if name.eq_ignore_ascii_case(b"host") => return self.host(value, bytes),
            6 if name.eq_ignore_ascii_case(b"expect") => {
                self.options.expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.options.upgrade = match self.options.upgrade {
                    Upgrade::None if value.eq_ignore_ascii_case(b"websocket") => Upgrade::WebSocket,
                    Upgrade::None if is_protocol(value) => Upgrade::Named,
                    _ => Upgrade::Other,
                };
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in elements(value) {
                    match option.len() {
                        5 => self.options.asks_to_close |= option.eq_ignore_ascii_case(b"close"),
                        7 => self.options.asks_to_upgrade |= option.eq_ignore_ascii_case(b"upgrade"),
                        10 => self.options.asks_to_keep |= option.eq_ignore_ascii_case(b"keep-alive"),
                        _ => {}
                    }
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => return self.content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => return self.transfer_encoding(value),
            _ => {}
        }
        Ok(())
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

    fn finish(&self, length: usize) -> Result<Head<'_>, Violation> {
        if self.version == Version::Http11 && self.host == Host::Missing {
            return Err(Violation::HostMissing);
        }
        Ok(Head {
            length,
            body: self.body.unwrap_or(BodyLength::Known(0)),
            method: self.method,
            target: self.target,
            fields: &self.fields,
            version: self.version,
            options: self.options,
        })
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

/// A value without the optional white space around it, and how much of that stood in front.
#[inline]
fn trim(value: &[u8]) -> (usize, &[u8]) {
    let mut rest = value;
    while let [b' ' | b'\t', behind @ ..] = rest {
        rest = behind;
    }
    let leading = value.len() - rest.len();
    while let [before @ .., b' ' | b'\t'] = rest {
        rest = before;
    }
    (leading, rest)
}

/// Whether a value names one protocol, with or without a version (RFC 9110, section 7.8).
pub(super) fn is_protocol(value: &[u8]) -> bool {
    let is_token = |part: &[u8]| !part.is_empty() && class::run(part, TOKEN) == part.len();
    let mut parts = value.splitn(2, |&byte| byte == b'/');
    parts.all(is_token)
}

/// The elements of a comma list.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(|element| trim(element).1)
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
    let mut codings: Vec<_> = value.split(|&byte| byte == b',').map(|coding| trim(coding).1).collect();
    if codings.len() > 1 {
        codings.pop_if(|last| last.eq_ignore_ascii_case(b"chunked"));
    }
    codings.iter().all(|coding| is_known(coding))
}
