//! What has one reading, and what does not.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::borrow::Cow;

use super::*;

#[track_caller]
fn unchanged(path: &str) {
    assert!(
        matches!(normalize(path), Ok(Cow::Borrowed(same)) if same == path),
        "{path}: {:?}",
        normalize(path)
    );
}

#[track_caller]
fn becomes(path: &str, expected: &str) {
    assert_eq!(normalize(path).as_deref(), Ok(expected), "{path}");
    unchanged(expected);
}

#[track_caller]
fn refused(path: &str, expected: Ambiguity) {
    assert_eq!(normalize(path), Err(expected), "{path}");
}

#[test]
fn what_clients_send_is_borrowed() {
    for path in [
        "/",
        "/?",
        "/metrics",
        "/a/b/",
        "/api/v1/query_range?query=sum(rate(http_requests_total%7Bjob=%22a%22%7D[5m]))&start=1.5",
        "/index/_doc/a%20b",
        "/index/_doc/user%3A1%40example.com%2C%2B%25",
        "/%E2%82%AC/caf%c3%a9/%F0%9F%98%80",
        "/.well-known/security.txt",
        "/...",
        "/a/..b/c../.d/...e",
        "/files/archive.tar.gz",
        "/logs-*,metrics-*/_search?ignore_unavailable=true",
        "/subjects/:.ctx:topic-value/versions",
        "/a(1)!$&'*+=@~-_",
        "/a%3Bb",
        "/%252e%252e",
        "/q?path=/../..//;%00%zz%2f\\",
    ] {
        unchanged(path);
    }
}

#[test]
fn encoded_unreserved_characters_are_decoded() {
    becomes("/%61dmin", "/admin");
    becomes("/a%2Eb", "/a.b");
    becomes("/%7Euser/%5Fcat%2D1?x=%61", "/~user/_cat-1?x=%61");
    becomes("/a/%30%41%7a%2f".strip_suffix("%2f").unwrap(), "/a/0Az");
    becomes("/caf%C3%A9/%65nd", "/caf%C3%A9/end");
    becomes("/%2e%2e%2e", "/...");
}

#[test]
fn what_servers_read_differently_is_refused() {
    for (ambiguity, paths) in [
        (
            Ambiguity::DotSegment,
            &[
                "/.",
                "/..",
                "/./",
                "/../",
                "/a/.",
                "/a/..",
                "/a/./b",
                "/a/../b",
                "/..?q",
                "/%2e",
                "/%2E%2e/",
                "/.%2e",
                "/%2e.",
                "/a/%2e%2E/b",
                "/%2e?x",
                "/pub/%2e%2e/admin",
            ][..],
        ),
        (Ambiguity::EmptySegment, &["//", "//a", "/a//", "/a//b", "/a///b", "//evil.example/"]),
        (Ambiguity::PathParameter, &["/a;b", "/;", "/..;/admin", "/a;jsessionid=1/b"]),
        (Ambiguity::EncodedSlash, &["/a%2fb", "/%2F", "/..%2fadmin"]),
        (Ambiguity::Backslash, &["/a\\b", "/..\\admin", "/a%5cb", "/%5C"]),
        (Ambiguity::EncodedControl, &["/%00", "/a%0d%0aSet-Cookie", "/%1f", "/%7f", "/a%09"]),
        (Ambiguity::PercentEncoding, &["/%", "/%2", "/%zz", "/a%g0", "/%-1", "/%?a", "/% 1", "/%u002e"]),
        (
            Ambiguity::Encoding,
            &[
                "/%c0%af",
                "/%c0%ae%c0%ae/",
                "/%e0%80%af",
                "/%f0%80%80%af",
                "/%80",
                "/%ff",
                "/%c3",
                "/%c3x",
                "/%c3%28",
                "/%ed%a0%80",
                "/%f4%90%80%80",
                "/%f8%88%80%80%80",
                "/%e2%82",
            ],
        ),
        (Ambiguity::Character, &["/a#b", "/a b", "/caf\u{e9}", "/a\"", "/<a>", "/{a}", "/a|b", "/a^b", "/`"]),
        (Ambiguity::NotAbsolute, &["", "*", "a", "?q", "http://a/", "%2f"]),
    ] {
        for path in paths {
            refused(path, ambiguity);
        }
    }
}

#[test]
fn encoded_slashes_stay_where_they_may() {
    for (path, expected) in [
        ("/a%2Fb", Ok("/a%2Fb")),
        ("/%61%2fb/c?x=%2f", Ok("/a%2fb/c?x=%2f")),
        ("/fetch/https:%2F%2Fexample.com%2F", Ok("/fetch/https:%2F%2Fexample.com%2F")),
        ("/plain?x=..%2f..", Ok("/plain?x=..%2f..")),
        ("/a%252fb", Ok("/a%252fb")),
        ("/a%2F..%2Fb", Err(Ambiguity::DotSegment)),
        ("/a%2f%2e%2E", Err(Ambiguity::DotSegment)),
        ("/..%2fadmin", Err(Ambiguity::DotSegment)),
        ("/.%2F", Err(Ambiguity::DotSegment)),
        ("/a%2f../b", Err(Ambiguity::DotSegment)),
        ("/a%2Fb//c", Err(Ambiguity::EmptySegment)),
        ("/a%2Fb%5c..", Err(Ambiguity::Backslash)),
        ("/a%2Fb%c0%af", Err(Ambiguity::Encoding)),
        ("/a%2Fb;c", Err(Ambiguity::PathParameter)),
    ] {
        assert_eq!(normalize_with_encoded_slashes(path).as_deref(), expected.as_ref().copied(), "{path}");
    }
    assert_eq!(with_slashes_decoded("/a%2Fb%2fc%252f"), "/a/b/c%252f");
}

proptest::proptest! {
    #[test]
    fn a_result_is_stable_and_never_panics(path in "/([a-z%./;\\\\2eEfF0]|%[0-9a-fA-F]{2}|\\PC){0,24}") {
        if let Ok(normal) = normalize(&path) {
            proptest::prop_assert_eq!(normalize(&normal), Ok(Cow::Borrowed(normal.as_ref())));
        }
    }
}
