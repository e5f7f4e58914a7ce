//! Every socket that the process listens on: inherited where somebody has passed it, bound where not, and kept at hand for
//! the process that follows.
//!
//! What must not live here: when they are accepted from.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use super::hand_over::Passed;
use super::{StartError, control_socket};
use crate::config::{Config, ListenAddress, ListenerConfig};
use crate::listen::inherited::{Inherited, Purpose, Taken};
use crate::listen::{self, BoundListener, Socket, SocketFile};

/// What has been inherited, for what.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) ops: Taken,
    pub(super) admin: Taken,
    pub(super) control: Taken,
    /// In the configuration's order.
    pub(super) listeners: Vec<Taken>,
    /// The purposes of all sockets that were taken.
    pub(super) took: Vec<Purpose>,
    /// Whether the process before this one still accepts from them.
    pub(super) are_in_use: bool,
}

/// Sockets that go to the process that follows, and the files of those that have one. While this is there, they stay open.
#[derive(Debug, Default)]
pub(super) struct Passing {
    sockets: Vec<Passed>,
    /// To be dropped after the sockets: then the files go, unless they have been left to another process.
    files: Vec<(Purpose, SocketFile)>,
}

/// A listener on the control runtime.
pub(super) type ControlListener = tokio::net::TcpListener;

impl Places {
    /// Finds the place of each inherited socket.
    ///
    /// # Errors
    /// If systemd has passed one that has none.
    pub(super) fn assign(mut inherited: Inherited, config: &Config) -> Result<Self, StartError> {
        let ops = inherited.take(&Purpose::Ops, &ListenAddress::Ip(config.ops.address));
        let admin = match &config.admin {
            Some(admin) => inherited.take(&Purpose::Admin, &ListenAddress::Ip(admin.address)),
            None => Taken::default(),
        };
        let control = inherited.take_control(&control_socket::path(&config.store.path));
        let named = |listener: &ListenerConfig| {
            inherited.take(&Purpose::Listener(listener.name.clone()), &listener.address)
        };
        let mut listeners: Vec<Taken> = config.listeners.iter().map(named).collect();
        for (listener, taken) in config.listeners.iter().zip(&mut listeners) {
            if taken.sockets.is_empty() {
                *taken = inherited.take_renamed(&listener.address);
            }
        }
        if let Some(socket) = inherited.unwanted() {
            return Err(StartError::UnwantedSocket(socket.to_string()));
        }
        let are_in_use = inherited.are_in_use();
        let took = inherited.took();
        Ok(Self { ops, admin, control, listeners, took, are_in_use })
    }
}

impl Passing {
    /// Keeps another descriptor of a socket for the process that follows.
    pub(super) fn keep(&mut self, purpose: Purpose, owns_file: bool, socket: &impl AsFd) -> io::Result<()> {
        let descriptor = socket.as_fd().try_clone_to_owned()?;
        self.sockets.push(Passed { purpose, owns_file, descriptor });
        Ok(())
    }

    /// Descriptors of all of them for a process that is being started.
    pub(super) fn copy(&self) -> io::Result<Vec<Passed>> {
        let copy = |passed: &Passed| {
            Ok(Passed {
                purpose: passed.purpose.clone(),
                owns_file: passed.owns_file,
                descriptor: passed.descriptor.try_clone()?,
            })
        };
        self.sockets.iter().map(copy).collect()
    }

    /// Closes them: from now on, who stops listening stops it for good.
    pub(super) fn close(&mut self) {
        self.sockets.clear();
    }

    /// Leaves the files of these to the process that listens there now.
    pub(super) fn leave_files(&mut self, took: &[Purpose]) {
        for (_, file) in self.files.extract_if(.., |(purpose, _)| took.contains(purpose)) {
            file.leave();
        }
    }

    /// Gives the files that came with a predecessor's sockets the mode that the configuration says.
    pub(super) fn set_modes(&self, config: &Config) {
        for listener in &config.listeners {
            let purpose = Purpose::Listener(listener.name.clone());
            if let ListenAddress::Unix(settings) = &listener.address
                && self.files.iter().any(|(of, _)| *of == purpose)
                && let Err(error) = listen::set_mode(settings)
            {
                tracing::error!(%error, listener = %listener.name, "the socket's file keeps its mode");
            }
        }
    }
}

/// Listeners for applications, in the configuration's order.
pub(super) fn bind_listeners(
    config: &Config,
    inherited: Vec<Taken>,
    passing: &mut Passing,
) -> Result<Vec<BoundListener>, StartError> {
    let bind = |(listener, taken): (&ListenerConfig, Taken)| {
        let mut bound = bind_listener(config, listener, taken).map_err(|source| StartError::Bind {
            address: listener.address.clone(),
            key: format!("listener `{}`", listener.name),
            source,
        })?;
        let purpose = Purpose::Listener(listener.name.clone());
        for queue in &bound.sockets[..bound.queues] {
            passing.keep(purpose.clone(), bound.file.is_some(), queue)?;
        }
        passing.files.extend(bound.file.take().map(|file| (purpose, file)));
        Ok(bound)
    };
    config.listeners.iter().zip(inherited).map(bind).collect()
}

fn bind_listener(config: &Config, listener: &ListenerConfig, taken: Taken) -> io::Result<BoundListener> {
    let timeouts = config.timeouts_of(listener);
    if taken.sockets.is_empty() {
        return listen::bind(&listener.address, config.workers, &timeouts);
    }
    let mut bound = listen::adopt(&listener.address, taken.sockets, config.workers, &timeouts)?;
    if let ListenAddress::Unix(settings) = &listener.address
        && taken.owns_file
    {
        bound.file = Some(SocketFile::at(&settings.path)?);
    }
    Ok(bound)
}

/// A listener on the control runtime, which its purpose's key names.
pub(super) fn bind_control(
    address: SocketAddr,
    purpose: Purpose,
    taken: Taken,
    passing: &mut Passing,
) -> Result<ControlListener, StartError> {
    let bind = || {
        let listener = match taken.sockets.into_iter().next() {
            Some(Socket::Tcp(listener)) => listener,
            Some(Socket::Unix(_)) | None => std::net::TcpListener::bind(address)?,
        };
        listener.set_nonblocking(true)?;
        passing.keep(purpose.clone(), false, &listener)?;
        tokio::net::TcpListener::from_std(listener)
    };
    bind().map_err(|source| StartError::Bind {
        address: ListenAddress::Ip(address),
        key: if purpose == Purpose::Admin { "admin.address" } else { "ops.address" }.into(),
        source,
    })
}

/// What an operator can do about an address that cannot be listened on.
pub(super) fn bind_remedy(address: &ListenAddress, error: &io::Error) -> &'static str {
    if let ListenAddress::Unix(_) = address {
        return match error.kind() {
            io::ErrorKind::AddrInUse => "choose another path, or stop what listens there",
            io::ErrorKind::AlreadyExists => "choose another path, or move the file away",
            io::ErrorKind::NotFound => "make its folder first",
            _ => "choose a path in a folder that postern may write to",
        };
    }
    match error.kind() {
        io::ErrorKind::AddrInUse => "choose another address, or stop what listens there",
        io::ErrorKind::AddrNotAvailable => {
            "choose an address that this machine has, or `0.0.0.0` or `[::]` for all of them"
        }
        io::ErrorKind::PermissionDenied => {
            "choose a port from 1024 on, or give postern the capability CAP_NET_BIND_SERVICE"
        }
        _ => "choose another address",
    }
}
