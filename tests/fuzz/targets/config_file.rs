//! The configuration file: whatever its text is, it is taken or all that is wrong is told with its place, a reason and a
//! remedy, on lines that a terminal can show, and never with a secret.

#![allow(dead_code, reason = "libFuzzer needs no words")]

use std::path::Path;

use postern::config::change::needs_restart;
use postern::config::{Config, ConfigError, Problem};

pub const WORDS: &[&[u8]] = &[
    b"[[routes]]\n",
    b"[[upstreams]]\n",
    b"[[listeners]]\n",
    b"[listeners.tls]\n",
    b"[[listeners.tls.certificates]]\n",
    b"[organization.authentication]\n",
    b"[upstreams.credential]\n",
    b"[upstreams.health.check]\n",
    b"[routes.rate_limit]\n",
    b"[routes.match]\n",
    b"[admin]\naddress = \"127.0.0.1:0\"\n",
    b"[limits]\n",
    b"path_prefix = \"/a/{b}\"\n",
    b"hosts = [\"*.example.com\", \"a.example\"]\n",
    b"endpoints = [\"unix:/a\", \"[::1]:1\"]\n",
    b"authentication = \"off\"\n",
    b"{ env = \"POSTERN_FUZZ_UNSET\" }",
    b"{ file = \"missing\" }",
    b" = ",
    b"\"",
    b"\"\"\"",
    b"'",
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b"true",
    b"inf",
    b"1979-05-27T07:32:00Z",
    b"\\u0000",
    b"\\u202e",
    b"\x1b[2J",
    b"\xc3\xa9",
    b"\r\n",
    b"# ",
];

/// The secret of a file's last table, and where it stands: behind whatever came before.
const SECRET: &str = "canary-5b1e07c2";
const TABLE_WITH_SECRET: &str = "
[[upstreams]]
name = \"an upstream whose credential may be shown to nobody, whatever is wrong with the file before it\"
endpoints = [\"127.0.0.1:9\"]
[upstreams.credential]
kind = \"bearer\"
token = \"canary-5b1e07c2\"
";

pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    judge(&text);
    judge(&format!("{text}{TABLE_WITH_SECRET}"));
}

fn judge(text: &str) {
    match Config::parse(text, Path::new("/nowhere/postern.toml")) {
        Ok(config) => {
            assert!(needs_restart(&config, &config).is_empty());
            assert!(!format!("{config:?}").contains(SECRET), "a secret can be printed");
            for route in &config.routes {
                assert!(!route.name.is_empty());
            }
        }
        Err(error) => check_error(text, &error),
    }
}

fn check_error(text: &str, error: &ConfigError) {
    assert!(!error.problems.is_empty(), "refused without a reason");
    let shown = error.to_string();
    let json = serde_json::to_string(error).expect("an error can be told to programs");
    assert!(!shown.contains(SECRET) && !json.contains(SECRET), "a secret is shown:\n{shown}");
    assert!(shown.chars().all(is_visible), "a terminal is spoken to: {shown:?}");
    let lines = text.split('\n').count();
    for problem in &error.problems {
        check_problem(problem, lines);
    }
}

fn is_visible(character: char) -> bool {
    !character.is_control() || matches!(character, '\n' | '\t')
}

fn check_problem(problem: &Problem, lines: usize) {
    let Problem { excerpt, key, value, reason, remedy } = problem;
    assert!(excerpt.is_some() || !key.is_empty(), "nobody knows where: {problem:?}");
    for text in [reason, remedy] {
        assert!(!text.trim().is_empty() && !text.contains('\n'), "{problem:?}");
    }
    assert!(value.iter().all(|value| !value.contains('\n') && value.chars().count() <= 81), "{problem:?}");
    let Some(excerpt) = excerpt else { return };
    assert!((1..=lines).contains(&excerpt.line) && excerpt.column >= 1, "{problem:?}");
    let shown = excerpt.source_line.chars().count();
    assert!(excerpt.marker_length >= 1 && shown <= 162 && !excerpt.source_line.contains('\n'), "{problem:?}");
    // A marker may stand behind the line's last character.
    assert!(excerpt.marker_start + excerpt.marker_length <= shown + 1, "{problem:?}");
}
