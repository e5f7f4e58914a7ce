//! Header hygiene: whatever lines a client sends, who is asking is told by us alone, in any spelling that a service could take
//! for it; nothing of one hop goes on; and all else does, unchanged.
//!
//! The input is header lines, each ended by a line feed.

#![allow(dead_code, reason = "libFuzzer needs no words")]

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use postern::config::{HeaderChangesConfig, TrustedPeers};
use postern::headers::change::{self, Direction, HeaderChanges};
use postern::headers::forwarded::{self, Scheme};
use postern::headers::trace::IdGenerator;
use postern::headers::{self, Additions, Identity};

pub const WORDS: &[&[u8]] = &[
    b"x-postern-",
    b"X_Postern.User-Id: root\n",
    b"x-postern-token-prefix: ",
    b"authorization: ",
    b"connection: ",
    b"keep-alive, ",
    b"close",
    b"upgrade",
    b"te: trailers\n",
    b"trailers",
    b"cookie: a=b\n",
    b"x-forwarded-for: ",
    b"forwarded: for=",
    b"\"[2001:db8::1]:80\"",
    b"203.0.113.9",
    b"10.0.0.1",
    b"x_real_ip: ",
    b"transfer.encoding: chunked\n",
    b"content_length: 5\n",
    b"content-length: 5\n",
    b"host: ",
    b"x-original-url: /admin\n",
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n",
    b"-",
    b"_",
    b".",
    b", ",
    b"\n",
    b"\t",
    b"\xe9",
];

const HOST: &str = "service.test";
const PEER: &str = "192.0.2.7";

/// What we say, each line once.
const OURS: [(&str, Option<&str>); 13] = [
    ("host", Some(HOST)),
    ("authorization", Some("Basic dXBzdHJlYW0=")),
    ("x-postern-user-id", Some("u1")),
    ("x-postern-user-kind", Some("application")),
    ("x-postern-organization-id", Some("org1")),
    ("x-postern-project", Some("demo")),
    ("x-postern-token-prefix", Some("psta_0123456789ab")),
    ("x-postern-request-id", None),
    ("traceparent", None),
    ("forwarded", Some("for=192.0.2.7;host=service.test;proto=https")),
    ("x-forwarded-for", Some(PEER)),
    ("x-forwarded-proto", Some("https")),
    ("x-forwarded-host", Some(HOST)),
];

/// What a service must not be told by a client in any spelling, beside what we say ourselves.
const NEVER: [&str; 12] = [
    "x-real-ip",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "transfer-encoding",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "expect",
];

pub fn check(bytes: &[u8]) {
    let mut client = HeaderMap::new();
    for (name, value) in bytes.split(|byte| *byte == b'\n').filter_map(field) {
        client.append(name, value);
    }
    check_request(&client, None);
    for name in client.keys().take(3) {
        check_changes(&client, name);
    }
    check_trailers(&client);
    check_response(&client);
    check_address(&client);
}

fn field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?))
}

/// As a service reads a name that makes a variable of it.
fn dashed(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}

/// The upstream's lines as they were written.
fn written(client: &HeaderMap, changes: Option<&HeaderChanges>) -> Vec<(String, Vec<u8>)> {
    let host = HeaderValue::from_static(HOST);
    let authorization = HeaderValue::from_static("Basic dXBzdHJlYW0=");
    let identity = Identity {
        user_id: HeaderValue::from_static("u1"),
        user_kind: HeaderValue::from_static("application"),
        organization_id: HeaderValue::from_static("org1"),
        project: HeaderValue::from_static("demo"),
        token_prefix: HeaderValue::from_static("psta_0123456789ab"),
        token: None,
    };
    let ids = IdGenerator::seeded().expect("random bytes").request(client.get("traceparent"));
    let forwarding = forwarded::start(PEER.parse().expect("an address"), Scheme::Https, &host);
    let mut lines = Vec::new();
    let additions = Additions {
        host: &host,
        identity: Some(&identity),
        ids: &ids,
        authorization: Some(&authorization),
        forwarding: &forwarding,
        changes,
    };
    headers::write_upstream_request(client, additions, &mut lines);
    assert_alike(&headers::upstream_request_fields(client, additions), &lines);
    assert!(lines.ends_with(b"\r\n"));
    let text = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    text.map(|line| {
        let line = line.strip_suffix(b"\r").expect("each line has its end");
        assert!(!line.contains(&b'\r') && !line.contains(&0), "{line:?}");
        let colon = line.windows(2).position(|pair| pair == b": ").expect("name and value");
        let name = std::str::from_utf8(&line[..colon]).expect("names are text");
        (name.to_owned(), line[colon + 2..].to_vec())
    })
    .collect()
}

/// An upstream over HTTP/2 sees what one over HTTP/1.1 does, but for what concerns the connection.
fn assert_alike(fields: &HeaderMap, lines: &[u8]) {
    let mut written = headers::map_of_lines(&Bytes::copy_from_slice(lines));
    written.remove("host");
    written.remove("connection");
    let mut fields = fields.clone();
    let crumbs: Vec<_> = fields.get_all("cookie").iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1 {
        let cookies = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).expect("parts of values");
        fields.insert("cookie", cookies);
    }
    assert_eq!(fields, written);
}

fn check_request(client: &HeaderMap, changes: Option<&HeaderChanges>) {
    let upstream = written(client, changes);
    let count = |name: &str| upstream.iter().filter(|(other, _)| other == name).count();
    for (name, value) in OURS {
        assert_eq!(count(name), 1, "{name} in {upstream:?}");
        let (_, found) = upstream.iter().find(|(other, _)| other == name).expect("counted");
        assert!(value.is_none_or(|value| value.as_bytes() == &found[..]), "{name}: {found:?}");
    }
    for (name, value) in &upstream {
        let meant = dashed(name);
        if OURS.iter().any(|(ours, _)| *ours == meant) {
            assert_eq!(*name, meant, "another spelling of what we say");
            continue;
        }
        assert!(!meant.starts_with("x-postern-") && !meant.starts_with("x-forwarded-"), "{name}");
        assert!(!NEVER.contains(&&*meant), "{name}");
        assert!(meant != "content-length" || name == "content-length", "{name}");
        match meant.as_str() {
            "connection" => assert!(value == b"te" && count("te") == 1),
            "te" => assert_eq!(value, b"trailers"),
            "upgrade" => panic!("an upgrade goes on"),
            "proxy-authenticate" | "http2-settings" => assert_ne!(*name, meant, "it concerns one hop"),
            "cookie" if name == "cookie" => assert_eq!(count(name), 1),
            _ => assert_eq!(count(name), client.get_all(name).iter().count(), "{name}"),
        }
    }
    // Whose name has one spelling, is not ours, and is not named as the connection's, goes on.
    let listed: Vec<u8> = client
        .get_all("connection")
        .iter()
        .flat_map(|value| value.as_bytes().iter().chain(b","))
        .map(u8::to_ascii_lowercase)
        .collect();
    let is_listed =
        |name: &str| listed.split(|byte| *byte == b',').any(|item| item.trim_ascii() == name.as_bytes());
    for name in ["accept", "content-type", "x-request-id", "user-agent", "x-custom"] {
        if !is_listed(name) && changes.is_none() {
            assert_eq!(count(name), client.get_all(name).iter().count(), "{name} was lost");
        }
    }
}

/// A route's changes reach what they name, and nothing that is ours to say.
fn check_changes(client: &HeaderMap, name: &HeaderName) {
    if change::why_reserved(name, Direction::Request).is_some() {
        return;
    }
    let value = HeaderValue::from_static("of-the-route");
    let config = HeaderChangesConfig { set: vec![(name.clone(), value)], ..HeaderChangesConfig::default() };
    let changes = HeaderChanges::of(&config).expect("something is changed");
    let upstream = written(client, Some(&changes));
    let meant = dashed(name.as_str());
    let found: Vec<_> = upstream.iter().filter(|(other, _)| dashed(other) == meant).collect();
    assert!(matches!(found[..], [(_, value)] if value == b"of-the-route"), "{name}: {found:?}");
    for (ours, value) in OURS {
        let found: Vec<_> = upstream.iter().filter(|(other, _)| dashed(other) == ours).collect();
        assert!(
            matches!(found[..], [(_, found)] if value.is_none_or(|value| value.as_bytes() == &found[..])),
            "{ours}"
        );
    }
}

fn check_trailers(client: &HeaderMap) {
    for name in headers::request_trailers(client).keys() {
        let meant = dashed(name.as_str());
        let is_ours = OURS.iter().any(|(ours, _)| *ours == meant);
        assert!(!is_ours && !meant.starts_with("x-postern-") && !NEVER.contains(&&*meant), "{name}");
        assert!(!["content-length", "trailer", "te", "upgrade", "connection"].contains(&&*meant), "{name}");
    }
    for name in headers::response_trailers(client.clone()).keys() {
        assert!(!["content-length", "transfer-encoding", "connection"].contains(&name.as_str()), "{name}");
    }
}

fn check_response(upstream: &HeaderMap) {
    let mut left = upstream.clone();
    headers::strip_response(&mut left);
    for name in left.keys() {
        assert!(!headers::ends_with_response(name.as_str()), "{name}");
        assert!(!headers::ends_with_response(&name.as_str().to_ascii_uppercase()), "{name}");
    }
    let mut again = left.clone();
    headers::strip_response(&mut again);
    assert_eq!(again, left);
}

/// Who is not trusted is believed nothing; who is, only an address that it names, or none.
fn check_address(client: &HeaderMap) {
    let trusted =
        TrustedPeers { networks: vec!["10.0.0.0/8".parse().expect("a network")], over_unix_socket: false };
    let host = HeaderValue::from_static(HOST);
    for (peer, is_trusted) in [(PEER, false), ("10.0.0.1", true), ("::ffff:10.0.0.1", true)] {
        let peer: IpAddr = peer.parse().expect("an address");
        let address = forwarded::client_address(&trusted, peer, client);
        let scheme = forwarded::client_scheme(&trusted, peer, client);
        assert!(is_trusted || (address == peer && scheme.is_none()), "{address}");
        assert!(address == peer || address == address.to_canonical());
        let forwarding = forwarded::append(peer, Scheme::Http, &host, client);
        assert_eq!(forwarding.lines().split(|byte| *byte == b'\n').count(), 5, "four lines and their ends");
    }
}
