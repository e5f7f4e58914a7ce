//! Sockets that systemd listens on before it starts the service, by its protocol: a shell stands in for it, since its sockets are
//! descriptors 3 and 4 and nothing more.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::support::sidecar::{Activated, PROGRAM};
use crate::support::{Client, PATIENCE, Sidecar, Upstream};

const ALIVE: &str = "WATCHDOG=1\n";
const LOADING: &str = "STATUS=loading the directory\n";
const READY: &str = "READY=1\nSTATUS=serving\n";

/// What the manager is told next, whatever it is.
fn received(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let length = manager.recv(&mut buffer).expect("the manager is told in time");
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

/// The same but for the watchdog's food.
fn told(manager: &UnixDatagram) -> String {
    std::iter::repeat_with(|| received(manager)).find(|message| message != ALIVE).unwrap()
}

/// Forgets what the manager was told until now.
fn forget(manager: &UnixDatagram) {
    manager.set_nonblocking(true).unwrap();
    while manager.recv(&mut [0; 256]).is_ok() {}
    manager.set_nonblocking(false).unwrap();
}

#[test]
fn a_service_with_sockets_of_systemds_and_the_process_that_follows_it() {
    let upstream = Upstream::echo();
    let folder = tempfile::tempdir().unwrap();
    let manager = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let main = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = main.local_addr().unwrap();
    let path = folder.path().join("proxy.sock");
    let on_path = UnixListener::bind(&path).unwrap();
    // Who comes before the service is there waits for it.
    let mut early = Client::connect(address);
    let table = format!("[[listeners]]\nname = \"path\"\naddress = \"unix:{}\"", path.display());
    let sidecar = Sidecar::in_front_of(&upstream)
        .linked()
        .more_listeners(&table)
        .variable("NOTIFY_SOCKET", folder.path().join("notify").to_str().unwrap())
        .variable("WATCHDOG_USEC", "600000")
        .activated(Activated {
            names: ["main", "path"],
            sockets: Arc::new([main.try_clone().unwrap().into(), on_path.try_clone().unwrap().into()]),
        })
        .start();
    assert_eq!(sidecar.address(), address);
    assert_eq!([told(&manager), told(&manager)], [LOADING, READY]);
    assert_eq!(received(&manager), ALIVE);
    assert_eq!(early.request(sidecar.get()).status, 200);
    drop(early);
    let both_are_served = || {
        // Two workers accept from each.
        for _ in 0..10 {
            assert_eq!(sidecar.request(sidecar.get()).status, 200);
            let mut socket = UnixStream::connect(&path).unwrap();
            socket.write_all(sidecar.head("GET /", "Connection: close\r\n").as_bytes()).unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
    };
    both_are_served();

    let successor = sidecar.upgrade_by_signal();
    assert_eq!(told(&manager), LOADING);
    // One of the two is the old process's and the other the new one's.
    let mut both = [told(&manager), told(&manager)];
    both.sort();
    assert_eq!(both, [format!("MAINPID={successor}\n"), READY.to_owned()]);
    sidecar.assert_finished();
    forget(&manager);
    assert_eq!(received(&manager), ALIVE, "the watchdog waits for the new process now");
    both_are_served();

    sidecar.stop_successor();
    let stopping = told(&manager);
    assert!(stopping.starts_with("STOPPING=1\n"), "from the one in charge alone: {stopping}");
    assert!(path.exists(), "the file is systemd's");
    assert!(TcpStream::connect(address).is_ok(), "systemd still listens");
}

#[test]
fn a_socket_of_systemds_that_is_nobodys_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("postern.toml"), Sidecar::with_endpoint("127.0.0.1:9").config())
        .unwrap();
    drop(crate::support::Directory::open(&folder.path().join("store.db")));
    let ran = |socket: Stdio, name: &str| {
        let output = Command::new("sh")
            .args(["-c", "export LISTEN_PID=$$; exec \"$0\" run 3<&0 </dev/null", PROGRAM])
            .env("LISTEN_FDS", "1")
            .env("LISTEN_FDNAMES", name)
            .current_dir(folder.path())
            .stdin(socket)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    // Everybody's address, where the configuration says this machine's own.
    let wide = || TcpListener::bind("0.0.0.0:0").unwrap();
    let error = ran(std::os::fd::OwnedFd::from(wide()).into(), "main");
    assert!(error.contains("systemd passes the socket `main` at 0.0.0.0:"), "{error}");
    assert!(error.contains("FileDescriptorName="), "{error}");
    let error = ran(std::os::fd::OwnedFd::from(wide()).into(), "mistyped");
    assert!(error.contains("`mistyped`"), "{error}");
    let error = ran(std::os::fd::OwnedFd::from(UnixDatagram::unbound().unwrap()).into(), "main");
    assert!(error.contains("cannot listen on a socket that systemd passes"), "{error}");
    let error = ran(Stdio::null(), "main");
    assert!(error.contains("cannot listen on a socket that systemd passes"), "{error}");
}
