//! The image: what it is built of is there, what it runs is understood; and `postern health`, by which it is asked.
//!
//! No image is built here: that takes a builder of images, and many minutes.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Sidecar, Upstream, until};
use crate::{file, text};

/// The instructions of the Dockerfile, each on one line.
fn instructions() -> Vec<String> {
    let text = text("Dockerfile").replace("\\\n", " ");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// The words after `keyword` in an instruction that ends in a list of strings.
fn command(keyword: &str) -> Vec<String> {
    let all = instructions();
    let instruction = all.iter().find(|instruction| instruction.contains(keyword)).unwrap();
    serde_json::from_str(&instruction[instruction.find('[').unwrap()..]).unwrap()
}

/// Whether .dockerignore, which excludes everything, lets a path through.
fn is_let_through(path: &str) -> bool {
    let text = text(".dockerignore");
    let mut patterns = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(patterns.next(), Some("*"), "everything is excluded first");
    patterns.any(|pattern| {
        let pattern =
            pattern.strip_prefix('!').unwrap_or_else(|| panic!("{pattern} excludes what is excluded"));
        match pattern.split_once('*') {
            None => path == pattern || path.strip_prefix(pattern).is_some_and(|rest| rest.starts_with('/')),
            Some((before, after)) => {
                let rest = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
                rest.is_some_and(|rest| !rest.contains('/'))
            }
        }
    })
}

/// Copies what a path stands for, as far as the builder gets it; how many files that is.
fn copy(path: &str, to: &Path) -> usize {
    let from = file(path);
    if from.is_dir() {
        let entries = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().file_name());
        return entries.map(|name| copy(&format!("{path}/{}", name.to_str().unwrap()), to)).sum();
    }
    if !is_let_through(path) {
        return 0;
    }
    let to = to.join(path);
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
    1
}

#[test]
fn what_is_copied_is_all_that_the_program_is_built_of() {
    let folder = tempfile::tempdir().unwrap();
    for instruction in instructions() {
        let words: Vec<_> = instruction.split(' ').collect();
        if words[0] != "COPY" || words[1].starts_with("--") {
            continue;
        }
        for path in &words[1..words.len() - 1] {
            assert!(copy(path, folder.path()) > 0, "{path} is not there, or excluded");
        }
    }
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline", "--locked"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    for excluded in [".git/config", "target/debug/postern", "postern.db", "tls/api.key", "benches/load/run"] {
        assert!(!is_let_through(excluded), "{excluded} goes to the builder");
    }
}

#[test]
fn what_it_runs_is_understood_and_it_runs_as_nobody_in_particular() {
    let program = command("ENTRYPOINT");
    assert_eq!(program, ["/usr/bin/postern"]);
    let health = command("HEALTHCHECK");
    assert_eq!(health[..1], program[..]);
    for words in [&command("CMD [\"run")[..], &health[1..]] {
        let help = Command::new(env!("CARGO_BIN_EXE_postern")).args(words).arg("--help").output().unwrap();
        assert!(help.status.success(), "{words:?}");
    }
    let all = instructions();
    let user = all.iter().find_map(|instruction| instruction.strip_prefix("USER ")).unwrap();
    let (user, group) = user.split_once(':').unwrap();
    assert!(
        user.parse::<u32>().unwrap() > 0 && group.parse::<u32>().unwrap() > 0,
        "a number, and not root's"
    );
    assert!(all.iter().any(|instruction| instruction == "FROM scratch"), "nothing else is in it");
}

/// Asks, and returns the exit code with all that was printed.
fn health(arguments: &[&str]) -> (Option<i32>, String) {
    let asked = Command::new(env!("CARGO_BIN_EXE_postern")).arg("health").args(arguments).output().unwrap();
    let printed = [asked.stdout, asked.stderr].concat();
    (asked.status.code(), String::from_utf8(printed).unwrap())
}

#[test]
fn the_command_asks_the_sidecar_of_the_configuration() {
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let slow = Upstream::start(move |peer| {
        while peer.read_request().is_some() {
            let _told = wait.lock().unwrap().recv();
            peer.respond(200, &[], b"");
        }
    });
    let sidecar = Sidecar::in_front_of(&slow).start();
    let ops = sidecar.ops.to_string();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("postern.toml");
    // A file with mistakes: what runs has read another.
    fs::write(&config, format!("nonsense = 1\n[ops]\naddress = \"{ops}\"\n")).unwrap();
    let config = config.to_str().unwrap();
    assert_eq!(health(&["--config", config]), (Some(0), "ok\n".into()));
    assert_eq!(health(&["--config", config, "--live"]), (Some(0), "ok\n".into()));
    let (code, printed) = health(&["--config", config, "--json"]);
    let report: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((code, &report["ok"], &report["status"]), (Some(0), &true.into(), &200.into()), "{printed}");

    // The sidecar's own file lets the system choose the port.
    let (code, printed) = health(&["--config", sidecar.config_file().to_str().unwrap()]);
    assert!(code == Some(1) && printed.contains("--address"), "{printed}");

    let mut running = sidecar.connect();
    running.send(sidecar.get());
    until("the request to run", || slow.requests().len() == 1);
    sidecar.signal("TERM");
    until("it to drain", || health(&["--address", &ops]).0 == Some(1));
    let (code, printed) = health(&["--address", &ops]);
    assert!(code == Some(1) && printed.contains("draining"), "{printed}");
    assert_eq!(health(&["--address", &ops, "--live"]).0, Some(0), "it gets on");
    go_on.send(()).unwrap();
    assert_eq!(running.response().status, 200);
    sidecar.assert_finished();

    let (code, printed) = health(&["--address", &ops]);
    assert!(code == Some(1) && printed.contains("nobody answers"), "{printed}");
    let (code, printed) = health(&["--address", "nowhere"]);
    assert_eq!(code, Some(2), "{printed}");
}

#[test]
fn whoever_speaks_something_else_is_not_healthy() {
    let other = Upstream::start(|peer| {
        peer.read_request();
        peer.write(b"SSH-2.0-server\r\n\r\n");
    });
    let (code, printed) = health(&["--address", &other.address().to_string()]);
    assert!(code == Some(1) && printed.contains("does not speak HTTP"), "{printed}");
    let silent = Upstream::start(|peer| {
        peer.read_request();
        peer.read_request();
    });
    let (code, printed) = health(&["--address", &silent.address().to_string()]);
    assert!(code == Some(1) && printed.contains("nobody answers"), "{printed}");
}
