//! Where tokens may be, where not, and that there is never more than one.

#![allow(clippy::unwrap_used, reason = "tests")]

use data_encoding::{BASE64, BASE64URL_NOPAD};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Carriers, Carrying, Opening};
use crate::config::{CredentialCarrier, CredentialsConfig};
use crate::token::{CredentialError, TokenDigest};

const TOKEN: &str = "a-token-from:elsewhere";
const MALFORMED: Result<(), CredentialError> = Err(CredentialError::Malformed);
const MISSING: Result<(), CredentialError> = Err(CredentialError::Missing);

fn carriers(carriers: &[CredentialCarrier]) -> Box<Carriers> {
    let config =
        CredentialsConfig { carriers: carriers.to_vec(), query_parameter: "access_token".to_owned() };
    Carriers::of(&config).unwrap()
}

fn all() -> Box<Carriers> {
    use CredentialCarrier::{Basic, Bearer, Query, WebsocketProtocol};
    carriers(&[Bearer, Basic, WebsocketProtocol, Query])
}

fn headers(lines: &[(&'static str, String)]) -> HeaderMap {
    let line = |(name, value): &(&'static str, String)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    lines.iter().map(line).collect()
}

#[track_caller]
fn check(
    carriers: &Carriers,
    lines: &[(&'static str, String)],
    query: Option<&str>,
    expect: Result<(), CredentialError>,
) {
    let headers = headers(lines);
    let read = carriers.read(Carrying { headers: &headers, query, opening: Opening::WebSocket });
    let digest = TokenDigest::of(TOKEN.as_bytes());
    assert_eq!(read.map(|credential| credential.digest), expect.map(|()| digest), "{lines:?} {query:?}");
}

fn bearer() -> (&'static str, String) {
    ("authorization", format!("Bearer {TOKEN}"))
}

fn basic(pair: &str) -> (&'static str, String) {
    ("authorization", format!("Basic {}", BASE64.encode(pair.as_bytes())))
}

fn protocol(before: &str, behind: &str) -> (&'static str, String) {
    let encoded = BASE64URL_NOPAD.encode(TOKEN.as_bytes());
    ("sec-websocket-protocol", format!("{before}base64url.bearer.authorization.k8s.io.{encoded}{behind}"))
}

#[test]
fn a_token_is_read_from_each_place() {
    check(&all(), &[bearer()], None, Ok(()));
    check(&all(), &[basic(&format!("user:{TOKEN}"))], None, Ok(()));
    check(&all(), &[basic(&format!(":{TOKEN}"))], None, Ok(()));
    check(&all(), &[protocol("", "")], None, Ok(()));
    check(&all(), &[protocol("chat, ", " ,superchat")], None, Ok(()));
    check(&all(), &[("sec-websocket-protocol", "chat".into()), protocol("", "")], None, Ok(()));
    check(&all(), &[], Some("access_token=a-token-from:elsewhere"), Ok(()));
    check(&all(), &[], Some("x=1&%61ccess%5ftoken=a%2dtoken-from%3Aelsewhere&y"), Ok(()));
    check(&all(), &[], None, MISSING);
    check(&all(), &[("sec-websocket-protocol", "chat".into())], Some("token=x"), MISSING);
}

#[test]
fn what_is_no_token_is_malformed_wherever_it_is() {
    for pair in
        ["user", "", "user:", "user:short", "us:er:a-token-from:elsewhere ", "user:a-token from elsewhere"]
    {
        check(&all(), &[basic(pair)], None, MALFORMED);
    }
    check(&all(), &[("authorization", "Basic".into())], None, MALFORMED);
    check(&all(), &[("authorization", "Basic !!!!".into())], None, MALFORMED);
    check(&all(), &[basic(&format!("{}:{TOKEN}", "u".repeat(3_000)))], None, MALFORMED);
    check(&all(), &[("authorization", format!("Digest {TOKEN}"))], None, MALFORMED);
    for item in ["", "=", "!", "YQ"] {
        let item = format!("base64url.bearer.authorization.k8s.io.{item}");
        check(&all(), &[("sec-websocket-protocol", item)], None, MALFORMED);
    }
    for query in ["access_token", "access_token=", "access_token=a+token+from+elsewhere", "access_token=%00"]
    {
        check(&all(), &[], Some(query), MALFORMED);
    }
}

#[test]
fn two_credentials_are_refused_never_one_of_them_taken() {
    let in_query = format!("access_token={TOKEN}");
    for lines in [
        vec![bearer(), bearer()],
        vec![bearer(), basic(&format!("u:{TOKEN}"))],
        vec![bearer(), protocol("", "")],
        vec![protocol("", ""), protocol("", "")],
        vec![protocol("", &format!(",{}", protocol("", "").1))],
    ] {
        check(&all(), &lines, None, MALFORMED);
    }
    check(&all(), &[bearer()], Some(&in_query), MALFORMED);
    check(&all(), &[("authorization", String::new())], Some(&in_query), MALFORMED);
    check(&all(), &[protocol("", "")], Some(&in_query), MALFORMED);
    check(&all(), &[], Some(&format!("{in_query}&{in_query}")), MALFORMED);
    check(&all(), &[], Some(&format!("{in_query}&access_token")), MALFORMED);
    check(&carriers(&[CredentialCarrier::Query]), &[bearer()], Some(&in_query), MALFORMED);
}

#[test]
fn a_place_that_is_not_declared_holds_no_token() {
    let basic_only = carriers(&[CredentialCarrier::Basic]);
    check(&basic_only, &[bearer()], None, MALFORMED);
    check(&basic_only, &[protocol("", "")], Some(&format!("access_token={TOKEN}")), MISSING);
    let query_only = carriers(&[CredentialCarrier::Query]);
    check(&query_only, &[basic(&format!("u:{TOKEN}"))], None, MALFORMED);
    check(&query_only, &[bearer()], None, MALFORMED);
    let bearer_only = CredentialsConfig::default();
    assert!(Carriers::of(&bearer_only).is_none());
}

#[test]
fn a_subprotocol_is_a_credential_only_where_a_websocket_is_opened() {
    let headers = headers(&[protocol("", "")]);
    let read = all().read(Carrying { headers: &headers, query: None, opening: Opening::Nothing });
    assert_eq!(read.map(drop), MALFORMED);
}

#[test]
fn nothing_that_may_hold_a_token_is_left() {
    for (given, expect) in [
        ("/a?access_token=x", Some("/a")),
        ("/a?access_token=x&b=1", Some("/a?b=1")),
        ("/a?b=1&access%5Ftoken=x&c", Some("/a?b=1&c")),
        ("/a?b&access_token&access_token=y&", Some("/a?b&")),
        ("/a?b=access_token", None),
        ("/access_token=x", None),
        ("/a?Access_Token=x", None),
        ("/a", None),
    ] {
        assert_eq!(all().without_token(given).as_deref(), expect, "{given}");
    }
    for (lines, expect) in [
        (vec![protocol("chat, ", ",superchat")], Some("chat, superchat")),
        (vec![("sec-websocket-protocol", "chat".into()), protocol("", "")], Some("chat")),
        (vec![protocol("", "")], None),
        (vec![("sec-websocket-protocol", protocol("", "").1.to_uppercase())], None),
    ] {
        let left = all().headers_without_token(&headers(&lines)).unwrap();
        let left: Vec<_> = left.get_all("sec-websocket-protocol").iter().collect();
        assert_eq!(left, Vec::from_iter(expect), "{lines:?}");
    }
    assert!(all().headers_without_token(&headers(&[("sec-websocket-protocol", "chat".into())])).is_none());
}
