//! Text that is not TOML: the parser's errors as problems, with lines shown only where they cannot hold a secret.

use toml::de::Error;

use super::decode::{Schema, Sensitivity, Table};
use super::file::FileConfig;
use super::report::{Location, Report};

/// Notes the errors, at most one a line: what follows on the same line is mostly the same mistake.
pub(crate) fn note(errors: &[Error], text: &str, report: &mut Report<'_>) {
    let mut last_line = None;
    for error in errors {
        let end = text.len();
        let span = error.span().unwrap_or(end..end);
        let at = Location { span: Some(span.start.min(end)..span.end.min(end)), key: String::new() };
        let line = report.line(&at);
        if line == last_line {
            continue;
        }
        last_line = line;
        hide(&at, report);
        let reason = format!("this is not TOML: {}", error.message());
        report.place_problem(&at, reason, remedy(error.message()));
    }
}

/// Masks what could be a secret: where the syntax is broken, nobody can tell which key a value belongs to. Lines
/// are shown if they are a table's header, or one assignment to a key that never holds a secret.
fn hide(at: &Location, report: &mut Report<'_>) {
    let Some(line) = report.line(at) else { return };
    let text = report.source().line_text(line);
    let mut range = report.source().line_range(line);
    if is_header(text) || is_harmless_assignment(text) {
        return;
    }
    if let Some(equals) = text.find('=') {
        let value = text.get(equals + 1..).unwrap_or_default();
        range.start += equals + 1 + (value.len() - value.trim_start().len());
    }
    report.mask(&Location { span: Some(range), key: String::new() });
}

fn is_header(line: &str) -> bool {
    line.trim_start().starts_with('[')
        && line.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '[' | ']' | '.' | '_' | '-' | ' '))
}

fn is_harmless_assignment(line: &str) -> bool {
    let Some((key, value)) = line.split_once('=') else { return false };
    // More than one text on the line: the rest can be what a lost line break left of another key.
    let quotes = value.matches(['"', '\'']).count();
    quotes <= 2 && !value.contains(['=', '@']) && is_plain_key(key.trim(), &FileConfig::SCHEMA)
}

/// Whether some table has such a key, and no table has it for a secret or a table.
fn is_plain_key(name: &str, schema: &'static Schema) -> bool {
    let mut kinds = Vec::new();
    collect(name, schema, &mut kinds);
    return !kinds.is_empty() && kinds.iter().all(|plain| *plain);

    fn collect(name: &str, schema: &'static Schema, kinds: &mut Vec<bool>) {
        for key in schema.keys {
            if key.name == name {
                kinds.push(key.sensitivity == Sensitivity::Plain && key.nested.is_none());
            }
            if let Some(nested) = key.nested {
                collect(name, nested, kinds);
            }
        }
    }
}

fn remedy(message: &str) -> &'static str {
    if message.contains("duplicate key") {
        "keep one of the two; a table that may repeat has two brackets, such as `[[routes]]`"
    } else if message.contains("string") || message.contains("quote") {
        "put text in double quotes, such as `name = \"public\"`, and close them on the same line"
    } else {
        "write `key = value` lines below `[table]` headers; text is in double quotes, lists are in brackets"
    }
}
