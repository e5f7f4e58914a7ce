//! Lines of both kinds, and every way in which one can be wrong, without a word of what stands in it.

use super::*;

const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
/// Stands where it must not: whatever is said of its line may not repeat it.
const TOKEN: &str = "live_a_whole_token_with_its_secret_0123456789";

fn of_csv(heading: &str, line: &str) -> Result<Option<Row>, String> {
    let mut rows = Rows::of(FileFormat::Csv);
    assert!(!rows.is_ready());
    assert_eq!(rows.read(heading), Ok(None), "{heading}");
    assert!(rows.is_ready());
    rows.read(line)
}

fn of_json(line: &str) -> Result<Option<Row>, String> {
    Rows::of(FileFormat::Jsonl).read(line)
}

#[track_caller]
fn check_refused(read: Result<Option<Row>, String>, expected: &str) {
    let reason = read.expect_err(expected);
    assert!(reason.contains(expected), "{expected} was expected: {reason}");
    assert!(!reason.contains("secret"), "the content is repeated: {reason}");
}

#[test]
fn both_kinds_of_lines_say_the_same() {
    let csv = of_csv(
        "scopes, digest ,token_prefix,description,user,max_age_seconds,extend_when_used,ip_allowlist",
        &format!(
            "service:data:write  read_only,{DIGEST},live_1234,\"a, \"\"quoted\"\" one\",ingest,3600,true,10.0.0.0/8"
        ),
    );
    let json = of_json(&format!(
        r#"{{"token_prefix": "live_1234", "digest": "{}", "user": "ingest", "description": "a, \"quoted\" one",
            "max_age_seconds": 3600, "extend_when_used": true, "ip_allowlist": ["10.0.0.0/8"],
            "scopes": ["service:data:write", "read_only"]}}"#,
        DIGEST.to_uppercase()
    ));
    let row = csv.expect("a good line").expect("a row");
    assert_eq!(row.scopes, ["service:data:write", "read_only"]);
    assert_eq!((row.max_age_seconds, row.extend_when_used), (Some(3600), true));
    assert_eq!(json, Ok(Some(row)));
}

#[test]
fn what_is_left_out_is_as_in_a_new_token() {
    let expected =
        of_json(&format!(r#"{{"token_prefix": "live_1234", "digest": "{DIGEST}", "scopes": null}}"#));
    let row = expected.expect("a good line").expect("a row");
    assert_eq!((row.user.as_deref(), row.max_age_seconds, row.extend_when_used), (None, None, false));
    assert!(row.description.is_empty() && row.ip_allowlist.is_empty() && row.scopes.is_empty());
    let csv = of_csv("token_prefix,digest,max_age_seconds,user", &format!("live_1234,{DIGEST},,"));
    assert_eq!(csv, Ok(Some(row)));
    assert_eq!(of_json("  "), Ok(None));
}

#[test]
fn lines_of_csv_that_say_nothing() {
    let heading = "token_prefix,digest,extend_when_used,max_age_seconds";
    check_refused(of_csv(heading, &format!("live_1234,{TOKEN},,")), "`digest` is not the SHA-256");
    check_refused(of_csv(heading, &format!("live_1234,{DIGEST}")), "there are 2 columns, the heading has 4");
    check_refused(
        of_csv(heading, &format!("\"{TOKEN},{DIGEST},,")),
        "there are 1 columns, the heading has 4",
    );
    check_refused(
        of_csv(heading, &format!("live_1234,{DIGEST},{TOKEN},")),
        "`extend_when_used` is not `true`",
    );
    check_refused(
        of_csv(heading, &format!("live_1234,{DIGEST},,{TOKEN}")),
        "`max_age_seconds` is not a number",
    );
    check_refused(of_csv(heading, &format!("live_1234,{DIGEST},,-1")), "`max_age_seconds` is not a number");
    check_refused(of_csv(heading, &format!(",{DIGEST},,")), "there is no `token_prefix`");
    let digest = data_encoding::HEXLOWER.encode(TokenDigest::of(TOKEN.as_bytes()).as_bytes());
    check_refused(of_csv(heading, &format!("{TOKEN},{digest},,")), "is the whole token");
}

#[test]
fn headings_that_say_nothing() {
    for (heading, expected) in [
        (TOKEN, "the first line is no heading"),
        ("token_prefix,digest,token", "the first line is no heading"),
        ("token_prefix,digest,digest", "the heading has `digest` twice"),
        ("token_prefix,user", "the heading has no `digest`"),
        ("digest", "the heading has no `token_prefix`"),
    ] {
        let mut rows = Rows::of(FileFormat::Csv);
        check_refused(rows.read(heading), expected);
        assert!(!rows.is_ready(), "{heading}");
    }
}

#[test]
fn json_that_says_nothing() {
    check_refused(of_json(TOKEN), "the line is no JSON: column");
    check_refused(of_json(&format!("[\"{TOKEN}\"]")), "not a JSON object");
    check_refused(of_json(&format!(r#"{{"{TOKEN}": 1}}"#)), "there is a field that is none of");
    check_refused(of_json(&format!(r#"{{"digest": "{DIGEST}"}}"#)), "there is no `token_prefix`");
    for (name, value, expected) in [
        ("description", "1", "`description` is not a text"),
        ("max_age_seconds", "-1", "`max_age_seconds` is not a number"),
        ("max_age_seconds", "4294967296", "`max_age_seconds` is not a number"),
        ("extend_when_used", "\"secret\"", "`extend_when_used` is not `true` or `false`"),
        ("scopes", "\"secret\"", "`scopes` is not a list"),
        ("ip_allowlist", "[\"secret\", 1]", "`ip_allowlist` is not a list"),
    ] {
        let line = format!(r#"{{"token_prefix": "live_1234", "digest": "{DIGEST}", "{name}": {value}}}"#);
        check_refused(of_json(&line), expected);
    }
}
