//! Real programs that the sidecar is tried against: found, started, ended.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::eventually;

/// Set by `tests/run` once it has installed them: then a missing program fails a test instead of skipping it.
const REQUIRE: &str = "POSTERN_TEST_REQUIRE_PEERS";

/// A process that ends with its test.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Where a program is; `None`, and a line that says so, where it is not installed and need not be.
#[track_caller]
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    found_or_skipped(name, folders.map(|folder| folder.join(name)).find(|candidate| candidate.is_file()))
}

/// Where a program of `tests/peers/requirements.txt` is; `None`, as for [`program`].
#[track_caller]
pub fn python_program(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/python");
    let pinned = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/requirements.txt");
    // Another version would be another test.
    let is_current = fs::read(folder.join("installed.txt")).ok() == fs::read(pinned).ok();
    let program = folder.join("bin").join(name);
    found_or_skipped(name, (is_current && program.is_file()).then_some(program))
}

/// The folder of target/peers that `tests/run` installs from these files, which it keeps there as `installed`; `None`, as for
/// [`program`].
#[track_caller]
pub fn folder(name: &str, sources: &[&str]) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("target/peers").join(name);
    let wanted: Vec<u8> = sources.iter().flat_map(|source| fs::read(root.join(source)).unwrap()).collect();
    let is_current = fs::read(folder.join("installed")).is_ok_and(|installed| installed == wanted);
    found_or_skipped(name, is_current.then_some(folder))
}

#[track_caller]
fn found_or_skipped(name: &str, found: Option<PathBuf>) -> Option<PathBuf> {
    if found.is_none() {
        missing(name);
    }
    found
}

/// An HAProxy with one frontend for each of these ways to speak to the sidecar; `None` where it is not installed.
#[track_caller]
pub fn haproxy(sidecar: &str, ways: &[&str]) -> Option<(Process, tempfile::TempDir, Vec<SocketAddr>)> {
    let program = program("haproxy")?;
    let folder = tempfile::tempdir().unwrap();
    // Another process may take a port before HAProxy does: then it is tried with others.
    for _ in 0..10 {
        let held: Vec<_> = ways.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = held.iter().map(|listener| listener.local_addr().unwrap()).collect();
        drop(held);
        let mut text = "global\n  maxconn 64\ndefaults\n  mode tcp\n  timeout connect 10s\n  timeout client 30s\n  timeout server 30s\n".to_owned();
        for (number, (address, way)) in addresses.iter().zip(ways).enumerate() {
            text += &format!("listen l{number}\n  bind {address}\n  server s {sidecar} {way}\n");
        }
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, text).unwrap();
        let child =
            Command::new(&program).args(["-db", "-f"]).arg(&file).stdout(Stdio::null()).spawn().unwrap();
        let mut process = Process(child);
        let listens = eventually("HAProxy to listen", || match process.0.try_wait().unwrap() {
            Some(_ended) => Some(false),
            None => addresses.iter().all(|address| TcpStream::connect(address).is_ok()).then_some(true),
        });
        if listens {
            return Some((process, folder, addresses));
        }
    }
    panic!("HAProxy does not start");
}

/// Says that a test is skipped because something is not installed; fails where it had to be.
#[track_caller]
pub fn missing(name: &str) {
    assert!(std::env::var_os(REQUIRE).is_none_or(|value| value != "1"), "{name} is not installed");
    println!("skipped: {name} is not installed");
}

/// Runs a program to its end and returns its output; fails if the program does.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}
