//! Sockets that applications connect to: binding them once per worker, and accepting.
//!
//! Each worker has a socket of its own for each address (`SO_REUSEPORT`): the kernel spreads connections, and no
//! worker hands one to another. What happens on a connection is in [`crate::serve`].

pub mod proxy_protocol;
pub mod stream;
pub mod tls;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;

use crate::config::TimeoutsConfig;
use crate::serve;
use crate::telemetry::metrics::ListenerMetrics;
use crate::worker::Worker;
use stream::ClientStream;

/// Connections the kernel may hold ready until a worker accepts them.
const BACKLOG: i32 = 4096;

/// The longest silence that Linux takes before it asks whether a peer is still there.
const MOST_KEEPALIVE: Duration = Duration::from_secs(32_767);

/// How long accepting pauses when the process has no file descriptors left.
const PAUSE_WITHOUT_DESCRIPTORS: Duration = Duration::from_millis(50);

/// Sockets on one address, one per worker.
#[derive(Debug)]
pub struct BoundListener {
    /// The address, its port resolved.
    pub address: SocketAddr,
    /// One socket per worker.
    pub sockets: Vec<TcpListener>,
}

/// Binds an address once per worker.
///
/// A socket without `SO_REUSEPORT` goes first and is closed again: it fails if anybody has the port, another
/// Postern included, with which the sockets would else silently share it.
pub fn bind(address: SocketAddr, workers: usize, timeouts: &TimeoutsConfig) -> io::Result<BoundListener> {
    let probe = socket(address, PortUse::Alone)?;
    let address = local_address(&probe)?;
    drop(probe);
    let sockets = (0..workers)
        .map(|_| {
            let socket = socket(address, PortUse::Shared)?;
            // Before the first client can connect: its socket takes over what the listener has at that moment.
            let_inherit(&SockRef::from(&socket), timeouts)?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        })
        .collect::<io::Result<_>>()?;
    Ok(BoundListener { address, sockets })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PortUse {
    Alone,
    Shared,
}

fn socket(address: SocketAddr, port_use: PortUse) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(port_use == PortUse::Shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("the socket has no IP address"))
}

/// Accepts on one socket until the worker drains, and then what the kernel holds ready: who has connected is served.
/// At the connection limit, accepting pauses: the kernel's backlog holds what comes meanwhile.
pub async fn accept(
    worker: Rc<Worker>,
    listener: usize,
    socket: tokio::net::TcpListener,
    metrics: Arc<ListenerMetrics>,
) {
    let mut draining = pin!(worker.drain.started());
    let mut inherited = worker.snapshot().shared.timeouts;
    loop {
        let snapshot = worker.snapshot();
        let limit = snapshot.shared.connections_per_worker;
        let timeouts = snapshot.shared.timeouts;
        // Again when a reload has changed them.
        if inherited != timeouts {
            if let Err(error) = let_inherit(&SockRef::from(&socket), &timeouts) {
                tracing::error!(error = %error, "cannot set what clients' sockets inherit: dead connections may stay");
            }
            inherited = timeouts;
        }
        let accepted = async {
            worker.registry.below(limit).await;
            socket.accept().await
        };
        let accepted = tokio::select! {
            biased;
            () = &mut draining => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, peer)) => serve(&worker, listener, stream, peer, &metrics),
            Err(error) if is_connection_error(&error) => {
                tracing::debug!(error = %error, "a connection was gone before it was accepted");
            }
            Err(error) => {
                tracing::error!(
                    error = %error,
                    "cannot accept connections; raise the limit on open files if it is exhausted"
                );
                tokio::time::sleep(PAUSE_WITHOUT_DESCRIPTORS).await;
            }
        }
    }
    if let Err(error) = accept_ready(&worker, listener, socket, &metrics) {
        tracing::debug!(error = %error, "what had connected when the drain started was not accepted");
    }
}

/// Sets what each accepted socket takes over from its listener (Linux), which saves four system calls a connection.
///
/// A client that does not take what it is sent, or is gone without a word, is given up by the system, even while a
/// request runs: the registry sees neither.
fn let_inherit(socket: &SockRef<'_>, timeouts: &TimeoutsConfig) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(timeouts.idle))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(timeouts.idle.min(MOST_KEEPALIVE)))
}

/// Accepts what the kernel holds ready, one backlog at most: neither clients that go on connecting nor a process
/// without descriptors may hold the drain up.
fn accept_ready(
    worker: &Rc<Worker>,
    listener: usize,
    socket: tokio::net::TcpListener,
    metrics: &Arc<ListenerMetrics>,
) -> io::Result<()> {
    let socket = socket.into_std()?;
    let limit = worker.snapshot().shared.connections_per_worker;
    for _ in 0..BACKLOG {
        if worker.registry.open() >= limit {
            break;
        }
        match socket.accept() {
            Ok((stream, peer)) => {
                stream.set_nonblocking(true)?;
                serve(worker, listener, TcpStream::from_std(stream)?, peer, metrics);
            }
            Err(error) if is_connection_error(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn serve(
    worker: &Rc<Worker>,
    listener: usize,
    stream: TcpStream,
    peer: SocketAddr,
    metrics: &Arc<ListenerMetrics>,
) {
    let open = worker.registry.accepted();
    let (worker, metrics) = (Rc::clone(worker), Arc::clone(metrics));
    let (stream, peer) = (ClientStream::Tcp(stream), peer.ip().to_canonical());
    tokio::task::spawn_local(serve::accepted(worker, listener, stream, peer, open, metrics));
}

fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    //! Binding: one socket a worker, and never beside a stranger.

    use std::io;
    use std::net::SocketAddr;
    use std::time::Duration;

    use socket2::SockRef;

    use super::{BoundListener, TimeoutsConfig};

    const IDLE: Duration = Duration::from_secs(75);

    fn bind(address: SocketAddr, workers: usize) -> io::Result<BoundListener> {
        let timeouts = TimeoutsConfig { header_read: IDLE, idle: IDLE, drain: Duration::from_secs(30) };
        super::bind(address, workers, &timeouts)
    }

    #[test]
    fn who_connects_before_anybody_accepts_has_what_the_listener_gives_on() {
        let bound = bind("127.0.0.1:0".parse().expect("address"), 1).expect("free port");
        let _client = std::net::TcpStream::connect(bound.address).expect("it listens");
        let (accepted, _) = bound.sockets[0].accept().expect("somebody has connected");
        let accepted = SockRef::from(&accepted);
        assert_eq!(accepted.tcp_user_timeout().expect("an option"), Some(IDLE));
        assert!(accepted.tcp_nodelay().expect("an option"));
    }

    #[test]
    fn all_workers_share_one_port() {
        let bound = bind("127.0.0.1:0".parse().expect("address"), 3).expect("free port");
        assert_eq!(bound.sockets.len(), 3);
        for socket in &bound.sockets {
            assert_eq!(socket.local_addr().expect("bound"), bound.address);
        }
    }

    #[test]
    fn a_port_in_use_is_refused_even_when_it_could_be_shared() {
        let first = bind("127.0.0.1:0".parse().expect("address"), 1).expect("free port");
        let error = bind(first.address, 1).expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
