//! Bearer tokens: their format, their digest, how they arrive in a header, and the cache that knows them.
//!
//! What must not live here: whether a token may be used (that is [`crate::policy`]), or how it is stored
//! durably (that is [`crate::directory`]).

pub mod cache;
pub mod credential;
pub mod digest;
pub mod format;
pub mod pasted;
pub mod usage;

pub use cache::{TokenCache, TokenEntry, TokenIndex};
pub use credential::{Credential, CredentialError};
pub use digest::TokenDigest;
pub use format::{FreshToken, TokenKind};
