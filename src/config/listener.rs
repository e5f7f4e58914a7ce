//! `[[listeners]]` as the program runs on them: where clients connect, how, and whose word about them counts.
//!
//! What must not live here: sockets and TLS themselves, which are [`crate::listen`].

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::policy::address;

/// `[[listeners]]`: one address that applications connect to.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Name for logs and metrics.
    pub name: String,
    /// Where it is.
    pub address: ListenAddress,
    /// TLS, if it speaks it.
    pub tls: Option<ListenerTlsConfig>,
    /// Whose `Forwarded` / `X-Forwarded-*` headers are believed.
    pub trusted_proxies: TrustedPeers,
    /// From whom alone connections are taken, each with a header of the PROXY protocol; `None`: there is none to be read,
    /// and anybody may connect.
    pub proxy_protocol: Option<TrustedPeers>,
    /// Connections over it, beyond which accepting pauses; `None`: only all listeners' together are bounded.
    pub connections: Option<usize>,
    /// In place of the one under `[timeouts]`.
    pub header_read_timeout: Option<Duration>,
    /// In place of the one under `[timeouts]`.
    pub idle_timeout: Option<Duration>,
}

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address and a port; port 0 lets the system choose.
    Ip(SocketAddr),
    /// A path.
    Unix(UnixSocketConfig),
}

/// A Unix socket to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSocketConfig {
    /// Its path.
    pub path: PathBuf,
    /// The mode of its file: who may write to it may connect.
    pub mode: u32,
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(socket) => write!(f, "unix:{}", socket.path.display()),
        }
    }
}

/// Whose word about a client's address counts. By default nobody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedPeers {
    /// Who comes from here.
    pub networks: Vec<IpNet>,
    /// Who may connect to the listener's Unix socket.
    pub over_unix_socket: bool,
}

impl TrustedPeers {
    /// Whether a connection's peer is one; over a Unix socket its address is [`address::UNKNOWN`].
    pub fn trust(&self, peer: IpAddr) -> bool {
        match peer {
            address::UNKNOWN => self.over_unix_socket,
            _ => self.hold(peer),
        }
    }

    /// Whether this address is in one of the networks.
    pub fn hold(&self, address: IpAddr) -> bool {
        !self.networks.is_empty() && address::allows(&self.networks, address)
    }
}

/// `[listeners.tls]`.
#[derive(Clone, Debug)]
pub struct ListenerTlsConfig {
    /// Certificates, chosen by SNI; the first is the default.
    pub certificates: Vec<CertificateConfig>,
    /// Refuse TLS 1.2.
    pub require_tls13: bool,
    /// Certificates that clients show; `None`: they are not asked for any.
    pub client_certificates: Option<ClientCertificatesConfig>,
}

/// `[listeners.tls.client_certificates]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificatesConfig {
    /// PEM file of the authorities that may sign them.
    pub ca_file: PathBuf,
    /// PEM file with the revocation list of each of these authorities; `None`: nobody is revoked.
    pub crl_file: Option<PathBuf>,
    /// Who has to show one.
    pub requirement: ClientCertificateRequirement,
}

/// Who has to show a client certificate. One that is shown has to be good in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificateRequirement {
    /// Who wants to.
    Optional,
    /// Everybody.
    Required,
}

/// One certificate chain with its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateConfig {
    /// Chain, leaf first.
    pub certificate_file: PathBuf,
    /// Private key.
    pub key_file: PathBuf,
}
