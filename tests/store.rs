//! The SQLite store against what can be wrong with a file, and against crashes: clear errors that say what to do,
//! never an empty directory taken for a full one, nothing acknowledged lost.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; children talk to their parent")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use postern::config::StoreConfig;
use postern::directory::model::Timestamp;
use postern::directory::operations::{self, NewApplicationUser, NewToken};
use postern::directory::sqlite::SqliteStore;
use postern::directory::{OperationError, Store, StoreError, Synchronizer};
use postern::token::TokenKind;
use rusqlite::Connection;
use tempfile::TempDir;

const NOW: Timestamp = Timestamp(1_800_000_000);
const IMPATIENT: Duration = Duration::from_millis(20);
const ORGANIZATION: &str = "org1a2b3c4d5e6f";

#[derive(Clone, Copy, Debug, PartialEq)]
enum IfMissing {
    Fail,
    Create,
}

fn config(path: &Path, if_missing: IfMissing) -> StoreConfig {
    StoreConfig {
        path: path.to_owned(),
        create_if_missing: if_missing == IfMissing::Create,
        stale_after: None,
    }
}

fn open(path: &Path, if_missing: IfMissing) -> Result<SqliteStore, StoreError> {
    SqliteStore::open_with_patience(&config(path, if_missing), IMPATIENT)
}

/// A store with one application user, and that user's id.
fn filled(folder: &TempDir) -> (PathBuf, String) {
    let path = folder.path().join("directory.sqlite");
    let store = open(&path, IfMissing::Create).unwrap();
    operations::ensure_organization(&store, ORGANIZATION, "Example", NOW).unwrap();
    let new = NewApplicationUser {
        organization_id: ORGANIZATION.to_owned(),
        name: "reports".to_owned(),
        description: String::new(),
        is_super_admin: false,
    };
    let user = operations::create_application_user(&store, &new, NOW).unwrap();
    (path, user.value.user.id)
}

fn new_token(user_id: &str) -> NewToken {
    NewToken {
        user_id: user_id.to_owned(),
        kind: TokenKind::Application,
        description: "nightly".to_owned(),
        created_manually: true,
        max_age_seconds: None,
        extend_when_used: false,
        ip_allowlist: Vec::new(),
        scopes: Vec::new(),
        authentication_method_id: None,
    }
}

/// Opens and loads, as the program does at its start, and expects a failure whose message has all of `says`.
#[track_caller]
fn refused(path: &Path, if_missing: IfMissing, says: &[&str]) -> StoreError {
    let result =
        open(path, if_missing).and_then(|store| Synchronizer::start(Arc::new(store), Default::default()));
    let error = result.map(drop).unwrap_err();
    let message = error.to_string();
    assert!(message.contains(path.to_str().unwrap()), "no path in: {message}");
    for text in says {
        assert!(message.contains(text), "no {text:?} in: {message}");
    }
    error
}

#[test]
fn a_missing_file_is_an_error_and_stays_missing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("nothing.sqlite");
    let error = refused(&path, IfMissing::Fail, &["does not exist", "create_if_missing = true"]);
    assert!(matches!(error, StoreError::Missing { .. }), "{error:?}");
    assert!(!path.exists());
    open(&path, IfMissing::Create).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "readable by others");
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    let other = folder.path().join("other.sqlite");
    Connection::open(&other)
        .unwrap()
        .execute_batch("CREATE TABLE things (id INTEGER); PRAGMA user_version = 1")
        .unwrap();
    let other = fs::read(&other).unwrap();
    let contents: [(&[u8], &str); 5] = [
        (b"", "the file is empty"),
        (b"SQLite", "not an SQLite file"),
        (b"[store]\npath = \"/var/lib/postern\"\n", "not an SQLite file"),
        (&[0; 8192], "not an SQLite file"),
        (&other, "of another program"),
    ];
    for (content, says) in contents {
        for if_missing in [IfMissing::Fail, IfMissing::Create] {
            let path = folder.path().join("directory.sqlite");
            fs::write(&path, content).unwrap();
            let error = refused(
                &path,
                if_missing,
                &["is not a Postern store", says, "restore the store from a backup"],
            );
            assert!(matches!(error, StoreError::NotAStore { .. }), "{error:?}");
            assert_eq!(fs::read(&path).unwrap(), content, "{says}");
        }
    }
    refused(folder.path(), IfMissing::Create, &["it is a folder"]);
}

#[test]
fn a_newer_schema_is_refused() {
    let folder = TempDir::new().unwrap();
    let (path, _) = filled(&folder);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = refused(&path, IfMissing::Fail, &["schema version 99", "run the newer Postern"]);
    assert!(matches!(error, StoreError::NewerSchema { found: 99, .. }), "{error:?}");
}

#[test]
fn a_store_that_another_process_locks_is_waited_for_and_then_named() {
    let folder = TempDir::new().unwrap();
    let (path, user) = filled(&folder);
    let store = open(&path, IfMissing::Fail).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let error = operations::create_token(&store, &new_token(&user), NOW).unwrap_err();
    let OperationError::Store(error @ StoreError::Locked { .. }) = error else { panic!("{error:?}") };
    assert!(error.to_string().contains("fuser"), "{error}");
    other.execute_batch("ROLLBACK").unwrap();
    operations::create_token(&store, &new_token(&user), NOW).unwrap();
    drop(store);
    // The other one keeps everybody out, readers too.
    other
        .execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; PRAGMA user_version = 1; COMMIT")
        .unwrap();
    let error = refused(&path, IfMissing::Fail, &["is locked by another process", "fuser"]);
    assert!(matches!(error, StoreError::Locked { .. }), "{error:?}");
}

#[test]
fn a_damaged_store_is_never_taken_for_an_empty_one() {
    let folder = TempDir::new().unwrap();
    let (path, user) = filled(&folder);
    {
        let store = open(&path, IfMissing::Fail).unwrap();
        for _ in 0..200 {
            operations::create_token(&store, &new_token(&user), NOW).unwrap();
        }
    }
    let whole = fs::read(&path).unwrap();
    let mut overwritten = whole.clone();
    overwritten[4096..].fill(0xa5);
    for damaged in [&overwritten[..], &whole[..whole.len() / 2], &whole[..4096], &whole[..100]] {
        fs::write(&path, damaged).unwrap();
        let error = refused(&path, IfMissing::Create, &[]);
        assert!(matches!(error, StoreError::Corrupt { .. } | StoreError::NotAStore { .. }), "{error:?}");
        assert!(error.to_string().contains("backup"), "{error}");
    }
}

#[test]
fn a_store_that_cannot_be_written_or_opened_is_refused() {
    for (file_mode, folder_mode, says) in
        [(0o444, 0o555, "is read-only"), (0o000, 0o755, "no permission to open")]
    {
        let folder = TempDir::new().unwrap();
        let (path, _) = filled(&folder);
        fs::set_permissions(&path, fs::Permissions::from_mode(file_mode)).unwrap();
        let message = as_nobody(&folder, folder_mode, "child_opens", &path);
        assert!(message.contains(says), "{says}: {message}");
    }
}

/// Not a test of its own: opens the store it is told, and says what happened.
#[test]
fn child_opens() {
    if let Some(path) = std::env::var_os("POSTERN_TEST_STORE") {
        let result = open(Path::new(&path), IfMissing::Fail);
        println!("child: {}", result.map_or_else(|error| error.to_string(), |_| "opened".to_owned()));
    }
}

/// Runs one test of this program as a user that is not root, with the folder's mode set; returns what it prints.
fn as_nobody(folder: &TempDir, folder_mode: u32, test: &str, store: &Path) -> String {
    // Where the program itself lies, that user may not look.
    let programs = TempDir::new().unwrap();
    fs::set_permissions(programs.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = programs.path().join("child");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(folder_mode)).unwrap();
    let mut command = Command::new(&program);
    command.args(["--exact", test, "--nocapture"]).env("POSTERN_TEST_STORE", store);
    if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        command.uid(65_534);
    }
    let output = command.output().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn processes_that_make_the_store_at_the_same_time_share_one() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("directory.sqlite");
    let patient = Duration::from_secs(10);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let path = &path;
            scope.spawn(move || {
                let store =
                    SqliteStore::open_with_patience(&config(path, IfMissing::Create), patient).unwrap();
                operations::ensure_organization(&store, &format!("org{n}"), "Example", NOW).unwrap();
            });
        }
    });
    let store: Arc<dyn Store> = Arc::new(open(&path, IfMissing::Fail).unwrap());
    assert_eq!(store.read(|records| records.organizations()).unwrap().len(), 4);
    let left_over = fs::read_dir(folder.path()).unwrap().count();
    assert!(left_over <= 3, "more than the store, its -wal and its -shm");
}

#[test]
fn a_failed_operation_changes_nothing_and_logs_nothing() {
    let folder = TempDir::new().unwrap();
    let (path, user) = filled(&folder);
    let store = open(&path, IfMissing::Fail).unwrap();
    let store: &dyn Store = &store;
    let before = store.read(|records| records.sequence()).unwrap();
    let failed = store.change(NOW, |changes| {
        let found = changes.records().user(&user)?.unwrap();
        changes.put_user(&postern::directory::model::User { name: "changed".to_owned(), ..found })?;
        Err::<(), _>(OperationError::NotFound { entity: "thing", id: "1".to_owned() })
    });
    assert!(failed.is_err());
    assert_eq!(store.read(|records| records.sequence()).unwrap(), before);
    assert_eq!(store.read(|records| records.user(&user)).unwrap().unwrap().name, "reports");
}

#[test]
fn killed_at_any_moment_it_loses_nothing_that_was_acknowledged() {
    let folder = TempDir::new().unwrap();
    let (path, user) = filled(&folder);
    let mut created = Vec::new();
    let mut revoked = Vec::new();
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_changes", "--nocapture"])
            .env("POSTERN_TEST_STORE", &path)
            .env("POSTERN_TEST_USER", &user)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = 0;
        for line in lines.by_ref() {
            acknowledged += note(&line.unwrap(), &mut created, &mut revoked);
            if acknowledged == 7 + round * 3 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
    }
    let store: Arc<dyn Store> = Arc::new(open(&path, IfMissing::Fail).unwrap());
    assert!(created.len() >= 8 * 4 && revoked.len() >= 8 * 2);
    for prefix in &created {
        assert!(store.read(|records| records.token(prefix)).unwrap().is_some(), "lost {prefix}");
    }
    for prefix in &revoked {
        let token = store.read(|records| records.token(prefix)).unwrap().unwrap();
        assert!(token.token.revoked_time.is_some(), "revived {prefix}");
    }
}

/// Takes in one line of the child; returns how many acknowledgements it was.
fn note(line: &str, created: &mut Vec<String>, revoked: &mut Vec<String>) -> usize {
    let list = match line.split_once(' ') {
        Some(("created", _)) => created,
        Some(("revoked", _)) => revoked,
        _ => return 0,
    };
    list.push(line.split(' ').nth(1).unwrap().to_owned());
    1
}

/// Not a test of its own: creates and revokes tokens until it is killed, and says so each time.
#[test]
fn child_changes() {
    let (Some(path), Ok(user)) = (std::env::var_os("POSTERN_TEST_STORE"), std::env::var("POSTERN_TEST_USER"))
    else {
        return;
    };
    let store = SqliteStore::open(&config(Path::new(&path), IfMissing::Fail)).unwrap();
    let mut output = std::io::stdout();
    // The test harness may have begun the line.
    writeln!(output).unwrap();
    loop {
        let kept = operations::create_token(&store, &new_token(&user), NOW).unwrap().value.token.token_prefix;
        writeln!(output, "created {kept}").unwrap();
        let ended =
            operations::create_token(&store, &new_token(&user), NOW).unwrap().value.token.token_prefix;
        operations::revoke_token(&store, &ended, NOW).unwrap();
        writeln!(output, "revoked {ended}").unwrap();
    }
}
