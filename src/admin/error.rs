//! What the management API answers when it does not do what was asked: Aiven's error shape, one code each.
//!
//! What must not live here: when to refuse. Messages name fields and ids, never a token or a password.

use std::borrow::Cow;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;

use crate::directory::{OperationError, StoreError};
use crate::error::Answer;
use crate::error::response::{Answers, Details, Rendered};

/// Most characters that a message repeats of what a caller wrote.
const MOST_REPEATED: usize = 100;

/// A refusal or a failure.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What the policy says itself, words and headers included.
    rendered: Option<Box<Rendered>>,
}

/// Aiven's error shape.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ErrorBody {
    /// What happened and what to do about it.
    message: String,
    /// The same, for programs.
    errors: Vec<ErrorEntry>,
}

/// One error of a response.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ErrorEntry {
    /// What happened and what to do about it.
    message: String,
    /// A word for programs, such as `not_found`.
    #[schema(value_type = String)]
    error_code: &'static str,
    /// The status again.
    status: u16,
}

impl ApiError {
    /// An answer with this status, code and message.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), headers: Vec::new(), rendered: None }
    }

    /// 400: the request cannot be meant as it is; `field` says where.
    pub fn bad_request(field: &str, reason: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", format!("{}: {reason}", short(field)))
    }

    /// 404: it is not there, or the caller may not even know of it.
    pub fn not_found(entity: &'static str, id: &str) -> Self {
        OperationError::NotFound { entity, id: id.to_owned() }.into()
    }

    /// 409: it would contradict what is there.
    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// 403: the caller is known, and may not.
    pub fn forbidden(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// 500: a defect of Postern, told in the log.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "Something went wrong in Postern; its log says more.",
        )
    }

    /// What the answer's status is.
    pub(super) fn status(&self) -> StatusCode {
        self.rendered.as_ref().map_or(self.status, |rendered| rendered.status)
    }

    /// What is said to the caller; empty where the policy speaks itself.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// With one more header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// What the policy's denial says to whoever presented a token, as on the data plane.
    pub(super) fn denied(answers: &Answers, answer: Answer, details: Details<'_>) -> Self {
        let rendered = answers.render(answer, details);
        let mut error = Self::new(rendered.status, answer.public_code(), "");
        error.rendered = Some(Box::new(rendered));
        error
    }

    /// Instead of the policy's own words, which speak of a project.
    #[must_use]
    pub(super) fn saying(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.message = message.into();
        if let Some(rendered) = self.rendered.take()
            && let Some(challenge) = rendered.to_map().remove(WWW_AUTHENTICATE)
        {
            self.headers.push((WWW_AUTHENTICATE, challenge));
        }
        self
    }
}

/// What a caller wrote, as far as a message repeats it: it stands there twice, and callers may write a megabyte.
fn short(text: &str) -> &str {
    match text.char_indices().nth(MOST_REPEATED) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

impl From<OperationError> for ApiError {
    fn from(mut error: OperationError) -> Self {
        if let OperationError::NotFound { id, .. } = &mut error {
            short(id).to_owned().clone_into(id);
        }
        let message = error.to_string();
        match error {
            OperationError::NotFound { .. } => Self::new(StatusCode::NOT_FOUND, "not_found", message),
            OperationError::AlreadyExists { .. } => {
                Self::new(StatusCode::CONFLICT, "already_exists", message)
            }
            OperationError::ChangedMeanwhile { .. } => {
                Self::new(StatusCode::CONFLICT, "changed_meanwhile", message)
            }
            OperationError::Invalid { .. } => Self::new(StatusCode::BAD_REQUEST, "bad_request", message),
            OperationError::Conflict(_) => Self::conflict(message),
            OperationError::TokenEnded => Self::new(StatusCode::UNAUTHORIZED, "token_revoked", message)
                .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\"")),
            OperationError::Forbidden { code, .. } => Self::forbidden(code, message),
            OperationError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for ApiError {
    /// Paths and remedies are the operator's business: the log has them.
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store failed while the management API needed it");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "store_unavailable",
            "The directory's store does not work at the moment. Try again later.",
        )
        .with_header(http::header::RETRY_AFTER, HeaderValue::from_static("5"))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Some(rendered) = self.rendered {
            let mut response = (rendered.status, rendered.body.clone()).into_response();
            response.headers_mut().extend(rendered.to_map());
            return response;
        }
        let message = self.message.into_owned();
        let entry =
            ErrorEntry { message: message.clone(), error_code: self.code, status: self.status.as_u16() };
        let mut response = (self.status, Json(ErrorBody { message, errors: vec![entry] })).into_response();
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}
