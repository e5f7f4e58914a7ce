//! `postern events`: the event log, from the store itself, for which no running sidecar need be asked, or from the management
//! API.

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use clap::Args;
use http::Method;
use serde::{Deserialize, Serialize};

use super::Exit;
use super::arguments::{TokenPrefix, seconds, time};
use super::backend::{self, Backend, Place, PlaceArguments, Remote};
use super::failure::Failure;
use super::output::{Format, Output, or_dash, printable, table};
use crate::directory::model::{Event, Timestamp};
use crate::directory::store::{EventOrder, EventQuery, EventScope};

pub(super) const EXAMPLES: &str = "\
Examples:
  postern events
  postern events --since 1h
  postern events --since 2026-08-01T00:00:00Z --type token_revoked --json | jq .events
  postern events --token-prefix psta_AbCdEfGhIjKl
  postern events --follow --json

Shown are the organization's events, the latest last; from the store also those that concern no organization.";

/// Pause between two looks with `--follow`.
const LOOK: Duration = Duration::from_millis(500);

/// Most events of a page of the API's.
const PAGE: u32 = 1_000;

#[derive(Debug, Args)]
pub(super) struct EventsArguments {
    #[command(flatten)]
    place: PlaceArguments,
    /// From this time on, such as 2026-08-01T00:00:00Z, or a time ago, such as 12h.
    #[arg(long, value_name = "TIME", value_parser = time_or_ago)]
    since: Option<Timestamp>,
    /// Before this time.
    #[arg(long, value_name = "TIME", value_parser = time_or_ago)]
    until: Option<Timestamp>,
    /// Of this type, such as token_revoked.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Done by the user with this id.
    #[arg(long, value_name = "USER_ID")]
    actor: Option<String>,
    /// That happened to this kind of thing, such as token.
    #[arg(long, value_name = "KIND")]
    entity: Option<String>,
    /// That happened to the thing with this id.
    #[arg(long, value_name = "ID")]
    entity_id: Option<String>,
    /// Done with the token with this prefix, or to it.
    #[arg(long, value_name = "PREFIX", value_parser = TokenPrefix::read)]
    token_prefix: Option<TokenPrefix>,
    /// At most so many, the latest.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Go on showing what happens, until Ctrl-C; with --json, one object a line.
    #[arg(long, conflicts_with = "until")]
    follow: bool,
}

/// Events as they are printed.
#[derive(Debug, Serialize)]
struct Shown {
    events: Vec<Event>,
}

pub(super) fn execute(arguments: &EventsArguments, output: Output) -> Result<Exit, Failure> {
    let directory = &*backend::open(&arguments.place, output)?;
    // Before the first look, so that nothing falls in between.
    let last = last_event(directory)?;
    let mut events = latest(directory, arguments)?;
    events.reverse();
    if !arguments.follow {
        output.result(&Shown { events }, |shown| {
            if shown.events.is_empty() { "no events".to_owned() } else { in_rows(&shown.events) }
        })?;
        return Ok(Exit::Done);
    }
    let mut after = events.last().map_or(last, |event| event.number.max(last));
    let mut is_read = print_lines(&events, output)?;
    while is_read {
        thread::sleep(LOOK);
        let page = arguments.page(directory, EventOrder::OldestFirst { after })?;
        after = page.next.or(page.events.last().map(|event| event.number)).unwrap_or(after);
        is_read = print_lines(&page.events, output)?;
    }
    Ok(Exit::Done)
}

/// The number of the last event of all.
fn last_event(directory: &dyn Backend) -> Result<u64, Failure> {
    match directory.place() {
        Place::Store(directory) => Ok(directory.store.read(|records| records.last_event())?),
        Place::Api(remote) => {
            let page: Page = remote.ask_with(Method::GET, &["events"], &[("limit", "1")], None)?;
            Ok(page.events.first().map_or(0, |event| event.number))
        }
    }
}

/// The latest of what is asked for, the latest first.
fn latest(directory: &dyn Backend, arguments: &EventsArguments) -> Result<Vec<Event>, Failure> {
    let mut events = Vec::new();
    let mut before = None;
    loop {
        let page = arguments.page(directory, EventOrder::LatestFirst { before })?;
        // Times grow with numbers but for clocks that were set back: far enough back there is nothing to be found.
        events.extend(page.events);
        let wanted = arguments.limit as usize;
        if events.len() >= wanted || page.next.is_none() {
            events.truncate(wanted);
            return Ok(events);
        }
        before = page.next;
    }
}

/// A page of the event log.
#[derive(Deserialize)]
struct Page {
    events: Vec<Event>,
    #[serde(rename = "next_cursor")]
    next: Option<u64>,
}

impl EventsArguments {
    /// Some of what is asked for.
    fn page(&self, directory: &dyn Backend, order: EventOrder) -> Result<Page, Failure> {
        match directory.place() {
            Place::Store(directory) => {
                let query = self.query(directory.organization_id(), order);
                let page = directory.store.read(|records| records.events(&query))?;
                Ok(Page { events: page.events, next: page.next })
            }
            Place::Api(remote) => self.ask(remote, order),
        }
    }

    fn ask(&self, remote: &Remote, order: EventOrder) -> Result<Page, Failure> {
        let (word, cursor) = match order {
            EventOrder::LatestFirst { before } => ("latest_first", before),
            EventOrder::OldestFirst { after } => ("oldest_first", Some(after)),
        };
        let query = [
            ("order", Some(word.to_owned())),
            ("cursor", cursor.map(|cursor| cursor.to_string())),
            ("limit", Some(self.limit.min(PAGE).to_string())),
            ("type", self.event_type.clone()),
            ("actor", self.actor.clone()),
            ("entity", self.entity.clone()),
            ("entity_id", self.entity_id.clone()),
            ("token_prefix", self.token_prefix.as_ref().map(|prefix| prefix.as_str().to_owned())),
            ("since", self.since.map(|time| time.to_string())),
            ("until", self.until.map(|time| time.to_string())),
        ];
        let given = query.iter().filter_map(|(key, value)| Some((*key, value.as_deref()?)));
        Ok(remote.ask_with(Method::GET, &["events"], &given.collect::<Vec<_>>(), None)?)
    }

    fn query<'a>(&'a self, organization_id: &'a str, order: EventOrder) -> EventQuery<'a> {
        EventQuery {
            scope: EventScope::OrganizationAndOperator(organization_id),
            order,
            event_type: self.event_type.as_deref(),
            actor_user_id: self.actor.as_deref(),
            entity: self.entity.as_deref(),
            entity_id: self.entity_id.as_deref(),
            token_prefix: self.token_prefix.as_ref().map(TokenPrefix::as_str),
            since: self.since,
            until: self.until,
            limit: self.limit,
        }
    }
}

/// Prints one line an event; returns whether anybody reads them.
fn print_lines(events: &[Event], output: Output) -> Result<bool, Failure> {
    let mut stdout = std::io::stdout().lock();
    for event in events {
        let line = match output.format() {
            Format::Json => serde_json::to_string(event).map_err(Failure::failed)?,
            Format::Text => row(event).map(|value| printable(&value)).join("  "),
        };
        if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn in_rows(events: &[Event]) -> String {
    table(["TIME", "EVENT", "OF", "BY", "WITH", "FROM", "THROUGH", "WHAT"], events.iter().map(row))
}

fn row(event: &Event) -> [String; 8] {
    let value = |value: &Option<serde_json::Value>| value.as_ref().map(ToString::to_string);
    let what = match (value(&event.before), value(&event.after)) {
        (None, None) => "-".to_owned(),
        (Some(before), Some(after)) => format!("{before} -> {after}"),
        (Some(value), None) | (None, Some(value)) => value,
    };
    [
        event.event_time.to_string(),
        event.event_type.clone(),
        event.entity_id.clone(),
        or_dash(event.actor_user_id.as_deref()),
        or_dash(event.actor_token_prefix.as_deref()),
        or_dash(event.actor_address.as_deref()),
        event.channel.clone(),
        what,
    ]
}

/// A time, or how long ago it was.
fn time_or_ago(text: &str) -> Result<Timestamp, String> {
    let is_ago = text.ends_with(|last: char| last.is_ascii_lowercase());
    match seconds(text) {
        Ok(ago) if is_ago => Ok(Timestamp(Timestamp::now().0.saturating_sub(ago))),
        _ => time(text),
    }
}
