//! The service behind the sidecar: thousands of connections on one thread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::upstream::find;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
const LARGE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1048576\r\n\r\n";
const POURING: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n";

/// Connections that two sidecars keep for others whom they serve, at most.
pub(crate) const KEPT: usize = 4;

/// Answers briefly, but for three targets: `/silent` takes everything and answers nothing, `/large` answers with a megabyte,
/// `/pour` without end.
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    open: Arc<AtomicUsize>,
}

impl Service {
    /// Ends with the process.
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&open);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let open = Arc::clone(&counted);
                    open.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(async move {
                        // The sidecar may go away at any point.
                        let _gone = serve(stream).await;
                        open.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            });
        });
        Self { address, open }
    }

    /// Connections of the sidecar that are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut read = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = find(&read, b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&read[..end]).into_owned();
        read.drain(..end);
        match head.split(' ').nth(1) {
            Some("/silent") => {
                while stream.read_buf(&mut read).await? > 0 {
                    read.clear();
                }
                return Ok(());
            }
            Some("/large") => {
                stream.write_all(LARGE).await?;
                stream.write_all(&vec![b'x'; 1024 * 1024]).await?;
            }
            Some("/pour") => {
                stream.write_all(POURING).await?;
                loop {
                    stream.write_all(&[b'x'; 64 * 1024]).await?;
                }
            }
            _ => stream.write_all(ANSWER).await?,
        }
    }
}
