//! Why a sidecar does not start: what happened, where, and what to do about it.
//!
//! What must not live here: starting.

use std::io;
use std::path::PathBuf;

use super::{control_socket, sockets};
use crate::config::ListenAddress;
use crate::directory::{OperationError, StoreError};
use crate::snapshot::SnapshotError;
use crate::telemetry::access_log::AccessLogError;

/// Why the sidecar did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The organization or a project could not be entered.
    #[error("cannot enter the configuration's organization and projects in the directory: {0}")]
    Directory(#[from] OperationError),
    /// Certificates and the like.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The access log.
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    /// An address.
    #[error("cannot listen on {address} ({key}): {source}; {remedy}", remedy = sockets::bind_remedy(address, source))]
    Bind {
        /// The address.
        address: ListenAddress,
        /// Its key in the configuration.
        key: String,
        /// What the system said.
        source: io::Error,
    },
    /// A socket of systemd's that nobody would accept from.
    #[error(
        "systemd passes the socket {0}, which nothing in the configuration has: give it the name of a listener, `ops` or \
         `admin` (FileDescriptorName=), and both the same address (ListenStream=)"
    )]
    UnwantedSocket(String),
    /// The control socket.
    #[error(
        "cannot make the control socket {path:?}, which `postern reload` needs: {source}; {remedy}",
        remedy = control_socket::remedy(source)
    )]
    ControlSocket {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A thread, a runtime or randomness.
    #[error("the system does not give what a worker needs: {0}")]
    System(#[from] io::Error),
}
