//! Reading what a request carries: JSON bodies and query parameters, each problem named by its field.
//!
//! What must not live here: what a field means.

mod reason;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use http::StatusCode;
use http::request::Parts;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Admin, ApiError};

/// Longest body of a request.
const BODY_BYTES: usize = 1 << 20;

/// Fields whose values no message repeats.
const SECRETS: [&str; 9] = [
    "password",
    "new_password",
    "otp",
    "code",
    "uri",
    "code_verifier",
    "oidc_client_secret",
    "text",
    "tokens",
];

/// A request's JSON body; an empty one counts as `{}`.
#[derive(Clone, Copy, Debug)]
pub struct JsonBody<T>(pub T);

/// A record that is read from a JSON object and from nothing else: serde alone would take a list of its values too.
#[derive(Clone, Copy, Debug)]
pub struct Object<T>(pub T);

/// What the variable segments of a request's path say, percent-decoded.
#[derive(Clone, Copy, Debug)]
pub struct PathParameters<T>(pub T);

/// A request's query parameters; unknown ones are ignored, since clients add their own.
#[derive(Clone, Copy, Debug)]
pub struct QueryParameters<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<Admin>> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &Arc<Admin>) -> Result<Self, ApiError> {
        let read = Limited::new(request.into_body(), BODY_BYTES).collect().await;
        let bytes = read.map_err(unreadable)?.to_bytes();
        let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let Object(value) = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let path = error.path().to_string();
            // A field is named where there is one; broken JSON, or another value than an object, has none.
            let place = if error.inner().is_data() && path != "." { path.as_str() } else { "body" };
            let field = place.split(['.', '[']).next().unwrap_or(place);
            ApiError::bad_request(place, reason::of_json(error.inner(), SECRETS.contains(&field)))
        })?;
        reader.end().map_err(|error| ApiError::bad_request("body", reason::of_json(&error, false)))?;
        Ok(Self(value))
    }
}

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Admin>> for PathParameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, admin: &Arc<Admin>) -> Result<Self, ApiError> {
        let read = Path::<T>::from_request_parts(parts, admin).await;
        read.map(|path| Self(path.0)).map_err(|error| ApiError::bad_request("path", error.body_text()))
    }
}

impl<T: DeserializeOwned> FromRequestParts<Arc<Admin>> for QueryParameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Admin>) -> Result<Self, ApiError> {
        let read = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        read.map(|query| Self(query.0)).map_err(|error| {
            let (field, reason) = reason::of_query(&error.body_text());
            ApiError::bad_request(&field, reason)
        })
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
    }
}

fn unreadable(error: Box<dyn std::error::Error + Send + Sync>) -> ApiError {
    if error.is::<LengthLimitError>() {
        let message = format!("The request's body has more than {BODY_BYTES} bytes; send less at a time.");
        return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message);
    }
    ApiError::bad_request("body", "it broke off before its end")
}
