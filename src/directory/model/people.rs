//! What is stored of how people log in and come to be members. Hashes and sealed secrets are here and print nothing.

use std::fmt;

use serde::Serialize;

use super::Timestamp;
use crate::token::TokenDigest;

/// The password of a person, as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordRecord {
    /// Whose.
    pub user_id: String,
    /// PHC string, argon2id.
    pub hash: String,
    /// When it was set.
    pub update_time: Timestamp,
    /// Whether it goes back to a code that somebody handed over, who may have kept it: it says nothing about whose the
    /// account's address is.
    pub from_code: bool,
}

/// The secret of a person's authenticator app, as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct TotpRecord {
    /// Whose.
    pub user_id: String,
    /// Encrypted with a key that is not in the store.
    pub sealed_secret: Vec<u8>,
    /// The last step that was accepted; none up to it is accepted again.
    pub last_step: u64,
    /// When it was set up.
    pub create_time: Timestamp,
}

/// That somebody may become a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Invitation {
    /// Of what.
    pub organization_id: String,
    /// Who; an account with this address may not exist yet.
    pub user_email: String,
    /// By whom; `None`: from the command line.
    pub inviter_user_id: Option<String>,
    /// When it was made.
    pub create_time: Timestamp,
    /// It cannot be accepted from then on.
    pub expiry_time: Timestamp,
    /// SHA-256 of the code with which the invited person can make an account.
    #[serde(skip)]
    pub code_digest: Option<TokenDigest>,
}

/// A one-time way for a person to set a password, handed over by an admin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordReset {
    /// Whose.
    pub user_id: String,
    /// SHA-256 of the code.
    pub code_digest: TokenDigest,
    /// When it was made.
    pub create_time: Timestamp,
    /// It cannot be used from then on.
    pub expiry_time: Timestamp,
}

impl fmt::Debug for PasswordRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordRecord")
            .field("user_id", &self.user_id)
            .field("update_time", &self.update_time)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TotpRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TotpRecord")
            .field("user_id", &self.user_id)
            .field("last_step", &self.last_step)
            .field("create_time", &self.create_time)
            .finish_non_exhaustive()
    }
}
