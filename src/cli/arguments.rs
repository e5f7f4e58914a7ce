//! Arguments that several commands share, and how their values are read.

use std::path::PathBuf;

use clap::Args;

use crate::directory::model::Timestamp;
use crate::token::format::{self, Format, PREFIX_LENGTH};

/// Which configuration.
#[derive(Clone, Debug, Args)]
pub(super) struct ConfigArguments {
    /// Configuration file.
    #[arg(
        long,
        value_name = "FILE",
        env = "POSTERN_CONFIG",
        default_value = "postern.toml",
        global = true,
        hide_env_values = true
    )]
    pub(super) config: PathBuf,
}

/// Units of a duration with their seconds, as people write them.
const UNITS: [(&str, u64); 5] = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400), ("w", 604_800)];

/// Reads a duration: seconds, or a number with one of the units `s`, `m`, `h`, `d`, `w`.
pub(super) fn seconds(text: &str) -> Result<u32, String> {
    let digits_end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let factor = match unit {
        "" => Some(1),
        _ => UNITS.iter().find(|(known, _)| *known == unit).map(|(_, factor)| *factor),
    };
    let count = digits.parse::<u64>().ok();
    count
        .zip(factor)
        .and_then(|(count, factor)| count.checked_mul(factor))
        .and_then(|seconds| u32::try_from(seconds).ok())
        .ok_or_else(|| "write seconds, such as 3600, or a number with a unit: 45m, 12h, 30d, 8w".to_owned())
}

/// Reads a time: RFC 3339, or seconds since the Unix epoch.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    let seconds = match text.parse::<u32>() {
        Ok(seconds) => Some(seconds),
        Err(_) => text.parse::<jiff::Timestamp>().ok().and_then(|time| u32::try_from(time.as_second()).ok()),
    };
    seconds.map(Timestamp).ok_or_else(|| {
        "write a time such as 2026-08-01T12:00:00Z, or seconds since the Unix epoch".to_owned()
    })
}

/// A token prefix as somebody gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TokenPrefix(String);

impl TokenPrefix {
    /// The prefix. Of a whole token (people paste leaked ones to revoke them) the rest was dropped when it was read.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a prefix, or a whole token of Postern's own format.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let is_own = matches!(format::inspect(text.as_bytes()), Format::Own(_));
        let prefix = if is_own { text.chars().take(PREFIX_LENGTH).collect() } else { text.to_owned() };
        if prefix.is_empty() {
            return Err(format!("write a token prefix: the first {PREFIX_LENGTH} characters of a token"));
        }
        Ok(Self(prefix))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::token::TokenKind;
    use crate::token::format::FreshToken;

    #[test]
    fn durations_are_seconds_or_have_a_unit() {
        let cases = [
            ("600", Some(600)),
            ("90s", Some(90)),
            ("45m", Some(2_700)),
            ("12h", Some(43_200)),
            ("30d", Some(2_592_000)),
            ("8w", Some(4_838_400)),
            ("", None),
            ("d", None),
            ("-1", None),
            ("1.5h", None),
            ("30 d", None),
            ("30D", None),
            ("9999999999d", None),
            ("99999999999999999999", None),
        ];
        for (text, expected) in cases {
            assert_eq!(seconds(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn times_are_rfc_3339_or_seconds() {
        let cases = [
            ("0", Some(0)),
            ("1785542400", Some(1_785_542_400)),
            ("2026-08-01T00:00:00Z", Some(1_785_542_400)),
            ("2026-08-01T02:00:00+02:00", Some(1_785_542_400)),
            ("1960-01-01T00:00:00Z", None),
            ("2026-08-01", None),
            ("tomorrow", None),
        ];
        for (text, expected) in cases {
            assert_eq!(time(text).ok().map(|time| time.0), expected, "{text:?}");
        }
    }

    #[test]
    fn of_a_whole_token_only_the_prefix_is_kept() {
        let fresh = FreshToken::generate(TokenKind::Application).unwrap();
        let read = TokenPrefix::read(fresh.full.expose_secret()).unwrap();
        assert_eq!(read.as_str(), fresh.prefix);
        assert_eq!(TokenPrefix::read(&fresh.prefix).unwrap().as_str(), fresh.prefix);
        assert!(TokenPrefix::read("").is_err());
    }
}
