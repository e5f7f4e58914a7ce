//! A store that somebody else holds on to, that is damaged, or that is gone for long. What a file can be at the start is in
//! `tests/store.rs`.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::support::management::ORGANIZATION;
use super::support::peers::Process;
use super::support::{Sidecar, Upstream, until};
use super::{change, is_refused, recovers, says, serves};

const ERRORS: &str = "postern_directory_errors_total";

/// Waits until the store is no longer needed by what comes next: its log of changes is in the file itself.
#[track_caller]
fn checkpoint(store: &Connection) {
    until("all of the store to be in its file", || {
        store.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0)).unwrap() == 0
    });
}

/// Another process in a transaction that writes, stopped by a signal; once this returns, it holds the store's lock.
fn stopped_writer(store: &Path) -> Process {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::child_writes", "--nocapture"])
        .env("POSTERN_TEST_STORE", store)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap() == "writing").unwrap().unwrap();
    let stopped = Command::new("sh").args(["-c", &format!("kill -STOP {}", child.id())]).status().unwrap();
    assert!(stopped.success());
    Process(child)
}

/// Not a test of its own: begins to write to the store it is told, and never ends.
#[test]
fn child_writes() {
    let Some(path) = std::env::var_os("POSTERN_TEST_STORE") else { return };
    let store = Connection::open(path).unwrap();
    store.execute_batch("BEGIN IMMEDIATE; UPDATE token_usage SET last_used_time = last_used_time").unwrap();
    let mut output = std::io::stdout();
    // The test harness may have begun the line.
    writeln!(output, "\nwriting").unwrap();
    loop {
        thread::park();
    }
}

#[test]
fn a_writer_that_was_stopped_in_its_transaction_holds_up_writes_only_and_each_for_a_few_seconds() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).admin("").start();
    let api = sidecar.managed();
    let list = format!("/v1/organization/{ORGANIZATION}/application-users");
    let writer = stopped_writer(&sidecar.folder().join("store.db"));
    thread::scope(|scope| {
        let begun = Instant::now();
        let changes: Vec<_> = (0..6).map(|_| scope.spawn(|| change(&api))).collect();
        // Meanwhile everything else goes on, the management API's reading included.
        serves(&sidecar, 20);
        assert_eq!(api.get(&list).status, 200);
        assert_eq!(sidecar.ops("/readyz").status, 200);
        assert!(!changes.iter().all(thread::ScopedJoinHandle::is_finished), "that was meanwhile");
        changes.into_iter().for_each(|change| is_refused(&change.join().unwrap()));
        // Five seconds for the one that waits for the lock, as many for those behind it: not for each in turn.
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    });
    until("usage to have waited for long enough", || sidecar.metric(ERRORS) > 0.5);
    says(&sidecar, "the store fails");
    says(&sidecar, "is locked by another process");
    assert!(sidecar.metric("postern_usage_pending") > 0.5, "usage waits");
    serves(&sidecar, 20);

    // Killed, for it is stopped: the lock is free.
    drop(writer);
    recovers("a change to succeed", || change(&api).is_good());
    recovers("usage to be written", || sidecar.metric("postern_usage_pending") < 0.5);
    says(&sidecar, "the store works again");
    let stored = sidecar.directory.stored(&sidecar.permitted.prefix);
    assert!(stored.usage.is_some(), "nothing of it is lost");
}

#[test]
fn usage_that_waits_for_another_writer_does_not_hold_up_a_revocation() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let store = Connection::open(sidecar.folder().join("store.db")).unwrap();
    let spared = sidecar.directory.permitted();
    sidecar.wait_for(&spared);
    store.execute_batch("BEGIN IMMEDIATE").unwrap();
    serves(&sidecar, 1);
    let head = sidecar.head_with(&spared.token, "GET /", "");
    // For longer than from one flush to the next: then one waits, which nothing says.
    let begun = Instant::now();
    until("usage to wait", || {
        assert_eq!(sidecar.request(&head).status, 200);
        begun.elapsed() > Duration::from_millis(1_300) && sidecar.metric("postern_usage_pending") > 0.5
    });
    // Another process revokes, and goes on writing without a pause in which anybody else gets a turn.
    let number: i64 = store
        .query_row("SELECT number FROM tokens WHERE prefix = ?1", [&sidecar.permitted.prefix], |row| {
            row.get(0)
        })
        .unwrap();
    store
        .execute_batch(&format!(
            "UPDATE tokens SET revoked_time = create_time WHERE number = {number};
             INSERT INTO changes (entity, entity_id, change_time) VALUES ('token', '{number}', 0);
             COMMIT;
             BEGIN IMMEDIATE"
        ))
        .unwrap();
    let revoked = Instant::now();
    until("the revocation to be in force", || sidecar.answers(&sidecar.get(), 401));
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    store.execute_batch("ROLLBACK").unwrap();
    recovers("usage to be written", || sidecar.metric("postern_usage_pending") < 0.5);
    if begun.elapsed() < Duration::from_secs(5) {
        assert!(!sidecar.output().contains("the store fails"), "to wait a little is no failure");
    }
}

#[test]
fn damaged_pages_are_said_and_once_they_are_whole_again_all_goes_on() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).admin("").start();
    let api = sidecar.managed();
    let list = format!("/v1/organization/{ORGANIZATION}/application-users");
    assert!(change(&api).is_good());
    let path = sidecar.folder().join("store.db");
    checkpoint(&Connection::open(&path).unwrap());
    let whole = fs::read(&path).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&vec![0xa5; whole.len() - 4096], 4096).unwrap();
    until("reading to fail", || {
        serves(&sidecar, 1);
        api.get(&list).status == 503
    });
    until("keeping in step, or writing usage, to fail", || {
        serves(&sidecar, 1);
        sidecar.metric(ERRORS) > 0.5
    });
    says(&sidecar, "the store fails");
    says(&sidecar, "is damaged");
    says(&sidecar, "restore a backup");
    assert_eq!(sidecar.ops("/readyz").status, 200, "memory is whole");

    // As it was, in place; what was written meanwhile is in the log beside it.
    file.write_all_at(&whole[4096..], 4096).unwrap();
    recovers("reading to work", || api.get(&list).status == 200);
    recovers("a change to succeed", || change(&api).is_good());
    says(&sidecar, "the store works again");
}

#[test]
fn a_store_that_is_gone_for_long_costs_no_request_and_comes_back_within_seconds() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).admin("").start();
    let api = sidecar.managed();
    let revoked = sidecar.directory.permitted();
    sidecar.wait_for(&revoked);
    let (path, away) = (sidecar.folder().join("store.db"), sidecar.folder().join("away.db"));
    fs::rename(&path, &away).unwrap();
    until("that to be noticed", || sidecar.metric("postern_directory_age_seconds") > 2.0);
    says(&sidecar, "the store fails");
    says(&sidecar, "does not exist");
    serves(&sidecar, 200);
    is_refused(&change(&api));
    assert_eq!((sidecar.ops("/readyz").status, sidecar.ops("/healthz").status), (200, 200));
    let head = sidecar.head_with(&revoked.token, "GET /", "");
    assert_eq!(sidecar.request(&head).status, 200);

    fs::rename(&away, &path).unwrap();
    sidecar.directory.revoke(&revoked.prefix);
    recovers("the revocation to be in force", || sidecar.answers(&head, 401));
    recovers("a change to succeed", || change(&api).is_good());
    assert!(sidecar.metric("postern_directory_age_seconds") < 2.0);
    says(&sidecar, "the store works again");
}

/// Answers `/stream` with a beginning, and keeps everybody else waiting.
fn endless() -> Upstream {
    Upstream::start(|peer| {
        while let Some(request) = peer.read_head() {
            match request.target.as_str() {
                "/stream" => {
                    peer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
                    peer.read_to_end();
                }
                "/wait" => peer.read_to_end(),
                _ => drop(peer.respond(200, &[], b"served")),
            }
        }
    })
}

#[test]
fn a_store_that_is_gone_for_longer_than_the_operator_allows_lets_no_token_in_until_it_is_back() {
    let upstream = endless();
    let sidecar = Sidecar::in_front_of(&upstream).store_lines("stale_after_seconds = 3").start();
    let (path, away) = (sidecar.folder().join("store.db"), sidecar.folder().join("away.db"));
    let mut streaming = sidecar.connect();
    streaming.send(sidecar.head("GET /stream", ""));
    assert_eq!(streaming.read_head().unwrap().status, 200);
    assert_eq!(streaming.read_exactly(10), b"5\r\nfirst\r\n");
    let mut waiting = sidecar.connect();
    waiting.send(sidecar.head("GET /wait", ""));
    serves(&sidecar, 1);

    fs::rename(&path, &away).unwrap();
    let gone = Instant::now();
    waiting.response().assert_error(503, "directory_stale");
    assert!(gone.elapsed() >= Duration::from_secs(2), "until then it goes on: {:?}", gone.elapsed());
    assert_eq!(streaming.read_to_end(), b"", "half an answer does not look like a whole one");
    until("both workers to have noticed", || (0..20).all(|_| sidecar.request(sidecar.get()).status == 503));
    let refused = sidecar.request(sidecar.get());
    refused.assert_error(503, "directory_stale");
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert!(
        refused.header("www-authenticate").is_none(),
        "a token that may be good is not to be thrown away"
    );
    // One that was made meanwhile would be unknown here.
    let unknown = sidecar.head_with(&"x".repeat(40), "GET /", "");
    sidecar.request(&unknown).assert_error(503, "directory_stale");
    sidecar
        .request(sidecar.head("GET /", "").replace("service.test", "nowhere.test"))
        .assert_error(503, "directory_stale");
    let open = sidecar.head("GET /", "").replace("service.test", "open.test");
    assert_eq!(sidecar.request(open).status, 200, "nobody is asked for a token there");
    sidecar.ops("/readyz").assert_error(503, "directory_stale");
    assert_eq!(sidecar.ops("/healthz").status, 200, "a restart would not help");
    says(&sidecar, "longer than store.stale_after_seconds");

    // The operator decides otherwise.
    let config = fs::read_to_string(sidecar.config_file()).unwrap();
    fs::write(sidecar.config_file(), config.replace("stale_after_seconds = 3", "")).unwrap();
    recovers("requests to be decided from memory", || (0..20).all(|_| sidecar.answers(&sidecar.get(), 200)));
    assert_eq!(sidecar.ops("/readyz").status, 200);
    fs::write(sidecar.config_file(), &config).unwrap();
    recovers("the first word to count again", || (0..20).all(|_| sidecar.answers(&sidecar.get(), 503)));
    assert_eq!(sidecar.ops("/readyz").status, 503);

    fs::rename(&away, &path).unwrap();
    recovers("the directory to be new enough", || (0..20).all(|_| sidecar.answers(&sidecar.get(), 200)));
    assert_eq!(sidecar.ops("/readyz").status, 200);
    says(&sidecar, "new enough to decide by again");
}
