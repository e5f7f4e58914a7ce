//! One token in memory: attributes that decide about it, fixed for the entry's life, and its usage, which workers
//! touch without waiting. How entries are found is not known here.

use std::mem;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use ipnet::IpNet;
use parking_lot::Mutex;

use crate::directory::view::UserCell;
use crate::policy::facts::IdentityProviderIndex;
use crate::policy::{MethodBinding, PermissionSet, ThirdParty, TokenFacts};
use crate::token::usage::UserAgent;
use crate::token::{TokenDigest, TokenKind};

const REVOKED: u8 = 1;
const DIRTY: u8 = 2;
const SUPERSEDED: u8 = 4;

/// One token: attributes that decide about it, and its usage.
///
/// In this order the first cache line has what every look-up reads, the second what the decision and usage need.
#[derive(Debug)]
#[repr(C)]
pub struct TokenEntry {
    digest: TokenDigest,
    user: Arc<UserCell>,
    restrictions: Option<Arc<Restrictions>>,
    created_at: u32,
    /// 0: never ends.
    max_age_seconds: u32,
    identity_provider: u32,
    number: u32,
    /// 0: never used.
    last_used_at: AtomicU32,
    kind: TokenKind,
    binding: Binding,
    expiry: Expiry,
    state: AtomicU8,
    details: Mutex<UsageDetails>,
    imported_prefix: Option<Box<ImportedPrefix>>,
}

/// Restrictions that few tokens have; equal ones are shared between tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Restrictions {
    /// Addresses the token may be used from; empty: any.
    pub ip_allowlist: Box<[IpNet]>,
    /// What the token is restricted to; `None`: not restricted.
    pub scopes: Option<PermissionSet>,
}

/// Everything an entry is made from.
#[derive(Clone, Debug)]
pub struct TokenAttributes {
    /// SHA-256 of the whole token.
    pub digest: TokenDigest,
    /// The store's number for the token.
    pub number: u32,
    /// Whose.
    pub user: Arc<UserCell>,
    /// Application, personal or session token.
    pub kind: TokenKind,
    /// When it was made, in seconds since the epoch.
    pub created_at: u32,
    /// Lifetime in seconds; `None`: never ends.
    pub max_age_seconds: Option<u32>,
    /// Whether the lifetime counts from the last use.
    pub extend_when_used: bool,
    /// Whether it has been revoked.
    pub revoked: bool,
    /// The login method it was made with.
    pub binding: Option<MethodBinding>,
    /// Allow-list and scopes; `None`: neither.
    pub restrictions: Option<Arc<Restrictions>>,
    /// The token prefix of an imported token.
    pub imported_prefix: Option<Box<str>>,
    /// When it was last used, as the store knows; 0: never.
    pub last_used_at: u32,
    /// From where.
    pub last_address: Option<IpAddr>,
    /// By what.
    pub last_user_agent: Option<Arc<UserAgent>>,
}

/// Address and user agent of the last use. The address takes IPv4 as mapped into IPv6; unspecified: unknown.
#[derive(Debug)]
struct UsageDetails {
    address: Ipv6Addr,
    user_agent: Option<Arc<UserAgent>>,
}

/// The prefix of an imported token, behind one thin pointer: most tokens have none.
#[derive(Debug, PartialEq, Eq)]
struct ImportedPrefix(Box<str>);

/// A method binding without its identity provider, in one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Binding {
    None,
    Password,
    Google,
    Microsoft,
    GitHub,
    IdentityProvider,
}

/// What a token's lifetime counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Expiry {
    FromCreation,
    FromLastUse,
}

impl TokenEntry {
    /// Whose token it is.
    pub fn user(&self) -> &UserCell {
        &self.user
    }

    /// What the token is found by.
    pub const fn digest(&self) -> &TokenDigest {
        &self.digest
    }

    /// The token's part of a decision's facts, as they are now.
    pub fn facts(&self) -> TokenFacts<'_> {
        let restrictions = self.restrictions.as_deref();
        TokenFacts {
            kind: self.kind,
            revoked: self.is_revoked(),
            created_at: self.created_at,
            expires_at: self.expires_at(),
            binding: self.binding(),
            ip_allowlist: restrictions.map_or(&[], |restrictions| &restrictions.ip_allowlist),
            scopes: restrictions.and_then(|restrictions| restrictions.scopes),
        }
    }

    /// The token prefix of an imported token; a token in Postern's own format carries its prefix itself.
    pub fn imported_prefix(&self) -> Option<&str> {
        self.imported_prefix.as_ref().map(|prefix| &*prefix.0)
    }

    /// When it was last used, in seconds since the epoch; `None`: never.
    pub fn last_used_at(&self) -> Option<u32> {
        Some(self.last_used_at.load(Ordering::Relaxed)).filter(|&time| time != 0)
    }

    /// Address and user agent of the last use. Waits for a worker that is just noting one: not for workers.
    pub fn last_used_by(&self) -> (Option<IpAddr>, Option<Arc<UserAgent>>) {
        let details = self.details.lock();
        (from_mapped(details.address), details.user_agent.clone())
    }

    pub(super) fn new(attributes: TokenAttributes) -> Self {
        let (binding, identity_provider) = split_binding(attributes.binding);
        Self {
            digest: attributes.digest,
            user: attributes.user,
            restrictions: attributes.restrictions,
            created_at: attributes.created_at,
            max_age_seconds: attributes.max_age_seconds.unwrap_or(0),
            identity_provider,
            number: attributes.number,
            last_used_at: AtomicU32::new(attributes.last_used_at),
            kind: attributes.kind,
            binding,
            expiry: if attributes.extend_when_used { Expiry::FromLastUse } else { Expiry::FromCreation },
            state: AtomicU8::new(if attributes.revoked { REVOKED } else { 0 }),
            details: Mutex::new(UsageDetails {
                address: attributes.last_address.map_or(Ipv6Addr::UNSPECIFIED, to_mapped),
                user_agent: attributes.last_user_agent,
            }),
            imported_prefix: attributes.imported_prefix.map(|prefix| Box::new(ImportedPrefix(prefix))),
        }
    }

    pub(super) const fn kind(&self) -> TokenKind {
        self.kind
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.state.load(Ordering::Relaxed) & REVOKED != 0
    }

    pub(super) fn revoke(&self) {
        self.state.fetch_or(REVOKED, Ordering::Release);
    }

    pub(super) fn is_superseded(&self) -> bool {
        self.state.load(Ordering::Relaxed) & SUPERSEDED != 0
    }

    pub(super) fn supersede(&self) {
        self.state.fetch_or(SUPERSEDED, Ordering::Release);
    }

    /// Whether all but revocation and usage are the same.
    pub(super) fn same_attributes(&self, other: &Self) -> bool {
        self.digest == other.digest
            && Arc::ptr_eq(&self.user, &other.user)
            && self.restrictions == other.restrictions
            && self.created_at == other.created_at
            && self.max_age_seconds == other.max_age_seconds
            && self.identity_provider == other.identity_provider
            && self.number == other.number
            && self.kind == other.kind
            && self.binding == other.binding
            && self.expiry == other.expiry
            && self.imported_prefix == other.imported_prefix
    }

    /// Takes over revocation and later use from an older entry of the same token.
    pub(super) fn inherit(&self, old: &Self) {
        if old.is_revoked() {
            self.revoke();
        }
        self.inherit_usage(old);
    }

    pub(super) fn inherit_usage(&self, other: &Self) {
        let time = other.last_used_at.load(Ordering::Acquire);
        if self.last_used_at.fetch_max(time, Ordering::AcqRel) < time {
            let (address, user_agent) = {
                let details = other.details.lock();
                (details.address, details.user_agent.clone())
            };
            let mut details = self.details.lock();
            details.address = address;
            details.user_agent = user_agent;
        }
    }

    /// Whether a use in this second, or in a later one, has been noted.
    pub(in crate::token) fn is_noted(&self, now: u32) -> bool {
        self.last_used_at.load(Ordering::Relaxed) >= now
    }

    /// Notes a use. Returns whether the entry must now be put on the list of those to be flushed.
    pub(in crate::token) fn note(
        &self,
        now: u32,
        client: IpAddr,
        user_agent: impl FnOnce() -> Option<Arc<UserAgent>>,
    ) -> bool {
        if self.last_used_at.fetch_max(now, Ordering::AcqRel) >= now {
            return false;
        }
        let user_agent = user_agent();
        // A flush may be reading them at this very moment, for nanoseconds: try a little, but never wait.
        for _ in 0..16 {
            let Some(mut details) = self.details.try_lock() else {
                std::hint::spin_loop();
                continue;
            };
            if self.last_used_at.load(Ordering::Relaxed) == now {
                details.address = to_mapped(client);
                let _former = mem::replace(&mut details.user_agent, user_agent);
                drop(details);
            }
            break;
        }
        self.mark_dirty()
    }

    /// Marks the entry as one to be flushed; returns whether it was not marked before.
    pub(in crate::token) fn mark_dirty(&self) -> bool {
        self.state.fetch_or(DIRTY, Ordering::AcqRel) & DIRTY == 0
    }

    /// Takes the mark away. What is read of the usage afterwards includes all that was noted under the mark.
    pub(in crate::token) fn clear_dirty(&self) {
        self.state.fetch_and(!DIRTY, Ordering::AcqRel);
    }

    /// The store's number for the token.
    pub(in crate::token) const fn number(&self) -> u32 {
        self.number
    }

    fn expires_at(&self) -> Option<u32> {
        if self.max_age_seconds == 0 {
            return None;
        }
        let start = match self.expiry {
            Expiry::FromCreation => self.created_at,
            Expiry::FromLastUse => self.created_at.max(self.last_used_at.load(Ordering::Relaxed)),
        };
        Some(start.saturating_add(self.max_age_seconds))
    }

    fn binding(&self) -> Option<MethodBinding> {
        match self.binding {
            Binding::None => None,
            Binding::Password => Some(MethodBinding::Password),
            Binding::Google => Some(MethodBinding::ThirdParty(ThirdParty::Google)),
            Binding::Microsoft => Some(MethodBinding::ThirdParty(ThirdParty::Microsoft)),
            Binding::GitHub => Some(MethodBinding::ThirdParty(ThirdParty::GitHub)),
            Binding::IdentityProvider => {
                Some(MethodBinding::IdentityProvider(IdentityProviderIndex(self.identity_provider)))
            }
        }
    }
}

const fn split_binding(binding: Option<MethodBinding>) -> (Binding, u32) {
    match binding {
        None => (Binding::None, 0),
        Some(MethodBinding::Password) => (Binding::Password, 0),
        Some(MethodBinding::ThirdParty(ThirdParty::Google)) => (Binding::Google, 0),
        Some(MethodBinding::ThirdParty(ThirdParty::Microsoft)) => (Binding::Microsoft, 0),
        Some(MethodBinding::ThirdParty(ThirdParty::GitHub)) => (Binding::GitHub, 0),
        Some(MethodBinding::IdentityProvider(index)) => (Binding::IdentityProvider, index.0),
    }
}

fn to_mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn from_mapped(address: Ipv6Addr) -> Option<IpAddr> {
    (!address.is_unspecified()).then(|| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_with_its_reference_counts_fits_two_cache_lines() {
        assert!(size_of::<TokenEntry>() + 2 * size_of::<usize>() <= 128, "{}", size_of::<TokenEntry>());
    }
}
