//! What the keeper does now and then: removing old entries of the event log, telling new ones to the program's log, and
//! revoking tokens that nobody uses. Each in small steps, so that no change waits long behind one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clock::ClockWatch;
use crate::config::{EventsConfig, TokensConfig};
use crate::directory::model::{Event, Timestamp};
use crate::directory::stale::{StalePage, StalePlace, stale_tokens};
use crate::directory::store::{EventOrder, EventQuery, EventScope};
use crate::directory::{
    Author, AuthoredStore, Channel, DirectoryView, OperationError, Store, StoreError, operations,
};

/// How often old entries are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// Entries removed at once.
const PRUNED_AT_ONCE: u32 = 500;
/// How often unused tokens are looked for. Not at the start: a clock that is wrong after a boot would end all of them.
const EXPIRE_EVERY: Duration = Duration::from_secs(3_600);
/// Tokens looked at for revocation at once.
const EXPIRED_AT_ONCE: usize = 200;
/// Entries told to the log at once.
const MIRRORED_AT_ONCE: u32 = 500;

/// What the configuration in force wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) events: EventsConfig,
    pub(super) tokens: TokensConfig,
}

/// When what was done last.
#[derive(Debug)]
pub(super) struct Housekeeping {
    wanted: Wanted,
    clock: ClockWatch,
    /// Whether the clock is believed about ages.
    ages_are_believed: bool,
    prune_at: Instant,
    expire_at: Instant,
    /// Where the search for unused tokens goes on; `None`: it starts anew.
    expire_after: Option<StalePlace>,
    /// The last entry that was told; `None`: what is there when it is asked for first has been told.
    mirrored: Option<u64>,
}

impl Housekeeping {
    pub(super) fn new(wanted: Wanted) -> Self {
        let now = Instant::now();
        Self {
            wanted,
            clock: ClockWatch::new(Timestamp::now(), now),
            ages_are_believed: true,
            prune_at: now,
            expire_at: now + EXPIRE_EVERY,
            expire_after: None,
            mirrored: None,
        }
    }

    /// Looks at the clock, as often as anything is done by it.
    pub(super) fn look_at_clock(&mut self) {
        self.ages_are_believed = self.clock.look(Timestamp::now(), Instant::now());
    }

    /// Takes up another configuration, and looks at once: somebody is there who wants to see what it does.
    pub(super) fn declare(&mut self, wanted: Wanted) {
        self.wanted = wanted;
        self.prune_at = Instant::now();
        self.expire_at = Instant::now();
        self.expire_after = None;
    }

    /// Removes some of what is older than the retention.
    pub(super) fn prune(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        let Some(retention) = self.wanted.events.retention else { return Ok(()) };
        if !self.ages_are_believed || Instant::now() < self.prune_at {
            return Ok(());
        }
        // If the store fails, it is not asked again at once.
        self.prune_at = Instant::now() + PRUNE_EVERY;
        let removed = match store.prune_events(before_now(retention), PRUNED_AT_ONCE) {
            // Somebody else writes for long: what is old can wait.
            Err(StoreError::Locked { .. }) => return Ok(()),
            removed => removed?,
        };
        if removed == PRUNED_AT_ONCE as usize {
            self.prune_at = Instant::now();
        }
        Ok(())
    }

    /// Tells new entries of the event log, whoever wrote them, to the program's log.
    pub(super) fn mirror(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        if !self.wanted.events.mirror {
            self.mirrored = None;
            return Ok(());
        }
        let Some(after) = self.mirrored else {
            self.mirrored = Some(store.read(|records| records.last_event())?);
            return Ok(());
        };
        let page = store.read(|records| {
            if records.last_event()? <= after {
                return Ok(None);
            }
            let query = EventQuery {
                scope: EventScope::All,
                order: EventOrder::OldestFirst { after },
                event_type: None,
                actor_user_id: None,
                entity: None,
                entity_id: None,
                token_prefix: None,
                since: None,
                until: None,
                limit: MIRRORED_AT_ONCE,
            };
            records.events(&query).map(Some)
        })?;
        for event in page.iter().flat_map(|page| &page.events) {
            tell(event);
            self.mirrored = Some(event.number);
        }
        Ok(())
    }

    /// Whether unused tokens are to be looked for now: usage must have been written before.
    pub(super) fn wants_to_expire(&self) -> bool {
        let is_wanted = self.wanted.tokens.expire_unused_after.is_some();
        is_wanted && self.ages_are_believed && Instant::now() >= self.expire_at
    }

    /// Revokes some of the organization's tokens that have not been used for too long; returns whether any was.
    pub(super) fn expire(
        &mut self,
        store: &Arc<dyn Store>,
        view: &DirectoryView,
        organization_id: &str,
    ) -> Result<bool, OperationError> {
        self.expire_at = Instant::now() + EXPIRE_EVERY;
        let Some(unused_for) = self.wanted.tokens.expire_unused_after else { return Ok(false) };
        let Some(organization) = view.organization(organization_id) else { return Ok(false) };
        let (now, unused_since) = (Timestamp::now(), before_now(unused_for));
        let page = StalePage { after: self.expire_after, limit: EXPIRED_AT_ONCE };
        let stale = stale_tokens(view, &organization, unused_since, now, |_| true, page);
        self.expire_after = stale.listed.last().copied().filter(|_| stale.has_more);
        if stale.has_more {
            self.expire_at = Instant::now();
        }
        let numbers: Vec<u32> = stale.listed.iter().map(|place| place.number).collect();
        if numbers.is_empty() {
            return Ok(false);
        }
        let store = AuthoredStore::new(Arc::clone(store), Author::of(Channel::System));
        let revoked =
            operations::revoke_unused_tokens(&store, organization_id, &numbers, unused_since, now)?.value;
        for found in &revoked {
            tracing::info!(
                token_prefix = found.token.token_prefix,
                user_id = found.token.user_id,
                last_used = found.usage.as_ref().map(|usage| usage.last_used_time.to_string()),
                "revoked a token that nobody has used for long (tokens.expire_unused_after_days)"
            );
        }
        Ok(!revoked.is_empty())
    }
}

fn before_now(duration: Duration) -> Timestamp {
    let seconds = u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    Timestamp(Timestamp::now().0.saturating_sub(seconds))
}

/// One line of the program's log. Everything goes as a field that is escaped: names are what somebody made up.
fn tell(event: &Event) {
    let text = |value: &Option<serde_json::Value>| value.as_ref().map(ToString::to_string);
    tracing::info!(
        target: "postern::events",
        number = event.number,
        event_time = event.event_time.to_string(),
        organization_id = event.organization_id,
        event_type = event.event_type,
        channel = event.channel,
        actor_user_id = event.actor_user_id,
        actor_token_prefix = event.actor_token_prefix,
        actor_address = event.actor_address,
        request_id = event.request_id,
        entity = event.entity,
        entity_id = event.entity_id,
        before = text(&event.before),
        after = text(&event.after),
        "event"
    );
}
