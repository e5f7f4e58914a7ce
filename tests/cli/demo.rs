//! `postern demo`: the lines it shows are run as they are, and nothing is left when it ends.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Folder, signal};

/// Longest that the usage of a token may take to reach the store.
const PATIENCE: Duration = Duration::from_secs(20);

/// A demo, and what it shows.
struct Demo {
    child: Child,
    shown: Value,
}

impl Demo {
    fn start(folder: &Folder, options: &[&str]) -> Self {
        let mut child =
            folder.command(&[&["demo", "--json"], options].concat()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        // Reads one object and no further: the demo goes on.
        let mut values = serde_json::Deserializer::from_reader(&mut stdout).into_iter::<Value>();
        let shown = values.next().unwrap().unwrap();
        drop(values);
        child.stdout = Some(stdout);
        Self { child, shown }
    }

    fn command(&self, name: &str) -> &Value {
        let commands = self.shown["commands"].as_array().unwrap();
        commands.iter().find(|command| command["name"] == name).unwrap()
    }

    /// Runs a line in a shell, as somebody who pastes it does.
    fn paste(&self, name: &str) -> String {
        let line = self.command(name)["command"].as_str().unwrap();
        let output = Command::new("sh").args(["-c", line]).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn stop(mut self) -> Option<i32> {
        signal(&self.child, "INT");
        let mut rest = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        self.child.wait().unwrap().code()
    }
}

fn has_curl() -> bool {
    let curl = Command::new("curl").arg("--version").stdout(Stdio::null()).status();
    curl.is_ok_and(|status| status.success())
}

#[test]
#[expect(clippy::print_stderr, reason = "what is skipped is said")]
fn every_line_does_what_is_said_of_it_and_nothing_is_left_behind() {
    if !has_curl() {
        eprintln!("skipped: there is no curl to run the demo's lines with");
        return;
    }
    let folder = Folder::empty();
    let demo = Demo::start(&folder, &["--port", "0", "--admin-port", "0", "--ops-port", "0"]);
    assert_eq!(folder.names().len(), 1, "everything is in one folder: {:?}", folder.names());

    for name in ["allowed", "no_token", "revoked_token", "no_permission", "slow"] {
        let command = demo.command(name);
        let answer = demo.paste(name);
        let status = format!("HTTP/1.1 {} ", command["expected_status"]);
        assert!(answer.starts_with(&status), "{name}: {answer}");
        if let Some(reason) = command["expected_reason"].as_str() {
            assert!(answer.contains(&format!("\"error_code\":\"{reason}\"")), "{name}: {answer}");
        }
    }
    let echo = demo.paste("allowed");
    let (_, body) = echo.split_once("\r\n\r\n").unwrap();
    let echo: Value = serde_json::from_str(body).unwrap();
    assert_eq!(echo["headers"]["x-postern-project"], "demo");
    assert_eq!(echo["headers"]["x-postern-token-prefix"], demo.shown["token_prefix"]);
    assert_eq!(echo["headers"]["authorization"], Value::Null);

    let users: Value = serde_json::from_str(&demo.paste("manage")).unwrap();
    let names: Vec<_> =
        users["application_users"].as_array().unwrap().iter().map(|user| &user["name"]).collect();
    assert!(names.contains(&&Value::from("demo-app")), "{users}");

    lines_come_one_by_one(&demo);

    // The first look may be before the flush: looked at again until it is there.
    let began = Instant::now();
    while !demo.paste("usage").lines().any(|line| line.contains("demo-app") && line.contains("curl/")) {
        assert!(began.elapsed() < PATIENCE, "{}", demo.paste("usage"));
    }
    let metrics = demo.paste("metrics");
    assert!(metrics.contains("postern_requests_total{route=\"echo\",code=\"200\"}"), "{metrics}");
    assert!(metrics.contains("reason=\"token_revoked\"} 1"), "{metrics}");

    assert_eq!(demo.stop(), Some(0));
    assert_eq!(folder.names(), Vec::<String>::new());
}

/// The stream's first line is here while the last is still to come.
fn lines_come_one_by_one(demo: &Demo) {
    let line = demo.command("stream")["command"].as_str().unwrap();
    let mut curl = Command::new("sh")
        .args(["-c", &format!("exec {line}")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(curl.stdout.take().unwrap()).lines();
    let body: Vec<String> =
        lines.map(Result::unwrap).filter(|line| line.starts_with("line ")).take(2).collect();
    assert_eq!(body, ["line 1 of 10", "line 2 of 10"]);
    assert!(curl.try_wait().unwrap().is_none(), "the stream has ended already");
    curl.kill().unwrap();
    curl.wait().unwrap();
}

#[test]
fn a_port_that_is_taken_is_left_alone_and_said_so() {
    let folder = Folder::empty();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let demo = Demo::start(&folder, &["--port", &port, "--admin-port", "0", "--ops-port", "0"]);
    let note = demo.shown["notes"][0].as_str().unwrap();
    assert!(note.starts_with(&format!("port {port} is taken")), "{note}");
    assert!(!demo.shown["proxy"].as_str().unwrap().ends_with(&format!(":{port}")));
    assert_eq!(demo.stop(), Some(0));
}

#[test]
fn the_screen_has_every_line_to_paste() {
    let folder = Folder::empty();
    let mut child = folder
        .command(&["demo", "--port", "0", "--admin-port", "0", "--ops-port", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let screen: Vec<String> = lines.by_ref().take_while(|line| !line.starts_with("Ctrl-C")).collect();
    let to_paste = |start: &str| screen.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!((to_paste("curl "), to_paste("# ")), (8, 9), "{screen:#?}");
    let usage = format!("{} token list --config ", env!("CARGO_BIN_EXE_postern"));
    assert_eq!(to_paste(&usage), 1, "{screen:#?}");
    signal(&child, "TERM");
    assert_eq!(lines.count(), 0);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(folder.names(), Vec::<String>::new());
}

#[test]
fn it_ends_with_its_terminal() {
    let folder = Folder::empty();
    let mut demo = Demo::start(&folder, &["--port", "0", "--admin-port", "0", "--ops-port", "0"]);
    signal(&demo.child, "HUP");
    assert_eq!(demo.child.wait().unwrap().code(), Some(0));
    assert_eq!(folder.names(), Vec::<String>::new());
}
