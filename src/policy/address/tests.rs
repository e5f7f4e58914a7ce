#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

#[track_caller]
fn check(ranges: &[&str], address: &str, expect: bool) {
    let parsed: Vec<IpNet> = ranges.iter().map(|range| parse_range(range).unwrap()).collect();
    let address = address.parse().unwrap();
    assert_eq!(allows(&parsed, address), expect, "{address} in {ranges:?}");
    // Ranges that did not come through `parse_range` mean the same.
    let as_written: Vec<IpNet> = ranges.iter().filter_map(|range| range.parse().ok()).collect();
    if as_written.len() == ranges.len() {
        assert_eq!(allows(&as_written, address), expect, "{address} in {ranges:?} as written");
    }
}

#[test]
fn an_address_is_allowed_when_a_range_holds_it() {
    check(&[], "192.0.2.1", true);
    check(&[], "2001:db8::1", true);
    check(&["10.0.0.0/8"], "10.255.255.255", true);
    check(&["10.0.0.0/8"], "9.255.255.255", false);
    check(&["10.0.0.0/8"], "11.0.0.0", false);
    check(&["10.1.2.3/8"], "10.0.0.0", true);
    check(&["192.0.2.0/24", "10.0.0.0/8"], "10.1.2.3", true);
    check(&["192.0.2.7"], "192.0.2.7", true);
    check(&["192.0.2.7"], "192.0.2.8", false);
    check(&["192.0.2.7/32"], "192.0.2.7", true);
    check(&["192.0.2.6/31"], "192.0.2.7", true);
    check(&["192.0.2.6/31"], "192.0.2.8", false);
    check(&["0.0.0.0/0"], "203.0.113.9", true);
    check(&["2001:db8::/32"], "2001:db8:ffff::1", true);
    check(&["2001:db8::/32"], "2001:db9::", false);
    check(&["2001:db8::7"], "2001:db8::7", true);
    check(&["::/0"], "2001:db8::1", true);
}

#[test]
fn an_address_that_is_not_known_is_in_no_range() {
    assert!(UNKNOWN.is_unspecified());
    for ranges in [&["::/0"][..], &["0.0.0.0/0"], &["::/128"], &["0.0.0.0/32"], &["::/0", "0.0.0.0/0"]] {
        check(ranges, "::", false);
        check(ranges, "0.0.0.0", false);
        check(ranges, "::ffff:0.0.0.0", false);
    }
    check(&[], "::", true);
}

#[test]
fn families_do_not_mix() {
    check(&["::/0"], "10.1.2.3", false);
    check(&["0.0.0.0/0"], "2001:db8::1", false);
    // IPv4-compatible addresses are IPv6 addresses: only mapped ones are IPv4.
    check(&["10.0.0.0/8"], "::10.1.2.3", false);
    check(&["0.0.0.0/0"], "::1", false);
}

#[test]
fn ipv4_mapped_addresses_are_ipv4_addresses() {
    check(&["10.0.0.0/8"], "::ffff:10.1.2.3", true);
    check(&["10.0.0.0/8"], "::ffff:11.1.2.3", false);
    check(&["::ffff:10.0.0.0/104"], "10.1.2.3", true);
    check(&["::ffff:10.0.0.0/104"], "11.1.2.3", false);
    check(&["::ffff:10.0.0.0/104"], "::ffff:10.1.2.3", true);
    check(&["::ffff:10.1.2.3"], "10.1.2.3", true);
    check(&["::ffff:0:0/96"], "203.0.113.9", true);
    check(&["::ffff:0:0/95"], "203.0.113.9", false);
    check(&["::/0"], "::ffff:10.1.2.3", false);
}

#[track_caller]
fn check_parse(text: &str, expect: &str) {
    assert_eq!(parse_range(text).unwrap().to_string(), expect);
}

#[test]
fn ranges_are_read_in_one_spelling() {
    check_parse("10.0.0.1", "10.0.0.1/32");
    check_parse("10.0.0.1/8", "10.0.0.0/8");
    check_parse("10.0.0.0/8", "10.0.0.0/8");
    check_parse("2001:DB8::1", "2001:db8::1/128");
    check_parse("2001:db8::1/32", "2001:db8::/32");
    check_parse("::ffff:10.1.2.3", "10.1.2.3/32");
    check_parse("::ffff:10.1.2.3/104", "10.0.0.0/8");
    check_parse("::ffff:0:0/95", "::fffe:0:0/95");
}

#[test]
fn what_is_no_range_is_refused_with_a_remedy() {
    for text in [
        "",
        " 10.0.0.1",
        "10.0.0.1 ",
        "10.0.0",
        "10.0.0.0/33",
        "010.0.0.1",
        "10.0.0.0/",
        "::/129",
        "any",
        "/8",
    ] {
        let message = parse_range(text).unwrap_err().to_string();
        assert!(message.starts_with(&format!("{text:?} is no address range: write ")), "{message}");
    }
    assert!(parse_range(&"1".repeat(1_000_000)).unwrap_err().to_string().len() < 200);
}

#[test]
fn a_policy_in_json_takes_addresses_and_ranges() {
    let mut json = serde_json::to_value(crate::policy::AuthenticationPolicy::default()).unwrap();
    json["allowed_ip_ranges"] = serde_json::json!(["10.1.2.3", "192.0.2.9/24"]);
    let policy: crate::policy::AuthenticationPolicy = serde_json::from_value(json.clone()).unwrap();
    let ranges: Vec<_> = policy.allowed_ip_ranges.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.1.2.3/32", "192.0.2.0/24"]);
    json["allowed_ip_ranges"] = serde_json::json!(["everywhere"]);
    let refused = serde_json::from_value::<crate::policy::AuthenticationPolicy>(json).unwrap_err();
    assert!(refused.to_string().contains("\"everywhere\" is no address range"), "{refused}");
}
