//! Unix sockets: their files, from what a crashed process left behind to the end of this one.
//!
//! There is one queue of connections for a path, so all workers accept from one socket, each by a descriptor of its own:
//! whoever comes first has the connection. What must not live here: accepting.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use super::BACKLOG;
use crate::config::UnixSocketConfig;

/// The file of a socket that this process listens on. To be dropped after the socket: it goes then, unless another's
/// stands there by that time.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode: another's file is another one, though not for ever, as numbers are used again.
    identity: (u64, u64),
}

/// Binds a path, and yields as many descriptors of the one socket.
///
/// Fails with [`io::ErrorKind::AddrInUse`] if somebody listens there, and with [`io::ErrorKind::AlreadyExists`] if a file
/// stands there that is no socket. A socket on which nobody listens any more is replaced.
pub(super) fn bind(settings: &UnixSocketConfig, count: usize) -> io::Result<(Vec<UnixListener>, SocketFile)> {
    let UnixSocketConfig { path, .. } = settings;
    remove_abandoned(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::at(path)?;
    // Nobody can connect before it listens, so nobody who may not has done so.
    set_mode(settings)?;
    socket.listen(BACKLOG)?;
    let listener = UnixListener::from(socket);
    let listeners = (0..count).map(|_| listener.try_clone()).collect::<io::Result<_>>()?;
    Ok((listeners, file))
}

/// Lets those connect whom the configuration lets.
pub(crate) fn set_mode(settings: &UnixSocketConfig) -> io::Result<()> {
    fs::set_permissions(&settings.path, fs::Permissions::from_mode(settings.mode))
}

/// Makes room where a process that crashed has left its socket.
fn remove_abandoned(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is there"));
        }
        Ok(_) => {}
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Somebody whose queue is full listens too, and must not be waited for.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        Ok(()) | Err(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl SocketFile {
    /// The file that stands there, which is this process's from now on: of a socket that it has just bound, or taken over.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }

    /// Leaves it where it is: another process listens on it.
    pub(crate) fn leave(mut self) {
        // The path of no file.
        self.path = PathBuf::new();
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A successor may have put its own there while this process drained, and listens.
        if identity(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = remove_abandoned(&self.path)
        {
            tracing::debug!(error = %error, path = %self.path.display(), "a socket's file is left where it is");
        }
    }
}

#[cfg(test)]
mod tests {
    //! Files that stand where a socket is to be.

    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn settings(folder: &tempfile::TempDir) -> UnixSocketConfig {
        UnixSocketConfig { path: folder.path().join("socket"), mode: 0o660 }
    }

    #[test]
    fn all_descriptors_accept_from_one_queue() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        let (listeners, file) = bind(&settings, 3).unwrap();
        let mode = fs::metadata(&settings.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o660);
        for listener in &listeners {
            let mut client = UnixStream::connect(&settings.path).unwrap();
            drop(listener.accept().unwrap());
            assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "it was accepted, and closed");
            assert!(listeners.iter().all(|other| other.accept().is_err()), "nobody else has it");
        }
        drop(listeners);
        drop(file);
        assert!(!settings.path.exists());
    }

    #[test]
    fn what_a_crash_left_behind_is_replaced_and_the_living_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        drop(UnixListener::bind(&settings.path).unwrap());
        let (listeners, file) = bind(&settings, 1).unwrap();
        let error = bind(&settings, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        // The one that lives has not been harmed by the attempt.
        assert!(UnixStream::connect(&settings.path).is_ok());
        // It stops listening and is still there: a successor takes the path over, and keeps it.
        drop(listeners);
        let (successors, _successors_file) = bind(&settings, 1).unwrap();
        drop(file);
        assert!(UnixStream::connect(&settings.path).is_ok());
        drop(successors);
    }

    #[test]
    fn whoever_has_a_full_queue_lives_too() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        let busy = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        busy.bind(&SockAddr::unix(&settings.path).unwrap()).unwrap();
        busy.listen(0).unwrap();
        let mut waiting = Vec::new();
        loop {
            let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            let connected = client.connect(&SockAddr::unix(&settings.path).unwrap());
            waiting.push(client);
            if connected.is_err() {
                break;
            }
        }
        assert_eq!(bind(&settings, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_file_that_is_no_socket_stays() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        fs::write(&settings.path, "precious").unwrap();
        assert_eq!(bind(&settings, 1).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&settings.path).unwrap(), "precious");
        // Nor does what a link leads to.
        let link = UnixSocketConfig { path: folder.path().join("link"), mode: 0o600 };
        std::os::unix::fs::symlink(&settings.path, &link.path).unwrap();
        assert_eq!(bind(&link, 1).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
