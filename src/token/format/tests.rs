#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use secrecy::ExposeSecret as _;

use super::*;

/// All that the checksum is over.
const KNOWN: &str = "psta_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefgh";

fn with_checksum(checked: &str) -> String {
    let mut rest = crc32fast::hash(checked.as_bytes());
    let mut digits = Vec::new();
    for _ in 0..6 {
        digits.insert(0, DIGITS[(rest % 62) as usize]);
        rest /= 62;
    }
    format!("{checked}{}", String::from_utf8(digits).unwrap())
}

#[track_caller]
fn check(text: &str, expect: Format) {
    assert_eq!(inspect(text.as_bytes()), expect);
}

#[test]
fn tokens_in_postern_s_own_format_are_known_by_marker_and_checksum() {
    check(&with_checksum(KNOWN), Format::Own(TokenKind::Application));
    check(&with_checksum(&KNOWN.replace("psta_", "pstp_")), Format::Own(TokenKind::Personal));
    check(&with_checksum(&KNOWN.replace("psta_", "psts_")), Format::Own(TokenKind::Session));
}

#[test]
fn the_checksum_of_a_token_that_exists_stays() {
    // Made with another program's CRC-32 (zlib).
    check("psta_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefgh4IUceC", Format::Own(TokenKind::Application));
}

#[test]
fn what_starts_as_an_own_token_and_is_none_is_malformed() {
    let own = with_checksum(KNOWN);
    check("psta_", Format::Malformed);
    check(&own[..54], Format::Malformed);
    check(&format!("{own}0"), Format::Malformed);
    check(&own.replace("9A", "9-"), Format::Malformed);
    check(&own.replace("9A", "9 "), Format::Malformed);
    check(&with_checksum(&KNOWN.replace("9A", "9-")), Format::Malformed);
    check(&KNOWN.replace("psta_", "pstp_"), Format::Malformed);
    check(&format!("psts_{}", "x".repeat(2_000)), Format::Malformed);
    check(&format!("{KNOWN}zzzzzz"), Format::Malformed);
}

#[test]
fn a_checksum_has_one_spelling() {
    // The same 32 bits with a carry beyond them: 2³² more in six digits.
    let value = u64::from(crc32fast::hash(KNOWN.as_bytes())) + (1 << 32);
    let digits: String =
        (0..6).rev().map(|place| char::from(DIGITS[(value / 62_u64.pow(place) % 62) as usize])).collect();
    check(&format!("{KNOWN}{digits}"), Format::Malformed);
}

#[test]
fn other_issuers_tokens_are_16_to_1024_visible_characters() {
    check(&"x".repeat(15), Format::Invalid);
    check(&"x".repeat(16), Format::Foreign);
    check(&"x".repeat(1_024), Format::Foreign);
    check(&"x".repeat(1_025), Format::Invalid);
    check("", Format::Invalid);
    check("aivenv1.!\"#$%&'()*+-./:;<=>?@[\\]^_`{|}~", Format::Foreign);
    check("PSTA_0123456789ABCDEF", Format::Foreign);
    check("pstb_0123456789ABCDEF", Format::Foreign);
    check("one-token-and,another-one", Format::Invalid);
    check("one-token and-another-one", Format::Invalid);
    check("0123456789abcdef\t", Format::Invalid);
    check("0123456789abcdef\u{7f}", Format::Invalid);
    check("0123456789abcdé-", Format::Invalid);
    check("0123456789abcdef\0", Format::Invalid);
}

#[test]
fn a_fresh_token_does_not_print() {
    let fresh = FreshToken::generate(TokenKind::Personal).unwrap();
    let printed = format!("{fresh:?} {fresh:#?}");
    assert!(!printed.contains(&fresh.full.expose_secret()[PREFIX_LENGTH..]));
    assert!(printed.contains(&fresh.prefix));
}

#[test]
fn digits_are_drawn_evenly() {
    let mut counts = [0_u32; 62];
    let mut digits = vec![0; 62 * 2_000];
    fill_with_random_digits(&mut digits).unwrap();
    for digit in digits {
        counts[usize::from(value_of(digit))] += 1;
    }
    // 2,000 of each are expected with a standard deviation of 44: seven of them, or once in a billion runs.
    // With the bias of a plain modulo the first eight digits would come 2,421 times.
    for (digit, count) in counts.into_iter().enumerate() {
        assert!((1_690..=2_310).contains(&count), "digit {digit}: {count} times");
    }
}

#[test]
fn kinds_have_one_word_each() {
    for (kind, word) in [
        (TokenKind::Application, "application"),
        (TokenKind::Personal, "personal"),
        (TokenKind::Session, "session"),
    ] {
        assert_eq!(kind.to_string(), word);
        assert_eq!(word.parse(), Ok(kind));
        let json = serde_json::to_string(&kind).unwrap();
        assert_eq!(json, format!("\"{word}\""));
        assert_eq!(serde_json::from_str::<TokenKind>(&json).unwrap(), kind);
    }
    assert_eq!("Personal".parse::<TokenKind>(), Err(UnknownTokenKind));
    assert!(serde_json::from_str::<TokenKind>("\"api\"").is_err());
}

fn kinds() -> impl Strategy<Value = TokenKind> {
    proptest::sample::select(TokenKind::ALL.as_slice())
}

fn fresh(kind: TokenKind) -> Vec<u8> {
    FreshToken::generate(kind).unwrap().full.expose_secret().as_bytes().to_vec()
}

proptest! {
    #[test]
    fn a_fresh_token_is_its_own_kind(kind in kinds()) {
        let made = FreshToken::generate(kind).unwrap();
        let text = made.full.expose_secret();
        prop_assert_eq!(text.len(), TOKEN_LENGTH);
        prop_assert_eq!(inspect(text.as_bytes()), Format::Own(kind));
        prop_assert!(text.starts_with(kind.marker()));
        prop_assert_eq!(&made.prefix, &text[..PREFIX_LENGTH]);
        prop_assert_eq!(made.digest, TokenDigest::of(text.as_bytes()));
        prop_assert_ne!(fresh(kind), text.as_bytes());
    }

    #[test]
    fn a_changed_character_is_noticed(kind in kinds(), position in 0..TOKEN_LENGTH, character: u8) {
        let mut token = fresh(kind);
        prop_assume!(token[position] != character);
        token[position] = character;
        prop_assert!(!matches!(inspect(&token), Format::Own(_)));
        if position >= MARKER_LENGTH {
            prop_assert_eq!(inspect(&token), Format::Malformed);
        }
    }

    #[test]
    fn two_characters_in_each_other_s_place_are_noticed(
        kind in kinds(),
        one in 0..TOKEN_LENGTH,
        other in 0..TOKEN_LENGTH,
    ) {
        let mut token = fresh(kind);
        prop_assume!(token[one] != token[other]);
        token.swap(one, other);
        prop_assert!(!matches!(inspect(&token), Format::Own(_)));
    }

    #[test]
    fn a_missing_or_doubled_character_is_noticed(kind in kinds(), position in 0..TOKEN_LENGTH) {
        let mut token = fresh(kind);
        let removed = token.remove(position);
        prop_assert!(!matches!(inspect(&token), Format::Own(_)));
        token.insert(position, removed);
        token.insert(position, removed);
        prop_assert!(!matches!(inspect(&token), Format::Own(_)));
    }

    #[test]
    fn any_bytes_are_inspected_without_panic(bytes: Vec<u8>, kind in kinds()) {
        let _ = inspect(&bytes);
        let mut marked = kind.marker().as_bytes().to_vec();
        marked.extend(&bytes);
        prop_assert_eq!(inspect(&marked), Format::Malformed);
        marked.resize(TOKEN_LENGTH, 0xff);
        prop_assert_eq!(inspect(&marked), Format::Malformed);
    }
}
