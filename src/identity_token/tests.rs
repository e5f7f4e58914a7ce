//! What a statement says, how long it is shown, and which keys are on the list when.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::Value;

use super::*;
use crate::policy::Permission;

const NOW: u32 = 1_788_000_000;
const ROTATION: u32 = 600;
const LIFETIME: u32 = 60;

fn wanted() -> IdentityTokenConfig {
    IdentityTokenConfig {
        issuer: "https://gate.test".to_owned(),
        audience: "search".to_owned(),
        lifetime: Duration::from_secs(LIFETIME.into()),
        request_id: false,
    }
}

fn identity() -> Identity {
    let value = HeaderValue::from_static;
    Identity {
        user_id: value("u1"),
        user_kind: value("application"),
        organization_id: value("org1"),
        project: value("demo"),
        token_prefix: value("psta_0123456789ab"),
        token: None,
    }
}

fn keys() -> IdentityKeys {
    let keys = IdentityKeys::default();
    keys.configure(Some(Duration::from_secs(ROTATION.into())));
    keys
}

fn indices(count: usize) -> Vec<TokenIndex> {
    (0..count).map(|number| TokenIndex::at(u32::try_from(number).unwrap())).collect()
}

/// A statement about the first token at `NOW`, changed by `change`.
fn state(
    tokens: &IdentityTokens,
    keys: &IdentityKeys,
    change: impl FnOnce(&mut Statement<'_>, &mut IdentityTokenConfig, &mut Identity),
) -> HeaderValue {
    let (mut wanted, mut identity) = (wanted(), identity());
    let (first_wanted, first_identity) = (wanted.clone(), identity.clone());
    let standing = Standing {
        token: indices(1)[0],
        permissions: PermissionSet::of(&[Permission::ServiceDataWrite, Permission::ProjectServicesRead]),
        expires_at: None,
    };
    let mut statement = Statement {
        wanted: &first_wanted,
        generation: 0,
        route: 0,
        identity: &first_identity,
        standing,
        request_id: "0123456789abcdef0123456789abcdef",
        now: NOW,
    };
    change(&mut statement, &mut wanted, &mut identity);
    tokens.state(keys, &Statement { wanted: &wanted, identity: &identity, ..statement }).unwrap()
}

fn listed(keys: &IdentityKeys, now: u32) -> Vec<Value> {
    let list: Value = serde_json::from_slice(&keys.list(now).unwrap().unwrap()).unwrap();
    list["keys"].as_array().unwrap().clone()
}

fn part(text: &str) -> Value {
    serde_json::from_slice(&BASE64URL_NOPAD.decode(text.as_bytes()).unwrap()).unwrap()
}

/// The claims of a statement that a key on the list has signed, and that key's id.
#[track_caller]
fn verified(statement: &HeaderValue, list: &[Value]) -> (Value, String) {
    let text = statement.to_str().unwrap();
    let (signed, signature) = text.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let header = part(header);
    assert_eq!((&header["alg"], &header["typ"]), (&"ES256".into(), &"JWT".into()));
    let key = list.iter().find(|key| key["kid"] == header["kid"]).expect("the key is on the list");
    let coordinate = |name: &str| BASE64URL_NOPAD.decode(key[name].as_str().unwrap().as_bytes()).unwrap();
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed.as_bytes(), &signature).unwrap();
    (part(claims), header["kid"].as_str().unwrap().to_owned())
}

#[test]
fn it_says_what_was_decided() {
    let (tokens, keys) = (IdentityTokens::default(), keys());
    let statement = state(&tokens, &keys, |_, _, _| {});
    assert!(statement.is_sensitive());
    let (claims, _) = verified(&statement, &listed(&keys, NOW));
    let expected = json!({
        "iss": "https://gate.test", "aud": "search", "sub": "u1", "user_kind": "application",
        "organization": "org1", "project": "demo", "token_prefix": "psta_0123456789ab",
        "permissions": ["project:services:read", "service:data:write"],
        "iat": NOW, "nbf": NOW, "exp": NOW + LIFETIME,
    });
    let sorted = |mut claims: Value| {
        let names = claims["permissions"].as_array_mut().unwrap();
        names.sort_by_key(Value::to_string);
        claims
    };
    assert_eq!(sorted(claims), expected);
}

#[test]
fn it_is_shown_again_for_half_of_its_lifetime() {
    let (tokens, keys) = (IdentityTokens::default(), keys());
    let first = state(&tokens, &keys, |_, _, _| {});
    assert_eq!(state(&tokens, &keys, |it, _, _| it.now += LIFETIME / 2 - 1), first);
    let second = state(&tokens, &keys, |it, _, _| it.now += LIFETIME / 2);
    assert_eq!(verified(&second, &listed(&keys, NOW)).0["exp"], NOW + LIFETIME / 2 + LIFETIME);
}

#[track_caller]
fn check_made_anew(
    change: impl FnOnce(&mut Statement<'_>, &mut IdentityTokenConfig, &mut Identity),
) -> Value {
    let (tokens, keys) = (IdentityTokens::default(), keys());
    let first = state(&tokens, &keys, |_, _, _| {});
    let other = state(&tokens, &keys, change);
    assert_ne!(other, first);
    verified(&other, &listed(&keys, NOW)).0
}

#[test]
fn whatever_differs_is_stated_anew() {
    let other = indices(2)[1];
    check_made_anew(|it, _, _| it.standing.token = other);
    check_made_anew(|it, _, _| it.route = 1);
    let claims = check_made_anew(|it, _, _| it.standing.permissions = PermissionSet::EMPTY);
    assert_eq!(claims["permissions"], json!([]));
    let claims =
        check_made_anew(|_, _, identity| identity.organization_id = HeaderValue::from_static("org2"));
    assert_eq!(claims["organization"], "org2");
    let claims = check_made_anew(|it, wanted, _| {
        it.generation = 1;
        wanted.audience = "other".to_owned();
    });
    assert_eq!(claims["aud"], "other");
}

#[test]
fn with_the_requests_id_each_request_has_its_own() {
    let (tokens, keys) = (IdentityTokens::default(), keys());
    let of = |id: &'static str| {
        let statement = state(&tokens, &keys, |it, wanted, _| {
            wanted.request_id = true;
            it.request_id = id;
        });
        verified(&statement, &listed(&keys, NOW)).0["request_id"].clone()
    };
    assert_eq!((of("a"), of("b")), ("a".into(), "b".into()));
}

#[test]
fn it_does_not_outlive_its_token() {
    let (tokens, keys) = (IdentityTokens::default(), keys());
    let until = |end: u32| {
        let statement = state(&tokens, &keys, |it, _, _| {
            it.route = end as usize;
            it.standing.expires_at = Some(end);
        });
        verified(&statement, &listed(&keys, NOW)).0["exp"].clone()
    };
    assert_eq!(until(NOW + 5), NOW + 5);
    assert_eq!(until(NOW + 3600), NOW + LIFETIME);
    // Nothing overflows, and it is never valid, whatever the clock says.
    assert_eq!(until(NOW - 5), NOW);
}

#[test]
fn more_tokens_than_are_kept_do_not_grow_it() {
    let (tokens, keys) = (IdentityTokens::default(), keys());
    for token in indices(KEPT + 2) {
        state(&tokens, &keys, |it, _, _| it.standing.token = token);
        assert!(tokens.kept.borrow().by_token.len() <= KEPT);
    }
    assert_eq!(tokens.kept.borrow().by_token.len(), 2);
}

#[test]
fn a_key_is_on_the_list_before_and_after_it_signs() {
    let keys = keys();
    let at = |now: u32| {
        // One that has shown nothing before.
        let tokens = IdentityTokens::default();
        let statement = state(&tokens, &keys, |it, _, _| it.now = now);
        verified(&statement, &listed(&keys, now)).1
    };
    let ids = |now: u32| listed(&keys, now).into_iter().map(|key| key["kid"].clone()).collect::<Vec<_>>();
    let before = ids(NOW);
    assert_eq!(before.len(), 2);
    let first = at(NOW);
    assert_eq!(at(NOW + ROTATION - 1), first);
    let second = at(NOW + ROTATION);
    assert_ne!(second, first);
    assert!(before.contains(&second.as_str().into()), "known beforehand");
    assert!(ids(NOW + ROTATION).contains(&first.as_str().into()), "known afterwards");
    at(NOW + 2 * ROTATION);
    assert!(!ids(NOW + 2 * ROTATION).contains(&first.as_str().into()), "forgotten in the end");
}

#[test]
fn keys_change_once_whoever_asks_first() {
    let keys = Arc::new(keys());
    keys.current(NOW).unwrap();
    let ids: Vec<String> = std::thread::scope(|scope| {
        let asking: Vec<_> =
            (0..8).map(|_| scope.spawn(|| keys.current(NOW + ROTATION).unwrap().id().to_owned())).collect();
        asking.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn nothing_private_is_listed_or_printed() {
    let keys = keys();
    for key in listed(&keys, NOW) {
        let names: Vec<_> = key.as_object().unwrap().keys().cloned().collect();
        assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
    }
    let printed = format!("{:?}", keys.current(NOW).unwrap());
    assert!(printed.starts_with("SigningKey { id: ") && printed.ends_with(", .. }"), "{printed}");
}

#[test]
fn without_the_table_there_is_no_list() {
    let keys = keys();
    assert!(keys.list(NOW).is_some());
    keys.configure(None);
    assert!(keys.list(NOW).is_none());
}
