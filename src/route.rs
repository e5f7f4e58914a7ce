//! Routing: host and path → route. A pure look-up over a table made once per configuration.
//!
//! The most specific host pattern that the table has decides (exact, then the longest wildcard, then any host);
//! under it the most specific path: from the left a literal segment before a parameter, then the longer one, at segment
//! borders. There may be several routes for the same path, which [`condition`]s choose between. Neither a host's nor a
//! path's own routes are ever mixed with another pattern's, so that a broad route cannot answer for what has routes of its
//! own.
//! Nothing here knows about credentials or upstream connections.

pub mod condition;
pub mod pattern;
pub mod query;
mod tree;

use std::collections::HashMap;
use std::ops::Deref;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use pattern::Pattern;

#[cfg(test)]
mod tests;

/// The keys are the configuration's: nobody can choose them so that they collide, and a quick hash will do.
type Map<T> = HashMap<Box<str>, T, RandomState>;

/// Host and path → positions of routes in the configuration's list.
#[derive(Debug, Default)]
pub struct RouteTable {
    exact: Map<PathTable>,
    /// Keyed by what follows the `*.`.
    wildcard: Map<PathTable>,
    any: PathTable,
}

/// The routes of one host pattern.
#[derive(Debug, Default)]
struct PathTable {
    prefixes: PrefixTable,
    /// In place of `prefixes`, as soon as one of them is more than a plain prefix.
    tree: Option<Box<tree::Node>>,
    /// What a tree would have to be made of.
    added: Vec<(Pattern, usize, Choice)>,
}

/// Path prefix → routes.
#[derive(Debug, Default)]
struct PrefixTable {
    routes: Map<Leaf>,
    /// Number of segments in the longest prefix: no more of a path than this need be looked at.
    deepest: usize,
}

/// The routes of one host and path: those with conditions in the configuration's order, then the one without.
#[derive(Debug, Default)]
struct Leaf(SmallVec<[usize; 1]>, Option<Choice>);

/// When a route is taken, once its host and path have been matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// If its conditions hold.
    OnConditions,
    /// If no other route's conditions hold.
    Always,
}

impl RouteTable {
    /// Adds one route for a list of hosts (empty: any host). Later additions of the same host and path that are taken
    /// always lose; the configuration refuses them before.
    pub fn add(&mut self, hosts: &[String], pattern: &Pattern, route: usize, choice: Choice) {
        if hosts.is_empty() {
            self.any.add(pattern, route, choice);
        }
        for host in hosts {
            let table = match host.strip_prefix("*.") {
                Some(suffix) => self.wildcard.entry(suffix.into()).or_default(),
                None => self.exact.entry(host.as_str().into()).or_default(),
            };
            table.add(pattern, route, choice);
        }
    }

    /// The routes for a lower-case host without port and a normalized path, of which the first whose conditions hold is
    /// taken; none: empty.
    pub fn find(&self, host: &str, path: &str) -> &[usize] {
        let table = self.hosts_table(host);
        match &table.tree {
            None => table.prefixes.find(path),
            Some(tree) => tree.find(path),
        }
    }

    fn hosts_table(&self, host: &str) -> &PathTable {
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

impl PathTable {
    fn add(&mut self, pattern: &Pattern, route: usize, choice: Choice) {
        if let Some(tree) = &mut self.tree {
            tree.add(pattern, route, choice);
            return;
        }
        self.added.push((pattern.clone(), route, choice));
        if pattern.is_plain_prefix() {
            self.prefixes.add(pattern, route, choice);
            return;
        }
        let tree = self.tree.insert(Box::default());
        self.added.drain(..).for_each(|(pattern, route, choice)| tree.add(&pattern, route, choice));
    }
}

impl PrefixTable {
    fn add(&mut self, pattern: &Pattern, route: usize, choice: Choice) {
        self.deepest = self.deepest.max(pattern.segments.len());
        self.routes.entry(pattern.to_string().into()).or_default().add(route, choice);
    }

    /// Tries the path's prefixes from the longest that any route has to the empty one.
    fn find(&self, path: &str) -> &[usize] {
        let mut end = segment_end(path, self.deepest);
        loop {
            if let Some(leaf) = self.routes.get(&path[..end]) {
                return leaf;
            }
            if end == 0 {
                return &[];
            }
            end = path[..end].rfind('/').unwrap_or(0);
        }
    }
}

impl Leaf {
    fn add(&mut self, route: usize, choice: Choice) {
        let Self(routes, last) = self;
        match (choice, *last) {
            (Choice::Always, Some(Choice::Always)) => {}
            (Choice::OnConditions, Some(Choice::Always)) => routes.insert(routes.len() - 1, route),
            (_, None | Some(Choice::OnConditions)) => {
                routes.push(route);
                *last = Some(choice);
            }
        }
    }
}

impl Deref for Leaf {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.0
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
