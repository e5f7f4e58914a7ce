//! Versions of what the API shows, so that of two people who change one thing the second hears of it: `ETag` on what is
//! shown, `If-Match` on what is changed.
//!
//! A version is made of the object as it is shown: nothing that a client sees can change without it. A change that names
//! no version happens whatever was there, as Aiven's clients expect.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{ETAG, IF_MATCH};
use http::{HeaderMap, HeaderValue};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::directory::OperationError;

/// Bytes of a version: it only has to differ from the one before.
const VERSION_BYTES: usize = 12;

/// An object with its version.
#[derive(Debug)]
pub(super) struct Versioned<T>(pub(super) T);

/// The version that a request expects, if it names one.
#[derive(Clone, Debug)]
pub(super) struct Expected(Option<Vec<String>>);

/// What a request's `If-Match` says.
pub(super) fn expected(headers: &HeaderMap) -> Expected {
    let lines = headers.get_all(IF_MATCH).iter().filter_map(|value| value.to_str().ok());
    let versions: Vec<String> =
        lines.flat_map(|line| line.split(',')).map(|version| version.trim().to_owned()).collect();
    let names_none = versions.is_empty() || versions.iter().any(|version| version == "*");
    Expected((!names_none).then_some(versions))
}

impl Expected {
    /// Compares with what is there now.
    pub(super) fn check(
        &self,
        entity: &'static str,
        id: &str,
        current: &impl Serialize,
    ) -> Result<(), OperationError> {
        match &self.0 {
            Some(versions) if !versions.contains(&version(current)) => {
                Err(OperationError::ChangedMeanwhile { entity, id: id.to_owned() })
            }
            _ => Ok(()),
        }
    }
}

fn version(object: &impl Serialize) -> String {
    let shown = serde_json::to_vec(object).unwrap_or_default();
    let digest = Sha256::digest(&shown);
    format!("\"{}\"", data_encoding::BASE64URL_NOPAD.encode(&digest[..VERSION_BYTES]))
}

impl<T: Serialize> IntoResponse for Versioned<T> {
    fn into_response(self) -> Response {
        let version = HeaderValue::from_str(&version(&self.0));
        let mut response = Json(self.0).into_response();
        if let Ok(version) = version {
            response.headers_mut().insert(ETAG, version);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn if_match(lines: &[&'static str]) -> Expected {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(IF_MATCH, HeaderValue::from_static(line));
        }
        expected(&headers)
    }

    #[test]
    fn a_change_that_names_no_version_or_any_happens() {
        for lines in [&[][..], &["*"], &["\"x\", *"]] {
            if_match(lines).check("thing", "1", &"shown").unwrap();
        }
    }

    #[test]
    fn a_change_of_another_version_does_not_happen() {
        let current = version(&"shown");
        let matching = Expected(Some(vec!["\"other\"".to_owned(), current]));
        matching.check("thing", "1", &"shown").unwrap();
        assert!(matches!(
            matching.check("thing", "1", &"changed"),
            Err(OperationError::ChangedMeanwhile { .. })
        ));
        assert!(if_match(&["\"x\"", "W/\"y\""]).check("thing", "1", &"shown").is_err());
    }
}
