//! A new process in the place of the old one: under load, with other workers and listeners, and where the new one does not
//! come up.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use postern::app::control_socket;
use rustls::version::TLS13;
use serde_json::Value;

use crate::is_long;
use crate::load::{self, Kind, Load, Target};
use crate::support::certificates::Authority;
use crate::support::sidecar::{HOST, OPEN_HOST, PROGRAM, SidecarBuilder};
use crate::support::{Sidecar, Upstream, until};

const TAKEN_OVER: &str = "postern_hand_overs_total{outcome=\"taken_over\"}";
const FAILED: &str = "postern_hand_overs_total{outcome=\"failed\"}";

/// A sidecar with a listener for TLS and one on a path, and where its load goes.
fn everything(upstream: &Upstream) -> (SidecarBuilder, Arc<rustls::ClientConfig>) {
    let authority = Authority::new();
    let certificate = authority.certificate(&[HOST]);
    let builder = Sidecar::in_front_of(upstream)
        .linked()
        .more_listeners(
            "[[listeners]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\n[listeners.tls]\n\
             [[listeners.tls.certificates]]\ncertificate_file = \"a.crt\"\nkey_file = \"a.key\"\n\
             [[listeners]]\nname = \"path\"\naddress = \"unix:proxy.sock\"\n",
        )
        .file("a.crt", &certificate.pem)
        .file("a.key", &certificate.key_pem)
        .admin("");
    (builder, authority.client(&[&TLS13], &[]))
}

fn config(sidecar: &Sidecar) -> String {
    fs::read_to_string(sidecar.config_file()).unwrap()
}

fn write_config(sidecar: &Sidecar, text: &str) {
    let new = sidecar.folder().join("postern.toml.new");
    fs::write(&new, text).unwrap();
    fs::rename(new, sidecar.config_file()).unwrap();
}

/// With the addresses that the system has chosen: the next process is to listen there too.
fn pin_addresses(sidecar: &Sidecar) {
    let addresses = sidecar.listeners.iter().copied().chain([sidecar.ops]).chain(sidecar.admin);
    let pinned = addresses.fold(config(sidecar), |text, address| {
        text.replacen("\"127.0.0.1:0\"", &format!("\"{address}\""), 1)
    });
    write_config(sidecar, &pinned);
}

fn store(sidecar: &Sidecar) -> std::path::PathBuf {
    sidecar.folder().join("store.db")
}

/// Asks for a hand-over as the command does, but for its look at the configuration.
fn ask(sidecar: &Sidecar, patience: Duration) -> Value {
    control_socket::request_upgrade(&store(sidecar), patience).unwrap()
}

/// The children of a process.
fn children(process_id: u32) -> String {
    let threads = fs::read_dir(format!("/proc/{process_id}/task")).unwrap();
    let of =
        |thread: std::io::Result<fs::DirEntry>| fs::read_to_string(thread.unwrap().path().join("children"));
    threads.map(|thread| of(thread).unwrap_or_default()).collect()
}

#[test]
fn nobody_notices_a_hand_over() {
    let (seconds, per_second) = if is_long() { (20, 100) } else { (2, 25) };
    let upstream = load::upstream();
    let (builder, tls) = everything(&upstream);
    let sidecar = builder.timeouts("drain_seconds = 60").start();
    pin_addresses(&sidecar);
    let first = sidecar.first_id();
    let kinds = [
        (Kind::Kept, 3),
        (Kind::KeptTls, 1),
        (Kind::New, 2),
        (Kind::NewTls, 1),
        (Kind::Http2, 2),
        (Kind::WebSocket, 1),
        (Kind::Stream, 2),
        (Kind::Readiness, 1),
    ];
    let load = Load::start(&Target::of(&sidecar, Some(tls)), &kinds, per_second);
    // Streams take longer than their turn.
    let a_while = u64::from(seconds * per_second) * 10;
    load.wait_for(a_while);

    // The program has been replaced, as by a package's installation.
    let program = sidecar.folder().join("postern-2");
    fs::hard_link(PROGRAM, &program).or_else(|_| fs::copy(PROGRAM, &program).map(drop)).unwrap();
    sidecar.install(&program);
    let report = sidecar.upgrade(&[]);
    assert_eq!(report["taken_over"], true, "{report}");
    let second = sidecar.id();
    assert_ne!(first, second);
    assert_eq!(fs::read_link(format!("/proc/{second}/exe")).unwrap(), program);
    assert!(sidecar.metric(TAKEN_OVER) > 0.5, "the operators' listener is the new one's");
    load.wait_for(a_while);
    assert!(sidecar.is_running(), "it has a WebSocket");

    // Once more, by the signal, from a process that has taken over itself.
    let third = sidecar.upgrade_by_signal();
    assert!(![first, second].contains(&third));
    load.wait_for(a_while);
    let told = sidecar.metric("postern_build_info{version=\"0.1.0\"}");
    assert!(told > 0.5);

    let tally = load.stop();
    assert!(tally.told.load(Ordering::SeqCst) >= 8, "each kept connection was told, each time");
    // With its last WebSocket each process that has been left ends by itself.
    sidecar.assert_finished();
    sidecar.assert_abandoned(second);

    // All that one process had, the last one has.
    let reload = control_socket::request_reload(&store(&sidecar)).unwrap();
    assert_eq!(reload["applied"], true, "{reload}");
    let through_path = |sidecar: &Sidecar| UnixStream::connect(sidecar.folder().join("proxy.sock"));
    assert!(through_path(&sidecar).is_ok(), "its file is still there");
    let admin = sidecar.super_admin();
    assert_eq!(sidecar.api(&admin.token, "GET /v1/me", "").status, 200);
    let before_the_end = sidecar.output();
    assert!(!before_the_end.contains("\"level\":\"ERROR\""), "{before_the_end}");

    sidecar.stop_successor();
    assert!(through_path(&sidecar).is_err() && !sidecar.folder().join("proxy.sock").exists());
    assert!(!sidecar.folder().join("store.db.control").exists());
    let usage = sidecar.directory.stored(&sidecar.permitted.prefix).usage.unwrap();
    assert_eq!(usage.request_count, tally.permitted.load(Ordering::SeqCst), "of three processes");
}

#[test]
fn other_workers_and_other_listeners() {
    let upstream = Upstream::echo();
    let listener = |name: &str| format!("[[listeners]]\nname = \"{name}\"\naddress = \"127.0.0.1:0\"\n");
    let sidecar = Sidecar::in_front_of(&upstream)
        .linked()
        .more_listeners(&(listener("renamed") + &listener("removed")))
        .timeouts("drain_seconds = 5")
        .start();
    pin_addresses(&sidecar);
    let old = config(&sidecar);
    let [main, renamed, removed] = sidecar.listeners[..] else { panic!("{:?}", sidecar.listeners) };
    let all_are_served = |address: SocketAddr| {
        // The kernel spreads connections over all queues that there are.
        for _ in 0..40 {
            let mut client = crate::support::Client::connect(address);
            let host = OPEN_HOST;
            assert_eq!(client.request(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).status, 200);
        }
    };
    let added = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // Of two queues a listener one worker accepts, then of two three, then two again.
    for (round, workers) in [1, 3, 2].into_iter().enumerate() {
        let changed = old
            .replace("workers = 2", &format!("workers = {workers}"))
            .replace("\"renamed\"", &format!("\"renamed-{round}\""))
            .replace("\"removed\"", "\"added\"")
            .replace(&removed.to_string(), &added.to_string());
        write_config(&sidecar, &changed);
        let report = sidecar.upgrade(&[]);
        assert_eq!(report["taken_over"], true, "{report}");
        all_are_served(main);
        all_are_served(renamed);
        all_are_served(added);
        until("what is not listened on any more to be refused", || TcpStream::connect(removed).is_err());
    }
    sidecar.assert_finished();
    sidecar.stop_successor();
    assert!(TcpStream::connect(main).is_err(), "nobody holds a socket that nobody accepts from");
}

#[test]
fn a_new_process_that_does_not_come_up_changes_nothing() {
    let upstream = load::upstream();
    let sidecar = Sidecar::in_front_of(&upstream).linked().start();
    pin_addresses(&sidecar);
    let good = config(&sidecar);
    let process = sidecar.first_id();
    let kinds =
        [(Kind::Kept, 2), (Kind::New, 2), (Kind::Http2, 1), (Kind::WebSocket, 1), (Kind::Readiness, 1)];
    let load = Load::start(&Target::of(&sidecar, None), &kinds, 25);
    load.wait_for(20);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|address| (taken, address.to_string())).unwrap();

    let prepare_and_expect: [(&dyn Fn(), &str); 5] = [
        (
            &|| write_config(&sidecar, &good.replace("[limits]", "[limits]\ncolour = 1")),
            "unknown key `colour`",
        ),
        (
            &|| {
                let address = format!("address = \"{}\"", sidecar.address());
                write_config(&sidecar, &good.replacen(&address, &format!("address = \"{}\"", taken.1), 1));
            },
            &taken.1,
        ),
        (&|| sidecar.install("/bin/false"), "exit status: 1"),
        (&|| sidecar.install("/nonexistent/postern"), "cannot start"),
        (&|| fs::write(sidecar.folder().join("postern.new"), "not a program").unwrap(), "cannot start"),
    ];
    for (round, (prepare, expected)) in prepare_and_expect.into_iter().enumerate() {
        prepare();
        if round == 4 {
            let _gone = fs::remove_file(sidecar.folder().join("postern"));
            fs::rename(sidecar.folder().join("postern.new"), sidecar.folder().join("postern")).unwrap();
        }
        let report = ask(&sidecar, Duration::from_secs(30));
        assert_eq!(report["taken_over"], false, "{report}");
        assert!(report["error"].as_str().unwrap().contains(expected), "{expected}: {report}");
        load.wait_for(20);
        write_config(&sidecar, &good);
        if round >= 2 {
            let _other = fs::remove_file(sidecar.folder().join("postern"));
            sidecar.install(PROGRAM);
        }
    }
    assert!((sidecar.metric(FAILED) - 5.0).abs() < 0.5, "{}", sidecar.metric(FAILED));
    assert_eq!((sidecar.id(), children(process).as_str()), (process, ""), "nothing is left of them");

    // And then it works.
    let report = sidecar.upgrade(&[]);
    assert_eq!(report["taken_over"], true, "{report}");
    load.wait_for(50);
    load.stop();
    sidecar.assert_finished();
    sidecar.stop_successor();
}

/// A store that makes every process wait that opens it.
struct Locked(rusqlite::Connection);

impl Locked {
    fn new(store: &Path) -> Self {
        let connection = rusqlite::Connection::open(store).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(connection)
    }

    fn release(self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}

/// Waits until a new process loads the directory.
fn wait_until_it_loads(sidecar: &Sidecar) {
    until("a new process to load the directory", || {
        sidecar.output().lines().any(|line| line.contains("\"loading the directory\""))
    });
}

#[test]
fn a_new_process_that_takes_too_long_is_given_up() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).linked().start();
    pin_addresses(&sidecar);
    let locked = Locked::new(&store(&sidecar));
    let report = ask(&sidecar, Duration::from_secs(1));
    assert!(report["error"].as_str().unwrap().contains("was not ready within 1 seconds"), "{report}");
    assert_eq!(children(sidecar.id()), "", "it was ended");
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
    assert_eq!(sidecar.ops("/readyz").status, 200, "only the old one is asked");
    locked.release();
    sidecar.stop();
}

#[test]
fn what_is_asked_for_meanwhile() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).linked().start();
    pin_addresses(&sidecar);
    let locked = Locked::new(&store(&sidecar));
    let report = std::thread::scope(|scope| {
        let upgrading = scope.spawn(|| sidecar.upgrade(&["--within", "2m"]));
        wait_until_it_loads(&sidecar);
        // A second one.
        let second = ask(&sidecar, Duration::from_secs(1));
        assert!(second["error"].as_str().unwrap().contains("already"), "{second}");
        sidecar.signal("USR2");
        until("the signal to be answered", || {
            sidecar.output().matches("is being started to take over already").count() == 2
        });
        // Another configuration, which the new process has not read.
        let new_route = "\n[[routes]]\nname = \"new\"\nhosts = [\"new.test\"]\nupstream = \"service\"\nauthentication = \"off\"\n";
        write_config(&sidecar, &(config(&sidecar) + new_route));
        let reload = control_socket::request_reload(&store(&sidecar)).unwrap();
        assert_eq!(reload["applied"], true, "{reload}");
        // The access log's rotation.
        fs::rename(sidecar.folder().join("access.log"), sidecar.folder().join("access.log.1")).unwrap();
        sidecar.signal("USR1");
        until("the log to be opened anew", || sidecar.folder().join("access.log").exists());
        assert_eq!(sidecar.request(sidecar.get()).status, 200);
        locked.release();
        upgrading.join().unwrap()
    });
    assert_eq!(report["taken_over"], true, "{report}");
    sidecar.assert_finished();
    let of_new_route = || sidecar.request("GET / HTTP/1.1\r\nHost: new.test\r\n\r\n").status;
    until("the new process to have the newest configuration", || of_new_route() == 200);
    sidecar.access_log(2);
    sidecar.stop_successor();
}

#[test]
fn a_stop_amid_it_stops_both() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).linked().start();
    pin_addresses(&sidecar);
    let locked = Locked::new(&store(&sidecar));
    sidecar.signal("USR2");
    wait_until_it_loads(&sidecar);
    assert_ne!(children(sidecar.id()), "");
    sidecar.signal("TERM");
    until("the old process to drain", || sidecar.output().contains("draining: no new connections"));
    locked.release();
    sidecar.assert_finished();
    assert!(TcpStream::connect(sidecar.address()).is_err(), "nobody listens any more");
    assert!(!sidecar.output().contains("taken over"), "{}", sidecar.output());
}

#[test]
fn a_process_that_is_killed_amid_it_is_followed() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).linked().start();
    pin_addresses(&sidecar);
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let locked = Locked::new(&store(&sidecar));
    sidecar.signal("USR2");
    wait_until_it_loads(&sidecar);
    let successor: u32 = children(sidecar.first_id()).trim().parse().unwrap();
    sidecar.crash();
    sidecar.follow(successor);
    // Connections wait in the queues until somebody accepts them.
    let mut client = sidecar.connect();
    client.send(sidecar.get());
    locked.release();
    assert_eq!(client.response().status, 200);
    until("it to say so", || sidecar.output().contains("\"taken over\""));
    sidecar.stop_successor();
}

#[test]
fn nobody_behind_standard_input_is_an_error() {
    // A process that finds the variable, and nobody behind its standard input.
    let folder = tempfile::tempdir().unwrap();
    let ran = std::process::Command::new(PROGRAM)
        .arg("run")
        .env("POSTERN_HAND_OVER", "stdin")
        .current_dir(folder.path())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&ran.stderr);
    assert!(!ran.status.success() && error.contains("cannot take over"), "{error}");
}
