//! From the `Authorization` header to a digest (checks 1 and 2 of the policy). No full token leaves this file.

use http::HeaderMap;

use super::TokenDigest;
use super::format::PREFIX_LENGTH;
use crate::policy::Denial;

/// What is left of a presented token: enough to look it up and to name it.
#[derive(Clone, Copy, Debug)]
pub struct Credential {
    /// What the token cache is asked for.
    pub digest: TokenDigest,
    /// The token prefix if the token is in Postern's own format; an imported token's prefix is in its entry.
    pub prefix: Option<[u8; PREFIX_LENGTH]>,
}

/// Why no credential could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialError {
    /// No `Authorization` header at all.
    Missing,
    /// More than one header, another scheme, a shape no token has, or a wrong checksum.
    Malformed,
}

impl From<CredentialError> for Denial {
    fn from(error: CredentialError) -> Self {
        match error {
            CredentialError::Missing => Self::MissingCredentials,
            CredentialError::Malformed => Self::MalformedCredentials,
        }
    }
}

/// Reads the one credential of a request.
pub fn from_headers(_headers: &HeaderMap) -> Result<Credential, CredentialError> {
    Err(CredentialError::Missing)
}
