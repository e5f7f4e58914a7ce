//! What clients are told, and what they are not.

use http::header::WWW_AUTHENTICATE;
use serde_json::json;

use super::{Answers, Details, Rendered};
use crate::error::Answer;
use crate::policy::{Denial, Permission};

fn rendered(answer: Answer, token_prefix: Option<&str>) -> Rendered {
    let required = Some(Permission::ServiceDataWrite);
    Answers::new("example \"org\"".into())
        .render(answer, Details { required, token_prefix, ..Details::default() })
}

fn answer(denial: Denial) -> (u16, Option<String>, serde_json::Value) {
    let response = rendered(Answer::Denied(denial), None);
    let headers = response.to_map();
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["content-length"], response.body.len().to_string());
    let challenge = headers.get(WWW_AUTHENTICATE).map(|value| value.to_str().expect("ascii").to_owned());
    (response.status.as_u16(), challenge, serde_json::from_slice(&response.body).expect("json"))
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

#[test]
fn bodies_are_json_with_every_text_escaped() {
    let body = rendered(Answer::Denied(Denial::UserDeactivated), Some("pst_1\"2")).body;
    let message =
        "The user of this token has been deactivated. Ask an admin of example \"org\" to activate the user.";
    let entry = json!({
        "message": message, "error_code": "user_deactivated", "status": 401, "token_prefix": "pst_1\"2",
    });
    assert_eq!(body, json!({ "message": message, "errors": [entry] }).to_string());
}

#[test]
fn lines_are_whole_and_the_map_has_each() {
    for (answer, names) in [
        (Answer::ServerOptions, vec!["cache-control", "allow"]),
        (Answer::MethodNotAllowed, vec!["cache-control", "allow", "content-type", "content-length"]),
        (
            Answer::Denied(Denial::UnknownToken),
            vec!["cache-control", "www-authenticate", "content-type", "content-length"],
        ),
    ] {
        let rendered = rendered(answer, None);
        let lines = str::from_utf8(&rendered.lines).expect("ascii");
        let lines: Vec<_> = lines.strip_suffix("\r\n").expect("a line's end").split("\r\n").collect();
        let map = rendered.to_map();
        assert_eq!(map.keys().map(|name| name.as_str()).collect::<Vec<_>>(), names);
        let fields = map.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("ascii")));
        assert_eq!(fields.collect::<Vec<_>>(), lines);
    }
}
