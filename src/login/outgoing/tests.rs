//! What is reached and what is not, address by address.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::reach::Reach;
use super::*;

#[track_caller]
fn check(private_networks: &[&str], address: &str, expect: bool) {
    let reach = Reach::new(private_networks.iter().map(|network| network.parse().unwrap()).collect());
    assert_eq!(reach.allows(address.parse().unwrap()), expect, "{address} with {private_networks:?}");
}

#[test]
fn the_public_internet_is_reached() {
    for address in
        ["8.8.8.8", "140.82.121.6", "2a00:1450:4001:80f::200e", "2606:50c0:8000::153", "64:ff9b::808:808"]
    {
        check(&[], address, true);
    }
}

#[test]
fn everything_else_is_not() {
    for address in [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "2001::1",
        "3fff::1",
        "100::1",
    ] {
        check(&[], address, false);
    }
}

#[test]
fn named_networks_are_reached_and_no_others() {
    check(&["10.0.0.0/8"], "10.1.2.3", true);
    check(&["10.0.0.0/8"], "::ffff:10.1.2.3", true);
    check(&["10.0.0.0/8"], "192.168.1.1", false);
    check(&["fd00::/8"], "fd12::1", true);
    check(&["127.0.0.0/8"], "127.0.0.1", true);
}

#[track_caller]
fn check_form(url: &str, expect: Result<(), &str>) {
    let result = check_url(&url.parse().unwrap());
    match (result, expect) {
        (Ok(()), Ok(())) => {}
        (Err(reason), Err(part)) => assert!(reason.contains(part), "{url}: {reason}"),
        (result, expect) => panic!("{url}: {result:?}, expected {expect:?}"),
    }
}

#[test]
fn requests_go_over_tls_or_stay_on_this_machine() {
    check_form("https://login.example.com/v2.0", Ok(()));
    check_form("http://127.0.0.1:3000", Ok(()));
    check_form("http://[::1]:3000", Ok(()));
    check_form("http://login.example.com", Err("https"));
    check_form("http://localhost:3000", Err("https"));
    check_form("ftp://login.example.com", Err("https"));
    check_form("file:///etc/passwd", Err("https"));
    check_form("https://user:password@login.example.com", Err("password"));
}

#[test]
fn what_is_shown_of_an_address_is_never_its_query_or_password() {
    let uri: http::Uri = "https://user:hunter2@login.example.com:8443/token?code=secret".parse().unwrap();
    assert_eq!(origin(&uri), "https://login.example.com:8443");
    assert_eq!(path("https://login.example.com/token?code=secret"), "/token");
    assert_eq!(path("https://login.example.com?code=secret"), "/");
}
