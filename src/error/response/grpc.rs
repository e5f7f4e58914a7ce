//! Postern's own answers to gRPC clients: a status in the trailers, as they read it, instead of HTTP's.
//!
//! What must not live here: what happened; [`Answer`] says that.

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use http::{HeaderName, StatusCode};

use super::{Rendered, push_line};
use crate::error::Answer;

pub(super) const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether a `Content-Type` is gRPC's: `application/grpc`, alone or with a suffix or parameters.
pub fn is_content_type(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    let Some((essence, rest)) = value.split_at_checked(b"application/grpc".len()) else { return false };
    essence.eq_ignore_ascii_case(b"application/grpc")
        && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// The code of gRPC's that says the same (grpc/doc/statuscodes, and http-grpc-status-mapping).
pub fn code(answer: Answer) -> u8 {
    const INTERNAL: u8 = 13;
    match answer.status() {
        StatusCode::UNAUTHORIZED => 16,
        StatusCode::FORBIDDEN => 7,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => 12,
        StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => 4,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => 14,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE => 8,
        _ => INTERNAL,
    }
}

/// The whole answer: a head that is its own trailers.
pub(super) fn render(answer: Answer, message: &str) -> Rendered {
    let mut lines = Vec::with_capacity(256);
    push_line(&mut lines, &http::header::CACHE_CONTROL, &["no-store"]);
    push_line(&mut lines, &http::header::CONTENT_TYPE, &["application/grpc"]);
    push_line(&mut lines, &STATUS, &[&code(answer).to_string()]);
    push_line(
        &mut lines,
        &MESSAGE,
        &[&percent_encoded(answer.public_code()), ": ", &percent_encoded(message)],
    );
    Rendered { status: StatusCode::OK, lines: Bytes::from(lines), body: Bytes::new() }
}

/// The end of a call that has begun.
pub fn trailers(answer: Answer) -> HeaderMap {
    let why = match answer {
        Answer::Denied(_) | Answer::DirectoryStale => "the call was let in, and is not any more",
        _ => "the call was broken off before its end",
    };
    let message = format!("{}: {why}", answer.public_code());
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(STATUS, HeaderValue::from(u16::from(code(answer))));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(&message)) {
        trailers.insert(MESSAGE, message);
    }
    trailers
}

/// As `grpc-message` is written: what is not visible ASCII, and the percent sign, as percent and two digits of each byte.
fn percent_encoded(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b'%' => encoded.push_str("%25"),
            b' '..=b'~' => encoded.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

/// How long a client waits for the end of its call, as `grpc-timeout` says: up to eight digits and a unit.
pub fn timeout(value: &HeaderValue) -> Option<std::time::Duration> {
    use std::time::Duration;
    let (unit, digits) = value.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use super::*;
    use crate::policy::Denial;

    #[test]
    fn content_types_are_grpcs_or_not() {
        let cases = [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/gRPC; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
            ("", false),
        ];
        for (value, expected) in cases {
            assert_eq!(is_content_type(&HeaderValue::from_static(value)), expected, "{value}");
        }
    }

    #[test]
    fn timeouts_have_a_unit() {
        let cases = [
            ("1S", Some(Duration::from_secs(1))),
            ("100m", Some(Duration::from_millis(100))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("123456789S", None),
            ("S", None),
            ("1", None),
            ("-1S", None),
        ];
        for (value, expected) in cases {
            assert_eq!(timeout(&HeaderValue::from_static(value)), expected, "{value}");
        }
    }

    #[test]
    fn refusals_have_grpcs_codes() {
        let cases = [
            (Answer::Denied(Denial::TokenRevoked), 16),
            (Answer::Denied(Denial::PermissionDenied), 7),
            (Answer::UpstreamUnreachable, 14),
            (Answer::UpstreamTimeout, 4),
            (Answer::NoRoute, 12),
        ];
        for (answer, expected) in cases {
            assert_eq!(code(answer), expected, "{answer:?}");
        }
    }
}
