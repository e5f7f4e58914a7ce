//! Opening connections to endpoints: name, TCP or a Unix socket, TLS; all within the connect timeout.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::socket::Socket;
use super::target::{Place, Target};
use crate::config::UpstreamConfig;

/// How the system asks a silent service's machine whether it is still there. Without it, a stream or WebSocket whose service went
/// away without a word, as with a power cut, would be held for ever: nothing on it has a deadline. A minute, in all.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// Why no connection could be had.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Name resolution, TCP or a Unix socket.
    #[error("could not connect to {endpoint}: {source}; check that the service runs and listens there")]
    Tcp {
        /// `host:port`.
        endpoint: String,
        /// What the system said.
        source: io::Error,
    },
    /// TLS handshake or certificate.
    #[error("no TLS with {endpoint}: {source}; check upstreams.tls.ca_file and server_name")]
    Tls {
        /// `host:port`.
        endpoint: String,
        /// What rustls said.
        source: io::Error,
    },
    /// Neither in time.
    #[error("no connection to {endpoint} within connect_seconds")]
    Timeout {
        /// `host:port`.
        endpoint: String,
    },
    /// Why the one connection that several requests waited for could not be opened.
    #[error(transparent)]
    Shared(Arc<Self>),
    /// Nobody was asked: as many connections are being opened as the configuration allows.
    #[error("as many connections are being opened as upstreams.limits allows")]
    Overloaded,
    /// TLS came about, but not for HTTP/2.
    #[error(
        "{endpoint} does not offer HTTP/2 over TLS (ALPN `h2`); set `protocol = \"http1\"` for this upstream"
    )]
    NoHttp2 {
        /// `host:port`.
        endpoint: String,
    },
    /// HTTP/2 could not be set up on the connection.
    #[error("could not set up HTTP/2 on the connection")]
    Handshake(#[source] hyper::Error),
}

impl ConnectError {
    /// Whether nobody was asked, because of a limit.
    pub(super) fn is_overload(&self) -> bool {
        match self {
            Self::Overloaded => true,
            Self::Shared(error) => error.is_overload(),
            Self::Tcp { .. }
            | Self::Tls { .. }
            | Self::Timeout { .. }
            | Self::NoHttp2 { .. }
            | Self::Handshake(_) => false,
        }
    }

    /// Whether nobody was asked because this system has no descriptors or memory left: that says nothing of the service.
    pub(crate) fn is_shortage(&self) -> bool {
        match self {
            Self::Tcp { source, .. } => matches!(
                Errno::from_io_error(source),
                Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
            ),
            Self::Shared(error) => error.is_shortage(),
            Self::Overloaded
            | Self::Tls { .. }
            | Self::Timeout { .. }
            | Self::NoHttp2 { .. }
            | Self::Handshake(_) => false,
        }
    }
}

/// Opens connections for one upstream.
#[derive(Clone)]
pub struct Connector {
    tls: Option<TlsConnector>,
    server_name: Option<ServerName<'static>>,
}

/// A connection to an endpoint, in the clear or over TLS.
#[derive(Debug)]
pub enum UpstreamStream {
    /// In the clear.
    Plain(Socket),
    /// Over TLS.
    Tls(Box<TlsStream<Socket>>),
}

impl Connector {
    /// A connector with the TLS client configuration of an upstream, if it has one.
    pub fn new(tls: Option<Arc<ClientConfig>>, server_name: Option<ServerName<'static>>) -> Self {
        Self { tls: tls.map(TlsConnector::from), server_name }
    }

    /// Opens one connection, within the upstream's connect timeout.
    pub async fn connect(
        &self,
        config: &UpstreamConfig,
        target: &Target,
    ) -> Result<UpstreamStream, ConnectError> {
        let endpoint = &config.endpoints[target.endpoint];
        tokio::time::timeout(config.connect_timeout, self.open(config, target))
            .await
            .unwrap_or_else(|_elapsed| Err(ConnectError::Timeout { endpoint: endpoint.label.clone() }))
    }

    async fn open(&self, config: &UpstreamConfig, target: &Target) -> Result<UpstreamStream, ConnectError> {
        let endpoint = &config.endpoints[target.endpoint];
        let tcp = |source| ConnectError::Tcp { endpoint: endpoint.label.clone(), source };
        let stream = match &target.place {
            Place::Address(address) => match TcpStream::connect(address).await {
                Ok(stream) => Ok(Socket::Tcp(stream)),
                Err(error) => connect_to_any(&target.others.load_full(), error).await.map(Socket::Tcp),
            },
            Place::Unix(path) => UnixStream::connect(path).await.map(Socket::Unix),
            Place::Name { .. } if !config.resolvers.is_empty() => {
                Err(io::Error::new(io::ErrorKind::NotFound, "its resolvers have not told its addresses"))
            }
            Place::Name { host, port } => match look_up(host, *port).await {
                Ok(addresses) => {
                    connect_to_any(&addresses, io::ErrorKind::NotFound.into()).await.map(Socket::Tcp)
                }
                Err(error) => Err(error),
            },
        };
        let stream = stream.map_err(tcp)?;
        if let Socket::Tcp(stream) = &stream {
            stream.set_nodelay(true).map_err(tcp)?;
            SockRef::from(stream).set_tcp_keepalive(&KEEPALIVE).map_err(tcp)?;
        }
        let Some(connector) = &self.tls else { return Ok(UpstreamStream::Plain(stream)) };
        let tls = |source| ConnectError::Tls { endpoint: endpoint.label.clone(), source };
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(endpoint.address.host().to_owned())
                .map_err(|error| tls(io::Error::new(io::ErrorKind::InvalidInput, error)))?,
        };
        let stream = connector.connect(name, stream).await.map_err(tls)?;
        Ok(UpstreamStream::Tls(Box::new(stream)))
    }
}

/// Connects to the first of these that takes a connection; else fails as before, or as the last of them.
async fn connect_to_any(addresses: &[SocketAddr], mut error: io::Error) -> io::Result<TcpStream> {
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(last) => error = last,
        }
    }
    Err(error)
}

/// Looks a name up as the system does. Each look-up has a thread to itself, which nothing ends while its name server says nothing: beyond
/// so many, in all of the process, nobody waits for one more.
async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    static LOOK_UPS: Semaphore = Semaphore::const_new(32);
    let Ok(place) = LOOK_UPS.try_acquire() else {
        return Err(io::Error::new(
            io::ErrorKind::WouldBlock,
            "as many names are being looked up as may be; check the system's name servers",
        ));
    };
    let host = host.to_owned();
    let looking = tokio::task::spawn_blocking(move || {
        // Until it ends, whoever has gone meanwhile.
        let _place = place;
        (host.as_str(), port).to_socket_addrs().map(Iterator::collect)
    });
    looking.await.map_err(io::Error::other)?
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

impl UpstreamStream {
    /// Whether HTTP/2 may be spoken: in the clear by prior knowledge, over TLS if ALPN has chosen it.
    pub(super) fn speaks_http2(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
