//! The command line: the tree of commands, and what the process exits with.
//!
//! One file a group of commands is in `cli/`. What a command changes or decides is not written here: commands call
//! the directory's operations, the policy and the application, and say what came of it.

mod application_user;
mod arguments;
mod backend;
mod check;
mod completions;
mod confirm;
mod demo;
mod directory;
mod events;
mod explain;
mod failure;
mod health;
mod init;
mod nearest;
mod output;
mod permission;
mod policy;
mod reload;
mod run;
mod token;
mod upgrade;
mod user;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use arguments::ConfigArguments;
use failure::Failure;
use output::{Format, Output};

const EXAMPLES: &str = "\
Examples:
  postern demo                                  a working sidecar, from nothing, in one command
  postern check --config postern.toml           is this configuration right?
  postern init --config postern.toml            make the store, the organization and its projects
  postern run --config postern.toml             run the sidecar
  postern token list --json                     every command can speak JSON
  postern token list --url https://HOST:8181    ask a running sidecar's management API instead of the store; the token
                                                comes from POSTERN_TOKEN or --token-file

Exit codes:
  0   done; for `explain`: permitted
  1   failed; for `explain`: denied
  2   wrong usage of the command line
  64  something is wrong with the configuration";

/// An authenticating reverse-proxy sidecar: lets in only requests whose bearer token is valid now, under the
/// organization's authentication policy as it is now.
#[derive(Debug, Parser)]
#[command(name = "postern", version, after_help = EXAMPLES, disable_help_subcommand = true)]
#[command(arg_required_else_help = true)]
struct Arguments {
    /// Print JSON instead of text for people.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a working sidecar, made from nothing, with lines to paste; Ctrl-C leaves nothing behind.
    #[command(after_help = demo::EXAMPLES)]
    Demo(demo::DemoArguments),
    /// Run the sidecar.
    #[command(after_help = run::EXAMPLES)]
    Run(ConfigArguments),
    /// Check a configuration file, and every file it refers to.
    #[command(after_help = check::EXAMPLES)]
    Check(ConfigArguments),
    /// Let the running sidecar take up its changed configuration and certificates.
    #[command(after_help = reload::EXAMPLES)]
    Reload(ConfigArguments),
    /// Let a new process of the program that is installed now take over from the running sidecar, without a pause.
    #[command(after_help = upgrade::EXAMPLES)]
    Upgrade(upgrade::UpgradeArguments),
    /// Ask the running sidecar whether it is ready.
    #[command(after_help = health::EXAMPLES)]
    Health(health::HealthArguments),
    /// Make the store, with the configuration's organization and the projects that its routes name.
    #[command(after_help = init::EXAMPLES)]
    Init(ConfigArguments),
    /// Make, list, show, change and delete application users.
    #[command(after_help = application_user::EXAMPLES)]
    ApplicationUser(application_user::ApplicationUserArguments),
    /// Make, list, show, change and delete people, and their passwords.
    #[command(after_help = user::EXAMPLES)]
    User(user::UserArguments),
    /// Make, list, show and revoke the tokens of application users.
    #[command(after_help = token::EXAMPLES)]
    Token(token::TokenArguments),
    /// Show and set the organization's authentication policy.
    #[command(after_help = policy::EXAMPLES)]
    Policy(policy::PolicyArguments),
    /// Grant, revoke and list permissions and roles.
    #[command(after_help = permission::EXAMPLES)]
    Permission(permission::PermissionArguments),
    /// Show who changed the directory and who logged in, when and from where.
    #[command(after_help = events::EXAMPLES)]
    Events(events::EventsArguments),
    /// Say how a request would be decided: every check with its inputs and its result.
    #[command(after_help = explain::EXAMPLES)]
    Explain(explain::ExplainArguments),
    /// Print the completions of a shell.
    #[command(after_help = completions::EXAMPLES)]
    Completions(completions::CompletionsArguments),
}

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// 0: done; a request would be permitted.
    Done,
    /// 1: failed; a request would be denied.
    Failed,
    /// 2: the command line was not used as it is meant; also clap's own.
    Usage,
    /// 64: something is wrong with the configuration.
    Config,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Config => 64,
        })
    }
}

/// Runs the command that the process was called with, and says what to exit with.
///
/// What was asked for goes to standard output, problems to standard error. A reader that has gone (`postern … | head`)
/// is no problem.
pub fn main() -> ExitCode {
    // Wrong usage, `--help` and `--version` end here, with 2 and 0.
    let arguments = Arguments::parse();
    let output = Output::new(if arguments.json { Format::Json } else { Format::Text });
    let exit = execute(arguments.command, output).unwrap_or_else(|failure| {
        output.problem(&failure);
        failure.exit()
    });
    exit.into()
}

fn execute(command: Command, output: Output) -> Result<Exit, Failure> {
    match command {
        Command::Demo(arguments) => demo::execute(&arguments, output),
        Command::Run(arguments) => run::execute(&arguments, output),
        Command::Check(arguments) => check::execute(&arguments, output),
        Command::Reload(arguments) => reload::execute(&arguments, output),
        Command::Upgrade(arguments) => upgrade::execute(&arguments, output),
        Command::Health(arguments) => health::execute(&arguments, output),
        Command::Init(arguments) => init::execute(&arguments, output),
        Command::ApplicationUser(arguments) => application_user::execute(arguments, output),
        Command::User(arguments) => user::execute(arguments, output),
        Command::Token(arguments) => token::execute(arguments, output),
        Command::Policy(arguments) => policy::execute(arguments, output),
        Command::Permission(arguments) => permission::execute(arguments, output),
        Command::Events(arguments) => events::execute(&arguments, output),
        Command::Explain(arguments) => explain::execute(&arguments, output),
        Command::Completions(arguments) => completions::execute(&arguments, output),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_tree_of_commands_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_help_of_every_command_has_examples() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.starts_with("Examples:\n"), "no examples in{path} --help");
            assert!(
                after.contains(&format!("\n  postern {}", path.trim_start_matches(" postern").trim_start()))
            );
            for subcommand in command.get_subcommands() {
                check(subcommand, &path);
            }
        }
        check(&Arguments::command(), "");
    }
}
