//! Durations as the lab reads them: percentiles in microseconds, as members of a JSON object.

use std::time::Duration;

/// Microseconds below which this share of the sorted durations lies.
pub fn at(sorted: &[Duration], share: f64) -> f64 {
    let index = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1);
    sorted.get(index).map_or(0.0, |duration| duration.as_nanos() as f64 / 1e3)
}

pub fn percentiles(sorted: &[Duration]) -> String {
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)]
        .map(|(name, share)| format!(r#""{name}_us":{:.1}"#, at(sorted, share)))
        .join(",")
}
