//! Listening sockets of both kinds behind one face: bound or inherited before there is a runtime, accepting on one.
//!
//! What must not live here: when to accept, and what becomes of a connection.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};

use super::MOST_KEEPALIVE;
use super::stream::ClientStream;
use crate::config::TimeoutsConfig;
use crate::policy::address;

/// A socket that listens.
#[derive(Debug)]
pub enum Socket {
    /// On an IP address.
    Tcp(std::net::TcpListener),
    /// On a path.
    Unix(std::os::unix::net::UnixListener),
}

/// The same, on the runtime of the worker that accepts on it.
#[derive(Debug)]
pub enum Acceptor {
    /// On an IP address.
    Tcp(tokio::net::TcpListener),
    /// On a path.
    Unix(tokio::net::UnixListener),
}

/// A connection, and its peer's address, which is canonical; over a Unix socket none is known.
pub(super) type Accepted = (ClientStream, IpAddr);

impl Socket {
    /// Another descriptor of the same socket.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(listener) => Self::Tcp(listener.try_clone()?),
            Self::Unix(listener) => Self::Unix(listener.try_clone()?),
        })
    }

    /// Makes a socket that somebody else has bound what one of our own is.
    pub(super) fn prepare(&self, timeouts: &TimeoutsConfig) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                let_inherit(&SockRef::from(listener), timeouts)
            }
            Self::Unix(listener) => listener.set_nonblocking(true),
        }
    }

    /// Fails outside a runtime.
    pub fn accepting(self) -> io::Result<Acceptor> {
        Ok(match self {
            Self::Tcp(listener) => Acceptor::Tcp(tokio::net::TcpListener::from_std(listener)?),
            Self::Unix(listener) => Acceptor::Unix(tokio::net::UnixListener::from_std(listener)?),
        })
    }

    /// A connection that is held ready; fails with [`io::ErrorKind::WouldBlock`] if there is none.
    pub(super) fn accept_ready(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok((ClientStream::Tcp(TcpStream::from_std(stream)?), peer.ip().to_canonical()))
            }
            Self::Unix(listener) => {
                let (stream, _unnamed) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok((ClientStream::Unix(UnixStream::from_std(stream)?), address::UNKNOWN))
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

impl Acceptor {
    /// Waits for the next connection.
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((ClientStream::Tcp(stream), peer.ip().to_canonical()))
            }
            Self::Unix(listener) => {
                let (stream, _unnamed) = listener.accept().await?;
                Ok((ClientStream::Unix(stream), address::UNKNOWN))
            }
        }
    }

    /// Sets what accepted sockets take over from it.
    pub(super) fn let_inherit(&self, timeouts: &TimeoutsConfig) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => let_inherit(&SockRef::from(listener), timeouts),
            Self::Unix(_) => Ok(()),
        }
    }

    /// Takes it off the runtime.
    pub(super) fn into_socket(self) -> io::Result<Socket> {
        Ok(match self {
            Self::Tcp(listener) => Socket::Tcp(listener.into_std()?),
            Self::Unix(listener) => Socket::Unix(listener.into_std()?),
        })
    }
}

/// Sets what each accepted socket takes over from its listener (Linux), which saves four system calls a connection.
///
/// A client that does not take what it is sent, or is gone without a word, is given up by the system, even while a
/// request runs: the registry sees neither.
pub(super) fn let_inherit(socket: &SockRef<'_>, timeouts: &TimeoutsConfig) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(timeouts.idle))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(timeouts.idle.min(MOST_KEEPALIVE)))
}
