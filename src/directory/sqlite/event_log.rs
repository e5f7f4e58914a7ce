//! Reading the event log, page by page, and removing what is too old. How entries come about is
//! [`super::events`]'s business.

use rusqlite::{Connection, Row, params};

use super::read::Reader;
use super::rows;
use crate::directory::error::StoreError;
use crate::directory::model::Event;
use crate::directory::store::{EventOrder, EventPage, EventQuery, EventScope};

/// Entries looked at for one page: some hundredths of a second, for which others wait who read.
const LOOKED_AT: u32 = 20_000;

const EVENT: &str = "number, event_time, organization_id, event_type, channel, actor_user_id, actor_token_prefix, \
     actor_address, request_id, entity, entity_id, before, after";

/// A page of what was asked for.
pub(super) fn page(reader: &Reader<'_>, query: &EventQuery<'_>) -> Result<EventPage, StoreError> {
    let (from, direction, comparison, last) = match query.order {
        EventOrder::LatestFirst { before } => (before.unwrap_or(u64::MAX), "DESC", "<", "min"),
        EventOrder::OldestFirst { after } => (after, "ASC", ">", "max"),
    };
    let from = i64::try_from(from).unwrap_or(i64::MAX);
    // An organization's own entries are found by the index; the others by looking at all of them.
    let (owner, in_range, of_range) = match query.scope {
        EventScope::Organization(id) => (id, "organization_id = ?2", "?2 = ?2"),
        EventScope::OrganizationAndOperator(id) => {
            (id, "?2 = ?2", "(organization_id = ?2 OR organization_id IS NULL)")
        }
        EventScope::All => ("", "?2 = ?2", "?2 = ?2"),
    };
    let range = format!(
        "FROM events WHERE number {comparison} ?1 AND {in_range} ORDER BY number {direction} LIMIT {LOOKED_AT}"
    );
    let looked_at: Option<(Option<i64>, u32)> = reader.one(
        &format!("SELECT {last}(number), count(*) FROM (SELECT number {range})"),
        params![from, owner],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let sql = format!(
        "SELECT {EVENT} FROM (SELECT {EVENT} {range})
         WHERE {of_range}
             AND (?3 IS NULL OR event_type = ?3)
             AND (?4 IS NULL OR actor_user_id = ?4)
             AND (?5 IS NULL OR entity = ?5)
             AND (?6 IS NULL OR entity_id = ?6)
             AND (?7 IS NULL OR actor_token_prefix = ?7 OR (entity = 'token' AND entity_id = ?7))
             AND (?8 IS NULL OR event_time >= ?8)
             AND (?9 IS NULL OR event_time < ?9)
         ORDER BY number {direction} LIMIT ?10"
    );
    let events = reader.all(
        &sql,
        params![
            from,
            owner,
            query.event_type,
            query.actor_user_id,
            query.entity,
            query.entity_id,
            query.token_prefix,
            query.since.map(|time| time.0),
            query.until.map(|time| time.0),
            query.limit,
        ],
        event,
    )?;
    let next = if events.len() >= query.limit as usize {
        events.last().map(|event| event.number)
    } else {
        let full = looked_at.filter(|(_, count)| *count >= LOOKED_AT);
        full.and_then(|(last, _)| last).map(i64::unsigned_abs)
    };
    Ok(EventPage { events, next })
}

/// The number of the latest entry.
pub(super) fn last(reader: &Reader<'_>) -> Result<u64, StoreError> {
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'events'";
    let last: Option<i64> = reader.one(sql, [], |row| row.get(0))?;
    Ok(last.unwrap_or(0).unsigned_abs())
}

/// Removes the oldest entries, at most so many. Times grow with numbers, but for a clock that was set back: an entry
/// goes no earlier than those before it.
pub(super) fn prune(connection: &Connection, before: u32, at_most: u32) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM events WHERE number IN (SELECT number FROM events ORDER BY number LIMIT ?2)
         AND event_time < ?1";
    connection.prepare_cached(sql)?.execute(params![before, at_most])
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let value = |column: usize| -> rusqlite::Result<_> {
        let text = row.get_ref(column)?.as_str_or_null()?;
        // What cannot be read is shown as it is.
        Ok(text.map(|text| serde_json::from_str(text).unwrap_or_else(|_| text.into())))
    };
    Ok(Event {
        number: row.get::<_, i64>(0)?.unsigned_abs(),
        event_time: rows::time(row, 1)?,
        organization_id: row.get(2)?,
        event_type: row.get(3)?,
        channel: row.get(4)?,
        actor_user_id: row.get(5)?,
        actor_token_prefix: row.get(6)?,
        actor_address: row.get(7)?,
        request_id: row.get(8)?,
        entity: row.get(9)?,
        entity_id: row.get(10)?,
        before: value(11)?,
        after: value(12)?,
    })
}
