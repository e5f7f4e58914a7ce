//! What clients are told, and what they are not.

use http::HeaderValue;
use http::header::WWW_AUTHENTICATE;

use super::{Details, build};
use crate::error::Answer;
use crate::policy::{Denial, Permission};

fn answer(denial: Denial) -> (u16, Option<String>, serde_json::Value) {
    let request_id = HeaderValue::from_static("request-1");
    let details = Details {
        realm: "example \"org\"",
        request_id: &request_id,
        required: Some(Permission::ServiceDataWrite),
        token_prefix: None,
    };
    let response = build(Answer::Denied(denial), details);
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers()["x-postern-request-id"], "request-1");
    let challenge =
        response.headers().get(WWW_AUTHENTICATE).map(|value| value.to_str().expect("ascii").to_owned());
    (response.status().as_u16(), challenge, serde_json::from_slice(response.body()).expect("json"))
}

#[test]
fn every_denial_has_aivens_shape() {
    for denial in Denial::ALL {
        let (status, challenge, body) = answer(denial);
        assert_eq!(status, denial.status().as_u16());
        assert_eq!(body["message"], body["errors"][0]["message"], "{denial}");
        assert_eq!(body["errors"][0]["status"], status);
        assert!(body["errors"][0]["error_code"].is_string());
        assert_eq!(
            challenge.is_some(),
            status == 401 || matches!(denial, Denial::InsufficientScope | Denial::PermissionDenied)
        );
    }
}

#[test]
fn challenges_follow_rfc_6750() {
    let (_, challenge, _) = answer(Denial::MissingCredentials);
    assert_eq!(challenge.as_deref(), Some("Bearer realm=\"example 'org'\""));
    let (_, challenge, _) = answer(Denial::TokenExpired);
    assert_eq!(challenge.as_deref(), Some("Bearer realm=\"example 'org'\", error=\"invalid_token\""));
    let (_, challenge, _) = answer(Denial::PermissionDenied);
    assert_eq!(
        challenge.as_deref(),
        Some("Bearer realm=\"example 'org'\", error=\"insufficient_scope\", scope=\"service:data:write\"")
    );
}

#[test]
fn strangers_cannot_tell_unknown_from_malformed() {
    assert_eq!(answer(Denial::UnknownToken), answer(Denial::MalformedCredentials));
    assert_eq!(answer(Denial::UnknownToken).2["errors"][0]["error_code"], "invalid_token");
}
