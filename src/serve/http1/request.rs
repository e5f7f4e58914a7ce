//! From a head's bytes to a request: names, values and target become slices of one piece of memory.
//!
//! What must not live here: what makes a head valid, which `head` has seen to.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Uri};

use super::Violation;
use super::head::{Head, Version};
use crate::headers::names;

/// The request that a head is. Fails only where http's types take less than the rules for heads let through.
pub(super) fn request(head: &Head<'_>, bytes: &Bytes) -> Result<Parts, Violation> {
    let mut fields = HeaderMap::with_capacity(head.fields.len());
    for place in head.fields {
        let name = names::read(place.name.of(bytes)).ok_or(Violation::HeaderName)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice(place.value.range()));
        fields.append(name, value.map_err(|_| Violation::HeaderValue)?);
    }
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(head.method.of(bytes)).map_err(|_| Violation::RequestLine)?;
    parts.uri = Uri::from_maybe_shared(bytes.slice(head.target.range())).map_err(|_| Violation::Target)?;
    parts.version = match head.version {
        Version::Http10 => http::Version::HTTP_10,
        Version::Http11 => http::Version::HTTP_11,
    };
    parts.headers = fields;
    Ok(parts)
}

/// What stands for a request whose head was refused: it says nothing about what the client sent.
pub(super) fn refused() -> Parts {
    Request::new(()).into_parts().0
}
