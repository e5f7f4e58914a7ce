//! Which route answers for which host and path.

use super::{RouteTable, host_name};

fn table() -> RouteTable {
    let routes: &[(&[&str], &str)] = &[
        (&[], "/"),
        (&[], "/api"),
        (&[], "/api/v2"),
        (&["search.example.com"], "/"),
        (&["search.example.com"], "/index/"),
        (&["*.example.com"], "/"),
        (&["*.deep.example.com"], "/only"),
        (&["bare.example.org"], "/here"),
    ];
    let mut table = RouteTable::default();
    for (position, (hosts, prefix)) in routes.iter().enumerate() {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        table.add(&hosts, prefix, position);
    }
    table
}

#[track_caller]
fn check(host: &str, path: &str, expect: Option<usize>) {
    assert_eq!(table().find(host, path), expect, "{host}{path}");
}

#[test]
fn the_longest_prefix_wins_at_segment_borders() {
    check("other", "/", Some(0));
    check("other", "/apix", Some(0));
    check("other", "/api", Some(1));
    check("other", "/api/", Some(1));
    check("other", "/api/v1", Some(1));
    check("other", "/api/v2", Some(2));
    check("other", "/api/v2/x/y/z", Some(2));
    check("other", "/api/v22", Some(1));
}

#[test]
fn the_most_specific_host_decides_alone() {
    check("search.example.com", "/api", Some(3));
    check("search.example.com", "/index", Some(4));
    check("search.example.com", "/index/a", Some(4));
    check("else.example.com", "/index", Some(5));
    check("a.b.example.com", "/", Some(5));
    check("a.deep.example.com", "/only/x", Some(6));
    check("a.deep.example.com", "/", None);
    check("example.com", "/", Some(0));
    check("bare.example.org", "/api", None);
    check("bare.example.org", "/here", Some(7));
}

#[test]
fn an_empty_table_has_no_route() {
    assert_eq!(RouteTable::default().find("any", "/"), None);
}

#[test]
fn ports_are_cut_off_and_brackets_kept() {
    for (authority, host) in [
        ("a.example:80", "a.example"),
        ("a.example", "a.example"),
        ("[::1]:8080", "[::1]"),
        ("[::1]", "[::1]"),
        ("a.example.:80", "a.example"),
    ] {
        assert_eq!(host_name(authority), host);
    }
}
