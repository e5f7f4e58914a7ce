//! Telling the service manager where the process stands, by systemd's protocol: datagrams to the socket that it names in the
//! environment. Without such a socket nothing is told.
//!
//! What must not live here: when it is told what (that is the application's wiring, and the [`watchdog`](super::watchdog)).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Where the service manager listens.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// How long a manager that reads nothing may hold up whoever tells it something. It must not be none: what it is told once is
/// lost if its queue is full at that moment.
const PATIENCE: Duration = Duration::from_secs(1);

/// What ending takes besides the grace of the drain: flushing usage, writing the last lines of logs.
const LAST_STEPS: Duration = Duration::from_secs(15);

/// What the service manager is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// On the way to serve.
    Loading,
    /// Serving, with the configuration that there is.
    Ready,
    /// Taking up a changed configuration; [`State::Ready`] or [`State::Rejected`] follows.
    Reloading,
    /// Serving, with the last good configuration.
    Rejected,
    /// Everything gets on; to be said again and again where a watchdog is.
    Alive,
    /// The same, after something had been stuck.
    Recovered,
    /// Something does not; what, in words.
    Stuck(String),
    /// On the way out, with nobody to follow.
    Stopping {
        /// How long what runs may take to finish.
        grace: Duration,
    },
    /// On the way out; this process follows, and is the service from now on.
    HandedOver {
        /// Its number.
        process_id: u32,
    },
}

impl State {
    fn lines(&self) -> String {
        match self {
            Self::Loading => "STATUS=loading the directory\n".into(),
            Self::Ready => "READY=1\nSTATUS=serving\n".into(),
            // The manager compares the time with that of what it has asked for.
            Self::Reloading => {
                format!(
                    "RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=taking up the configuration\n",
                    monotonic_microseconds()
                )
            }
            Self::Rejected => {
                "READY=1\nSTATUS=serving; the changed configuration was rejected, see the log\n".into()
            }
            Self::Alive => "WATCHDOG=1\n".into(),
            Self::Recovered => "WATCHDOG=1\nSTATUS=everything gets on again\n".into(),
            // One line, whatever is in it.
            Self::Stuck(what) => format!("STATUS={}\n", what.replace(['\n', '\r'], " ")),
            // However long the configuration's grace is: the manager's own may be shorter.
            Self::Stopping { grace } => {
                let whole = grace.saturating_add(LAST_STEPS).as_micros();
                format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={whole}\nSTATUS=draining\n")
            }
            Self::HandedOver { process_id } => format!("MAINPID={process_id}\n"),
        }
    }
}

/// Tells the service manager, if there is one. That it cannot be told is logged: whatever it does then, it does to a process that
/// serves.
pub fn notify(state: &State) {
    let Some(socket) = env::var_os(VARIABLE).filter(|socket| !socket.is_empty()) else { return };
    match (send(&socket, state), state) {
        (Ok(()), _) => {}
        // It comes again soon.
        (Err(error), State::Alive | State::Recovered) => {
            tracing::debug!(%error, "the service manager cannot be told")
        }
        (Err(error), _) => tracing::warn!(%error, ?state, "the service manager cannot be told"),
    }
}

fn send(socket: &OsStr, state: &State) -> io::Result<()> {
    let address = match socket.as_bytes() {
        // A name outside the file system.
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let datagrams = UnixDatagram::unbound()?;
    datagrams.set_write_timeout(Some(PATIENCE))?;
    let lines = state.lines();
    loop {
        match datagrams.send_to_addr(lines.as_bytes(), &address) {
            // By a signal, after which a socket with a timeout does not go on waiting by itself (signal(7)).
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            sent => return sent.map(drop),
        }
    }
}

/// The clock by which the service manager orders reloads.
fn monotonic_microseconds() -> i128 {
    let now = clock_gettime(ClockId::Monotonic);
    i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000
}

#[cfg(test)]
mod tests {
    //! What arrives at a service manager.

    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::Instant;

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
        let said = |state: State| {
            send(path.as_os_str(), &state).unwrap();
            received(&manager)
        };
        assert_eq!(said(State::Ready), "READY=1\nSTATUS=serving\n");
        assert_eq!(said(State::Alive), "WATCHDOG=1\n");
        assert_eq!(said(State::HandedOver { process_id: 4711 }), "MAINPID=4711\n");
        assert_eq!(said(State::Stuck("worker 1\nREADY=1".into())), "STATUS=worker 1 READY=1\n");
        let grace = Duration::from_secs(30);
        let stopping = said(State::Stopping { grace });
        assert!(stopping.starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC=45000000\n"), "{stopping}");
        assert!(said(State::Rejected).starts_with("READY=1\n"));
    }

    #[test]
    fn a_reload_says_when_it_began() {
        let before = monotonic_microseconds();
        let lines = State::Reloading.lines();
        let began = lines.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
        let began: i128 = began.parse().unwrap();
        assert!((before..=monotonic_microseconds()).contains(&began), "{lines}");
        assert!(lines.starts_with("RELOADING=1\n"), "{lines}");
    }

    #[test]
    fn a_socket_by_an_abstract_name() {
        let name = format!("postern-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        send(OsStr::new(&format!("@{name}")), &State::Alive).unwrap();
        assert_eq!(received(&manager), "WATCHDOG=1\n");
    }

    #[test]
    fn nobody_listens_there() {
        let folder = tempfile::tempdir().unwrap();
        assert!(send(folder.path().join("nobody").as_os_str(), &State::Ready).is_err());
        assert!(send(OsStr::new("vsock:2:1234"), &State::Ready).is_err());
    }

    #[test]
    fn a_manager_that_reads_nothing_is_not_waited_for_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _deaf = UnixDatagram::bind(&path).unwrap();
        let started = Instant::now();
        // The queue has an end: as many as it takes are sent.
        let refused = (0..100_000).find_map(|_| send(path.as_os_str(), &State::Alive).err()).unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    }
}
