//! One token in memory: attributes that decide about it, and its usage, which workers touch without waiting. How
//! entries are found is not known here.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::TokenIndex;
use crate::directory::view::UserIndex;
use crate::policy::facts::IdentityProviderIndex;
use crate::policy::{MethodBinding, PermissionSet, ThirdParty, TokenFacts};
use crate::primitives::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::primitives::{ArcSwapOption, Guard, Mutex};
use crate::token::usage::UserAgent;
use crate::token::{TokenDigest, TokenKind};

/// One token: attributes that decide about it, and its usage.
#[derive(Clone, Copy, Debug)]
pub struct TokenEntry<'a> {
    index: TokenIndex,
    attributes: &'a Attributes,
    usage: &'a Usage,
}

/// What a decision reads of a token: one cache line, that of its last use included.
///
/// Everything is atomic because it lies in a table that readers and the writer share. All but `last_used_at`, `flags` and
/// `restrictions` is written once, before anyone can find the entry.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Attributes {
    digest: [AtomicU64; 4],
    /// Looked at only if the flags say that there are any.
    restrictions: ArcSwapOption<Restrictions>,
    user: AtomicU32,
    number: AtomicU32,
    created_at: AtomicU32,
    /// 0: never ends. A lifetime that was changed later is with the restrictions.
    max_age_seconds: AtomicU32,
    /// 0: never used.
    last_used_at: AtomicU32,
    flags: AtomicU32,
}

/// From where and by what a token was last used, and how often.
#[derive(Debug, Default)]
#[repr(align(32))]
pub(super) struct Usage {
    last: Mutex<LastUse>,
    /// Requests that are not written to the store yet.
    requests: AtomicU32,
}

/// Packed, or the lock and the count beside it would take half as much again: never borrowed, moved as a whole.
#[repr(C, packed(4))]
struct LastUse {
    /// IPv4 as mapped into IPv6; unspecified: unknown.
    address: Ipv6Addr,
    user_agent: Option<Arc<UserAgent>>,
}

impl std::fmt::Debug for LastUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LastUse").finish_non_exhaustive()
    }
}

impl Default for LastUse {
    fn default() -> Self {
        Self { address: Ipv6Addr::UNSPECIFIED, user_agent: None }
    }
}

/// What few tokens have. Equal ones are shared between tokens, except those of imported and of changed ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Restrictions {
    /// Addresses the token may be used from; empty: any.
    pub ip_allowlist: Box<[IpNet]>,
    /// What the token is restricted to; `None`: not restricted.
    pub scopes: Option<PermissionSet>,
    /// The prefix of an imported token: no restriction, but as rare as one.
    imported_prefix: Option<Box<str>>,
    /// The lifetime of a token that was changed after it had become known: all that can change is in one place, so that
    /// no decision sees one half of a change.
    lifetime: Option<Lifetime>,
    /// When the token ends however much it is used, in seconds since the epoch: of sessions and of tokens that are being
    /// rotated out.
    end_time: Option<u32>,
}

/// How long a token lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Lifetime {
    /// 0: for ever.
    max_age_seconds: u32,
    /// Whether it counts from the last use.
    extends_when_used: bool,
}

/// Everything an entry is made from.
#[derive(Clone, Debug)]
pub struct TokenAttributes {
    /// SHA-256 of the whole token.
    pub digest: TokenDigest,
    /// The store's number for the token.
    pub number: u32,
    /// Whose.
    pub user: UserIndex,
    /// Application, personal or session token.
    pub kind: TokenKind,
    /// When it was made, in seconds since the epoch.
    pub created_at: u32,
    /// Lifetime in seconds; `None`: never ends.
    pub max_age_seconds: Option<u32>,
    /// Whether the lifetime counts from the last use.
    pub extend_when_used: bool,
    /// When it ends however much it is used, in seconds since the epoch; `None`: its lifetime alone decides.
    pub end_time: Option<u32>,
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

/// What decides about a token at one moment.
#[derive(Debug)]
pub struct TokenState<'a> {
    attributes: &'a Attributes,
    flags: Flags,
    restrictions: Option<Guard<Option<Arc<Restrictions>>>>,
}

/// What decided about a token at one moment, for later.
#[derive(Clone, Debug)]
pub struct KeptToken {
    flags: Flags,
    created_at: u32,
    expires_at: Option<u32>,
    restrictions: Option<Arc<Restrictions>>,
}

impl KeptToken {
    /// The token's part of the decision's facts.
    pub fn facts(&self) -> TokenFacts<'_> {
        let restrictions = self.restrictions.as_deref();
        TokenFacts {
            kind: self.flags.kind(),
            revoked: self.flags.has(Flags::REVOKED),
            created_at: self.created_at,
            expires_at: self.expires_at,
            binding: self.flags.binding(),
            ip_allowlist: restrictions.map_or(&[], |restrictions| &restrictions.ip_allowlist),
            scopes: restrictions.and_then(|restrictions| restrictions.scopes),
        }
    }
}

impl Restrictions {
    /// An allow-list (empty: any address) and scopes (`None`: any permission).
    pub fn new(ip_allowlist: Box<[IpNet]>, scopes: Option<PermissionSet>) -> Self {
        Self { ip_allowlist, scopes, ..Self::default() }
    }
}

/// Kind, method binding and what is true or false of a token, in four bytes.
///
/// From the lowest bit: two of the kind, four of what is true or false, 26 of the binding (an identity provider by its number, after the
/// numbers of the other methods).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flags(u32);

impl Flags {
    const KIND: u32 = 0b11;
    /// Its lifetime counts from the last use.
    const EXTENDS: u32 = 1 << 2;
    const REVOKED: u32 = 1 << 3;
    /// On the list of usage to be flushed.
    const DIRTY: u32 = 1 << 4;
    /// There are restrictions, or a changed lifetime.
    const RESTRICTED: u32 = 1 << 5;
    const BINDING_SHIFT: u32 = 6;

    const NO_BINDING: u32 = 0;
    const PASSWORD: u32 = 1;
    const GOOGLE: u32 = 2;
    const MICROSOFT: u32 = 3;
    const GITHUB: u32 = 4;
    const FIRST_PROVIDER: u32 = 5;
    const MOST_BINDING: u32 = u32::MAX >> Self::BINDING_SHIFT;

    /// Kind and binding, with nothing else true.
    const fn new(kind: TokenKind, binding: Option<MethodBinding>) -> Self {
        let binding = match binding {
            None => Self::NO_BINDING,
            Some(MethodBinding::Password) => Self::PASSWORD,
            Some(MethodBinding::ThirdParty(ThirdParty::Google)) => Self::GOOGLE,
            Some(MethodBinding::ThirdParty(ThirdParty::Microsoft)) => Self::MICROSOFT,
            Some(MethodBinding::ThirdParty(ThirdParty::GitHub)) => Self::GITHUB,
            Some(MethodBinding::IdentityProvider(index)) => {
                match index.0.checked_add(Self::FIRST_PROVIDER) {
                    Some(number) if number <= Self::MOST_BINDING => number,
                    // Sixty million providers on, a token is bound to none that is allowed.
                    _ => Self::NO_BINDING,
                }
            }
        };
        Self(kind as u32 | binding << Self::BINDING_SHIFT)
    }

    const fn with(self, flag: u32, is_true: bool) -> Self {
        if is_true { Self(self.0 | flag) } else { self }
    }

    const fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }

    fn kind(self) -> TokenKind {
        // Two bits that only `new` writes.
        TokenKind::ALL.get((self.0 & Self::KIND) as usize).copied().unwrap_or(TokenKind::Session)
    }

    const fn binding(self) -> Option<MethodBinding> {
        Some(match self.0 >> Self::BINDING_SHIFT {
            Self::NO_BINDING => return None,
            Self::PASSWORD => MethodBinding::Password,
            Self::GOOGLE => MethodBinding::ThirdParty(ThirdParty::Google),
            Self::MICROSOFT => MethodBinding::ThirdParty(ThirdParty::Microsoft),
            Self::GITHUB => MethodBinding::ThirdParty(ThirdParty::GitHub),
            number => MethodBinding::IdentityProvider(IdentityProviderIndex(number - Self::FIRST_PROVIDER)),
        })
    }
}

impl Attributes {
    /// Whether they are those of the token with this digest.
    #[inline]
    pub(super) fn are_of(&self, digest: &TokenDigest) -> bool {
        // Not one after another: the four comparisons become one.
        let differing = self
            .digest
            .iter()
            .zip(digest.words())
            .fold(0, |differing, (ours, word)| differing | (ours.load(Ordering::Relaxed) ^ word));
        differing == 0
    }

    fn flags(&self) -> Flags {
        Flags(self.flags.load(Ordering::Acquire))
    }

    fn set(&self, flag: u32) -> Flags {
        Flags(self.flags.fetch_or(flag, Ordering::AcqRel))
    }
}

impl Usage {
    /// Asks for the memory that noting a use will write, so that it comes together with the attributes and not after
    /// them: noting begins with a locked instruction, which waits for what it needs.
    #[inline]
    pub(super) fn bring_near(&self) {
        std::hint::black_box(self.last.is_locked());
    }
}

impl<'a> TokenEntry<'a> {
    #[inline]
    pub(super) const fn new(index: TokenIndex, attributes: &'a Attributes, usage: &'a Usage) -> Self {
        Self { index, attributes, usage }
    }

    /// The entry's place in its cache.
    pub const fn index(self) -> TokenIndex {
        self.index
    }

    /// Whose token it is.
    #[inline]
    pub fn user(self) -> UserIndex {
        UserIndex(self.attributes.user.load(Ordering::Relaxed))
    }

    /// What decides about the token now.
    #[inline]
    pub fn state(self) -> TokenState<'a> {
        let flags = self.attributes.flags();
        let restrictions = flags.has(Flags::RESTRICTED).then(|| self.attributes.restrictions.load());
        TokenState { attributes: self.attributes, flags, restrictions }
    }

    /// When it was last used, in seconds since the epoch; `None`: never.
    pub fn last_used_at(self) -> Option<u32> {
        Some(self.attributes.last_used_at.load(Ordering::Relaxed)).filter(|&time| time != 0)
    }

    /// Address and user agent of the last use. Waits for a worker that is just noting one: not for workers.
    pub fn last_used_by(self) -> (Option<IpAddr>, Option<Arc<UserAgent>>) {
        let mut last = self.usage.last.lock();
        let LastUse { address, user_agent } = std::mem::take(&mut *last);
        *last = LastUse { address, user_agent: user_agent.clone() };
        (from_mapped(address), user_agent)
    }

    /// Requests of this token that the store has not been told of yet. What workers have counted within the last quarter
    /// of a second may be missing.
    pub fn requests_unwritten(self) -> u32 {
        self.usage.requests.load(Ordering::Relaxed)
    }

    pub(super) fn kind(self) -> TokenKind {
        self.attributes.flags().kind()
    }

    pub(super) fn is_revoked(self) -> bool {
        self.attributes.flags().has(Flags::REVOKED)
    }

    /// Fills a blank entry that nobody can find yet.
    pub(super) fn fill(self, new: TokenAttributes) {
        let into = self.attributes;
        for (ours, word) in into.digest.iter().zip(new.digest.words()) {
            ours.store(word, Ordering::Relaxed);
        }
        into.user.store(new.user.0, Ordering::Relaxed);
        into.number.store(new.number, Ordering::Relaxed);
        into.created_at.store(new.created_at, Ordering::Relaxed);
        into.max_age_seconds.store(new.max_age_seconds.unwrap_or(0), Ordering::Relaxed);
        into.last_used_at.store(new.last_used_at, Ordering::Relaxed);
        let restrictions = match (new.imported_prefix, new.end_time) {
            (None, None) => new.restrictions,
            (imported_prefix, end_time) => {
                let shared = new.restrictions.as_deref().cloned().unwrap_or_default();
                Some(Arc::new(Restrictions { imported_prefix, end_time, ..shared }))
            }
        };
        let flags = Flags::new(new.kind, new.binding)
            .with(Flags::EXTENDS, new.extend_when_used)
            .with(Flags::REVOKED, new.revoked)
            .with(Flags::RESTRICTED, restrictions.is_some());
        if restrictions.is_some() {
            into.restrictions.store(restrictions);
        }
        into.flags.store(flags.0, Ordering::Release);
        *self.usage.last.lock() = LastUse::new(new.last_address, new.last_user_agent);
    }

    /// Brings the entry to other attributes of the same token. Each decision sees all of a change or nothing of it;
    /// revocation goes first and is never taken back. For one caller at a time.
    pub(super) fn change(self, new: TokenAttributes) {
        let into = self.attributes;
        if new.revoked {
            into.set(Flags::REVOKED);
        }
        let now = self.state();
        let then = Restrictions {
            imported_prefix: new.imported_prefix,
            end_time: new.end_time,
            lifetime: Some(Lifetime {
                max_age_seconds: new.max_age_seconds.unwrap_or(0),
                extends_when_used: new.extend_when_used,
            }),
            ..new.restrictions.as_deref().cloned().unwrap_or_default()
        };
        let is_same = then.lifetime == Some(now.lifetime())
            && match now.restrictions() {
                Some(now) => *now == Restrictions { lifetime: now.lifetime, ..then.clone() },
                None => then == Restrictions { lifetime: then.lifetime, ..Restrictions::default() },
            };
        drop(now);
        if !is_same {
            into.restrictions.store(Some(Arc::new(then)));
            into.set(Flags::RESTRICTED);
        }
        // Kind, and a binding whose method is gone. Workers may be setting other flags at the same moment.
        let named = Flags::new(new.kind, new.binding).0;
        let others = Flags::EXTENDS | Flags::REVOKED | Flags::DIRTY | Flags::RESTRICTED;
        into.flags.update(Ordering::AcqRel, Ordering::Acquire, |flags| flags & others | named);
        // A store never changes these of a token; should one do so, the new ones count.
        into.user.store(new.user.0, Ordering::Relaxed);
        into.number.store(new.number, Ordering::Relaxed);
        into.created_at.store(new.created_at, Ordering::Relaxed);
        if into.last_used_at.fetch_max(new.last_used_at, Ordering::AcqRel) < new.last_used_at {
            let mut last = self.usage.last.lock();
            if into.last_used_at.load(Ordering::Relaxed) == new.last_used_at {
                *last = LastUse::new(new.last_address, new.last_user_agent);
            }
        }
    }

    /// Whether a use in this second, or in a later one, has been noted.
    #[inline]
    pub(in crate::token) fn is_noted(self, now: u32) -> bool {
        self.attributes.last_used_at.load(Ordering::Relaxed) >= now
    }

    /// Notes a use. Returns whether the entry must now be put on the list of those to be flushed.
    pub(in crate::token) fn note(
        self,
        now: u32,
        client: IpAddr,
        user_agent: impl FnOnce() -> Option<Arc<UserAgent>>,
    ) -> bool {
        if self.attributes.last_used_at.fetch_max(now, Ordering::AcqRel) >= now {
            return false;
        }
        let user_agent = user_agent();
        // A flush may be reading them at this very moment, for nanoseconds: try a little, but never wait.
        for _ in 0..16 {
            let Some(mut last) = self.usage.last.try_lock() else {
                std::hint::spin_loop();
                continue;
            };
            if self.attributes.last_used_at.load(Ordering::Relaxed) == now {
                *last = LastUse { address: to_mapped(client), user_agent };
            }
            break;
        }
        self.mark_dirty()
    }

    /// Marks the entry as one to be flushed; returns whether it was not marked before.
    pub(in crate::token) fn mark_dirty(self) -> bool {
        !self.attributes.set(Flags::DIRTY).has(Flags::DIRTY)
    }

    /// Takes the mark away. What is read of the usage afterwards includes all that was noted under the mark.
    pub(in crate::token) fn clear_dirty(self) {
        self.attributes.flags.fetch_and(!Flags::DIRTY, Ordering::SeqCst);
    }

    /// Adds requests to those that the store has yet to be told of. Returns whether the entry must now be put on the
    /// list of those to be flushed.
    ///
    /// This writes the count and then reads the mark; a flush takes the mark away and then reads the count. In the one
    /// order of all four, one of the two sees the other: no count stays behind.
    pub(in crate::token) fn add_requests(self, count: u32) -> bool {
        let before = self.usage.requests.fetch_add(count, Ordering::SeqCst);
        if before.checked_add(count).is_none() {
            // Four billion requests while the store was away: the count stands still rather than start anew.
            self.usage.requests.store(u32::MAX, Ordering::SeqCst);
        }
        let is_marked = Flags(self.attributes.flags.load(Ordering::SeqCst)).has(Flags::DIRTY);
        !is_marked && self.mark_dirty()
    }

    /// The requests that the store has yet to be told of: whoever takes them tells it, or adds them again.
    pub(in crate::token) fn take_requests(self) -> u32 {
        self.usage.requests.swap(0, Ordering::SeqCst)
    }

    /// The store's number for the token.
    pub fn store_number(self) -> u32 {
        self.attributes.number.load(Ordering::Relaxed)
    }
}

impl TokenState<'_> {
    /// The token's part of a decision's facts.
    #[inline]
    pub fn facts(&self) -> TokenFacts<'_> {
        let restrictions = self.restrictions();
        TokenFacts {
            kind: self.flags.kind(),
            revoked: self.flags.has(Flags::REVOKED),
            created_at: self.attributes.created_at.load(Ordering::Relaxed),
            expires_at: self.expires_at(),
            binding: self.flags.binding(),
            ip_allowlist: restrictions.map_or(&[], |restrictions| &restrictions.ip_allowlist),
            scopes: restrictions.and_then(|restrictions| restrictions.scopes),
        }
    }

    /// The same, to be kept longer than for one decision.
    pub fn to_kept(&self) -> KeptToken {
        KeptToken {
            flags: self.flags,
            created_at: self.attributes.created_at.load(Ordering::Relaxed),
            expires_at: self.expires_at(),
            restrictions: self.restrictions.as_ref().and_then(|restrictions| Option::clone(restrictions)),
        }
    }

    /// The token prefix of an imported token; a token in Postern's own format carries its prefix itself.
    #[inline]
    pub fn imported_prefix(&self) -> Option<&str> {
        self.restrictions()?.imported_prefix.as_deref()
    }

    fn restrictions(&self) -> Option<&Restrictions> {
        self.restrictions.as_ref()?.as_deref()
    }

    fn lifetime(&self) -> Lifetime {
        let changed = self.restrictions().and_then(|restrictions| restrictions.lifetime);
        changed.unwrap_or_else(|| Lifetime {
            max_age_seconds: self.attributes.max_age_seconds.load(Ordering::Relaxed),
            extends_when_used: self.flags.has(Flags::EXTENDS),
        })
    }

    fn expires_at(&self) -> Option<u32> {
        match self.restrictions().and_then(|restrictions| restrictions.end_time) {
            None => self.outlived_at(),
            Some(end_time) => Some(self.outlived_at().map_or(end_time, |outlived| outlived.min(end_time))),
        }
    }

    /// When its lifetime is over.
    fn outlived_at(&self) -> Option<u32> {
        let lifetime = self.lifetime();
        if lifetime.max_age_seconds == 0 {
            return None;
        }
        let created_at = self.attributes.created_at.load(Ordering::Relaxed);
        let start = if lifetime.extends_when_used {
            created_at.max(self.attributes.last_used_at.load(Ordering::Relaxed))
        } else {
            created_at
        };
        Some(start.saturating_add(lifetime.max_age_seconds))
    }
}

impl LastUse {
    fn new(address: Option<IpAddr>, user_agent: Option<Arc<UserAgent>>) -> Self {
        Self { address: address.map_or(Ipv6Addr::UNSPECIFIED, to_mapped), user_agent }
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
    fn what_a_decision_reads_is_one_cache_line_and_usage_half_of_one() {
        assert_eq!((size_of::<Attributes>(), align_of::<Attributes>()), (64, 64));
        assert_eq!(size_of::<Usage>(), 32);
    }

    #[test]
    fn what_is_packed_comes_back() {
        let providers = [0, 70_000, Flags::MOST_BINDING - Flags::FIRST_PROVIDER];
        let bindings = [
            None,
            Some(MethodBinding::Password),
            Some(MethodBinding::ThirdParty(ThirdParty::Google)),
            Some(MethodBinding::ThirdParty(ThirdParty::Microsoft)),
            Some(MethodBinding::ThirdParty(ThirdParty::GitHub)),
        ]
        .into_iter()
        .chain(providers.map(|number| Some(MethodBinding::IdentityProvider(IdentityProviderIndex(number)))));
        for binding in bindings {
            for kind in TokenKind::ALL {
                let flags = Flags::new(kind, binding).with(Flags::REVOKED, true);
                assert_eq!((flags.kind(), flags.binding()), (kind, binding));
                assert!(flags.has(Flags::REVOKED) && !flags.has(Flags::EXTENDS | Flags::RESTRICTED));
            }
        }
        for number in [Flags::MOST_BINDING, u32::MAX] {
            let binding = Some(MethodBinding::IdentityProvider(IdentityProviderIndex(number)));
            assert_eq!(Flags::new(TokenKind::Session, binding).binding(), None);
        }
    }
}
