//! Postern's own token format: `psta_` / `pstp_` / `psts_`, 12 characters of public id, 32 of secret, 6 of
//! CRC-32 checksum, base62: 55 in all. The token prefix is the first 17. To be filled.

use secrecy::SecretString;

use super::TokenDigest;

/// What a token was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// Made for an application user.
    Application,
    /// Made by a person.
    Personal,
    /// Made by logging in.
    Session,
}

/// Length of the token prefix, a token's public handle, in characters.
pub const PREFIX_LENGTH: usize = 17;

/// Length of a whole token in Postern's own format, in characters.
pub const TOKEN_LENGTH: usize = 55;

/// A token just made: the one moment in which its full text exists.
#[derive(Debug)]
pub struct FreshToken {
    /// The whole token, to be shown once.
    pub full: SecretString,
    /// The public handle.
    pub prefix: String,
    /// What is kept of it.
    pub digest: TokenDigest,
}
