//! Collects the problems of one file while it is decoded and resolved, and knows what in it must not be shown.
//!
//! Source lines are rendered only at the end, when every secret in the file has been seen.

use std::ops::Range;

use super::error::Problem;
use super::source::Source;

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// Byte offsets in the file; `None`: nowhere, because it is missing from the file's top level.
    pub(crate) span: Option<Range<usize>>,
    /// Path of the key, such as `upstreams[0].connect_seconds`.
    pub(crate) key: String,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) at: Location,
}

/// The problems so far.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    source: Source<'a>,
    pending: Vec<Pending>,
    masks: Vec<Range<usize>>,
    misspelt: Vec<String>,
}

#[derive(Debug)]
struct Pending {
    at: Location,
    shows: Shows,
    reason: String,
    remedy: String,
}

/// What a location's text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    Value,
    Place,
}

impl Location {
    /// The file's top level.
    pub(crate) const fn top() -> Self {
        Self { span: None, key: String::new() }
    }

    /// The key `name` below this one.
    pub(crate) fn child(&self, name: &str, span: Option<Range<usize>>) -> Self {
        let key = if self.key.is_empty() { name.to_owned() } else { format!("{}.{name}", self.key) };
        Self { span, key }
    }

    /// The element at `index` below this one.
    pub(crate) fn element(&self, index: usize, span: Option<Range<usize>>) -> Self {
        Self { span, key: format!("{}[{index}]", self.key) }
    }

    /// The key's own name, without the path before it.
    pub(crate) fn name(&self) -> &str {
        let last = self.key.rsplit('.').next().unwrap_or_default();
        last.split('[').next().unwrap_or_default()
    }
}

impl<'a> Report<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { source: Source::new(text), pending: Vec::new(), masks: Vec::new(), misspelt: Vec::new() }
    }

    /// The value at `at` is wrong.
    pub(crate) fn value_problem(
        &mut self,
        at: &Location,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(at, Shows::Value, reason.into(), remedy.into());
    }

    /// Something is wrong at this place that is no value: a key, a table, the text itself.
    pub(crate) fn place_problem(
        &mut self,
        at: &Location,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(at, Shows::Place, reason.into(), remedy.into());
    }

    fn push(&mut self, at: &Location, shows: Shows, reason: String, remedy: String) {
        self.pending.push(Pending { at: at.clone(), shows, reason, remedy });
    }

    /// Nothing at this place may be shown, in whichever problem.
    pub(crate) fn mask(&mut self, at: &Location) {
        self.masks.extend(at.span.clone());
    }

    /// The line, from 1, that something stands on.
    pub(crate) fn line(&self, at: &Location) -> Option<usize> {
        at.span.as_ref().map(|span| self.source.line(span.start))
    }

    /// Somebody meant this key and wrote another, which has been noted.
    pub(crate) fn mark_misspelt(&mut self, at: &Location) {
        self.misspelt.push(at.key.clone());
    }

    /// Whether a problem has been noted for this key or something in it, so that it is not simply missing.
    pub(crate) fn is_noted(&self, at: &Location) -> bool {
        let is_below = |key: &str| {
            key.strip_prefix(&at.key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.misspelt.contains(&at.key) || self.pending.iter().any(|problem| is_below(&problem.at.key))
    }

    pub(crate) const fn source(&self) -> &Source<'a> {
        &self.source
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// The problems in the file's order, their source lines with everything masked taken out.
    pub(crate) fn finish(self) -> Vec<Problem> {
        let Self { source, mut pending, masks, misspelt: _ } = self;
        // Stable: what concerns the file as a whole comes first.
        pending.sort_by_key(|problem| problem.at.span.as_ref().map(|span| span.start));
        pending
            .into_iter()
            .map(|Pending { at, shows, reason, remedy }| {
                let span = at.span.as_ref();
                Problem {
                    excerpt: span.map(|span| source.excerpt(span, &masks)),
                    value: span.filter(|_| shows == Shows::Value).and_then(|span| source.value(span, &masks)),
                    key: at.key,
                    reason,
                    remedy,
                }
            })
            .collect()
    }
}
