#![allow(clippy::unwrap_used, reason = "tests")]

use http::HeaderValue;
use proptest::prelude::*;
use secrecy::ExposeSecret as _;

use super::*;
use crate::token::{FreshToken, TokenKind};

const FOREIGN: &str = "a-token-from-elsewhere";

#[track_caller]
fn check(values: &[&[u8]], expect: Result<&str, CredentialError>) {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
    }
    let read = from_headers(&headers).map(|credential| credential.digest);
    assert_eq!(read, expect.map(|token| TokenDigest::of(token.as_bytes())));
}

const MALFORMED: Result<&str, CredentialError> = Err(CredentialError::Malformed);

#[test]
fn one_bearer_credential_is_read() {
    check(&[b"Bearer a-token-from-elsewhere"], Ok(FOREIGN));
    check(&[b"aivenv1 a-token-from-elsewhere"], Ok(FOREIGN));
    check(&[b"bearer a-token-from-elsewhere"], Ok(FOREIGN));
    check(&[b"BEARER a-token-from-elsewhere"], Ok(FOREIGN));
    check(&[b"AivenV1 a-token-from-elsewhere"], Ok(FOREIGN));
    check(&[b"Bearer    a-token-from-elsewhere"], Ok(FOREIGN));
}

#[test]
fn no_header_is_missing_and_anything_else_malformed() {
    check(&[], Err(CredentialError::Missing));
    check(&[b""], MALFORMED);
    check(&[b"Bearer"], MALFORMED);
    check(&[b"Bearer "], MALFORMED);
    check(&[b"Bearer      "], MALFORMED);
    check(&[b" "], MALFORMED);
    check(&[b"a-token-from-elsewhere"], MALFORMED);
    check(&[b"Basic YS10b2tlbi1mcm9tLWVsc2V3aGVyZQ=="], MALFORMED);
    check(&[b"Token a-token-from-elsewhere"], MALFORMED);
    check(&[b"Bearer: a-token-from-elsewhere"], MALFORMED);
    check(&[b"Bearera-token-from-elsewhere"], MALFORMED);
    check(&[b" Bearer a-token-from-elsewhere"], MALFORMED);
    check(&[b"Bearer\ta-token-from-elsewhere"], MALFORMED);
    check(&[b"Bearer \ta-token-from-elsewhere"], MALFORMED);
    check(&[b"Bearer a-token-from-elsewhere "], MALFORMED);
    check(&[b"Bearer a-token-from elsewhere"], MALFORMED);
    check(&[b"Bearer a-token-from-els\xc3\xa9where"], MALFORMED);
    check(&[b"Bearer short"], MALFORMED);
    check(&[format!("Bearer {}", "x".repeat(1_025)).as_bytes()], MALFORMED);
}

#[test]
fn several_credentials_are_refused_never_one_of_them_taken() {
    check(&[b"Bearer a-token-from-elsewhere", b"Bearer a-token-from-elsewhere"], MALFORMED);
    check(&[b"Bearer a-token-from-elsewhere", b"Basic eDp5"], MALFORMED);
    check(&[b"Bearer a-token-from-elsewhere", b""], MALFORMED);
    check(&[b"Bearer a-token-from-elsewhere,Bearer another-token-from-there"], MALFORMED);
    check(&[b"Bearer a-token-from-elsewhere, Bearer another-token-from-there"], MALFORMED);
    check(&[b"Bearer a-token-from-elsewhere,"], MALFORMED);
    check(&[b"Bearer Bearer a-token-from-elsewhere"], MALFORMED);
}

#[test]
fn an_own_token_shows_its_prefix_and_nothing_else() {
    let fresh = FreshToken::generate(TokenKind::Application).unwrap();
    let text = fresh.full.expose_secret();
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {text}")).unwrap());
    let credential = from_headers(&headers).unwrap();
    assert_eq!(credential.digest, fresh.digest);
    assert_eq!(credential.prefix.unwrap(), fresh.prefix.as_bytes());
    let printed = format!("{credential:?}");
    assert!(printed.contains(&fresh.prefix), "{printed}");
    assert!(!printed.contains(&text[PREFIX_LENGTH..]), "{printed}");

    let damaged = text.replace('_', "_x");
    headers.insert(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {damaged}")).unwrap());
    assert_eq!(from_headers(&headers).unwrap_err(), CredentialError::Malformed);
}

#[test]
fn a_typed_token_is_read_as_a_sent_one() {
    let fresh = FreshToken::generate(TokenKind::Session).unwrap();
    let typed = Credential::of_token(fresh.full.expose_secret()).unwrap();
    assert_eq!((typed.digest, typed.prefix.is_some()), (fresh.digest, true));
    let foreign = Credential::of_token(FOREIGN).unwrap();
    assert_eq!((foreign.digest, foreign.prefix), (TokenDigest::of(FOREIGN.as_bytes()), None));
    for text in
        ["", " a-token-from-elsewhere", "a-token-from-elsewhere\n", "a-token,from-elsewhere", "psta_made-up"]
    {
        assert_eq!(Credential::of_token(text).unwrap_err(), CredentialError::Malformed, "{text:?}");
    }
}

#[test]
fn errors_are_the_policy_s_denials() {
    assert_eq!(Denial::from(CredentialError::Missing), Denial::MissingCredentials);
    assert_eq!(Denial::from(CredentialError::Malformed), Denial::MalformedCredentials);
}

proptest! {
    #[test]
    fn any_header_is_read_without_panic(
        beginning in proptest::sample::select(&["", "Bearer ", "aivenv1 ", "Bearer psta_", "Bearer"][..]),
        rest: Vec<u8>,
    ) {
        let value = [beginning.as_bytes(), &rest].concat();
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value);
            if let Ok(credential) = from_headers(&headers) {
                let token: Vec<u8> = rest.iter().copied().skip_while(|byte| *byte == b' ').collect();
                prop_assert_eq!(credential.digest, TokenDigest::of(&token));
                prop_assert!((16..=1_024).contains(&token.len()));
                prop_assert!(token.iter().all(|byte| byte.is_ascii_graphic() && *byte != b','));
            }
        }
    }
}
