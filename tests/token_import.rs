//! `postern token import` beside a running sidecar: what is taken in lets in, what is not is told by its line, and to do it
//! again does no harm.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use postern::token::TokenDigest;
use serde_json::{Value, json};
use support::{Sidecar, Upstream, until};

/// What no output may repeat.
const SECRET: &str = "with_a_secret_inside";

fn digest(token: &str) -> String {
    data_encoding::HEXLOWER.encode(TokenDigest::of(token.as_bytes()).as_bytes())
}

/// A token of another issuer, and its prefix.
fn foreign(number: usize) -> (String, String) {
    (format!("live_{number:06}_{SECRET}"), format!("live_{number:06}"))
}

fn csv(numbers: impl Iterator<Item = usize>) -> String {
    let mut text = String::from("token_prefix,digest\n");
    for number in numbers {
        let (token, prefix) = foreign(number);
        writeln!(text, "{prefix},{}", digest(&token)).unwrap();
    }
    text
}

struct Importer {
    sidecar: Sidecar,
    user: String,
    _upstream: Upstream,
}

impl Importer {
    fn start() -> Self {
        let upstream = Upstream::echo();
        let sidecar = Sidecar::in_front_of(&upstream).start();
        let user = sidecar.permitted.user_id.clone();
        Self { sidecar, user, _upstream: upstream }
    }

    /// Runs the command with a text as its standard input.
    fn run(&self, text: &[u8], arguments: &[&str]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_postern"))
            .args(["token", "import"])
            .args(arguments)
            .arg("--json")
            .arg("--config")
            .arg(self.sidecar.config_file())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let text = text.to_owned();
        // A command that refuses its arguments reads nothing.
        let writing = std::thread::spawn(move || drop(input.write_all(&text)));
        let output = child.wait_with_output().unwrap();
        writing.join().unwrap();
        for told in [&output.stdout, &output.stderr] {
            let told = String::from_utf8_lossy(told);
            assert!(!told.contains(SECRET), "a token is repeated: {told}");
        }
        output
    }

    /// Imports for one user; returns the summary and whether all went well.
    #[track_caller]
    fn import(&self, text: &[u8], arguments: &[&str]) -> (Value, bool) {
        let output = self.run(text, &[&["--user", &self.user], arguments].concat());
        let summary = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
            panic!("a summary was expected: {}", String::from_utf8_lossy(&output.stderr))
        });
        (summary, output.status.success())
    }

    fn status(&self, token: &str) -> u16 {
        self.sidecar.request(self.sidecar.head_with(token, "GET /", "")).status
    }
}

fn counts(summary: &Value) -> (u64, u64, u64) {
    let count = |name: &str| summary[name].as_u64().unwrap();
    (count("imported"), count("known"), count("failed"))
}

#[test]
fn what_is_imported_lets_in_and_stays_revoked() {
    let importer = Importer::start();
    let (token, prefix) = foreign(1);
    assert_eq!(importer.status(&token), 401);
    let file = csv(1..=1);
    let (summary, _) = importer.import(file.as_bytes(), &["--format", "csv", "--dry-run"]);
    assert_eq!((counts(&summary), &summary["dry_run"]), ((1, 0, 0), &json!(true)));
    let (summary, is_well) = importer.import(file.as_bytes(), &["--format", "csv"]);
    assert_eq!((counts(&summary), is_well), ((1, 0, 0), true), "a trial takes nothing in");
    until("the token to let in", || importer.status(&token) == 200);

    postern::directory::operations::revoke_token(
        &*importer.sidecar.directory.store,
        &prefix,
        postern::directory::model::Timestamp::now(),
    )
    .unwrap();
    until("the token to be refused", || importer.status(&token) == 401);
    let (summary, _) = importer.import(file.as_bytes(), &["--format", "csv"]);
    assert_eq!(counts(&summary), (0, 1, 0));
    let stored = importer.sidecar.directory.store.read(|records| records.token(&prefix)).unwrap();
    assert!(stored.unwrap().token.revoked_time.is_some(), "nothing revives it");
}

#[test]
fn to_import_a_file_again_takes_in_what_is_missing() {
    let importer = Importer::start();
    let (whole, part) = (csv(0..3_500), csv(0..1_200));
    let file = importer.sidecar.folder().join("tokens.csv");
    std::fs::write(&file, &whole).unwrap();
    let (summary, _) = importer.import(part.as_bytes(), &["--format", "csv"]);
    assert_eq!(counts(&summary), (1_200, 0, 0));
    let (summary, _) = importer.import(b"", &[file.to_str().unwrap(), "--dry-run"]);
    assert_eq!(counts(&summary), (2_300, 1_200, 0));
    let (summary, _) = importer.import(b"", &[file.to_str().unwrap()]);
    assert_eq!(counts(&summary), (2_300, 1_200, 0));
    let (summary, is_well) = importer.import(b"", &[file.to_str().unwrap()]);
    assert_eq!((counts(&summary), is_well), ((0, 3_500, 0), true));
}

#[test]
fn bad_lines_are_told_by_number_and_others_taken_in() {
    let importer = Importer::start();
    let object = |number: usize, more: Value| {
        let (token, prefix) = foreign(number);
        let mut object = json!({"token_prefix": prefix, "digest": digest(&token)});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object.to_string().into_bytes()
    };
    let none = || json!({});
    let lines = [
        object(1, none()),
        object(1, none()),
        // The whole token in place of its digest, and of its prefix.
        object(2, json!({"digest": foreign(2).0})),
        object(3, json!({"token_prefix": foreign(3).0})),
        b"\xff\xfe".to_vec(),
        vec![b'x'; 200_000],
        Vec::new(),
        object(1, json!({"digest": digest("another token")})),
        object(4, json!({"digest": digest(&foreign(1).0)})),
        object(5, json!({"token_prefix": "abc"})),
        object(6, json!({"user": "nobody"})),
        object(7, json!({"scopes": ["everything"]})),
        object(8, json!({"max_age_seconds": 5})),
        object(9, json!({"ip_allowlist": ["300.1.1.1"]})),
        object(
            10,
            json!({"scopes": ["service:data:write"], "max_age_seconds": 3600, "ip_allowlist": ["10.0.0.0/8"]}),
        ),
    ];
    let text = lines.join(&b'\n');
    let expected = [
        (3, "`digest` is not the SHA-256"),
        (4, "is the whole token"),
        (5, "not UTF-8"),
        (6, "too long"),
        (8, "already exists"),
        (9, "already exists"),
        (10, "token_prefix: must be 4 to 64"),
        (11, "the user does not exist"),
        (12, "scopes"),
        (13, "max_age_seconds"),
        (14, "ip_allowlist"),
    ];
    // A trial does not see what it would have taken in: it says so of another line instead.
    for (arguments, conflict) in [(&["--dry-run"][..], "another line has the same"), (&[], "already exists")]
    {
        let (summary, is_well) = importer.import(&text, &[&["--format", "jsonl"], arguments].concat());
        assert_eq!((counts(&summary), is_well), ((2, 1, expected.len() as u64), false), "{summary}");
        let problems: Vec<_> = summary["problems"]
            .as_array()
            .unwrap()
            .iter()
            .map(|problem| (problem["line"].as_u64().unwrap(), problem["reason"].as_str().unwrap()))
            .collect();
        assert_eq!(problems.len(), expected.len());
        for ((line, reason), (number, words)) in problems.into_iter().zip(expected) {
            let words = if words == "already exists" { conflict } else { words };
            assert!(line == number && reason.contains(words), "line {line} ({number}): {reason}");
        }
    }
    let stored = importer.sidecar.directory.store.read(|records| records.token("live_000010")).unwrap();
    let token = stored.unwrap().token;
    assert_eq!((token.imported, token.max_age_seconds), (true, Some(3600)));
    assert_eq!(
        (token.scopes, token.ip_allowlist),
        (vec!["service:data:write".into()], vec!["10.0.0.0/8".into()])
    );
}

#[test]
fn what_cannot_be_read_takes_nothing_in() {
    let importer = Importer::start();
    let usage = Some(2);
    for (text, arguments, code, expected) in [
        ("", &["--format", "csv", "nowhere.csv"][..], Some(1), "cannot read nowhere.csv"),
        ("", &[], usage, "say how the file is written"),
        (
            "token,digest\n",
            &["--format", "csv"],
            Some(1),
            "line 1 of standard input: the first line is no heading",
        ),
    ] {
        let output = importer.run(text.as_bytes(), arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == code && told.contains(expected), "{arguments:?}: {told}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}
