//! When a flow is over, and how many may talk to providers at a time.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::slots::Slots;
use super::*;
use crate::login::oidc::Secrets;

fn flow(expiry: u32) -> Flow {
    let secrets =
        Secrets { state: "state".to_owned(), nonce: String::new(), pkce_verifier: "verifier".to_owned() };
    Flow {
        via: Via::ThirdParty(ThirdParty::Google),
        secrets,
        expiry: Timestamp(expiry),
        hand_over: HandOver::Browser,
    }
}

#[test]
fn a_flow_is_over_after_its_time() {
    let sign_in = SignIn::default();
    let cookie = sign_in.key.seal(&flow(1_000));
    assert_eq!(sign_in.flow(Some(&cookie), Timestamp(999)).unwrap(), flow(1_000));
    assert!(matches!(sign_in.flow(Some(&cookie), Timestamp(1_000)), Err(SignInError::Expired)));
    assert!(matches!(sign_in.flow(None, Timestamp(1)), Err(SignInError::NotBegunHere)));
    assert!(matches!(sign_in.flow(Some("made up"), Timestamp(1)), Err(SignInError::NotBegunHere)));
    // Another process, or this one after a restart.
    assert!(matches!(SignIn::default().flow(Some(&cookie), Timestamp(1)), Err(SignInError::NotBegunHere)));
}

#[track_caller]
fn admitted(slots: &Slots, addresses: impl Iterator<Item = String>) -> usize {
    let held: Vec<_> = addresses.filter_map(|address| slots.enter(address.parse().unwrap())).collect();
    held.len()
}

#[test]
fn nobody_takes_all_places_and_places_are_given_back() {
    let slots = Slots::default();
    for _ in 0..2 {
        assert_eq!(admitted(&slots, (0..100).map(|_| "192.0.2.1".to_owned())), 8);
        // One network of IPv6 is one source; an IPv4 address in IPv6's clothes is itself.
        assert_eq!(admitted(&slots, (0..100).map(|host| format!("2001:db8::{host:x}"))), 8);
        assert_eq!(admitted(&slots, (0..100).map(|_| "::ffff:192.0.2.1".to_owned())), 8);
        assert_eq!(
            admitted(&slots, (0..1000).map(|host| format!("10.0.{}.{}", host / 250, host % 250))),
            128
        );
    }
}

#[test]
fn what_a_provider_wrote_is_shown_without_tricks() {
    assert_eq!(printable("access\u{1b}[31m denied\r\n"), "access[31m denied");
    assert_eq!(printable(&"x".repeat(1000)).len(), 200);
}
