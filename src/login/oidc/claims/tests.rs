//! Which email addresses count, provider by provider.

#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};

use super::*;

#[track_caller]
fn check(flavour: Flavour, claims: Value, expect: Email) {
    let mut whole =
        json!({"iss": "https://login.example.com", "sub": "subject", "aud": ["client"], "exp": 2, "iat": 1});
    whole.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    let claims: IdTokenClaims = serde_json::from_value(whole.clone()).unwrap();
    let identity = identity(flavour, &claims, None);
    assert_eq!(identity.email, expect, "{flavour:?} {whole}");
    assert_eq!(identity.subject, "https://login.example.com subject");
}

fn verified(email: &str) -> Email {
    Email::Verified(email.to_owned())
}

fn unverified(email: &str) -> Email {
    Email::Unverified(email.to_owned())
}

#[test]
fn an_address_counts_if_the_provider_says_that_it_is_verified() {
    let jane = "jane@example.com";
    check(Flavour::Standard, json!({"email": "Jane@Example.com", "email_verified": true}), verified(jane));
    check(Flavour::Standard, json!({"email": jane, "email_verified": false}), unverified(jane));
    check(Flavour::Standard, json!({"email": jane}), unverified(jane));
    check(Flavour::Standard, json!({}), Email::None);
    check(Flavour::Standard, json!({"email": "no address", "email_verified": true}), Email::None);
    check(Flavour::Standard, json!({"email": "a b@example.com", "email_verified": true}), Email::None);
    check(Flavour::Standard, json!({"email": "jane@example.com\nx", "email_verified": true}), Email::None);
}

#[test]
fn google_vouches_for_addresses_that_it_serves() {
    let jane = "jane@example.com";
    check(
        Flavour::Google,
        json!({"email": "jane@gmail.com", "email_verified": true}),
        verified("jane@gmail.com"),
    );
    check(
        Flavour::Google,
        json!({"email": jane, "email_verified": true, "hd": "example.com"}),
        verified(jane),
    );
    check(Flavour::Google, json!({"email": jane, "email_verified": true}), unverified(jane));
    check(Flavour::Google, json!({"email": jane, "hd": "example.com"}), unverified(jane));
    let lookalike = "jane@notgmail.com";
    check(Flavour::Google, json!({"email": lookalike, "email_verified": true}), unverified(lookalike));
}

#[test]
fn microsoft_vouches_for_domains_that_the_tenant_owns() {
    let jane = "jane@example.com";
    let consumers = json!({"email": jane, "tid": "9188040d-6c67-4c5b-b112-36a304b66dad"});
    check(Flavour::Microsoft, json!({"email": jane}), unverified(jane));
    check(Flavour::Microsoft, json!({"email": jane, "tid": "72f988bf"}), unverified(jane));
    // A directory's owner decides what its claims say, but not `xms_edov`.
    check(
        Flavour::Microsoft,
        json!({"email": jane, "email_verified": true, "tid": "72f988bf"}),
        unverified(jane),
    );
    let disowned = json!({"email": jane, "email_verified": true, "xms_edov": false});
    check(Flavour::Microsoft, disowned, unverified(jane));
    check(Flavour::Microsoft, consumers, verified(jane));
    for yes in [json!(true), json!(1), json!("1"), json!("True")] {
        check(Flavour::Microsoft, json!({"email": jane, "xms_edov": yes}), verified(jane));
    }
    for no in [json!(false), json!(0), json!("0"), json!("false"), json!(null), json!([true])] {
        check(Flavour::Microsoft, json!({"email": jane, "xms_edov": no}), unverified(jane));
    }
}

#[test]
fn user_info_says_what_the_id_token_leaves_out() {
    let token = json!({"iss": "https://a.example", "sub": "s", "aud": ["c"], "exp": 2, "iat": 1});
    let token: IdTokenClaims = serde_json::from_value(token).unwrap();
    let more = json!({"sub": "s", "email": "jane@example.com", "email_verified": true, "name": "Jane"});
    let more: UserInfo = UserInfo::from_json::<openidconnect::HttpClientError<std::io::Error>>(
        more.to_string().as_bytes(),
        None,
    )
    .unwrap();
    let identity = identity(Flavour::Standard, &token, Some(&more));
    assert_eq!(identity.email, verified("jane@example.com"));
    assert_eq!(identity.name.as_deref(), Some("Jane"));
}
