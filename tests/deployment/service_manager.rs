//! What a service manager that speaks systemd's protocol hears: a socket of the test's takes its place.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, thread};

use parking_lot::Mutex;

use crate::support::{PATIENCE, Sidecar, SidecarBuilder, Upstream, peers, until};

/// Where a sidecar tells how it stands.
struct Manager {
    folder: tempfile::TempDir,
    heard: Arc<Mutex<Vec<Heard>>>,
}

/// One datagram.
#[derive(Clone, Debug)]
struct Heard {
    at: Instant,
    lines: Vec<String>,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        let heard = Arc::<Mutex<Vec<Heard>>>::default();
        let all = Arc::clone(&heard);
        // Ends with the process; a sidecar that writes would else wait for it.
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]);
                let lines = text.lines().map(str::to_owned).collect();
                all.lock().push(Heard { at: Instant::now(), lines });
            }
        });
        Self { folder, heard }
    }

    /// A sidecar that it looks after.
    fn starting(&self, upstream: &Upstream) -> SidecarBuilder {
        let socket = self.folder.path().join("notify");
        Sidecar::in_front_of(upstream).variable("NOTIFY_SOCKET", socket.to_str().unwrap())
    }

    /// Everything with this line, in order.
    fn with(&self, line: &str) -> Vec<Heard> {
        self.heard.lock().iter().filter(|heard| heard.lines.iter().any(|it| it == line)).cloned().collect()
    }

    fn count(&self, line: &str) -> usize {
        self.with(line).len()
    }

    #[track_caller]
    fn hears(&self, line: &str, times: usize) {
        until(&format!("{line} for the {times}. time"), || self.count(line) >= times);
    }
}

#[test]
fn ready_is_said_when_it_is() {
    let manager = Manager::new();
    let upstream = Upstream::echo();
    // Loading has to wait for the store, which somebody holds locked for as long as the test wants.
    let folder = tempfile::tempdir().unwrap();
    let config = manager.starting(&upstream).config();
    fs::write(folder.path().join("postern.toml"), config).unwrap();
    let store = folder.path().join("store.db");
    // With its tables and nothing in them: the organization has to be entered.
    let settings =
        postern::config::StoreConfig { path: store.clone(), create_if_missing: true, stale_after: None };
    drop(postern::directory::open(&settings).unwrap());
    let lock = rusqlite::Connection::open(&store).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_postern"))
        .args(["run", "--json", "--config"])
        .arg(folder.path().join("postern.toml"))
        .env("NOTIFY_SOCKET", manager.folder.path().join("notify"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut process = peers::Process(child);
    let mut log = BufReader::new(process.0.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("loading the directory") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "the log ended before it loads");
    }
    manager.hears("STATUS=loading the directory", 1);
    let loading: serde_json::Value = serde_json::from_str(&line).unwrap();
    let ops = loading["address"].as_str().or_else(|| loading["fields"]["address"].as_str()).unwrap();
    let health = |arguments: &[&str]| {
        let asked = Command::new(env!("CARGO_BIN_EXE_postern"))
            .args(["health", "--address", ops])
            .args(arguments)
            .output()
            .unwrap();
        (
            asked.status.code(),
            String::from_utf8(asked.stdout).unwrap() + &String::from_utf8(asked.stderr).unwrap(),
        )
    };
    let (code, said) = health(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("directory_not_loaded"), "{said}");
    assert_eq!(health(&["--live"]).0, Some(0), "it gets on meanwhile");
    assert_eq!(manager.count("READY=1"), 0, "it is not ready yet");
    lock.execute_batch("ROLLBACK").unwrap();
    manager.hears("READY=1", 1);
    assert_eq!(health(&[]), (Some(0), "ok\n".to_owned()), "what it says is so");
}

#[test]
fn a_reload_is_said_when_it_begins_and_when_it_has_come_to_something() {
    let manager = Manager::new();
    let upstream = Upstream::echo();
    let sidecar = manager.starting(&upstream).start();
    manager.hears("READY=1", 1);
    assert_eq!(manager.count("RELOADING=1"), 0);
    let microseconds = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
    };
    let asked = microseconds();
    sidecar.signal("HUP");
    manager.hears("READY=1", 2);
    let begun = &manager.with("RELOADING=1")[0];
    let at = begun.lines.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
    let at: i64 = at.parse().unwrap();
    assert!(
        (asked..=microseconds()).contains(&at),
        "systemd takes an earlier one for another reload's: {begun:?}"
    );

    fs::write(sidecar.config_file(), "nonsense").unwrap();
    manager.hears("READY=1", 3);
    let rejected = &manager.with("READY=1")[2];
    assert!(
        rejected.lines.iter().any(|line| line.starts_with("STATUS=") && line.contains("rejected")),
        "{rejected:?}"
    );
    assert_eq!(manager.count("RELOADING=1"), 2, "no reload without its end");
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
}

#[test]
fn the_end_is_said_as_it_begins() {
    let manager = Manager::new();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::start(move |peer| {
        while peer.read_request().is_some() {
            let _told = wait.lock().unwrap().recv_timeout(PATIENCE);
            peer.respond(200, &[], b"late");
        }
    });
    let sidecar = manager.starting(&upstream).timeouts("drain_seconds = 120").start();
    let mut slow = sidecar.connect();
    slow.send(sidecar.get());
    until("the request to run", || upstream.requests().len() == 1);
    assert_eq!(manager.count("STOPPING=1"), 0);
    sidecar.signal("TERM");
    manager.hears("STOPPING=1", 1);
    assert!(sidecar.is_running(), "it is said at the beginning of the drain");
    let stopping = &manager.with("STOPPING=1")[0];
    let line = "EXTEND_TIMEOUT_USEC=";
    let asked = stopping.lines.iter().find_map(|it| it.strip_prefix(line)).unwrap();
    let asked = Duration::from_micros(asked.parse().unwrap());
    assert!(
        asked > Duration::from_secs(120),
        "the grace is longer than what systemd would leave it: {asked:?}"
    );
    go_on.send(()).unwrap();
    assert_eq!(slow.response().status, 200);
    sidecar.assert_finished();
}

#[test]
fn without_a_manager_nothing_is_told_and_with_one_that_is_gone_it_serves() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).variable("NOTIFY_SOCKET", "/nowhere/notify").start();
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
    until("it to be said", || sidecar.output().contains("the service manager cannot be told"));
    sidecar.stop();
    let sidecar = Sidecar::in_front_of(&upstream).variable("NOTIFY_SOCKET", "").start();
    sidecar.stop();
    assert!(!sidecar.output().contains("the service manager"), "{}", sidecar.output());
}

/// A debugger that stands on a single thread; the thread goes on when this ends.
struct Held {
    debugger: Child,
}

impl Held {
    /// `None`: the system does not let one process hold another's thread.
    fn thread(process: u32, name: &str) -> Option<Self> {
        let tasks = format!("/proc/{process}/task");
        let mut threads = fs::read_dir(tasks).unwrap().map(|entry| entry.unwrap());
        let is_it = |entry: &fs::DirEntry| {
            fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        };
        let thread = threads.find(is_it).unwrap_or_else(|| panic!("there is no thread {name}"));
        let mut debugger = Command::new("python3")
            .arg(crate::file("tests/peers/hold_thread.py"))
            .arg(thread.file_name())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(debugger.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said != "held\n" {
            debugger.wait().unwrap();
            return None;
        }
        Some(Self { debugger })
    }

    fn let_go(mut self) {
        self.debugger.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(self.debugger.wait().unwrap().success());
    }
}

#[test]
fn the_watchdog_is_fed_only_while_every_worker_gets_on() {
    if peers::program("python3").is_none() {
        return;
    }
    let manager = Manager::new();
    let upstream = Upstream::echo();
    let interval = Duration::from_secs(3);
    let sidecar =
        manager.starting(&upstream).variable("WATCHDOG_USEC", &interval.as_micros().to_string()).start();
    let alive = "WATCHDOG=1";
    manager.hears(alive, 2);
    assert_eq!(sidecar.ops("/healthz").status, 200);

    let Some(held) = Held::thread(sidecar.id(), "worker-1") else {
        // Nothing to install: the system, or its administrator, forbids it.
        println!("skipped: this user may not hold a thread (ptrace)");
        return;
    };
    // Control goes on all the while, and so do the other threads; and still nobody says for this one that it is well.
    until("the health probe to name who is stuck", || {
        let health = sidecar.ops("/healthz");
        health.status == 503 && health.text().contains("worker 1 ")
    });
    let silence = || manager.with(alive).last().unwrap().at.elapsed();
    until("the watchdog to hear nothing for as long as it waits", || silence() > interval);
    assert!(
        manager.heard.lock().iter().any(|heard| {
            heard.lines.iter().any(|line| line.starts_with("STATUS=worker 1 has not got on"))
        })
    );
    assert_eq!(sidecar.ops("/readyz").status, 200, "other workers serve");
    let before = manager.count(alive);
    held.let_go();
    manager.hears(alive, before + 2);
    until("it to be well again", || sidecar.ops("/healthz").status == 200);
    sidecar.stop();
    // To the end of the drain, and no longer than the process.
    assert!(manager.count(alive) > before);
}
