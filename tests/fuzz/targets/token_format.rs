//! What a text is as a token, against a second reading of the format that is as plain as can be; and tokens in what
//! somebody pasted. A last byte `!` stands for the right checksum of what is before it, which chance would never find.

#![allow(dead_code, reason = "libFuzzer needs no words")]

use std::borrow::Cow;

use postern::token::format::{self, Format, PREFIX_LENGTH, TOKEN_LENGTH, TokenKind};
use postern::token::{TokenDigest, pasted};

pub const WORDS: &[&[u8]] = &[
    b"psta_",
    b"pstp_",
    b"psts_",
    b"pstx_",
    b"psta-",
    b"!",
    b",",
    b"0123456789ab",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef",
    b"Bearer ",
    b"token=",
    b"\"",
    b"'",
    b"\r\n",
    b"\xc3\xa9",
];

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Tokens that are looked for in one text.
const MOST: usize = 5;

pub fn check(bytes: &[u8]) {
    let token = completed(bytes);
    let found = format::inspect(&token);
    assert_eq!(found, read_plainly(&token), "{:?}", String::from_utf8_lossy(&token));
    if let Format::Own(_) = found {
        no_neighbour_is_a_token(&token);
    }
    if let Ok(text) = std::str::from_utf8(&token) {
        assert!(format::shown_prefix(text).chars().count() <= PREFIX_LENGTH);
        look_through(text);
    }
}

/// The text with the checksum that it asks for.
fn completed(bytes: &[u8]) -> Cow<'_, [u8]> {
    match bytes.strip_suffix(b"!") {
        None => bytes.into(),
        Some(checked) => [checked, &checksum(checked)].concat().into(),
    }
}

fn checksum(checked: &[u8]) -> [u8; 6] {
    let mut rest = u64::from(crc32fast::hash(checked));
    let mut written = [b'0'; 6];
    for digit in written.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    written
}

fn read_plainly(token: &[u8]) -> Format {
    let kind = match token.get(..5) {
        Some(b"psta_") => Some(TokenKind::Application),
        Some(b"pstp_") => Some(TokenKind::Personal),
        Some(b"psts_") => Some(TokenKind::Session),
        _ => None,
    };
    if let Some(kind) = kind {
        let is_whole = token.len() == 55
            && token[5..].iter().all(u8::is_ascii_alphanumeric)
            && token[49..] == checksum(&token[..49]);
        return if is_whole { Format::Own(kind) } else { Format::Malformed };
    }
    let is_visible = |byte: &u8| (0x21..=0x7e).contains(byte) && *byte != b',';
    if (16..=1024).contains(&token.len()) && token.iter().all(is_visible) {
        Format::Foreign
    } else {
        Format::Invalid
    }
}

/// One mistyped character is always noticed, whichever it is.
fn no_neighbour_is_a_token(token: &[u8]) {
    assert_eq!(token.len(), TOKEN_LENGTH);
    for at in 0..token.len() {
        let mut mistyped = token.to_vec();
        let value = DIGITS.iter().position(|digit| *digit == token[at]).unwrap_or_default();
        mistyped[at] = DIGITS[(value + 1 + at) % DIGITS.len()];
        if mistyped[at] != token[at] {
            let found = format::inspect(&mistyped);
            assert!(!matches!(found, Format::Own(_)), "{:?}", String::from_utf8_lossy(&mistyped));
        }
    }
}

/// Each thing that is found stands on the line that is told, once, and our own are found wherever they are.
fn look_through(text: &str) {
    let (found, more) = pasted::find(text, MOST);
    assert!(found.len() <= MOST && (!more || found.len() == MOST));
    let lines: Vec<&str> = text.lines().collect();
    for (position, token) in found.iter().enumerate() {
        assert!(found[..position].iter().all(|other| other.digest != token.digest), "twice");
        let line = lines[token.line - 1];
        assert!(token.prefix.iter().all(|prefix| line.contains(prefix.as_str())));
    }
    if let Format::Own(_) = format::inspect(text.as_bytes()) {
        let digest = TokenDigest::of(text.as_bytes());
        assert!(found.iter().any(|token| token.digest == digest && token.prefix.is_some()));
    }
}
