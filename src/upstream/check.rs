//! One active check of one address: does a service answer there as it should?
//!
//! Runs on the control side, over a connection of its own, so that a check sees what a new client would see. When checks
//! are made, and what follows from them, is not known here.

use std::future::poll_fn;
use std::pin::Pin;

use bytes::{Buf, Bytes};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;

use super::Upstream;
use super::connect::{ConnectError, UpstreamStream};
use super::target::Target;
use crate::config::{HealthCheck, HealthConfig, UpstreamCredential, UpstreamProtocol};

/// Bytes of an answer that are read at most: gRPC's has seven.
const ANSWER_BYTES: usize = 4096;

/// The number that says "serving" (`grpc.health.v1.HealthCheckResponse.ServingStatus`).
const SERVING: u64 = 1;

/// Why an address is not found healthy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No answer that HTTP knows.
    #[error("the check was not answered: {0}")]
    Http(#[from] hyper::Error),
    /// A request that cannot be made of the settings.
    #[error("the check cannot be asked: {0}")]
    Request(#[from] http::Error),
    /// An answer with another status.
    #[error("the check was answered with status {0}")]
    Status(StatusCode),
    /// gRPC's own status.
    #[error("the check was answered with gRPC status {0}")]
    GrpcStatus(String),
    /// Something else than gRPC's answer.
    #[error("the check's answer is none of grpc.health.v1")]
    Malformed,
    /// The service says so itself.
    #[error("the service says that it is not serving (serving status {0})")]
    NotServing(u64),
    /// Nothing in time.
    #[error("the check had no answer within timeout_seconds")]
    Timeout,
}

/// Checks an address once, within the settings' timeout.
pub(crate) async fn check(
    upstream: &Upstream,
    target: &Target,
    settings: &HealthConfig,
) -> Result<(), CheckError> {
    let checked = Box::pin(ask(upstream, target, settings));
    tokio::time::timeout(settings.timeout, checked).await.unwrap_or(Err(CheckError::Timeout))
}

async fn ask(upstream: &Upstream, target: &Target, settings: &HealthConfig) -> Result<(), CheckError> {
    let stream = upstream.connector.connect(&upstream.config, target).await?;
    match &settings.check {
        HealthCheck::Tcp => Ok(()),
        HealthCheck::Http { path, status } => {
            let request = request(upstream, target, Method::GET, path, Bytes::new())?;
            // Ends with this: what drives the connection must not outlive the check.
            let mut driver = JoinSet::new();
            let response = exchange(upstream, stream, request, &mut driver).await?;
            let answered = response.status();
            let is_expected = status.map_or(answered.is_success(), |expected| answered == expected);
            if is_expected { Ok(()) } else { Err(CheckError::Status(answered)) }
        }
        HealthCheck::Grpc { service } => {
            let method = "/grpc.health.v1.Health/Check";
            let mut request = request(upstream, target, Method::POST, method, question(service))?;
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
            let mut driver = JoinSet::new();
            serving(exchange(upstream, stream, request, &mut driver).await?).await
        }
    }
}

/// What a check asks, with the credential that requests have there too.
fn request(
    upstream: &Upstream,
    target: &Target,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, http::Error> {
    let config = &upstream.config;
    let authority = config.endpoints[target.endpoint].authority();
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("postern/", env!("CARGO_PKG_VERSION"))));
    if let UpstreamCredential::Fixed(value) = &config.credential {
        headers.insert(AUTHORIZATION, value.clone());
    }
    *request.uri_mut() = match config.protocol {
        UpstreamProtocol::Http1 => {
            request.headers_mut().insert(HOST, HeaderValue::from_str(authority)?);
            path.parse::<Uri>()?
        }
        UpstreamProtocol::Http2 => {
            let scheme = if config.tls.is_some() { "https" } else { "http" };
            Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build()?
        }
    };
    Ok(request)
}

async fn exchange(
    upstream: &Upstream,
    stream: UpstreamStream,
    request: Request<Full<Bytes>>,
    driver: &mut JoinSet<()>,
) -> Result<Response<Incoming>, hyper::Error> {
    let stream = TokioIo::new(stream);
    match upstream.config.protocol {
        UpstreamProtocol::Http1 => {
            let (mut sender, connection) = http1::handshake(stream).await?;
            driver.spawn(async move { drop(connection.await) });
            sender.send_request(request).await
        }
        UpstreamProtocol::Http2 => {
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
            driver.spawn(async move { drop(connection.await) });
            sender.send_request(request).await
        }
    }
}

/// `HealthCheckRequest { service }`, as a gRPC message: not compressed, its length, and the one field if it is not empty.
fn question(service: &str) -> Bytes {
    let mut message = Vec::with_capacity(service.len() + 8);
    if !service.is_empty() {
        message.push(0x0a);
        push_varint(&mut message, service.len());
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

fn push_varint(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Reads a gRPC answer to its end.
async fn serving(response: Response<Incoming>) -> Result<(), CheckError> {
    if response.status() != StatusCode::OK {
        return Err(CheckError::Status(response.status()));
    }
    let (head, mut body) = response.into_parts();
    // A status without a message comes in the head.
    check_status(&head.headers)?;
    let mut message = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        match frame?.into_data() {
            Ok(data) if message.len() + data.len() > ANSWER_BYTES => return Err(CheckError::Malformed),
            Ok(data) => message.extend_from_slice(&data),
            Err(frame) => {
                if let Some(trailers) = frame.trailers_ref() {
                    check_status(trailers)?;
                }
            }
        }
    }
    match serving_status(&message) {
        Some(SERVING) => Ok(()),
        Some(other) => Err(CheckError::NotServing(other)),
        None => Err(CheckError::Malformed),
    }
}

fn check_status(fields: &HeaderMap) -> Result<(), CheckError> {
    match fields.get("grpc-status") {
        Some(status) if status.as_bytes() != b"0" => {
            Err(CheckError::GrpcStatus(String::from_utf8_lossy(status.as_bytes()).into_owned()))
        }
        Some(_) | None => Ok(()),
    }
}

/// The one field of a `HealthCheckResponse`; absent, it is 0. `None` for what is none, or has more in it.
fn serving_status(framed: &[u8]) -> Option<u64> {
    let (prefix, mut message) = framed.split_at_checked(5)?;
    let (compressed, length) = prefix.split_first()?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    if *compressed != 0 || length as usize != message.len() {
        return None;
    }
    if message.is_empty() {
        return Some(0);
    }
    if message.get_u8() != 0x08 {
        return None;
    }
    let (mut status, mut shift) = (0_u64, 0);
    while message.has_remaining() && shift < 63 {
        let byte = message.get_u8();
        status |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return (!message.has_remaining()).then_some(status);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    //! gRPC's two messages, byte by byte.

    use super::*;

    #[test]
    fn the_question_names_the_service() {
        assert_eq!(question(""), [0, 0, 0, 0, 0].as_slice());
        assert_eq!(question("a.B"), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B'].as_slice());
        let long = question(&"x".repeat(300));
        assert_eq!(long.get(..8), Some([0, 0, 0, 1, 47, 0x0a, 0xac, 0x02].as_slice()));
    }

    #[test]
    fn the_answer_is_one_number() {
        let cases: [(&[u8], Option<u64>); 10] = [
            (&[0, 0, 0, 0, 2, 8, 1], Some(1)),
            (&[0, 0, 0, 0, 2, 8, 2], Some(2)),
            (&[0, 0, 0, 0, 0], Some(0)),
            (&[0, 0, 0, 0, 3, 8, 0x81, 0x01], Some(129)),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0, 0, 0, 3, 8, 1], None),
            (&[0, 0, 0, 0, 2, 16, 1], None),
            (&[0, 0, 0, 0, 2, 8, 0x81], None),
            (&[0, 0, 0], None),
            (&[], None),
        ];
        for (answer, expected) in cases {
            assert_eq!(serving_status(answer), expected, "{answer:?}");
        }
        assert_eq!(serving_status(&[[0, 0, 0, 0, 12, 8].as_slice(), &[0xff; 11]].concat()), None);
    }
}
