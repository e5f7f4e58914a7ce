//! What is wrong with a configuration file: every problem at once, each with its place, reason and remedy.
//!
//! Only the report's shape and its text live here. Nothing in here decides what is wrong; and nothing may be put
//! into a [`Problem`] that has not passed [`super::source::Source`], which takes secrets out of source lines.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// All that is wrong with one file. Never contains a secret's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigError {
    /// The configuration file.
    pub file: PathBuf,
    /// Its problems in the file's order; never empty.
    pub problems: Vec<Problem>,
    /// Files that the configuration refers to, as far as they are known: a watcher follows them, so that a
    /// corrected certificate is noticed even while the configuration cannot be used.
    pub referenced_files: Vec<PathBuf>,
}

/// One thing that is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where in the file; `None`: the file as a whole.
    pub excerpt: Option<Excerpt>,
    /// Path of the key, such as `upstreams[0].connect_seconds`; empty: the file as a whole.
    pub key: String,
    /// The value as written, shortened; `None` where there is none or it could be a secret.
    pub value: Option<String>,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

/// The place of a problem with its source line, secrets replaced by `…`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Excerpt {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line, with `…` in place of secrets.
    pub source_line: String,
    /// Characters of `source_line` before the marked part.
    pub marker_start: usize,
    /// Characters of `source_line` that are marked; at least 1.
    pub marker_length: usize,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "error: {}", problem.reason)?;
            match &problem.excerpt {
                Some(excerpt) => write_excerpt(f, &self.file, excerpt)?,
                None => writeln!(f, "  --> {}", self.file.display())?,
            }
            writeln!(f, "  = remedy: {}", problem.remedy)?;
            writeln!(f)?;
        }
        let count = self.problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        write!(f, "{}: {count} {noun}", self.file.display())
    }
}

fn write_excerpt(f: &mut fmt::Formatter<'_>, file: &std::path::Path, excerpt: &Excerpt) -> fmt::Result {
    let number = excerpt.line.to_string();
    let gutter = " ".repeat(number.len());
    // Tabs stay tabs before the marker, so that it stands under what it marks at any tab width.
    let padding: String = excerpt
        .source_line
        .chars()
        .take(excerpt.marker_start)
        .map(|character| if character == '\t' { '\t' } else { ' ' })
        .collect();
    let marker = "^".repeat(excerpt.marker_length);
    writeln!(f, "{gutter} --> {}:{}:{}", file.display(), excerpt.line, excerpt.column)?;
    writeln!(f, "{gutter} |")?;
    writeln!(f, "{number} | {}", excerpt.source_line)?;
    writeln!(f, "{gutter} | {padding}{marker}")
}
