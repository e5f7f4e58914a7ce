//! A recording upstream: what each connection received, byte for byte, and scripted answers.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::{PATIENCE, eventually};

/// Listens until dropped. Each connection runs the script; when the script returns, the connection is closed.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    connections: Mutex<Vec<Arc<Recording>>>,
    /// Of all connections, in the order in which they were read to their ends.
    requests: Arc<Mutex<Vec<Request>>>,
}

#[derive(Default)]
struct Recording {
    bytes: Mutex<Vec<u8>>,
    /// All connections' together.
    requests: Arc<Mutex<Vec<Request>>>,
    /// The sidecar has closed.
    closed: AtomicBool,
    /// The script has ended and the connection is closed.
    ended: AtomicBool,
}

/// The upstream's end of one connection.
pub struct Peer {
    stream: Box<dyn Stream>,
    socket: TcpStream,
    recording: Arc<Recording>,
    /// Received and not yet used by the script.
    pending: Vec<u8>,
    /// Position of this connection among all, from 0.
    pub number: usize,
}

/// What a script reads from and writes to.
trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A request as an upstream parses it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub target: String,
    /// In order, names as received.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Upstream {
    /// Runs `script` on each connection.
    pub fn start(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        Self::start_with("127.0.0.1:0", None, script)
    }

    /// Over TLS, with this server configuration.
    pub fn start_tls(
        tls: Arc<rustls::ServerConfig>,
        script: impl Fn(&mut Peer) + Send + Sync + 'static,
    ) -> Self {
        Self::start_with("127.0.0.1:0", Some(tls), script)
    }

    /// At this address; `None` if it is taken, or not this machine's.
    pub fn start_at(address: &str, script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Option<Self> {
        Some(Self::accept(TcpListener::bind(address).ok()?, None, script))
    }

    /// Answers each request with 200 and the request's own head as the body.
    pub fn echo() -> Self {
        Self::start(|peer| {
            while let Some(request) = peer.read_request() {
                let text = format!("{request}");
                peer.respond(200, &[("content-type", "text/plain")], text.as_bytes());
            }
        })
    }

    /// Answers each request with exactly these bytes, and keeps the connection.
    pub fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(move |peer| {
            while peer.read_request().is_some() {
                peer.write(&bytes);
            }
        })
    }

    /// Answers the first request with exactly these bytes, then closes.
    pub fn answering_once(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(move |peer| {
            if peer.read_request().is_some() {
                peer.write(&bytes);
            }
        })
    }

    fn start_with(
        address: &str,
        tls: Option<Arc<rustls::ServerConfig>>,
        script: impl Fn(&mut Peer) + Send + Sync + 'static,
    ) -> Self {
        Self::accept(TcpListener::bind(address).unwrap(), tls, script)
    }

    fn accept(
        listener: TcpListener,
        tls: Option<Arc<rustls::ServerConfig>>,
        script: impl Fn(&mut Peer) + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        let script = Arc::new(script);
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(socket) = stream else { continue };
                let requests = Arc::clone(&accepting.requests);
                let recording = Arc::new(Recording { requests, ..Recording::default() });
                accepting.connections.lock().push(Arc::clone(&recording));
                let (script, tls) = (Arc::clone(&script), tls.clone());
                thread::spawn(move || {
                    let mut peer = Peer::new(socket, tls, recording, number);
                    script(&mut peer);
                    peer.close();
                    peer.recording.ended.store(true, Ordering::SeqCst);
                });
            }
        });
        Self { address, shared }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.lock().len()
    }

    /// How much each connection has received so far, for [`Upstream::received_since`].
    pub fn mark(&self) -> Vec<usize> {
        self.shared.connections.lock().iter().map(|connection| connection.bytes.lock().len()).collect()
    }

    /// What was received since then, over all connections in turn.
    pub fn received_since(&self, mark: &[usize]) -> Vec<u8> {
        let connections = self.shared.connections.lock();
        let since = connections.iter().enumerate().flat_map(|(number, connection)| {
            connection.bytes.lock()[mark.get(number).copied().unwrap_or(0)..].to_vec()
        });
        since.collect()
    }

    /// Connections that the sidecar has not closed, as far as their scripts have read.
    pub fn open_connections(&self) -> usize {
        let connections = self.shared.connections.lock();
        connections.iter().filter(|connection| !connection.closed.load(Ordering::SeqCst)).count()
    }

    /// Everything received so far, over all connections in turn.
    pub fn received(&self) -> Vec<u8> {
        let connections = self.shared.connections.lock();
        connections.iter().flat_map(|connection| connection.bytes.lock().clone()).collect()
    }

    /// Everything received so far, as text.
    pub fn received_text(&self) -> String {
        String::from_utf8_lossy(&self.received()).into_owned()
    }

    /// The complete requests so far, over all connections, in the order in which they came.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().clone()
    }

    /// The only complete request so far.
    #[track_caller]
    pub fn only_request(&self) -> Request {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "one request: {requests:?}");
        requests.remove(0)
    }

    /// Waits until the sidecar has closed this connection.
    #[track_caller]
    pub fn wait_closed(&self, connection: usize) {
        eventually("the sidecar to close its connection to the upstream", || {
            let connections = self.shared.connections.lock();
            connections.get(connection)?.closed.load(Ordering::SeqCst).then_some(())
        });
    }

    /// Waits until the scripts of all connections so far have ended, and with them their connections.
    #[track_caller]
    pub fn wait_until_closed_by_script(&self) {
        super::until("the upstream's scripts to end", || {
            self.shared.connections.lock().iter().all(|connection| connection.ended.load(Ordering::SeqCst))
        });
    }

    /// Fails if anything at all was received.
    #[track_caller]
    pub fn assert_untouched(&self) {
        assert_eq!(self.received_text(), "", "nothing may reach the upstream");
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the accept loop; whether it still listens does not matter.
        let _woken = TcpStream::connect(self.address);
    }
}

impl Peer {
    fn new(
        socket: TcpStream,
        tls: Option<Arc<rustls::ServerConfig>>,
        recording: Arc<Recording>,
        number: usize,
    ) -> Self {
        socket.set_read_timeout(Some(PATIENCE * 2)).unwrap();
        socket.set_write_timeout(Some(PATIENCE * 2)).unwrap();
        socket.set_nodelay(true).unwrap();
        let plain = socket.try_clone().unwrap();
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(plain),
            Some(tls) => {
                Box::new(rustls::StreamOwned::new(rustls::ServerConnection::new(tls).unwrap(), plain))
            }
        };
        Self { stream, socket, recording, pending: Vec::new(), number }
    }

    /// Reads some bytes; false at the end.
    fn read_more(&mut self) -> bool {
        let mut buffer = vec![0; 64 * 1024];
        let read = loop {
            match self.stream.read(&mut buffer) {
                Ok(read) => break read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break 0,
            }
        };
        if read == 0 {
            self.recording.closed.store(true, Ordering::SeqCst);
            return false;
        }
        self.recording.bytes.lock().extend_from_slice(&buffer[..read]);
        self.pending.extend_from_slice(&buffer[..read]);
        true
    }

    /// Reads a request's head; its body is still to come. `None` when the connection ended before.
    pub fn read_head(&mut self) -> Option<Request> {
        let end = loop {
            if let Some(end) = find(&self.pending, b"\r\n\r\n") {
                break end + 4;
            }
            if !self.read_more() {
                return None;
            }
        };
        let head: Vec<u8> = self.pending.drain(..end).collect();
        Some(Request::parse_head(&String::from_utf8_lossy(&head)))
    }

    /// Reads a request to its end and records it.
    pub fn read_request(&mut self) -> Option<Request> {
        let mut request = self.read_head()?;
        if request.header("transfer-encoding").is_some() {
            loop {
                let line = self.read_line()?;
                let size = usize::from_str_radix(line.trim(), 16).ok()?;
                if size == 0 {
                    break;
                }
                request.body.extend(self.read_exactly(size)?);
                self.read_line()?;
            }
            loop {
                let line = self.read_line()?;
                if line.is_empty() {
                    break;
                }
                request.trailers.push(split_header(&line));
            }
        } else if let Some(length) = request.header("content-length") {
            request.body = self.read_exactly(length.parse().ok()?)?;
        }
        self.recording.requests.lock().push(request.clone());
        Some(request)
    }

    /// Keeps nothing of what was received so far: for runs that take long.
    pub fn forget(&mut self) {
        self.recording.bytes.lock().clear();
        self.recording.requests.lock().clear();
    }

    /// Reads a line without its end.
    pub fn read_line(&mut self) -> Option<String> {
        let end = loop {
            if let Some(end) = find(&self.pending, b"\r\n") {
                break end;
            }
            if !self.read_more() {
                return None;
            }
        };
        let line: Vec<u8> = self.pending.drain(..end + 2).collect();
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    /// Reads exactly so many bytes.
    pub fn read_exactly(&mut self, size: usize) -> Option<Vec<u8>> {
        while self.pending.len() < size {
            if !self.read_more() {
                return None;
            }
        }
        Some(self.pending.drain(..size).collect())
    }

    /// Reads until the sidecar closes.
    pub fn read_to_end(&mut self) {
        while self.read_more() {
            self.pending.clear();
        }
    }

    /// Writes; whether the sidecar still takes it does not matter here. False once it does not.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).and_then(|()| self.stream.flush()).is_ok()
    }

    /// Writes a response with `Content-Length`.
    pub fn respond(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) -> bool {
        let mut head = format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.write(&bytes)
    }

    /// How long a read may wait.
    pub fn set_read_timeout(&mut self, timeout: Duration) {
        self.socket.set_read_timeout(Some(timeout)).unwrap();
    }

    /// Ends both directions.
    pub fn close(&mut self) {
        let _already_closed = self.socket.shutdown(Shutdown::Both);
    }
}

impl Request {
    fn parse_head(head: &str) -> Self {
        let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
        let mut words = lines.next().unwrap_or_default().split(' ');
        Self {
            method: words.next().unwrap_or_default().into(),
            target: words.next().unwrap_or_default().into(),
            headers: lines.map(split_header).collect(),
            ..Self::default()
        }
    }

    /// The values of a header, in order.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let matching = self.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        matching.map(|(_, value)| value.as_str()).collect()
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.values(name).first().copied()
    }

    /// The names of all headers, in lower case, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        names.sort();
        names
    }
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} {}", self.method, self.target)?;
        self.headers.iter().try_for_each(|(name, value)| writeln!(f, "{name}: {value}"))
    }
}

fn split_header(line: impl AsRef<str>) -> (String, String) {
    let (name, value) = line.as_ref().split_once(':').unwrap_or((line.as_ref(), ""));
    (name.into(), value.trim().into())
}

/// Where `part` begins in `whole`.
pub fn find(whole: &[u8], part: &[u8]) -> Option<usize> {
    memchr::memmem::find(whole, part)
}
