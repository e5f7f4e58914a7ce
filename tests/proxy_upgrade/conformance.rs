//! Other people's cases of WebSocket conformance (Autobahn's, run by kosoku): through the sidecar each ends as it does without.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::Sidecar;
use crate::support::peers::{Process, python_program, run};

/// Without the groups that are large (9: limits and performance; 12 and 13: compression), but for a few of each.
const QUICK: [&str; 14] = [
    "1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*", "9.1.1", "9.3.1", "12.1.1", "12.2.2", "13.1.1",
    "13.3.1",
];
/// How many those are, and how many there are in all.
const QUICK_CASES: u64 = 253;
const ALL_CASES: u64 = 517;

/// An echo server that is not ours.
fn echo(python: &std::path::Path) -> (Process, u64) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/websocket/echo.py");
    let mut child =
        Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let said: Value = serde_json::from_str(&line).unwrap();
    (Process(child), said["port"].as_u64().unwrap())
}

/// The client has no headers of its own, so the token is in the query, and the host is the address.
const ROUTE: &str = "[[routes]]\nname = \"websocket\"\nhosts = [\"127.0.0.1\"]\nproject = \"demo\"\nservice = \"service\"\n\
                     upstream = \"service\"\ncredentials = [\"query\"]";

#[track_caller]
fn every_case_ends_as_without(cases: &[&str], count: u64) {
    let Some(python) = python_program("python3") else { return };
    let (_server, port) = echo(&python);
    let sidecar = Sidecar::with_endpoint(format!("127.0.0.1:{port}")).more(ROUTE).start();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/websocket/compare.py");
    let mut compare = Command::new(python);
    compare.arg(script).arg(format!("ws://127.0.0.1:{port}/"));
    compare.arg(format!("ws://{}/?access_token={}", sidecar.address(), sidecar.permitted.token));
    compare.args(cases.iter().flat_map(|case| ["--case", case]));
    let said = run(&mut compare);
    println!("{said}");
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["cases"].as_u64(), Some(count));
    assert_eq!(said["differing"], serde_json::json!({}));
    // All of them went through the sidecar.
    let lines = sidecar.access_log(count as usize);
    assert!(lines.iter().all(|line| line["status"] == 101), "{lines:?}");
}

#[test]
fn cases_end_as_without_the_sidecar() {
    every_case_ends_as_without(&QUICK, QUICK_CASES);
}

#[test]
#[ignore = "all cases take ten minutes: tests/peers/websocket/conformance --all"]
fn all_cases_end_as_without_the_sidecar() {
    every_case_ends_as_without(&[], ALL_CASES);
}
