//! Telling HTTP/2 with prior knowledge from HTTP/1 on a cleartext connection.
//!
//! What must not live here: deadlines, which the caller has, and TLS, where ALPN has decided already.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What an HTTP/2 client sends first (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Most requests' heads come with the first read.
const FIRST_READ_BYTES: usize = 2048;

/// The protocol that a connection starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Anything but HTTP/2's preface; an early end too.
    Http1,
    /// HTTP/2's preface has come.
    Http2,
}

/// Reads until the first byte that is not the preface's, or the whole preface. What was read goes to
/// [`serve`](super::serve) or [`Prefixed::new`]. Fails as the stream does.
pub async fn sniff<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<(Protocol, BytesMut)> {
    let mut read = BytesMut::with_capacity(FIRST_READ_BYTES);
    loop {
        let length = stream.read_buf(&mut read).await?;
        let known = read.len().min(PREFACE.len());
        if length == 0 || read[..known] != PREFACE[..known] {
            return Ok((Protocol::Http1, read));
        }
        if known == PREFACE.len() {
            return Ok((Protocol::Http2, read));
        }
    }
}

/// A stream of which the first bytes have been read already: they come first again.
#[derive(Debug)]
pub struct Prefixed<S> {
    prefix: BytesMut,
    stream: S,
}

impl<S> Prefixed<S> {
    /// Puts `prefix` in front of what is still to be read.
    pub fn new(stream: S, prefix: BytesMut) -> Self {
        Self { prefix, stream }
    }

    /// The stream behind.
    pub fn inner(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { prefix, stream } = self.get_mut();
        if prefix.is_empty() {
            return Pin::new(stream).poll_read(context, buffer);
        }
        let length = prefix.len().min(buffer.remaining());
        buffer.put_slice(&prefix[..length]);
        prefix.advance(length);
        if prefix.is_empty() {
            *prefix = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
