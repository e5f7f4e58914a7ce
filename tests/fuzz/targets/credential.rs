//! How tokens come in requests: `Authorization` alone, and the further places that a route can declare.
//!
//! The first byte says which places are declared. Lines follow: `name: value` is a header line, `?…` the query, `ws` says
//! that a WebSocket is opened.

#![allow(dead_code, reason = "libFuzzer needs no words")]

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use postern::config::{CredentialCarrier, CredentialsConfig};
use postern::token::TokenDigest;
use postern::token::credential::elsewhere::{Carriers, Carrying, Opening};
use postern::token::credential::{self, Credential, CredentialError};
use postern::token::format::{self, Format};

pub const WORDS: &[&[u8]] = &[
    b"authorization: ",
    b"Bearer ",
    b"bearer  ",
    b"aivenv1 ",
    b"Basic ",
    b"sec-websocket-protocol: ",
    b"base64url.bearer.authorization.k8s.io.",
    b"a-token-from-elsewhere",
    b"YS10b2tlbi1mcm9tLWVsc2V3aGVyZQ",
    b"dXNlcjphLXRva2VuLWZyb20tZWxzZXdoZXJl",
    b"==",
    b"?access_token=",
    b"&access_token=",
    b"%61ccess_token=",
    b"ws\n",
    b"\n",
    b",",
    b", ",
    b"\t",
    b"psta_",
];

pub fn check(bytes: &[u8]) {
    let Some((declared, rest)) = bytes.split_first() else { return };
    let mut headers = HeaderMap::new();
    let mut query = None;
    let mut opening = Opening::Nothing;
    for line in rest.split(|byte| *byte == b'\n') {
        if line == b"ws" {
            opening = Opening::WebSocket;
        } else if let Some(given) = line.strip_prefix(b"?") {
            query = std::str::from_utf8(given).ok();
        } else if let Some((name, value)) = field(line) {
            headers.append(name, value);
        }
    }
    let alone = credential::from_headers(&headers);
    check_alone(&headers, &alone);
    let carriers = [
        CredentialCarrier::Bearer,
        CredentialCarrier::Basic,
        CredentialCarrier::WebsocketProtocol,
        CredentialCarrier::Query,
    ];
    let chosen = carriers.into_iter().enumerate().filter(|(bit, _)| declared >> bit & 1 == 1);
    let config =
        CredentialsConfig { carriers: chosen.map(|(_, carrier)| carrier).collect(), ..Default::default() };
    let Some(elsewhere) = Carriers::of(&config) else { return };
    let carrying = Carrying { headers: &headers, query, opening };
    let read = elsewhere.read(carrying);
    check_elsewhere(&config, &carrying, &read);
    check_nothing_goes_on(&elsewhere, &headers, query, read.is_ok());
}

fn field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?))
}

/// Against a second reading: one header, one of two schemes, spaces, and what is a token.
fn check_alone(headers: &HeaderMap, read: &Result<Credential, CredentialError>) {
    let values: Vec<_> = headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes).collect();
    let expected = match values[..] {
        [] => Err(CredentialError::Missing),
        [value] => token_of(value).ok_or(CredentialError::Malformed),
        _ => Err(CredentialError::Malformed),
    };
    match (read, expected) {
        (Ok(read), Ok(token)) => check_credential(read, token),
        (read, expected) => assert_eq!(read.as_ref().err(), expected.err().as_ref(), "{values:?}"),
    }
}

fn token_of(value: &[u8]) -> Option<&[u8]> {
    let scheme = value.iter().take_while(|byte| **byte != b' ').count();
    let token = value[scheme..].iter().take_while(|byte| **byte == b' ').count() + scheme;
    let is_known = [&b"bearer"[..], b"aivenv1"].contains(&&*value[..scheme].to_ascii_lowercase());
    (is_known && token > scheme && is_token(&value[token..])).then_some(&value[token..])
}

/// The format has a target of its own.
fn is_token(text: &[u8]) -> bool {
    matches!(format::inspect(text), Format::Own(_) | Format::Foreign)
}

/// The digest is that of the token, and nothing secret is printed.
fn check_credential(read: &Credential, token: &[u8]) {
    assert_eq!(read.digest, TokenDigest::of(token));
    let printed = format!("{read:?}");
    match read.prefix {
        Some(prefix) => {
            assert_eq!(prefix, token[..prefix.len()]);
            let secret = std::str::from_utf8(&token[prefix.len()..]).expect("our own tokens are text");
            assert!(!printed.contains(secret), "{printed}");
        }
        None => assert!(std::str::from_utf8(token).is_ok_and(|token| !printed.contains(token)), "{printed}"),
    }
}

/// Whoever is let in has come with exactly one thing that can be a token, in a place that was declared.
fn check_elsewhere(
    config: &CredentialsConfig,
    carrying: &Carrying<'_>,
    read: &Result<Credential, CredentialError>,
) {
    let takes = |carrier| config.carriers.contains(&carrier);
    let authorizations = carrying.headers.get_all(AUTHORIZATION).iter().count();
    match read {
        Ok(_) if authorizations > 0 => {
            assert_eq!(authorizations, 1);
            let value = carrying.headers[AUTHORIZATION].as_bytes();
            let is_basic = value.len() >= 5 && value[..5].eq_ignore_ascii_case(b"basic");
            assert!(takes(if is_basic { CredentialCarrier::Basic } else { CredentialCarrier::Bearer }));
        }
        Ok(_) => {
            let by_query = takes(CredentialCarrier::Query) && carrying.query.is_some();
            let by_protocol =
                takes(CredentialCarrier::WebsocketProtocol) && carrying.opening == Opening::WebSocket;
            assert!(by_query || by_protocol);
        }
        Err(CredentialError::Missing) => assert_eq!(authorizations, 0),
        Err(CredentialError::Malformed) => {}
    }
}

/// What may have carried a token does not go on, and what did not is left alone.
fn check_nothing_goes_on(carriers: &Carriers, headers: &HeaderMap, query: Option<&str>, is_read: bool) {
    let mut left = headers.clone();
    if let Some(without) = carriers.headers_without_token(headers) {
        assert!(carriers.headers_without_token(&without).is_none(), "{without:?}");
        left = without;
    }
    let mut query_left = query.map(|query| format!("/path?{query}"));
    if let Some(whole) = &query_left
        && let Some(without) = carriers.without_token(whole)
    {
        assert!(without.starts_with("/path") && without.len() < whole.len());
        assert!(carriers.without_token(&without).is_none(), "{without}");
        query_left = Some(without);
    }
    left.remove(AUTHORIZATION);
    if is_read {
        // Read again, there is nothing to be let in with.
        let query = query_left.as_deref().and_then(|whole| whole.split_once('?')).map(|(_, query)| query);
        let carrying = Carrying { headers: &left, query, opening: Opening::WebSocket };
        assert!(carriers.read(carrying).is_err());
    }
}
