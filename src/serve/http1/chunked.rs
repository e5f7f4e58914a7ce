//! The chunked coding of RFC 9112, 7.1, without the liberties that make two readers disagree.
//!
//! What must not live here: reading, and what becomes of the data.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::class::{self, TOKEN};
use super::{Limits, Violation};

/// Extensions serve nobody; this many bytes of them in one body are put up with.
const EXTENSION_BYTES: usize = 4096;
/// Trailers are few and short, whatever the limits on headers say: they are kept until they are complete.
const TRAILER_BYTES: usize = 16 * 1024 - 1;
const TRAILER_FIELDS: usize = 100;
const SIZE_DIGITS: u8 = 16;

/// How far one chunked body has come.
#[derive(Debug)]
pub(super) struct Chunked {
    step: Step,
    /// While its digits come: the chunk's size. Then: the bytes of the chunk that are still to come.
    remaining: u64,
    digits: u8,
    extension_bytes: usize,
    /// The trailer lines so far, for they may come in pieces.
    trailer_lines: Vec<u8>,
    trailer_fields: usize,
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Size,
    /// After the semicolon, and optional white space.
    ExtensionName,
    /// Inside the name.
    ExtensionNameRest,
    /// White space after a name.
    ExtensionEquals,
    ExtensionValue,
    ExtensionToken,
    ExtensionQuoted,
    ExtensionEscaped,
    /// After a value, or white space after one or after the size: the next semicolon or the end of the line.
    ExtensionEnd,
    /// White space after the size, which only an extension may follow.
    ExtensionStart,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
}

/// What the next bytes of a body were.
#[derive(Debug)]
pub(super) enum Piece {
    /// Data of the body.
    Data(Bytes),
    /// The end of the body, with its trailers.
    End(HeaderMap),
    /// Nothing yet: more must come.
    Incomplete,
}

impl Chunked {
    pub(super) fn new() -> Self {
        Self {
            step: Step::Size,
            remaining: 0,
            digits: 0,
            extension_bytes: 0,
            trailer_lines: Vec::new(),
            trailer_fields: 0,
        }
    }

    /// Takes the next piece of the body out of what has been read.
    pub(super) fn take(&mut self, read: &mut BytesMut, limits: &Limits) -> Result<Piece, Violation> {
        let mut framing_bytes = 0;
        while let Some(&byte) = read.get(framing_bytes) {
            match self.step {
                Step::Data => {
                    read.advance(framing_bytes);
                    let length =
                        usize::try_from(self.remaining).map_or(read.len(), |left| left.min(read.len()));
                    self.remaining -= length as u64;
                    if self.remaining == 0 {
                        self.step = Step::DataReturn;
                    }
                    return Ok(Piece::Data(read.split_to(length).freeze()));
                }
                Step::LastLineFeed if byte == b'\n' => {
                    read.advance(framing_bytes + 1);
                    return Ok(Piece::End(self.trailers()));
                }
                Step::LastLineFeed => return Err(Violation::LineEnding),
                _ => self.step = self.next(byte, limits)?,
            }
            framing_bytes += 1;
        }
        read.advance(framing_bytes);
        Ok(Piece::Incomplete)
    }

    /// The fields of the trailer lines, each of which has been found valid.
    fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::with_capacity(self.trailer_fields);
        for line in self.trailer_lines.split(|byte| *byte == b'\n') {
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                trailers.append(name, value);
            }
        }
        trailers
    }

    fn next(&mut self, byte: u8, limits: &Limits) -> Result<Step, Violation> {
        match self.step {
            Step::Size => self.size(byte),
            Step::ExtensionStart
            | Step::ExtensionName
            | Step::ExtensionNameRest
            | Step::ExtensionEquals
            | Step::ExtensionValue
            | Step::ExtensionToken
            | Step::ExtensionQuoted
            | Step::ExtensionEscaped
            | Step::ExtensionEnd => self.extension(byte),
            Step::SizeLineFeed if byte != b'\n' => Err(Violation::LineEnding),
            Step::SizeLineFeed => {
                self.digits = 0;
                Ok(if self.remaining == 0 { Step::TrailerStart } else { Step::Data })
            }
            Step::DataReturn if byte == b'\r' => Ok(Step::DataLineFeed),
            Step::DataLineFeed if byte == b'\n' => Ok(Step::Size),
            Step::DataReturn | Step::DataLineFeed => Err(Violation::ChunkEnd),
            Step::TrailerStart | Step::TrailerName | Step::TrailerValue | Step::TrailerLineFeed => {
                self.trailer(byte, limits)
            }
            // `take` sees to these itself.
            Step::Data | Step::LastLineFeed => Ok(self.step),
        }
    }

    fn size(&mut self, byte: u8) -> Result<Step, Violation> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            self.digits += 1;
            if self.digits > SIZE_DIGITS {
                return Err(Violation::ChunkSize);
            }
            self.remaining = self.remaining << 4 | u64::from(digit);
            return Ok(Step::Size);
        }
        if self.digits == 0 || i64::try_from(self.remaining).is_err() {
            return Err(Violation::ChunkSize);
        }
        match byte {
            b'\r' => Ok(Step::SizeLineFeed),
            b';' => Ok(Step::ExtensionName),
            b' ' | b'\t' => Ok(Step::ExtensionStart),
            _ => Err(Violation::ChunkSize),
        }
    }

    /// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`
    fn extension(&mut self, byte: u8) -> Result<Step, Violation> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES {
            return Err(Violation::ChunkExtensionsTooLarge);
        }
        let is_space = matches!(byte, b' ' | b'\t');
        let is_token = class::is(byte, TOKEN);
        let step = match (self.step, byte) {
            (Step::ExtensionStart, _) if is_space => Step::ExtensionStart,
            (Step::ExtensionStart, b';') => Step::ExtensionName,

            (Step::ExtensionName, _) if is_space => Step::ExtensionName,
            (Step::ExtensionName | Step::ExtensionNameRest, _) if is_token => Step::ExtensionNameRest,

            (Step::ExtensionNameRest | Step::ExtensionEquals, _) if is_space => Step::ExtensionEquals,
            (Step::ExtensionNameRest | Step::ExtensionEquals, b'=') => Step::ExtensionValue,

            (Step::ExtensionValue, _) if is_space => Step::ExtensionValue,
            (Step::ExtensionValue, b'"') => Step::ExtensionQuoted,
            (Step::ExtensionValue | Step::ExtensionToken, _) if is_token => Step::ExtensionToken,

            (Step::ExtensionQuoted, b'"') => Step::ExtensionEnd,
            (Step::ExtensionQuoted, b'\\') => Step::ExtensionEscaped,
            (Step::ExtensionQuoted | Step::ExtensionEscaped, _) if is_space || byte.is_ascii_graphic() => {
                Step::ExtensionQuoted
            }

            (Step::ExtensionToken | Step::ExtensionEnd, _) if is_space => Step::ExtensionStart,
            (
                Step::ExtensionNameRest | Step::ExtensionEquals | Step::ExtensionToken | Step::ExtensionEnd,
                b';',
            ) => Step::ExtensionName,
            (Step::ExtensionNameRest | Step::ExtensionToken | Step::ExtensionEnd, b'\r') => {
                Step::SizeLineFeed
            }
            _ => return Err(Violation::ChunkExtension),
        };
        Ok(step)
    }

    fn trailer(&mut self, byte: u8, limits: &Limits) -> Result<Step, Violation> {
        self.trailer_lines.push(byte);
        // One byte more is the line feed behind the last of them.
        if self.trailer_lines.len() + 1 > limits.header_bytes.min(TRAILER_BYTES) {
            return Err(Violation::TrailersTooLarge);
        }
        let is_token = class::is(byte, TOKEN);
        match (self.step, byte) {
            (Step::TrailerStart, b'\r') => Ok(Step::LastLineFeed),
            (Step::TrailerStart, _) if is_token => {
                self.trailer_fields += 1;
                match self.trailer_fields > limits.header_count.min(TRAILER_FIELDS) {
                    true => Err(Violation::TrailersTooLarge),
                    false => Ok(Step::TrailerName),
                }
            }
            (Step::TrailerName, _) if is_token => Ok(Step::TrailerName),
            (Step::TrailerName, b':') => Ok(Step::TrailerValue),
            (Step::TrailerValue, b'\r') => Ok(Step::TrailerLineFeed),
            (Step::TrailerValue, _) if class::is_field_byte(byte) => Ok(Step::TrailerValue),
            (Step::TrailerLineFeed, b'\n') => Ok(Step::TrailerStart),
            _ => Err(Violation::Trailer),
        }
    }
}
