//! What a browser is shown at the end of a sign-in: a page of text, or JSON for who asks for it.
//!
//! Pages load nothing, run nothing, stand in no frame and tell no other site where they were.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;

use super::Session;
use crate::admin::ApiError;

/// A page: a heading, and what is below it.
pub(super) struct Page {
    heading: String,
    text: String,
    /// To be copied.
    copied: Option<String>,
}

impl Page {
    /// The session's token, shown once.
    pub(super) fn session(session: &Session) -> Self {
        Self {
            heading: format!("You are logged in as {}", session.user_email),
            text:
                "This is your session token. It is shown only once; whoever has it is you. Log out to end it."
                    .to_owned(),
            copied: Some(session.token.clone()),
        }
    }

    /// A code for the command line.
    pub(super) fn code(email: &str, code: &str) -> Self {
        Self {
            heading: format!("You have signed in as {email}"),
            text: "Copy this code into the command line with which you began. It works once, and only there. If you \
                   began nowhere, close this page and give the code to nobody."
                .to_owned(),
            copied: Some(code.to_owned()),
        }
    }
}

/// The page for a browser, the value for a program.
pub(super) fn answer(headers: &HeaderMap, page: Page, value: &impl Serialize) -> Response {
    if wants_page(headers) { html(StatusCode::OK, &page) } else { Json(value).into_response() }
}

/// A refusal, as a page for a browser.
pub(super) fn refusal(headers: &HeaderMap, error: ApiError) -> Response {
    if !wants_page(headers) {
        return error.into_response();
    }
    let page =
        Page { heading: "You are not logged in".to_owned(), text: error.message().to_owned(), copied: None };
    let code = error.status();
    let other = error.into_response();
    let mut response = html(code, &page);
    // What else an answer of this kind says, such as when to come back.
    for (name, value) in other.headers() {
        if name != CONTENT_TYPE && name != http::header::CONTENT_LENGTH {
            response.headers_mut().append(name, value.clone());
        }
    }
    response
}

/// Browsers name HTML among what they want; programs name JSON, or nothing in particular.
fn wants_page(headers: &HeaderMap) -> bool {
    headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

fn html(status: StatusCode, page: &Page) -> Response {
    let copied = page.copied.as_deref().map(|copied| format!("<pre>{}</pre>\n", escaped(copied)));
    let text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>Postern</title></head>\n<body>\n\
         <h1>{}</h1>\n<p>{}</p>\n{}</body>\n</html>\n",
        escaped(&page.heading),
        escaped(&page.text),
        copied.unwrap_or_default(),
    );
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(
                "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            ),
        ),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (status, headers, text).into_response()
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_text_and_nothing_else() {
        assert_eq!(escaped("<script>\"'&"), "&lt;script&gt;&quot;&#39;&amp;");
    }
}
