//! `postern token import`: tokens that were made elsewhere go on working. Their digests and prefixes are read from a file, never the
//! tokens; line by line, so that a file of any size needs no memory, a batch of lines to a transaction.

mod row;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::cli::backend::{Backend, Place};
use crate::cli::directory::Directory;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::directory::model::{Member, Timestamp};
use crate::directory::operations::{self, Import, Imported, NewToken};
use crate::token::{TokenDigest, TokenKind};
use row::{FileFormat, Row, Rows};

pub(super) const EXAMPLES: &str = "\
Examples:
  postern token import --user ingest tokens.csv --dry-run
  postern token import tokens.jsonl
  zcat tokens.csv.gz | postern token import --user ingest --format csv

A line of CSV, under a heading, or a JSON object a line:
  token_prefix,digest,user,max_age_seconds
  live_4fKq1v9Z,9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08,ingest,2592000
  {\"token_prefix\": \"live_4fKq1v9Z\", \"digest\": \"9f86…\", \"user\": \"ingest\", \"scopes\": [\"service:data:write\"]}

The digest is the SHA-256 of the whole token, in hexadecimal digits: printf %s \"$TOKEN\" | sha256sum. Only tokens of 16 to 1,024 visible \
ASCII characters without a comma are ever let in, which a digest does not tell: see that yours are. The prefix is what it is listed \
and revoked by: 4 to 64 of its characters that may be known to anybody. The other fields are those of `postern token create`: user, \
description, max_age_seconds, extend_when_used, ip_allowlist, scopes. Lifetimes count from the import.

Lines that cannot be taken in are told by their number; the others are taken in. To import a file again, after mending it or after \
an interruption, takes in what is missing.";

/// Tokens taken in in one transaction, while which nobody else changes the directory.
const AT_ONCE: usize = 1_000;

/// Bytes of a line at most.
const LINE_BYTES: u64 = 64 << 10;

/// Lines that are told by number.
const TOLD: usize = 100;

/// How often a terminal is told how far it is.
const BETWEEN_REPORTS: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// The file; standard input if it is `-` or not given.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The application user, by id or name, of lines that name none.
    #[arg(long)]
    user: Option<String>,
    /// How the file is written; told by its name's end if not given.
    #[arg(long, value_name = "FORMAT")]
    format: Option<FileFormat>,
    /// Only check every line, and take nothing in.
    #[arg(long)]
    dry_run: bool,
}

/// What became of the lines.
#[derive(Debug, Default, Serialize)]
struct Summary {
    dry_run: bool,
    /// Taken in, or to be taken in.
    imported: usize,
    /// There before.
    known: usize,
    failed: usize,
    /// The first of those that failed.
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Problem {
    line: usize,
    reason: String,
}

pub(super) fn import(
    directory: &dyn Backend,
    arguments: &ImportArguments,
    output: Output,
) -> Result<(), Failure> {
    let Place::Store(store) = directory.place() else {
        let message = "tokens are imported where the store is, without --url: there may be more of them than an API takes";
        return Err(Failure::Usage(message.to_owned()));
    };
    let source = Source::open(arguments)?;
    let users = Users::new(directory.application_users()?, arguments.user.as_deref());
    let mut running = Running {
        directory: store,
        output,
        users,
        batch: Vec::with_capacity(AT_ONCE),
        refused: Vec::new(),
        seen: Seen::default(),
        summary: Summary { dry_run: arguments.dry_run, ..Summary::default() },
    };
    running.read(source)?;
    let summary = running.summary;
    output.result(&summary, Summary::text)?;
    match summary.failed {
        0 => Ok(()),
        failed => Err(Failure::Failed(format!(
            "{failed} lines cannot be taken in: mend them, then import the file again; what is there stays as it is"
        ))),
    }
}

/// Where lines come from.
struct Source {
    lines: Box<dyn BufRead>,
    name: String,
    bytes: Option<u64>,
    format: FileFormat,
}

impl Source {
    fn open(arguments: &ImportArguments) -> Result<Self, Failure> {
        let file = arguments.file.as_ref().filter(|file| file.as_os_str() != "-");
        let by_name = file.and_then(|file| file.extension()).and_then(|end| match end.to_str() {
            Some("csv") => Some(FileFormat::Csv),
            Some("jsonl" | "ndjson") => Some(FileFormat::Jsonl),
            _ => None,
        });
        let Some(format) = arguments.format.or(by_name) else {
            return Err(Failure::Usage(
                "say how the file is written: `--format csv` or `--format jsonl`".to_owned(),
            ));
        };
        let Some(file) = file else {
            let lines = Box::new(BufReader::new(io::stdin()));
            return Ok(Self { lines, name: "standard input".to_owned(), bytes: None, format });
        };
        let name = file.display().to_string();
        let opened = File::open(file)
            .map_err(|error| Failure::Failed(format!("cannot read {name}: {error}; nothing was taken in")))?;
        let bytes = opened.metadata().ok().filter(|it| it.is_file()).map(|it| it.len());
        Ok(Self { lines: Box::new(BufReader::with_capacity(1 << 16, opened)), name, bytes, format })
    }
}

/// Users by what lines call them.
struct Users {
    ids: HashMap<String, Option<String>>,
    /// Of lines that name none.
    default: Option<String>,
}

impl Users {
    fn new(members: Vec<Member>, default: Option<&str>) -> Self {
        let mut ids = HashMap::new();
        for member in &members {
            // A name that two have names nobody; an id does so always.
            ids.entry(member.user.name.clone())
                .and_modify(|id| *id = None)
                .or_insert_with(|| Some(member.user.id.clone()));
        }
        for member in members {
            ids.insert(member.user.id.clone(), Some(member.user.id));
        }
        Self { ids, default: default.map(str::to_owned) }
    }

    fn id(&self, named: Option<&str>) -> Result<String, String> {
        let Some(name) = named.or(self.default.as_deref()) else {
            return Err("no user is named: give the line a `user`, or the command `--user`".to_owned());
        };
        match self.ids.get(name) {
            Some(Some(id)) => Ok(id.clone()),
            Some(None) => Err("several application users have the name in `user`: write the id".to_owned()),
            None => Err("the user does not exist: `postern application-user list` shows who does".to_owned()),
        }
    }
}

/// An import under way.
struct Running<'a> {
    directory: &'a Directory,
    output: Output,
    users: Users,
    /// Lines that are to go into the next transaction, with their numbers.
    batch: Vec<(usize, Import)>,
    /// Lines beside them that cannot.
    refused: Vec<Problem>,
    seen: Seen,
    summary: Summary,
}

/// What a trial has read: the store, which would tell two alike apart, does not get them.
#[derive(Debug, Default)]
struct Seen {
    by_prefix: HashMap<String, TokenDigest>,
    prefixes: HashMap<[u8; 32], String>,
}

impl Running<'_> {
    fn read(&mut self, mut source: Source) -> Result<(), Failure> {
        let mut rows = Rows::of(source.format);
        let mut progress = Progress::new(source.bytes);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read = source.lines.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line);
            let length = read.map_err(|error| self.broken_off(&source.name, &error))?;
            if length == 0 {
                break;
            }
            progress.bytes += length as u64;
            let whole = line.ends_with(b"\n") || (length as u64) < LINE_BYTES;
            if !whole {
                let skipped = source.lines.skip_until(b'\n');
                progress.bytes += skipped.map_err(|error| self.broken_off(&source.name, &error))? as u64;
            }
            let text = if whole {
                str::from_utf8(&line).map_err(|_| "the line is not UTF-8")
            } else {
                Err("the line is too long")
            };
            let read =
                text.map_err(str::to_owned).and_then(|text| rows.read(text.trim_end_matches(['\r', '\n'])));
            match read.and_then(|row| row.map(|row| self.import_of(row)).transpose()) {
                Ok(None) => {}
                Ok(Some(import)) => self.batch.push((number, import)),
                Err(reason) if !rows.is_ready() => {
                    return Err(Failure::Failed(format!(
                        "line {number} of {}: {reason}; nothing was taken in",
                        source.name
                    )));
                }
                Err(reason) => self.refused.push(Problem { line: number, reason }),
            }
            if self.batch.len() + self.refused.len() >= AT_ONCE {
                self.take_in()?;
                progress.tell(&self.summary);
            }
        }
        self.take_in()?;
        progress.end();
        Ok(())
    }

    fn import_of(&self, row: Row) -> Result<Import, String> {
        let new = NewToken {
            user_id: self.users.id(row.user.as_deref())?,
            kind: TokenKind::Application,
            description: row.description,
            created_manually: true,
            max_age_seconds: row.max_age_seconds,
            extend_when_used: row.extend_when_used,
            ip_allowlist: row.ip_allowlist,
            scopes: row.scopes,
            authentication_method_id: None,
        };
        Ok(Import { new, imported: row.imported })
    }

    /// One transaction.
    fn take_in(&mut self) -> Result<(), Failure> {
        let (numbers, imports): (Vec<_>, Vec<_>) = std::mem::take(&mut self.batch).into_iter().unzip();
        let store = &*self.directory.store;
        let outcomes = if self.summary.dry_run {
            operations::try_import(store, &imports)
        } else {
            operations::import_tokens(store, &imports, Timestamp::now()).map(|changed| changed.value)
        };
        let outcomes = outcomes.map_err(|error| Failure::Failed(format!("{error}; {}", self.so_far())))?;
        for ((number, import), outcome) in numbers.into_iter().zip(imports).zip(outcomes) {
            let outcome = outcome.map_err(|error| error.to_string());
            let outcome = if self.summary.dry_run {
                outcome.and_then(|outcome| self.seen.again(&import, outcome))
            } else {
                outcome
            };
            match outcome {
                Ok(Imported::TakenIn) => self.summary.imported += 1,
                Ok(Imported::Known) => self.summary.known += 1,
                Err(reason) => self.refused.push(Problem { line: number, reason }),
            }
        }
        self.tell_refused();
        Ok(())
    }

    /// In the lines' order.
    fn tell_refused(&mut self) {
        let Self { refused, summary, output, .. } = self;
        refused.sort_unstable_by_key(|problem| problem.line);
        summary.failed += refused.len();
        for problem in refused.drain(..) {
            if summary.problems.len() < TOLD {
                output.remark(&format!("line {}: {}", problem.line, problem.reason));
                summary.problems.push(problem);
            }
        }
    }

    fn broken_off(&self, name: &str, error: &io::Error) -> Failure {
        Failure::Failed(format!("cannot read {name}: {error}; {}", self.so_far()))
    }

    fn so_far(&self) -> String {
        let Summary { dry_run, imported, .. } = self.summary;
        if dry_run {
            return "nothing was taken in".to_owned();
        }
        format!("{imported} tokens were taken in before; import the file again to take in the rest")
    }
}

impl Seen {
    /// What the store would have said, had it got what came before.
    fn again(&mut self, import: &Import, outcome: Imported) -> Result<Imported, String> {
        let Import { imported, .. } = import;
        if outcome == Imported::Known {
            return Ok(outcome);
        }
        let same_prefix = self.by_prefix.insert(imported.prefix.clone(), imported.digest);
        let same_digest = self.prefixes.insert(*imported.digest.as_bytes(), imported.prefix.clone());
        match (same_prefix, same_digest) {
            (None, None) => Ok(outcome),
            (Some(digest), Some(prefix)) if digest == imported.digest && prefix == imported.prefix => {
                Ok(Imported::Known)
            }
            _ => Err("another line has the same `token_prefix` or `digest`".to_owned()),
        }
    }
}

impl Summary {
    fn text(&self) -> String {
        let Self { dry_run, imported, known, failed, problems } = self;
        let what = if *dry_run { "would be taken in" } else { "were taken in" };
        let more = failed - problems.len();
        let untold = if more == 0 { String::new() } else { format!(" ({more} of them not told by number)") };
        format!(
            "{imported} tokens {what}, {known} were there before, {failed} lines cannot be taken in{untold}"
        )
    }
}

/// How far it is, for the person at the terminal; nobody else is told.
struct Progress {
    bytes: u64,
    of: Option<u64>,
    started: Instant,
    told: Option<Instant>,
    is_shown: bool,
}

impl Progress {
    fn new(of: Option<u64>) -> Self {
        Self { bytes: 0, of, started: Instant::now(), told: None, is_shown: io::stderr().is_terminal() }
    }

    fn tell(&mut self, summary: &Summary) {
        let now = Instant::now();
        if !self.is_shown || self.told.is_some_and(|told| now - told < BETWEEN_REPORTS) {
            return;
        }
        self.told = Some(now);
        let done = summary.imported + summary.known + summary.failed;
        let each_second = done as f64 / (now - self.started).as_secs_f64().max(0.001);
        let bar = self.of.filter(|of| *of > 0).map_or_else(String::new, |of| {
            let share = (self.bytes as f64 / of as f64).min(1.0);
            let filled = (share * 30.0) as usize;
            format!("[{}{}] {:3.0} %  ", "#".repeat(filled), ".".repeat(30 - filled), share * 100.0)
        });
        write_over(&format!("{bar}{done} lines, {each_second:.0} a second"));
    }

    fn end(&self) {
        if self.told.is_some() {
            write_over("");
        }
    }
}

/// Puts a line in the place of the last one.
fn write_over(text: &str) {
    // Where standard error is closed, nobody is left to be told.
    let _unheard = io::Write::write_all(&mut io::stderr().lock(), format!("\r\x1b[2K{text}").as_bytes());
}
