//! One state of the directory, as a starting sidecar reads it.

use std::net::IpAddr;
use std::sync::Arc;

use crate::directory::model::{
    Grant, IdentityProvider, MembershipRecord, MethodKind, Organization, OrganizationalUnit, Project,
    Sequence, User,
};
use crate::token::TokenKind;
use crate::token::usage::UserAgent;

/// Who receives a snapshot: first everything but tokens, then the tokens in batches.
pub trait SnapshotReceiver {
    /// Everything but tokens. Called once, first.
    fn receive_directory(&mut self, directory: DirectorySnapshot);
    /// Some of the tokens. Called until there are no more.
    fn receive_tokens(&mut self, tokens: Vec<TokenRow>);
}

/// One state of the directory, without its tokens.
#[derive(Clone, Debug, Default)]
pub struct DirectorySnapshot {
    /// Sequence of the last change in it.
    pub sequence: Sequence,
    /// How many tokens follow.
    pub token_count: usize,
    /// All organizations.
    pub organizations: Vec<Organization>,
    /// All units.
    pub units: Vec<OrganizationalUnit>,
    /// All projects.
    pub projects: Vec<Project>,
    /// All identity providers.
    pub identity_providers: Vec<IdentityProvider>,
    /// All users with the store's number for each.
    pub users: Vec<(u32, User)>,
    /// All memberships.
    pub memberships: Vec<MembershipRecord>,
    /// Group id and user id of every membership of a group.
    pub group_members: Vec<(String, String)>,
    /// All grants.
    pub grants: Vec<Grant>,
}

/// What the token cache needs of one token. Attributes that cannot be read are marked, never left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// The store's number for the token.
    pub number: u32,
    /// SHA-256 of the whole token.
    pub digest: [u8; 32],
    /// The store's number for its user.
    pub user_number: u32,
    /// Application, personal or session token; `None`: a kind that this version does not know.
    pub kind: Option<TokenKind>,
    /// When it was made.
    pub created_at: u32,
    /// Lifetime in seconds; 0: never ends.
    pub max_age_seconds: u32,
    /// Whether the lifetime counts from the last use.
    pub extend_when_used: bool,
    /// When it ends however much it is used; `None`: its lifetime alone decides.
    pub end_time: Option<u32>,
    /// Whether it has been revoked.
    pub revoked: bool,
    /// The login method it is bound to.
    pub binding: RowBinding,
    /// Addresses it may be used from, as stored; equal ones share one text.
    pub ip_allowlist: Option<Arc<str>>,
    /// Scopes, as stored; equal ones share one text.
    pub scopes: Option<Arc<str>>,
    /// Prefix of an imported token.
    pub imported_prefix: Option<Box<str>>,
    /// When it was last used; 0: never.
    pub last_used_at: u32,
    /// From where.
    pub last_address: Option<IpAddr>,
    /// By what; equal ones share one text.
    pub last_user_agent: Option<Arc<UserAgent>>,
}

/// The login method of a token, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowBinding {
    /// None, or one that is gone.
    None,
    /// Password or a third party.
    Method(MethodKind),
    /// An identity provider, by id; equal ones share one text.
    IdentityProvider(Arc<str>),
}
