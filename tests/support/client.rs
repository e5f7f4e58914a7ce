//! A client that sends exact bytes over HTTP/1.1 and reads responses strictly: a response that is cut short is an
//! error here, never a shorter response.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls_pki_types::ServerName;

use super::PATIENCE;
use super::upstream::find;

/// One connection to the sidecar.
pub struct Client {
    stream: Box<dyn Stream>,
    socket: TcpStream,
    pending: Vec<u8>,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a goodbye.
    InOrder,
    /// Reset, or over TLS without a goodbye.
    Cut,
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A complete response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// In order, names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

/// Why no complete response came.
#[derive(Debug, PartialEq, Eq)]
pub enum Broken {
    /// The connection ended before the first byte.
    Closed,
    /// The connection ended within the head.
    InHead(Vec<u8>),
    /// The connection ended within the body; here is what came.
    InBody(Response),
    /// Nothing more came in time.
    TimedOut,
}

impl Client {
    /// Connects in the clear.
    pub fn connect(address: SocketAddr) -> Self {
        Self::on(TcpStream::connect_timeout(&address, PATIENCE).expect("the sidecar accepts"))
    }

    /// Speaks over a connection that was opened elsewhere.
    pub fn on(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        Self { stream: Box::new(socket.try_clone().unwrap()), socket, pending: Vec::new() }
    }

    /// Connects over TLS.
    pub fn connect_tls(
        address: SocketAddr,
        name: &str,
        config: Arc<rustls::ClientConfig>,
    ) -> std::io::Result<Self> {
        Self::connect(address).over_tls(name, config)
    }

    /// Goes on over TLS.
    pub fn over_tls(self, name: &str, config: Arc<rustls::ClientConfig>) -> std::io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut session = rustls::ClientConnection::new(config, name).unwrap();
        let mut plain = self.socket.try_clone()?;
        while session.is_handshaking() {
            session.complete_io(&mut plain)?;
        }
        let stream = rustls::StreamOwned::new(session, plain);
        Ok(Self { stream: Box::new(stream), ..self })
    }

    /// Sends exactly these bytes; fails if the connection does not take them.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the sidecar takes the bytes");
    }

    /// Sends exactly these bytes.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Says that nothing more will be sent.
    pub fn finish_sending(&mut self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// Sends a request and reads its response.
    #[track_caller]
    pub fn request(&mut self, bytes: impl AsRef<[u8]>) -> Response {
        let bytes = bytes.as_ref();
        self.send(bytes);
        if bytes.starts_with(b"HEAD ") { self.response_to_head() } else { self.response() }
    }

    /// Reads the next response; fails if it is not complete.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        match self.try_response() {
            Ok(response) => response,
            Err(broken) => panic!("a complete response was expected, not {broken:?}"),
        }
    }

    /// Reads the next response, which has no body whatever its head says.
    #[track_caller]
    pub fn response_to_head(&mut self) -> Response {
        match self.read_head() {
            Ok(response) => response,
            Err(broken) => panic!("a response's head was expected, not {broken:?}"),
        }
    }

    /// Reads the next response.
    pub fn try_response(&mut self) -> Result<Response, Broken> {
        let mut response = self.read_head()?;
        if matches!(response.status, 100..=199 | 204 | 304) {
            return Ok(response);
        }
        let read = self.read_body(&mut response);
        read.map(|()| response.clone()).map_err(|error| match error {
            BodyError::Ended => Broken::InBody(response),
            BodyError::TimedOut => Broken::TimedOut,
        })
    }

    /// Reads a response's head only; what follows is read by [`Client::read_exactly`].
    pub fn read_head(&mut self) -> Result<Response, Broken> {
        let end = loop {
            if let Some(end) = find(&self.pending, b"\r\n\r\n") {
                break end + 4;
            }
            match self.read_more() {
                Ok(()) => {}
                Err(BodyError::TimedOut) => return Err(Broken::TimedOut),
                Err(BodyError::Ended) if self.pending.is_empty() => return Err(Broken::Closed),
                Err(BodyError::Ended) => return Err(Broken::InHead(self.pending.clone())),
            }
        };
        let head: Vec<u8> = self.pending.drain(..end).collect();
        Ok(parse_head(&String::from_utf8_lossy(&head)))
    }

    fn read_body(&mut self, response: &mut Response) -> Result<(), BodyError> {
        if response.header("transfer-encoding").is_some() {
            loop {
                let line = self.read_line()?;
                let size = usize::from_str_radix(line.split(';').next().unwrap().trim(), 16)
                    .expect("a chunk's size is hexadecimal");
                if size == 0 {
                    break;
                }
                self.read_into(size, &mut response.body)?;
                assert_eq!(self.read_line()?, "", "a chunk ends with its line");
            }
            loop {
                let line = self.read_line()?;
                if line.is_empty() {
                    return Ok(());
                }
                response.trailers.push(parse_header(&line));
            }
        }
        match response.header("content-length").map(|length| length.parse::<usize>().unwrap()) {
            Some(length) => self.read_into(length, &mut response.body),
            None => loop {
                response.body.append(&mut self.pending);
                match self.read_more() {
                    Ok(()) => {}
                    Err(BodyError::Ended) => return Ok(()),
                    Err(BodyError::TimedOut) => return Err(BodyError::TimedOut),
                }
            },
        }
    }

    fn read_into(&mut self, size: usize, body: &mut Vec<u8>) -> Result<(), BodyError> {
        let mut left = size;
        while left > 0 {
            if self.pending.is_empty() {
                self.read_more()?;
            }
            let taken = left.min(self.pending.len());
            body.extend(self.pending.drain(..taken));
            left -= taken;
        }
        Ok(())
    }

    fn read_line(&mut self) -> Result<String, BodyError> {
        let end = loop {
            if let Some(end) = find(&self.pending, b"\r\n") {
                break end;
            }
            self.read_more()?;
        };
        let line: Vec<u8> = self.pending.drain(..end + 2).collect();
        Ok(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    /// Reads exactly so many bytes of whatever comes.
    #[track_caller]
    pub fn read_exactly(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert!(self.read_into(size, &mut bytes).is_ok(), "{size} bytes were expected, got {}", bytes.len());
        bytes
    }

    /// The same, if they come.
    pub fn try_read_exactly(&mut self, size: usize) -> Result<Vec<u8>, Broken> {
        let mut bytes = Vec::new();
        match self.read_into(size, &mut bytes) {
            Ok(()) => Ok(bytes),
            Err(BodyError::Ended) => Err(Broken::Closed),
            Err(BodyError::TimedOut) => Err(Broken::TimedOut),
        }
    }

    /// Reads until the sidecar closes.
    #[track_caller]
    pub fn read_to_end(&mut self) -> Vec<u8> {
        loop {
            match self.read_more() {
                Ok(()) => {}
                Err(BodyError::Ended) => return std::mem::take(&mut self.pending),
                Err(BodyError::TimedOut) => panic!(
                    "waited for the sidecar to close; got {:?}",
                    String::from_utf8_lossy(&self.pending)
                ),
            }
        }
    }

    /// Reads until the connection ends; fails if it ends in another way.
    #[track_caller]
    pub fn read_until(&mut self, expected: End) -> Vec<u8> {
        let mut read = std::mem::take(&mut self.pending);
        let mut buffer = [0; 64 * 1024];
        let end = loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => break End::InOrder,
                Ok(length) => read.extend_from_slice(&buffer[..length]),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => break End::Cut,
                    kind => panic!("waited for the connection to end: {kind:?}"),
                },
            }
        };
        assert_eq!(end, expected, "after {:?}", String::from_utf8_lossy(&read));
        read
    }

    /// Waits for the sidecar to close, with nothing more sent.
    #[track_caller]
    pub fn assert_closed(&mut self) {
        let rest = self.read_to_end();
        assert!(rest.is_empty(), "nothing more was expected, not {:?}", String::from_utf8_lossy(&rest));
    }

    /// The socket, for its options.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    fn read_more(&mut self) -> Result<(), BodyError> {
        let mut buffer = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(BodyError::Ended),
                Ok(read) => {
                    self.pending.extend_from_slice(&buffer[..read]);
                    return Ok(());
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Err(BodyError::TimedOut),
                    _ => return Err(BodyError::Ended),
                },
            }
        }
    }
}

enum BodyError {
    Ended,
    TimedOut,
}

impl Response {
    /// The values of a header, in order.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let matching = self.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        matching.map(|(_, value)| value.as_str()).collect()
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.values(name).first().copied()
    }

    /// Whether the status says that it was done.
    pub fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("a JSON body was expected ({error}), not {:?}", self.text()),
        }
    }

    /// `error_code` of the body in Aiven's error shape.
    #[track_caller]
    pub fn error_code(&self) -> String {
        self.json()["errors"][0]["error_code"].as_str().expect("errors[0].error_code is there").to_owned()
    }

    /// Checks status and `error_code`.
    #[track_caller]
    pub fn assert_error(&self, status: u16, error_code: &str) {
        assert_eq!((self.status, self.error_code().as_str()), (status, error_code), "{}", self.text());
    }
}

fn parse_head(head: &str) -> Response {
    let mut lines = head.split("\r\n").filter(|line| !line.is_empty());
    let first = lines.next().expect("a status line");
    let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
    Response {
        status: status.unwrap_or_else(|| panic!("a status line was expected, not {first:?}")),
        headers: lines.map(parse_header).collect(),
        ..Response::default()
    }
}

fn parse_header(line: impl AsRef<str>) -> (String, String) {
    let (name, value) = line.as_ref().split_once(':').expect("a header has a colon");
    (name.to_ascii_lowercase(), value.trim().into())
}
