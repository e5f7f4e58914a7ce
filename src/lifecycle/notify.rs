//! Telling the service manager where the process stands, by systemd's protocol: datagrams to the socket that it names in the
//! environment. Without such a socket nothing is told.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where the service manager listens.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// What the service manager is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Serving.
    Ready,
    /// On the way out, with nobody to follow.
    Stopping,
    /// On the way out; this process follows, and is the service from now on.
    HandedOver {
        /// Its number.
        process_id: u32,
    },
}

impl State {
    fn lines(self) -> String {
        match self {
            Self::Ready => "READY=1\n".into(),
            Self::Stopping => "STOPPING=1\n".into(),
            Self::HandedOver { process_id } => format!("MAINPID={process_id}\n"),
        }
    }
}

/// Tells the service manager, if there is one. That it cannot be told is logged: whatever it does then, it does to a process that
/// serves.
pub fn notify(state: State) {
    let Some(socket) = env::var_os(VARIABLE).filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(&socket, state) {
        tracing::warn!(%error, ?state, "the service manager cannot be told");
    }
}

fn send(socket: &OsStr, state: State) -> io::Result<()> {
    let address = match socket.as_bytes() {
        // A name outside the file system.
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let datagrams = UnixDatagram::unbound()?;
    // A manager that reads nothing must not hold up the process.
    datagrams.set_nonblocking(true)?;
    datagrams.send_to_addr(state.lines().as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    //! What arrives at a service manager.

    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn received(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_socket_by_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), State::Ready).unwrap();
        send(path.as_os_str(), State::HandedOver { process_id: 4711 }).unwrap();
        send(path.as_os_str(), State::Stopping).unwrap();
        let told = [received(&manager), received(&manager), received(&manager)];
        assert_eq!(told, ["READY=1\n", "MAINPID=4711\n", "STOPPING=1\n"]);
    }

    #[test]
    fn a_socket_by_an_abstract_name() {
        let name = format!("postern-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        send(OsStr::new(&format!("@{name}")), State::Ready).unwrap();
        assert_eq!(received(&manager), "READY=1\n");
    }

    #[test]
    fn nobody_listens_there() {
        let folder = tempfile::tempdir().unwrap();
        assert!(send(folder.path().join("nobody").as_os_str(), State::Ready).is_err());
    }
}
