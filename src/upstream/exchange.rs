//! One HTTP/1.1 connection to an endpoint, driven by whoever uses it: there is no task of its own to wake.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::Upstream;
use super::connect::{ConnectError, UpstreamStream};
use super::pool::ConnectionGauge;
use crate::pipeline::body::ForwardBody;

/// Bytes of a response's head at most, and header lines: more is the upstream's fault (502).
const RESPONSE_HEAD_BYTES: usize = 256 * 1024;
const RESPONSE_HEADERS: usize = 256;

/// A connection to an endpoint.
#[derive(Debug)]
pub struct Exchange {
    sender: SendRequest<ForwardBody>,
    connection: Option<Connection<TokioIo<UpstreamStream>, ForwardBody>>,
    /// When it was last put back.
    pub idle_since: std::time::Instant,
    /// Counts the connection as active or idle for as long as it lives.
    pub gauge: ConnectionGauge,
}

/// Why no response's head came over this connection.
#[derive(Debug)]
pub enum ExchangeError {
    /// Nothing of the request was sent; here it is again.
    NotSent(Box<Request<ForwardBody>>),
    /// Something went wrong while or after sending.
    Failed(hyper::Error),
    /// No head in time.
    Timeout,
}

impl Exchange {
    /// Opens a connection to one endpoint.
    pub async fn open(
        upstream: &Upstream,
        endpoint: usize,
        gauge: ConnectionGauge,
    ) -> Result<Self, ConnectError> {
        let endpoint = &upstream.config.endpoints[endpoint];
        let stream = upstream.connector.connect(&upstream.config, endpoint).await?;
        let (sender, connection) = http1::Builder::new()
            .max_headers(RESPONSE_HEADERS)
            .max_buf_size(RESPONSE_HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(ConnectError::Handshake)?;
        Ok(Self { sender, connection: Some(connection), idle_since: std::time::Instant::now(), gauge })
    }

    /// Sends a request and waits for the response's head. The timeout counts from the end of the request's body.
    pub async fn send(
        &mut self,
        request: Request<ForwardBody>,
        timeout: Duration,
    ) -> Result<Response<Incoming>, ExchangeError> {
        let upload = request.body().upload();
        let started = Instant::now();
        let mut response = pin!(self.sender.try_send_request(request));
        let mut deadline = pin!(tokio::time::sleep(timeout));
        let connection = &mut self.connection;
        poll_fn(|context| {
            drive(connection, context);
            if let Poll::Ready(result) = response.as_mut().poll(context) {
                return Poll::Ready(result.map_err(|mut error| match error.take_message() {
                    Some(request) => ExchangeError::NotSent(Box::new(request)),
                    None => ExchangeError::Failed(error.into_error()),
                }));
            }
            while deadline.as_mut().poll(context).is_ready() {
                let counts_from = upload.as_ref().map_or(started, |upload| upload.last());
                let due = counts_from + timeout;
                if due <= Instant::now() {
                    return Poll::Ready(Err(ExchangeError::Timeout));
                }
                deadline.as_mut().reset(due);
            }
            Poll::Pending
        })
        .await
    }

    /// Reads and writes what can be read and written now.
    pub fn drive(&mut self, context: &mut Context<'_>) {
        drive(&mut self.connection, context);
    }

    /// Whether another request can be sent.
    pub fn is_reusable(&self) -> bool {
        self.connection.is_some() && self.sender.is_ready()
    }
}

fn drive(
    connection: &mut Option<Connection<TokioIo<UpstreamStream>, ForwardBody>>,
    context: &mut Context<'_>,
) {
    if let Some(open) = connection
        && let Poll::Ready(ended) = Pin::new(open).poll(context)
    {
        if let Err(error) = ended {
            tracing::debug!(error = %error, "upstream connection ended");
        }
        *connection = None;
    }
}
