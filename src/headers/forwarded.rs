//! `Forwarded` and `X-Forwarded-*`: whom to believe about the client's address, and what to tell the upstream.
//!
//! Nothing is believed unless the socket's peer is a configured trusted proxy (design.md, invariant 4).

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{FORWARDED, HeaderValue};

use super::write_field;
use crate::config::TrustedPeers;
use crate::policy::address;

/// The forwarding headers of one upstream request, as header lines: `Forwarded` (RFC 7239), and what is older and more
/// widely read: `X-Forwarded-For` with the addresses so far, the peer's last, `-Proto` and `-Host`.
#[derive(Clone, Debug)]
pub struct Forwarding {
    lines: Vec<u8>,
}

/// How the client reached us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// As written in `X-Forwarded-Proto`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What RFC 7239 calls a hop that nobody knows.
const UNKNOWN: &str = "unknown";

/// The client's address: the peer's, or, where the peer is a trusted proxy, the last address in its
/// `X-Forwarded-For` (else `Forwarded`) that is not itself a trusted proxy. An entry that is no address ends the
/// search: the hop before it is the last one known.
pub fn client_address(trusted_proxies: &TrustedPeers, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let mut client = peer;
    if !trusted_proxies.trust(peer) {
        return client;
    }
    let hops: Vec<&str> = if headers.contains_key("x-forwarded-for") {
        list(headers, "x-forwarded-for").collect()
    } else {
        list(headers, FORWARDED.as_str()).map(|hop| forwarded_for(hop).unwrap_or(UNKNOWN)).collect()
    };
    for hop in hops.into_iter().rev() {
        let Some(address) = parse_node(hop) else { break };
        client = address;
        if !trusted_proxies.hold(address) {
            break;
        }
    }
    client
}

/// How the client reached the first proxy, where the peer is a trusted one that says so in `X-Forwarded-Proto`.
pub fn client_scheme(trusted_proxies: &TrustedPeers, peer: IpAddr, headers: &HeaderMap) -> Option<Scheme> {
    if !trusted_proxies.trust(peer) {
        return None;
    }
    match list(headers, "x-forwarded-proto").next()? {
        word if word.eq_ignore_ascii_case("https") => Some(Scheme::Https),
        word if word.eq_ignore_ascii_case("http") => Some(Scheme::Http),
        _ => None,
    }
}

/// The forwarding headers for a peer that is not trusted: nothing the client sent is kept.
pub fn start(peer: IpAddr, scheme: Scheme, host: &HeaderValue) -> Forwarding {
    Values::start(peer, scheme, host).into()
}

/// The forwarding headers for a trusted peer: what it sent goes on, with the peer appended.
pub fn append(peer: IpAddr, scheme: Scheme, host: &HeaderValue, headers: &HeaderMap) -> Forwarding {
    let fresh = Values::start(peer, scheme, host);
    let extended = |name: &str, own: &HeaderValue| {
        let mut all: Vec<&str> = list(headers, name).collect();
        all.push(own.to_str().unwrap_or_default());
        value(&all.join(", "))
    };
    Values {
        forwarded: extended(FORWARDED.as_str(), &fresh.forwarded),
        x_forwarded_for: extended("x-forwarded-for", &fresh.x_forwarded_for),
        x_forwarded_proto: first(headers, "x-forwarded-proto").unwrap_or(fresh.x_forwarded_proto),
        x_forwarded_host: first(headers, "x-forwarded-host").unwrap_or(fresh.x_forwarded_host),
    }
    .into()
}

/// The values of the forwarding headers.
struct Values {
    forwarded: HeaderValue,
    x_forwarded_for: HeaderValue,
    x_forwarded_proto: HeaderValue,
    x_forwarded_host: HeaderValue,
}

impl Values {
    fn start(peer: IpAddr, scheme: Scheme, host: &HeaderValue) -> Self {
        let x_forwarded_for = match peer {
            address::UNKNOWN => HeaderValue::from_static(UNKNOWN),
            _ => value(&peer.to_string()),
        };
        Self {
            forwarded: value(&element(peer, scheme, host)),
            x_forwarded_for,
            x_forwarded_proto: HeaderValue::from_static(scheme.as_str()),
            x_forwarded_host: host.clone(),
        }
    }
}

impl From<Values> for Forwarding {
    fn from(values: Values) -> Self {
        let mut lines = Vec::with_capacity(256);
        write_field(&mut lines, b"forwarded", values.forwarded.as_bytes());
        write_field(&mut lines, b"x-forwarded-for", values.x_forwarded_for.as_bytes());
        write_field(&mut lines, b"x-forwarded-proto", values.x_forwarded_proto.as_bytes());
        write_field(&mut lines, b"x-forwarded-host", values.x_forwarded_host.as_bytes());
        Self { lines }
    }
}

impl Forwarding {
    /// The same, and these lines, each with its end, behind them.
    #[must_use]
    pub fn with(mut self, lines: &[u8]) -> Self {
        self.lines.extend_from_slice(lines);
        self
    }

    /// The header lines.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }
}

fn first(headers: &HeaderMap, name: &str) -> Option<HeaderValue> {
    headers.get(name).cloned()
}

/// The elements of a list header over all its lines, in order. One that is not ASCII stands as unknown: its neighbours
/// in the line, which a proxy has appended, must not go with it.
fn list<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(|element| {
            std::str::from_utf8(element).ok().filter(|element| element.is_ascii()).unwrap_or(UNKNOWN)
        })
        .map(str::trim)
        .filter(|element| !element.is_empty())
}

/// The `for` parameter of one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<&str> {
    element.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"'))
    })
}

/// An address, with or without port, IPv6 with or without brackets.
fn parse_node(node: &str) -> Option<IpAddr> {
    if let Ok(address) = node.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Ok(address) = node.parse::<SocketAddr>() {
        return Some(address.ip().to_canonical());
    }
    node.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// One element of `Forwarded` (RFC 7239, section 4).
fn element(peer: IpAddr, scheme: Scheme, host: &HeaderValue) -> String {
    let mut text = String::with_capacity(96);
    let written = match peer {
        address::UNKNOWN => write!(text, "for={UNKNOWN}"),
        IpAddr::V4(address) => write!(text, "for={address}"),
        IpAddr::V6(address) => write!(text, "for=\"[{address}]\""),
    };
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
    text.push_str(";host=");
    let host = host.to_str().unwrap_or_default();
    let is_token =
        host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    if is_token && !host.is_empty() {
        text.push_str(host);
    } else {
        text.push('"');
        text.extend(host.chars().filter(|character| !matches!(character, '"' | '\\')));
        text.push('"');
    }
    text.push_str(";proto=");
    text.push_str(scheme.as_str());
    text
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("unknown"))
}
