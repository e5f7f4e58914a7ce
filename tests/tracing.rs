//! Traces as a receiver gets them that reads with OpenTelemetry's own messages; and what a collector that is gone costs.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; what is skipped is said")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{ChildStdout, Command, Stdio};

use serde_json::Value;
use support::peers::{Process, python_program};
use support::{Sidecar, Upstream, until};

const PARENT: &str = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";

struct Receiver {
    lines: BufReader<ChildStdout>,
    port: u64,
    _process: Process,
}

impl Receiver {
    /// `None` where Python's packages are not installed and need not be.
    #[track_caller]
    fn start() -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/otlp/receiver.py");
        let mut child = Command::new(python_program("python3")?)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut this = Self { lines, port: 0, _process: Process(child) };
        this.port = this.next()["port"].as_u64().unwrap();
        Some(this)
    }

    /// The next line: a span.
    #[track_caller]
    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("a span was expected: {line:?}"))
    }
}

fn tracing(port: u64, sampled_per_million: u32) -> String {
    format!(
        "[tracing]\nendpoint = \"http://127.0.0.1:{port}/v1/traces\"\nsampled_per_million = {sampled_per_million}\n"
    )
}

#[test]
fn a_sampled_request_is_traced_from_the_client_to_the_upstream() {
    let Some(mut receiver) = Receiver::start() else { return };
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).more(&tracing(receiver.port, 0)).start();
    // Nobody has asked for this one to be traced.
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
    let unsampled = "traceparent: 00-11111111111111111111111111111111-b7ad6b7169203331-00\r\n";
    assert_eq!(sidecar.request(sidecar.head("GET /", unsampled)).status, 200);
    assert_eq!(upstream.requests()[1].values("traceparent"), [&unsampled[13..68]]);

    assert_eq!(sidecar.request(sidecar.head("GET /items?q=1", PARENT)).status, 200);
    let (request, decision, call) = (receiver.next(), receiver.next(), receiver.next());
    for span in [&request, &decision, &call] {
        assert_eq!(
            (&span["trace"], &span["service"]),
            (&"0af7651916cd43dd8448eb211c80319c".into(), &"postern".into())
        );
    }
    assert_eq!(
        (&request["parent"], &request["kind"]),
        (&"b7ad6b7169203331".into(), &"SPAN_KIND_SERVER".into())
    );
    assert_eq!((&decision["parent"], &decision["kind"]), (&request["span"], &"SPAN_KIND_INTERNAL".into()));
    assert_eq!((&call["parent"], &call["kind"]), (&request["span"], &"SPAN_KIND_CLIENT".into()));
    let told = format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", call["span"].as_str().unwrap());
    assert_eq!(upstream.requests()[2].values("traceparent"), [told.as_str()]);
    let attributes = &request["attributes"];
    assert_eq!(attributes["user.id"], sidecar.permitted.user_id.as_str());
    assert_eq!(attributes["postern.token_prefix"], sidecar.permitted.prefix.as_str());
    assert_eq!(
        (&attributes["url.path"], &attributes["http.response.status_code"]),
        (&"/items".into(), &200.into())
    );
    assert!(request["nanoseconds"].as_u64() >= call["nanoseconds"].as_u64(), "{request} {call}");
    assert!(!request.to_string().contains(&sidecar.permitted.token), "no token leaves");

    let refused = sidecar.head_with("psta_nonsense_that_is_long_enough", "GET /", PARENT);
    assert_eq!(sidecar.request(refused).status, 401);
    let (request, decision) = (receiver.next(), receiver.next());
    assert_eq!(request["attributes"]["http.response.status_code"], 401);
    assert_eq!(decision["attributes"]["postern.decision"], "deny");
}

#[test]
fn what_is_queued_is_sent_before_the_end() {
    let Some(mut receiver) = Receiver::start() else { return };
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).more(&tracing(receiver.port, 1_000_000)).start();
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
    sidecar.stop();
    assert_eq!(receiver.next()["kind"], "SPAN_KIND_SERVER");
    sidecar.wait();
}

#[test]
fn a_collector_that_is_gone_costs_traces_and_no_requests() {
    let upstream = Upstream::echo();
    // A port that is taken, and where nobody ever answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        closed.local_addr().unwrap().port()
    };
    let silent_port = silent.local_addr().unwrap().port();
    for port in [nobody, silent_port] {
        let sidecar = Sidecar::in_front_of(&upstream).more(&tracing(port.into(), 1_000_000)).start();
        let mut client = sidecar.connect();
        for _ in 0..5_000 {
            assert_eq!(client.request(sidecar.get()).status, 200);
        }
        let dropped = || sidecar.find_metric("postern_traces_total{outcome=\"dropped\"}").unwrap_or_default();
        if port == nobody {
            until("traces to be dropped", || dropped() > 0.0);
        }
        assert_eq!(sidecar.find_metric("postern_traces_total{outcome=\"exported\"}"), None);
        // The last batches are not waited for longer than that.
        sidecar.stop();
        sidecar.wait();
    }
}
