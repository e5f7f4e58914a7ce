//! Which addresses requests to others may reach: the public Internet's, and those of networks that the operator has
//! named. Without this, who may enter the address of an identity provider could have Postern call anything behind the
//! firewall, a cloud's metadata service included.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

/// The addresses that may be reached. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    private_networks: Arc<[IpNet]>,
}

impl Reach {
    pub(super) fn new(private_networks: Vec<IpNet>) -> Self {
        Self { private_networks: private_networks.into() }
    }

    pub(super) fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.private_networks.iter().any(|network| network.contains(&address))
    }
}

/// Why an address is not reached, and what to do about it.
pub(super) fn explain(address: IpAddr) -> String {
    format!(
        "{address} is not an address of the public Internet; if it may be reached, add its network to \
         `private_networks` under [admin.http]"
    )
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => is_public_v4(four),
        IpAddr::V6(six) => is_public_v6(six),
    }
}

/// RFC 6890 and its registry: what is not meant to be met on the Internet is not public.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b))
        || a >= 240)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    if let Some(inner) = embedded_v4(address) {
        return is_public_v4(inner);
    }
    // Global unicast is 2000::/3; all else is local, reserved or for groups.
    (0x2000..0x4000).contains(&first)
        // Special purposes (2001::/23) and documentation.
        && !(first == 0x2001 && second < 0x0200)
        && !(first == 0x2001 && second == 0x0db8)
        && !(first == 0x3fff && second < 0x1000)
}

/// The IPv4 address that an IPv6 address leads to: translated (64:ff9b::/96), 6to4 (2002::/16), or compatible.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let from = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(from(high, low)),
        [0x2002, high, low, ..] => Some(from(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(from(high, low)),
        _ => None,
    }
}
