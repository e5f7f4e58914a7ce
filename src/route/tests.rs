//! Which route answers for which host and path.

use proptest::prelude::*;

use super::pattern::Pattern;
use super::{Choice, RouteTable, host_name};

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
        table.add(&hosts, &Pattern::below(prefix), position, Choice::Always);
    }
    table
}

#[track_caller]
fn check(host: &str, path: &str, expect: Option<usize>) {
    assert_eq!(table().find(host, path), expect.as_slice(), "{host}{path}");
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
    assert!(RouteTable::default().find("any", "/").is_empty());
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

/// Patterns with a star behind them are beginnings, others whole paths.
fn of_any_host(patterns: &[&str]) -> RouteTable {
    let mut table = RouteTable::default();
    for (position, text) in patterns.iter().enumerate() {
        let pattern = text.strip_suffix('*').map_or_else(|| Pattern::whole(text), Pattern::below);
        table.add(&[], &pattern, position, Choice::Always);
    }
    table
}

#[test]
fn literals_go_before_parameters_and_longer_before_shorter() {
    let patterns = [
        "/*",
        "/v1/{tenant}/items",
        "/v1/{tenant}*",
        "/v1/acme*",
        "/v1/{tenant}/items/{id}",
        "/health",
        "/health*",
        "/{any}/items",
        "/",
    ];
    let table = of_any_host(&patterns);
    for (path, expect) in [
        ("/", "/"),
        ("/x", "/*"),
        ("/x/items", "/{any}/items"),
        ("/x/items/", "/*"),
        ("/v1", "/*"),
        ("/v1/", "/*"),
        ("/v1/items", "/v1/{tenant}*"),
        ("/v1/umbrella", "/v1/{tenant}*"),
        ("/v1/umbrella/", "/v1/{tenant}*"),
        ("/v1/umbrella/items", "/v1/{tenant}/items"),
        ("/v1/umbrella/items/", "/v1/{tenant}*"),
        ("/v1/umbrella/items/7", "/v1/{tenant}/items/{id}"),
        ("/v1/umbrella/items/7/x", "/v1/{tenant}*"),
        // The literal beginning on the left takes it, though a longer pattern would match.
        ("/v1/acme/items", "/v1/acme*"),
        ("/v1/acme/items/7", "/v1/acme*"),
        ("/v1/acmex/items", "/v1/{tenant}/items"),
        ("/health", "/health"),
        ("/health/", "/health*"),
        ("/health/live", "/health*"),
        ("/healthy", "/*"),
    ] {
        let found: Vec<_> = table.find("any", path).iter().map(|position| patterns[*position]).collect();
        assert_eq!(found, [expect], "{path}");
    }
}

#[test]
fn a_parameter_is_never_empty() {
    let table = of_any_host(&["/v1/{tenant}/items", "/{any}"]);
    for path in ["/v1//items", "/", "/v1/", "//"] {
        assert!(table.find("any", path).is_empty(), "{path}");
    }
}

#[test]
fn those_with_conditions_come_in_their_order_and_before_the_one_without() {
    for pattern in [Pattern::below("/a"), Pattern::whole("/a")] {
        let mut table = RouteTable::default();
        for (route, choice) in
            [(0, Choice::OnConditions), (1, Choice::Always), (2, Choice::OnConditions), (3, Choice::Always)]
        {
            table.add(&[], &pattern, route, choice);
        }
        table.add(&[], &Pattern::below("/"), 4, Choice::Always);
        assert_eq!(table.find("any", "/a"), [0, 2, 1]);
        assert_eq!(table.find("any", "/b"), [4]);
    }
}

proptest! {
    #[test]
    fn the_tree_answers_as_the_hash_table_does(
        prefixes in prop::collection::vec("(/[ab]){0,3}", 1..6),
        path in "(/[abc]{0,2}){1,4}",
    ) {
        let mut plain = RouteTable::default();
        let mut tree = RouteTable::default();
        // What no path can match makes it a tree.
        tree.add(&[], &Pattern::whole("/{a}/{b}/{c}/{d}/{e}/{f}"), 99, Choice::Always);
        for (position, prefix) in prefixes.iter().enumerate() {
            plain.add(&[], &Pattern::below(prefix), position, Choice::Always);
            tree.add(&[], &Pattern::below(prefix), position, Choice::Always);
        }
        prop_assert_eq!(plain.find("any", &path), tree.find("any", &path));
    }
}
