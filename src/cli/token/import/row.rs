//! One line of a file of tokens: CSV or JSON to values. What is wrong is told by the field's name and never with its
//! content, which may be a whole token that somebody has put in the wrong place.

use csv_core::{ReadRecordResult, Reader};
use serde_json::{Map, Value};

use crate::directory::operations::ImportedToken;
use crate::token::TokenDigest;

/// The fields of a line, as CSV's heading and JSON's objects have them.
pub(super) const FIELDS: [&str; 8] = [
    "token_prefix",
    "digest",
    "user",
    "description",
    "max_age_seconds",
    "extend_when_used",
    "ip_allowlist",
    "scopes",
];

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum FileFormat {
    /// A heading and one token a line.
    Csv,
    /// One object a line.
    Jsonl,
}

/// What a line says of a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) imported: ImportedToken,
    pub(super) user: Option<String>,
    pub(super) description: String,
    pub(super) max_age_seconds: Option<u32>,
    pub(super) extend_when_used: bool,
    pub(super) ip_allowlist: Vec<String>,
    pub(super) scopes: Vec<String>,
}

/// Reads the lines of one file.
#[derive(Debug)]
pub(super) enum Rows {
    /// With the heading's fields in their order; `None` before the heading.
    Csv(Option<Vec<&'static str>>),
    Jsonl,
}

impl Rows {
    pub(super) fn of(format: FileFormat) -> Self {
        match format {
            FileFormat::Csv => Self::Csv(None),
            FileFormat::Jsonl => Self::Jsonl,
        }
    }

    /// What a line says; `None` of an empty one and of the heading.
    pub(super) fn read(&mut self, line: &str) -> Result<Option<Row>, String> {
        if line.trim().is_empty() {
            return Ok(None);
        }
        let fields = match self {
            Self::Jsonl => of_json(line)?,
            Self::Csv(heading @ None) => {
                *heading = Some(heading_of(line)?);
                return Ok(None);
            }
            Self::Csv(Some(heading)) => of_csv(heading, line)?,
        };
        row(&fields).map(Some)
    }

    /// Whether lines can be read: a file without its heading says nothing.
    pub(super) fn is_ready(&self) -> bool {
        !matches!(self, Self::Csv(None))
    }
}

fn heading_of(line: &str) -> Result<Vec<&'static str>, String> {
    let known = FIELDS.join(", ");
    let mut heading = Vec::new();
    for name in csv_fields(line)? {
        let Some(field) = FIELDS.into_iter().find(|field| *field == name.trim()) else {
            return Err(format!("the first line is no heading: its columns are to be some of {known}"));
        };
        if heading.contains(&field) {
            return Err(format!("the heading has `{field}` twice"));
        }
        heading.push(field);
    }
    match ["token_prefix", "digest"].into_iter().find(|needed| !heading.contains(needed)) {
        Some(missing) => Err(format!("the heading has no `{missing}`")),
        None => Ok(heading),
    }
}

fn of_csv(heading: &[&'static str], line: &str) -> Result<Map<String, Value>, String> {
    let fields = csv_fields(line)?;
    if fields.len() != heading.len() {
        return Err(format!("there are {} columns, the heading has {}", fields.len(), heading.len()));
    }
    let mut read = Map::new();
    for (&name, text) in heading.iter().zip(fields) {
        // An empty field is one that is not there.
        let value = match (name, text.as_str()) {
            (_, "") => continue,
            ("max_age_seconds", text) => text.parse::<u32>().map_or(Value::Null, Value::from),
            ("extend_when_used", "true") => Value::Bool(true),
            ("extend_when_used", "false") => Value::Bool(false),
            ("extend_when_used", _) => Value::Null,
            ("ip_allowlist" | "scopes", text) => text.split_ascii_whitespace().collect(),
            (_, text) => Value::from(text),
        };
        if value.is_null() {
            return Err(wrong(name));
        }
        read.insert(name.to_owned(), value);
    }
    Ok(read)
}

/// The fields of one line of CSV (RFC 4180); none goes on in the next line.
fn csv_fields(line: &str) -> Result<Vec<String>, String> {
    let (mut text, mut ends) = (vec![0; line.len() + 1], vec![0; line.len() + 2]);
    let mut reader = Reader::new();
    let (mut read, mut written, mut count) = (0, 0, 0);
    loop {
        let input = line.as_bytes().get(read..).unwrap_or_default();
        let (result, taken, put, ended) = reader.read_record(input, &mut text[written..], &mut ends[count..]);
        read += taken;
        written += put;
        count += ended;
        match result {
            ReadRecordResult::Record | ReadRecordResult::End => break,
            ReadRecordResult::InputEmpty => {}
            // There is room for every byte and every end.
            ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                return Err("the line is no CSV".to_owned());
            }
        }
    }
    let starts = std::iter::once(0).chain(ends[..count].iter().copied());
    let field = |(start, end): (usize, &usize)| String::from_utf8(text[start..*end].to_vec());
    starts
        .zip(&ends[..count])
        .map(field)
        .collect::<Result<_, _>>()
        .map_err(|_| "the line is no CSV".to_owned())
}

fn of_json(line: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(line) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("the line is not a JSON object".to_owned()),
        // Its own words may repeat the text.
        Err(error) => Err(format!("the line is no JSON: column {}", error.column())),
    }
}

fn row(fields: &Map<String, Value>) -> Result<Row, String> {
    if fields.keys().any(|name| !FIELDS.contains(&name.as_str())) {
        return Err(format!("there is a field that is none of {}", FIELDS.join(", ")));
    }
    let present = |name: &str| fields.get(name).filter(|value| !value.is_null());
    let text =
        |name: &'static str| present(name).map(|value| value.as_str().ok_or_else(|| wrong(name))).transpose();
    let list = |name: &'static str| match present(name) {
        None => Ok(Vec::new()),
        Some(value) => strings(value).ok_or_else(|| wrong(name)),
    };
    let prefix = text("token_prefix")?.ok_or("there is no `token_prefix`")?;
    let digest = digest(text("digest")?.ok_or("there is no `digest`")?)?;
    if TokenDigest::of(prefix.as_bytes()) == digest {
        return Err("`token_prefix` is the whole token: write its first characters only".to_owned());
    }
    let max_age = present("max_age_seconds")
        .map(|value| value.as_u64().and_then(|seconds| u32::try_from(seconds).ok()));
    Ok(Row {
        imported: ImportedToken { prefix: prefix.to_owned(), digest },
        user: text("user")?.map(str::to_owned),
        description: text("description")?.unwrap_or_default().to_owned(),
        max_age_seconds: max_age
            .map(|seconds| seconds.ok_or_else(|| wrong("max_age_seconds")))
            .transpose()?,
        extend_when_used: match present("extend_when_used") {
            None => false,
            Some(value) => value.as_bool().ok_or_else(|| wrong("extend_when_used"))?,
        },
        ip_allowlist: list("ip_allowlist")?,
        scopes: list("scopes")?,
    })
}

fn strings(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|one| one.as_str().map(str::to_owned)).collect()
}

fn digest(text: &str) -> Result<TokenDigest, String> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
    let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.map(TokenDigest::from_bytes).ok_or_else(|| {
        "`digest` is not the SHA-256 of a token: write 64 hexadecimal digits, never the token itself"
            .to_owned()
    })
}

fn wrong(name: &str) -> String {
    let expected = match name {
        "max_age_seconds" => "a number of seconds",
        "extend_when_used" => "`true` or `false`",
        "ip_allowlist" | "scopes" => "a list of texts (in CSV, with spaces in between)",
        _ => "a text",
    };
    format!("`{name}` is not {expected}")
}

#[cfg(test)]
mod tests;
