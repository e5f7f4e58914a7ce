//! `postern token rotate`: a new token in the place of an old one. The full token is shown once.

use clap::Args;
use secrecy::ExposeSecret as _;
use serde::Serialize;

use super::find;
use super::shown::Shown;
use crate::cli::arguments::{TokenPrefix, seconds};
use crate::cli::backend::{Backend, NamedToken};
use crate::cli::failure::Failure;
use crate::cli::output::{Output, printable};
use crate::directory::model::Timestamp;

pub(super) const EXAMPLES: &str = "\
Examples:
  postern token rotate psta_AbCdEfGhIjKl --overlap 7d
  postern token rotate psta_AbCdEfGhIjKl --overlap 0
  postern token rotate psta_AbCdEfGhIjKl --overlap 1d --json | jq -r .full_token

The new token has the old one's description, lifetime, addresses and scopes. Both work until the overlap is over; with 0 \
the old one ends at once. At most 30 days.";

#[derive(Debug, Args)]
pub(super) struct RotateArguments {
    /// The first 17 characters of the old token.
    #[arg(value_name = "PREFIX", value_parser = TokenPrefix::read)]
    prefix: TokenPrefix,
    /// For how long the old token works beside the new one, such as 7d or 12h.
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    overlap: u32,
}

/// A token just made, and the one whose place it takes. Serialized only to be printed.
#[derive(Serialize)]
struct Rotated<'a> {
    full_token: &'a str,
    #[serde(flatten)]
    token: Shown,
    replaced: Shown,
}

pub(super) fn rotate(
    directory: &dyn Backend,
    arguments: &RotateArguments,
    output: Output,
) -> Result<(), Failure> {
    let prefix = arguments.prefix.as_str();
    let NamedToken { token: old, user_name } = directory.token(prefix)?;
    let made = directory.rotate_token(&old.token, arguments.overlap)?;
    let shown = Rotated {
        full_token: made.full.expose_secret(),
        token: Shown::new(made.token, &user_name, Timestamp::now()),
        replaced: find(directory, &arguments.prefix)?,
    };
    let shown_well = output.result(&shown, |shown| {
        let replaced = &shown.replaced;
        let end = match (replaced.revoked_time, replaced.expiry_time) {
            (Some(time), _) => format!("was revoked at {time}"),
            (None, Some(time)) => format!("ends at {time}"),
            (None, None) => "goes on".to_owned(),
        };
        format!(
            "{}\n\n{}\n\nThe old token {} {end}.\nThis is the only time that the full token is shown; it cannot be had \
             again.",
            shown.full_token,
            shown.token.text(),
            printable(&replaced.token_prefix)
        )
    });
    shown_well.map_err(|failure| {
        let prefix = &shown.token.token_prefix;
        Failure::Failed(format!(
            "token {prefix} was made, but could not be shown: revoke it with `postern token revoke {prefix}` ({})",
            failure.text()
        ))
    })
}
