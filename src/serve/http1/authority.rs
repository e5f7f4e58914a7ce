//! `host[:port]`, as `Host`, an absolute target and a CONNECT's target have it.
//!
//! What must not live here: which hosts are routed.

use std::net::Ipv6Addr;

use super::class::{self, HOST};

/// A valid host, and its port if it has one. No user info, no percent-encoding, no zone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Authority<'a> {
    host: &'a [u8],
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let host_length = match bytes.first()? {
            b'[' => bracketed_length(bytes)?,
            _ => class::run(bytes, HOST),
        };
        let (host, rest) = bytes.split_at_checked(host_length)?;
        if host.is_empty() {
            return None;
        }
        let port = match rest {
            [] => None,
            [b':', digits @ ..] => Some(port(digits)?),
            _ => return None,
        };
        Some(Self { host, port })
    }

    pub(super) fn has_port(&self) -> bool {
        self.port.is_some()
    }

    /// Whether both name the same place, when a missing port means `default_port`.
    pub(super) fn is_same(&self, other: &Authority<'_>, default_port: u16) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
            && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

/// The length of `[address]` at the start, if the address is one.
fn bracketed_length(bytes: &[u8]) -> Option<usize> {
    let end = bytes.iter().position(|&byte| byte == b']')?;
    let address = std::str::from_utf8(bytes.get(1..end)?).ok()?;
    address.parse::<Ipv6Addr>().ok()?;
    Some(end + 1)
}

fn port(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits.len() > 5 {
        return None;
    }
    let port = digits
        .iter()
        .try_fold(0u32, |port, digit| digit.is_ascii_digit().then(|| port * 10 + u32::from(digit - b'0')))?;
    u16::try_from(port).ok()
}
