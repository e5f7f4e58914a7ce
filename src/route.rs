//! Routing: host and path → route. A pure look-up over a table made once per configuration.
//!
//! The most specific host pattern that the table has decides (exact, then the longest wildcard, then any host);
//! under it the longest path prefix wins, at segment borders. A host's own routes are never mixed with another
//! pattern's, so that a broad route cannot answer for a host that has routes of its own.
//! Nothing here knows about credentials, headers or upstream connections.

use std::collections::HashMap;

use foldhash::fast::RandomState;

#[cfg(test)]
mod tests;

/// The keys are the configuration's: nobody can choose them so that they collide, and a quick hash will do.
type Map<T> = HashMap<Box<str>, T, RandomState>;

/// Host and path → position of a route in the configuration's list.
#[derive(Debug, Default)]
pub struct RouteTable {
    exact: Map<PrefixTable>,
    /// Keyed by what follows the `*.`.
    wildcard: Map<PrefixTable>,
    any: PrefixTable,
}

/// Path prefix → position of a route.
#[derive(Debug, Default)]
struct PrefixTable {
    routes: Map<usize>,
    /// Number of segments in the longest prefix: no more of a path than this need be looked at.
    deepest: usize,
}

impl RouteTable {
    /// Adds one route for a list of hosts (empty: any host). Later additions of the same host and prefix lose;
    /// the configuration refuses them before.
    pub fn add(&mut self, hosts: &[String], path_prefix: &str, route: usize) {
        if hosts.is_empty() {
            self.any.add(path_prefix, route);
        }
        for host in hosts {
            let table = match host.strip_prefix("*.") {
                Some(suffix) => self.wildcard.entry(suffix.into()).or_default(),
                None => self.exact.entry(host.as_str().into()).or_default(),
            };
            table.add(path_prefix, route);
        }
    }

    /// The route for a lower-case host without port and a normalized path.
    pub fn find(&self, host: &str, path: &str) -> Option<usize> {
        self.hosts_table(host).find(path)
    }

    fn hosts_table(&self, host: &str) -> &PrefixTable {
        if let Some(table) = self.exact.get(host) {
            return table;
        }
        if !self.wildcard.is_empty() {
            let mut rest = host;
            while let Some((_, suffix)) = rest.split_once('.') {
                if let Some(table) = self.wildcard.get(suffix) {
                    return table;
                }
                rest = suffix;
            }
        }
        &self.any
    }
}

impl PrefixTable {
    fn add(&mut self, path_prefix: &str, route: usize) {
        let prefix = path_prefix.trim_end_matches('/');
        self.deepest = self.deepest.max(prefix.matches('/').count());
        self.routes.entry(prefix.into()).or_insert(route);
    }

    /// Tries the path's prefixes from the longest that any route has to the empty one.
    fn find(&self, path: &str) -> Option<usize> {
        let mut end = segment_end(path, self.deepest);
        loop {
            if let Some(route) = self.routes.get(&path[..end]) {
                return Some(*route);
            }
            if end == 0 {
                return None;
            }
            end = path[..end].rfind('/').unwrap_or(0);
        }
    }
}

/// Where the first `segments` segments of a path end.
fn segment_end(path: &str, segments: usize) -> usize {
    memchr::memchr_iter(b'/', path.as_bytes()).nth(segments).unwrap_or(path.len())
}

/// The host of a `Host` header or authority, without its port and without the final dot of a fully qualified name,
/// which must not lead to another route; brackets of IPv6 literals stay.
pub fn host_name(authority: &str) -> &str {
    let host = match memchr::memrchr(b':', authority.as_bytes()) {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    };
    host.strip_suffix('.').unwrap_or(host)
}
