//! Header hygiene, in both directions: hop-by-hop headers end here, identity headers come from the decision or are
//! absent, forwarding headers are believed only from trusted proxies.
//!
//! The upstream's headers are written anew from the client's: what is not copied cannot leak. No decision is made
//! here, and nothing is read from sockets.

pub mod change;
pub mod forwarded;
pub mod names;
pub mod trace;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use change::HeaderChanges;

#[cfg(test)]
mod tests;

/// Who the upstream is told the request comes from. All values come from the decision.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `x-postern-user-id`.
    pub user_id: HeaderValue,
    /// `x-postern-user-kind`: `application` or `organization`.
    pub user_kind: HeaderValue,
    /// `x-postern-organization-id`.
    pub organization_id: HeaderValue,
    /// `x-postern-project`.
    pub project: HeaderValue,
    /// `x-postern-token-prefix`.
    pub token_prefix: HeaderValue,
    /// `x-postern-identity-token`: the same, signed, for an upstream that wants it.
    pub token: Option<HeaderValue>,
}

/// What is set on an upstream request after stripping.
#[derive(Clone, Copy, Debug)]
pub struct Additions<'a> {
    /// The host the client asked for.
    pub host: &'a HeaderValue,
    /// The identity of an authenticated request; `None` on an open route.
    pub identity: Option<&'a Identity>,
    /// `x-postern-request-id`, and `traceparent`, passed on or started.
    pub ids: &'a trace::RequestIds,
    /// The `Authorization` the upstream sees.
    pub authorization: Option<&'a HeaderValue>,
    /// The forwarding headers.
    pub forwarding: &'a forwarded::Forwarding,
    /// What the route changes of the client's.
    pub changes: Option<&'a HeaderChanges>,
}

/// Fields that are set on most requests at most, and the bytes that they fit in as lines.
const ADDITIONS: usize = 16;
const ADDITIONS_BYTES: usize = 1024;

/// What a hop-by-hop or joined header needs that the client sent: most requests have none of them.
#[derive(Clone, Copy, Debug, Default)]
struct Rare {
    connection: bool,
    cookie: bool,
    te: bool,
}

/// Writes the header lines of an upstream request: the client's without those that end here, then ours.
pub fn write_upstream_request(client: &HeaderMap, additions: Additions<'_>, lines: &mut Vec<u8>) {
    write_field(lines, b"host", additions.host.as_bytes());
    let write = |name: &HeaderName, value: &HeaderValue| {
        write_field(lines, name.as_str().as_bytes(), value.as_bytes());
    };
    let rare = pass_client(client, additions.changes, write);
    if rare.cookie {
        write_cookies(client, lines);
    }
    if rare.te && wants_trailers(client) {
        lines.extend_from_slice(b"te: trailers\r\nconnection: te\r\n");
    }
    write_additions(additions, lines);
}

/// The same as HTTP/2's fields, without `host`, which is a pseudo-header there. The client's share its request's memory: many of
/// them may be one field of it, to which a byte of the client's referred each time (RFC 7541, section 6.1).
pub fn upstream_request_fields(client: &HeaderMap, additions: Additions<'_>) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(client.len() + ADDITIONS);
    let rare = pass_client(client, additions.changes, |name, value| {
        fields.append(name, value.clone());
    });
    if rare.cookie {
        // As they came: whoever makes something else than HTTP/2 of them joins them (RFC 9113, section 8.2.3).
        for crumb in client.get_all(header::COOKIE) {
            fields.append(header::COOKIE, crumb.clone());
        }
    }
    if rare.te && wants_trailers(client) {
        fields.append(header::TE, HeaderValue::from_static("trailers"));
    }
    let mut lines = Vec::with_capacity(ADDITIONS_BYTES);
    write_additions(additions, &mut lines);
    fields.extend(fields_of_lines(&Bytes::from(lines)));
    fields
}

/// Writes what is set on an upstream request, but for `host`.
#[inline]
fn write_additions(additions: Additions<'_>, lines: &mut Vec<u8>) {
    if let Some(authorization) = additions.authorization {
        write_field(lines, b"authorization", authorization.as_bytes());
    }
    if let Some(identity) = additions.identity {
        write_field(lines, b"x-postern-user-id", identity.user_id.as_bytes());
        write_field(lines, b"x-postern-user-kind", identity.user_kind.as_bytes());
        write_field(lines, b"x-postern-organization-id", identity.organization_id.as_bytes());
        write_field(lines, b"x-postern-project", identity.project.as_bytes());
        write_field(lines, b"x-postern-token-prefix", identity.token_prefix.as_bytes());
        if let Some(token) = &identity.token {
            write_field(lines, b"x-postern-identity-token", token.as_bytes());
        }
    }
    lines.extend_from_slice(additions.ids.lines());
    lines.extend_from_slice(additions.forwarding.lines());
    if let Some(changes) = additions.changes {
        lines.extend_from_slice(changes.lines());
    }
}

/// Hands over what passes of the client's headers; cookies come later.
#[inline]
fn pass_client(
    client: &HeaderMap,
    changes: Option<&HeaderChanges>,
    mut pass: impl FnMut(&HeaderName, &HeaderValue),
) -> Rare {
    let mut rare = Rare::default();
    for name in client.keys() {
        match *name {
            header::CONNECTION => rare.connection = true,
            header::COOKIE => rare.cookie = true,
            header::TE => rare.te = true,
            _ => {}
        }
    }
    let listed = if rare.connection { listed_in_connection(client) } else { SmallVec::new() };
    for (name, value) in client {
        if !ends_here(name)
            && *name != header::COOKIE
            && !listed.contains(name)
            && changes.is_none_or(|changes| !changes.removes(name.as_str().as_bytes()))
        {
            pass(name, value);
        }
    }
    rare.cookie &= !listed.contains(&header::COOKIE);
    rare.cookie &= changes.is_none_or(|changes| !changes.removes(header::COOKIE.as_str().as_bytes()));
    rare
}

/// The map of header lines that were written already; names and values share the lines' memory.
pub fn map_of_lines(lines: &Bytes) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(memchr::memchr_iter(b'\n', lines).count());
    for (name, value) in fields_of_lines(lines) {
        map.append(name, value);
    }
    map
}

fn fields_of_lines(lines: &Bytes) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let mut start = 0;
    memchr::memchr_iter(b'\n', lines).filter_map(move |end| {
        let line = &lines[start..end];
        start = end + 1;
        field_of_line(lines, line)
    })
}

fn field_of_line(lines: &Bytes, line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let line = line.strip_suffix(b"\r")?;
    let (name, value) = line.split_at(memchr::memchr(b':', line)?);
    let name = names::read(name)?;
    let value = value.strip_prefix(b": ")?;
    Some((name, HeaderValue::from_maybe_shared(lines.slice_ref(value)).ok()?))
}

/// Writes one header line.
#[inline]
pub fn write_field(lines: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    lines.reserve(name.len() + value.len() + 4);
    lines.extend_from_slice(name);
    lines.extend_from_slice(b": ");
    lines.extend_from_slice(value);
    lines.extend_from_slice(b"\r\n");
}

/// Takes the headers that concern only the upstream's connection out of its response.
pub fn strip_response(headers: &mut HeaderMap) {
    let ending: SmallVec<[HeaderName; 4]> = headers
        .keys()
        .filter(|name| is_hop_by_hop(name) || **name == header::TRANSFER_ENCODING)
        .cloned()
        .collect();
    if ending.is_empty() {
        return;
    }
    let listed = listed_in_connection(headers);
    for name in listed.iter().chain(&ending) {
        headers.remove(name);
    }
}

/// Whether a response's header line, in any case, concerns only the upstream's connection.
pub fn ends_with_response(name: &str) -> bool {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    match name.len() {
        2 => is("te"),
        6 => is("expect"),
        7 => is("upgrade"),
        10 => is("connection") || is("keep-alive"),
        14 => is("http2-settings"),
        16 => is("proxy-connection"),
        17 => is("transfer-encoding"),
        18 => is("proxy-authenticate"),
        19 => is("proxy-authorization"),
        _ => false,
    }
}

/// What may pass of a request's trailers: nothing that frames, routes, authenticates or identifies
/// (RFC 9110, section 6.5.1).
pub fn request_trailers(trailers: &HeaderMap) -> HeaderMap {
    let mut passing = HeaderMap::with_capacity(trailers.len());
    for (name, value) in trailers {
        if !ends_here(name) && !is_forbidden_in_trailers(name) {
            passing.append(name.clone(), value.clone());
        }
    }
    passing
}

/// What may pass of a response's trailers: nothing that frames or that a client would have to know beforehand, nor what only
/// requests have.
pub fn response_trailers(mut trailers: HeaderMap) -> HeaderMap {
    let ending: SmallVec<[HeaderName; 4]> =
        trailers.keys().filter(|name| ends_here(name) || is_forbidden_in_trailers(name)).cloned().collect();
    for name in &ending {
        trailers.remove(name);
    }
    trailers
}

/// Whether a client's header is never copied: it concerns one connection, or it is ours to set, in any spelling.
fn ends_here(name: &HeaderName) -> bool {
    if is_hop_by_hop(name) {
        return true;
    }
    let name = name.as_str().as_bytes();
    // Not `all`: nearly all names have nothing else, and without the early end a look at one costs less.
    let is_plain = name.iter().fold(true, |is_plain, byte| {
        is_plain & (byte.is_ascii_lowercase() | byte.is_ascii_digit() | (*byte == b'-'))
    });
    if is_plain {
        return is_ours(name) || is_framing_alias(name);
    }
    let dashed = dashed(name);
    is_ours(&dashed) || is_framing_alias(&dashed) || is_standard_with_meaning(&dashed)
}

/// A name as servers read it that turn headers into variables, in lower case and with dashes: all of them make one character of
/// `-` and `_`, many of `.` as well, and some of whatever is neither letter nor digit.
fn dashed(name: &[u8]) -> SmallVec<[u8; 64]> {
    let dashed = |byte: &u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    name.iter().map(dashed).collect()
}

/// Whether a service may see something else under a name than what is there: `Connection` names it as concerning this hop, so
/// that it goes no further, or it is there in another spelling too.
pub fn is_doubtful(headers: &HeaderMap, name: &HeaderName) -> bool {
    let is_listed = headers.contains_key(header::CONNECTION)
        && !ends_here(name)
        && listed_in_connection(headers).contains(name);
    let spelling = dashed(name.as_str().as_bytes());
    is_listed || headers.keys().any(|other| other != name && dashed(other.as_str().as_bytes()) == spelling)
}

/// Headers of one hop (RFC 9110, section 7.6.1), and those that Postern has dealt with itself.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::UPGRADE
            | header::TE
            | header::PROXY_AUTHORIZATION
            | header::PROXY_AUTHENTICATE
            | header::EXPECT
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}

/// Headers that only Postern may set, or that would make the upstream serve something else than was decided.
fn is_ours(name: &[u8]) -> bool {
    match name.first() {
        Some(b'x') => {
            name.starts_with(b"x-postern-")
                || name.starts_with(b"x-forwarded-")
                || matches!(
                    name,
                    b"x-real-ip"
                        | b"x-original-url"
                        | b"x-original-uri"
                        | b"x-rewrite-url"
                        | b"x-http-method-override"
                        | b"x-http-method"
                        | b"x-method-override"
                )
        }
        Some(b'a') => name == b"authorization",
        Some(b'f') => name == b"forwarded",
        Some(b't') => name == b"traceparent",
        Some(b'h') => name == b"host",
        _ => false,
    }
}

fn is_framing_alias(name: &[u8]) -> bool {
    name == b"transfer-encoding"
}

/// What an oddly spelled header must not turn into on the other side.
fn is_standard_with_meaning(dashed: &[u8]) -> bool {
    matches!(
        dashed,
        b"content-length"
            | b"proxy-authorization"
            | b"proxy-connection"
            | b"keep-alive"
            | b"content-type"
            | b"x-request-id"
    )
}

fn is_forbidden_in_trailers(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONTENT_LENGTH
            | header::CONTENT_TYPE
            | header::CONTENT_ENCODING
            | header::CONTENT_RANGE
            | header::TRAILER
            | header::COOKIE
            | header::SET_COOKIE
            | header::CACHE_CONTROL
            | header::MAX_FORWARDS
            | header::RANGE
            | header::AGE
            | header::DATE
            | header::LOCATION
            | header::VARY
            | header::WWW_AUTHENTICATE
    )
}

/// The headers that `Connection` names as concerning this hop. `Host` and framing cannot be named away: they are
/// set or framed by us in any case.
fn listed_in_connection(headers: &HeaderMap) -> SmallVec<[HeaderName; 4]> {
    let mut listed = SmallVec::new();
    for value in headers.get_all(header::CONNECTION) {
        for token in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"keep-alive") || token.eq_ignore_ascii_case(b"close") {
                continue;
            }
            if let Ok(name) = HeaderName::from_bytes(token)
                && name != header::CONTENT_LENGTH
                && name != header::HOST
                // A list may be long: only what is there matters, and once.
                && headers.contains_key(&name)
                && !listed.contains(&name)
            {
                listed.push(name);
            }
        }
    }
    listed
}

fn wants_trailers(client: &HeaderMap) -> bool {
    client.get_all(header::TE).iter().any(|value| {
        value.as_bytes().split(|byte| *byte == b',').any(|coding| coding.trim_ascii() == b"trailers")
    })
}

/// Writes the client's cookies as one line: HTTP/2 splits them, HTTP/1.1 must not (RFC 9113, section 8.2.3).
fn write_cookies(client: &HeaderMap, lines: &mut Vec<u8>) {
    lines.extend_from_slice(b"cookie: ");
    for (position, crumb) in client.get_all(header::COOKIE).iter().enumerate() {
        if position > 0 {
            lines.extend_from_slice(b"; ");
        }
        lines.extend_from_slice(crumb.as_bytes());
    }
    lines.extend_from_slice(b"\r\n");
}
