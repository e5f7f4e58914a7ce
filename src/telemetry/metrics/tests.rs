//! Cells add up over workers, a scrape never goes backwards, and Prometheus's own linter is content.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use http::StatusCode;

use super::*;

/// The value of one series as it is scraped; `None` if there is no such series.
fn scraped(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.encode().unwrap();
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[track_caller]
fn check(metrics: &Metrics, series: &str, expected: f64) {
    assert_eq!(scraped(metrics, series), Some(expected), "{series}\n{}", metrics.encode().unwrap());
}

/// Every family has a sample after this.
fn with_a_bit_of_everything() -> Arc<Metrics> {
    let metrics = Metrics::new(2);
    let route = metrics.route("search");
    route.record(0, Some(StatusCode::OK), None, Duration::from_micros(70));
    route.record(1, Some(StatusCode::FORBIDDEN), Some(Denial::PermissionDenied), Duration::from_secs(90));
    route.record(1, None, None, Duration::ZERO);
    metrics.upstream("opensearch", "10.0.0.1:9200").record(
        0,
        UpstreamOutcome::Ok,
        Some(Duration::from_millis(3)),
    );
    metrics.upstream_totals("opensearch").refused(1, UpstreamRefusal::Unhealthy);
    metrics.upstream_totals("opensearch").retried(0, RetryOutcome::BudgetExhausted);
    metrics.control().upstream_resolved("opensearch", "a.test:9200", ResolutionOutcome::Found);
    metrics.control().upstream_checked("opensearch", "10.0.0.1:9200", CheckOutcome::Failed);
    metrics.observe_upstreams(|| {
        vec![EndpointFigures {
            upstream: "opensearch".into(),
            endpoint: "10.0.0.1:9200".into(),
            healthy: 2,
            unhealthy: 1,
            ejected: 0,
        }]
    });
    metrics.listener("public").handshake(1, TlsOutcome::Failed);
    metrics.listener("public").proxy_protocol_failed(0, ProxyProtocolFailure::Malformed);
    metrics.listener("public").went_away(1, GoAway::Flood);
    metrics.observe_directory(|| DirectoryFigures {
        application_tokens: 3,
        sequence: 17,
        age: Some(Duration::from_millis(1500)),
        usage_pending: 2,
        ..DirectoryFigures::default()
    });
    metrics.set_certificates([CertificateExpiry {
        listener: "public".into(),
        certificate: "/etc/postern/tls.pem".into(),
        expires: UNIX_EPOCH + Duration::from_secs(2_000_000_000),
    }]);
    metrics.control().directory_error();
    metrics.control().usage_flushed(5, Duration::from_millis(4));
    metrics.control().config_reloaded(ReloadOutcome::Rejected);
    metrics.control().access_log_dropped(9);
    metrics.control().traces_exported(7);
    metrics.control().traces_dropped(2);
    metrics
}

#[test]
fn every_metric_of_the_list_is_scraped_with_its_value() {
    let metrics = with_a_bit_of_everything();
    let values = [
        (r#"postern_requests_total{route="search",code="200"}"#, 1.0),
        (r#"postern_requests_total{route="search",code="403"}"#, 1.0),
        (r#"postern_requests_total{route="search",code="none"}"#, 1.0),
        (r#"postern_denials_total{route="search",reason="permission_denied"}"#, 1.0),
        (r#"postern_denials_total{route="search",reason="token_expired"}"#, 0.0),
        (r#"postern_request_duration_seconds_bucket{route="search",le="0.00005"}"#, 1.0),
        (r#"postern_request_duration_seconds_bucket{route="search",le="0.0001"}"#, 2.0),
        (r#"postern_request_duration_seconds_bucket{route="search",le="60"}"#, 2.0),
        (r#"postern_request_duration_seconds_bucket{route="search",le="+Inf"}"#, 3.0),
        (r#"postern_request_duration_seconds_count{route="search"}"#, 3.0),
        (r#"postern_request_duration_seconds_sum{route="search"}"#, 90.000_07),
        (r#"postern_upstream_duration_seconds_count{upstream="opensearch"}"#, 1.0),
        (
            r#"postern_upstream_requests_total{upstream="opensearch",endpoint="10.0.0.1:9200",outcome="ok"}"#,
            1.0,
        ),
        (r#"postern_upstream_connections{upstream="opensearch",state="active"}"#, 0.0),
        (r#"postern_upstream_connections{upstream="opensearch",state="idle"}"#, 0.0),
        (r#"postern_upstream_refusals_total{upstream="opensearch",reason="unhealthy"}"#, 1.0),
        (r#"postern_upstream_retries_total{upstream="opensearch",outcome="sent"}"#, 0.0),
        (r#"postern_upstream_retries_total{upstream="opensearch",outcome="budget_exhausted"}"#, 1.0),
        (
            r#"postern_upstream_resolutions_total{endpoint="a.test:9200",outcome="found",upstream="opensearch"}"#,
            1.0,
        ),
        (
            r#"postern_upstream_checks_total{endpoint="10.0.0.1:9200",outcome="failed",upstream="opensearch"}"#,
            1.0,
        ),
        (
            r#"postern_upstream_addresses{upstream="opensearch",endpoint="10.0.0.1:9200",state="healthy"}"#,
            2.0,
        ),
        (
            r#"postern_upstream_addresses{upstream="opensearch",endpoint="10.0.0.1:9200",state="unhealthy"}"#,
            1.0,
        ),
        (r#"postern_connections{listener="public"}"#, 0.0),
        (r#"postern_tls_handshakes_total{listener="public",outcome="failed"}"#, 1.0),
        (r#"postern_proxy_protocol_failures_total{listener="public",reason="malformed"}"#, 1.0),
        (r#"postern_http2_go_aways_total{listener="public",reason="flood"}"#, 1.0),
        (r#"postern_http2_go_aways_total{listener="public",reason="error"}"#, 0.0),
        (r#"postern_tokens{kind="application"}"#, 3.0),
        (r#"postern_tokens{kind="personal"}"#, 0.0),
        (r#"postern_tokens{kind="session"}"#, 0.0),
        ("postern_directory_sequence", 17.0),
        ("postern_directory_age_seconds", 1.5),
        ("postern_directory_errors_total", 1.0),
        ("postern_usage_pending", 2.0),
        ("postern_usage_flush_duration_seconds_count", 1.0),
        ("postern_usage_flushed_total", 5.0),
        (r#"postern_config_reloads_total{outcome="applied"}"#, 0.0),
        (r#"postern_config_reloads_total{outcome="rejected"}"#, 1.0),
        ("postern_config_last_reload_successful", 0.0),
        (
            r#"postern_certificate_expiry_timestamp_seconds{listener="public",certificate="/etc/postern/tls.pem"}"#,
            2_000_000_000.0,
        ),
        (concat!(r#"postern_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""}"#), 1.0),
        ("postern_access_log_dropped_total", 9.0),
        ("postern_access_log_errors_total", 0.0),
        (r#"postern_traces_total{outcome="exported"}"#, 7.0),
        (r#"postern_traces_total{outcome="dropped"}"#, 2.0),
    ];
    for (series, value) in values {
        check(&metrics, series, value);
    }
    assert!(scraped(&metrics, "process_resident_memory_bytes").unwrap() > 0.0);
}

#[test]
fn a_fresh_process_scrapes_cleanly() {
    let metrics = Metrics::new(1);
    assert_eq!(scraped(&metrics, "postern_directory_age_seconds"), None);
    check(&metrics, "postern_config_last_reload_successful", 1.0);
}

#[test]
fn handles_are_found_again_by_name() {
    let metrics = Metrics::new(1);
    assert!(Arc::ptr_eq(&metrics.route("a"), &metrics.route("a")));
    assert!(!Arc::ptr_eq(&metrics.route("a"), &metrics.route("b")));
    assert!(Arc::ptr_eq(&metrics.upstream("u", "e"), &metrics.upstream("u", "e")));
    assert!(!Arc::ptr_eq(&metrics.upstream("u", "e"), &metrics.upstream("v", "e")));
    assert!(Arc::ptr_eq(&metrics.listener("l"), &metrics.listener("l")));
}

#[test]
fn every_status_code_that_the_type_allows_is_counted() {
    let metrics = Metrics::new(1);
    let route = metrics.route("all");
    for code in 100..=999 {
        route.record(0, Some(StatusCode::from_u16(code).unwrap()), None, Duration::ZERO);
    }
    for code in 100..=999 {
        assert_eq!(route.sum().statuses[code], 1, "{code}");
    }
}

#[test]
fn lists_are_in_the_order_of_their_discriminants() {
    assert!(Denial::ALL.iter().enumerate().all(|(index, denial)| *denial as usize == index));
    assert!(UpstreamOutcome::ALL.iter().enumerate().all(|(index, outcome)| *outcome as usize == index));
    assert!(TlsOutcome::ALL.iter().enumerate().all(|(index, outcome)| *outcome as usize == index));
}

#[test]
fn workers_add_up() {
    const WORKERS: usize = 4;
    const REQUESTS: u32 = 50_000;
    let metrics = Metrics::new(WORKERS);
    let route = metrics.route("r");
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let route = &route;
            scope.spawn(move || {
                for _ in 0..REQUESTS {
                    let denial = (worker == 0).then_some(Denial::UnknownToken);
                    route.record(worker, Some(StatusCode::OK), denial, Duration::from_millis(2));
                }
            });
        }
    });
    check(&metrics, r#"postern_requests_total{route="r",code="200"}"#, 200_000.0);
    check(&metrics, r#"postern_denials_total{route="r",reason="unknown_token"}"#, 50_000.0);
    check(&metrics, r#"postern_request_duration_seconds_bucket{route="r",le="0.001"}"#, 0.0);
    check(&metrics, r#"postern_request_duration_seconds_bucket{route="r",le="0.0025"}"#, 200_000.0);
    check(&metrics, r#"postern_request_duration_seconds_sum{route="r"}"#, 400.0);
}

#[test]
fn a_scrape_while_workers_record_never_goes_backwards() {
    let metrics = Metrics::new(2);
    let route = metrics.route("r");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for worker in 0..2 {
            let (route, stop) = (&route, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    route.record(worker, Some(StatusCode::OK), None, Duration::from_millis(1));
                }
            });
        }
        let mut last = (0, 0, 0);
        while last.0 < 100_000 {
            let sum = route.sum();
            let next =
                (sum.statuses[200], sum.duration.buckets.iter().sum::<u64>(), sum.duration.sum_nanoseconds);
            assert!(next.0 >= last.0 && next.1 >= last.1 && next.2 >= last.2, "{next:?} after {last:?}");
            last = next;
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn connections_are_counted_while_they_live() {
    let metrics = Metrics::new(2);
    let listener = metrics.listener("l");
    let (first, second) = (listener.connection_opened(0), listener.connection_opened(1));
    check(&metrics, r#"postern_connections{listener="l"}"#, 2.0);
    drop(first);
    check(&metrics, r#"postern_connections{listener="l"}"#, 1.0);
    drop(second);
    check(&metrics, r#"postern_connections{listener="l"}"#, 0.0);
}

#[test]
fn upstream_connections_are_summed_over_endpoints() {
    let metrics = Metrics::new(1);
    let (a, b) = (metrics.upstream("u", "a"), metrics.upstream("u", "b"));
    let (active, idle) = (
        r#"postern_upstream_connections{upstream="u",state="active"}"#,
        r#"postern_upstream_connections{upstream="u",state="idle"}"#,
    );
    a.connection_opened(0);
    b.connection_opened(0);
    b.connection_idled(0);
    check(&metrics, active, 1.0);
    check(&metrics, idle, 1.0);
    b.connection_reused(0);
    check(&metrics, active, 2.0);
    a.active_connection_closed(0);
    b.connection_idled(0);
    b.idle_connection_closed(0);
    check(&metrics, active, 0.0);
    check(&metrics, idle, 0.0);
}

#[test]
fn certificates_are_replaced_whole() {
    let metrics = with_a_bit_of_everything();
    metrics.set_certificates([]);
    assert!(!metrics.encode().unwrap().contains("postern_certificate_expiry"));
}

#[test]
fn promtool_is_content() {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        // The harness shows this only when asked to; the test command says what it skips.
        let _ = writeln!(std::io::stderr(), "skipped: promtool is not installed");
        return;
    };
    let text = with_a_bit_of_everything().encode().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}

/// Not an assertion but a figure: `cargo test --release -- --ignored --nocapture cost_of_recording`.
#[test]
#[ignore = "a measurement"]
fn cost_of_recording() {
    const TIMES: u32 = 20_000_000;
    let metrics = Metrics::new(1);
    let route = metrics.route("r");
    let start = std::time::Instant::now();
    for n in 0..TIMES {
        let duration = Duration::from_nanos(u64::from(n.wrapping_mul(2_654_435_761)));
        route.record(0, Some(std::hint::black_box(StatusCode::OK)), None, duration);
    }
    let _ = writeln!(std::io::stderr(), "{:?} a record", start.elapsed() / TIMES);
}
