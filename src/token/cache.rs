//! The token cache: every token of the directory in memory, digest → entry. Every request is decided from it.
//!
//! Entries stay after revocation (tombstones), so that a late fill cannot revive a token and its holder
//! learns why it fails. Only [`crate::directory`] changes entries; workers read them and touch their usage.
//! To be filled.

use std::sync::Arc;

use super::TokenDigest;
use crate::directory::view::UserCell;
use crate::policy::TokenFacts;

/// Digest → entry, shared by all workers.
#[derive(Debug, Default)]
pub struct TokenCache {}

/// One token: attributes that decide about it, and its usage.
#[derive(Debug)]
pub struct TokenEntry {
    user: Arc<UserCell>,
}

impl TokenCache {
    /// The entry of a token, revoked ones included; `None` for a token the directory does not know.
    pub fn find(&self, _digest: &TokenDigest) -> Option<Arc<TokenEntry>> {
        None
    }
}

impl TokenEntry {
    /// Whose token it is.
    pub fn user(&self) -> &UserCell {
        &self.user
    }

    /// The token's part of a decision's facts, as they are now.
    pub fn facts(&self) -> TokenFacts<'_> {
        unimplemented!()
    }

    /// The token prefix of an imported token; a token in Postern's own format carries its prefix itself.
    pub fn imported_prefix(&self) -> Option<&str> {
        None
    }
}
