//! A system clock that is set a day ahead and back: what has expired stays so, usage only moves forward, connections stay, and nothing
//! runs wild. The clock is that of libfaketime; what is removed for its age is in `src/app/keeper/clock.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use postern::token::TokenKind;

use super::support::directory::now;
use super::support::{Sidecar, Upstream, peers, until};
use super::{says, serves};

const DAY: u32 = 86_400;
const AHEAD: &str = "postern_clock_ahead_seconds";

/// libfaketime, which Debian keeps in a folder for each architecture; `None`, and a line that says so, where it is not installed.
fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().map_while(Result::ok);
    let found = folders
        .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
        .find(|candidate| candidate.is_file());
    if found.is_none() {
        peers::missing("faketime");
    }
    found
}

/// Sets the clock: so much off the true one, as libfaketime writes it.
fn set(file: &Path, offset: &str) {
    let new = file.with_extension("new");
    fs::write(&new, offset).unwrap();
    fs::rename(new, file).unwrap();
}

#[test]
fn a_clock_that_is_set_ahead_and_back_lets_nobody_in_again_and_stops_nothing() {
    let Some(library) = library() else { return };
    let folder = tempfile::tempdir().unwrap();
    let clock = folder.path().join("clock");
    set(&clock, "+0");
    let upstream = Upstream::start(|peer| {
        while let Some(request) = peer.read_request() {
            if request.target == "/stream" {
                peer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
                peer.read_to_end();
                return;
            }
            peer.respond(200, &[], b"fine");
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream)
        .variable("LD_PRELOAD", library.to_str().unwrap())
        .variable("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap())
        .variable("FAKETIME_NO_CACHE", "1")
        .variable("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .variable("DONT_FAKE_MONOTONIC", "1")
        .variable("NO_FAKE_STAT", "1")
        .start();
    let user = &sidecar.permitted.user_id;
    let hour = |sidecar: &Sidecar| {
        sidecar.directory.token_with(user, TokenKind::Application, |new| new.max_age_seconds = Some(3_600))
    };
    let short = hour(&sidecar);
    sidecar.wait_for(&short);
    let status = |token: &str| sidecar.request(sidecar.head_with(token, "GET /", "")).status;
    let last_used =
        || sidecar.directory.stored(&sidecar.permitted.prefix).usage.map(|usage| usage.last_used_time.0);
    let mut kept = sidecar.connect();
    let mut stream = sidecar.connect();
    stream.send(sidecar.head("GET /stream", ""));
    assert_eq!(stream.read_head().unwrap().status, 200);
    assert_eq!((status(&short.token), kept.request(sidecar.get()).status), (200, 200));
    assert!(sidecar.metric(AHEAD) < 2.0);

    set(&clock, "+1d");
    until("the token to have expired", || status(&short.token) == 401);
    assert_eq!(kept.request(sidecar.get()).status, 200, "connections go by another clock");
    until("usage to be of the new day", || {
        serves(&sidecar, 1);
        last_used().is_some_and(|time| time >= now().0 + DAY - 60)
    });
    says(&sidecar, "the system's clock was set");

    set(&clock, "+0");
    until("that to be noticed", || {
        serves(&sidecar, 1);
        sidecar.metric(AHEAD) > f64::from(DAY - 3_600)
    });
    says(&sidecar, "tokens expire by the later time");
    assert_eq!(status(&short.token), 401, "it does not revive");
    assert!(last_used().unwrap() >= now().0 + DAY - 60, "usage never moves back");
    // The price, which the log tells: until the day is over, or a restart, new ones count as a day old.
    let new = hour(&sidecar);
    sidecar.wait_for(&new);
    assert_eq!(status(&new.token), 401);
    assert_eq!(kept.request(sidecar.get()).status, 200);
    // No timer waits for the day to pass, and none goes off over and over.
    let (begun, used) = (Instant::now(), sidecar.processor_time());
    std::thread::sleep(Duration::from_secs(1));
    let (took, used) = (begun.elapsed(), sidecar.processor_time() - used);
    assert!(used < took / 2, "{used:?} of {took:?} with nothing to do");
    assert!(!sidecar.output().contains("the store fails"));
    assert_eq!(&stream.read_exactly(10), b"5\r\nhello\r\n", "what streamed before streams on");
    assert!(sidecar.is_running());
}
