//! From stored values to values a decision is made from. What cannot be read becomes what allows least, and is
//! reported; nothing here ever opens anything.

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};

use crate::policy::{AuthenticationPolicy, PermissionSet, address, permission};

/// A value with what was wrong with it.
pub(super) struct Read<T> {
    pub(super) value: T,
    pub(super) problems: Vec<String>,
}

/// The permissions of a grant; unknown names give nothing.
pub(super) fn granted(names: &[String]) -> Read<PermissionSet> {
    union(names, |name| permission::expand([name]).map_err(|error| error.to_string()))
}

/// The scopes of a token; unknown ones give nothing, and a text that is no list gives none at all.
pub(super) fn scopes(stored: &str) -> Read<PermissionSet> {
    match serde_json::from_str::<Vec<String>>(stored) {
        Ok(names) => union(&names, |name| permission::scopes([name]).map_err(|error| error.to_string())),
        Err(error) => Read { value: PermissionSet::EMPTY, problems: vec![error.to_string()] },
    }
}

/// The allow-list of a token; one that cannot be read as a whole allows no address.
pub(super) fn ip_allowlist(stored: &str) -> Read<Box<[IpNet]>> {
    let parsed =
        serde_json::from_str::<Vec<String>>(stored).map_err(|error| error.to_string()).and_then(|texts| {
            let ranges =
                texts.iter().map(|text| address::parse_range(text).map_err(|error| error.to_string()));
            ranges.collect::<Result<Box<[_]>, _>>()
        });
    match parsed {
        Ok(value) => Read { value, problems: Vec::new() },
        Err(problem) => Read { value: Box::new([no_address()]), problems: vec![problem] },
    }
}

/// The policy of an organization whose policy cannot be read.
pub(super) fn closed_policy() -> AuthenticationPolicy {
    AuthenticationPolicy {
        password_auth_enabled: false,
        two_factor_required: true,
        oauth_enabled: false,
        saml_enabled: false,
        saml_allow_external: false,
        personal_tokens_enabled: false,
        personal_tokens_require_allowed_auth_method: true,
        mcp_enabled: false,
        allowed_ip_ranges: vec![no_address()],
    }
}

/// A range that holds only the unspecified address, which is nobody's.
fn no_address() -> IpNet {
    IpNet::V6(Ipv6Net::from(Ipv6Addr::UNSPECIFIED))
}

fn union(names: &[String], expand: impl Fn(&String) -> Result<PermissionSet, String>) -> Read<PermissionSet> {
    let mut read = Read { value: PermissionSet::EMPTY, problems: Vec::new() };
    for name in names {
        match expand(name) {
            Ok(permissions) => read.value = read.value.union(permissions),
            Err(problem) => read.problems.push(problem),
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Permission;

    #[test]
    fn a_list_that_cannot_be_read_allows_no_address() {
        for stored in ["", "{}", "[1]", "[\"10.0.0.0/8\", \"10.0.0.0/99\"]"] {
            let read = ip_allowlist(stored);
            assert_eq!(read.problems.len(), 1, "{stored}");
            for client in ["10.0.0.1", "::1", "0.0.0.0", "2001:db8::1"] {
                assert!(
                    !address::allows(&read.value, client.parse().expect("an address")),
                    "{stored} {client}"
                );
            }
        }
    }

    #[test]
    fn an_unknown_name_gives_nothing_and_takes_nothing_away() {
        let read = granted(&["service:data:write".to_owned(), "service:data:fly".to_owned()]);
        assert_eq!(read.value, PermissionSet::of(&[Permission::ServiceDataWrite]));
        assert_eq!(read.problems.len(), 1);
        assert_eq!(scopes("nonsense").value, PermissionSet::EMPTY);
    }
}
