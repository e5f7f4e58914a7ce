//! `postern token leaked`: revokes tokens that have become known to others. They are read from a file or from standard
//! input, never from the command line, which others on the machine can see.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use clap::Args;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::stale::in_rows;
use crate::cli::backend::{Backend, Place, Remote};
use crate::cli::directory::Directory;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::directory::model::Timestamp;
use crate::directory::operations;
use crate::directory::summary::TokenSummary;
use crate::token::pasted;

pub(super) const EXAMPLES: &str = "\
Examples:
  postern token leaked < pasted.txt
  postern token leaked --file build.log
  git log -p | postern token leaked --json | jq .tokens

The text may be anything that has whole tokens in it: a list, a log, a patch. What is found is revoked, of whichever \
organization it is; it cannot be undone.";

/// Most of a text that is read.
const TEXT_BYTES: u64 = 256 << 20;

/// Most tokens in it.
const MOST: usize = 100_000;

/// Tokens revoked in one transaction.
const AT_ONCE: usize = 1_000;

/// Most words that may be tokens in one request to the API.
const ASKED_AT_ONCE: usize = 1_000;

/// Most of a text in one request to the API, which takes 1 MiB with what JSON adds.
const PART_BYTES: usize = 150 << 10;

#[derive(Debug, Args)]
pub(super) struct LeakedArguments {
    /// The file that they are in; standard input if not given.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// What became of each.
#[derive(Debug, Serialize)]
struct Shown {
    /// What looked like a token and is known to nobody.
    unknown: usize,
    tokens: Vec<Leaked>,
}

#[derive(Debug, Serialize)]
struct Leaked {
    /// The line that it was in.
    line: usize,
    was_revoked: bool,
    token: TokenSummary,
}

pub(super) fn revoke(
    directory: &dyn Backend,
    arguments: &LeakedArguments,
    output: Output,
) -> Result<(), Failure> {
    let text = read(arguments)?;
    let shown = match directory.place() {
        Place::Store(directory) => revoke_in_store(directory, &text)?,
        Place::Api(remote) => ask(remote, &text)?,
    };
    drop(text);
    output.result(&shown, |shown| {
        let revoked = shown.tokens.iter().filter(|leaked| !leaked.was_revoked).count();
        let before = shown.tokens.len() - revoked;
        let tokens: Vec<TokenSummary> = shown.tokens.iter().map(|leaked| leaked.token.clone()).collect();
        let rows = if tokens.is_empty() { String::new() } else { in_rows(&tokens) + "\n" };
        format!(
            "{rows}{revoked} tokens were revoked, {before} had been before; {} words that may have been tokens are none \
             of this directory",
            shown.unknown
        )
    })
}

fn revoke_in_store(directory: &Directory, text: &str) -> Result<Shown, Failure> {
    let (found, more) = pasted::find(text, MOST);
    if more {
        return Err(Failure::Failed(format!(
            "there are more than {MOST} words that may be tokens: give the text in parts; nothing was revoked"
        )));
    }
    let mut shown = Shown { unknown: 0, tokens: Vec::new() };
    for part in found.chunks(AT_ONCE) {
        let digests: Vec<_> = part.iter().map(|token| token.digest).collect();
        let leaked = operations::revoke_leaked_tokens(&*directory.store, &digests, Timestamp::now())?.value;
        for (pasted, leaked) in part.iter().zip(leaked) {
            let Some(leaked) = leaked else {
                shown.unknown += 1;
                continue;
            };
            let token =
                directory.store.read(|records| TokenSummary::of_stored(records, leaked.stored.clone()))?;
            shown.tokens.push(Leaked { line: pasted.line, was_revoked: leaked.was_revoked, token });
        }
    }
    Ok(shown)
}

/// What the API says of one of them.
#[derive(Deserialize)]
struct Answered {
    position: usize,
    token: Option<TokenSummary>,
    was_revoked: Option<bool>,
}

#[derive(Deserialize)]
struct Answer {
    tokens: Vec<Answered>,
}

/// Sends only the lines that may have a token in them, as many at a time as the API takes. What it tells nobody about
/// counts as unknown.
fn ask(remote: &Remote, text: &str) -> Result<Shown, Failure> {
    let mut shown = Shown { unknown: 0, tokens: Vec::new() };
    let mut lines: Vec<usize> = Vec::new();
    let (mut part, mut candidates) = (String::new(), 0);
    let mut seen = HashSet::new();
    for (number, line) in text.lines().enumerate() {
        let (found, _) = pasted::find(line, MOST);
        let new = found.iter().filter(|token| seen.insert(*token.digest.as_bytes())).count();
        if new == 0 {
            continue;
        }
        if candidates + new > ASKED_AT_ONCE || part.len() + line.len() > PART_BYTES {
            shown.add(remote, &part, &lines)?;
            part.clear();
            lines.clear();
            candidates = 0;
        }
        part.push_str(line);
        part.push('\n');
        lines.push(number + 1);
        candidates += new;
    }
    if !part.is_empty() {
        shown.add(remote, &part, &lines)?;
    }
    Ok(shown)
}

impl Shown {
    /// Has one part's tokens revoked; `lines`: the numbers of its lines.
    fn add(&mut self, remote: &Remote, part: &str, lines: &[usize]) -> Result<(), Failure> {
        let body = json!({ "text": part });
        let answer: Answer =
            remote.api().ask(Method::POST, &["tokens", "revoke-leaked"], &[], Some(&body))?;
        for Answered { position, token, was_revoked } in answer.tokens {
            let line = lines.get(position.saturating_sub(1)).copied().unwrap_or_default();
            match token {
                Some(token) => {
                    let was_revoked = was_revoked.unwrap_or_default();
                    self.tokens.push(Leaked { line, was_revoked, token });
                }
                None => self.unknown += 1,
            }
        }
        Ok(())
    }
}

fn read(arguments: &LeakedArguments) -> Result<String, Failure> {
    let (mut source, name): (Box<dyn Read>, String) = match &arguments.file {
        None => (Box::new(io::stdin()), "standard input".to_owned()),
        Some(file) => {
            let name = file.display().to_string();
            let opened = File::open(file).map_err(|error| {
                Failure::Failed(format!("cannot read {name}: {error}; nothing was revoked"))
            })?;
            (Box::new(opened), name)
        }
    };
    let mut bytes = Vec::new();
    let read = source.by_ref().take(TEXT_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::Failed(format!("cannot read {name}: {error}; nothing was revoked")))?;
    if bytes.len() as u64 > TEXT_BYTES {
        return Err(Failure::Failed(format!(
            "{name} has more than {TEXT_BYTES} bytes: give it in parts; nothing was revoked"
        )));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
