//! Changes as editors and Kubernetes make them. Every test waits for the event; the deadline only ends a test that
//! has failed.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use super::{ConfigWatcher, Finding};

const DEADLINE: Duration = Duration::from_secs(20);

async fn changed(watcher: &mut ConfigWatcher) {
    tokio::time::timeout(DEADLINE, watcher.changed()).await.expect("the change is noticed");
}

/// Writes beside and renames over, as editors do.
fn rename_over(file: &Path, content: &str) {
    let beside = file.with_extension("new");
    fs::write(&beside, content).unwrap();
    fs::rename(beside, file).unwrap();
}

#[tokio::test]
async fn writing_in_place_and_renaming_over_are_noticed_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("postern.toml");
    fs::write(&file, "0").unwrap();
    let mut watcher = ConfigWatcher::start(&file).unwrap();
    for round in 1..3 {
        rename_over(&file, &format!("renamed {round}"));
        changed(&mut watcher).await;
        fs::write(&file, format!("written {round}")).unwrap();
        changed(&mut watcher).await;
    }
    fs::remove_file(&file).unwrap();
    changed(&mut watcher).await;
    fs::write(&file, "back").unwrap();
    changed(&mut watcher).await;
}

#[tokio::test]
async fn swapping_the_data_link_is_noticed_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let publish = |version: usize| {
        let version = format!("..{version}");
        fs::create_dir(path(&version)).unwrap();
        fs::write(path(&version).join("postern.toml"), &version).unwrap();
        symlink(&version, path("..data_tmp")).unwrap();
        fs::rename(path("..data_tmp"), path("..data")).unwrap();
    };
    publish(1);
    symlink("..data/postern.toml", path("postern.toml")).unwrap();
    let mut watcher = ConfigWatcher::start(&path("postern.toml")).unwrap();
    for version in 2..5 {
        publish(version);
        changed(&mut watcher).await;
        fs::remove_dir_all(path(&format!("..{}", version - 1))).unwrap();
    }
}

#[tokio::test]
async fn where_a_link_leads_is_watched_too() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let (link, file) = (folder.path().join("postern.toml"), elsewhere.path().join("real.toml"));
    fs::write(&file, "0").unwrap();
    symlink(&file, &link).unwrap();
    let mut watcher = ConfigWatcher::start(&link).unwrap();
    rename_over(&file, "1");
    changed(&mut watcher).await;
}

#[tokio::test]
async fn referenced_files_are_followed_also_before_they_exist() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("postern.toml");
    let key = folder.path().join("tls/deep/api.key");
    fs::write(&file, "0").unwrap();
    let mut watcher = ConfigWatcher::start(&file).unwrap();
    watcher.follow(std::slice::from_ref(&key)).unwrap();
    fs::create_dir_all(key.parent().unwrap()).unwrap();
    fs::write(&key, "1").unwrap();
    changed(&mut watcher).await;
    rename_over(&key, "2");
    changed(&mut watcher).await;
}

#[tokio::test]
async fn a_dropped_wait_loses_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("postern.toml");
    fs::write(&file, "0").unwrap();
    let mut watcher = ConfigWatcher::start(&file).unwrap();
    rename_over(&file, "1");
    // Dropped in the middle of waiting for quiet, after the event itself has been taken.
    let events = std::sync::Arc::clone(&watcher.events);
    events.notified().await;
    events.notify_one();
    assert!(tokio::time::timeout(Duration::from_millis(10), watcher.changed()).await.is_err());
    changed(&mut watcher).await;
}

#[test]
fn the_same_content_is_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("postern.toml");
    fs::write(&file, "same").unwrap();
    let mut watcher = ConfigWatcher::start(&file).unwrap();
    rename_over(&file, "same");
    assert_eq!(watcher.look(), Finding::Same);
    fs::write(folder.path().join("postern.log"), "busy").unwrap();
    assert_eq!(watcher.look(), Finding::Same);
    fs::write(&file, "other").unwrap();
    assert_eq!(watcher.look(), Finding::Changed);
    assert_eq!(watcher.look(), Finding::Same, "told once");
}
