//! A sidecar with little memory to grow into: slow readers of big answers, big uploads that nobody takes, and many connections that say
//! nothing stay within it, and requests go on.
//!
//! The limit is that of a cgroup (version 2) where this process may make one, else one of address space (`RLIMIT_AS`); the test says
//! which.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::serves;
use super::support::{Client, Sidecar, Upstream, until};

/// How much it may grow by.
const ROOM: u64 = 64 << 20;

/// A cgroup of this test, with the sidecar in it; removed when dropped, once the sidecar has ended.
struct Group(PathBuf);

impl Group {
    /// `None` where there is no version 2, no memory controller, or no permission.
    fn around(sidecar: &Sidecar) -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let path = PathBuf::from("/sys/fs/cgroup").join(own).join(format!("postern-test-{}", sidecar.id()));
        fs::create_dir(&path).ok()?;
        let group = Self(path);
        let limit = (sidecar.resident_bytes() + ROOM).to_string();
        fs::write(group.0.join("memory.max"), limit).ok()?;
        fs::write(group.0.join("cgroup.procs"), sidecar.id().to_string()).ok()?;
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Not while somebody is in it, and then it is small.
        let _left = fs::remove_dir(&self.0);
    }
}

fn limit_address_space(sidecar: &Sidecar) {
    let status = fs::read_to_string(format!("/proc/{}/status", sidecar.id())).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let size: u64 = size.trim().trim_end_matches(" kB").parse().unwrap();
    let most = size * 1024 + ROOM;
    let process = Pid::from_raw(i32::try_from(sidecar.id()).unwrap());
    let limit = Rlimit { current: Some(most), maximum: None };
    prlimit(process, Resource::As, limit).unwrap();
}

#[test]
fn slow_clients_and_big_bodies_stay_within_little_memory() {
    const BODY: usize = 256 << 20;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let upstream = Upstream::start(move |peer| {
        while let Some(request) = peer.read_head() {
            match request.target.as_str() {
                "/big" => {
                    peer.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY}\r\n\r\n").as_bytes());
                    for _ in 0..BODY / 65_536 {
                        if !peer.write(&[b'x'; 65_536]) {
                            return;
                        }
                        counted.fetch_add(65_536, Ordering::Relaxed);
                    }
                }
                // Takes the head, and nothing of the body.
                "/untaken" => loop {
                    std::thread::park();
                },
                _ => {
                    peer.respond(200, &[], b"fine");
                }
            }
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream).start();
    serves(&sidecar, 20);
    let group = Group::around(&sidecar);
    match &group {
        Some(group) => println!("limited by the cgroup {}", group.0.display()),
        None => {
            println!("limited by RLIMIT_AS: there is no cgroup of version 2 that may be written to");
            limit_address_space(&sidecar);
        }
    }
    let before = sidecar.resident_bytes();

    let _silent: Vec<Client> = (0..300).map(|_| sidecar.connect()).collect();
    let mut unread: Vec<Client> = (0..16).map(|_| sidecar.connect()).collect();
    unread.iter_mut().for_each(|client| client.send(sidecar.head("GET /big", "")));
    let uploads: Vec<_> = (0..8)
        .map(|_| {
            let mut client = sidecar.connect();
            let head = sidecar.head("POST /untaken", &format!("Content-Length: {BODY}\r\n"));
            std::thread::spawn(move || {
                client.send(head);
                // Until nothing more is taken, which breaks it off at the end of the test at the latest.
                let piece = vec![b'y'; 1 << 20];
                (0..BODY >> 20).take_while(|_| client.try_send(&piece).is_ok()).count()
            })
        })
        .collect();
    let mut last = usize::MAX;
    until("all to stand still", || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let now = sent.load(Ordering::Relaxed);
        std::mem::replace(&mut last, now) == now && now > 0
    });
    serves(&sidecar, 50);
    let grown = sidecar.resident_bytes().saturating_sub(before);
    println!("16 unread answers and 8 untaken uploads of {} MiB each: {} KiB", BODY >> 20, grown >> 10);
    assert!(grown < ROOM, "grown by {} MiB", grown >> 20);
    assert!(sidecar.is_running());
    drop(unread);
    serves(&sidecar, 50);
    drop(sidecar);
    for upload in uploads {
        upload.join().unwrap();
    }
}
