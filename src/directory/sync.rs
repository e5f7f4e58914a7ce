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
use super::store::{Change, ChangeMark, Records, Store};
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
    /// What the log has where the last change was applied from; `None`: not known.
    mark: Option<ChangeMark>,
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
        let applier = Mutex::new(Applier { state, version: None, mark: None });
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
        // Even if a change with this number has been applied: in a store that was put back, it was another one.
        let result = self.applier.lock().apply_tail(&*self.store);
        let reached = self.note(result)?;
        if reached < sequence {
            let (path, found, applied) = (self.store.location().into(), reached.0, sequence.0);
            return Err(StoreError::Rewound { path, found, applied });
        }
        Ok(())
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
                if last < applied_before || self.has_another_past(records)? {
                    let (path, found, applied) = (store.location().into(), last.0, applied_before.0);
                    return Err(StoreError::Rewound { path, found, applied });
                }
                let changes = records.changes_after(applied_before, BATCH)?;
                if !is_unbroken(&changes, applied_before, last) {
                    return Err(StoreError::Truncated {
                        path: store.location().into(),
                        applied: applied_before.0,
                        last: last.0,
                    });
                }
                // First, so that it fits the sequence whatever fails.
                let mark =
                    records.change_mark(changes.last().map_or(applied_before, |last| last.sequence))?;
                self.state.apply(records, &changes)?;
                self.mark = mark;
                applied = changes.len();
                Ok(())
            })?;
            if applied < BATCH as usize {
                return Ok(self.state.sequence());
            }
        }
    }

    /// Whether the log has something else where the last change was applied from: it was put back to an earlier state, and has gone on
    /// from there.
    fn has_another_past(&self, records: &dyn Records) -> Result<bool, StoreError> {
        let Some(ours) = &self.mark else { return Ok(false) };
        // An entry that is gone tells nothing: what matters is that none after it is.
        Ok(records.change_mark(self.state.sequence())?.is_some_and(|theirs| theirs != *ours))
    }
}

/// Whether these are all the changes after `applied`: as many as are read at once, or all up to the last. Nothing but somebody's
/// hand leaves a number out.
fn is_unbroken(changes: &[Change], applied: Sequence, last: Sequence) -> bool {
    let has_no_gap = changes.iter().zip(applied.0 + 1..).all(|(change, next)| change.sequence.0 == next);
    let end = changes.last().map_or(applied, |change| change.sequence);
    has_no_gap && (end == last || changes.len() == BATCH as usize)
}
