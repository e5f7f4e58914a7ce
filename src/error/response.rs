//! Postern's own answers as HTTP responses: Aiven's error shape, `WWW-Authenticate` of RFC 6750, never cached.
//!
//! Whoever holds a known token learns why it fails and what to do next; whoever does not learns `invalid_token`.

pub mod grpc;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::Answer;
use crate::config::FixedResponseConfig;
use crate::headers;
use crate::limit::{Exceeded, Limit};
use crate::policy::{Denial, Permission};

#[cfg(test)]
mod tests;

/// The header that names a request to client, upstream and log.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-postern-request-id");

const SERVED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// What most header lines and all of a body but its two messages fit in.
const REST_BYTES: usize = 512;

/// All own answers in one organization's name. Each worker has them for itself: workers that count one text's users
/// together would wait for each other.
#[derive(Debug)]
pub struct Answers {
    realm: Arc<str>,
    quoted_realm: String,
    /// What strangers are told depends on the realm alone: floods of it are answered from two texts made once.
    missing: Rendered,
    invalid: Rendered,
}

/// An answer in any protocol's reach, but for the request id.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The status.
    pub status: StatusCode,
    /// Header lines as HTTP/1 has them, each with its end.
    pub lines: Bytes,
    /// The body.
    pub body: Bytes,
}

/// What an answer needs to know beyond its reason.
#[derive(Clone, Copy, Debug, Default)]
pub struct Details<'a> {
    /// The permission that was missing.
    pub required: Option<Permission>,
    /// Prefix of the known token that was presented.
    pub token_prefix: Option<&'a str>,
    /// What it is one too many of.
    pub exceeded: Option<&'a Exceeded>,
    /// How it is asked for a token.
    pub challenges: Challenges,
    /// Where the client is sent.
    pub location: Option<&'a str>,
}

/// How clients are asked for a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Challenges {
    /// As RFC 6750 has it.
    #[default]
    Bearer,
    /// As RFC 7617 has it: browsers and old clients ask their user.
    Basic,
    /// Whichever the client knows.
    BearerAndBasic,
}

impl Answers {
    /// The answers of the organization with this name, which is the realm.
    pub fn new(realm: Arc<str>) -> Self {
        let quoted_realm = quoted(&realm);
        let stranger = |denial| render(Answer::Denied(denial), Details::default(), &realm, &quoted_realm);
        Self {
            missing: stranger(Denial::MissingCredentials),
            invalid: stranger(Denial::UnknownToken),
            realm,
            quoted_realm,
        }
    }

    /// The whole response to a request that Postern answers itself.
    pub fn render(&self, answer: Answer, details: Details<'_>) -> Rendered {
        match answer {
            _ if details.challenges != Challenges::Bearer => {
                render(answer, details, &self.realm, &self.quoted_realm)
            }
            Answer::Denied(Denial::MissingCredentials) => self.missing.clone(),
            Answer::Denied(Denial::MalformedCredentials | Denial::UnknownToken) => self.invalid.clone(),
            _ => render(answer, details, &self.realm, &self.quoted_realm),
        }
    }
}

impl Answers {
    /// The same for a gRPC client, which reads a status in the trailers.
    pub fn render_grpc(&self, answer: Answer, details: Details<'_>) -> Rendered {
        grpc::render(answer, &message(answer, details.required, &self.realm))
    }
}

impl Rendered {
    /// With further header lines, each with its end.
    pub fn with_lines(mut self, more: &[u8]) -> Self {
        if !more.is_empty() {
            self.lines = [&self.lines, more].concat().into();
        }
        self
    }

    /// The response that a route answers with.
    pub fn fixed(config: &FixedResponseConfig) -> Self {
        let body = Bytes::copy_from_slice(config.body.as_bytes());
        let mut lines = Vec::with_capacity(128);
        if !body.is_empty() {
            headers::write_field(
                &mut lines,
                CONTENT_TYPE.as_str().as_bytes(),
                config.content_type.as_bytes(),
            );
        }
        // There is no length where there can be no body (RFC 9110, section 8.6).
        if !matches!(config.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            push_length(&mut lines, body.len());
        }
        Self { status: config.status, lines: lines.into(), body }
    }

    /// The same as the answer to a request with this method: to HEAD there is no body, whatever the lines say of one.
    pub fn to(mut self, method: &Method) -> Self {
        if *method == Method::HEAD {
            self.body = Bytes::new();
        }
        self
    }

    /// The header lines for those who do not write them as HTTP/1 does.
    pub fn to_map(&self) -> HeaderMap {
        headers::map_of_lines(&self.lines)
    }
}

/// Writes body and header lines into one buffer.
fn render(answer: Answer, details: Details<'_>, realm: &str, quoted_realm: &str) -> Rendered {
    let status = answer.status();
    let message = message(answer, details.required, realm);
    let mut buffer = Vec::with_capacity(2 * message.len() + quoted_realm.len() + REST_BYTES);
    let has_body = answer != Answer::ServerOptions;
    if has_body {
        push_body(&mut buffer, answer, &message, details.token_prefix);
    }
    let body_bytes = buffer.len();

    push_line(&mut buffer, &CACHE_CONTROL, &["no-store"]);
    push_challenge(&mut buffer, answer, details, quoted_realm);
    if let Some(exceeded) = details.exceeded {
        // Rounded up: who comes back a moment too early would have to wait again.
        let seconds = exceeded.wait.as_secs() + u64::from(exceeded.wait.subsec_nanos() > 0);
        push_line(&mut buffer, &RETRY_AFTER, &[&seconds.max(1).to_string()]);
        exceeded.standings.write_lines(&mut buffer);
    }
    if let Some(location) = details.location {
        push_line(&mut buffer, &LOCATION, &[location]);
    }
    if let Some(seconds) = answer.retry_after_seconds() {
        push_line(&mut buffer, &RETRY_AFTER, &[seconds]);
    }
    if matches!(answer, Answer::ServerOptions | Answer::MethodNotAllowed) {
        push_line(&mut buffer, &ALLOW, &[SERVED_METHODS]);
    }
    if has_body {
        push_line(&mut buffer, &CONTENT_TYPE, &["application/json"]);
        push_length(&mut buffer, body_bytes);
    }
    let mut body = Bytes::from(buffer);
    let lines = body.split_off(body_bytes);
    Rendered { status, lines, body }
}

/// Aiven's error shape. The message is there twice; what is escaped once is copied.
fn push_body(body: &mut Vec<u8>, answer: Answer, message: &str, token_prefix: Option<&str>) {
    body.extend_from_slice(b"{\"errors\":[{\"error_code\":\"");
    body.extend_from_slice(answer.public_code().as_bytes());
    body.extend_from_slice(b"\",\"message\":");
    let message_start = body.len();
    push_json(body, message);
    let message = message_start..body.len();
    body.extend_from_slice(b",\"status\":");
    body.extend_from_slice(answer.status().as_str().as_bytes());
    if let Some(prefix) = token_prefix {
        body.extend_from_slice(b",\"token_prefix\":");
        push_json(body, prefix);
    }
    body.extend_from_slice(b"}],\"message\":");
    body.extend_from_within(message);
    body.push(b'}');
}

fn push_json(body: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(body, text).expect("a vector takes any text");
}

fn push_line(lines: &mut Vec<u8>, name: &HeaderName, value: &[&str]) {
    lines.extend_from_slice(name.as_str().as_bytes());
    lines.extend_from_slice(b": ");
    value.iter().for_each(|part| lines.extend_from_slice(part.as_bytes()));
    lines.extend_from_slice(b"\r\n");
}

fn push_length(lines: &mut Vec<u8>, length: usize) {
    lines.extend_from_slice(CONTENT_LENGTH.as_str().as_bytes());
    lines.extend_from_slice(b": ");
    let start = lines.len();
    let mut rest = length;
    loop {
        lines.push(b'0' + (rest % 10) as u8);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    lines[start..].reverse();
    lines.extend_from_slice(b"\r\n");
}

fn push_challenge(lines: &mut Vec<u8>, answer: Answer, details: Details<'_>, quoted_realm: &str) {
    let Answer::Denied(denial) = answer else { return };
    match details.challenges {
        Challenges::Bearer => push_bearer_challenge(lines, denial, details.required, quoted_realm),
        Challenges::Basic => push_basic_challenge(lines, denial, quoted_realm),
        Challenges::BearerAndBasic => {
            push_bearer_challenge(lines, denial, details.required, quoted_realm);
            push_basic_challenge(lines, denial, quoted_realm);
        }
    }
}

/// RFC 7617, section 2: another password would help, which it does not where the token is a good one.
fn push_basic_challenge(lines: &mut Vec<u8>, denial: Denial, quoted_realm: &str) {
    if denial.status() == StatusCode::UNAUTHORIZED {
        push_line(lines, &WWW_AUTHENTICATE, &["Basic realm=\"", quoted_realm, "\", charset=\"UTF-8\""]);
    }
}

/// RFC 6750, section 3: no `error` attribute when no credentials came.
fn push_bearer_challenge(
    lines: &mut Vec<u8>,
    denial: Denial,
    required: Option<Permission>,
    quoted_realm: &str,
) {
    let (start, realm, end) = ("Bearer realm=\"", quoted_realm, "\"");
    match denial {
        Denial::MissingCredentials => push_line(lines, &WWW_AUTHENTICATE, &[start, realm, end]),
        Denial::InsufficientScope | Denial::PermissionDenied => {
            let scope = required.map_or("", Permission::as_str);
            let error = ", error=\"insufficient_scope\", scope=\"";
            push_line(lines, &WWW_AUTHENTICATE, &[start, realm, end, error, scope, "\""]);
        }
        _ if denial.status() == StatusCode::UNAUTHORIZED => {
            push_line(lines, &WWW_AUTHENTICATE, &[start, realm, end, ", error=\"invalid_token\""]);
        }
        _ => {}
    }
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
pub(crate) fn message(answer: Answer, required: Option<Permission>, organization: &str) -> Cow<'static, str> {
    let required = required.map_or("", Permission::as_str);
    match answer {
        Answer::Violation(violation) => violation.message().into(),
        Answer::AmbiguousTarget(ambiguity) => ambiguity.message().into(),
        Answer::MethodNotAllowed => "This method is not served here.".into(),
        Answer::ExpectationFailed => "Only the expectation 100-continue can be met.".into(),
        Answer::BadHost => "A request names exactly one host, and its target's authority is that host.".into(),
        Answer::AmbiguousCondition => {
            "A header or query parameter that decides what serves this request can be read in more than one way. Send it once, under its own name, and not in Connection.".into()
        }
        Answer::HttpsRequired => "This is served over HTTPS only. Send requests, and tokens above all, to the address in Location.".into(),
        Answer::BodyTooLarge => "The request's body is longer than is taken here. Send less at once.".into(),
        Answer::LimitExceeded(limit) => match limit {
            Limit::TokenRate => "This token has sent more requests than it may. Send fewer, or wait as Retry-After says.",
            Limit::TokenConcurrency => "This token has as many requests under way as it may. Wait for one of them to end.",
            Limit::RouteRate => "More requests have come here than are taken. Try again as Retry-After says.",
            Limit::RouteConcurrency => "As many requests are under way here as are taken. Try again in a moment.",
            Limit::FailedAuthentication => "Too many requests without a valid token came from this network. Check the token, and try again as Retry-After says.",
        }
        .into(),
        Answer::ClientBodyBroken => "The request's body broke off before its end.".into(),
        Answer::ClientBodyTimeout => "The request's body did not come on in time.".into(),
        Answer::ServerOptions => "".into(),
        Answer::NoRoute => "Nothing is served at this host and path.".into(),
        Answer::UpstreamUnhealthy => "The service behind is not healthy. Try again in a moment.".into(),
        Answer::UpstreamOverloaded => "The service behind has all it can do. Try again in a moment.".into(),
        Answer::UpstreamUnreachable => "The service behind could not be reached. Try again later.".into(),
        Answer::UpstreamTimeout => "The service behind did not answer in time. Try again later.".into(),
        Answer::UpstreamFailed => "The service behind broke off before answering. Try again later.".into(),
        Answer::NotReady => "The directory is not loaded yet. Try again in a moment.".into(),
        Answer::DirectoryStale => "Which tokens are still valid has not been heard for too long to let any in. The token may well be good: keep it, and try again.".into(),
        Answer::NotSigned => "The service behind cannot be told who is asking. Try again in a moment.".into(),
        Answer::Shortage => "The proxy has nothing left for a connection to the service. Try again in a moment.".into(),
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
            )
            .into(),
            Denial::UserDeleted => {
                "The user of this token has been deleted. Create a token for another user.".into()
            }
            Denial::NotAMember => format!(
                "The user of this token does not belong to {organization}, which owns this service. Ask one of its admins for an invitation."
            )
            .into(),
            Denial::IpNotAllowedByOrganization => format!(
                "{organization} does not allow requests from this address. Ask one of its admins to add the address to the allowed ranges."
            )
            .into(),
            Denial::IpNotAllowedByToken => {
                "This token may not be used from this address. Use it from an address on its allow-list, or create a token that allows this one.".into()
            }
            Denial::PersonalTokensDisabled => format!(
                "{organization} does not allow personal tokens. Use an application user's token."
            )
            .into(),
            Denial::AuthenticationMethodNotAllowed => format!(
                "This token was created with a login method that {organization} does not allow. Log in with an allowed method and create a new token."
            )
            .into(),
            Denial::ExternalIdentityProviderNotAllowed => format!(
                "This token was created with another organization's identity provider, which {organization} does not allow. Log in with an identity provider of {organization} and create a new token."
            )
            .into(),
            Denial::TwoFactorRequired => format!(
                "{organization} requires two-factor authentication for password logins. Set it up, then log in again."
            )
            .into(),
            Denial::InsufficientScope => format!(
                "This token's scopes do not contain {required}. Create a token with that scope, or without scopes."
            )
            .into(),
            Denial::PermissionDenied => format!(
                "The user of this token does not hold {required} on this project. Ask an admin of {organization} to grant it."
            )
            .into(),
        },
    }
}
