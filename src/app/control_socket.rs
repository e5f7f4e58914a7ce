//! The control socket beside the store: how `postern reload`, `postern upgrade` and `postern explain --request-id` reach the
//! running sidecar and hear what came of it.
//!
//! One line in (`reload`, `upgrade` and how many seconds it may take, or `explain` and a request id), one line of JSON out. Only the
//! store's owner can connect (mode 0600).

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt as _, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::listen::{self, SocketFile};

/// How long a caller may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(1);

/// The sidecar's end. Its file goes with it.
#[derive(Debug)]
pub struct ControlSocket {
    // Before its file, which goes only when nobody listens any more.
    listener: UnixListener,
    file: SocketFile,
}

/// Somebody waits for an answer.
#[derive(Debug)]
pub struct ControlRequest {
    /// What is asked for.
    pub order: Order,
    /// Who asks.
    pub asker: Asker,
}

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// A reload of the configuration.
    Reload,
    /// A hand-over to a new process, which may take so long to be ready.
    Upgrade(Duration),
    /// Why the request with this id was refused.
    Explain(String),
}

/// The other end.
#[derive(Debug)]
pub struct Asker {
    stream: UnixStream,
}

/// Longest line that is read.
const LINE_BYTES: u64 = 256;

/// Where the control socket of a store is.
pub fn path(store: &Path) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(".control");
    path.into()
}

/// What an operator can do about a control socket that cannot be made.
pub(super) fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "stop it, or give this one a store of its own",
        // Longer than the system allows for sockets.
        io::ErrorKind::InvalidInput => {
            "shorten `path` under [store]: a socket's path has at most 107 characters"
        }
        _ => "make its folder writable",
    }
}

impl ControlSocket {
    /// Binds it. A socket that a crashed process left behind is replaced; a living one's is not.
    pub(super) fn bind(store: &Path) -> Result<Self, super::StartError> {
        let path = path(store);
        let bind = || {
            if std::os::unix::net::UnixStream::connect(&path).is_ok() {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another sidecar runs on this store"));
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let listener = UnixListener::bind(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            Ok(Self { listener, file: SocketFile::at(&path)? })
        };
        bind().map_err(|source| super::StartError::ControlSocket { path: path.clone(), source })
    }

    /// Goes on with the one on which the process before this one listened, if there is one here.
    pub(super) fn adopt(
        store: &Path,
        inherited: listen::inherited::Taken,
    ) -> Result<Self, super::StartError> {
        let Some(listen::Socket::Unix(listener)) = inherited.sockets.into_iter().next() else {
            return Self::bind(store);
        };
        let path = path(store);
        let adopt = || {
            listener.set_nonblocking(true)?;
            Ok(Self { listener: UnixListener::from_std(listener)?, file: SocketFile::at(&path)? })
        };
        adopt().map_err(|source| super::StartError::ControlSocket { path: path.clone(), source })
    }

    /// Lets go of it, and leaves its file to the process that goes on with it.
    pub(super) fn leave(self) {
        self.file.leave();
    }

    /// The next request; what asks for anything else is let go.
    pub async fn next(&mut self) -> ControlRequest {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if let Ok(Ok(request)) = tokio::time::timeout(PATIENCE, read_request(stream)).await {
                        return request;
                    }
                }
                Err(error) => {
                    tracing::error!(error = %error, "the control socket does not accept; `postern reload` may fail");
                    tokio::time::sleep(PATIENCE).await;
                }
            }
        }
    }
}

async fn read_request(stream: UnixStream) -> io::Result<ControlRequest> {
    let mut reader = BufReader::with_capacity(64, stream);
    let mut line = String::new();
    (&mut reader).take(LINE_BYTES).read_line(&mut line).await?;
    let order = match line.trim_end().split_once(' ') {
        None if line == "reload\n" => Order::Reload,
        Some(("upgrade", seconds)) => {
            let seconds =
                seconds.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            Order::Upgrade(Duration::from_secs(seconds))
        }
        Some(("explain", request_id)) => Order::Explain(request_id.to_owned()),
        _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "this is not understood")),
    };
    Ok(ControlRequest { order, asker: Asker { stream: reader.into_inner() } })
}

impl Asker {
    /// Tells what came of it. Whoever asked may have gone.
    pub async fn answer(mut self, report: &impl Serialize) {
        let mut line = serde_json::to_vec(report).unwrap_or_default();
        line.push(b'\n');
        if let Err(error) = self.stream.write_all(&line).await {
            tracing::debug!(error = %error, "whoever asked at the control socket has gone");
        }
    }
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// Asks the sidecar that runs on this store to reload; blocks until it answers.
///
/// # Errors
/// If nothing listens there, or it does not answer.
pub fn request_reload(store: &Path) -> io::Result<serde_json::Value> {
    ask(store, "reload\n")
}

/// Asks the sidecar that runs on this store to hand over to a new process, which may take `patience` to be ready; blocks until that
/// has taken over or failed.
///
/// # Errors
/// If nothing listens there, or it does not answer.
pub fn request_upgrade(store: &Path, patience: Duration) -> io::Result<serde_json::Value> {
    ask(store, &format!("upgrade {}\n", patience.as_secs()))
}

/// Asks the sidecar that runs on this store why it refused a request; `null` if it does not remember it.
///
/// # Errors
/// If nothing listens there, or it does not answer.
pub fn request_explanation(store: &Path, request_id: &str) -> io::Result<serde_json::Value> {
    ask(store, &format!("explain {request_id}\n"))
}

fn ask(store: &Path, line: &str) -> io::Result<serde_json::Value> {
    use std::io::{BufRead, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(path(store))?;
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    io::BufReader::new(stream).read_line(&mut answer)?;
    serde_json::from_str(&answer).map_err(io::Error::other)
}
