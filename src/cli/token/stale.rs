//! `postern token stale` and `postern token expire-unused`: tokens that nobody uses any more.

use clap::Args;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cli::arguments::seconds;
use crate::cli::backend::{Backend, Place, Remote};
use crate::cli::confirm::Question;
use crate::cli::directory::Directory;
use crate::cli::failure::Failure;
use crate::cli::output::{Output, or_dash, table};
use crate::directory::model::Timestamp;
use crate::directory::operations;
use crate::directory::stale::{StalePage, StalePlace, StaleTokens, stale_tokens};
use crate::directory::summary::TokenSummary;
use crate::directory::view::DirectoryView;

pub(super) const STALE_EXAMPLES: &str = "\
Examples:
  postern token stale
  postern token stale --unused-for 1w --json | jq -r '.tokens[].token_prefix'

A token that was never used counts from when it was made. Revoked and expired tokens are not listed.";

pub(super) const EXPIRE_EXAMPLES: &str = "\
Examples:
  postern token expire-unused --unused-for 90d --dry-run
  postern token expire-unused --unused-for 90d --yes

It cannot be undone. Beside a running sidecar use --url: it knows the last use of each token, the store some seconds later. `expire_unused_after_days` under [tokens] does the same once an hour. Tokens of people who belong to \
other organizations as well are left alone.";

/// Tokens revoked in one transaction: short enough that no other change waits long.
const AT_ONCE: usize = 500;

/// Most tokens of a page of the API's list.
const PAGE: usize = 1_000;

const DAY_SECONDS: u32 = 86_400;

#[derive(Debug, Args)]
pub(super) struct StaleArguments {
    /// For how long they have not been used, such as 90d or 12h.
    #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = seconds)]
    unused_for: u32,
    /// List at most so many.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

#[derive(Debug, Args)]
pub(super) struct ExpireArguments {
    /// For how long they have not been used, in whole days, such as 90d.
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    unused_for: u32,
    /// Only say which; revoke none.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long, short, conflicts_with = "dry_run")]
    yes: bool,
}

/// Stale tokens as they are printed.
#[derive(Debug, Serialize)]
struct Shown {
    unused_for_seconds: u32,
    count: usize,
    tokens: Vec<TokenSummary>,
}

/// What was revoked.
#[derive(Debug, Serialize)]
struct Expired {
    dry_run: bool,
    unused_for_seconds: u32,
    tokens: Vec<TokenSummary>,
}

pub(super) fn list(
    directory: &dyn Backend,
    arguments: &StaleArguments,
    output: Output,
) -> Result<(), Failure> {
    let (unused_for, limit) = (arguments.unused_for, arguments.limit as usize);
    let shown = match directory.place() {
        Place::Store(directory) => {
            let (_synchronizer, view) = directory.in_memory()?;
            let stale = find(directory, &view, unused_for, None, limit)?;
            let tokens = summaries(directory, &view, &stale.listed)?;
            Shown { unused_for_seconds: unused_for, count: stale.count, tokens }
        }
        Place::Api(remote) => ask(remote, unused_for, limit)?,
    };
    output.result(&shown, |shown| {
        if shown.count == 0 {
            return "every token that could be used has been used in that time".to_owned();
        }
        let more = match shown.count - shown.tokens.len() {
            0 => String::new(),
            more => format!("\n{more} more; raise --limit to see them"),
        };
        format!("{}{more}", in_rows(&shown.tokens))
    })
}

pub(super) fn expire(
    directory: &dyn Backend,
    arguments: &ExpireArguments,
    output: Output,
) -> Result<(), Failure> {
    whole_days(arguments.unused_for)?;
    if !arguments.dry_run && !arguments.yes {
        let days = arguments.unused_for / DAY_SECONDS;
        let question = Question {
            text: &format!(
                "Revoke every token that has not been used for {days} days? --dry-run lists them. It cannot be undone."
            ),
            otherwise: "nothing was revoked",
            deed: "revoke them",
        };
        question.ask(output)?;
    }
    let tokens = match directory.place() {
        Place::Store(directory) => expire_in_store(directory, arguments)?,
        Place::Api(remote) if arguments.dry_run => ask(remote, arguments.unused_for, usize::MAX)?.tokens,
        Place::Api(remote) => expire_by_api(remote, arguments.unused_for)?,
    };
    let expired = Expired { dry_run: arguments.dry_run, unused_for_seconds: arguments.unused_for, tokens };
    output.result(&expired, |expired| {
        let count = expired.tokens.len();
        let what = if expired.dry_run { "would be revoked; none was" } else { "were revoked" };
        if count == 0 {
            return format!("0 tokens {what}");
        }
        format!("{}\n{count} tokens {what}", in_rows(&expired.tokens))
    })
}

fn expire_in_store(directory: &Directory, arguments: &ExpireArguments) -> Result<Vec<TokenSummary>, Failure> {
    let (_synchronizer, view) = directory.in_memory()?;
    let (now, unused_since) = (Timestamp::now(), before_now(arguments.unused_for));
    let mut tokens = Vec::new();
    let mut after = None;
    loop {
        let stale = find(directory, &view, arguments.unused_for, after, AT_ONCE)?;
        if arguments.dry_run {
            tokens.extend(summaries(directory, &view, &stale.listed)?);
        } else {
            let numbers: Vec<u32> = stale.listed.iter().map(|place| place.number).collect();
            let revoked = operations::revoke_unused_tokens(
                &*directory.store,
                directory.organization_id(),
                &numbers,
                unused_since,
                now,
            )?;
            let revoked = directory.store.read(|records| {
                let each = revoked
                    .value
                    .iter()
                    .map(|found| TokenSummary::of_number(records, &view, found.token.number));
                each.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()
            })?;
            tokens.extend(revoked);
        }
        after = stale.listed.last().copied();
        if !stale.has_more {
            return Ok(tokens);
        }
    }
}

/// What the API has revoked, a transaction's worth.
#[derive(Deserialize)]
struct ExpiredPage {
    tokens: Vec<TokenSummary>,
    next_cursor: Option<String>,
}

fn expire_by_api(remote: &Remote, unused_for: u32) -> Result<Vec<TokenSummary>, Failure> {
    let days = whole_days(unused_for)?;
    let mut tokens = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let body = json!({ "unused_for_days": days, "cursor": cursor });
        let page: ExpiredPage =
            remote.ask_with(Method::POST, &["tokens", "expire-unused"], &[], Some(&body))?;
        tokens.extend(page.tokens);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(tokens);
        }
    }
}

fn whole_days(seconds: u32) -> Result<u32, Failure> {
    if seconds == 0 || !seconds.is_multiple_of(DAY_SECONDS) {
        return Err(Failure::Usage("--unused-for is in whole days here: write one such as 90d".to_owned()));
    }
    Ok(seconds / DAY_SECONDS)
}

/// A page of the API's list.
#[derive(Deserialize)]
struct Page {
    count: usize,
    tokens: Vec<TokenSummary>,
    next_cursor: Option<String>,
}

fn ask(remote: &Remote, unused_for: u32, limit: usize) -> Result<Shown, Failure> {
    let days = whole_days(unused_for)?.to_string();
    let mut shown = Shown { unused_for_seconds: unused_for, count: 0, tokens: Vec::new() };
    let mut cursor: Option<String> = None;
    loop {
        let wanted = (limit - shown.tokens.len()).min(PAGE).to_string();
        let mut query = vec![("unused_for_days", days.as_str()), ("limit", &wanted)];
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let page: Page = remote.ask_with(Method::GET, &["tokens", "stale"], &query, None)?;
        shown.count = page.count;
        shown.tokens.extend(page.tokens);
        cursor = page.next_cursor;
        if cursor.is_none() || shown.tokens.len() >= limit {
            return Ok(shown);
        }
    }
}

fn find(
    directory: &Directory,
    view: &DirectoryView,
    unused_for: u32,
    after: Option<StalePlace>,
    limit: usize,
) -> Result<StaleTokens, Failure> {
    let organization = directory.organization_in(view)?;
    let page = StalePage { after, limit };
    Ok(stale_tokens(view, &organization, before_now(unused_for), Timestamp::now(), |_| true, page))
}

fn before_now(seconds: u32) -> Timestamp {
    Timestamp(Timestamp::now().0.saturating_sub(seconds))
}

fn summaries(
    directory: &Directory,
    view: &DirectoryView,
    places: &[StalePlace],
) -> Result<Vec<TokenSummary>, Failure> {
    let summaries = directory.store.read(|records| {
        let each = places.iter().map(|place| TokenSummary::of_number(records, view, place.number));
        each.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()
    })?;
    Ok(summaries)
}

pub(super) fn in_rows(tokens: &[TokenSummary]) -> String {
    table(
        ["TOKEN PREFIX", "KIND", "USER", "CREATED", "LAST USED", "FROM", "REQUESTS", "DESCRIPTION"],
        tokens.iter().map(|token| {
            [
                token.token_prefix.clone(),
                token.kind.to_string(),
                token.user_name.clone(),
                token.create_time.to_string(),
                token.last_used_time.map_or_else(|| "never".to_owned(), |time| time.to_string()),
                or_dash(token.last_ip),
                token.request_count.to_string(),
                token.description.clone(),
            ]
        }),
    )
}
