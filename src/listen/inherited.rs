//! Listening sockets that this process did not bind: systemd's, which listens before it starts the service, and those of the
//! process that this one takes over from. Each is found again by what it is for and where it listens.
//!
//! What must not live here: how sockets travel from one process to another (that is the application's hand-over), and accepting.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use serde::{Deserialize, Serialize};
use socket2::SockRef;

use super::Socket;
use crate::config::ListenAddress;

/// What a socket is listened on for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Applications; the listener's name.
    Listener(String),
    /// The operators' listener.
    Ops,
    /// The management API.
    Admin,
    /// `postern reload` and the like.
    Control,
}

/// Where a socket really listens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Ip(SocketAddr),
    Path(PathBuf),
    /// A Unix socket without a path.
    Unnamed,
}

/// One socket.
#[derive(Debug)]
pub struct InheritedSocket {
    /// What it was listened on for.
    pub purpose: Purpose,
    /// Whether the file of a Unix socket is this process's to remove.
    pub owns_file: bool,
    socket: Socket,
    place: Place,
}

/// Who has passed the sockets on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Giver {
    /// The service manager, which wants each of them to be used.
    #[default]
    ServiceManager,
    /// The process before this one, whose configuration may have been another.
    Predecessor,
}

/// Sockets that wait to be taken.
#[derive(Debug, Default)]
pub struct Inherited {
    giver: Giver,
    sockets: Vec<InheritedSocket>,
    /// What those were for that have been taken.
    took: Vec<Purpose>,
}

/// What one place of the configuration takes.
#[derive(Debug, Default)]
pub struct Taken {
    /// Its sockets; none: it has to be bound.
    pub sockets: Vec<Socket>,
    /// Whether the file of a Unix socket is this process's to remove.
    pub owns_file: bool,
}

impl InheritedSocket {
    /// A descriptor that somebody has passed on.
    ///
    /// # Errors
    /// If it is nothing that connections can be accepted from.
    pub fn new(purpose: Purpose, owns_file: bool, descriptor: OwnedFd) -> io::Result<Self> {
        let is_unix = SockRef::from(&descriptor).local_addr()?.is_unix();
        let socket = match is_unix {
            true => Socket::Unix(UnixListener::from(descriptor)),
            false => Socket::Tcp(TcpListener::from(descriptor)),
        };
        Self::of(purpose, owns_file, socket)
    }

    fn of(purpose: Purpose, owns_file: bool, socket: Socket) -> io::Result<Self> {
        let reference = SockRef::from(&socket);
        if !reference.is_listener()? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a socket that does not listen"));
        }
        let address = reference.local_addr()?;
        let place = match (address.as_socket(), address.as_pathname()) {
            (Some(address), _) => Place::Ip(address),
            (None, Some(path)) => Place::Path(path.to_owned()),
            (None, None) => Place::Unnamed,
        };
        Ok(Self { purpose, owns_file, socket, place })
    }
}

impl fmt::Display for InheritedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.purpose {
            Purpose::Listener(name) => write!(f, "`{name}`")?,
            Purpose::Ops => f.write_str("`ops`")?,
            Purpose::Admin => f.write_str("`admin`")?,
            Purpose::Control => f.write_str("`control`")?,
        }
        match &self.place {
            Place::Ip(address) => write!(f, " at {address}"),
            Place::Path(path) => write!(f, " at unix:{}", path.display()),
            Place::Unnamed => f.write_str(" without an address"),
        }
    }
}

impl Place {
    /// Whether this is what the configuration says; port 0 is any.
    fn is(&self, address: &ListenAddress) -> bool {
        match (self, address) {
            (Self::Ip(place), ListenAddress::Ip(address)) => {
                place.ip() == address.ip() && (address.port() == 0 || place.port() == address.port())
            }
            (Self::Path(place), ListenAddress::Unix(settings)) => *place == settings.path,
            (Self::Ip(_) | Self::Path(_) | Self::Unnamed, _) => false,
        }
    }

    /// The same where nothing else tells which listener's it is.
    fn is_exactly(&self, address: &ListenAddress) -> bool {
        !matches!(address, ListenAddress::Ip(address) if address.port() == 0) && self.is(address)
    }
}

impl Inherited {
    /// What systemd has passed by its protocol for socket activation (`LISTEN_FDS`, `LISTEN_FDNAMES`); empty where it has
    /// passed nothing. A name that is neither `ops` nor `admin` is a listener's. To be called before there are threads: it
    /// takes variables out of the environment.
    ///
    /// # Errors
    /// If one of them is nothing that connections can be accepted from.
    pub fn from_service_manager() -> io::Result<Self> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut passed = ListenFd::from_env();
        let mut names = names.split(':');
        let sockets = (0..passed.len()).map(|position| {
            let purpose = match names.next().unwrap_or_default() {
                "ops" => Purpose::Ops,
                "admin" => Purpose::Admin,
                name => Purpose::Listener(name.to_owned()),
            };
            let socket = match passed.take_unix_listener(position) {
                Ok(listener) => listener.map(Socket::Unix),
                // It says so of every other kind.
                Err(_) => passed.take_tcp_listener(position)?.map(Socket::Tcp),
            };
            let socket = socket.ok_or_else(|| io::Error::other("it was taken already"))?;
            InheritedSocket::of(purpose, false, socket)
        });
        Ok(Self { sockets: sockets.collect::<io::Result<_>>()?, ..Self::default() })
    }

    /// What the process before this one has passed.
    pub fn from_predecessor(sockets: Vec<InheritedSocket>) -> Self {
        Self { giver: Giver::Predecessor, sockets, took: Vec::new() }
    }

    /// Whether the process before this one still accepts from them.
    pub fn are_in_use(&self) -> bool {
        self.giver == Giver::Predecessor
    }

    /// The sockets for a purpose, if they are where the configuration wants them.
    pub fn take(&mut self, purpose: &Purpose, address: &ListenAddress) -> Taken {
        self.take_if(|socket| socket.purpose == *purpose && socket.place.is(address))
    }

    /// The sockets of a listener by another name, at its address.
    pub fn take_renamed(&mut self, address: &ListenAddress) -> Taken {
        self.take_if(|socket| {
            matches!(socket.purpose, Purpose::Listener(_)) && socket.place.is_exactly(address)
        })
    }

    /// The control socket, if it is at this path.
    pub fn take_control(&mut self, path: &Path) -> Taken {
        self.take_if(|socket| socket.purpose == Purpose::Control && socket.place == Place::Path(path.into()))
    }

    /// What the sockets were for that have been taken.
    pub fn took(self) -> Vec<Purpose> {
        self.took
    }

    /// What nobody has taken and somebody should have: systemd goes on listening there.
    pub fn unwanted(&self) -> Option<&InheritedSocket> {
        self.sockets.first().filter(|_| self.giver == Giver::ServiceManager)
    }

    fn take_if(&mut self, is_wanted: impl Fn(&InheritedSocket) -> bool) -> Taken {
        let taken: Vec<_> = self.sockets.extract_if(.., |socket| is_wanted(socket)).collect();
        let owns_file = taken.iter().any(|socket| socket.owns_file);
        self.took.extend(taken.iter().map(|socket| socket.purpose.clone()));
        Taken { sockets: taken.into_iter().map(|taken| taken.socket).collect(), owns_file }
    }
}

#[cfg(test)]
mod tests {
    //! Sockets find their places, and nobody takes another's.

    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::config::UnixSocketConfig;

    fn listening(purpose: Purpose) -> (InheritedSocket, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (InheritedSocket::new(purpose, false, listener.into()).unwrap(), address)
    }

    fn listener(name: &str) -> Purpose {
        Purpose::Listener(name.into())
    }

    fn ip(address: &str) -> ListenAddress {
        ListenAddress::Ip(address.parse().unwrap())
    }

    fn count(taken: &Taken) -> usize {
        taken.sockets.len()
    }

    #[test]
    fn by_name_and_address() {
        let (first, first_address) = listening(listener("first"));
        let (second, second_address) = listening(listener("second"));
        let (ops, ops_address) = listening(Purpose::Ops);
        let mut inherited = Inherited::from_predecessor(vec![first, second, ops]);
        let elsewhere = [
            inherited.take(&listener("second"), &ListenAddress::Ip(first_address)),
            inherited.take(&listener("first"), &ip(&format!("127.0.0.2:{}", first_address.port()))),
            inherited.take(&listener("ops"), &ListenAddress::Ip(ops_address)),
            inherited.take(&Purpose::Admin, &ListenAddress::Ip(ops_address)),
            inherited.take_renamed(&ListenAddress::Ip(ops_address)),
            inherited.take_renamed(&ip("127.0.0.1:0")),
        ];
        assert!(elsewhere.iter().all(|taken| count(taken) == 0), "{elsewhere:?}");
        assert_eq!(count(&inherited.take(&listener("first"), &ip("127.0.0.1:0"))), 1, "port 0 is any port");
        assert_eq!(count(&inherited.take_renamed(&ListenAddress::Ip(second_address))), 1);
        assert_eq!(count(&inherited.take(&Purpose::Ops, &ListenAddress::Ip(ops_address))), 1);
        assert!(inherited.sockets.is_empty());
        assert_eq!(inherited.took(), [listener("first"), listener("second"), Purpose::Ops]);
    }

    #[test]
    fn by_path_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let bound = UnixListener::bind(&path).unwrap();
        let socket = InheritedSocket::new(listener("main"), true, bound.into()).unwrap();
        let mut inherited = Inherited::from_predecessor(vec![socket]);
        let unix = |path| ListenAddress::Unix(UnixSocketConfig { path, mode: 0o600 });
        assert_eq!(count(&inherited.take(&listener("main"), &unix(folder.path().join("other")))), 0);
        assert_eq!(count(&inherited.take_control(&path)), 0, "it is a listener's");
        let taken = inherited.take(&listener("main"), &unix(path));
        assert_eq!((count(&taken), taken.owns_file), (1, true));
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let bound = TcpListener::bind("127.0.0.1:0").unwrap();
        let connected = std::net::TcpStream::connect(bound.local_addr().unwrap()).unwrap();
        let file = tempfile::tempfile().unwrap();
        for descriptor in [OwnedFd::from(connected), OwnedFd::from(file)] {
            assert!(InheritedSocket::new(Purpose::Ops, false, descriptor).is_err());
        }
    }

    #[test]
    fn only_what_systemd_has_passed_must_be_used() {
        let (of_predecessor, _) = listening(listener("gone"));
        assert!(Inherited::from_predecessor(vec![of_predecessor]).unwanted().is_none());
        let (of_manager, address) = listening(listener("mistyped"));
        let inherited = Inherited { sockets: vec![of_manager], ..Inherited::default() };
        let unwanted = inherited.unwanted().unwrap();
        assert_eq!(unwanted.to_string(), format!("`mistyped` at {address}"));
    }
}
