//! Postern's own token format: `psta_` / `pstp_` / `psts_`, 12 characters of public id, 32 of secret, 6 of
//! CRC-32 checksum, base62: 55 in all. The token prefix is the first 17.
//!
//! The checksum refuses a mistyped token before any look-up; it proves nothing about who made it. How a token
//! arrives and what it may do is not known here.

use std::fmt;
use std::str::FromStr;

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::TokenDigest;

/// Length of the token prefix, a token's public handle, in characters.
pub const PREFIX_LENGTH: usize = 17;

/// As much of what was named as a prefix has: it may be a mistyped whole token, which no message repeats.
pub fn shown_prefix(named: &str) -> String {
    named.chars().take(PREFIX_LENGTH).collect()
}

/// Length of a whole token in Postern's own format, in characters.
pub const TOKEN_LENGTH: usize = 55;

/// Shortest and longest token that any issuer may have made, in characters.
pub const FOREIGN_TOKEN_LENGTHS: std::ops::RangeInclusive<usize> = 16..=1024;

/// Length of `psta_` and the like.
const MARKER_LENGTH: usize = 5;

/// Length of the checksum at the end.
const CHECKSUM_LENGTH: usize = 6;

/// What the checksum is over: marker, public id and secret.
const CHECKED_LENGTH: usize = TOKEN_LENGTH - CHECKSUM_LENGTH;

/// The digits of base62, in the order of their values.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// What a token was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// Made for an application user.
    Application,
    /// Made by a person.
    Personal,
    /// Made by logging in.
    Session,
}

/// A token just made: the one moment in which its full text exists.
#[derive(Debug)]
pub struct FreshToken {
    /// The whole token, to be shown once.
    pub full: SecretString,
    /// The public handle.
    pub prefix: String,
    /// What is kept of it.
    pub digest: TokenDigest,
}

/// What a text is as a token (check 2 of the policy).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Postern's own format, with its right checksum.
    Own(TokenKind),
    /// It starts as Postern's own format does and is not it: mistyped, cut off or made up. It is never taken for
    /// another issuer's token, so that no such text gets as far as a look-up.
    Malformed,
    /// What another issuer may have made: 16 to 1,024 visible ASCII characters without a comma.
    Foreign,
    /// No token at all.
    Invalid,
}

/// A word that is no kind of token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("unknown kind of token; write `application`, `personal` or `session`")]
pub struct UnknownTokenKind;

/// The system gave no random bytes, without which no token can be made.
#[derive(Clone, Copy, Debug, Error)]
#[error("no token was made, the system's random number generator failed: {0}")]
pub struct RandomnessError(getrandom::Error);

/// Says what a text is as a token. Allocates nothing.
///
/// A comma is refused although it is visible: whoever sees a list of credentials in one header must not take it
/// for one token.
#[inline]
pub fn inspect(token: &[u8]) -> Format {
    match token {
        [b'p', b's', b't', kind, b'_', ..] => match kind_of_marker(*kind) {
            Some(kind) if is_own(token) => Format::Own(kind),
            Some(_) => Format::Malformed,
            None => inspect_foreign(token),
        },
        _ => inspect_foreign(token),
    }
}

/// The checksum of a token in Postern's own format, over all that comes before it.
fn checksum(checked: &[u8; CHECKED_LENGTH]) -> u32 {
    crc32fast::hash(checked)
}

#[inline]
const fn kind_of_marker(letter: u8) -> Option<TokenKind> {
    match letter {
        b'a' => Some(TokenKind::Application),
        b'p' => Some(TokenKind::Personal),
        b's' => Some(TokenKind::Session),
        _ => None,
    }
}

/// Whether length, digits and checksum are right; the marker is known to be.
#[inline]
fn is_own(token: &[u8]) -> bool {
    let Ok(token) = <&[u8; TOKEN_LENGTH]>::try_from(token) else {
        return false;
    };
    let Some((checked, written)) = token.split_first_chunk::<CHECKED_LENGTH>() else {
        return false;
    };
    let digits = token[MARKER_LENGTH..].iter().fold(0, |seen, character| seen | value_of(*character));
    // Six digits reach beyond 32 bits, so the value is compared at full width: each checksum has one spelling.
    let written = written.iter().fold(0, |value, character| value * 62 + u64::from(value_of(*character)));
    (digits & NOT_A_DIGIT == 0) & (written == u64::from(checksum(checked)))
}

fn inspect_foreign(token: &[u8]) -> Format {
    if !FOREIGN_TOKEN_LENGTHS.contains(&token.len()) {
        return Format::Invalid;
    }
    // Not `all`: without the early end the compiler looks at many characters at once.
    let visible = token
        .iter()
        .fold(true, |visible, character| visible & character.is_ascii_graphic() & (*character != b','));
    if visible { Format::Foreign } else { Format::Invalid }
}

/// The bit that no digit's value has.
const NOT_A_DIGIT: u8 = 0x80;

/// Value of each character as a digit.
const VALUES: [u8; 256] = {
    let mut values = [NOT_A_DIGIT; 256];
    let mut value = 0;
    while value < DIGITS.len() {
        values[DIGITS[value] as usize] = value as u8;
        value += 1;
    }
    values
};

#[inline]
const fn value_of(character: u8) -> u8 {
    VALUES[character as usize]
}

impl FreshToken {
    /// Makes a token from the system's random bytes: 71 bits of public id, 190 of secret.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate(kind: TokenKind) -> Result<Self, RandomnessError> {
        let mut token = Zeroizing::new([0; TOKEN_LENGTH]);
        let (checked, checksum_digits) = token
            .split_first_chunk_mut::<CHECKED_LENGTH>()
            .expect("the checked part is shorter than the token");
        let (marker, random) = checked.split_at_mut(MARKER_LENGTH);
        marker.copy_from_slice(kind.marker().as_bytes());
        fill_with_random_digits(random)?;
        let mut rest = checksum(checked);
        for digit in checksum_digits.iter_mut().rev() {
            *digit = DIGITS[(rest % 62) as usize];
            rest /= 62;
        }
        let text = std::str::from_utf8(token.as_slice()).expect("base62 is ASCII");
        Ok(Self {
            prefix: text[..PREFIX_LENGTH].to_owned(),
            digest: TokenDigest::of(text.as_bytes()),
            full: SecretString::from(text),
        })
    }
}

/// Each digit equally likely: bytes beyond the last whole multiple of 62 are drawn again.
fn fill_with_random_digits(digits: &mut [u8]) -> Result<(), RandomnessError> {
    const BYTES_USED: u8 = u8::MAX / 62 * 62;
    let mut random = Zeroizing::new([0_u8; 64]);
    let mut open = digits.iter_mut().peekable();
    while open.peek().is_some() {
        getrandom::fill(random.as_mut_slice()).map_err(RandomnessError)?;
        let drawn = random.iter().filter(|byte| **byte < BYTES_USED);
        for (byte, digit) in drawn.zip(open.by_ref()) {
            *digit = DIGITS[usize::from(byte % 62)];
        }
    }
    Ok(())
}

impl TokenKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Application, Self::Personal, Self::Session];

    /// The word that API, logs and store use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Personal => "personal",
            Self::Session => "session",
        }
    }

    /// What a token of this kind starts with.
    const fn marker(self) -> &'static str {
        match self {
            Self::Application => "psta_",
            Self::Personal => "pstp_",
            Self::Session => "psts_",
        }
    }
}

impl fmt::Display for TokenKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for TokenKind {
    type Err = UnknownTokenKind;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word).ok_or(UnknownTokenKind)
    }
}

impl Serialize for TokenKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for TokenKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
