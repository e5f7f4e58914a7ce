//! Keys that are not known: what may have been meant.

use super::decode::{Schema, Table};
use super::file::FileConfig;
use super::source::shortened;

/// How alike two names must be, from 0 to 1, for one to be taken for a slip of the other.
const ALIKE: f64 = 0.65;

/// Ends of keys that people write for a unit, ours included.
const UNIT_ENDINGS: [&str; 22] = [
    "_seconds",
    "_second",
    "_secs",
    "_sec",
    "_s",
    "_milliseconds",
    "_millis",
    "_msec",
    "_ms",
    "_minutes",
    "_min",
    "_hours",
    "_duration",
    "_timeout",
    "_bytes",
    "_kilobytes",
    "_kib",
    "_kb",
    "_mib",
    "_mb",
    "_size",
    "_interval",
];

/// What is said about a key that a table does not know.
pub(crate) struct Explanation {
    pub(crate) reason: String,
    pub(crate) remedy: String,
    /// The key of the same table that was likely meant: to say that it is missing would say the same thing twice.
    pub(crate) meant: Option<&'static str>,
}

/// Reason and remedy for a key that a table does not know.
pub(crate) fn explain(name: &str, schema: &Schema) -> Explanation {
    let place = place(schema);
    let list = key_list(schema);
    let reason = format!("unknown key `{}` in {place}", shortened(name));
    let (remedy, meant) = if let Some(meant) = other_unit(name, schema) {
        let seconds = meant.ends_with("_seconds");
        let unit = if seconds { "durations are whole seconds" } else { "sizes are whole bytes" };
        (format!("{unit}: write `{meant}`"), Some(meant))
    } else if let Some(nearest) = nearest(name, schema.keys.iter().map(|key| key.name)) {
        (format!("did you mean `{nearest}`? {place} has {list}"), Some(nearest))
    } else if let Some(elsewhere) = elsewhere(name) {
        (format!("`{name}` belongs to {elsewhere}; {place} has {list}"), None)
    } else {
        (format!("remove it; {place} has {list}"), None)
    };
    Explanation { reason, remedy, meant }
}

/// The name most like `name`, if any is like it at all.
pub(crate) fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(name, known).min(edit_likeness(name, known)), known))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, known)| known)
}

/// The keys of a table, for a remedy.
pub(crate) fn key_list(schema: &Schema) -> String {
    let names: Vec<_> = schema.keys.iter().map(|key| format!("`{}`", key.name)).collect();
    match names.len() {
        1 => format!("the key {}", names.join(", ")),
        _ => format!("the keys {}", names.join(", ")),
    }
}

/// Share of characters that need no edit; short names must be alike nearly throughout.
fn edit_likeness(left: &str, right: &str) -> f64 {
    strsim::normalized_damerau_levenshtein(&left.to_ascii_lowercase(), right).max(
        // One or two slips in a longer name are slips, whatever their share.
        if left.len().min(right.len()) >= 6 && strsim::damerau_levenshtein(left, right) <= 2 {
            ALIKE
        } else {
            0.0
        },
    )
}

/// The known key that differs only in its unit.
fn other_unit(name: &str, schema: &Schema) -> Option<&'static str> {
    let bare = without_unit(name);
    schema
        .keys
        .iter()
        .map(|key| key.name)
        .filter(|known| known.ends_with("_seconds") || known.ends_with("_bytes"))
        .find(|known| without_unit(known) == bare)
}

/// The name without the unit and what else people put behind a quantity.
fn without_unit(name: &str) -> &str {
    let mut bare = name;
    while let Some(shorter) = UNIT_ENDINGS.iter().find_map(|ending| bare.strip_suffix(ending)) {
        bare = shorter;
    }
    bare
}

/// Another table that knows this key.
fn elsewhere(name: &str) -> Option<String> {
    fn find(name: &str, schema: &'static Schema) -> Option<&'static Schema> {
        if schema.keys.iter().any(|key| key.name == name) {
            return Some(schema);
        }
        schema.keys.iter().filter_map(|key| key.nested).find_map(|nested| find(name, nested))
    }
    static TOP: &Schema = &FileConfig::SCHEMA;
    find(name, TOP).map(place)
}

fn place(schema: &Schema) -> String {
    if schema.header.is_empty() { "the top level".to_owned() } else { format!("`{}`", schema.header) }
}
