//! The chunked coding of RFC 9112, 7.1, without the liberties that make two readers disagree.
//!
//! What must not live here: decoding. hyper decodes; this only sees to it that there is one way to.

use super::class::{self, TOKEN};
use super::{GuardLimits, Violation};

/// Extensions serve nobody; this many bytes of them in one body are put up with.
const EXTENSION_BYTES: usize = 4096;
/// hyper takes fewer bytes of trailers than 16 KiB and at most 100 fields, whatever the limits say.
const TRAILER_BYTES: usize = 16 * 1024 - 1;
const TRAILER_FIELDS: usize = 100;
const SIZE_DIGITS: u8 = 16;

/// How far one chunked body has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunked {
    step: Step,
    /// While its digits come: the chunk's size. Then: the bytes of the chunk that are still to come.
    remaining: u64,
    digits: u8,
    extension_bytes: usize,
    trailer_bytes: usize,
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

/// Whether the body goes on behind the bytes that were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// All bytes belong to the body, and more must come.
    Continues,
    /// The body ended after so many bytes.
    EndsAfter(usize),
}

impl Chunked {
    pub(super) fn new() -> Self {
        Self {
            step: Step::Size,
            remaining: 0,
            digits: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
            trailer_fields: 0,
        }
    }

    pub(super) fn advance(&mut self, bytes: &[u8], limits: &GuardLimits) -> Result<Progress, Violation> {
        let mut rest = bytes;
        while let Some((&byte, behind)) = rest.split_first() {
            if self.step == Step::Data {
                let length = usize::try_from(self.remaining).map_or(rest.len(), |left| left.min(rest.len()));
                self.remaining -= length as u64;
                if self.remaining == 0 {
                    self.step = Step::DataReturn;
                }
                rest = &rest[length..];
                continue;
            }
            rest = behind;
            if self.step == Step::LastLineFeed {
                return match byte {
                    b'\n' => Ok(Progress::EndsAfter(bytes.len() - rest.len())),
                    _ => Err(Violation::LineEnding),
                };
            }
            self.step = self.next(byte, limits)?;
        }
        Ok(Progress::Continues)
    }

    fn next(&mut self, byte: u8, limits: &GuardLimits) -> Result<Step, Violation> {
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
            // `advance` sees to these itself.
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

    fn trailer(&mut self, byte: u8, limits: &GuardLimits) -> Result<Step, Violation> {
        self.trailer_bytes += 1;
        // One byte more is the line feed behind the last of them.
        if self.trailer_bytes + 1 > limits.header_bytes.min(TRAILER_BYTES) {
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
