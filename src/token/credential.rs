//! From the `Authorization` header to a digest (checks 1 and 2 of the policy). No full token leaves this file and those below
//! it: after them there is a digest, and a prefix that is public.

pub mod elsewhere;

use std::fmt;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use thiserror::Error;

use super::TokenDigest;
use super::format::{self, Format, PREFIX_LENGTH};
use crate::policy::Denial;

/// What is left of a presented token: enough to look it up and to name it.
#[derive(Clone, Copy)]
pub struct Credential {
    /// What the token cache is asked for.
    pub digest: TokenDigest,
    /// The token prefix if the token is in Postern's own format; an imported token's prefix is in its entry.
    pub prefix: Option<[u8; PREFIX_LENGTH]>,
}

/// Why no credential could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CredentialError {
    /// No `Authorization` header at all.
    #[error("no `Authorization` header; send `Authorization: Bearer TOKEN`")]
    Missing,
    /// More than one header, another scheme, a shape no token has, or a wrong checksum.
    #[error(
        "not a token; it is one `Bearer` credential of 16 to 1,024 visible ASCII characters without commas, \
         complete and as it was shown when it was made"
    )]
    Malformed,
}

/// Reads the one credential of a request: exactly one `Authorization` header, of the scheme `Bearer` or `aivenv1` in
/// any case, one or more spaces, and a token with nothing behind it.
///
/// # Errors
/// [`CredentialError::Missing`] without the header, [`CredentialError::Malformed`] for anything else.
#[inline]
pub fn from_headers(headers: &HeaderMap) -> Result<Credential, CredentialError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(CredentialError::Missing)?;
    if values.next().is_some() {
        return Err(CredentialError::Malformed);
    }
    from_header(value)
}

/// Reads the one credential of a request, as [`from_headers`], where it is known that its header stands alone.
///
/// # Errors
/// [`CredentialError::Malformed`] for anything that is not one token.
#[inline]
pub fn from_header(value: &HeaderValue) -> Result<Credential, CredentialError> {
    PresentedToken::of_header(value.as_bytes())?.into_credential()
}

impl Credential {
    /// The credential of a token that was typed or read from a file, for the command line. The text is taken as it
    /// is: spaces or a line end around it are refused.
    ///
    /// # Errors
    /// [`CredentialError::Malformed`] when no request could carry this token.
    pub fn of_token(token: &str) -> Result<Self, CredentialError> {
        PresentedToken(token.as_bytes()).into_credential()
    }
}

/// A full token. It can be turned into a credential and into nothing else: it does not print, and this file and those
/// below it are its whole world.
struct PresentedToken<'a>(&'a [u8]);

impl<'a> PresentedToken<'a> {
    fn of_header(value: &'a [u8]) -> Result<Self, CredentialError> {
        let scheme_end = value.iter().position(|byte| *byte == b' ').ok_or(CredentialError::Malformed)?;
        let (scheme, rest) = value.split_at(scheme_end);
        if !scheme.eq_ignore_ascii_case(b"bearer") && !scheme.eq_ignore_ascii_case(b"aivenv1") {
            return Err(CredentialError::Malformed);
        }
        let token_start = rest.iter().position(|byte| *byte != b' ').unwrap_or(rest.len());
        Ok(Self(&rest[token_start..]))
    }

    fn into_credential(self) -> Result<Credential, CredentialError> {
        let prefix = match format::inspect(self.0) {
            Format::Own(_) => self.0.first_chunk().copied(),
            Format::Foreign => None,
            Format::Malformed | Format::Invalid => return Err(CredentialError::Malformed),
        };
        Ok(Credential { digest: TokenDigest::of(self.0), prefix })
    }
}

impl fmt::Debug for Credential {
    /// The prefix is a token's public handle; the digest shows only enough to tell two apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = self.prefix.as_ref().and_then(|prefix| std::str::from_utf8(prefix).ok());
        f.debug_struct("Credential").field("digest", &self.digest).field("prefix", &prefix).finish()
    }
}

impl From<CredentialError> for Denial {
    fn from(error: CredentialError) -> Self {
        match error {
            CredentialError::Missing => Self::MissingCredentials,
            CredentialError::Malformed => Self::MalformedCredentials,
        }
    }
}

#[cfg(test)]
mod tests;
