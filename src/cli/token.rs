//! `postern token`: making, listing, showing and revoking the tokens of application users. The full token is shown
//! once, when it is made, and nowhere else.

mod import;
mod leaked;
mod rotate;
mod shown;
mod stale;

use clap::{Args, Subcommand};
use secrecy::ExposeSecret as _;
use serde::Serialize;

use super::Exit;
use super::arguments::{TokenPrefix, seconds};
use super::backend::{self, Backend, MadeToken, NamedToken, PlaceArguments};
use super::failure::Failure;
use super::output::{Output, printable};
use crate::directory::model::Timestamp;
use crate::directory::operations::NewToken;
use crate::token::TokenKind;
use shown::{Shown, ShownList};

pub(super) const EXAMPLES: &str = "\
Examples:
  postern token create --user ingest --description 'eu-west' --max-age 30d
  postern token list --user ingest
  postern token show psta_AbCdEfGhIjKl
  postern token revoke psta_AbCdEfGhIjKl
  postern token stale --unused-for 90d
  postern token leaked --file pasted.txt

A token prefix, the first 17 characters of a token, is its public handle.";

const CREATE_EXAMPLES: &str = "\
Examples:
  postern token create --user ingest
  postern token create --user ingest --max-age 30d --extend-when-used
  postern token create --user ingest --allow-address 10.0.0.0/8 --allow-address 2001:db8::/32
  postern token create --user ingest --count 10 > tokens.txt
  postern token create --user ingest --scope service:data:write --json | jq -r .full_token

The full token is shown once and is kept nowhere: only its digest is stored.";

const LIST_EXAMPLES: &str = "\
Examples:
  postern token list
  postern token list --user ingest --all
  postern token list --json | jq -r '.tokens[] | .token_prefix, .last_used_time'";

const SHOW_EXAMPLES: &str = "\
Examples:
  postern token show psta_AbCdEfGhIjKl
  postern token show psta_AbCdEfGhIjKl --json | jq .last_used_time";

const REVOKE_EXAMPLES: &str = "\
Examples:
  postern token revoke psta_AbCdEfGhIjKl

It cannot be undone. To revoke a token twice does no harm.";

#[derive(Debug, Args)]
pub(super) struct TokenArguments {
    #[command(flatten)]
    place: PlaceArguments,
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token, and show it this once.
    #[command(after_help = CREATE_EXAMPLES)]
    Create(CreateArguments),
    /// List tokens with their last use.
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Only this application user's, by id or name.
        #[arg(long)]
        user: Option<String>,
        /// Revoked ones too.
        #[arg(long)]
        all: bool,
    },
    /// Show a token with its last use.
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// The first 17 characters of the token.
        #[arg(value_name = "PREFIX", value_parser = TokenPrefix::read)]
        prefix: TokenPrefix,
    },
    /// Put a new token in the place of an old one, which ends after a while.
    #[command(after_help = rotate::EXAMPLES)]
    Rotate(rotate::RotateArguments),
    /// List tokens that could be used and have not been for long.
    #[command(after_help = stale::STALE_EXAMPLES)]
    Stale(stale::StaleArguments),
    /// Revoke tokens that have not been used for long.
    #[command(after_help = stale::EXPIRE_EXAMPLES)]
    ExpireUnused(stale::ExpireArguments),
    /// Take in tokens that were made elsewhere, by their digests and prefixes.
    #[command(after_help = import::EXAMPLES)]
    Import(import::ImportArguments),
    /// Revoke tokens that have become known to others, and say whose they are.
    #[command(after_help = leaked::EXAMPLES)]
    Leaked(leaked::LeakedArguments),
    /// Revoke a token.
    #[command(after_help = REVOKE_EXAMPLES)]
    Revoke {
        /// The first 17 characters of the token.
        #[arg(value_name = "PREFIX", value_parser = TokenPrefix::read)]
        prefix: TokenPrefix,
    },
}

#[derive(Debug, Args)]
struct CreateArguments {
    /// The application user, by id or name.
    #[arg(long)]
    user: String,
    /// What the token is for.
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    /// Lifetime: 10 minutes to 10 years, such as 3600, 12h or 30d; never ends if not given.
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    max_age: Option<u32>,
    /// Count the lifetime from the last use.
    #[arg(long, requires = "max_age")]
    extend_when_used: bool,
    /// Address or network it may be used from; repeat it for more; any if not given.
    #[arg(long = "allow-address", value_name = "CIDR")]
    allow_addresses: Vec<String>,
    /// Permission or role it is restricted to; repeat it for more; not restricted if not given.
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// Make so many alike, printed one full token a line: for a fleet, or for a load test.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: Option<u32>,
}

/// A token just made. Serialized only to be printed.
#[derive(Serialize)]
struct Created<'a> {
    full_token: &'a str,
    #[serde(flatten)]
    token: Shown,
}

/// Tokens just made.
#[derive(Serialize)]
struct CreatedList<'a> {
    tokens: Vec<Created<'a>>,
}

/// Which tokens a list has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listed {
    Unrevoked,
    All,
}

pub(super) fn execute(arguments: TokenArguments, output: Output) -> Result<Exit, Failure> {
    let directory = &*backend::open(&arguments.place, output)?;
    match arguments.command {
        TokenCommand::Create(arguments) => create(directory, arguments, output),
        TokenCommand::List { user, all } => {
            let listed = if all { Listed::All } else { Listed::Unrevoked };
            list(directory, user.as_deref(), listed, output)
        }
        TokenCommand::Show { prefix } => {
            let token = find(directory, &prefix)?;
            output.result(&token, Shown::text)
        }
        TokenCommand::Rotate(arguments) => rotate::rotate(directory, &arguments, output),
        TokenCommand::Stale(arguments) => stale::list(directory, &arguments, output),
        TokenCommand::ExpireUnused(arguments) => stale::expire(directory, &arguments, output),
        TokenCommand::Import(arguments) => import::import(directory, &arguments, output),
        TokenCommand::Leaked(arguments) => leaked::revoke(directory, &arguments, output),
        TokenCommand::Revoke { prefix } => revoke(directory, &prefix, output),
    }?;
    Ok(Exit::Done)
}

fn create(directory: &dyn Backend, arguments: CreateArguments, output: Output) -> Result<(), Failure> {
    let member = directory.application_user(&arguments.user)?;
    let new = NewToken {
        user_id: member.user.id.clone(),
        kind: TokenKind::Application,
        description: arguments.description,
        created_manually: true,
        max_age_seconds: arguments.max_age,
        extend_when_used: arguments.extend_when_used,
        ip_allowlist: arguments.allow_addresses,
        scopes: arguments.scopes,
        authentication_method_id: None,
    };
    let now = Timestamp::now();
    if let Some(count) = arguments.count {
        return create_many(directory, &new, &member.user.name, count, output);
    }
    let made = directory.create_token(&new)?;
    let created = Created {
        full_token: made.full.expose_secret(),
        token: Shown::new(made.token, &member.user.name, now),
    };
    let shown = output.result(&created, |created| {
        format!(
            "{}\n\n{}\n\nThis is the only time that the full token is shown; it cannot be had again.",
            created.full_token,
            created.token.text()
        )
    });
    shown.map_err(|failure| {
        let prefix = &created.token.token_prefix;
        Failure::Failed(format!(
            "token {prefix} was made, but could not be shown: revoke it with `postern token revoke {prefix}` ({})",
            failure.text()
        ))
    })
}

/// Each token is shown, in the end, even if a later one could not be made: what was made and not shown would be lost.
fn create_many(
    directory: &dyn Backend,
    new: &NewToken,
    user_name: &str,
    count: u32,
    output: Output,
) -> Result<(), Failure> {
    let now = Timestamp::now();
    let mut made = Vec::new();
    let mut failure = None;
    for _ in 0..count {
        match directory.create_token(new) {
            Ok(created) => made.push(created),
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    let tokens = made
        .iter()
        .map(|MadeToken { full, token }| Created {
            full_token: full.expose_secret(),
            token: Shown::new(token.clone(), user_name, now),
        })
        .collect();
    output.result(&CreatedList { tokens }, |created| {
        created.tokens.iter().map(|token| token.full_token).collect::<Vec<_>>().join("\n")
    })?;
    failure.map_or(Ok(()), Err)
}

fn list(directory: &dyn Backend, user: Option<&str>, listed: Listed, output: Output) -> Result<(), Failure> {
    let members = match user {
        Some(user) => vec![directory.application_user(user)?],
        None => directory.users()?,
    };
    let now = Timestamp::now();
    let mut tokens = Vec::new();
    for member in &members {
        let of_member = directory.tokens(&member.user.id)?.into_iter();
        tokens.extend(
            of_member
                .filter(|token| listed == Listed::All || token.token.revoked_time.is_none())
                .map(|token| Shown::new(token, &member.user.name, now)),
        );
    }
    output.result(&ShownList { tokens }, ShownList::text)
}

fn revoke(directory: &dyn Backend, prefix: &TokenPrefix, output: Output) -> Result<(), Failure> {
    let was_revoked = find(directory, prefix)?.revoked_time.is_some();
    directory.revoke_token(prefix.as_str())?;
    let token = find(directory, prefix)?;
    output.result(&token, |token| {
        let when = token.revoked_time.map_or_else(String::new, |time| format!(" at {time}"));
        let prefix = printable(&token.token_prefix);
        if was_revoked {
            format!("token {prefix} had been revoked before{when}")
        } else {
            format!("revoked token {prefix} of {}{when}", printable(&token.user_name))
        }
    })
}

/// The token with this prefix, if it is one of a user of the organization.
fn find(directory: &dyn Backend, prefix: &TokenPrefix) -> Result<Shown, Failure> {
    let NamedToken { token, user_name } = directory.token(prefix.as_str())?;
    Ok(Shown::new(token, &user_name, Timestamp::now()))
}
