//! Asking the person at the terminal before something that cannot be undone.

use std::io::{self, BufRead as _, IsTerminal as _};

use super::failure::Failure;
use super::output::Output;

/// What is about to happen.
pub(super) struct Question<'a> {
    /// Ends with a question mark, or says what will become of what.
    pub(super) text: &'a str,
    /// What is said if nobody has agreed, such as "nothing was deleted".
    pub(super) otherwise: &'a str,
    /// What `--yes` would do, such as "delete user u1a2b3c4d5e6 with its tokens".
    pub(super) deed: &'a str,
}

impl Question<'_> {
    /// Asks. Without a terminal nobody can have meant it but by `--yes`.
    pub(super) fn ask(&self, output: Output) -> Result<(), Failure> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            let Self { otherwise, deed, .. } = self;
            return Err(Failure::Usage(format!(
                "{otherwise}: there is no terminal to ask at; to {deed}, add --yes"
            )));
        }
        output.remark(&format!("{} Type `yes` to go on:", self.text));
        let mut answer = String::new();
        stdin.lock().read_line(&mut answer)?;
        if answer.trim() == "yes" { Ok(()) } else { Err(Failure::Failed(self.otherwise.to_owned())) }
    }
}
