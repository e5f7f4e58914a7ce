//! What operators see: health, readiness, metrics, one log line a request; and that no token is in any of it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::Write;
use std::process::{Command, Stdio};

use support::http2::get;
use support::sidecar::HOST;
use support::{Http2Client, Sidecar, Upstream, peers, until};

#[test]
fn health_and_readiness() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    assert_eq!(sidecar.ops("/healthz").status, 200);
    assert_eq!(sidecar.ops("/readyz").status, 200);
    assert_eq!(sidecar.ops("/unknown").status, 404);
    // Operators' paths are not on the data port.
    sidecar
        .request(format!("GET /metrics HTTP/1.1\r\nHost: {HOST}\r\n\r\n"))
        .assert_error(401, "missing_credentials");
}

#[test]
fn metrics_count_what_happened() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = sidecar.connect();
    for _ in 0..3 {
        assert_eq!(client.request(sidecar.get()).status, 200);
    }
    assert_eq!(Http2Client::connect(sidecar.address()).request(get(&sidecar, "/")).status, 200);
    sidecar
        .request(sidecar.head_with("a-token-of-somebody-else", "GET /", ""))
        .assert_error(401, "invalid_token");
    sidecar.request("GET / HTTP/1.1\r\nHost: unknown.test\r\n\r\n").assert_error(401, "missing_credentials");
    let expected = [
        ("postern_requests_total{route=\"main\",code=\"200\"}".to_owned(), 4.0),
        ("postern_requests_total{route=\"main\",code=\"401\"}".to_owned(), 1.0),
        ("postern_requests_total{route=\"none\",code=\"401\"}".to_owned(), 1.0),
        ("postern_denials_total{route=\"main\",reason=\"unknown_token\"}".to_owned(), 1.0),
        ("postern_denials_total{route=\"none\",reason=\"missing_credentials\"}".to_owned(), 1.0),
        ("postern_request_duration_seconds_count{route=\"main\"}".to_owned(), 5.0),
        ("postern_upstream_duration_seconds_count{upstream=\"service\"}".to_owned(), 4.0),
        (
            format!(
                "postern_upstream_requests_total{{upstream=\"service\",endpoint=\"{}\",outcome=\"ok\"}}",
                upstream.address()
            ),
            4.0,
        ),
        ("postern_tokens{kind=\"application\"}".to_owned(), 1.0),
        ("postern_config_last_reload_successful".to_owned(), 1.0),
    ];
    for (series, value) in expected {
        until(&format!("{series} to be {value}"), || {
            sidecar.find_metric(&series).is_some_and(|found| (found - value).abs() < 0.001)
        });
    }
    for name in [
        "postern_upstream_connections",
        "postern_connections",
        "postern_tls_handshakes_total",
        "postern_directory_sequence",
        "postern_directory_age_seconds",
        "postern_directory_errors_total",
        "postern_usage_pending",
        "postern_usage_flush_duration_seconds",
        "postern_usage_flushed_total",
        "postern_config_reloads_total",
        "postern_build_info",
        "process_resident_memory_bytes",
    ] {
        assert!(sidecar.metrics().contains(&format!("# TYPE {name} ")), "{name} is missing");
    }
}

#[test]
fn labels_are_bounded_by_the_configuration() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
    let count = || sidecar.metrics().lines().filter(|line| line.starts_with("postern_")).count();
    sidecar.request("GET / HTTP/1.1\r\nHost: unknown.test\r\n\r\n");
    until("both requests to be counted", || sidecar.metrics().contains("route=\"none\",code=\"401\""));
    let before = count();
    let mut client = sidecar.connect();
    for number in 0..50 {
        let host = format!("host{number}.test");
        client.request(format!("M{number} /p{number} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(client.request(sidecar.head(&format!("GET /path{number}"), "")).status, 200);
    }
    assert_eq!(count(), before, "no series for what clients make up");
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let Some(promtool) = peers::program("promtool") else { return };
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
    sidecar.request(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(sidecar.metrics().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn one_line_a_request() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).one_worker().start();
    let mut client = sidecar.connect();
    let lines = "User-Agent: reader/1.0\r\nContent-Length: 5\r\n";
    assert_eq!(client.request(sidecar.head("POST /items?secret=1", lines) + "hello").status, 200);
    let head = sidecar.head_with("a-token-of-somebody-else", "GET /", "");
    client.request(head).assert_error(401, "invalid_token");
    client.request("BAD / HTTP/1.1\r\n\r\n");
    let log = sidecar.access_log(3);
    assert_eq!(log.len(), 3);

    let permitted = &log[0];
    for (field, value) in [
        ("client_address", "127.0.0.1"),
        ("method", "POST"),
        ("host", HOST),
        ("path", "/items"),
        ("route", "main"),
        ("decision", "permit"),
        ("user_id", &sidecar.permitted.user_id),
        ("token_prefix", &sidecar.permitted.prefix),
        ("user_agent", "reader/1.0"),
        ("upstream", "service"),
        ("endpoint", &upstream.address().to_string()),
        ("ending", "completed"),
    ] {
        assert_eq!(permitted[field], value, "{field}");
    }
    assert_eq!((&permitted["status"], &permitted["bytes_received"]), (&200.into(), &5.into()));
    assert!(permitted["reason"].is_null());
    assert!(
        permitted["duration_ms"].as_f64().unwrap() >= permitted["upstream_duration_ms"].as_f64().unwrap()
    );
    assert!(!permitted.to_string().contains("secret"), "the query is not logged");

    let denied = &log[1];
    assert_eq!((&denied["status"], &denied["decision"]), (&401.into(), &"deny".into()));
    assert_eq!(denied["reason"], "unknown_token");
    assert!(denied["user_id"].is_null() && denied["upstream"].is_null());

    assert_eq!((&log[2]["status"], &log[2]["ending"]), (&400.into(), &"bad_request".into()));
}

#[test]
fn after_a_rotation_lines_go_to_the_new_file() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).one_worker().start();
    for signal in ["USR1", "HUP"] {
        assert_eq!(sidecar.request(sidecar.get()).status, 200);
        assert_eq!(sidecar.access_log(1).len(), 1, "before SIG{signal}");
        let log = sidecar.folder().join("access.log");
        std::fs::rename(&log, log.with_extension(signal)).unwrap();
        sidecar.signal(signal);
        until("the log to be made anew", || log.exists());
    }
    for signal in ["USR1", "HUP"] {
        let rotated =
            std::fs::read_to_string(sidecar.folder().join("access").with_extension(signal)).unwrap();
        assert_eq!(rotated.lines().count(), 1, "what was in it before SIG{signal}");
    }
}

#[test]
fn what_clients_send_stays_on_its_line() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).one_worker().start();
    let agent = "\"}\\\x1b[31m{\u{e9}".to_owned() + &"a".repeat(20_000);
    assert_eq!(sidecar.request(sidecar.head("GET /%0a%22", &format!("User-Agent: {agent}\r\n"))).status, 400);
    let agent = agent.replace('\x1b', "");
    assert_eq!(sidecar.request(sidecar.head("GET /%22%7d", &format!("User-Agent: {agent}\r\n"))).status, 200);
    let log = sidecar.access_log(2);
    assert_eq!(log.len(), 2);
    assert!(log.iter().all(|line| line.to_string().len() < 4096), "lines are bounded");
}

#[test]
fn the_store_goes_away_and_requests_go_on() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
    for file in ["store.db", "store.db-wal", "store.db-shm"] {
        // Not all of them need be there.
        let _gone =
            std::fs::rename(sidecar.folder().join(file), sidecar.folder().join(format!("{file}.away")));
    }
    for _ in 0..20 {
        assert_eq!(sidecar.request(sidecar.get()).status, 200);
    }
    assert!(sidecar.is_running());
    assert_eq!(sidecar.ops("/healthz").status, 200);
}

#[test]
fn a_store_that_is_overwritten_is_said_once_and_requests_go_on() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    std::fs::write(sidecar.folder().join("store.db"), "not a store at all").unwrap();
    until("the second failure to flush", || {
        assert_eq!(sidecar.request(sidecar.get()).status, 200);
        sidecar.metric("postern_directory_errors_total") >= 2.0
    });
    // The log has a thread of its own: the metric may be ahead of it.
    until("the log to say so", || sidecar.output().contains("the store fails"));
    let said = sidecar.output();
    assert_eq!(said.matches("the store fails").count(), 1, "{said}");
    assert!(!said.contains("the store works again"), "{said}");
}
