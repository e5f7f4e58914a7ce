//! Address ranges: how they are written, and whether a client's address is in one of them.
//!
//! An IPv4 address that arrives as an IPv4-mapped IPv6 one (`::ffff:10.0.0.1`, as on a dual-stack socket) is the
//! IPv4 address, in a client's address and in a range alike. Which address is the client's is not decided here.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Deserializer};
use thiserror::Error;

/// Text that is neither an address nor a range.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no address range: write an address (10.0.0.1, 2001:db8::1) or a range (10.0.0.0/8, 2001:db8::/32)"
)]
pub struct InvalidRange(String);

/// The address of a client of which none is known. No range holds it.
pub const UNKNOWN: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// The longest text of an IPv6 range is shorter; no more of a wrong one is repeated.
const LONGEST_RANGE_SHOWN: usize = 60;

/// Bits of an IPv4-mapped IPv6 address before the IPv4 address.
const MAPPED_PREFIX_BITS: u8 = 96;

/// Whether `address` lies in one of `ranges`; an empty list allows any address.
///
/// A range of IPv6 addresses never holds an IPv4 client, `::/0` neither. The unspecified address is nobody's: where there
/// are ranges, whoever's address is not known is in none of them.
#[inline]
pub fn allows(ranges: &[IpNet], address: IpAddr) -> bool {
    if ranges.is_empty() {
        return true;
    }
    let address = address.to_canonical();
    !address.is_unspecified() && ranges.iter().any(|range| contains(range, address))
}

/// Whether `range` holds `address`, which is canonical.
#[inline]
fn contains(range: &IpNet, address: IpAddr) -> bool {
    match (range, address) {
        (IpNet::V4(range), IpAddr::V4(address)) => range.contains(&address),
        (IpNet::V6(range), IpAddr::V6(address)) => range.contains(&address),
        // `parse_range` makes no such range, but one can come from elsewhere.
        (IpNet::V6(range), IpAddr::V4(address)) => {
            range.prefix_len() >= MAPPED_PREFIX_BITS && range.contains(&address.to_ipv6_mapped())
        }
        (IpNet::V4(_), IpAddr::V6(_)) => false,
    }
}

/// Reads an address (a range of one) or a range in CIDR notation.
///
/// Bits beyond the prefix are cut off (`10.1.2.3/8` is `10.0.0.0/8`), and an IPv4-mapped range of IPv6 becomes the
/// range of IPv4 that it means.
///
/// # Errors
/// For any other text, spaces around it included.
pub fn parse_range(text: &str) -> Result<IpNet, InvalidRange> {
    let range = match text.parse::<IpAddr>() {
        Ok(address) => Some(IpNet::from(address)),
        Err(_) => text.parse::<IpNet>().ok(),
    };
    range
        .map(|range| canonical(range).trunc())
        .ok_or_else(|| InvalidRange(text.chars().take(LONGEST_RANGE_SHOWN).collect()))
}

/// Reads a list of ranges for serde, each as [`parse_range`] does.
///
/// # Errors
/// At the first text that is no range.
pub fn deserialize_ranges<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| parse_range(text).map_err(serde::de::Error::custom)).collect()
}

fn canonical(range: IpNet) -> IpNet {
    let IpNet::V6(mapped) = range else {
        return range;
    };
    mapped
        .addr()
        .to_ipv4_mapped()
        .zip(mapped.prefix_len().checked_sub(MAPPED_PREFIX_BITS))
        .and_then(|(address, prefix_bits)| Ipv4Net::new(address, prefix_bits).ok())
        .map_or(range, IpNet::V4)
}

#[cfg(test)]
mod tests;
