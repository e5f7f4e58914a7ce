//! What commands print: results to standard output, problems to standard error, as text or as JSON.
//!
//! Everything printed passes through here, so that no control character of a name or user agent reaches a terminal,
//! and a reader that has gone is no panic.

use std::io::{self, Write};

use comfy_table::{Table, presets};
use serde::Serialize;

use super::failure::Failure;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// The process's standard output and error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    format: Format,
}

impl Output {
    pub(super) const fn new(format: Format) -> Self {
        Self { format }
    }

    pub(super) const fn format(self) -> Format {
        self.format
    }

    /// Prints a result, in one of its two shapes.
    pub(super) fn result<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let printed = match self.format {
            Format::Text => text(value),
            Format::Json => serde_json::to_string_pretty(value).map_err(Failure::failed)?,
        };
        let written = write_line(&mut io::stdout().lock(), printed.trim_end_matches('\n'));
        written.map_err(|error| Failure::Failed(format!("cannot write to standard output: {error}")))
    }

    /// Prints why a command failed.
    pub(super) fn problem(self, failure: &Failure) {
        let printed = match self.format {
            Format::Text => failure.text(),
            Format::Json => failure.json().to_string(),
        };
        self.remark(&printed);
    }

    /// Tells the person at the terminal something that is not the result.
    pub(super) fn remark(self, text: &str) {
        // Where standard error is closed, nobody is left to be told.
        let _unheard = write_line(&mut io::stderr().lock(), text);
    }
}

/// Writes a line; that nobody reads it any more is no error.
fn write_line(stream: &mut impl Write, text: &str) -> io::Result<()> {
    let written = stream
        .write_all(text.as_bytes())
        .and_then(|()| stream.write_all(b"\n"))
        .and_then(|()| stream.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Columns under their titles.
pub(super) fn table<const N: usize>(
    titles: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(titles);
    for row in rows {
        table.add_row(row.map(|value| printable(&value)));
    }
    trimmed(&table)
}

/// One thing: its fields, one a line.
pub(super) fn fields<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    for (name, value) in rows {
        table.add_row([name.to_owned(), printable(&value)]);
    }
    trimmed(&table)
}

/// A value that may be absent.
pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A list in one line.
pub(super) fn joined(values: &[String], when_empty: &str) -> String {
    if values.is_empty() { when_empty.to_owned() } else { values.join(", ") }
}

/// The text with control characters escaped: a terminal would act on them.
pub(super) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        // Besides the control characters, those that turn the direction of what follows.
        if character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            printable.extend(character.escape_unicode());
        } else {
            printable.push(character);
        }
    }
    printable
}

fn trimmed(table: &Table) -> String {
    table.trim_fmt().lines().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error_and_a_full_disk_is_one() {
        write_line(&mut Failing(io::ErrorKind::BrokenPipe), "text").unwrap();
        write_line(&mut Failing(io::ErrorKind::StorageFull), "text").unwrap_err();
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(printable("curl\u{1b}[31m\r\n"), "curl\\u{1b}[31m\\u{d}\\u{a}");
        assert_eq!(printable("\u{202e}txt Zoë"), "\\u{202e}txt Zoë");
    }

    #[test]
    fn columns_stand_under_their_titles() {
        let printed = table(["NAME", "STATE"], [["a".to_owned(), "active".to_owned()]]);
        assert_eq!(printed, "NAME  STATE\na     active");
    }
}
