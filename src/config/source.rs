//! The file's text: positions in it, and its lines as they may be shown, with secrets taken out.
//!
//! Nothing in here knows what a key means.

use std::ops::Range;

use super::error::Excerpt;

/// Longest source line shown whole, in characters; of longer ones the part around the problem.
const LINE_WIDTH: usize = 160;

/// Longest value shown, in characters.
const VALUE_WIDTH: usize = 80;

/// What stands in a shown line for what must not be shown.
const MASK: char = '…';

/// The text of a configuration file.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let line_starts =
            std::iter::once(0).chain(text.match_indices('\n').map(|(offset, _)| offset + 1)).collect();
        Self { text, line_starts }
    }

    /// The line, from 1, that a byte offset lies on.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    /// The text of a line, from 1, without its line break.
    pub(crate) fn line_text(&self, line: usize) -> &'a str {
        self.text.get(self.line_range(line)).unwrap_or_default()
    }

    /// Byte offsets of a line, from 1, without its line break.
    pub(crate) fn line_range(&self, line: usize) -> Range<usize> {
        let start = self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len());
        let rest = self.text.get(start..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default();
        start..start + line.trim_end_matches('\r').len()
    }

    /// The value at `span` on one line, shortened; `None` if any of it is masked.
    pub(crate) fn value(&self, span: &Range<usize>, masks: &[Range<usize>]) -> Option<String> {
        if masks.iter().any(|mask| overlap(mask, span)) {
            return None;
        }
        Some(shortened(self.text.get(span.clone())?))
    }

    /// The line that `span` begins on, everything in `masks` replaced, `span` marked as far as that line goes.
    pub(crate) fn excerpt(&self, span: &Range<usize>, masks: &[Range<usize>]) -> Excerpt {
        let line = self.line(span.start);
        let range = self.line_range(line);
        let start = span.start.min(range.end);
        let marked = start..span.end.min(range.end).max(start + 1);
        let text = self.line_text(line);
        let column = text.char_indices().take_while(|(at, _)| range.start + at < span.start).count() + 1;
        let shown = Shown::new(text, range.start, &marked, masks);
        let (source_line, marker_start, marker_length) = shown.window();
        Excerpt { line, column, source_line, marker_start, marker_length }
    }
}

/// A line made fit to be shown, and which of its characters are marked.
struct Shown {
    characters: Vec<char>,
    marker: Range<usize>,
}

impl Shown {
    fn new(text: &str, offset: usize, marked: &Range<usize>, masks: &[Range<usize>]) -> Self {
        let mut characters = Vec::new();
        let mut marker: Option<Range<usize>> = None;
        let mut hidden = None;
        for (at, character) in text.char_indices() {
            let at = offset + at;
            let mask = masks.iter().find(|mask| mask.contains(&at));
            match mask {
                Some(mask) if hidden == Some(mask.start) => {}
                Some(mask) => {
                    hidden = Some(mask.start);
                    characters.push(MASK);
                }
                // A comment behind a secret may well repeat it.
                None if hidden.is_some() && character == '#' => {
                    characters.push(MASK);
                    break;
                }
                None => characters.push(visible(character)),
            }
            if marked.contains(&at) {
                let last = characters.len();
                marker = Some(marker.map_or(last - 1..last, |marker| marker.start..last));
            }
        }
        // What begins behind the line's last character is marked there.
        let end = characters.len();
        Self { characters, marker: marker.unwrap_or(end..end + 1) }
    }

    /// The line, or of a long one the part around the marker; where the marker starts in it, and its length.
    fn window(self) -> (String, usize, usize) {
        let Self { characters, marker } = self;
        if characters.len() <= LINE_WIDTH {
            return (characters.into_iter().collect(), marker.start, marker.len());
        }
        let start = marker.start.saturating_sub(LINE_WIDTH / 2);
        let end = (start + LINE_WIDTH).min(characters.len());
        let mut line = String::new();
        line.extend((start > 0).then_some(MASK));
        let before = marker.start - start + usize::from(start > 0);
        line.extend(characters.iter().take(end).skip(start));
        line.extend((end < characters.len()).then_some(MASK));
        (line, before, marker.end.min(end).saturating_sub(marker.start).max(1))
    }
}

/// A value as written, on one line and shortened, for a reason or remedy. Never for secrets.
pub(crate) fn shortened(value: &str) -> String {
    let mut short: String = value.chars().take(VALUE_WIDTH).map(visible).collect();
    if value.chars().nth(VALUE_WIDTH).is_some() {
        short.push(MASK);
    }
    short
}

/// Control characters could rewrite the operator's terminal.
fn visible(character: char) -> char {
    if character.is_control() && character != '\t' { '\u{fffd}' } else { character }
}

fn overlap(left: &Range<usize>, right: &Range<usize>) -> bool {
    left.start < right.end && right.start < left.end
}
