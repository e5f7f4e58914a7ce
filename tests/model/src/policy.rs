//! Stand-ins for the policy's plain values that a token's entry carries. They have the real ones' shapes: what differs does not
//! compile.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::token::TokenKind;

pub mod facts {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct IdentityProviderIndex(pub u32);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MethodBinding {
    Password,
    ThirdParty(ThirdParty),
    IdentityProvider(facts::IdentityProviderIndex),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ThirdParty {
    Google,
    Microsoft,
    GitHub,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PermissionSet(pub u64);

#[derive(Clone, Copy, Debug)]
pub struct TokenFacts<'a> {
    pub kind: TokenKind,
    pub revoked: bool,
    pub created_at: u32,
    pub expires_at: Option<u32>,
    pub binding: Option<MethodBinding>,
    pub ip_allowlist: &'a [IpNet],
    pub scopes: Option<PermissionSet>,
}

/// Where models' clients are.
pub const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
