//! `postern completions`: what a shell needs to complete the command line.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use serde::Serialize;

use super::failure::Failure;
use super::output::Output;
use super::{Arguments, Exit};

pub(super) const EXAMPLES: &str = "\
Examples:
  postern completions bash > /usr/share/bash-completion/completions/postern
  postern completions zsh > ~/.zfunc/_postern
  postern completions fish > ~/.config/fish/completions/postern.fish";

#[derive(Debug, Args)]
pub(super) struct CompletionsArguments {
    /// Which shell.
    shell: Shell,
}

#[derive(Serialize)]
struct Completions {
    shell: String,
    script: String,
}

pub(super) fn execute(arguments: &CompletionsArguments, output: Output) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "postern", &mut script);
    let script = String::from_utf8(script).map_err(Failure::failed)?;
    let completions = Completions { shell: arguments.shell.to_string(), script };
    output.result(&completions, |completions| completions.script.clone())?;
    Ok(Exit::Done)
}
