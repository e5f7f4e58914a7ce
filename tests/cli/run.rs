//! `postern run` and `postern reload`, from the first log line to the end of the drain.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Folder, config, signal};

/// Longest that a change may take to be seen on a machine that is busy; on an idle one it is a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running sidecar and its log.
struct Sidecar {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Sidecar {
    /// Starts it and waits until it says that it listens everywhere.
    fn start(folder: &Folder) -> (Self, Vec<Value>) {
        let mut sidecar = Self::begin(folder);
        let listening = (0..2).map(|_| sidecar.wait_for("listening")).collect();
        (sidecar, listening)
    }

    /// Starts it, and waits for nothing.
    fn begin(folder: &Folder) -> Self {
        let mut child =
            folder.command(&["run", "--json"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// The next log line with this message.
    fn wait_for(&mut self, message: &str) -> Value {
        let mut line = String::new();
        while self.log.read_line(&mut line).unwrap() > 0 {
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["message"] == message {
                return event;
            }
            line.clear();
        }
        panic!("the log ended before {message:?}");
    }

    /// Sends a signal and waits for the end; returns the exit code.
    fn stop(mut self, name: &str) -> Option<i32> {
        signal(&self.child, name);
        std::io::copy(&mut self.log, &mut std::io::sink()).unwrap();
        self.child.wait().unwrap().code()
    }
}

#[test]
fn it_says_where_it_listens_and_ends_with_0_after_a_drain() {
    let folder = Folder::initialized();
    for name in ["TERM", "INT"] {
        let (sidecar, listening) = Sidecar::start(&folder);
        let names: Vec<&Value> = listening.iter().map(|event| &event["listener"]).collect();
        assert_eq!(names, [&json!("main"), &json!("ops")]);
        for event in &listening {
            let address: std::net::SocketAddr = event["address"].as_str().unwrap().parse().unwrap();
            TcpStream::connect(address).unwrap();
        }
        assert_eq!(sidecar.stop(name), Some(0));
    }
}

/// The status of a request with this token.
fn status(address: &str, token: &str) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: metrics.example.com\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Asks until the answer is this one.
#[track_caller]
fn wait_for_status(address: &str, token: &str, expected: u16) {
    let began = Instant::now();
    while status(address, token) != expected {
        assert!(began.elapsed() < PATIENCE, "no {expected}, but {}", status(address, token));
    }
}

#[test]
fn while_the_store_makes_it_wait_it_is_alive_and_not_ready() {
    let folder = Folder::initialized();
    let writer = rusqlite::Connection::open(folder.path().join("store.sqlite")).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut sidecar = Sidecar::begin(&folder);
    let loading = sidecar.wait_for("loading the directory; health is told meanwhile");
    let ops = loading["address"].as_str().unwrap();
    assert_eq!(told(ops, "/healthz"), 200);
    assert_eq!(told(ops, "/readyz"), 503);
    writer.execute_batch("COMMIT").unwrap();
    sidecar.wait_for("listening");
    sidecar.wait_for("listening");
    assert_eq!(told(ops, "/readyz"), 200);
    assert_eq!(sidecar.stop("TERM"), Some(0));
}

/// The status of an operators' path.
fn told(ops: &str, path: &str) -> u16 {
    let mut stream = TcpStream::connect(ops).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn what_commands_change_a_running_sidecar_sees() {
    let folder = Folder::initialized();
    folder.done(&["application-user", "create", "ingest"]);
    let (sidecar, listening) = Sidecar::start(&folder);
    let address = listening[0]["address"].as_str().unwrap();

    let created = folder.json(&["token", "create", "--user", "ingest"]);
    let token = created["full_token"].as_str().unwrap();
    wait_for_status(address, token, 403);
    folder.done(&["permission", "grant", "--user", "ingest", "--project", "metrics", "developer"]);
    // Let in, but nothing listens behind.
    wait_for_status(address, token, 502);
    folder.done(&["policy", "set", "allowed_ip_ranges=192.0.2.0/24"]);
    wait_for_status(address, token, 403);
    folder.done(&["token", "revoke", token]);
    wait_for_status(address, token, 401);

    assert_eq!(sidecar.stop("TERM"), Some(0));
    let shown = folder.json(&["token", "show", &token[..17]]);
    assert_eq!(shown["last_ip"], "127.0.0.1", "the last flush is part of the drain: {shown}");
}

#[test]
fn a_log_that_nobody_reads_holds_up_neither_requests_nor_the_end() {
    let folder = Folder::initialized();
    folder.done(&["application-user", "create", "ingest"]);
    folder.done(&["permission", "grant", "--user", "ingest", "--project", "metrics", "developer"]);
    let created = folder.json(&["token", "create", "--user", "ingest"]);
    let token = created["full_token"].as_str().unwrap();
    let (mut sidecar, listening) = Sidecar::start(&folder);
    let address = listening[0]["address"].as_str().unwrap();
    // Nothing listens behind, and each of these is a line of more than 200 bytes; a pipe holds 64 KiB.
    for _ in 0..1_000 {
        assert_eq!(status(address, token), 502);
    }
    signal(&sidecar.child, "TERM");
    assert_eq!(sidecar.child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_address_that_is_taken_fails_with_1_and_says_which() {
    let folder = Folder::initialized();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    folder.write_config(&config(&[], "").replacen("127.0.0.1:0", &address, 1));
    let ran = folder.postern(&["run"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains(&address), "{}", ran.stderr);
}

#[test]
fn reload_says_what_came_of_it() {
    let folder = Folder::initialized();
    let (sidecar, _) = Sidecar::start(&folder);
    assert_eq!(folder.json(&["reload"])["applied"], true);

    folder.write_config(&config(&[], "").replacen("127.0.0.1:0", "127.0.0.1:1", 1));
    let report = folder.json(&["reload"]);
    assert_eq!(report["needs_restart"], json!(["listeners.main.address"]));
    assert!(folder.done(&["reload"]).contains("needs a restart: listeners.main.address"));

    folder.write_config(&config(&[("colour", "1")], ""));
    let ran = folder.postern(&["reload"]);
    assert_eq!(ran.code, 64);
    assert!(ran.stderr.contains("unknown key `colour`"), "{}", ran.stderr);

    folder.write_config(&config(&[], ""));
    assert_eq!(sidecar.stop("TERM"), Some(0));
    let ran = folder.postern(&["reload"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("postern run"), "{}", ran.stderr);
}
