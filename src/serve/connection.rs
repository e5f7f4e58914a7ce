//! What a downstream connection knows of itself, shared between its task, its requests and the worker's registry.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Instant;

use http::{HeaderMap, HeaderValue, Version};

use super::http1::{Interim, Phase, State};
use super::http2_stalls::Progress;
use crate::config::{TimeoutsConfig, TrustedPeers};
use crate::headers::forwarded::{self, Forwarding, Scheme};
use crate::listen::client_certificate::CertificateLines;

/// Where a connection comes from.
#[derive(Debug)]
pub struct Origin {
    /// The socket's peer, or whom it speaks for by the PROXY protocol.
    pub peer: IpAddr,
    /// Position of its listener.
    pub listener: usize,
    /// How the client reached us.
    pub scheme: Scheme,
    /// What upstreams are told about the client's certificate.
    pub certificate: CertificateLines,
}

/// One downstream connection.
#[derive(Debug)]
pub struct Connection {
    /// Where it comes from.
    pub origin: Origin,
    protocol: Protocol,
    /// Requests begun.
    begun: Cell<u64>,
    /// Requests begun and not ended.
    running: Cell<u32>,
    /// The forwarding headers made last, and for which host.
    forwarding: RefCell<Option<(HeaderValue, Rc<Forwarding>)>>,
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
    seen: Cell<Seen>,
}

/// What is spoken on a connection.
#[derive(Debug)]
pub enum Protocol {
    /// HTTP/1.1 (or 1.0).
    Http1(Rc<State>),
    /// HTTP/2.
    Http2,
}

/// What the registry wants of a connection's task; it only ever wants more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// Nothing.
    #[default]
    GoOn,
    /// End with the next answer; until then a request may come.
    Leave,
    /// End once the running requests are done.
    Drain,
    /// End now.
    Close,
}

/// What the registry saw when it last looked.
#[derive(Clone, Copy, Debug)]
struct Seen {
    activity: Activity,
    since: Instant,
}

/// Compared between looks: while it stays the same, nothing has moved on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    /// Between requests, after this many.
    Idle(u64),
    /// Amid the head of a request, after this many.
    ReadingHead(u64),
    /// Amid a body that nobody reads any more.
    UnreadBody(u64),
    /// Serving requests.
    Serving,
}

/// Counts a request as running until it is dropped.
#[derive(Debug)]
pub struct RunningRequest {
    connection: Rc<Connection>,
    stream: Option<Rc<Progress>>,
}

/// What the answer to a request goes out by, and no other request's: it can be ended for one that may not go on.
#[derive(Debug)]
pub enum Way {
    /// The whole connection, which serves one request at a time.
    Connection(Rc<Connection>),
    /// One of a connection's streams.
    Stream(Rc<Progress>),
}

impl Way {
    /// Ends it now.
    pub fn end(&self) {
        match self {
            Self::Connection(connection) => connection.give(Order::Close),
            Self::Stream(stream) => stream.give_up(),
        }
    }
}

impl Connection {
    /// A connection just accepted.
    pub fn new(origin: Origin, protocol: Protocol) -> Self {
        Self {
            origin,
            protocol,
            begun: Cell::new(0),
            running: Cell::new(0),
            forwarding: RefCell::new(None),
            order: Cell::new(Order::GoOn),
            waker: RefCell::new(None),
            seen: Cell::new(Seen { activity: Activity::Idle(0), since: Instant::now() }),
        }
    }

    /// Where interim responses go to a client of this version. HTTP/1.0 has none, and over HTTP/2 hyper has no way to send
    /// them.
    pub fn interim(&self, version: Version) -> Option<&Interim> {
        match &self.protocol {
            Protocol::Http1(state) if version == Version::HTTP_11 => Some(state.interim()),
            Protocol::Http1(_) | Protocol::Http2 => None,
        }
    }

    /// Begins a request; over HTTP/2 on this stream.
    pub fn begin_request(self: &Rc<Self>, stream: Option<Rc<Progress>>) -> RunningRequest {
        self.begun.set(self.begun.get() + 1);
        self.running.set(self.running.get() + 1);
        RunningRequest { connection: Rc::clone(self), stream }
    }

    /// The forwarding headers of a request, and what else upstreams are told about its connection; made once for requests in a row to the same host, unless the peer is a
    /// trusted proxy, whose every request may be another client's.
    pub fn forwarding(
        &self,
        trusted_proxies: &TrustedPeers,
        host: &HeaderValue,
        headers: &HeaderMap,
    ) -> Rc<Forwarding> {
        let Origin { peer, scheme, ref certificate, .. } = self.origin;
        if trusted_proxies.trust(peer) {
            let forwarding = forwarded::append(peer, scheme, host, headers);
            return Rc::new(forwarding.with(certificate.as_bytes()));
        }
        let mut last = self.forwarding.borrow_mut();
        if let Some((last_host, forwarding)) = &*last
            && last_host == host
        {
            return Rc::clone(forwarding);
        }
        let forwarding = forwarded::start(peer, scheme, host);
        let forwarding = Rc::new(forwarding.with(certificate.as_bytes()));
        *last = Some((host.clone(), Rc::clone(&forwarding)));
        forwarding
    }

    /// Tells the connection's task what is wanted of it.
    pub fn give(&self, order: Order) {
        if self.order.get() < order {
            self.order.set(order);
            if let Some(waker) = &*self.waker.borrow() {
                waker.wake_by_ref();
            }
        }
    }

    /// What the task has to do; it is woken when that changes.
    pub fn order(&self, context: &Context<'_>) -> Order {
        let mut waker = self.waker.borrow_mut();
        if waker.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        self.order.get()
    }

    /// Ends what has taken too long: a head that trickles in (408), silence between requests, a body nobody reads.
    pub fn look(&self, now: Instant, timeouts: &TimeoutsConfig) {
        let activity = self.activity();
        let seen = self.seen.get();
        if seen.activity != activity {
            self.seen.set(Seen { activity, since: now });
            return;
        }
        let elapsed = now.duration_since(seen.since);
        match activity {
            Activity::Serving => {}
            Activity::Idle(_) if elapsed >= timeouts.idle + timeouts.header_read => self.give(Order::Close),
            Activity::Idle(_) if elapsed >= timeouts.idle => self.give(Order::Drain),
            Activity::ReadingHead(_) if elapsed >= timeouts.header_read => {
                if let Protocol::Http1(state) = &self.protocol {
                    state.time_out_head();
                }
            }
            Activity::UnreadBody(_) if elapsed >= timeouts.header_read => self.give(Order::Close),
            Activity::Idle(_) | Activity::ReadingHead(_) | Activity::UnreadBody(_) => {}
        }
    }

    fn activity(&self) -> Activity {
        let begun = self.begun.get();
        if self.running.get() > 0 {
            return Activity::Serving;
        }
        match &self.protocol {
            Protocol::Http2 => Activity::Idle(begun),
            Protocol::Http1(state) => match state.phase() {
                Phase::Idle => Activity::Idle(begun),
                Phase::ReadingHead => Activity::ReadingHead(begun),
                Phase::InBody => Activity::UnreadBody(begun),
            },
        }
    }
}

impl RunningRequest {
    /// The connection it came over.
    pub fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }

    /// What its answer goes out by.
    pub fn way(&self) -> Way {
        match &self.stream {
            None => Way::Connection(Rc::clone(&self.connection)),
            Some(stream) => Way::Stream(Rc::clone(stream)),
        }
    }
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        self.connection.running.set(self.connection.running.get() - 1);
    }
}
