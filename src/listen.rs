//! Sockets that applications connect to: binding them once per worker, and accepting.
//!
//! Each worker has a socket of its own for each IP address (`SO_REUSEPORT`): the kernel spreads connections, and no
//! worker hands one to another. For a Unix socket there is nothing like it: workers share one, see `unix`. Sockets may also come
//! from whoever listened before or starts this process, see [`inherited`]. What happens on a connection is in [`crate::serve`].

pub mod client_certificate;
pub mod inherited;
pub mod proxy_protocol;
mod shortage;
mod socket;
pub mod stream;
pub mod tls;
mod unix;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Type};

use crate::config::{ListenAddress, TimeoutsConfig};
use crate::serve;
use crate::serve::registry::Open;
use crate::telemetry::metrics::ListenerMetrics;
use crate::worker::Worker;
pub(crate) use shortage::Shortage;
pub use socket::{Acceptor, Socket};
pub use unix::SocketFile;
pub(crate) use unix::set_mode;

/// Connections the kernel may hold ready until a worker accepts them.
const BACKLOG: i32 = 4096;

/// The longest silence that Linux takes before it asks whether a peer is still there.
const MOST_KEEPALIVE: Duration = Duration::from_secs(32_767);

/// How long accepting pauses when the process has no file descriptors left.
const PAUSE_WITHOUT_DESCRIPTORS: Duration = Duration::from_millis(50);

/// Sockets on one address, at least one per worker.
#[derive(Debug)]
pub struct BoundListener {
    /// The address, its port resolved.
    pub address: ListenAddress,
    /// What workers accept from: every one of them by some worker, since each may be a queue of its own.
    pub sockets: Vec<Socket>,
    /// How many of them, from the first on, have queues of their own; the others are further descriptors of these.
    pub queues: usize,
    /// The file of a Unix socket, to be kept for as long as it is listened on.
    pub file: Option<SocketFile>,
}

/// Binds an address once per worker; a Unix socket once for all of them.
pub fn bind(address: &ListenAddress, workers: usize, timeouts: &TimeoutsConfig) -> io::Result<BoundListener> {
    match address {
        ListenAddress::Ip(address) => {
            let (address, sockets) = bind_tcp(*address, workers, timeouts)?;
            Ok(BoundListener { address: ListenAddress::Ip(address), sockets, queues: workers, file: None })
        }
        ListenAddress::Unix(settings) => {
            let (listeners, file) = unix::bind(settings, workers)?;
            let sockets = listeners.into_iter().map(Socket::Unix).collect();
            Ok(BoundListener { address: address.clone(), sockets, queues: 1, file: Some(file) })
        }
    }
}

/// Listens on what others have bound. All of these sockets are accepted from: connections that nobody has accepted yet stand in
/// the queue of one of them. Where workers are more, some accept from the same.
///
/// # Errors
/// If the system refuses another descriptor, or an option.
pub fn adopt(
    address: &ListenAddress,
    mut sockets: Vec<Socket>,
    workers: usize,
    timeouts: &TimeoutsConfig,
) -> io::Result<BoundListener> {
    for socket in &sockets {
        socket.prepare(timeouts)?;
    }
    let queues = sockets.len();
    for queue in (0..queues).cycle().take(workers.saturating_sub(queues)) {
        let another = sockets[queue].try_clone()?;
        sockets.push(another);
    }
    let address = match (address, sockets.first()) {
        (ListenAddress::Ip(_), Some(Socket::Tcp(listener))) => ListenAddress::Ip(listener.local_addr()?),
        (ListenAddress::Ip(_) | ListenAddress::Unix(_), _) => address.clone(),
    };
    Ok(BoundListener { address, sockets, queues, file: None })
}

/// A socket without `SO_REUSEPORT` goes first and is closed again: it fails if anybody has the port, another
/// Postern included, with which the sockets would else silently share it.
fn bind_tcp(
    address: SocketAddr,
    workers: usize,
    timeouts: &TimeoutsConfig,
) -> io::Result<(SocketAddr, Vec<Socket>)> {
    let probe = tcp_socket(address, PortUse::Alone)?;
    let address = local_address(&probe)?;
    drop(probe);
    let sockets = (0..workers)
        .map(|_| {
            let socket = tcp_socket(address, PortUse::Shared)?;
            // Before the first client can connect: its socket takes over what the listener has at that moment.
            socket::let_inherit(&SockRef::from(&socket), timeouts)?;
            socket.listen(BACKLOG)?;
            Ok(Socket::Tcp(socket.into()))
        })
        .collect::<io::Result<_>>()?;
    Ok((address, sockets))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PortUse {
    Alone,
    Shared,
}

fn tcp_socket(address: SocketAddr, port_use: PortUse) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(port_use == PortUse::Shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn local_address(socket: &socket2::Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("the socket has no IP address"))
}

/// Accepts on one socket until nothing new is to begin, and then what the kernel holds ready: who has connected is served.
/// At the connection limit, accepting pauses: the kernel's backlog holds what comes meanwhile. `open` counts the connections of
/// the worker over this listener, from whichever of its sockets.
pub async fn accept(
    worker: Rc<Worker>,
    listener: usize,
    socket: Acceptor,
    open: Rc<Open>,
    metrics: Arc<ListenerMetrics>,
) {
    let mut draining = pin!(worker.drain.nothing_new());
    let mut inherited = Limits::of(&worker, listener).timeouts;
    let mut shortage = Shortage::default();
    loop {
        let Limits { connections, of_listener, timeouts } = Limits::of(&worker, listener);
        // Again when a reload has changed them.
        if inherited != timeouts {
            if let Err(error) = socket.let_inherit(&timeouts) {
                tracing::error!(error = %error, "cannot set what clients' sockets inherit: dead connections may stay");
            }
            inherited = timeouts;
        }
        let accepted = async {
            // Both at once, for what the second waits for may undo the first.
            while open.count() >= of_listener || worker.registry.open().count() >= connections {
                open.below(of_listener).await;
                worker.registry.open().below(connections).await;
            }
            socket.accept().await
        };
        let accepted = tokio::select! {
            biased;
            () = &mut draining => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok(accepted) => serve(&worker, listener, accepted, &open, &metrics),
            Err(error) if is_connection_error(&error) => {
                tracing::debug!(error = %error, "a connection was gone before it was accepted");
            }
            Err(error) => {
                metrics.accept_failed(worker.index);
                if let Some(failures) = shortage.note(Instant::now()) {
                    tracing::error!(
                        listener = %metrics.name(),
                        failures,
                        error = %error,
                        "cannot accept connections; they wait. Raise the limit on open files if it is exhausted"
                    );
                }
                tokio::time::sleep(PAUSE_WITHOUT_DESCRIPTORS).await;
            }
        }
    }
    if let Err(error) = accept_ready(&worker, listener, socket, &open, &metrics) {
        tracing::debug!(error = %error, "what had connected when the drain started was not accepted");
    }
}

/// Accepts what the kernel holds ready, one backlog at most: neither clients that go on connecting nor a process
/// without descriptors may hold the drain up.
fn accept_ready(
    worker: &Rc<Worker>,
    listener: usize,
    socket: Acceptor,
    open: &Rc<Open>,
    metrics: &Arc<ListenerMetrics>,
) -> io::Result<()> {
    let socket = socket.into_socket()?;
    let Limits { connections, of_listener, .. } = Limits::of(worker, listener);
    for _ in 0..BACKLOG {
        if worker.registry.open().count() >= connections || open.count() >= of_listener {
            break;
        }
        match socket.accept_ready() {
            Ok(accepted) => serve(worker, listener, accepted, open, metrics),
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
    (stream, peer): socket::Accepted,
    open: &Rc<Open>,
    metrics: &Arc<ListenerMetrics>,
) {
    let open = worker.registry.accepted(open);
    let (worker, metrics) = (Rc::clone(worker), Arc::clone(metrics));
    tokio::task::spawn_local(serve::accepted(worker, listener, stream, peer, open, metrics));
}

/// What holds for a listener by the configuration in force.
struct Limits {
    /// Connections of the worker, over all listeners.
    connections: usize,
    /// Of these, the listener's.
    of_listener: usize,
    timeouts: TimeoutsConfig,
}

impl Limits {
    fn of(worker: &Worker, listener: usize) -> Self {
        let snapshot = &worker.snapshot().shared;
        let connections = snapshot.connections_per_worker;
        // A reload neither adds nor removes listeners.
        snapshot.listeners.get(listener).map_or(
            Self { connections, of_listener: usize::MAX, timeouts: snapshot.timeouts },
            |listener| Self {
                connections,
                of_listener: listener.connections_per_worker,
                timeouts: listener.timeouts,
            },
        )
    }
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

    use super::{ListenAddress, Socket, TimeoutsConfig};

    const IDLE: Duration = Duration::from_secs(75);

    struct Bound {
        address: SocketAddr,
        sockets: Vec<std::net::TcpListener>,
    }

    fn bind(address: SocketAddr, workers: usize) -> io::Result<Bound> {
        let timeouts = TimeoutsConfig { header_read: IDLE, idle: IDLE, drain: Duration::from_secs(30) };
        let bound = super::bind(&ListenAddress::Ip(address), workers, &timeouts)?;
        let ListenAddress::Ip(address) = bound.address else { panic!("{:?}", bound.address) };
        let tcp = |socket| if let Socket::Tcp(socket) = socket { socket } else { panic!("{socket:?}") };
        Ok(Bound { address, sockets: bound.sockets.into_iter().map(tcp).collect() })
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
        let error = bind(first.address, 1).map(|_| ()).expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
