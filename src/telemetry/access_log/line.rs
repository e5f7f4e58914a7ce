//! One record as one line, JSON or text. Whatever a client sent, it is one line, and it parses.
//!
//! What must not get in here: a query, a header other than the user agent, anything of a body.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use http::{HeaderValue, Uri};
use jiff::Timestamp;
use serde::Serialize as _;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use crate::config::LogFormat;
use crate::directory::candidate::Difference;
use crate::telemetry::record::{Ending, Record};
use crate::token::format::PREFIX_LENGTH;

/// Most bytes of a path.
const PATH_BYTES: usize = 2048;
/// Most bytes of a user agent.
const USER_AGENT_BYTES: usize = 512;
/// Most bytes of a host; names have at most 253.
const HOST_BYTES: usize = 256;
/// Most bytes of a method: clients may make up their own.
const METHOD_BYTES: usize = 32;
/// Most bytes of ids and prefixes.
const ID_BYTES: usize = 128;

/// What stands at the end of a value that was cut.
const CUT: &str = "…";

/// A record on its way to the writer. It holds on to nothing of the connection's read buffer, so that a queue's memory
/// is bounded by the bytes that are logged, and the buffer can be used again at once.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its `uri` has been replaced by `path`.
    record: Record,
    path: Box<str>,
}

impl Entry {
    pub(super) fn new(mut record: Record) -> Self {
        let path = record.uri.path();
        // A character more than is logged, so that it still shows that something was cut.
        let path = path[..path.floor_char_boundary(PATH_BYTES + 4)].into();
        record.uri = Uri::default();
        record.user_agent = record.user_agent.as_ref().map(|it| copy(it, USER_AGENT_BYTES));
        Self { record, path }
    }
}

fn copy(value: &HeaderValue, limit: usize) -> HeaderValue {
    let bytes = value.as_bytes();
    HeaderValue::from_bytes(&bytes[..bytes.len().min(limit + 1)])
        .expect("a part of a header's value is one too")
}

/// Appends the entry's line, with its line feed.
pub(super) fn append(format: LogFormat, entry: &Entry, lines: &mut Vec<u8>) {
    match format {
        LogFormat::Json => {
            lines.push(b'{');
            append_fields(entry, &mut JsonFields { lines, first: true });
            lines.extend_from_slice(b"}\n");
        }
        LogFormat::Text => {
            append_fields(entry, &mut TextFields { lines, first: true });
            lines.push(b'\n');
        }
    }
}

/// The fields in their order, the same for every format.
fn append_fields(Entry { record, path }: &Entry, fields: &mut impl Fields) {
    let time = Timestamp::try_from(record.time).unwrap_or(Timestamp::UNIX_EPOCH);
    fields.text("time", &format!("{time:.3}"));
    fields.text("request_id", &utf8(&record.request_id, ID_BYTES));
    fields.text("trace_id", &utf8(&record.trace_id, ID_BYTES));
    let known = Some(record.client_address).filter(|address| !address.is_unspecified());
    fields.maybe("client_address", known.map(|address| address.to_canonical().to_string().into()));
    fields.maybe("method", record.method.as_ref().map(|it| utf8(it.as_str().as_bytes(), METHOD_BYTES)));
    fields.text("host", &utf8(record.host.as_bytes(), HOST_BYTES));
    fields.text("path", &utf8(path.as_bytes(), PATH_BYTES));
    fields.maybe("route", record.route.as_deref().map(Cow::Borrowed));
    match record.status {
        Some(status) => fields.number("status", status.as_u16().into()),
        None => fields.absent("status"),
    }
    fields.text("decision", record.decision.code());
    let reason = match record.ending {
        Ending::Denied(denial) => Some(denial.code()),
        Ending::LimitExceeded(limit) => Some(limit.code()),
        Ending::Completed
        | Ending::BadRequest
        | Ending::ClientAborted
        | Ending::NoRoute
        | Ending::UpstreamUnhealthy
        | Ending::UpstreamOverloaded
        | Ending::UpstreamUnreachable
        | Ending::UpstreamTimeout
        | Ending::UpstreamFailed
        | Ending::DirectoryStale
        | Ending::UpstreamAborted => None,
    };
    fields.maybe("reason", reason.map(Cow::Borrowed));
    fields.maybe("user_id", record.user_id.as_ref().map(|it| header(it, ID_BYTES)));
    fields.maybe("token_prefix", record.token_prefix.as_ref().map(|it| header(it, ID_BYTES)));
    fields.maybe("user_agent", record.user_agent.as_ref().map(|it| header(it, USER_AGENT_BYTES)));
    let (upstream, endpoint) =
        record.upstream.as_ref().map(|(upstream, endpoint)| (&**upstream, &**endpoint)).unzip();
    fields.maybe("upstream", upstream.map(Cow::Borrowed));
    fields.maybe("endpoint", endpoint.map(Cow::Borrowed));
    fields.number("bytes_received", record.bytes_received);
    fields.number("bytes_sent", record.bytes_sent);
    fields.milliseconds("duration_ms", record.duration);
    match record.upstream_duration {
        Some(duration) => fields.milliseconds("upstream_duration_ms", duration),
        None => fields.absent("upstream_duration_ms"),
    }
    fields.text("ending", record.ending.code());
    match record.difference {
        Some(Difference::WouldDeny(denial)) => fields.text("would_deny", denial.code()),
        Some(Difference::WouldPermit(denial)) => fields.text("would_permit", denial.code()),
        None => {}
    }
}

fn header(value: &HeaderValue, limit: usize) -> Cow<'_, str> {
    utf8(value.as_bytes(), limit)
}

/// At most `limit` bytes of what was sent, before escapes. What is not UTF-8 becomes U+FFFD.
fn utf8(bytes: &[u8], limit: usize) -> Cow<'_, str> {
    if bytes.len() <= limit {
        return without_tokens(String::from_utf8_lossy(bytes));
    }
    let mut end = limit - CUT.len();
    // Not within a character: its continuation bytes look like 10xxxxxx, and there are three at most.
    for _ in 0..3 {
        if bytes[end] & 0b1100_0000 == 0b1000_0000 {
            end -= 1;
        }
    }
    without_tokens(String::from_utf8_lossy(&bytes[..end])) + CUT
}

/// Clients do put tokens where none belong, in a path for example: only the prefix stays.
fn without_tokens(text: Cow<'_, str>) -> Cow<'_, str> {
    // Each has one underscore, after its first four characters.
    let found = memchr::memchr_iter(b'_', text.as_bytes()).filter_map(|at| at.checked_sub(4));
    let mut clean = String::new();
    let mut done = 0;
    for start in found.filter(|start| looks_like_token(&text.as_bytes()[*start..])) {
        if start < done {
            continue;
        }
        let prefix_end = start + PREFIX_LENGTH;
        clean += &text[done..prefix_end];
        clean += CUT;
        let secret = text.as_bytes()[prefix_end..].iter().take_while(|byte| byte.is_ascii_alphanumeric());
        done = prefix_end + secret.count();
    }
    if done == 0 {
        return text;
    }
    clean += &text[done..];
    Cow::Owned(clean)
}

/// Whether these bytes start with a prefix and more.
fn looks_like_token(bytes: &[u8]) -> bool {
    matches!(bytes, [b'p', b's', b't', b'a' | b'p' | b's', b'_', rest @ ..]
        if rest.len() > PREFIX_LENGTH - 5 && rest[..=PREFIX_LENGTH - 5].iter().all(u8::is_ascii_alphanumeric))
}

/// A format: how keys and values are put into a line.
trait Fields {
    fn lines(&mut self) -> &mut Vec<u8>;
    /// Begins a field.
    fn key(&mut self, key: &str);
    fn text(&mut self, key: &str, value: &str);
    fn absent(&mut self, key: &str);

    fn maybe(&mut self, key: &str, value: Option<Cow<'_, str>>) {
        match value {
            Some(value) => self.text(key, &value),
            None => self.absent(key),
        }
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        write!(self.lines(), "{value}").expect(MEMORY);
    }

    /// Milliseconds to the microsecond.
    fn milliseconds(&mut self, key: &str, value: Duration) {
        self.key(key);
        let microseconds = value.as_micros();
        write!(self.lines(), "{}.{:03}", microseconds / 1000, microseconds % 1000).expect(MEMORY);
    }
}

const MEMORY: &str = "writing to memory does not fail";

struct JsonFields<'a> {
    lines: &'a mut Vec<u8>,
    first: bool,
}

impl Fields for JsonFields<'_> {
    fn lines(&mut self) -> &mut Vec<u8> {
        self.lines
    }

    fn key(&mut self, key: &str) {
        self.lines.extend_from_slice(if self.first { b"\"" } else { b",\"" });
        self.first = false;
        self.lines.extend_from_slice(key.as_bytes());
        self.lines.extend_from_slice(b"\":");
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        append_quoted(value, self.lines);
    }

    fn absent(&mut self, key: &str) {
        self.key(key);
        self.lines.extend_from_slice(b"null");
    }
}

/// `key=value`, parted by spaces. A value with anything but plain characters is quoted and escaped as in JSON; a value
/// that is absent is `-`, unquoted.
struct TextFields<'a> {
    lines: &'a mut Vec<u8>,
    first: bool,
}

impl Fields for TextFields<'_> {
    fn lines(&mut self) -> &mut Vec<u8> {
        self.lines
    }

    fn key(&mut self, key: &str) {
        if !self.first {
            self.lines.push(b' ');
        }
        self.first = false;
        self.lines.extend_from_slice(key.as_bytes());
        self.lines.push(b'=');
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/*%@+~-".contains(&byte);
        if value != "-" && !value.is_empty() && value.bytes().all(plain) {
            self.lines.extend_from_slice(value.as_bytes());
        } else {
            append_quoted(value, self.lines);
        }
    }

    fn absent(&mut self, key: &str) {
        self.key(key);
        self.lines.push(b'-');
    }
}

/// A JSON string that is also harmless on a terminal and to whoever splits lines at more than line feeds.
fn append_quoted(value: &str, lines: &mut Vec<u8>) {
    value.serialize(&mut Serializer::with_formatter(lines, PrintableStrings)).expect(MEMORY);
}

struct PrintableStrings;

impl Formatter for PrintableStrings {
    /// JSON itself leaves DEL, the C1 controls, Unicode's line separators and its direction marks as they are.
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, character)) =
            rest.char_indices().find(|(_, character)| is_unprintable(*character))
        {
            CompactFormatter.write_string_fragment(writer, &rest[..at])?;
            // All of them are in the basic plane: four digits do.
            write!(writer, "\\u{:04x}", u32::from(character))?;
            rest = &rest[at + character.len_utf8()..];
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}'..='\u{202e}' | '\u{200b}'..='\u{200f}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
