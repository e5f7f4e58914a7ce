//! Failures that only this module can bring about.

use std::fs;
use std::os::unix::fs::FileExt as _;

use rusqlite::ffi;

use super::*;
use crate::directory::operations;

const NOW: Timestamp = Timestamp(1_800_000_000);

/// SQLite's own choice.
const PAGE_BYTES: u64 = 4096;

fn failures() -> Failures {
    Failures { path: "/var/lib/postern/directory.sqlite".into(), busy_timeout: BUSY_TIMEOUT }
}

#[track_caller]
fn check(code: i32, says: &str) {
    let error = failures().of(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)).to_string();
    assert!(error.contains(says) && error.contains("/var/lib/postern/directory.sqlite"), "{says}: {error}");
}

#[test]
fn every_failure_of_sqlite_says_what_to_do() {
    check(ffi::SQLITE_BUSY, "did not become free within 5 s");
    check(ffi::SQLITE_LOCKED, "fuser");
    check(ffi::SQLITE_CORRUPT, "restore a backup");
    check(ffi::SQLITE_NOTADB, "is not a Postern store");
    check(ffi::SQLITE_READONLY, "writable");
    check(ffi::SQLITE_READONLY_DBMOVED, "read-only");
    check(ffi::SQLITE_FULL, "free space");
    check(ffi::SQLITE_PERM, "no permission");
    check(ffi::SQLITE_CANTOPEN, "does not exist");
    check(ffi::SQLITE_IOERR_FSYNC, "check the disk");
    check(ffi::SQLITE_CONSTRAINT, "please report it");
}

#[test]
fn a_full_disk_is_said_and_changes_nothing() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("directory.sqlite");
    let store = SqliteStore::open(&StoreConfig { path, create_if_missing: true, stale_after: None })
        .expect("a new store");
    {
        let connection = store.changes.lock();
        let pages: u32 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("a count");
        connection.pragma_update(None, "max_page_count", pages + 2).expect("a limit");
    }
    let mut made = 0;
    let error = loop {
        match operations::ensure_organization(&store, &format!("org{made}"), &"x".repeat(100), NOW) {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, OperationError::Store(StoreError::Full { .. })), "{error}");
    assert!(error.to_string().contains("nothing was changed; free space"), "{error}");
    let store: &dyn Store = &store;
    let (organizations, sequence) =
        store.read(|records| Ok((records.organizations()?.len(), records.sequence()?))).expect("it reads");
    assert_eq!((organizations, sequence), (made, Sequence(made as u64)));
}

#[test]
fn a_version_changes_exactly_when_something_was_written() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("directory.sqlite");
    let store = SqliteStore::open(&StoreConfig { path, create_if_missing: true, stale_after: None })
        .expect("a new store");
    let version = || store.version().expect("a version");
    let before = version();
    assert_eq!(version(), before);
    operations::ensure_organization(&store, "org1", "Example", NOW).expect("it is made");
    assert_ne!(version(), before);
}

#[test]
fn pages_that_were_damaged_and_are_whole_again_are_read_again_though_nobody_writes() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("directory.sqlite");
    let store =
        SqliteStore::open(&StoreConfig { path: path.clone(), create_if_missing: true, stale_after: None })
            .expect("a new store");
    operations::ensure_organization(&store, "org1", "Example", NOW).expect("it is made");
    let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
    store.changes.lock().query_row(checkpoint, [], |_| Ok(())).expect("all of it is in its file");
    for connection in [&store.reading, &store.following] {
        connection.lock().execute_batch(FORGET_PAGES).expect("what was read is forgotten");
    }
    let whole = fs::read(&path).expect("the file");
    let file = fs::OpenOptions::new().write(true).open(&path).expect("the file");
    let put = |bytes: &[u8]| file.write_all_at(bytes, PAGE_BYTES).expect("it is written");
    let store: &dyn Store = &store;
    let read = || store.read(|records| records.organizations());
    let follow = || {
        let mut found = None;
        store.follow_with(&mut |records| {
            found = Some(records.organizations()?);
            Ok(())
        })?;
        Ok::<_, StoreError>(found)
    };

    put(&vec![0xa5; whole.len() - PAGE_BYTES as usize]);
    assert!(matches!(read(), Err(StoreError::Corrupt { .. })), "{:?}", read());
    assert!(matches!(follow(), Err(StoreError::Corrupt { .. })), "{:?}", follow());
    put(&whole[PAGE_BYTES as usize..]);
    assert_eq!(read().expect("it reads").len(), 1);
    assert_eq!(follow().expect("it reads").map(|found| found.len()), Some(1));
}
