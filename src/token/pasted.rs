//! Tokens in what somebody pasted: a list, a file, a log. Each is known by its digest from then on; the text is not kept.

use std::collections::HashSet;

use super::TokenDigest;
use super::format::{self, Format, PREFIX_LENGTH};

/// Shortest and longest token of other issuers.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=1_024;

/// What tokens in Postern's own format begin with.
const MARKERS: [&str; 3] = ["psta_", "pstp_", "psts_"];

/// Something in a text that may be a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastedToken {
    /// SHA-256 of it.
    pub digest: TokenDigest,
    /// Its first characters if it is in Postern's own format, where they are its public handle; of others nothing is shown.
    pub prefix: Option<String>,
    /// The line that it is in, from 1.
    pub line: usize,
}

/// What may be tokens in a text, each once, at most so many; whether there was more.
///
/// Tokens in Postern's own format are found wherever they are; of others, whole words, without quotes and without a name
/// before `=` or `:`.
pub fn find(text: &str, most: usize) -> (Vec<PastedToken>, bool) {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    for (number, line) in text.lines().enumerate() {
        let own = own(line);
        // A word around one of our own is none of anybody else's.
        let others = words(line).into_iter().filter(|word| !own.iter().any(|own| word.contains(own)));
        let own = own.iter().map(|own| (*own, true));
        for (candidate, is_own) in own.chain(others.map(|word| (word, false))) {
            let digest = TokenDigest::of(candidate.as_bytes());
            if !seen.insert(*digest.as_bytes()) {
                continue;
            }
            if found.len() == most {
                return (found, true);
            }
            let prefix = is_own.then(|| candidate.chars().take(PREFIX_LENGTH).collect());
            found.push(PastedToken { digest, prefix, line: number + 1 });
        }
    }
    (found, false)
}

/// Tokens in Postern's own format, with a right checksum.
fn own(line: &str) -> Vec<&str> {
    let starts = MARKERS.iter().flat_map(|marker| line.match_indices(marker)).map(|(start, _)| start);
    let whole = starts.filter_map(|start| {
        let rest = line.get(start..)?;
        let marker = MARKERS.first().map_or(0, |marker| marker.len());
        let end = rest
            .bytes()
            .skip(marker)
            .position(|byte| !byte.is_ascii_alphanumeric())
            .map_or(rest.len(), |position| marker + position);
        let candidate = rest.get(..end)?;
        matches!(format::inspect(candidate.as_bytes()), Format::Own(_)).then_some(candidate)
    });
    whole.collect()
}

/// Words that are long enough, as they are and without what often stands around a token.
fn words(line: &str) -> Vec<&str> {
    let is_quote =
        |character: char| matches!(character, '"' | '\'' | '`' | ',' | ';' | '(' | ')' | '<' | '>');
    let mut words = Vec::new();
    for word in line.split_ascii_whitespace() {
        let bare = word.trim_matches(is_quote);
        let named = bare.split_once(['=', ':']).map(|(_, value)| value.trim_matches(is_quote));
        for candidate in [Some(word), Some(bare), named].into_iter().flatten() {
            let is_visible = candidate.bytes().all(|byte| byte.is_ascii_graphic());
            if is_visible && LENGTHS.contains(&candidate.len()) && !words.contains(&candidate) {
                words.push(candidate);
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::token::{FreshToken, TokenKind};

    #[track_caller]
    fn check(text: &str, tokens: &[&str]) {
        let (found, more) = find(text, 100);
        let digests: Vec<_> = found.iter().map(|found| found.digest).collect();
        for token in tokens {
            assert!(digests.contains(&TokenDigest::of(token.as_bytes())), "{token} in {text}");
        }
        assert!(!more);
    }

    #[test]
    fn tokens_are_found_wherever_they_were_pasted() {
        let fresh = FreshToken::generate(TokenKind::Application).unwrap();
        let own = fresh.full.expose_secret();
        for text in [
            own.to_owned(),
            format!("Authorization: Bearer {own}\r\n"),
            format!("export TOKEN=\"{own}\""),
            format!("https://user:{own}@example.com/path"),
            format!("{{\"token\":\"{own}\",\"x\":1}}"),
        ] {
            check(&text, &[own]);
            let (found, _) = find(&text, 100);
            assert_eq!(found.len(), 1, "{text}");
            assert_eq!(found[0].prefix.as_deref(), Some(&*fresh.prefix));
        }
        let foreign = "AVNS_0123456789+/abcd=";
        check(foreign, &[foreign]);
        check(&format!("TOKEN='{foreign}'"), &[foreign]);
        check(&format!("token: {foreign},"), &[foreign]);
    }

    #[test]
    fn what_is_found_is_bounded_and_each_once() {
        let text = "0123456789abcdef\n".repeat(10);
        assert_eq!(find(&text, 100).0.len(), 1);
        let many: String = (0..100).map(|number| format!("0123456789abcdef{number}\n")).collect();
        let (found, more) = find(&many, 10);
        assert_eq!((found.len(), more), (10, true));
        assert_eq!(found[9].line, 10);
        assert!(find("short words only\n\n\u{0}", 10).0.is_empty());
    }

    #[test]
    fn a_spoiled_token_of_our_own_is_no_one_s() {
        let fresh = FreshToken::generate(TokenKind::Personal).unwrap();
        let mut spoiled = fresh.full.expose_secret().to_owned();
        spoiled.pop();
        assert!(find(&spoiled, 10).0.iter().all(|found| found.prefix.is_none()));
    }
}
