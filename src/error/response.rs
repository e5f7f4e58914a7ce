//! Postern's own answers as HTTP responses: Aiven's error shape, `WWW-Authenticate` of RFC 6750, never cached.
//!
//! Whoever holds a known token learns why it fails and what to do next; whoever does not learns `invalid_token`.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::json;

use super::Answer;
use crate::policy::{Denial, Permission};

#[cfg(test)]
mod tests;

/// The header that names a request to client, upstream and log.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-postern-request-id");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// The bodies for those who hold no known token.
static MISSING: LazyLock<Bytes> = LazyLock::new(|| stranger_body(Denial::MissingCredentials));
static INVALID: LazyLock<Bytes> = LazyLock::new(|| stranger_body(Denial::UnknownToken));

/// What an answer needs to know beyond its reason.
#[derive(Clone, Copy, Debug)]
pub struct Details<'a> {
    /// The organization's name: the realm.
    pub realm: &'a str,
    /// The request id.
    pub request_id: &'a HeaderValue,
    /// The permission that was missing.
    pub required: Option<Permission>,
    /// Prefix of the known token that was presented.
    pub token_prefix: Option<&'a str>,
}

/// The whole response to a request that Postern answers itself.
pub fn build(answer: Answer, details: Details<'_>) -> Response<Bytes> {
    let status = answer.status();
    let body = match answer {
        Answer::ServerOptions => Bytes::new(),
        // What strangers are told depends on nothing: floods of it are answered from two texts made once.
        Answer::Denied(Denial::MissingCredentials) => MISSING.clone(),
        Answer::Denied(Denial::MalformedCredentials | Denial::UnknownToken) => INVALID.clone(),
        _ => body(answer, status, &details),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.reserve(5);
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(REQUEST_ID, details.request_id.clone());
    match answer {
        Answer::ServerOptions => {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        _ => {
            headers.insert(CONTENT_TYPE, JSON);
        }
    }
    if let Some(challenge) = challenge(answer, &details) {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if answer == Answer::MethodNotAllowed {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    response
}

fn stranger_body(denial: Denial) -> Bytes {
    let nothing = HeaderValue::from_static("");
    let details = Details { realm: "", request_id: &nothing, required: None, token_prefix: None };
    body(Answer::Denied(denial), denial.status(), &details)
}

/// Aiven's error shape.
fn body(answer: Answer, status: StatusCode, details: &Details<'_>) -> Bytes {
    let message = message(answer, details);
    let mut error = json!({
        "message": message,
        "error_code": answer.public_code(),
        "status": status.as_u16(),
    });
    if let (Some(prefix), Some(object)) = (details.token_prefix, error.as_object_mut()) {
        object.insert("token_prefix".into(), prefix.into());
    }
    json!({ "message": message, "errors": [error] }).to_string().into()
}

/// RFC 6750, section 3: no `error` attribute when no credentials came.
fn challenge(answer: Answer, details: &Details<'_>) -> Option<HeaderValue> {
    let Answer::Denied(denial) = answer else { return None };
    let realm = quoted(details.realm);
    let text = match denial {
        Denial::MissingCredentials => format!("Bearer realm=\"{realm}\""),
        Denial::InsufficientScope | Denial::PermissionDenied => {
            let scope = details.required.map_or("", Permission::as_str);
            format!("Bearer realm=\"{realm}\", error=\"insufficient_scope\", scope=\"{scope}\"")
        }
        _ if denial.status() == StatusCode::UNAUTHORIZED => {
            format!("Bearer realm=\"{realm}\", error=\"invalid_token\"")
        }
        _ => return None,
    };
    HeaderValue::from_str(&text).ok()
}

/// What may stand in a quoted-string: anything that is visible ASCII and neither a quote nor a backslash.
fn quoted(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '"' | '\\' => '\'',
            ' '..='~' => character,
            _ => '?',
        })
        .collect()
}

/// What happened and what to do about it.
fn message(answer: Answer, details: &Details<'_>) -> String {
    let organization = details.realm;
    let required = details.required.map_or("", Permission::as_str);
    match answer {
        Answer::Violation(violation) => violation.message().into(),
        Answer::AmbiguousTarget(ambiguity) => ambiguity.message().into(),
        Answer::MethodNotAllowed => "This method is not served here.".into(),
        Answer::ExpectationFailed => "Only the expectation 100-continue can be met.".into(),
        Answer::BadHost => "A request names exactly one host, and its target's authority is that host.".into(),
        Answer::ClientBodyBroken => "The request's body broke off before its end.".into(),
        Answer::ClientBodyTimeout => "The request's body did not come on in time.".into(),
        Answer::ServerOptions => String::new(),
        Answer::NoRoute => "Nothing is served at this host and path.".into(),
        Answer::UpstreamUnreachable => "The service behind could not be reached. Try again later.".into(),
        Answer::UpstreamTimeout => "The service behind did not answer in time. Try again later.".into(),
        Answer::UpstreamFailed => "The service behind broke off before answering. Try again later.".into(),
        Answer::NotReady => "The directory is not loaded yet. Try again in a moment.".into(),
        Answer::Denied(denial) => match denial {
            Denial::MissingCredentials => {
                "A token is needed: send it as \"Authorization: Bearer TOKEN\".".into()
            }
            Denial::MalformedCredentials | Denial::UnknownToken => {
                "The token is not valid. Check that it was copied whole, or create a new one.".into()
            }
            Denial::TokenRevoked => "This token was revoked. Create a new one.".into(),
            Denial::TokenExpired => "This token has expired. Create a new one.".into(),
            Denial::UserDeactivated => format!(
                "The user of this token has been deactivated. Ask an admin of {organization} to activate the user."
            ),
            Denial::UserDeleted => {
                "The user of this token has been deleted. Create a token for another user.".into()
            }
            Denial::NotAMember => format!(
                "The user of this token does not belong to {organization}, which owns this service. Ask one of its admins for an invitation."
            ),
            Denial::IpNotAllowedByOrganization => format!(
                "{organization} does not allow requests from this address. Ask one of its admins to add the address to the allowed ranges."
            ),
            Denial::IpNotAllowedByToken => {
                "This token may not be used from this address. Use it from an address on its allow-list, or create a token that allows this one.".into()
            }
            Denial::PersonalTokensDisabled => format!(
                "{organization} does not allow personal tokens. Use an application user's token."
            ),
            Denial::AuthenticationMethodNotAllowed => format!(
                "This token was created with a login method that {organization} does not allow. Log in with an allowed method and create a new token."
            ),
            Denial::ExternalIdentityProviderNotAllowed => format!(
                "This token was created with another organization's identity provider, which {organization} does not allow. Log in with an identity provider of {organization} and create a new token."
            ),
            Denial::TwoFactorRequired => format!(
                "{organization} requires two-factor authentication for password logins. Set it up, then log in again."
            ),
            Denial::InsufficientScope => format!(
                "This token's scopes do not contain {required}. Create a token with that scope, or without scopes."
            ),
            Denial::PermissionDenied => format!(
                "The user of this token does not hold {required} on this project. Ask an admin of {organization} to grant it."
            ),
        },
    }
}
