//! HTTP/2 to an endpoint: a few connections that many requests share, and one request's exchange over one of them.
//!
//! hyper and h2 speak the protocol; here is which connection a request takes, what its head becomes, and what can be told of
//! an exchange that broke. What must not live here: HTTP/1, and which endpoint is asked.

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;

use super::connect::ConnectError;
use super::decode::{DecodeError, Fields};
use super::exchange::{BodyError, ExchangeError};
use super::pool::ConnectionGauge;
use super::target::WorkerTarget;
use super::{OutgoingHead, Upstream};
use crate::headers;
use crate::headers::change::HeaderChanges;
use crate::pipeline::body::{ForwardBody, UploadError};
use crate::serve::LocalExecutor;
use crate::serve::body::gathered::Gathered;

/// Requests that one connection carries before another is opened. Servers allow a hundred at least (RFC 9113, section 6.5.2).
const STREAMS: usize = 100;
/// How much a service may send ahead on a stream whose client does not read: for so long as that, nobody waits for a window update.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// And on all of them: more than all streams can hold, so that slow clients hold up nobody else's answers. h2 also takes this for the measure
/// of how many small frames may lie about untaken: what they fall short of 256 bytes, in sum, may be half of it, else it closes the
/// connection with all that is on it. With all streams full that takes frames of less than some fifty bytes.
const CONNECTION_WINDOW_BYTES: u32 = 256 << 20;
/// Bytes of a response's head at most.
const HEAD_BYTES: u32 = 256 * 1024;
/// A connection that does not answer a ping for so long is dead.
const PING: Duration = Duration::from_secs(20);

/// One worker's connections to one endpoint.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: RefCell<Vec<Rc<Shared>>>,
    /// The one that is being opened, if one is. Many requests may come at once where there is none yet: they wait for this one
    /// rather than open one each.
    opening: RefCell<Option<Rc<Opening>>>,
}

/// A connection that is being opened.
#[derive(Debug, Default)]
struct Opening {
    /// Requests that wait for it.
    waiting: Cell<usize>,
    ended: Notify,
    failure: RefCell<Option<Arc<ConnectError>>>,
}

/// A connection, shared by the requests that it carries.
#[derive(Debug)]
struct Shared {
    sender: RefCell<http2::SendRequest<SharedBody>>,
    running: Cell<usize>,
    idle_since: Cell<Instant>,
    gauge: RefCell<ConnectionGauge>,
}

/// A request's place on its connection.
#[derive(Debug)]
pub(super) struct Stream(Rc<Shared>);

/// A response whose head is there, and the stream that its body comes over.
#[derive(Debug)]
pub struct Exchange2 {
    status: StatusCode,
    fields: Fields,
    body: Gathered,
    remaining: Option<u64>,
    is_complete: bool,
    failure: Rc<RefCell<Option<UploadError>>>,
    _stream: Stream,
}

/// A client's body as hyper sends it. Why it broke off stays here, for who waits for the response.
#[derive(Debug)]
pub(super) struct SharedBody {
    body: ForwardBody,
    failure: Rc<RefCell<Option<UploadError>>>,
}

/// What a failed attempt leaves.
pub(super) struct Failed {
    pub(super) error: ExchangeError,
    /// The body, if nothing of the request was sent.
    pub(super) unsent: Option<ForwardBody>,
}

impl Connections {
    /// A place on a connection with room, or on a new one to this target, whose connections these are.
    pub(super) async fn stream(&self, target: &Rc<WorkerTarget>) -> Result<Stream, ConnectError> {
        loop {
            if let Some(stream) = self.with_room() {
                return Ok(stream);
            }
            let under_way = self.opening.borrow().clone();
            let opening = match under_way {
                None => self.open(target),
                Some(opening) if opening.waiting.get() < STREAMS => opening,
                // More than it can carry.
                Some(_) => return Ok(self.add(connect(target).await?)),
            };
            opening.waiting.set(opening.waiting.get() + 1);
            opening.ended.notified().await;
            if let Some(failure) = opening.failure.borrow().clone() {
                return Err(ConnectError::Shared(failure));
            }
        }
    }

    /// Begins to open a connection, in a task of its own: whoever it is for may go away, and others still wait for it.
    fn open(&self, target: &Rc<WorkerTarget>) -> Rc<Opening> {
        let opening = Rc::<Opening>::default();
        self.opening.replace(Some(Rc::clone(&opening)));
        let (target, begun) = (Rc::clone(target), Rc::clone(&opening));
        tokio::task::spawn_local(async move {
            match connect(&target).await {
                Ok(shared) => drop(target.connections.add(shared)),
                Err(error) => drop(begun.failure.replace(Some(Arc::new(error)))),
            }
            target.connections.opening.replace(None);
            begun.ended.notify_waiters();
        });
        opening
    }

    fn add(&self, shared: Shared) -> Stream {
        let shared = Rc::new(shared);
        self.open.borrow_mut().push(Rc::clone(&shared));
        Stream::enter(shared)
    }

    /// The busiest connection that has room: the others may become idle, and be closed.
    fn with_room(&self) -> Option<Stream> {
        let mut open = self.open.borrow_mut();
        open.retain(|shared| !shared.sender.borrow().is_closed());
        let with_room = open.iter().filter(|shared| shared.running.get() < STREAMS);
        with_room.max_by_key(|shared| shared.running.get()).map(|shared| Stream::enter(Rc::clone(shared)))
    }

    /// Closes what was idle for too long or was closed by the other side.
    pub(super) fn sweep(&self, now: Instant, timeout: Duration) {
        self.open.borrow_mut().retain(|shared| {
            let is_idle = shared.running.get() == 0;
            let is_old = now.saturating_duration_since(shared.idle_since.get()) >= timeout;
            let is_over = is_idle && is_old;
            !shared.sender.borrow().is_closed() && !is_over
        });
    }
}

async fn connect(target: &WorkerTarget) -> Result<Shared, ConnectError> {
    let stream = target.connect().await?;
    let (gauge, upstream) = (target.pool.active(), &target.upstream);
    if !stream.speaks_http2() {
        let endpoint = upstream.config.endpoints[target.shared.endpoint].label.clone();
        return Err(ConnectError::NoHttp2 { endpoint });
    }
    let (sender, connection) = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .max_header_list_size(HEAD_BYTES)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(ConnectError::Handshake)?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = %error, "an HTTP/2 connection to an upstream ended early");
        }
    });
    Ok(Shared {
        sender: RefCell::new(sender),
        running: Cell::new(0),
        idle_since: Cell::new(Instant::now()),
        gauge: RefCell::new(gauge),
    })
}

/// Sends a request and waits for the response's head. The upstream's timeout counts from the last of the request's body, the
/// client's own from the request's arrival: sending on does not put it off.
pub(super) async fn exchange(
    stream: Stream,
    upstream: &Upstream,
    head: &OutgoingHead<'_>,
    body: ForwardBody,
    started: Instant,
) -> Result<Exchange2, Failed> {
    let timeout = head.response_header_timeout.unwrap_or(upstream.config.response_header_timeout);
    let upload = body.upload();
    let failure = Rc::new(RefCell::new(None));
    let body = SharedBody { body, failure: Rc::clone(&failure) };
    let request = match request(upstream, head, body) {
        Ok(request) => request,
        Err(error) => return Err(Failed { error, unsent: None }),
    };
    let sent = stream.0.sender.borrow_mut().try_send_request(request);
    let mut sent = pin!(sent);
    let due = || {
        let last = upload.as_ref().map_or_else(|| started.into(), |upload| upload.last());
        let patience = last + timeout;
        // One too long to be told on the clock bounds nothing.
        let deadline = head.timeout.and_then(|timeout| started.checked_add(timeout));
        deadline.map_or(patience, |deadline| patience.min(deadline.into()))
    };
    let mut alarm = pin!(tokio::time::sleep_until(due()));
    let answered = poll_fn(|context| {
        if let Poll::Ready(sent) = sent.as_mut().poll(context) {
            return Poll::Ready(Ok(sent));
        }
        if let Some(error) = failure.borrow_mut().take() {
            return Poll::Ready(Err(ExchangeError::ClientBody(error)));
        }
        while alarm.as_mut().poll(context).is_ready() {
            let due = due();
            if due <= tokio::time::Instant::now() {
                return Poll::Ready(Err(ExchangeError::Timeout));
            }
            alarm.as_mut().reset(due);
        }
        Poll::Pending
    });
    match answered.await {
        Ok(Ok(response)) => {
            Exchange2::new(response, failure, stream).map_err(|error| Failed { error, unsent: None })
        }
        Ok(Err(mut refused)) => {
            let unsent = refused.take_message().map(|request| request.into_body().body);
            let source = io::Error::other(refused.into_error());
            let client = failure.borrow_mut().take().map(ExchangeError::ClientBody);
            let error = client.unwrap_or(ExchangeError::Closed { unsent: None, whole_body: None, source });
            Err(Failed { error, unsent })
        }
        Err(error) => Err(Failed { error, unsent: None }),
    }
}

/// The head anew, by the same rules as for HTTP/1.1; what is a line there is a pseudo-header here.
fn request(
    upstream: &Upstream,
    head: &OutgoingHead<'_>,
    body: SharedBody,
) -> Result<Request<SharedBody>, ExchangeError> {
    let fields = headers::upstream_request_fields(head.headers, head.additions);
    let authority = match head.additions.host.as_bytes() {
        b"" => upstream.config.endpoints.first().map_or("", |endpoint| endpoint.authority()).as_bytes(),
        host => host,
    };
    let scheme = if upstream.config.tls.is_some() { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(head.target).build();
    let uri = uri.map_err(|error| ExchangeError::Broken(io::Error::other(error)))?;
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = fields;
    Ok(request)
}

impl Exchange2 {
    fn new(
        response: Response<Incoming>,
        failure: Rc<RefCell<Option<UploadError>>>,
        stream: Stream,
    ) -> Result<Self, ExchangeError> {
        let (mut head, body) = response.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(ExchangeError::Malformed(DecodeError::Upgrade));
        }
        headers::strip_response(&mut head.headers);
        let is_complete = body.is_end_stream();
        Ok(Self {
            status: head.status,
            fields: Fields::of(&head.headers),
            remaining: if is_complete { Some(0) } else { body.size_hint().exact() },
            body: Gathered::new(body),
            is_complete,
            failure,
            _stream: stream,
        })
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn fields(&self) -> &Fields {
        &self.fields
    }

    pub(super) fn add_fields(&mut self, lines: &[u8]) {
        self.fields.add_lines(lines);
    }

    pub(super) fn change_fields(&mut self, changes: &HeaderChanges) {
        self.fields.change(changes);
    }

    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    pub(super) fn remaining(&self) -> Option<u64> {
        self.remaining
    }

    /// The next frame of the response's body; `None` at its end.
    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.is_complete {
            return Poll::Ready(None);
        }
        let polled = match self.body.poll_frame(context) {
            Poll::Pending => match self.failure.borrow_mut().take() {
                // It would wait for the rest for ever.
                Some(error) => Poll::Ready(Some(Err(BodyError::Client(error)))),
                None => Poll::Pending,
            },
            // hyper takes a stream that was reset with `NO_ERROR` for one that has ended. It has not.
            Poll::Ready(None) if !self.body.is_end_stream() => {
                Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(io::Error::other(error).into()))),
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(match frame.into_trailers() {
                Ok(trailers) => Frame::trailers(headers::response_trailers(trailers)),
                Err(frame) => frame,
            }))),
        };
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(length));
                self.is_complete = frame.is_trailers() || self.body.is_end_stream();
            }
            Poll::Ready(None) => self.is_complete = true,
            Poll::Pending | Poll::Ready(Some(Err(_))) => {}
        }
        polled
    }
}

impl Stream {
    fn enter(shared: Rc<Shared>) -> Self {
        if shared.running.replace(shared.running.get() + 1) == 0 {
            shared.gauge.borrow_mut().set_active();
        }
        Self(shared)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let running = self.0.running.get() - 1;
        self.0.running.set(running);
        if running == 0 {
            self.0.idle_since.set(Instant::now());
            self.0.gauge.borrow_mut().set_idle();
        }
    }
}

impl Body for SharedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        this.body.poll_frame(context).map_err(|error| {
            let told = io::Error::other(error.to_string());
            *this.failure.borrow_mut() = Some(error);
            told
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.body.is_empty() { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}

impl Fields {
    /// The lines that a map's fields would be in HTTP/1.1.
    fn of(map: &HeaderMap) -> Self {
        let mut fields = Self::default();
        for (name, value) in map {
            fields.add(name.as_str().as_bytes(), value.as_bytes());
        }
        fields
    }
}
