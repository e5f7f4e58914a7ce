//! What is refused of a request's head, whatever its route: what names no host or two, what has several readings, what no
//! proxy serves.
//!
//! What must not live here: who may pass.

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version, header};

use super::glance::{Glance, Lines};
use crate::config::LimitsConfig;
use crate::error::Answer;
use crate::serve::http1::{self, Violation};

/// The one host a request names: `:authority` or absolute form, else `Host`; both must agree.
pub(super) fn host(head: &Parts, glance: &Glance<'_>) -> Result<HeaderValue, Answer> {
    let line = match glance.host {
        Lines::None => None,
        Lines::One(line) => Some(line),
        Lines::Several => return Err(Answer::BadHost),
    };
    let Some(authority) = head.uri.authority() else {
        // HTTP/1.0 alone may name none; what HTTP/1 names has been looked at; HTTP/2's is looked at here.
        return match line {
            Some(line) if head.version != Version::HTTP_2 || http1::is_host(line.as_bytes()) => {
                Ok(line.clone())
            }
            None if head.version != Version::HTTP_2 => Ok(HeaderValue::from_static("")),
            Some(_) | None => Err(Answer::BadHost),
        };
    };
    if !http1::is_host(authority.as_str().as_bytes()) {
        return Err(Answer::BadHost);
    }
    match line {
        Some(line) if line.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) => Ok(line.clone()),
        Some(_) => Err(Answer::BadHost),
        None => HeaderValue::from_str(authority.as_str()).map_err(|_| Answer::BadHost),
    }
}

/// What the reader of HTTP/1 has seen to already.
pub(super) fn check_http2(head: &Parts, limits: &LimitsConfig) -> Result<(), Answer> {
    if head.version != Version::HTTP_2 {
        return Ok(());
    }
    if head.uri.path_and_query().is_some_and(|target| target.as_str().len() > limits.uri_bytes) {
        return Err(Answer::Violation(Violation::TargetTooLong));
    }
    if head.uri.query().is_some_and(|query| !http1::is_query(query.as_bytes())) {
        return Err(Answer::Violation(Violation::Target));
    }
    if head.headers.len() > limits.header_count {
        return Err(Answer::Violation(Violation::TooManyHeaders));
    }
    if line_bytes(&head.headers) > limits.header_bytes {
        return Err(Answer::Violation(Violation::HeadersTooLarge));
    }
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (Some(_), Some(_)) => Err(Answer::Violation(Violation::ContentLengthRepeated)),
        (Some(length), None) if !http1::is_content_length(length.as_bytes()) => {
            Err(Answer::Violation(Violation::ContentLength))
        }
        (Some(_), None) | (None, _) => Ok(()),
    }
}

/// The bytes of the header lines as HTTP/1 would have them. What h2 counts is something else: it adds to each field, and the
/// target is among them.
fn line_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum()
}

pub(super) fn check_method(head: &Parts) -> Result<(), Answer> {
    match head.method {
        Method::CONNECT | Method::TRACE => Err(Answer::MethodNotAllowed),
        Method::OPTIONS if head.uri.path() == "*" => Err(Answer::ServerOptions),
        _ => Ok(()),
    }
}

pub(super) fn check_expectation(head: &Parts, glance: &Glance<'_>) -> Result<(), Answer> {
    let known = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    let is_known = match glance.expect {
        Lines::None => true,
        Lines::One(value) => known(value),
        Lines::Several => head.headers.get_all(header::EXPECT).iter().all(known),
    };
    if is_known { Ok(()) } else { Err(Answer::ExpectationFailed) }
}

/// A body that says itself that it is too long is not even begun.
pub(super) fn check_length(head: &Parts, limit: u64) -> Result<(), Answer> {
    let Some(length) = head.headers.get(header::CONTENT_LENGTH) else { return Ok(()) };
    match length.to_str().ok().and_then(|length| length.parse::<u64>().ok()) {
        Some(length) if length <= limit => Ok(()),
        // Digits that are too many for a number are too many bytes as well.
        Some(_) | None => Err(Answer::BodyTooLarge),
    }
}
