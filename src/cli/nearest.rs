//! What may have been meant: the known name that is most like a given one.

/// How alike (0 to 1, Jaro-Winkler) a known name must be to be suggested.
const SUGGESTED_FROM: f64 = 0.8;

/// ` (did you mean …?)`, or nothing if no known name is like the given one.
pub(super) fn suggestion<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> String {
    let nearest = known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(likeness, _)| *likeness >= SUGGESTED_FROM)
        .max_by(|left, right| left.0.total_cmp(&right.0));
    nearest.map_or_else(String::new, |(_, nearest)| format!(" (did you mean {nearest:?}?)"))
}
