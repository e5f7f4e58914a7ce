//! Codes: once, not for long, and only for who has the secret.

use super::*;
use crate::directory::model::{AuthenticationMethod, MethodKind, User};
use crate::policy::facts::{UserKind, UserState};

const NOW: Timestamp = Timestamp(1_800_000_000);
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// RFC 7636, appendix B.
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

fn signed_in() -> SignedIn {
    SignedIn {
        user: User {
            id: "u1".to_owned(),
            kind: UserKind::OrganizationUser,
            email: "jane@example.com".to_owned(),
            name: "Jane".to_owned(),
            description: String::new(),
            state: UserState::Active,
            two_factor_enabled: false,
            token_validity_begin: Timestamp(0),
            managing_organization_id: None,
            create_time: NOW,
        },
        method: AuthenticationMethod {
            id: "uam1".to_owned(),
            user_id: "u1".to_owned(),
            kind: MethodKind::Google,
            identity_provider_id: None,
            subject: Some("issuer subject".to_owned()),
            create_time: NOW,
        },
        provider: None,
    }
}

fn kept(hand_overs: &HandOvers) -> String {
    hand_overs.keep(CHALLENGE.to_owned(), signed_in(), NOW)
}

#[test]
fn a_code_works_once_with_its_secret() {
    let hand_overs = HandOvers::default();
    let code = kept(&hand_overs);
    assert_eq!(hand_overs.take(&code, VERIFIER, NOW), Some(signed_in()));
    assert_eq!(hand_overs.take(&code, VERIFIER, NOW), None);
}

#[test]
fn a_code_may_be_typed_by_hand() {
    let hand_overs = HandOvers::default();
    let code = kept(&hand_overs).to_lowercase();
    let (first, second) = code.split_at(16);
    assert!(hand_overs.take(&format!(" {first}-{second}\n"), VERIFIER, NOW).is_some());
}

#[test]
fn a_wrong_secret_uses_the_code_up() {
    let hand_overs = HandOvers::default();
    for wrong in ["", "short", &"A".repeat(43), CHALLENGE, &"A".repeat(500)] {
        let code = kept(&hand_overs);
        assert_eq!(hand_overs.take(&code, wrong, NOW), None);
        assert_eq!(hand_overs.take(&code, VERIFIER, NOW), None, "after {wrong:?}");
    }
}

#[test]
fn a_code_ends_soon_and_unknown_ones_are_nothing() {
    let hand_overs = HandOvers::default();
    let code = kept(&hand_overs);
    assert_eq!(hand_overs.take(&code, VERIFIER, Timestamp(NOW.0 + CODE_SECONDS)), None);
    assert_eq!(hand_overs.take("", VERIFIER, NOW), None);
    assert_eq!(hand_overs.take("ABC", VERIFIER, NOW), None);
}

#[test]
fn memory_is_bounded() {
    let hand_overs = HandOvers::default();
    for _ in 0..MAX_WAITING + 10 {
        kept(&hand_overs);
    }
    assert!(hand_overs.0.lock().by_digest.len() <= MAX_WAITING);
    hand_overs.keep(CHALLENGE.to_owned(), signed_in(), Timestamp(NOW.0 + CODE_SECONDS));
    assert_eq!(hand_overs.0.lock().by_digest.len(), 1);
    assert_eq!(hand_overs.0.lock().in_order.len(), 1);
}

#[test]
fn only_digests_are_challenges() {
    assert!(is_challenge(CHALLENGE));
    for text in ["", "short", &"*".repeat(43), &"A".repeat(44)] {
        assert!(!is_challenge(text), "{text}");
    }
}
