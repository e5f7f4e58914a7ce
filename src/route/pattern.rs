//! Paths that routes are for: whole ones or beginnings, segments of which may be parameters; and what a path becomes that
//! a route rewrites.
//!
//! Segments are compared as they stand in the normalized path, encoded characters included. What must not live here: which
//! of several routes is taken.

use std::fmt;

use smallvec::SmallVec;

/// A path or beginning of paths, such as `/v1/{tenant}/items`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pub(super) segments: Box<[Segment]>,
    pub(super) end: End,
}

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// This one.
    Literal(Box<str>),
    /// Any one that is not empty, by this name.
    Parameter(Box<str>),
}

/// What may follow a pattern's segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing.
    Whole,
    /// Nothing, or further segments.
    Below,
}

/// What the paths of one pattern become.
#[derive(Debug, PartialEq, Eq)]
pub struct Rewrite {
    pattern: Pattern,
    template: Box<[Segment]>,
}

impl Pattern {
    /// Every path that begins with these whole segments.
    pub fn below(text: &str) -> Self {
        Self { segments: segments(text), end: End::Below }
    }

    /// This path alone.
    pub fn whole(text: &str) -> Self {
        Self { segments: segments(text), end: End::Whole }
    }

    /// Whether it is a beginning without parameters.
    pub(super) fn is_plain_prefix(&self) -> bool {
        let is_literal = |segment: &Segment| matches!(segment, Segment::Literal(_));
        self.end == End::Below && self.segments.iter().all(is_literal)
    }
}

impl fmt::Display for Pattern {
    /// As it is written, but for the root, which is empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.segments.iter().try_for_each(|segment| match segment {
            Segment::Literal(literal) => write!(f, "/{literal}"),
            Segment::Parameter(name) => write!(f, "/{{{name}}}"),
        })
    }
}

impl Rewrite {
    /// What takes the place of the pattern's segments. The configuration has made sure that each parameter of the
    /// template is one of the pattern's.
    pub fn new(pattern: Pattern, template: &str) -> Self {
        Self { pattern, template: segments(template) }
    }

    /// What a path becomes that the pattern matches; `None` for any other. Of a normalized path comes a normalized one:
    /// segments are replaced by segments, none of which is empty or only dots.
    pub fn apply(&self, path: &str) -> Option<String> {
        let mut values: SmallVec<[(&str, &str); 4]> = SmallVec::new();
        let mut rest = if path == "/" { "" } else { path };
        for segment in &self.pattern.segments {
            let below = rest.strip_prefix('/')?;
            let (value, behind) = below.split_at(below.find('/').unwrap_or(below.len()));
            match segment {
                Segment::Literal(literal) if **literal == *value => {}
                Segment::Parameter(name) if !value.is_empty() => values.push((name, value)),
                Segment::Literal(_) | Segment::Parameter(_) => return None,
            }
            rest = behind;
        }
        if self.pattern.end == End::Whole && !rest.is_empty() {
            return None;
        }
        let mut rewritten = String::with_capacity(path.len() + 32);
        for segment in &self.template {
            rewritten.push('/');
            rewritten.push_str(match segment {
                Segment::Literal(literal) => literal,
                Segment::Parameter(name) => values.iter().find(|(known, _)| known == &&**name)?.1,
            });
        }
        rewritten.push_str(rest);
        if rewritten.is_empty() {
            rewritten.push('/');
        }
        Some(rewritten)
    }
}

/// The name in a segment that is a parameter.
pub fn parameter_name(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

fn segments(text: &str) -> Box<[Segment]> {
    let relative = text.trim_matches('/');
    let written = relative.split('/').filter(|segment| !segment.is_empty());
    written
        .map(|segment| match parameter_name(segment) {
            Some(name) => Segment::Parameter(name.into()),
            None => Segment::Literal(segment.into()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    //! What paths become.

    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::{Pattern, Rewrite};
    use crate::serve::target::normalize;

    #[track_caller]
    fn check(pattern: Pattern, template: &str, path: &str, expect: Option<&str>) {
        assert_eq!(Rewrite::new(pattern, template).apply(path).as_deref(), expect, "{path}");
    }

    #[test]
    fn the_matched_beginning_is_replaced_and_the_rest_stays() {
        for (prefix, template, path, expect) in [
            ("/api", "/", "/api", Some("/")),
            ("/api", "/", "/api/", Some("/")),
            ("/api", "/", "/api/x/y", Some("/x/y")),
            ("/api", "/v2/all", "/api", Some("/v2/all")),
            ("/api", "/v2", "/api/", Some("/v2/")),
            ("/api", "/v2", "/api/a%2Fb/", Some("/v2/a%2Fb/")),
            ("/", "/base", "/", Some("/base")),
            ("/", "/base", "/x", Some("/base/x")),
            ("/t/{tenant}", "/{tenant}/v1", "/t/acme/items", Some("/acme/v1/items")),
            ("/api", "/v2", "/apis", None),
            ("/t/{tenant}", "/{tenant}", "/t/", None),
        ] {
            check(Pattern::below(prefix), template, path, expect);
        }
    }

    #[test]
    fn parameters_move_as_they_are() {
        for (whole, template, path, expect) in [
            ("/v1/{tenant}/items/{id}", "/{id}/of/{tenant}", "/v1/a%20b/items/7", Some("/7/of/a%20b")),
            ("/v1/{tenant}/items/{id}", "/x", "/v1/a/items/7", Some("/x")),
            ("/v1/{tenant}", "/{tenant}/{tenant}", "/v1/a", Some("/a/a")),
            ("/", "/index", "/", Some("/index")),
            ("/v1/{tenant}", "/", "/v1/a", Some("/")),
            ("/v1/{tenant}", "/x", "/v1/a/", None),
            ("/v1/{tenant}", "/x", "/v1/a/b", None),
        ] {
            check(Pattern::whole(whole), template, path, expect);
        }
    }

    proptest! {
        #[test]
        fn of_one_reading_comes_one_reading(
            path in "(/(a|b|%61|%2e%2e%2e|\\.\\.x|%20|:|x%C3%A9)){0,5}/?",
            prefix in "(/(a|\\{p\\})){0,2}",
            template in "(/(new|\\{p\\})){0,3}",
        ) {
            let Ok(normal) = normalize(if path.is_empty() { "/" } else { &path }) else { return Ok(()) };
            if let Some(rewritten) = Rewrite::new(Pattern::below(&prefix), &template).apply(&normal) {
                prop_assert!(matches!(normalize(&rewritten), Ok(Cow::Borrowed(_))), "{normal} to {rewritten}");
            }
        }
    }
}
