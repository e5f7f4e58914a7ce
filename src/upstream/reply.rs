//! An upstream's response on its way back: its head, and its body as it comes. Where its connection goes afterwards, and what it
//! says about the address that it came from, is settled when it ends.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;

use super::ahead::Ahead;
use super::decode::{Fields, WEBSOCKET};
use super::exchange::{BodyError, Exchange};
use super::http2::Exchange2;
use super::target::Flight;
use crate::headers::change::HeaderChanges;

/// A response of which the head is there, with the connection its body still comes over: that goes back to its pool when
/// the response has been read to the end, else is closed.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    answered_at: Instant,
    /// Whether the body has kept somebody waiting: then the time of the head is not that of the end.
    has_waited: bool,
    /// Whether its body has broken off on the upstream's side.
    is_broken: bool,
    source: Source,
    flight: Flight,
}

/// What a response's body comes over.
#[derive(Debug)]
enum Source {
    /// A connection of its own, which goes back to its target's pool.
    Http1(Option<Box<Exchange>>),
    /// A stream of a shared one.
    Http2(Box<Exchange2>),
}

impl Reply {
    pub(super) fn new(exchange: Box<Exchange>, flight: Flight) -> Self {
        Self {
            status: exchange.status(),
            answered_at: Instant::now(),
            has_waited: false,
            is_broken: false,
            source: Source::Http1(Some(exchange)),
            flight,
        }
    }

    pub(super) fn over_http2(exchange: Exchange2, flight: Flight) -> Self {
        Self {
            status: exchange.status(),
            answered_at: Instant::now(),
            has_waited: false,
            is_broken: false,
            source: Source::Http2(Box::new(exchange)),
            flight,
        }
    }

    /// When the head had come.
    pub fn answered_at(&self) -> Instant {
        self.answered_at
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The header lines, without what ends at this hop; `None` once the body has been read to its end.
    pub fn fields(&self) -> Option<&Fields> {
        match &self.source {
            Source::Http1(exchange) => exchange.as_ref().map(|exchange| exchange.fields()),
            Source::Http2(exchange) => Some(exchange.fields()),
        }
    }

    /// What is spoken behind the response, if the upstream has switched protocols.
    pub fn protocol(&self) -> &str {
        match &self.source {
            Source::Http1(exchange) => exchange.as_ref().map_or("", |exchange| exchange.protocol()),
            Source::Http2(_) => "",
        }
    }

    /// Whether that is a WebSocket.
    pub fn opens_websocket(&self) -> bool {
        self.status == StatusCode::SWITCHING_PROTOCOLS && self.protocol() == WEBSOCKET
    }

    /// Adds header lines, each with its end.
    pub fn add_fields(&mut self, lines: &[u8]) {
        match &mut self.source {
            Source::Http1(Some(exchange)) => exchange.add_fields(lines),
            Source::Http1(None) => {}
            Source::Http2(exchange) => exchange.add_fields(lines),
        }
    }

    /// Changes the header lines as a route says.
    pub fn change_fields(&mut self, changes: &HeaderChanges) {
        match &mut self.source {
            Source::Http1(Some(exchange)) => exchange.change_fields(changes),
            Source::Http1(None) => {}
            Source::Http2(exchange) => exchange.change_fields(changes),
        }
    }

    /// Reads its body only so far ahead of a client with other answers on its connection. Over HTTP/2 windows bound that.
    pub fn read_ahead_as(&mut self, ahead: &Rc<Ahead>) {
        match &mut self.source {
            Source::Http1(Some(exchange)) => exchange.read_ahead_as(ahead),
            Source::Http1(None) | Source::Http2(_) => {}
        }
    }

    /// The next frame of the response's body. With the last one the connection goes back to its pool.
    pub fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let exchange = match &mut self.source {
            Source::Http1(Some(exchange)) => exchange,
            Source::Http1(None) => return Poll::Ready(None),
            Source::Http2(exchange) => {
                let polled = exchange.poll_frame(context);
                self.is_broken |= is_upstreams_break(&polled);
                return polled;
            }
        };
        let polled = exchange.poll_frame(context);
        self.is_broken |= is_upstreams_break(&polled);
        self.has_waited |= polled.is_pending();
        if exchange.is_complete() && polled.is_ready() {
            self.finish();
        }
        polled
    }

    /// Whether the response has been read to its end.
    pub fn is_complete(&self) -> bool {
        match &self.source {
            Source::Http1(exchange) => exchange.as_ref().is_none_or(|exchange| exchange.is_complete()),
            Source::Http2(exchange) => exchange.is_complete(),
        }
    }

    /// The number of body bytes still to come, where the upstream told.
    pub fn remaining(&self) -> Option<u64> {
        match &self.source {
            Source::Http1(exchange) => exchange.as_ref().map_or(Some(0), |exchange| exchange.remaining()),
            Source::Http2(exchange) => exchange.remaining(),
        }
    }

    fn finish(&mut self) {
        if let Source::Http1(exchange) = &mut self.source
            && let Some(exchange) = exchange.take()
        {
            let now = if self.has_waited { Instant::now() } else { self.answered_at };
            self.flight.target().pool.put(exchange, now);
        }
    }
}

impl Drop for Reply {
    /// A response without a body is complete with its head.
    fn drop(&mut self) {
        let is_complete = self.is_complete();
        if is_complete {
            self.finish();
        }
        let target = self.flight.target();
        if target.upstream.config.ejection.is_some() {
            match self.status {
                // What gateways and services say when they do not work.
                StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                    target.failed();
                }
                _ if self.is_broken => target.failed(),
                _ if is_complete => target.shared.health.succeeded(),
                // The client has lost interest: that says nothing.
                _ => {}
            }
        }
    }
}

/// Whether a response's body has broken off, and not because of the client or of what it may do.
fn is_upstreams_break(polled: &Poll<Option<Result<Frame<Bytes>, BodyError>>>) -> bool {
    matches!(polled, Poll::Ready(Some(Err(BodyError::Connection(_) | BodyError::Decode(_)))))
}
