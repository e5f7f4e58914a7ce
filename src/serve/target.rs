//! One reading of a path: what routing decides on and what is forwarded are the same string, and a path that
//! servers read differently is refused.
//!
//! What must not live here: routes, and bytes that no target may have over HTTP/1 (`http1` refuses those).

use std::borrow::Cow;
use std::fmt;

use super::http1::class::{self, SEGMENT, UNRESERVED};

#[cfg(test)]
mod tests;

/// Why a path has more than one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ambiguity {
    /// No slash at its start.
    NotAbsolute,
    /// `.` or `..` as a segment, plain or encoded: some servers resolve it, some do not.
    DotSegment,
    /// `//`: some servers merge slashes, some do not.
    EmptySegment,
    /// A plain `;`: some servers cut the segment there. `%3B` is fine.
    PathParameter,
    /// `%2F`: some servers decode it before they split the path.
    EncodedSlash,
    /// A backslash, plain or encoded: some servers take it for a slash.
    Backslash,
    /// An encoded control character, NUL first of all: some servers stop there.
    EncodedControl,
    /// A `%` without two hexadecimal digits.
    PercentEncoding,
    /// Encoded bytes that are not UTF-8, overlong forms included.
    Encoding,
    /// A character that a path may only have encoded.
    Character,
}

impl Ambiguity {
    /// The stable code that response, log and metric share.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotAbsolute => "path_not_absolute",
            Self::DotSegment => "path_dot_segment",
            Self::EmptySegment => "path_empty_segment",
            Self::PathParameter => "path_parameter",
            Self::EncodedSlash => "path_encoded_slash",
            Self::Backslash => "path_backslash",
            Self::EncodedControl => "path_encoded_control",
            Self::PercentEncoding => "path_percent_encoding",
            Self::Encoding => "path_encoding",
            Self::Character => "path_character",
        }
    }

    /// What happened and what to do about it, for the client.
    pub fn message(self) -> &'static str {
        match self {
            Self::NotAbsolute => "The path does not start with a slash. Send an absolute path.",
            Self::DotSegment => "The path has a \".\" or \"..\" segment. Resolve it before sending.",
            Self::EmptySegment => "The path has two slashes in a row. Send one.",
            Self::PathParameter => "The path has a \";\". Send it encoded, as \"%3B\", or leave it out.",
            Self::EncodedSlash => "The path has an encoded slash. Send a plain slash, or another identifier.",
            Self::Backslash => "The path has a backslash. Send slashes, or another identifier.",
            Self::EncodedControl => "The path has an encoded control character. Remove it.",
            Self::PercentEncoding => {
                "The path has a \"%\" without two hexadecimal digits. Send a plain \"%\" as \"%25\"."
            }
            Self::Encoding => "The path is not UTF-8 when decoded. Encode its characters as UTF-8.",
            Self::Character => "The path has a character that must be percent-encoded. Encode it.",
        }
    }
}

impl fmt::Display for Ambiguity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.message())
    }
}

impl std::error::Error for Ambiguity {}

/// The one reading of a path with its query: borrowed, and nothing allocated, when it is the given one.
///
/// Encoded letters, digits, `-`, `.`, `_` and `~` are decoded, which RFC 3986 calls equivalent, so that
/// `/%61dmin` is routed, and forwarded, as `/admin`. Every other encoding stays as it is, so a router must not
/// tell routes apart by a reserved character (`:`, `@`, `=`, …) that a client can send encoded. Of the query
/// nothing is changed or looked at.
///
/// # Errors
/// The first [`Ambiguity`] from the left.
pub fn normalize(path_and_query: &str) -> Result<Cow<'_, str>, Ambiguity> {
    normalize_as(path_and_query, Slashes::Plain)
}

/// As [`normalize`], but with encoded slashes, which stay as they are: part of a segment. What would be a segment only of
/// dots if they were decoded is refused all the same.
///
/// # Errors
/// The first [`Ambiguity`] from the left, segments of dots between encoded slashes last.
pub fn normalize_with_encoded_slashes(path_and_query: &str) -> Result<Cow<'_, str>, Ambiguity> {
    let normal = normalize_as(path_and_query, Slashes::PlainAndEncoded)?;
    let path = normal.split('?').next().unwrap_or_default();
    if with_slashes_decoded(path).split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(Ambiguity::DotSegment);
    }
    Ok(normal)
}

/// The path as a service reads it that decodes slashes before it splits the path.
pub fn with_slashes_decoded(path: &str) -> String {
    path.replace("%2f", "/").replace("%2F", "/")
}

/// Which slashes a path may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slashes {
    Plain,
    PlainAndEncoded,
}

fn normalize_as(path_and_query: &str, slashes: Slashes) -> Result<Cow<'_, str>, Ambiguity> {
    let bytes = path_and_query.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(Ambiguity::NotAbsolute);
    }
    let mut decoding = Decoding { target: path_and_query, decoded: None, copied: 0 };
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'/' => {
                check_segment(bytes.get(at + 1..).unwrap_or_default())?;
                at += 1;
            }
            b'%' => at += decoding.encoded(at, slashes)?,
            b'?' => break,
            b';' => return Err(Ambiguity::PathParameter),
            b'\\' => return Err(Ambiguity::Backslash),
            _ if class::is(byte, SEGMENT) => at += class::run(&bytes[at..], SEGMENT),
            _ => return Err(Ambiguity::Character),
        }
    }
    Ok(decoding.finish())
}

/// Refuses a segment, which `rest` starts with, that is empty before a slash, or only dots.
#[inline]
fn check_segment(rest: &[u8]) -> Result<(), Ambiguity> {
    match rest.first() {
        Some(b'/') => Err(Ambiguity::EmptySegment),
        Some(b'.' | b'%') => check_dots(rest),
        _ => Ok(()),
    }
}

fn check_dots(mut rest: &[u8]) -> Result<(), Ambiguity> {
    for dots in 0.. {
        rest = match rest {
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            [] | [b'/' | b'?', ..] if matches!(dots, 1 | 2) => return Err(Ambiguity::DotSegment),
            _ => break,
        };
    }
    Ok(())
}

/// A target, and its copy once something in it had to be decoded.
struct Decoding<'a> {
    target: &'a str,
    decoded: Option<String>,
    /// Up to where the copy has the target.
    copied: usize,
}

impl<'a> Decoding<'a> {
    /// Judges the percent-encoded character at `at`; returns its length in the target.
    fn encoded(&mut self, at: usize, slashes: Slashes) -> Result<usize, Ambiguity> {
        let bytes = self.target.as_bytes().get(at..).unwrap_or_default();
        let byte = encoded_byte(bytes)?;
        match byte {
            b'/' if slashes == Slashes::PlainAndEncoded => Ok(3),
            b'/' => Err(Ambiguity::EncodedSlash),
            b'\\' => Err(Ambiguity::Backslash),
            _ if byte.is_ascii_control() => Err(Ambiguity::EncodedControl),
            _ if class::is(byte, UNRESERVED) => {
                let decoded = self.decoded.get_or_insert_default();
                decoded.push_str(self.target.get(self.copied..at).unwrap_or_default());
                decoded.push(char::from(byte));
                self.copied = at + 3;
                Ok(3)
            }
            _ if byte.is_ascii() => Ok(3),
            _ => encoded_character_length(byte, bytes),
        }
    }

    fn finish(self) -> Cow<'a, str> {
        match self.decoded {
            None => Cow::Borrowed(self.target),
            Some(mut decoded) => {
                decoded.push_str(self.target.get(self.copied..).unwrap_or_default());
                Cow::Owned(decoded)
            }
        }
    }
}

/// The byte that `bytes` start with, as `%XX`.
fn encoded_byte(bytes: &[u8]) -> Result<u8, Ambiguity> {
    let digit = |at: usize| bytes.get(at).and_then(|&digit| char::from(digit).to_digit(16));
    match (bytes.first(), digit(1), digit(2)) {
        (Some(b'%'), Some(high), Some(low)) => Ok((high << 4 | low) as u8),
        _ => Err(Ambiguity::PercentEncoding),
    }
}

/// The length of an encoded character above ASCII, whose first byte is `first`, if it is one in UTF-8.
fn encoded_character_length(first: u8, bytes: &[u8]) -> Result<usize, Ambiguity> {
    let length = match first {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Err(Ambiguity::Encoding),
    };
    let mut character = [0; 4];
    for (index, byte) in character.iter_mut().enumerate().take(length) {
        let encoded = bytes.get(3 * index..).unwrap_or_default();
        *byte = encoded_byte(encoded).map_err(|_| Ambiguity::Encoding)?;
    }
    match std::str::from_utf8(&character[..length]) {
        Ok(_) => Ok(3 * length),
        Err(_) => Err(Ambiguity::Encoding),
    }
}
