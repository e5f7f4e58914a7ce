//! What is asked: a request's head as it was seen at first sight, what it wants, and how its client reads the answer.
//!
//! What must not live here: what comes of it.

use http::request::Parts;
use http::{Method, Version, header};

use super::glance::Glance;
use crate::error::response::grpc;
use crate::headers::forwarded::{self, Scheme};
use crate::serve::body::{Offered, RequestBody};
use crate::serve::connection::Connection;
use crate::snapshot::{DeclaredOpen, Route};
use crate::token::credential::elsewhere::Opening;
use crate::worker::LocalSnapshot;

/// A request's head, and what was seen of it at first sight.
pub(super) struct Asked<'a> {
    pub(super) head: &'a Parts,
    pub(super) glance: Glance<'a>,
    pub(super) intent: Intent,
    pub(super) connection: &'a Connection,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    /// An answer.
    Ask,
    /// An answer to what its body says.
    Exchange,
    /// A WebSocket. What the client says in it is nobody's to read: so it needs what writing needs, beside what its request needs.
    WebSocket,
    /// A tunnel in the protocol that its head names, which needs the same. Whether it is offered to anybody, its route says.
    Upgrade,
}

/// How a client reads what became of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// By HTTP's status.
    Http,
    /// By a status in the trailers.
    Grpc,
}

impl Intent {
    pub(super) fn of(body: &RequestBody) -> Self {
        match body {
            RequestBody::Empty => Self::Ask,
            RequestBody::Http1(_) | RequestBody::Http2(_) => Self::Exchange,
            RequestBody::Tunnel(_, Offered::WebSocket) => Self::WebSocket,
            RequestBody::Tunnel(_, Offered::Named) => Self::Upgrade,
        }
    }

    /// What comes of it on a route. A protocol that it does not declare is not offered to anybody: the request goes on without.
    pub(super) fn on(self, route: &Route, head: &Parts) -> Self {
        match self {
            Self::Upgrade if route.offered(head).is_none() => Self::Ask,
            intent => intent,
        }
    }

    pub(super) const fn is_tunnel(self) -> bool {
        matches!(self, Self::WebSocket | Self::Upgrade)
    }

    pub(super) const fn opening(self) -> Opening {
        match self {
            Self::Ask | Self::Exchange | Self::Upgrade => Opening::Nothing,
            Self::WebSocket => Opening::WebSocket,
        }
    }
}

impl Caller {
    pub(super) fn of(head: &Parts) -> Self {
        // gRPC is spoken over HTTP/2 only: nobody else pays for the look.
        let is_grpc = head.version == Version::HTTP_2
            && head.headers.get(header::CONTENT_TYPE).is_some_and(grpc::is_content_type);
        if is_grpc { Self::Grpc } else { Self::Http }
    }
}

impl Asked<'_> {
    /// How the client reached us, or a trusted proxy before us.
    pub(super) fn scheme(&self, snapshot: &LocalSnapshot) -> Scheme {
        let listener = &snapshot.shared.listeners[self.connection.origin.listener];
        forwarded::client_scheme(&listener.trusted_proxies, self.connection.origin.peer, &self.head.headers)
            .unwrap_or(listener.scheme)
    }

    /// The proof that a browser may ask without a token whether it may send a request, if that is what is asked (Fetch,
    /// section 4.8) and the route lets it pass.
    pub(super) fn preflight(&self, route: &Route, intent: Intent) -> Option<DeclaredOpen> {
        let declared = route.declared_open_to_preflight()?;
        let is_once = |name| self.head.headers.get_all(name).iter().count() == 1;
        let is_preflight = self.head.method == Method::OPTIONS
            && intent == Intent::Ask
            && is_once(header::ORIGIN)
            && is_once(header::ACCESS_CONTROL_REQUEST_METHOD);
        is_preflight.then_some(declared)
    }
}
