//! A store on a file system that is full, or that cannot be written to: a small one in memory, in a namespace of its own, which takes
//! root. Without that, the tests say that they were skipped.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::management::Api;
use super::support::{Sidecar, Upstream, until};
use super::{change, is_refused, may_mount, recovers, says, serves};

/// A folder as the sidecar sees it, in its own namespace.
fn seen_by(sidecar: &Sidecar, name: &str) -> PathBuf {
    let folder = sidecar.folder().strip_prefix("/").unwrap();
    Path::new("/proc").join(sidecar.id().to_string()).join("root").join(folder).join(name)
}

/// Takes all space there is.
fn fill(file: &Path) {
    let mut filler = fs::File::create(file).unwrap();
    for piece in [64 * 1024, 4096, 1] {
        while filler.write_all(&vec![b'x'; piece]).is_ok() {}
    }
}

#[test]
fn a_full_disk_refuses_changes_keeps_usage_and_recovers_once_there_is_space() {
    if !may_mount() {
        return;
    }
    let upstream = Upstream::echo();
    let script = "mkdir small && mount -t tmpfs -o size=2m tmpfs small && cp store.db store.db-wal small/ && exec \"$@\"";
    let sidecar = Sidecar::in_front_of(&upstream)
        .admin("")
        .permitted_is_super_admin()
        .store("small/store.db")
        .wrapped_in(&["unshare", "-m", "sh", "-c", script, "sh"])
        .start();
    let api = Api::new(sidecar.admin.unwrap(), &sidecar.permitted.token);
    assert!(change(&api).is_good(), "there is space");
    let filler = seen_by(&sidecar, "small/filler");
    fill(&filler);
    // The log beside the store may have room of its own for a few.
    until("a change to be refused", || {
        serves(&sidecar, 1);
        change(&api).status == 503
    });
    is_refused(&change(&api));
    until("usage to find no space", || {
        serves(&sidecar, 1);
        sidecar.metric("postern_directory_errors_total") > 0.5
    });
    says(&sidecar, "no space is left for store");
    says(&sidecar, "free space on its file system");
    serves(&sidecar, 50);
    assert_eq!(sidecar.ops("/readyz").status, 200);
    assert!(sidecar.metric("postern_usage_pending") > 0.5, "usage waits");

    fs::remove_file(&filler).unwrap();
    recovers("a change to succeed", || change(&api).is_good());
    recovers("usage to be written", || sidecar.metric("postern_usage_pending") < 0.5);
    says(&sidecar, "the store works again");
    // What was refused has left nothing behind, and what was acknowledged is there.
    sidecar.stop();
}

#[test]
fn a_store_on_a_file_system_that_is_read_only_is_refused_at_the_start() {
    if !may_mount() {
        return;
    }
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    sidecar.stop();
    let script = "mount --bind . . && mount -o remount,bind,ro . && cd \"$PWD\" && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_postern"), "run", "--config"])
        .arg(sidecar.config_file())
        .current_dir(sidecar.folder())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("is read-only") && said.contains("mount the file system read-write"), "{said}");
}
