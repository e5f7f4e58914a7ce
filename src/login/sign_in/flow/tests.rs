//! What a cookie holds, and who can open it.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn flow(state: &str, expiry: u32) -> Flow {
    Flow {
        via: Via::IdentityProvider("am1a2b3c4d5e6".to_owned()),
        secrets: Secrets {
            state: state.to_owned(),
            nonce: "nonce".to_owned(),
            pkce_verifier: "verifier".to_owned(),
        },
        expiry: Timestamp(expiry),
        hand_over: HandOver::CommandLine {
            challenge: "challenge".to_owned(),
            port: Some(8400),
            state: Some("theirs".to_owned()),
        },
    }
}

#[test]
fn a_cookie_opens_to_what_was_sealed_and_says_nothing_itself() {
    let key = FlowKey::generate();
    let cookie = key.seal(&flow("state", 700));
    assert_eq!(key.open(&cookie), Some(flow("state", 700)));
    let bytes = BASE64URL_NOPAD.decode(cookie.as_bytes()).unwrap();
    for secret in ["state", "nonce", "verifier"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
    }
    assert!(cookie.len() < 1000, "{}", cookie.len());
}

#[test]
fn a_changed_cookie_or_another_key_opens_nothing() {
    let key = FlowKey::generate();
    let cookie = key.seal(&flow("state", 700));
    assert_eq!(FlowKey::generate().open(&cookie), None);
    let bytes = BASE64URL_NOPAD.decode(cookie.as_bytes()).unwrap();
    for position in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[position] ^= 1;
        assert_eq!(key.open(&BASE64URL_NOPAD.encode(&changed)), None, "byte {position}");
    }
    for text in ["", "!", "AAAA", &"A".repeat(5000)] {
        assert_eq!(key.open(text), None);
    }
}

#[test]
fn only_the_state_that_was_sent_is_taken() {
    let flow = flow("right", 700);
    assert!(flow.check_state(Some("right")).is_ok());
    for wrong in [None, Some(""), Some("wrong"), Some("right "), Some("righ")] {
        assert!(matches!(flow.check_state(wrong), Err(SignInError::NotBegunHere)), "{wrong:?}");
    }
}

#[test]
fn a_flow_ends_once_and_memory_is_bounded() {
    let used = Used::default();
    let now = Timestamp(100);
    assert!(used.first_time(&flow("a", 700), now));
    assert!(!used.first_time(&flow("a", 700), now));
    for number in 0..MAX_USED + 10 {
        assert!(used.first_time(&flow(&number.to_string(), 700), now));
    }
    assert!(used.0.lock().states.len() <= MAX_USED);
    let lengths = |used: &UsedFlows| (used.states.len(), used.in_order.len());
    let (states, in_order) = lengths(&used.0.lock());
    assert_eq!(states, in_order);
    assert!(used.first_time(&flow("last", 1400), Timestamp(700)));
    assert_eq!(used.0.lock().states.len(), 1, "what is over is forgotten");
}
