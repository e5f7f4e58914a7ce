//! The values a decision is made from. Everything is borrowed: building facts allocates nothing.
//!
//! How the directory keeps these values is not known here; it lends them.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{MethodBinding, Permission, PermissionSet};
use crate::token::TokenKind;

/// Number by which the directory in memory knows an organization. Never leaves the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OrganizationIndex(pub u32);

/// Number by which the directory in memory knows a resource that grants can be made on: an organization,
/// an organizational unit or a project. Never leaves the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResourceIndex(pub u32);

/// Number by which the directory in memory knows an identity provider. Never leaves the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdentityProviderIndex(pub u32);

/// A non-human or a human user: authentication methods concern only the latter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UserKind {
    /// A person, member of one or more organizations.
    OrganizationUser,
    /// A program; belongs to one organization and cannot log in.
    ApplicationUser,
}

/// Whether a user may do anything at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UserState {
    /// May act.
    Active,
    /// Switched off by an admin; can be switched on again.
    Deactivated,
    /// Gone for good; known only so that its tokens can be told apart from unknown ones.
    Deleted,
}

/// All that one decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What is asked for, when and from where.
    pub request: RequestFacts<'a>,
    /// The token that was presented.
    pub token: TokenFacts<'a>,
    /// Whose token it is.
    pub user: UserFacts<'a>,
    /// The organization that owns the route's project; `None` while the directory knows no such project,
    /// of which then nobody is a member.
    pub organization: Option<OrganizationFacts<'a>>,
}

impl<'a> Facts<'a> {
    /// The same facts, were this the policy of the organization that owns the project.
    #[must_use]
    pub fn under(self, policy: &'a AuthenticationPolicy) -> Self {
        let organization = self.organization.map(|organization| OrganizationFacts { policy, ..organization });
        Self { organization, ..self }
    }
}

/// The request's part of the facts.
#[derive(Clone, Copy, Debug)]
pub struct RequestFacts<'a> {
    /// Seconds since the Unix epoch, UTC; must never step back within a process.
    pub now: u32,
    /// The client's address: the socket's, or what a configured trusted proxy said.
    pub client_address: IpAddr,
    /// The permission the route asks for this method.
    pub required: Permission,
    /// The route's project and all resources above it: project, units from the inside out, organization.
    pub resource_chain: &'a [ResourceIndex],
}

/// The token's part of the facts.
#[derive(Clone, Copy, Debug)]
pub struct TokenFacts<'a> {
    /// Application, personal or session token.
    pub kind: TokenKind,
    /// Revoked tokens stay known, so that their owner learns why they fail.
    pub revoked: bool,
    /// When the token was created, in seconds since the epoch.
    pub created_at: u32,
    /// When it ends, use included, in seconds since the epoch; `None`: never.
    pub expires_at: Option<u32>,
    /// The login method it was made with; always `None` for application tokens. A personal or session
    /// token without one is bound to no allowed method.
    pub binding: Option<MethodBinding>,
    /// Addresses it may be used from; empty: any.
    pub ip_allowlist: &'a [IpNet],
    /// What it is restricted to; `None`: not restricted.
    pub scopes: Option<PermissionSet>,
}

/// The user's part of the facts.
#[derive(Clone, Copy, Debug)]
pub struct UserFacts<'a> {
    /// Person or program.
    pub kind: UserKind,
    /// Active, deactivated or deleted.
    pub state: UserState,
    /// Tokens created before this second are void (Aiven's "expire all my tokens").
    pub token_validity_begin: u32,
    /// Whether the user has set up two-factor authentication.
    pub two_factor_enabled: bool,
    /// The organizations the user belongs to.
    pub memberships: &'a [Membership],
    /// All grants, direct and through groups, roles expanded; at most one per resource.
    pub grants: &'a [ExpandedGrant],
}

/// A user's membership of one organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Which organization.
    pub organization: OrganizationIndex,
    /// Super admins hold every permission in that organization.
    pub is_super_admin: bool,
}

/// What a user holds on one resource and everything below it, all roles expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpandedGrant {
    /// The organization, unit or project.
    pub resource: ResourceIndex,
    /// The union of what was granted there.
    pub permissions: PermissionSet,
}

/// The owning organization's part of the facts.
#[derive(Clone, Copy, Debug)]
pub struct OrganizationFacts<'a> {
    /// Which organization.
    pub index: OrganizationIndex,
    /// Its authentication policy, pinned by the configuration or from the directory.
    pub policy: &'a AuthenticationPolicy,
    /// Its own identity providers; any other provider belongs to another organization.
    pub identity_providers: &'a [IdentityProviderFacts],
}

/// One identity provider of the owning organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentityProviderFacts {
    /// Which provider.
    pub index: IdentityProviderIndex,
    /// Switched on by the organization's admins.
    pub enabled: bool,
}

/// The organization's switches that say which methods, tokens and addresses may reach its resources.
/// Names as in Aiven's API, `allowed_ip_ranges` being Postern's addition.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct AuthenticationPolicy {
    /// People may log in with a password.
    pub password_auth_enabled: bool,
    /// Password logins need two-factor authentication.
    pub two_factor_required: bool,
    /// People may log in with Google, Microsoft or GitHub.
    pub oauth_enabled: bool,
    /// People may log in with an identity provider.
    pub saml_enabled: bool,
    /// Identity providers of other organizations count too.
    pub saml_allow_external: bool,
    /// Personal tokens may be used.
    pub personal_tokens_enabled: bool,
    /// Personal tokens work only while the method they were made with is allowed.
    pub personal_tokens_require_allowed_auth_method: bool,
    /// Model Context Protocol servers may be used; no check of Postern's depends on it.
    pub mcp_enabled: bool,
    /// Addresses that any token may be used from; empty: any.
    #[serde(deserialize_with = "super::address::deserialize_ranges")]
    #[schema(value_type = Vec<String>)]
    pub allowed_ip_ranges: Vec<IpNet>,
}

impl Default for AuthenticationPolicy {
    /// A new organization's policy in Aiven: everything allowed, nothing required.
    fn default() -> Self {
        Self {
            password_auth_enabled: true,
            two_factor_required: false,
            oauth_enabled: true,
            saml_enabled: true,
            saml_allow_external: true,
            personal_tokens_enabled: true,
            personal_tokens_require_allowed_auth_method: false,
            mcp_enabled: true,
            allowed_ip_ranges: Vec::new(),
        }
    }
}
