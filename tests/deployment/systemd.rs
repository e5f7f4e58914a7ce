//! The units, as systemd itself reads them, and what has to be the same in several places.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::peers;
use crate::text;

/// What is in `config/systemd`, with the built binary in the place of the installed one.
fn install(folder: &Path) {
    let unit = text("config/systemd/postern.service");
    let unit = unit.replace("/usr/bin/postern", env!("CARGO_BIN_EXE_postern"));
    fs::write(folder.join("postern.service"), unit).unwrap();
    fs::write(folder.join("postern.socket"), text("config/systemd/postern.socket")).unwrap();
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let Some(program) = peers::program("systemd-analyze") else { return };
    let folder = tempfile::tempdir().unwrap();
    install(folder.path());
    let verify = || {
        Command::new(&program)
            .args(["verify", "--man=no"])
            .arg(folder.path().join("postern.service"))
            .arg(folder.path().join("postern.socket"))
            .output()
            .unwrap()
    };
    let verified = verify();
    // Of the machine's own units it may have something to say too.
    let about_ours = |output: &Output| said(output).lines().any(|line| line.contains("postern"));
    assert!(verified.status.success() && !about_ours(&verified), "{}", said(&verified));

    // The test would notice a key that there is not, and a value that means nothing.
    let unit = fs::read_to_string(folder.path().join("postern.service")).unwrap();
    for (good, bad) in [("WatchdogSec=30", "WatchdogSec=soon"), ("ProtectHome=", "ProtectHouse=")] {
        let spoilt = unit.replace(good, bad);
        assert_ne!(spoilt, unit);
        fs::write(folder.path().join("postern.service"), spoilt).unwrap();
        assert!(about_ours(&verify()), "{bad} is not noticed");
    }
}

#[test]
fn little_is_left_that_the_service_could_do() {
    let Some(program) = peers::program("systemd-analyze") else { return };
    let folder = tempfile::tempdir().unwrap();
    install(folder.path());
    // In tenths: 0 is nothing, 100 what a service may do about which nothing is said.
    let analyzed = Command::new(program)
        .args(["security", "--offline=yes", "--no-pager", "--threshold=13"])
        .arg(folder.path().join("postern.service"))
        .output()
        .unwrap();
    assert!(analyzed.status.success(), "{}", said(&analyzed));
    println!("{}", said(&analyzed).lines().last().unwrap_or_default());
}

/// The value of a key.
fn value(unit: &str, key: &str) -> String {
    let text = text(unit);
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("{key} is not in {unit}")).to_owned()
}

#[test]
fn its_times_go_with_the_defaults_of_the_configuration() {
    let service = "config/systemd/postern.service";
    let seconds = |key| value(service, key).parse::<u64>().unwrap();
    let reference = text("config/postern.toml");
    let drain = reference.lines().find_map(|line| line.strip_prefix("drain_seconds = ")).unwrap();
    let drain: u64 = drain.parse().unwrap();
    assert!(seconds("TimeoutStopSec") >= drain + 10, "what runs has its grace");
    let patience = postern::lifecycle::progress::WORKER_PATIENCE.as_secs();
    assert!(seconds("WatchdogSec") > patience, "nobody is stuck before the watchdog is not fed any more");
    assert_eq!(value(service, "LimitCORE"), "0");
    // What the configuration's problems end with is what is not tried again.
    let unread = Command::new(env!("CARGO_BIN_EXE_postern"))
        .args(["run", "--config", "/nowhere/postern.toml"])
        .output()
        .unwrap();
    let code = unread.status.code().unwrap().to_string();
    let never_again = value(service, "RestartPreventExitStatus");
    assert!(never_again.split(' ').any(|it| it == code), "{code} is not in {never_again}");
}

#[test]
fn the_commands_of_the_unit_are_commands() {
    for key in ["ExecStart", "ExecReload"] {
        let command = value("config/systemd/postern.service", key);
        let words: Vec<_> = command.split(' ').skip(1).collect();
        let help = Command::new(env!("CARGO_BIN_EXE_postern")).args(words).arg("--help").output().unwrap();
        assert!(help.status.success(), "{command}: {}", said(&help));
    }
}
