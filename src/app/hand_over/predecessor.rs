//! The new process's side: taking the sockets, saying that everything is ready, and waiting until the old one lets go.

use std::env;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::channel::{self, Channel};
use super::{AT_STANDARD_INPUT, Message, VARIABLE};
use crate::listen::inherited::{Inherited, InheritedSocket, Purpose};

/// How long the old process may take between two messages: it sends all of them at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// Of an error's text, so much is told.
const ERROR_BYTES: usize = 4 * 1024;

/// The process that this one takes over from.
#[derive(Debug)]
pub struct Predecessor {
    /// Its number.
    pub process_id: u32,
    channel: OwnedFd,
}

/// The old process accepts nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenOver {
    /// Whether the configuration may have changed since this process has read it.
    pub reload: bool,
}

impl Predecessor {
    /// The process that has started this one to take over from it, and its sockets; `None` if nobody has. Takes over standard
    /// input, through which it is heard.
    ///
    /// # Errors
    /// If it is not heard, or says something else.
    pub fn of_this_process() -> io::Result<Option<(Self, Inherited)>> {
        match env::var(VARIABLE) {
            Ok(place) if place == AT_STANDARD_INPUT => {}
            Ok(_) | Err(_) => return Ok(None),
        }
        let channel = io::stdin().as_fd().try_clone_to_owned()?;
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        Self::over(channel).map(Some)
    }

    pub(super) fn over(channel: OwnedFd) -> io::Result<(Self, Inherited)> {
        set_socket_timeout(&channel, Timeout::Recv, Some(PATIENCE))?;
        let mut sockets = Vec::new();
        loop {
            match channel::receive(channel.as_fd())? {
                Some((Message::Socket { purpose, owns_file }, Some(descriptor))) => {
                    sockets.push(InheritedSocket::new(purpose, owns_file, descriptor)?);
                }
                Some((Message::Begin { process_id }, None)) => {
                    return Ok((Self { process_id, channel }, Inherited::from_predecessor(sockets)));
                }
                Some(_) => {
                    return Err(io::Error::other("it says something that this version does not understand"));
                }
                None => return Err(io::Error::other("it ended before it had passed all of its sockets")),
            }
        }
    }

    /// Says why this process cannot take over. Whether it is heard does not matter: the other goes on in any case.
    pub fn tell_failure(&self, error: &str) {
        let mut end = error.len().min(ERROR_BYTES);
        while !error.is_char_boundary(end) {
            end -= 1;
        }
        let message = Message::Failed { error: error[..end].to_owned() };
        let _unheard = channel::send(self.channel.as_fd(), &message, None);
    }

    /// Says that this process can serve and has taken the sockets of these purposes; resolves when the other accepts nothing
    /// more. Where it has crashed meanwhile, that is so too.
    ///
    /// # Errors
    /// If it says something else: it goes on then.
    pub async fn take_over(&self, took: &[Purpose]) -> io::Result<TakenOver> {
        let channel = Channel::new(self.channel.try_clone()?)?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let ready = channel.send(&Message::Ready { version, took: took.to_vec() }, None).await;
        if let Err(error) = ready {
            tracing::warn!(%error, "the process before this one is gone");
            return Ok(TakenOver { reload: true });
        }
        match channel.receive().await? {
            Some(Message::TakeOver { reload }) => Ok(TakenOver { reload }),
            None => {
                tracing::warn!("the process before this one ended without letting go; taking over");
                Ok(TakenOver { reload: true })
            }
            Some(_) => Err(io::Error::other(
                "the process before this one says what this version does not understand",
            )),
        }
    }
}
