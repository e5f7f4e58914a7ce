//! Where logs go: a pipe whose reader has stopped reading or is not there, and a disk that is full. Lines are lost and counted; requests
//! wait for none of it.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use postern::app::control_socket;

use super::support::peers::Process;
use super::support::sidecar::HOST;
use super::support::{Sidecar, Upstream, eventually, until};
use super::{says, serves};

const DROPPED: &str = "postern_access_log_dropped_total";
const ERRORS: &str = "postern_access_log_errors_total";

/// A named pipe in a folder of its own.
fn named_pipe() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    (folder, path)
}

/// Both of a pipe's ends, so that it has a reader from the start.
fn both_ends(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

#[test]
fn a_pipe_that_is_not_read_costs_lines_and_no_request_any_time() {
    let (_folder, path) = named_pipe();
    let reader = both_ends(&path);
    let sidecar =
        Sidecar::with_endpoint("127.0.0.1:1").one_worker().access_log(path.to_str().unwrap()).start();
    let mut client = sidecar.connect();
    // Answered by the sidecar itself.
    let nowhere = |target: &str| sidecar.head(target, "").replace(HOST, "nowhere.test");
    let request = nowhere("GET /");
    // More than the pipe, the thread that writes and the worker's queue take together.
    let mut slowest = Duration::ZERO;
    until("lines to be lost", || {
        for _ in 0..500 {
            let asked = Instant::now();
            assert_eq!(client.request(&request).status, 404);
            slowest = slowest.max(asked.elapsed());
        }
        sidecar.metric(DROPPED) > 0.5
    });
    assert!(slowest < Duration::from_secs(2), "one request took {slowest:?}");
    // Once it is read again, lines go on: whole ones.
    std::thread::spawn({
        let (mut reader, folder) = (reader.try_clone().unwrap(), path.with_extension("read"));
        move || {
            let mut copy = File::create(folder).unwrap();
            // Ends with the process: the pipe is never closed.
            std::io::copy(&mut reader, &mut copy)
        }
    });
    let read = eventually("a line of what came last", || {
        // What came while the queue was full is lost still.
        assert_eq!(client.request(nowhere("GET /the-last")).status, 404);
        let read = std::fs::read_to_string(path.with_extension("read")).ok()?;
        (read.contains("/the-last") && read.ends_with('\n')).then_some(read)
    });
    let lost = sidecar.metric(DROPPED);
    assert_eq!(client.request(&request).status, 404);
    for line in read.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("a line is whole");
        assert_eq!(line["status"], 404);
    }
    assert!(read.lines().count() > 1000);
    assert!((sidecar.metric(DROPPED) - lost).abs() < 0.5, "no more are lost");
    drop(reader);
}

#[test]
fn a_pipe_without_a_reader_is_refused_and_holds_nothing_up() {
    let (_folder, path) = named_pipe();
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    // At a reload: what is in force stays, and whoever asked is told at once.
    let config = std::fs::read_to_string(sidecar.config_file()).unwrap();
    std::fs::write(sidecar.config_file(), config.replace("\"access.log\"", &format!("{path:?}"))).unwrap();
    let store = sidecar.folder().join("store.db");
    let reload = std::thread::spawn(move || control_socket::request_reload(&store).unwrap());
    until("the reload to be answered", || reload.is_finished());
    let report = reload.join().unwrap();
    assert_eq!(report["applied"], false, "{report}");
    assert!(report["error"].as_str().unwrap().contains("start what reads this named pipe first"), "{report}");
    serves(&sidecar, 5);
    assert_eq!(sidecar.access_log(5).len(), 5);
    sidecar.stop();
    // At the start.
    let process = Command::new(env!("CARGO_BIN_EXE_postern"))
        .args(["run", "--config"])
        .arg(sidecar.config_file())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut process = Process(process);
    let status = eventually("the start to fail", || process.0.try_wait().unwrap());
    let mut said = String::new();
    process.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(!status.success() && said.contains("start what reads this named pipe first"), "{said}");
}

#[test]
fn a_full_disk_costs_lines_and_is_said_once() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).access_log("/dev/full").start();
    let mut client = sidecar.connect();
    until("lines to be lost again and again", || {
        assert_eq!(client.request(sidecar.get()).status, 200);
        sidecar.metric(ERRORS) > 2.5
    });
    assert!(sidecar.metric(DROPPED) > 2.5);
    says(&sidecar, "cannot write the access log");
    serves(&sidecar, 20);
    assert_eq!(sidecar.output().matches("cannot write the access log").count(), 1);
    assert_eq!(sidecar.ops("/readyz").status, 200);
    // Elsewhere there is space: a reload is enough.
    let config = std::fs::read_to_string(sidecar.config_file()).unwrap();
    std::fs::write(sidecar.config_file(), config.replace("\"/dev/full\"", "\"access.log\"")).unwrap();
    let report = control_socket::request_reload(&sidecar.folder().join("store.db")).unwrap();
    assert_eq!(report["applied"], true, "{report}");
    assert_eq!(client.request(sidecar.get()).status, 200);
    assert_eq!(sidecar.access_log(1)[0]["status"], 200);
}
