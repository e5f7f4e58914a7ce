//! An HTTP/2 client (hyper's) for tests that are not asynchronous otherwise.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::sidecar::HOST;
use super::{PATIENCE, Response, Sidecar};

/// The body of a request.
pub type Body = BoxBody<Bytes, std::io::Error>;

/// One connection to the sidecar, with a runtime of its own.
pub struct Http2Client {
    pub runtime: tokio::runtime::Runtime,
    pub sender: SendRequest<Body>,
    /// Ends when the connection does.
    pub connection: JoinHandle<hyper::Result<()>>,
}

impl Http2Client {
    /// Connects in the clear, with prior knowledge.
    pub fn connect(address: SocketAddr) -> Self {
        Self::start(async move { TcpStream::connect(address).await.unwrap() })
    }

    /// Speaks over a connection that was opened elsewhere, with prior knowledge.
    pub fn over(socket: std::net::TcpStream) -> Self {
        Self::start(async move {
            socket.set_nonblocking(true).unwrap();
            TcpStream::from_std(socket).unwrap()
        })
    }

    /// Connects over TLS and expects ALPN to choose HTTP/2.
    pub fn connect_tls(address: SocketAddr, name: &str, config: Arc<rustls::ClientConfig>) -> Self {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        Self::start(async move {
            let stream = TcpStream::connect(address).await.unwrap();
            let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "ALPN chooses h2");
            stream
        })
    }

    fn start<S>(connecting: impl Future<Output = S>) -> Self
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (sender, connection) = runtime.block_on(async {
            let stream = connecting.await;
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap()
        });
        let connection = runtime.spawn(connection);
        Self { runtime, sender, connection }
    }

    /// Sends a request and waits for the head of its response.
    pub fn send(&mut self, request: Request<Body>) -> hyper::Result<http::Response<Incoming>> {
        let sending = self.sender.send_request(request);
        self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, sending).await.expect("a response within the test's patience")
        })
    }

    /// Sends a request and waits for the whole response.
    pub fn try_request(&mut self, request: Request<Body>) -> hyper::Result<Response> {
        let response = self.send(request)?;
        self.collect(response)
    }

    /// Waits for the rest of a response.
    pub fn collect(&self, response: http::Response<Incoming>) -> hyper::Result<Response> {
        let (head, body) = response.into_parts();
        let collected = self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, body.collect()).await.expect("a body within the test's patience")
        })?;
        let trailers = collected.trailers().map(pairs).unwrap_or_default();
        Ok(Response {
            status: head.status.as_u16(),
            headers: pairs(&head.headers),
            body: collected.to_bytes().to_vec(),
            trailers,
        })
    }

    /// Sends a request; fails without a whole response.
    #[track_caller]
    pub fn request(&mut self, request: Request<Body>) -> Response {
        self.try_request(request).expect("a complete response")
    }
}

fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// A request to the route that needs a token, with this token.
pub fn request_with(token: &str, method: &str, path: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(format!("http://{HOST}{path}"))
        .header("authorization", format!("Bearer {token}"))
        .body(body)
        .unwrap()
}

/// A permitted GET.
pub fn get(sidecar: &Sidecar, path: &str) -> Request<Body> {
    request_with(&sidecar.permitted.token, "GET", path, empty())
}

pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}
