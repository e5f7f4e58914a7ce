//! From the store to the view: a consistent snapshot at start-up, then the log of changes, applied in its order by one
//! applier. A change names what changed; the applier reads the present state of it, so that applying twice does no
//! harm and many changes of one thing cost one.
//!
//! Everything here blocks and belongs on control threads. When it runs is the caller's business.

mod convert;
mod load;
mod numbers;
mod state;
mod touched;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::error::StoreError;
use super::model::Sequence;
use super::store::Store;
use super::view::DirectoryView;
use crate::policy::AuthenticationPolicy;
use crate::token::{TokenDigest, TokenEntry};
use state::State;

/// Changes read at once.
const BATCH: u32 = 1_000;

/// Authentication policies that win over the store's, by organization id.
pub type PinnedPolicies = std::collections::HashMap<String, AuthenticationPolicy>;

/// Keeps a view in step with a store.
#[derive(Debug)]
pub struct Synchronizer {
    store: Arc<dyn Store>,
    view: Arc<DirectoryView>,
    applier: Mutex<Applier>,
}

/// What the one who applies changes remembers; whoever holds the lock is that one.
#[derive(Debug)]
struct Applier {
    state: State,
    /// The store's version at the last look; `None`: look again in any case.
    version: Option<u64>,
}

impl Synchronizer {
    /// Loads the whole directory into a new view.
    ///
    /// # Errors
    ///
    /// If the store fails. Records that cannot be read are no error: they are closed, logged and counted.
    pub fn start(
        store: Arc<dyn Store>,
        pinned: PinnedPolicies,
    ) -> Result<(Self, Arc<DirectoryView>), StoreError> {
        let view = Arc::new(DirectoryView::default());
        let state = load::load(&*store, State::new(Arc::clone(&view), pinned))?;
        view.status.followed(state.sequence());
        let applier = Mutex::new(Applier { state, version: None });
        Ok((Self { store, view: Arc::clone(&view), applier }, view))
    }

    /// Applies what has changed in the store since the last call, by whomever. Returns at once if nothing has: to be
    /// called many times a second.
    ///
    /// # Errors
    ///
    /// If the store fails; the view then stays as it was, and the next call goes on from there.
    pub fn apply_pending(&self) -> Result<Sequence, StoreError> {
        let result = self.applier.lock().apply_pending(&*self.store);
        self.note(result)
    }

    /// Applies changes at least up to this sequence, that of a change just made. Only then may the change be
    /// acknowledged.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn apply_through(&self, sequence: Sequence) -> Result<(), StoreError> {
        let mut applier = self.applier.lock();
        if applier.state.sequence() >= sequence {
            return Ok(());
        }
        let result = applier.apply_tail(&*self.store);
        drop(applier);
        self.note(result).map(drop)
    }

    /// Lets a policy win over the store's for an organization, or the store's rule again. In force at once.
    pub fn pin_policy(&self, organization_id: &str, policy: Option<AuthenticationPolicy>) {
        self.applier.lock().state.pin_policy(organization_id, policy);
    }

    /// Sequence of the last change the view shows.
    pub fn sequence(&self) -> Sequence {
        self.view.status.sequence()
    }

    /// How long ago the view was last known to be in step with the store.
    pub fn age(&self) -> Duration {
        self.view.status.age()
    }

    /// The store that is followed.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The entry of the token with this prefix: what a decision about it is made from.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn token_by_prefix(&self, prefix: &str) -> Result<Option<TokenEntry<'_>>, StoreError> {
        let digest: Option<TokenDigest> =
            self.store.read(|records| Ok(records.token(prefix)?.map(|found| found.token.digest)))?;
        Ok(digest.and_then(|digest| self.view.tokens.find(&digest)))
    }

    fn note(&self, result: Result<Sequence, StoreError>) -> Result<Sequence, StoreError> {
        match &result {
            Ok(sequence) => self.view.status.followed(*sequence),
            Err(_) => self.view.status.failed(),
        }
        result
    }
}

impl Applier {
    fn apply_pending(&mut self, store: &dyn Store) -> Result<Sequence, StoreError> {
        // Asked before reading: what is written in between is seen the next time.
        let version = store.version()?;
        if self.version != Some(version) {
            self.apply_tail(store)?;
            self.version = Some(version);
        }
        Ok(self.state.sequence())
    }

    fn apply_tail(&mut self, store: &dyn Store) -> Result<Sequence, StoreError> {
        loop {
            let mut applied = 0;
            store.follow_with(&mut |records| {
                let (applied_before, last) = (self.state.sequence(), records.sequence()?);
                if last < applied_before {
                    let (path, found, applied) = (store.location().into(), last.0, applied_before.0);
                    return Err(StoreError::Rewound { path, found, applied });
                }
                let changes = records.changes_after(applied_before, BATCH)?;
                applied = changes.len();
                self.state.apply(records, &changes)
            })?;
            if applied < BATCH as usize {
                return Ok(self.state.sequence());
            }
        }
    }
}
