//! Address ranges: whether a client's address is in a list of networks.

use std::net::IpAddr;

use ipnet::IpNet;

/// Whether `address` lies in one of `ranges`; an empty list allows any address.
pub fn allows(ranges: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    ranges.is_empty() || ranges.iter().any(|range| range.contains(&address))
}
