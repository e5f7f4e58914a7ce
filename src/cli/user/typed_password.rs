//! A password that somebody types, or sends in on standard input: never an argument, and never shown.

use std::io::{self, BufRead as _, IsTerminal as _};

use secrecy::{ExposeSecret as _, SecretString};

use crate::cli::directory::Directory;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::login::password::{self, HashCost, Passwords};

/// The hash of a password that somebody types, or sends in.
pub(super) fn new_password(
    directory: &Directory,
    email: &str,
    name: &str,
    output: Output,
) -> Result<String, Failure> {
    let stdin = io::stdin();
    let password = if stdin.is_terminal() { typed(output)? } else { first_line()? };
    password::check_strength(password.expose_secret(), email, name)
        .map_err(|weakness| Failure::Failed(format!("the password {weakness}; nothing was changed")))?;
    let login = directory.config.login();
    let cost = HashCost {
        memory_kib: login.argon2_memory_kib,
        iterations: login.argon2_iterations,
        parallelism: login.argon2_parallelism,
    };
    Ok(Passwords::new(cost).hash(password.expose_secret()))
}

/// Twice, unseen: nobody can see a slip.
fn typed(output: Output) -> Result<SecretString, Failure> {
    let unseen = Unseen::begin()?;
    output.remark("New password:");
    let password = first_line()?;
    output.remark("Once more:");
    let again = first_line()?;
    drop(unseen);
    if password.expose_secret() == again.expose_secret() {
        return Ok(password);
    }
    Err(Failure::Failed("the two passwords differ; nothing was changed".to_owned()))
}

fn first_line() -> Result<SecretString, Failure> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let password = SecretString::from(line.trim_end_matches(['\n', '\r']));
    secrecy::zeroize::Zeroize::zeroize(&mut line);
    Ok(password)
}

/// A terminal that does not show what is typed, until this is dropped.
struct Unseen(rustix::termios::Termios);

impl Unseen {
    fn begin() -> io::Result<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing put back.
        let _gone = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Flush, &self.0);
    }
}
