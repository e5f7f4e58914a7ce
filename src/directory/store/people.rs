//! Of the store's trait, what concerns how people log in and come to be members.

use crate::directory::error::StoreError;
use crate::directory::model::{Invitation, PasswordRecord, PasswordReset, Timestamp, TotpRecord};
use crate::token::{TokenDigest, TokenKind};

/// Reading how people log in and come to be members.
pub trait PeopleRecords {
    /// The password of a user.
    fn password(&self, user_id: &str) -> Result<Option<PasswordRecord>, StoreError>;
    /// The authenticator app's secret of a user.
    fn totp(&self, user_id: &str) -> Result<Option<TotpRecord>, StoreError>;
    /// The reset that has this code.
    fn password_reset(&self, code: &TokenDigest) -> Result<Option<PasswordReset>, StoreError>;
    /// The invitation of an address to an organization, expired ones included.
    fn invitation(&self, organization_id: &str, email: &str) -> Result<Option<Invitation>, StoreError>;
    /// The invitation that has this code.
    fn invitation_by_code(&self, code: &TokenDigest) -> Result<Option<Invitation>, StoreError>;
    /// The invitations to an organization, expired ones included.
    fn invitations(&self, organization_id: &str) -> Result<Vec<Invitation>, StoreError>;
    /// The invitations of an address, expired ones included.
    fn invitations_of(&self, email: &str) -> Result<Vec<Invitation>, StoreError>;
    /// The numbers of a user's tokens of this kind that have not ended at `now`, oldest first.
    fn living_tokens(&self, user_id: &str, kind: TokenKind, now: Timestamp) -> Result<Vec<u32>, StoreError>;
    /// When a user last used any token.
    fn last_activity(&self, user_id: &str) -> Result<Option<Timestamp>, StoreError>;
    /// Address of the person and address of the last use of every session that has not been revoked: where people have
    /// logged in from.
    fn session_addresses(&self) -> Result<Vec<(String, std::net::IpAddr)>, StoreError>;
}

/// Changing how people log in and come to be members.
pub trait PeopleChanges {
    /// Sets the password of a user.
    fn put_password(&self, password: &PasswordRecord) -> Result<(), StoreError>;
    /// Removes the password of a user, and a reset that is under way.
    fn delete_password(&self, user_id: &str) -> Result<(), StoreError>;
    /// Sets the authenticator app's secret of a user.
    fn put_totp(&self, totp: &TotpRecord) -> Result<(), StoreError>;
    /// Notes that a step was accepted; returns whether it was a later one than any before.
    fn use_totp_step(&self, user_id: &str, step: u64) -> Result<bool, StoreError>;
    /// Removes the authenticator app's secret of a user.
    fn delete_totp(&self, user_id: &str) -> Result<(), StoreError>;
    /// Inserts, in place of an earlier one of the same user.
    fn put_password_reset(&self, reset: &PasswordReset) -> Result<(), StoreError>;
    /// Removes the reset of a user.
    fn delete_password_reset(&self, user_id: &str) -> Result<(), StoreError>;
    /// Inserts or replaces.
    fn put_invitation(&self, invitation: &Invitation) -> Result<(), StoreError>;
    /// Removes the invitation of an address to an organization.
    fn delete_invitation(&self, organization_id: &str, email: &str) -> Result<(), StoreError>;
    /// Revokes a user's session tokens; returns how many it revoked.
    fn revoke_sessions(&self, user_id: &str) -> Result<usize, StoreError>;
    /// Revokes a user's session tokens that are bound to the password method; returns how many it revoked.
    fn revoke_password_sessions(&self, user_id: &str) -> Result<usize, StoreError>;
}
