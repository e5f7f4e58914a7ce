//! Looking an endpoint's name up: all of its addresses, and for how long that is so.
//!
//! Runs on the control side. When names are looked up, and what becomes of the addresses, is not known here.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How long one question to one server may take.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);

/// How long it may take to connect to a family's addresses for these to be used beside the other's: a network that has no way
/// there may swallow what is sent.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Addresses of one name that are used. An answer over TCP could have thousands, each of which would be checked and kept.
const MOST_ADDRESSES: usize = 64;

/// How soon a name is looked up again at the earliest, whatever its TTL, and at the latest: `/etc/hosts` has no TTL.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(300);

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// All addresses, each once, sorted, those of IPv4 first.
    pub(crate) addresses: Vec<IpAddr>,
    /// When to ask again.
    pub(crate) again_after: Duration,
}

/// Which of the two families of a name's addresses take connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Families {
    pub(crate) four: bool,
    pub(crate) six: bool,
}

/// Why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    /// `/etc/resolv.conf` cannot be read, or the resolvers cannot be used.
    #[error("names cannot be looked up: {0}")]
    Setup(NetError),
    /// No server answered, or there is no such name.
    #[error(transparent)]
    LookUp(NetError),
    /// The name is there, and has no address.
    #[error("the name has no address")]
    Empty,
}

/// Looks a name up, with these servers; with none as the system does: `/etc/hosts`, then the servers and search domains of
/// `/etc/resolv.conf`. Both files are read each time, so their changes are noticed.
pub(crate) async fn look_up(host: &str, servers: &[SocketAddr]) -> Result<Found, ResolveError> {
    let found = resolver(servers).map_err(ResolveError::Setup)?.lookup_ip(host).await;
    let found = found.map_err(ResolveError::LookUp)?;
    // What a hostile or broken server can put there, and nobody means.
    let usable = |address: &IpAddr| !address.is_unspecified() && !address.is_multicast();
    let mut addresses: Vec<_> = found.iter().filter(usable).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(MOST_ADDRESSES);
    if addresses.is_empty() {
        return Err(ResolveError::Empty);
    }
    let valid_for = found.valid_until().saturating_duration_since(Instant::now());
    Ok(Found { addresses, again_after: valid_for.clamp(SOONEST, LATEST) })
}

/// Which families of a name's addresses take connections at this port, by opening one to any address of each. Nobody is asked
/// where there is no choice between families.
pub(crate) async fn families(addresses: &[IpAddr], port: u16) -> Families {
    let (four, six): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|address| address.is_ipv4());
    if four.is_empty() || six.is_empty() {
        return Families::default();
    }
    let in_time = |addresses| tokio::time::timeout(CONNECT_TIMEOUT, takes_connections(addresses, port));
    let (four, six) = tokio::join!(in_time(four), in_time(six));
    Families { four: four.unwrap_or(false), six: six.unwrap_or(false) }
}

async fn takes_connections(addresses: Vec<IpAddr>, port: u16) -> bool {
    let mut attempts = JoinSet::new();
    for address in addresses {
        attempts.spawn(TcpStream::connect((address, port)));
    }
    while let Some(attempt) = attempts.join_next().await {
        if matches!(attempt, Ok(Ok(_))) {
            return true;
        }
    }
    false
}

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = servers.iter().map(name_server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        builder
    };
    let options = builder.options_mut();
    options.cache_size = 0;
    options.timeout = QUESTION_TIMEOUT;
    options.attempts = 2;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build()
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let on_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = vec![on_port(ConnectionConfig::udp()), on_port(ConnectionConfig::tcp())];
    NameServerConfig::new(address.ip(), true, connections)
}
