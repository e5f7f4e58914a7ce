//! Patterns of one host where any of them has a parameter or is for a whole path: a tree of segments.
//!
//! From the left, a literal segment goes before a parameter; then what is longer goes before what is shorter, and a whole
//! path before a beginning of the same length. Where there are only plain beginnings the answer is that of the hash table
//! in [`super`], which a test compares.

use super::pattern::{End, Pattern, Segment};
use super::{Choice, Leaf, Map};

/// A node: all patterns that begin with the segments on the way to it.
#[derive(Debug, Default)]
pub(super) struct Node {
    literals: Map<Self>,
    parameter: Option<Box<Self>>,
    /// Routes for the path that ends here.
    whole: Leaf,
    /// Routes for that path and all below it.
    below: Leaf,
}

impl Node {
    pub(super) fn add(&mut self, pattern: &Pattern, route: usize, choice: Choice) {
        let mut node = self;
        for segment in &pattern.segments {
            node = match segment {
                Segment::Literal(literal) => node.literals.entry(literal.clone()).or_default(),
                Segment::Parameter(_) => node.parameter.get_or_insert_default(),
            };
        }
        match pattern.end {
            End::Whole => node.whole.add(route, choice),
            End::Below => node.below.add(route, choice),
        }
    }

    /// The routes for a path; none: empty. Each node is looked at once at most.
    pub(super) fn find(&self, path: &str) -> &[usize] {
        self.find_rest(if path == "/" { "" } else { path })
    }

    fn find_rest(&self, rest: &str) -> &[usize] {
        let Some(below) = rest.strip_prefix('/') else {
            return if self.whole.is_empty() { &self.below } else { &self.whole };
        };
        let (segment, behind) = below.split_at(memchr::memchr(b'/', below.as_bytes()).unwrap_or(below.len()));
        let parameter = self.parameter.as_deref().filter(|_| !segment.is_empty());
        let deeper = [self.literals.get(segment), parameter];
        let found = deeper.into_iter().flatten().map(|node| node.find_rest(behind));
        found.into_iter().find(|routes| !routes.is_empty()).unwrap_or(&self.below)
    }
}
