//! One request is one line that parses, whatever the client sent; and nobody waits for the log.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::time::UNIX_EPOCH;

use http::{HeaderValue, Method, StatusCode, Uri};
use serde_json::{Value, json};

use super::*;
use crate::config::AccessLogOutput;
use crate::policy::Denial;
use crate::telemetry::record::{Decision, Ending};

/// Long enough never to be reached.
const AGES: Duration = Duration::from_secs(600);

fn record() -> Record {
    Record {
        time: UNIX_EPOCH + Duration::from_micros(1_767_225_600_123_456),
        request_id: *b"0123456789abcdef0123456789abcdef",
        trace_id: *b"4bf92f3577b34da6a3ce929d0e0e4736",
        client_address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        method: Some(Method::GET),
        host: "search.example.com".into(),
        uri: Uri::from_static("/logs/_search?q=canary"),
        route: Some("search".into()),
        status: Some(StatusCode::OK),
        decision: Decision::Permit,
        user_id: Some(HeaderValue::from_static("u1")),
        token_prefix: Some(HeaderValue::from_static("psta_AbCdEf123456")),
        user_agent: Some(HeaderValue::from_static("curl/8")),
        upstream: Some(("opensearch".into(), "10.0.0.1:9200".into())),
        bytes_received: 12,
        bytes_sent: 34,
        duration: Duration::from_micros(1_050),
        upstream_duration: Some(Duration::from_nanos(999_999)),
        ending: Ending::Completed,
        difference: None,
    }
}

fn line(format: LogFormat, record: &Record) -> String {
    let mut lines = Vec::new();
    line::append(format, &Entry::new(record.clone()), &mut lines);
    let text = String::from_utf8(lines).unwrap();
    let line = text.strip_suffix('\n').unwrap();
    assert!(!line.chars().any(|it| it.is_control() || it == '\u{2028}' || it == '\u{202e}'), "{line:?}");
    line.into()
}

/// The value of a key of a text line, unescaped; `None` if absent. Reads the line as a stranger would.
fn text_value(line: &str, wanted: &str) -> Option<String> {
    let mut rest = line;
    while !rest.is_empty() {
        let (key, value) = rest.split_once('=').unwrap();
        let (text, after) = if value.starts_with('"') {
            let mut values = serde_json::Deserializer::from_str(value).into_iter::<String>();
            let text = values.next().unwrap().unwrap();
            (Some(text), &value[values.byte_offset()..])
        } else {
            let end = value.find(' ').unwrap_or(value.len());
            (Some(value[..end].to_owned()).filter(|it| it != "-"), &value[end..])
        };
        if key == wanted {
            return text;
        }
        rest = after.strip_prefix(' ').unwrap_or(after);
    }
    panic!("no {wanted} in {line}");
}

#[test]
fn a_json_line_has_every_field() {
    let value: Value = serde_json::from_str(&line(LogFormat::Json, &record())).unwrap();
    let expected = json!({
        "time": "2026-01-01T00:00:00.123Z",
        "request_id": "0123456789abcdef0123456789abcdef",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "client_address": "192.0.2.7",
        "method": "GET",
        "host": "search.example.com",
        "path": "/logs/_search",
        "route": "search",
        "status": 200,
        "decision": "permit",
        "reason": null,
        "user_id": "u1",
        "token_prefix": "psta_AbCdEf123456",
        "user_agent": "curl/8",
        "upstream": "opensearch",
        "endpoint": "10.0.0.1:9200",
        "bytes_received": 12,
        "bytes_sent": 34,
        "duration_ms": 1.05,
        "upstream_duration_ms": 0.999,
        "ending": "completed",
    });
    assert_eq!(value, expected);
}

#[test]
fn what_is_unknown_is_null() {
    let unknown = Record {
        method: None,
        host: "".into(),
        route: None,
        status: None,
        decision: Decision::Deny,
        user_id: None,
        token_prefix: None,
        user_agent: None,
        upstream: None,
        upstream_duration: None,
        ending: Ending::Denied(Denial::UnknownToken),
        ..record()
    };
    let value: Value = serde_json::from_str(&line(LogFormat::Json, &unknown)).unwrap();
    let nulls =
        ["method", "route", "status", "user_id", "token_prefix", "user_agent", "upstream", "endpoint"];
    for key in nulls.into_iter().chain(["upstream_duration_ms"]) {
        assert_eq!(value[key], Value::Null, "{key}");
    }
    assert_eq!((&value["decision"], &value["reason"]), (&json!("deny"), &json!("unknown_token")));
    assert_eq!(value["ending"], "unknown_token");
}

#[test]
fn a_text_line_is_readable() {
    assert_eq!(
        line(LogFormat::Text, &Record { user_agent: Some(HeaderValue::from_static("a b")), ..record() }),
        "time=2026-01-01T00:00:00.123Z request_id=0123456789abcdef0123456789abcdef \
         trace_id=4bf92f3577b34da6a3ce929d0e0e4736 \
         client_address=192.0.2.7 method=GET host=search.example.com path=/logs/_search route=search status=200 \
         decision=permit reason=- user_id=u1 token_prefix=psta_AbCdEf123456 user_agent=\"a b\" \
         upstream=opensearch endpoint=10.0.0.1:9200 bytes_received=12 bytes_sent=34 duration_ms=1.050 \
         upstream_duration_ms=0.999 ending=completed"
    );
}

#[track_caller]
fn check_user_agent(sent: &[u8], logged: &str) {
    let record = Record { user_agent: Some(HeaderValue::from_bytes(sent).unwrap()), ..record() };
    let value: Value = serde_json::from_str(&line(LogFormat::Json, &record)).unwrap();
    assert_eq!(value["user_agent"], logged);
    assert_eq!(value["ending"], "completed", "nothing was injected");
    let text = line(LogFormat::Text, &record);
    assert_eq!(text_value(&text, "user_agent").as_deref(), Some(logged), "{text}");
    assert_eq!(text_value(&text, "ending").as_deref(), Some("completed"), "{text}");
}

#[test]
fn hostile_user_agents_come_back_as_they_were_sent() {
    check_user_agent(b"", "");
    check_user_agent(b"-", "-");
    check_user_agent(b"a\tb", "a\tb");
    check_user_agent(br#"" } { "status": 200, "x": ""#, r#"" } { "status": 200, "x": ""#);
    check_user_agent(br#"x" ending="forged"#, r#"x" ending="forged"#);
    check_user_agent(b"x ending=forged", "x ending=forged");
    check_user_agent(br"back\slash\", r"back\slash\");
    check_user_agent("\u{85}\u{9b}31m red".as_bytes(), "\u{85}\u{9b}31m red");
    check_user_agent("a\u{2028}b\u{202e}c\u{feff}".as_bytes(), "a\u{2028}b\u{202e}c\u{feff}");
    check_user_agent("žluťoučký 🐎".as_bytes(), "žluťoučký 🐎");
    check_user_agent(b"\xff\xfe not utf-8", "\u{fffd}\u{fffd} not utf-8");
    check_user_agent(&[b'a'; 512], &"a".repeat(512));
    check_user_agent(&[b'a'; 60_000], &("a".repeat(509) + "…"));
    check_user_agent("🐎".repeat(10_000).as_bytes(), &("🐎".repeat(127) + "…"));
    check_user_agent(&[0xbf; 10_000], &("\u{fffd}".repeat(506) + "…"));
}

#[test]
fn control_characters_in_hosts_and_ids_are_escaped() {
    let hostile = "a\r\n\u{1b}[2J\u{0}\u{7f}\"b";
    let record = Record { host: hostile.into(), route: Some(hostile.into()), ..record() };
    let value: Value = serde_json::from_str(&line(LogFormat::Json, &record)).unwrap();
    assert_eq!((&value["host"], &value["route"]), (&json!(hostile), &json!(hostile)));
    assert_eq!(text_value(&line(LogFormat::Text, &record), "host").as_deref(), Some(hostile));
}

#[test]
fn huge_values_are_cut() {
    let path = format!("/{}", "p".repeat(16_000));
    let record = Record {
        uri: path.parse().unwrap(),
        host: "h".repeat(9_000).into(),
        method: Some(Method::from_bytes(&[b'M'; 9_000]).unwrap()),
        ..record()
    };
    for format in [LogFormat::Json, LogFormat::Text] {
        let line = line(format, &record);
        assert!(line.len() < 4096, "{} bytes", line.len());
        assert!(line.contains(&format!("/{}…", "p".repeat(2044))), "{line}");
    }
}

#[test]
fn a_query_is_never_logged() {
    for uri in ["/a?token=canary", "http://h/a?canary", "/?canary#canary", "*"] {
        let record = Record { uri: uri.parse().unwrap(), ..record() };
        for format in [LogFormat::Json, LogFormat::Text] {
            assert!(!line(format, &record).contains("canary"), "{uri}");
        }
    }
}

#[track_caller]
fn check_path(sent: &str, logged: &str) {
    let value: Value =
        serde_json::from_str(&line(LogFormat::Json, &Record { uri: sent.parse().unwrap(), ..record() }))
            .unwrap();
    assert_eq!(value["path"], logged);
}

#[test]
fn of_a_token_in_a_path_only_the_prefix_is_logged() {
    let token = format!("psta_AbCdEf123456{}", "s".repeat(38));
    check_path(&format!("/x/{token}/y"), "/x/psta_AbCdEf123456…/y");
    check_path(&format!("/{token}/{token}"), "/psta_AbCdEf123456…/psta_AbCdEf123456…");
    check_path(&format!("/{}", &token[..30]), "/psta_AbCdEf123456…");
    check_path(&format!("/pstpst{token}"), "/pstpstpsta_AbCdEf123456…");
    check_path("/psta_AbCdEf123456", "/psta_AbCdEf123456");
    check_path("/psta_AbCdEf123456/s", "/psta_AbCdEf123456/s");
    check_path("/pst", "/pst");
    check_path("/psta_", "/psta_");
    check_user_agent(token.as_bytes(), "psta_AbCdEf123456…");
}

#[test]
fn a_queued_record_does_not_hold_the_request_it_came_from() {
    let head = bytes::Bytes::from(format!("/path{}agent", "x".repeat(60_000)));
    let uri = Uri::from_maybe_shared(head.slice(..60_000)).unwrap();
    let user_agent = HeaderValue::from_maybe_shared(head.slice(60_000..)).unwrap();
    let sent = Record { uri, user_agent: Some(user_agent), ..record() };
    let entry = Entry::new(sent);
    assert!(head.is_unique());
    let mut lines = Vec::new();
    line::append(LogFormat::Json, &entry, &mut lines);
    assert!(String::from_utf8(lines).unwrap().contains(&format!("/path{}…", "x".repeat(2040))));
}

fn to_file(path: &std::path::Path) -> AccessLogConfig {
    AccessLogConfig { output: AccessLogOutput::File(path.into()), format: LogFormat::Json }
}

#[test]
fn lines_of_all_workers_are_appended_to_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    fs::write(&path, "earlier\n").unwrap();
    let log = AccessLog::start(&to_file(&path), 2, &Metrics::new(2)).unwrap();
    thread::scope(|scope| {
        for worker in 0..2 {
            let log = &log;
            scope.spawn(move || {
                for sent in 0..1000 {
                    log.submit(
                        worker,
                        Record { bytes_sent: sent, bytes_received: worker as u64, ..record() },
                    );
                }
            });
        }
    });
    log.close(AGES).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("earlier"));
    let mut next = [0, 0];
    for line in lines {
        let value: Value = serde_json::from_str(line).unwrap();
        let worker = usize::try_from(value["bytes_received"].as_u64().unwrap()).unwrap();
        assert_eq!(value["bytes_sent"], next[worker], "in order for each worker");
        next[worker] += 1;
    }
    assert_eq!(next, [1000, 1000]);
}

#[test]
fn a_record_wakes_a_sleeping_writer() {
    let (mut reader, log, _metrics) = piped(1);
    while !log.shared.sleeping.load(Ordering::SeqCst) {
        thread::yield_now();
    }
    log.submit(0, record());
    let mut first = [0; 1];
    reader.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"{");
}

#[test]
fn what_is_queued_is_written_when_the_last_handle_goes() {
    let (mut reader, log, _metrics) = piped(1);
    for _ in 0..10 {
        log.submit(0, record());
    }
    drop(log);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 10);
}

#[test]
fn a_stopped_reader_costs_lines_and_not_time() {
    const RECORDS: usize = 20_000;
    let (mut reader, log, metrics) = piped(1);
    for _ in 0..RECORDS {
        log.submit(0, record());
    }
    assert!(matches!(log.close(Duration::from_millis(20)), Err(AccessLogError::Stuck { .. })));
    let dropped = dropped(&metrics);
    assert!(dropped > 0);
    // The reader comes back: what was queued arrives, each line whole.
    let lines = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        for line in text.lines() {
            serde_json::from_str::<Value>(line).unwrap();
        }
        text.lines().count()
    });
    log.close(AGES).unwrap();
    drop(log);
    assert_eq!(lines.join().unwrap() + dropped, RECORDS);
}

#[test]
fn a_reader_that_is_gone_is_counted_and_not_fatal() {
    let (reader, log, metrics) = piped(1);
    drop(reader);
    for _ in 0..5 {
        log.submit(0, record());
    }
    log.close(AGES).unwrap();
    assert_eq!(dropped(&metrics), 5);
}

#[test]
fn after_a_reopen_lines_go_to_the_new_file() {
    let directory = tempfile::tempdir().unwrap();
    let (path, rotated) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
    let log = AccessLog::start(&to_file(&path), 1, &Metrics::new(1)).unwrap();
    log.submit(0, record());
    wait_until(|| fs::metadata(&path).unwrap().len() > 0);
    fs::rename(&path, &rotated).unwrap();
    log.reopen();
    wait_until(|| path.exists());
    log.submit(0, record());
    log.close(AGES).unwrap();
    for file in [path, rotated] {
        assert_eq!(fs::read_to_string(file).unwrap().lines().count(), 1);
    }
}

#[test]
fn a_failed_reopen_keeps_the_old_file() {
    let directory = tempfile::tempdir().unwrap();
    let (here, gone) = (directory.path().join("here"), directory.path().join("gone"));
    fs::create_dir(&here).unwrap();
    let metrics = Metrics::new(1);
    let log = AccessLog::start(&to_file(&here.join("access.log")), 1, &metrics).unwrap();
    fs::rename(&here, &gone).unwrap();
    log.reopen();
    log.submit(0, record());
    log.close(AGES).unwrap();
    assert_eq!(fs::read_to_string(gone.join("access.log")).unwrap().lines().count(), 1);
    assert!(metrics.encode().unwrap().contains("\npostern_access_log_errors_total 1\n"));
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing/access.log");
    let error = AccessLog::start(&to_file(&path), 1, &Metrics::new(1)).unwrap_err();
    assert!(error.to_string().contains("missing/access.log"), "{error}");
}

/// A log whose reader reads only what the test does.
fn piped(workers: usize) -> (io::PipeReader, Arc<AccessLog>, Arc<Metrics>) {
    let (reader, writer) = io::pipe().unwrap();
    let metrics = Metrics::new(workers);
    let destination = Destination::to_file(File::from(OwnedFd::from(writer)));
    let log = AccessLog::start_at(destination, LogFormat::Json, workers, &metrics).unwrap();
    (reader, log, metrics)
}

fn dropped(metrics: &Metrics) -> usize {
    let text = metrics.encode().unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix("postern_access_log_dropped_total "));
    value.unwrap().parse().unwrap()
}

fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

/// Not an assertion but a figure: `cargo test --release -- --ignored --nocapture cost_of_a_line`.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_line() {
    use std::io::Write as _;

    const TIMES: u32 = 500_000;
    let (entry, mut lines) = (Entry::new(record()), Vec::new());
    for format in [LogFormat::Json, LogFormat::Text] {
        let start = std::time::Instant::now();
        for _ in 0..TIMES {
            lines.clear();
            line::append(format, std::hint::black_box(&entry), &mut lines);
        }
        let _ = writeln!(io::stderr(), "{format:?}: {:?} a line", start.elapsed() / TIMES);
    }
    // As many as fit: the writer is not waited for, and nothing is dropped.
    let (_reader, log, _metrics) = piped(1);
    let records = vec![record(); 4000];
    let start = std::time::Instant::now();
    for record in records {
        log.submit(0, record);
    }
    let _ =
        writeln!(io::stderr(), "{:?} a submit, {} bytes each", start.elapsed() / 4000, size_of::<Entry>());
    let _ = log.close(Duration::ZERO);
}
