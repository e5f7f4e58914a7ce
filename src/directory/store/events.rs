//! What is asked of the event log, and what is written to it.

use crate::directory::model::{Event, Timestamp};

/// Which entries of the event log.
#[derive(Clone, Copy, Debug)]
pub struct EventQuery<'a> {
    /// Whose.
    pub scope: EventScope<'a>,
    /// In which order, and from where on.
    pub order: EventOrder,
    /// Of this type.
    pub event_type: Option<&'a str>,
    /// Done by this user.
    pub actor_user_id: Option<&'a str>,
    /// That happened to this kind of thing.
    pub entity: Option<&'a str>,
    /// That happened to the thing with this id.
    pub entity_id: Option<&'a str>,
    /// Done with the token with this prefix, or to it.
    pub token_prefix: Option<&'a str>,
    /// In this second or later.
    pub since: Option<Timestamp>,
    /// Before this second.
    pub until: Option<Timestamp>,
    /// At most so many.
    pub limit: u32,
}

/// Whose entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventScope<'a> {
    /// What this organization's admins may see.
    Organization(&'a str),
    /// The same, and what concerns no organization: for the operator.
    OrganizationAndOperator(&'a str),
    /// Everything, for the operator's log stream.
    All,
}

/// In which order entries come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventOrder {
    /// The latest first; only those before this number.
    LatestFirst {
        /// `None`: from the latest of all.
        before: Option<u64>,
    },
    /// The oldest first; only those after this number.
    OldestFirst {
        /// 0: from the oldest of all.
        after: u64,
    },
}

/// Some entries of the event log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventPage {
    /// The entries, in the order that was asked for.
    pub events: Vec<Event>,
    /// Where to go on; `None`: there are no more. There may be a next page though this one has nothing that was asked for.
    pub next: Option<u64>,
}

/// An entry of the event log that is to be made; its time and author are the transaction's.
#[derive(Clone, Debug)]
pub struct NewEvent<'a> {
    /// Whose admins see it; `None`: nobody's but the operator's.
    pub organization_id: Option<&'a str>,
    /// What happened, such as `token_revoked`.
    pub event_type: &'a str,
    /// Kind of thing, such as `token`.
    pub entity: &'a str,
    /// Which one, such as a token prefix.
    pub entity_id: &'a str,
    /// What differs, as it was; `None`: it was not there.
    pub before: Option<serde_json::Value>,
    /// What differs, as it is; `None`: it is gone.
    pub after: Option<serde_json::Value>,
}
