//! The one reading of a path: what is accepted means the same to servers that decode before they split, after it, or merge
//! what they can; and reading it again changes nothing.

#![allow(dead_code, reason = "libFuzzer needs no words")]

use std::borrow::Cow;

use http::uri::PathAndQuery;
use postern::route;
use postern::serve::target::{self, Ambiguity};

pub const WORDS: &[&[u8]] = &[
    b"/",
    b"//",
    b"/./",
    b"/../",
    b"..",
    b"%2e",
    b"%2E%2e",
    b"%2f",
    b"%2F",
    b"%5c",
    b"%00",
    b"%25",
    b"%61",
    b"%7e",
    b"%c0%ae",
    b"%c3%a9",
    b"%e2%82%ac",
    b"%f0%9f%98%80",
    b"%ed%a0%80",
    b"%",
    b";",
    b"?",
    b"#",
    b"\\",
    b"admin",
    b"\xc3\xa9",
];

pub fn check(bytes: &[u8]) {
    let Ok(given) = std::str::from_utf8(bytes) else { return };
    let plain = target::normalize(given);
    if let Ok(normal) = &plain {
        assert_eq!(target::normalize(normal), Ok(Cow::Borrowed(normal.as_ref())), "{given}");
        assert!(!normal.split('?').next().is_some_and(|path| path.to_ascii_lowercase().contains("%2f")));
        check_reading(given, normal);
        check_every_server(&path_of(normal));
    }
    let with_slashes = target::normalize_with_encoded_slashes(given);
    match (&plain, &with_slashes) {
        (Ok(plain), Ok(with_slashes)) => assert_eq!(plain, with_slashes),
        (Ok(_), Err(ambiguity)) => panic!("{given} is refused for {ambiguity:?} only where more may pass"),
        (Err(_), Err(_)) => {}
        (Err(ambiguity), Ok(normal)) => {
            assert_eq!(*ambiguity, Ambiguity::EncodedSlash, "{given}");
            assert_eq!(
                target::normalize_with_encoded_slashes(normal),
                Ok(Cow::Borrowed(normal.as_ref())),
                "{given}"
            );
            check_reading(given, normal);
            let decoded = target::with_slashes_decoded(&path_of(normal));
            assert!(!decoded.split('/').any(|segment| matches!(segment, "." | "..")), "{given}");
        }
    }
    let name = route::host_name(given);
    assert!(given.starts_with(name));
}

fn path_of(target: &str) -> String {
    target.split('?').next().unwrap_or_default().to_owned()
}

/// Only encoded characters that need not be have changed; the query has not; and it is what the HTTP library reads.
fn check_reading(given: &str, normal: &str) {
    let query = |target: &str| target.split_once('?').map(|(_, query)| query.to_owned());
    assert_eq!(query(given), query(normal));
    assert_eq!(decoded(path_of(given).as_bytes()), decoded(path_of(normal).as_bytes()), "{given}");
    let path = path_of(normal);
    assert!(
        path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b';' | b'\\' | b'#')),
        "{path}"
    );
    assert!(String::from_utf8(decoded(path.as_bytes())).is_ok(), "{path}");
    if let Ok(parsed) = PathAndQuery::try_from(normal) {
        assert_eq!(parsed.path(), path);
    }
}

/// However a server reads it, it comes to the same segments.
fn check_every_server(path: &str) {
    let split_first: Vec<Vec<u8>> =
        path.split('/').skip(1).map(|segment| decoded(segment.as_bytes())).collect();
    let whole = decoded(path.as_bytes());
    let decoded_first: Vec<&[u8]> = whole.split(|byte| matches!(byte, b'/' | b'\\')).skip(1).collect();
    assert_eq!(split_first, decoded_first, "{path}");
    for (position, segment) in split_first.iter().enumerate() {
        let is_last = position + 1 == split_first.len();
        assert!(!segment.is_empty() || is_last, "{path}");
        assert!(segment != b"." && segment != b"..", "{path}");
        assert!(!segment.iter().any(u8::is_ascii_control), "{path}");
    }
}

/// What `%XX` stands for; anything else stands for itself.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        let digit = |at: usize| behind.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                rest = &behind[2..];
            }
            _ => {
                decoded.push(*first);
                rest = behind;
            }
        }
    }
    decoded
}
