//! Looking names up: with the system's resolver, or with the ones that the operator has named.
//!
//! Answers are not kept: who asks to verify a domain has just changed its records.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::reach::{Reach, explain};

/// How long one question to one server may take.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(3);

/// Most TXT records of one name that are looked at, and most bytes of one.
const MAX_RECORDS: usize = 64;
const MAX_RECORD_BYTES: usize = 1024;

/// Looks names up. Cheap to clone.
#[derive(Clone)]
pub struct Names {
    resolver: Arc<TokioResolver>,
}

/// Why a name could not be looked up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The system's resolvers are not known, or the named ones cannot be used.
    #[error("names cannot be looked up: {reason}")]
    Setup {
        /// What is wrong.
        reason: String,
    },
    /// There is no such name, or it has no records of the kind.
    #[error("there is no {kind} record at {name:?}")]
    NoRecords {
        /// What was asked for.
        name: String,
        /// Kind of record.
        kind: &'static str,
    },
    /// No server answered.
    #[error("{name:?} cannot be looked up: {reason}")]
    Failed {
        /// What was asked for.
        name: String,
        /// What happened.
        reason: String,
    },
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

impl Names {
    /// Asks these servers; none: the ones that the system is set up with.
    ///
    /// # Errors
    ///
    /// If the system's settings cannot be read.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, NameError> {
        let setup = |error: &dyn fmt::Display| NameError::Setup { reason: error.to_string() };
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio().map_err(|error| setup(&error))?
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
        let resolver = builder.build().map_err(|error| setup(&error))?;
        Ok(Self { resolver: Arc::new(resolver) })
    }

    /// The texts of a name's TXT records.
    ///
    /// # Errors
    ///
    /// If there are none, or no server answers.
    pub async fn texts(&self, name: &str) -> Result<Vec<String>, NameError> {
        let records = self
            .resolver
            .lookup(fully_qualified(name), RecordType::TXT)
            .await
            .map_err(|error| failure(name, "TXT", &error))?;
        let texts = records.answers().iter().take(MAX_RECORDS).filter_map(|record| match &record.data {
            RData::TXT(text) => {
                let mut bytes = text.txt_data.concat();
                bytes.truncate(MAX_RECORD_BYTES);
                Some(String::from_utf8_lossy(&bytes).into_owned())
            }
            _ => None,
        });
        Ok(texts.collect())
    }

    /// The same look-ups for an HTTP client, which learns only addresses that may be reached.
    pub(super) fn guarded(&self, reach: Reach) -> GuardedNames {
        GuardedNames { names: self.clone(), reach }
    }
}

/// Looks host names up for an HTTP client.
pub(super) struct GuardedNames {
    names: Names,
    reach: Reach,
}

impl Resolve for GuardedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let (resolver, reach) = (Arc::clone(&self.names.resolver), self.reach.clone());
        Box::pin(async move {
            let host = name.as_str();
            let found = resolver
                .lookup_ip(fully_qualified(host))
                .await
                .map_err(|error| failure(host, "address", &error))?;
            let (allowed, refused): (Vec<_>, Vec<_>) =
                found.iter().partition(|address| reach.allows(*address));
            if allowed.is_empty()
                && let Some(address) = refused.first()
            {
                return Err(format!(
                    "{host:?} leads to an address that is not reached: {}",
                    explain(*address)
                )
                .into());
            }
            // Port 0 stands for the one in the URL.
            let addresses = allowed.into_iter().map(|address| SocketAddr::new(address, 0));
            let addresses: Addrs = Box::new(addresses.collect::<Vec<_>>().into_iter());
            Ok(addresses)
        })
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let on_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = vec![on_port(ConnectionConfig::udp()), on_port(ConnectionConfig::tcp())];
    NameServerConfig::new(address.ip(), true, connections)
}

/// With the last dot, so that no search list is tried.
fn fully_qualified(name: &str) -> String {
    if name.ends_with('.') { name.to_owned() } else { format!("{name}.") }
}

fn failure(name: &str, kind: &'static str, error: &hickory_resolver::net::NetError) -> NameError {
    let name = name.trim_end_matches('.').to_owned();
    if error.is_no_records_found() || error.is_nx_domain() {
        NameError::NoRecords { name, kind }
    } else {
        NameError::Failed { name, reason: error.to_string() }
    }
}
