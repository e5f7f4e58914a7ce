//! What passes to the upstream, and what a client cannot smuggle past.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::forwarded::{self, Scheme};
use super::trace::IdGenerator;
use super::{
    Additions, Identity, request_trailers, response_trailers, strip_response, upstream_request_fields,
    write_upstream_request,
};
use crate::config::TrustedPeers;
use crate::policy::address;

fn map(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).expect("name"),
            HeaderValue::from_str(value).expect("value"),
        );
    }
    headers
}

fn identity() -> Identity {
    Identity {
        user_id: HeaderValue::from_static("u1"),
        user_kind: HeaderValue::from_static("application"),
        organization_id: HeaderValue::from_static("org1"),
        project: HeaderValue::from_static("demo"),
        token: None,
        token_prefix: HeaderValue::from_static("psta_0123456789ab"),
    }
}

fn forward(client: &HeaderMap, identity: Option<&Identity>) -> HeaderMap {
    let host = HeaderValue::from_static("search.example");
    let ids = IdGenerator::seeded().expect("random").request(client.get("traceparent"));
    let forwarding = forwarded::start("192.0.2.7".parse().expect("address"), Scheme::Https, &host);
    let mut lines = Vec::new();
    let additions = Additions {
        host: &host,
        identity,
        ids: &ids,
        authorization: None,
        forwarding: &forwarding,
        changes: None,
    };
    write_upstream_request(client, additions, &mut lines);
    let text = std::str::from_utf8(&lines).expect("these tests send no other");
    let split = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    let fields: Option<Vec<_>> = text.split_terminator("\r\n").map(split).collect();
    let fields = fields.expect("every line is a field");
    let written =
        map(&fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>());
    assert_eq!(joined(upstream_request_fields(client, additions)), without_connection(&written));
    written
}

/// HTTP/2's fields as they are in HTTP/1.1: with one line of cookies.
fn joined(mut fields: HeaderMap) -> HeaderMap {
    let crumbs: Vec<_> = fields.get_all("cookie").iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1 {
        let cookies = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).expect("parts of values");
        fields.insert("cookie", cookies);
    }
    fields
}

/// Lines as HTTP/2 has them: without what concerns the connection.
fn without_connection(lines: &HeaderMap) -> HeaderMap {
    let mut fields = lines.clone();
    fields.remove("host");
    fields.remove("connection");
    fields
}

#[track_caller]
fn gone(name: &str) {
    let client = map(&[(name, "from-the-client"), ("accept", "*/*")]);
    let upstream = forward(&client, None);
    assert_eq!(upstream["accept"], "*/*");
    for (name, value) in &upstream {
        assert_ne!(value, "from-the-client", "{name} passed");
    }
}

#[test]
fn identity_in_any_spelling_never_passes() {
    for name in [
        "x-postern-user-id",
        "X_Postern.User-Id",
        "x_postern_user_kind",
        "x.postern.project",
        "X-POSTERN-anything",
        "x-postern_token.prefix",
        "x~postern~user~id",
        "x!postern'user*id",
        "x-forwarded|for",
        "content^length",
        "authorization",
        "x_forwarded_for",
        "x-forwarded-for",
        "X-Forwarded-Port",
        "forwarded",
        "x-real-ip",
        "x_real_ip",
        "x-original-url",
        "x-rewrite-url",
        "x-http-method-override",
        "transfer_encoding",
        "content_length",
        "proxy-authorization",
        "proxy_authorization",
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "te",
        "expect",
        "http2-settings",
        "connection",
    ] {
        gone(name);
    }
}

#[test]
fn what_connection_names_goes_and_ours_stays() {
    let client = map(&[
        ("connection", "x-secret, X-Postern-User-Id , host, close"),
        ("x-secret", "1"),
        ("x-kept", "2"),
        ("x-postern-user-id", "root"),
    ]);
    let upstream = forward(&client, Some(&identity()));
    assert!(!upstream.contains_key("x-secret"));
    assert!(!upstream.contains_key("connection"));
    assert_eq!(upstream["x-kept"], "2");
    assert_eq!(upstream["host"], "search.example");
    let ids: Vec<_> = upstream.get_all("x-postern-user-id").iter().collect();
    assert_eq!(ids, ["u1"]);
}

#[test]
fn forwarding_headers_tell_of_the_peer() {
    let upstream = forward(&HeaderMap::new(), None);
    assert_eq!(upstream["forwarded"], "for=192.0.2.7;host=search.example;proto=https");
    assert_eq!(upstream["x-forwarded-for"], "192.0.2.7");
    assert_eq!(upstream["x-forwarded-proto"], "https");
    assert_eq!(upstream["x-forwarded-host"], "search.example");
}

#[test]
fn a_client_whose_address_is_not_known_is_called_so() {
    let host = HeaderValue::from_static("search.example");
    let forwarding = forwarded::start(address::UNKNOWN, Scheme::Http, &host);
    let text = String::from_utf8_lossy(forwarding.lines()).into_owned();
    assert!(text.contains("forwarded: for=unknown;host=search.example;proto=http\r\n"), "{text}");
    assert!(text.contains("x-forwarded-for: unknown\r\n"), "{text}");
}

#[test]
fn cookies_are_joined_and_repeated_headers_kept() {
    let upstream =
        forward(&map(&[("cookie", "a=1"), ("cookie", "b=2"), ("accept", "x"), ("accept", "y")]), None);
    assert_eq!(upstream["cookie"], "a=1; b=2");
    assert_eq!(upstream.get_all("accept").iter().count(), 2);
}

#[test]
fn traceparent_passes_on_or_starts() {
    let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    assert_eq!(forward(&map(&[("traceparent", given)]), None)["traceparent"], given);
    for bad in [
        "",
        "00-0",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        let started = forward(&map(&[("traceparent", bad)]), None)["traceparent"].clone();
        assert_ne!(started, bad);
        assert_eq!(started.len(), 55);
    }
}

#[test]
fn trailers_carry_no_identity_and_no_framing() {
    let trailers = map(&[
        ("grpc-status", "0"),
        ("x-postern-user-id", "root"),
        ("x_postern_user_id", "root"),
        ("host", "evil"),
        ("content-length", "3"),
        ("transfer-encoding", "chunked"),
        ("authorization", "Bearer x"),
        ("cookie", "a=b"),
    ]);
    for passing in [request_trailers(&trailers), response_trailers(trailers)] {
        assert_eq!(passing.len(), 1);
        assert_eq!(passing["grpc-status"], "0");
    }
}

#[test]
fn responses_lose_what_concerns_the_upstreams_connection() {
    let mut headers = map(&[
        ("connection", "close, x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("content-type", "text/plain"),
        ("transfer-encoding", "chunked"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
    ]);
    strip_response(&mut headers);
    let mut left: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
    left.sort_unstable();
    assert_eq!(left, ["content-type", "set-cookie", "set-cookie"]);
}

#[test]
fn only_trusted_proxies_are_believed() {
    let networks = vec!["10.0.0.0/8".parse().expect("network")];
    let trusted = TrustedPeers { networks, over_unix_socket: false };
    let check = |peer: &str, lines: &[(&str, &str)], expect: &str| {
        let address = forwarded::client_address(&trusted, peer.parse().expect("address"), &map(lines));
        assert_eq!(address.to_string(), expect, "{peer} {lines:?}");
    };
    check("192.0.2.1", &[("x-forwarded-for", "203.0.113.9")], "192.0.2.1");
    check("10.0.0.1", &[("x-forwarded-for", "203.0.113.9")], "203.0.113.9");
    check("10.0.0.1", &[("x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.2.3.4")], "203.0.113.9");
    check("10.0.0.1", &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "203.0.113.9")], "203.0.113.9");
    check("10.0.0.1", &[("x-forwarded-for", "203.0.113.9, nonsense")], "10.0.0.1");
    check("10.0.0.1", &[("forwarded", "for=\"[2001:db8::1]:99\";proto=http, for=10.9.9.9")], "2001:db8::1");
    check("10.0.0.1", &[("forwarded", "for=203.0.113.9, proto=https")], "10.0.0.1");
    check("10.0.0.1", &[("x-forwarded-for", "\u{e9}, 203.0.113.9")], "203.0.113.9");
    check("10.0.0.1", &[("x-forwarded-for", "203.0.113.9, \u{e9}")], "10.0.0.1");
    check("10.0.0.1", &[], "10.0.0.1");
    check("::ffff:10.0.0.1", &[("x-forwarded-for", "203.0.113.9")], "203.0.113.9");
}

#[test]
fn over_a_unix_socket_only_who_is_trusted_there_is_believed() {
    let check = |over_unix_socket: bool, list: &str, expect: &str| {
        let trusted =
            TrustedPeers { networks: vec!["10.0.0.0/8".parse().expect("network")], over_unix_socket };
        let headers = map(&[("x-forwarded-for", list)]);
        let address = forwarded::client_address(&trusted, address::UNKNOWN, &headers);
        assert_eq!(address.to_string(), expect, "{over_unix_socket} {list}");
    };
    check(false, "203.0.113.9", "::");
    check(true, "203.0.113.9", "203.0.113.9");
    check(true, "192.0.2.66, 203.0.113.9, 10.2.3.4", "203.0.113.9");
    // An address that nobody has is not the socket's peer over again.
    check(true, "192.0.2.66, ::", "::");
    check(true, "192.0.2.66, unknown", "::");
}

proptest! {
    #[test]
    fn no_spelling_of_an_identity_header_survives(
        separators in proptest::collection::vec(proptest::sample::select(&b"-_.!#$%&'*+^`|~"[..]), 3),
        upper in proptest::collection::vec(any::<bool>(), 17),
    ) {
        let mut separators = separators.into_iter();
        let name: String = "x-postern-user-id"
            .chars()
            .zip(upper)
            .map(|(character, upper)| match character {
                '-' => separators.next().expect("three dashes").into(),
                other if upper => other.to_ascii_uppercase(),
                other => other,
            })
            .collect();
        let upstream = forward(&map(&[(&name, "root")]), Some(&identity()));
        let seen: Vec<_> = upstream.iter().filter(|(_, value)| *value == "root").collect();
        prop_assert!(seen.is_empty());
        prop_assert_eq!(upstream.get_all("x-postern-user-id").iter().count(), 1);
    }
}
