//! Numbers in the file: whole, with a unit from the key's name, in a range that is part of the key's type.

use std::time::Duration;

use toml::de::DeValue;

use super::decode::{Value, wrong_type};
use super::report::{Location, Report};
use super::source::shortened;

/// A duration in whole seconds, both ends of the range included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seconds<const MINIMUM: u64, const MAXIMUM: u64>(u64);

/// A size in whole bytes, both ends of the range included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes<const MINIMUM: u64, const MAXIMUM: u64>(u64);

/// A whole number of things, both ends of the range included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count<const MINIMUM: u64, const MAXIMUM: u64>(u64);

impl<const MINIMUM: u64, const MAXIMUM: u64> Seconds<MINIMUM, MAXIMUM> {
    pub(crate) const fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl<const MINIMUM: u64, const MAXIMUM: u64> Bytes<MINIMUM, MAXIMUM> {
    pub(crate) const fn size(self) -> usize {
        self.0 as usize
    }
}

impl<const MINIMUM: u64, const MAXIMUM: u64> Count<MINIMUM, MAXIMUM> {
    pub(crate) const fn count(self) -> usize {
        self.0 as usize
    }
}

impl<const MINIMUM: u64, const MAXIMUM: u64> Value for Seconds<MINIMUM, MAXIMUM> {
    const EXPECTED: &'static str = "a whole number of seconds";

    fn decode(value: &DeValue<'_>, at: &Location, report: &mut Report<'_>) -> Option<Self> {
        decode_whole(value, &UNIT_SECONDS, MINIMUM..=MAXIMUM, at, report).map(Self)
    }
}

impl<const MINIMUM: u64, const MAXIMUM: u64> Value for Bytes<MINIMUM, MAXIMUM> {
    const EXPECTED: &'static str = "a whole number of bytes";

    fn decode(value: &DeValue<'_>, at: &Location, report: &mut Report<'_>) -> Option<Self> {
        decode_whole(value, &UNIT_BYTES, MINIMUM..=MAXIMUM, at, report).map(Self)
    }
}

impl<const MINIMUM: u64, const MAXIMUM: u64> Value for Count<MINIMUM, MAXIMUM> {
    const EXPECTED: &'static str = "a whole number";

    fn decode(value: &DeValue<'_>, at: &Location, report: &mut Report<'_>) -> Option<Self> {
        decode_whole(value, &UNIT_NONE, MINIMUM..=MAXIMUM, at, report).map(Self)
    }
}

/// How numbers of a unit are called, and what people write behind a number to mean it.
struct Unit {
    expected: &'static str,
    plural: &'static str,
    suffixes: &'static [(&'static str, u64)],
}

const UNIT_SECONDS: Unit = Unit {
    expected: "a whole number of seconds",
    plural: " seconds",
    suffixes: &[
        ("", 1),
        ("s", 1),
        ("sec", 1),
        ("secs", 1),
        ("seconds", 1),
        ("m", 60),
        ("min", 60),
        ("minutes", 60),
        ("h", 3600),
        ("hours", 3600),
        ("d", 86_400),
        ("days", 86_400),
    ],
};

const UNIT_BYTES: Unit = Unit {
    expected: "a whole number of bytes",
    plural: " bytes",
    suffixes: &[
        ("", 1),
        ("b", 1),
        ("bytes", 1),
        ("k", 1024),
        ("kb", 1024),
        ("kib", 1024),
        ("m", 1_048_576),
        ("mb", 1_048_576),
        ("mib", 1_048_576),
    ],
};

const UNIT_NONE: Unit = Unit { expected: "a whole number", plural: "", suffixes: &[("", 1)] };

fn decode_whole(
    value: &DeValue<'_>,
    unit: &Unit,
    range: std::ops::RangeInclusive<u64>,
    at: &Location,
    report: &mut Report<'_>,
) -> Option<u64> {
    let DeValue::Integer(written) = value else {
        let remedy = type_remedy(value, unit, &range, at.name());
        wrong_type(value, unit.expected, remedy, at, report);
        return None;
    };
    let number = u64::from_str_radix(written.as_str(), written.radix()).ok();
    let number = number.filter(|number| range.contains(number));
    if number.is_none() {
        let (minimum, maximum, plural) = (range.start(), range.end(), unit.plural);
        report.value_problem(
            at,
            format!("`{}` is out of range: {}", at.name(), shortened(&written.to_string())),
            format!("choose a whole number from {minimum} to {maximum}{plural}"),
        );
    }
    number
}

/// What to write in place of `"10s"` or `1.5`.
fn type_remedy(value: &DeValue<'_>, unit: &Unit, range: &std::ops::RangeInclusive<u64>, key: &str) -> String {
    if let DeValue::String(text) = value
        && let Some(number) = understood(text, unit)
        && range.contains(&number)
    {
        return format!("write `{key} = {number}`, without quotes{}", unit_rule(unit));
    }
    let (minimum, maximum, plural) = (range.start(), range.end(), unit.plural);
    format!("choose a whole number from {minimum} to {maximum}{plural}, without quotes{}", unit_rule(unit))
}

const fn unit_rule(unit: &Unit) -> &'static str {
    if unit.plural.is_empty() { "" } else { "; the unit is in the key's name" }
}

/// The number somebody meant with `10s` or `64 KiB`.
fn understood(text: &str, unit: &Unit) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    let suffix = suffix.trim().to_ascii_lowercase();
    let (_, factor) = unit.suffixes.iter().find(|(name, _)| *name == suffix)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}
