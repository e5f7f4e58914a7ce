//! The directory in memory, as workers see it: one cell per user, organization and project, each swapped whole
//! when it changes, so that one change costs one cell. Workers only read.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use dashmap::DashMap;
use http::HeaderValue;
use smallvec::SmallVec;

use crate::directory::candidate::Candidate;
use crate::directory::model::{Resource, Sequence};
use crate::policy::facts::{OrganizationIndex, ResourceIndex, UserKind, UserState};
use crate::policy::{
    AuthenticationPolicy, ExpandedGrant, IdentityProviderFacts, Membership, OrganizationFacts, UserFacts,
};
use crate::slab::Slab;
use crate::token::TokenCache;
use crate::token::usage::UsageLog;

/// Everything a worker needs of the directory.
#[derive(Debug, Default)]
pub struct DirectoryView {
    /// Digest → token.
    pub tokens: TokenCache,
    /// The users that tokens point at.
    pub users: UserTable,
    /// Tokens used since the last flush.
    pub usage: UsageLog,
    /// How well the view follows the store.
    pub status: DirectoryStatus,
    projects: DashMap<Box<str>, Arc<ProjectCell>>,
    /// Organizations and units, for questions about them rather than about a project in them.
    places: DashMap<Resource, Arc<ProjectEntry>>,
}

impl DirectoryView {
    /// The cell of the project with this name; made empty if the directory does not know the project (yet), so
    /// that a route can hold the cell for as long as it lives.
    pub fn project(&self, name: &str) -> Arc<ProjectCell> {
        if let Some(cell) = self.projects.get(name) {
            return Arc::clone(&cell);
        }
        Arc::clone(&self.projects.entry(name.into()).or_default())
    }

    /// A resource and what is above it, as of the last change; `None`: the directory does not know it. The cell is the
    /// caller's own: it does not follow later changes.
    pub fn resource(&self, resource: &Resource) -> Option<ProjectCell> {
        let entry = match resource {
            Resource::Project(name) => self.projects.get(name.as_str())?.current.load_full()?,
            Resource::Organization(_) | Resource::OrganizationUnit(_) => {
                Arc::clone(&*self.places.get(resource)?)
            }
        };
        Some(ProjectCell { current: ArcSwapOption::from(Some(entry)) })
    }

    /// An organization's place; `None`: the directory does not know it.
    pub fn organization(&self, id: &str) -> Option<Arc<OrganizationCell>> {
        let place = self.places.get(&Resource::Organization(id.to_owned()))?;
        Some(Arc::clone(&place.organization))
    }

    pub(super) fn put_place(&self, resource: Resource, entry: ProjectEntry) {
        self.places.insert(resource, Arc::new(entry));
    }

    pub(super) fn remove_place(&self, resource: &Resource) {
        self.places.remove(resource);
    }
}

/// How well the view follows the store: what metrics and readiness ask for.
#[derive(Debug)]
pub struct DirectoryStatus {
    sequence: AtomicU64,
    errors: AtomicU64,
    followed: ArcSwap<Instant>,
    /// How old it may become, in milliseconds; [`u64::MAX`]: as old as it likes.
    allowed_age: AtomicU64,
}

impl Default for DirectoryStatus {
    fn default() -> Self {
        Self {
            sequence: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            followed: ArcSwap::from_pointee(Instant::now()),
            allowed_age: AtomicU64::new(u64::MAX),
        }
    }
}

impl DirectoryStatus {
    /// Sequence of the last change the view shows.
    pub fn sequence(&self) -> Sequence {
        Sequence(self.sequence.load(Ordering::Acquire))
    }

    /// How long ago the view was last known to be in step with the store.
    pub fn age(&self) -> Duration {
        self.followed.load().elapsed()
    }

    /// Whether that is longer ago than is allowed.
    pub fn is_stale(&self) -> bool {
        let allowed = self.allowed_age.load(Ordering::Relaxed);
        allowed != u64::MAX && self.age() > Duration::from_millis(allowed)
    }

    /// Says how long ago it may be; `None`: as long as it likes.
    pub fn allow_age(&self, allowed: Option<Duration>) {
        let milliseconds = allowed.map_or(u64::MAX, |it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX));
        self.allowed_age.store(milliseconds, Ordering::Relaxed);
    }

    /// How many times the store failed, or had a record that could not be read, since the process started.
    pub fn errors_total(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    pub(super) fn followed(&self, sequence: Sequence) {
        self.sequence.store(sequence.0, Ordering::Release);
        self.followed.store(Arc::new(Instant::now()));
    }

    pub(super) fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }
}

/// Number by which tokens name their user. Never leaves the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UserIndex(pub u32);

/// Every user as of its last change, each in a cell of its own, side by side: a decision follows one pointer.
#[derive(Debug, Default)]
pub struct UserTable(Slab<ArcSwapOption<UserEntry>>);

impl UserTable {
    /// The user as it is now. A number that nobody has is that of a deactivated user.
    #[inline]
    pub fn current(&self, user: UserIndex) -> CurrentUser {
        CurrentUser(self.0.get(user.0 as usize).map(ArcSwapOption::load))
    }

    /// Makes room for this many users.
    pub(super) fn reserve(&self, count: usize) {
        self.0.reserve(count);
    }

    /// Puts a user in force.
    pub(super) fn put(&self, user: UserIndex, entry: UserEntry) {
        self.0.at_or_blank(user.0 as usize).store(Some(Arc::new(entry)));
    }
}

/// A user at one moment.
#[derive(Debug)]
pub struct CurrentUser(Option<Guard<Option<Arc<UserEntry>>>>);

impl Deref for CurrentUser {
    type Target = UserEntry;

    #[inline]
    fn deref(&self) -> &UserEntry {
        self.entry()
    }
}

impl CurrentUser {
    #[inline]
    fn entry(&self) -> &Arc<UserEntry> {
        self.0.as_ref().and_then(|guard| guard.as_ref()).unwrap_or_else(|| &NOBODY)
    }

    /// The same, to be kept longer than for one decision.
    pub fn to_kept(&self) -> Arc<UserEntry> {
        Arc::clone(self.entry())
    }
}

/// Whose tokens open nothing.
static NOBODY: LazyLock<Arc<UserEntry>> = LazyLock::new(|| {
    Arc::new(UserEntry {
        id: HeaderValue::from_static("unknown"),
        kind: UserKind::ApplicationUser,
        state: UserState::Deactivated,
        token_validity_begin: 0,
        two_factor_enabled: false,
        memberships: SmallVec::new(),
        grants: SmallVec::new(),
    })
});

/// A user with everything a decision needs to know of it, grants expanded.
#[derive(Clone, Debug)]
pub struct UserEntry {
    /// The user id, as the upstream is told it.
    pub id: HeaderValue,
    /// Person or program.
    pub kind: UserKind,
    /// Active, deactivated or deleted.
    pub state: UserState,
    /// Tokens created before this second are void.
    pub token_validity_begin: u32,
    /// Whether two-factor authentication is set up.
    pub two_factor_enabled: bool,
    /// Organizations the user belongs to.
    pub memberships: SmallVec<[Membership; 1]>,
    /// Direct grants and those through groups, one per resource; most users' lie within the entry, one memory access less.
    pub grants: SmallVec<[ExpandedGrant; 2]>,
}

impl UserEntry {
    /// The user's part of a decision's facts.
    pub fn facts(&self) -> UserFacts<'_> {
        UserFacts {
            kind: self.kind,
            state: self.state,
            token_validity_begin: self.token_validity_begin,
            two_factor_enabled: self.two_factor_enabled,
            memberships: &self.memberships,
            grants: &self.grants,
        }
    }
}

/// A project's place in memory; routes point at it.
#[derive(Debug, Default)]
pub struct ProjectCell {
    /// The project as of the last change; `None` while the directory does not know it.
    pub current: ArcSwapOption<ProjectEntry>,
}

/// A project, or another resource that grants can be made on, and what is above it.
#[derive(Debug)]
pub struct ProjectEntry {
    /// The owning organization.
    pub organization: Arc<OrganizationCell>,
    /// The resource itself, the units above it from the inside out, and the organization.
    pub resource_chain: SmallVec<[ResourceIndex; 4]>,
}

/// An organization's place in memory.
#[derive(Debug)]
pub struct OrganizationCell {
    /// Number by which memberships name it.
    pub index: OrganizationIndex,
    /// The organization id, as the upstream is told it.
    pub id: HeaderValue,
    /// Name and policy as of the last change.
    pub current: ArcSwap<OrganizationEntry>,
}

/// An organization with its policy in force.
#[derive(Debug)]
pub struct OrganizationEntry {
    /// Name as people know it, for messages.
    pub name: Box<str>,
    /// The policy in force: the configuration's if it pins one, else the store's.
    pub policy: AuthenticationPolicy,
    /// The organization's own identity providers.
    pub identity_providers: Box<[IdentityProviderFacts]>,
    /// A policy that is tried on real requests; `None`: none is.
    pub candidate: Option<Arc<Candidate>>,
}

impl OrganizationEntry {
    /// The organization's part of a decision's facts.
    pub fn facts(&self, index: OrganizationIndex) -> OrganizationFacts<'_> {
        OrganizationFacts { index, policy: &self.policy, identity_providers: &self.identity_providers }
    }
}
