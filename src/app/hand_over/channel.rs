//! Messages between the two processes, each with a descriptor or without one: a pair of sockets that keep messages apart.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Message;

/// Longest message.
const MESSAGE_BYTES: usize = 16 * 1024;

/// One end, on a runtime.
#[derive(Debug)]
pub(super) struct Channel {
    descriptor: AsyncFd<OwnedFd>,
}

/// Two ends; neither is passed on to programs by accident.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one message; waits if the descriptor does.
pub(super) fn send(
    channel: BorrowedFd<'_>,
    message: &Message,
    with: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let text = serde_json::to_vec(message).map_err(io::Error::other)?;
    if text.len() > MESSAGE_BYTES {
        return Err(io::Error::other("a message of the hand-over is too long"));
    }
    let descriptors = with.map(|descriptor| [descriptor]);
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if let Some(descriptors) = &descriptors
        && !control.push(SendAncillaryMessage::ScmRights(descriptors))
    {
        return Err(io::Error::other("there is no room for a descriptor"));
    }
    // The other side may have gone.
    sendmsg(channel, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message; `None`: the other side has ended. Waits if the descriptor does.
pub(super) fn receive(channel: BorrowedFd<'_>) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
    let mut text = vec![0; MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(channel, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    if received.bytes == 0 && descriptor.is_none() {
        return Ok(None);
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a message is too long, or no descriptor is free",
        ));
    }
    let message = serde_json::from_slice(&text[..received.bytes])
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some((message, descriptor)))
}

impl Channel {
    /// Puts an end on the runtime.
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&descriptor, true)?;
        #[allow(
            deprecated,
            reason = "what takes its place is unsafe; this descriptor is owned, and never replaced"
        )]
        let descriptor = AsyncFd::new(descriptor)?;
        Ok(Self { descriptor })
    }

    pub(super) async fn send(&self, message: &Message, with: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.descriptor
            .async_io(Interest::WRITABLE, |descriptor| send(descriptor.as_fd(), message, with))
            .await
    }

    /// `None`: the other side has ended.
    pub(super) async fn receive(&self) -> io::Result<Option<Message>> {
        let received =
            self.descriptor.async_io(Interest::READABLE, |descriptor| receive(descriptor.as_fd())).await;
        match received {
            Ok(received) => Ok(received.map(|(message, _)| message)),
            // It ended without having read all.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error),
        }
    }
}
