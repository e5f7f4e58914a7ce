//! One token in memory: attributes that decide about it, fixed for the entry's life, and its usage, which workers
//! touch without waiting. How entries are found is not known here.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use arc_swap::ArcSwapOption;
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
    number: u32,
    binding: PackedBinding,
    /// 0: never used.
    last_used_at: AtomicU32,
    shape: Shape,
    state: AtomicU8,
    /// From where it was last used, IPv4 as mapped into IPv6; unspecified: unknown. Its lock holds for the user agent too.
    last_address: Mutex<Ipv6Addr>,
    last_user_agent: ArcSwapOption<UserAgent>,
}

/// What few tokens have. Equal ones are shared between tokens, except those of imported ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Restrictions {
    /// Addresses the token may be used from; empty: any.
    pub ip_allowlist: Box<[IpNet]>,
    /// What the token is restricted to; `None`: not restricted.
    pub scopes: Option<PermissionSet>,
    /// The prefix of an imported token: no restriction, but as rare as one.
    imported_prefix: Option<Box<str>>,
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

impl Restrictions {
    /// An allow-list (empty: any address) and scopes (`None`: any permission).
    pub fn new(ip_allowlist: Box<[IpNet]>, scopes: Option<PermissionSet>) -> Self {
        Self { ip_allowlist, scopes, imported_prefix: None }
    }
}

/// A token's kind, and what its lifetime counts from, in one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape(u8);

/// A method binding in four bytes: an identity provider by its number, the other methods by the numbers just below the
/// highest one, which no directory has as many providers to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PackedBinding(u32);

impl Shape {
    const EXTENDS: u8 = 0x80;

    const fn new(kind: TokenKind, extend_when_used: bool) -> Self {
        Self(kind as u8 | if extend_when_used { Self::EXTENDS } else { 0 })
    }

    fn kind(self) -> TokenKind {
        TokenKind::ALL[usize::from(self.0 & !Self::EXTENDS)]
    }

    const fn extends_when_used(self) -> bool {
        self.0 & Self::EXTENDS != 0
    }
}

impl PackedBinding {
    const NONE: u32 = u32::MAX;
    const PASSWORD: u32 = u32::MAX - 1;
    const GOOGLE: u32 = u32::MAX - 2;
    const MICROSOFT: u32 = u32::MAX - 3;
    const GITHUB: u32 = u32::MAX - 4;

    const fn new(binding: Option<MethodBinding>) -> Self {
        Self(match binding {
            None => Self::NONE,
            Some(MethodBinding::Password) => Self::PASSWORD,
            Some(MethodBinding::ThirdParty(ThirdParty::Google)) => Self::GOOGLE,
            Some(MethodBinding::ThirdParty(ThirdParty::Microsoft)) => Self::MICROSOFT,
            Some(MethodBinding::ThirdParty(ThirdParty::GitHub)) => Self::GITHUB,
            Some(MethodBinding::IdentityProvider(index)) => index.0,
        })
    }

    const fn unpack(self) -> Option<MethodBinding> {
        Some(match self.0 {
            Self::NONE => return None,
            Self::PASSWORD => MethodBinding::Password,
            Self::GOOGLE => MethodBinding::ThirdParty(ThirdParty::Google),
            Self::MICROSOFT => MethodBinding::ThirdParty(ThirdParty::Microsoft),
            Self::GITHUB => MethodBinding::ThirdParty(ThirdParty::GitHub),
            number => MethodBinding::IdentityProvider(IdentityProviderIndex(number)),
        })
    }
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
            kind: self.shape.kind(),
            revoked: self.is_revoked(),
            created_at: self.created_at,
            expires_at: self.expires_at(),
            binding: self.binding.unpack(),
            ip_allowlist: restrictions.map_or(&[], |restrictions| &restrictions.ip_allowlist),
            scopes: restrictions.and_then(|restrictions| restrictions.scopes),
        }
    }

    /// The token prefix of an imported token; a token in Postern's own format carries its prefix itself.
    pub fn imported_prefix(&self) -> Option<&str> {
        self.restrictions.as_ref()?.imported_prefix.as_deref()
    }

    /// When it was last used, in seconds since the epoch; `None`: never.
    pub fn last_used_at(&self) -> Option<u32> {
        Some(self.last_used_at.load(Ordering::Relaxed)).filter(|&time| time != 0)
    }

    /// Address and user agent of the last use. Waits for a worker that is just noting one: not for workers.
    pub fn last_used_by(&self) -> (Option<IpAddr>, Option<Arc<UserAgent>>) {
        let address = self.last_address.lock();
        (from_mapped(*address), self.last_user_agent.load_full())
    }

    pub(super) fn new(attributes: TokenAttributes) -> Self {
        let restrictions = match attributes.imported_prefix {
            None => attributes.restrictions,
            prefix => {
                let shared = attributes.restrictions.as_deref().cloned().unwrap_or_default();
                Some(Arc::new(Restrictions { imported_prefix: prefix, ..shared }))
            }
        };
        Self {
            digest: attributes.digest,
            user: attributes.user,
            restrictions,
            created_at: attributes.created_at,
            max_age_seconds: attributes.max_age_seconds.unwrap_or(0),
            number: attributes.number,
            binding: PackedBinding::new(attributes.binding),
            last_used_at: AtomicU32::new(attributes.last_used_at),
            shape: Shape::new(attributes.kind, attributes.extend_when_used),
            state: AtomicU8::new(if attributes.revoked { REVOKED } else { 0 }),
            last_address: Mutex::new(attributes.last_address.map_or(Ipv6Addr::UNSPECIFIED, to_mapped)),
            last_user_agent: ArcSwapOption::new(attributes.last_user_agent),
        }
    }

    pub(super) fn kind(&self) -> TokenKind {
        self.shape.kind()
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
            && self.number == other.number
            && self.binding == other.binding
            && self.shape == other.shape
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
                let address = other.last_address.lock();
                (*address, other.last_user_agent.load_full())
            };
            let mut last_address = self.last_address.lock();
            *last_address = address;
            self.last_user_agent.store(user_agent);
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
            let Some(mut last_address) = self.last_address.try_lock() else {
                std::hint::spin_loop();
                continue;
            };
            if self.last_used_at.load(Ordering::Relaxed) == now {
                *last_address = to_mapped(client);
                self.last_user_agent.store(user_agent);
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
        let start = if self.shape.extends_when_used() {
            self.created_at.max(self.last_used_at.load(Ordering::Relaxed))
        } else {
            self.created_at
        };
        Some(start.saturating_add(self.max_age_seconds))
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
    fn an_entry_with_its_reference_counts_fits_the_allocators_112_bytes() {
        assert!(size_of::<TokenEntry>() + 2 * size_of::<usize>() <= 112, "{}", size_of::<TokenEntry>());
    }

    #[test]
    fn what_is_packed_comes_back() {
        let bindings = [
            None,
            Some(MethodBinding::Password),
            Some(MethodBinding::ThirdParty(ThirdParty::Google)),
            Some(MethodBinding::ThirdParty(ThirdParty::Microsoft)),
            Some(MethodBinding::ThirdParty(ThirdParty::GitHub)),
            Some(MethodBinding::IdentityProvider(IdentityProviderIndex(0))),
            Some(MethodBinding::IdentityProvider(IdentityProviderIndex(70_000))),
        ];
        for binding in bindings {
            assert_eq!(PackedBinding::new(binding).unpack(), binding);
        }
        for kind in TokenKind::ALL {
            for extends in [false, true] {
                let shape = Shape::new(kind, extends);
                assert_eq!((shape.kind(), shape.extends_when_used()), (kind, extends));
            }
        }
    }
}
