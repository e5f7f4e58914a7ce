//! Clients at a steady pace, of every kind that an upgrade or a reload could cut off. Whatever is not a complete and right
//! answer is a failure; nothing is tried again, but what certainly was never sent.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::support::client::Broken;
use crate::support::http2::{empty, request_with};
use crate::support::sidecar::HOST;
use crate::support::{Client, Http2Client, PATIENCE, Response, Sidecar, Upstream, until};

/// What a WebSocket's client and its upstream say first.
const OFFER: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                           Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// A text frame of one letter, as a server sends it.
const FRAME: &[u8] = &[0x81, 1, b'x'];

/// Parts of a streaming response, and the pause between two.
const PARTS: usize = 25;
const PART_PAUSE: Duration = Duration::from_millis(20);

/// Where requests go.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) plain: SocketAddr,
    /// A listener with TLS.
    pub(crate) tls: Option<(SocketAddr, Arc<rustls::ClientConfig>)>,
    /// The operators' listener.
    pub(crate) ops: SocketAddr,
    pub(crate) token: String,
}

impl Target {
    /// A sidecar with a permitted token; its second listener speaks TLS, if clients are to.
    pub(crate) fn of(sidecar: &Sidecar, tls: Option<Arc<rustls::ClientConfig>>) -> Self {
        Self {
            plain: sidecar.address(),
            tls: tls.map(|config| (sidecar.listeners[1], config)),
            ops: sidecar.ops,
            token: sidecar.permitted.token.clone(),
        }
    }
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Requests with a body on one connection, for as long as the sidecar keeps it.
    Kept,
    /// A connection for each request.
    New,
    /// The same over TLS.
    KeptTls,
    NewTls,
    /// One HTTP/2 connection, for as long as the sidecar keeps it.
    Http2,
    /// One WebSocket, whose messages are sent back.
    WebSocket,
    /// Responses that take half a second.
    Stream,
    /// Whether the sidecar is ready, on a new connection each time.
    Readiness,
}

/// Clients that run until they are stopped.
pub(crate) struct Load {
    stopped: Arc<AtomicBool>,
    tally: Arc<Tally>,
    clients: Vec<JoinHandle<()>>,
    started: Instant,
}

/// What came of their requests.
#[derive(Default)]
pub(crate) struct Tally {
    /// Right answers; messages of WebSockets too.
    pub(crate) answered: AtomicU64,
    /// Of these, requests that a token was needed for.
    pub(crate) permitted: AtomicU64,
    /// Connections that the sidecar said it would close, and did not close before it had answered.
    pub(crate) told: AtomicU64,
    pub(crate) failures: Mutex<Vec<String>>,
    longest_microseconds: AtomicU64,
}

/// The other side of all of it.
pub(crate) fn upstream() -> Upstream {
    Upstream::start(|peer| {
        while let Some(request) = peer.read_head() {
            match request.target.as_str() {
                "/socket" => {
                    peer.write(SWITCHING);
                    while let Some(bytes) = peer.read_exactly(FRAME.len()) {
                        peer.write(&bytes);
                    }
                    return;
                }
                "/stream" => {
                    peer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
                    for part in 0..PARTS {
                        thread::sleep(PART_PAUSE);
                        peer.write(format!("5\r\n{part:04}\n\r\n").as_bytes());
                    }
                    peer.write(b"0\r\n\r\n");
                }
                _ => {
                    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
                    let Some(body) = peer.read_exactly(length) else { return };
                    peer.respond(200, &[], &body);
                }
            }
        }
    })
}

impl Load {
    /// Starts so many clients of each kind, each with so many requests a second.
    pub(crate) fn start(target: &Target, kinds: &[(Kind, usize)], per_second: u32) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let tally = Arc::new(Tally::default());
        let mut clients = Vec::new();
        let pace = Duration::from_secs(1) / per_second;
        let count: usize = kinds.iter().map(|(_, count)| count).sum();
        for kind in kinds.iter().flat_map(|(kind, count)| std::iter::repeat_n(*kind, *count)) {
            let client = Running {
                target: target.clone(),
                kind,
                pace,
                // Spread over the pause between two requests.
                next: Instant::now()
                    + pace * u32::try_from(clients.len()).unwrap() / u32::try_from(count).unwrap(),
                stopped: Arc::clone(&stopped),
                tally: Arc::clone(&tally),
            };
            clients.push(thread::spawn(move || client.run()));
        }
        Self { stopped, tally, clients, started: Instant::now() }
    }

    pub(crate) fn answered(&self) -> u64 {
        self.tally.answered.load(Ordering::SeqCst)
    }

    /// Waits for so many further answers, or the first failure.
    #[track_caller]
    pub(crate) fn wait_for(&self, answers: u64) {
        let awaited = self.answered() + answers;
        until("requests to go on", || self.answered() >= awaited || !self.tally.failures.lock().is_empty());
        self.assert_no_failure();
    }

    #[track_caller]
    pub(crate) fn assert_no_failure(&self) {
        let failures = self.tally.failures.lock();
        assert!(
            failures.is_empty(),
            "{} failures, such as {:?}",
            failures.len(),
            &failures[..failures.len().min(5)]
        );
    }

    /// Ends all clients after their request; fails if anything did.
    #[track_caller]
    pub(crate) fn stop(mut self) -> Arc<Tally> {
        self.stopped.store(true, Ordering::SeqCst);
        for client in self.clients.drain(..) {
            client.join().unwrap();
        }
        self.assert_no_failure();
        let seconds = self.started.elapsed().as_secs_f64();
        println!(
            "{} answers in {seconds:.1} s ({:.0} a second), {} connections told to end, longest {:.0} ms, 0 failures",
            self.answered(),
            self.answered() as f64 / seconds,
            self.tally.told.load(Ordering::SeqCst),
            self.tally.longest_microseconds.load(Ordering::SeqCst) as f64 / 1000.0,
        );
        Arc::clone(&self.tally)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
    }
}

struct Running {
    target: Target,
    kind: Kind,
    pace: Duration,
    next: Instant,
    stopped: Arc<AtomicBool>,
    tally: Arc<Tally>,
}

/// What came of one turn: for how many requests a token was needed.
type Turn = Result<u64, String>;

impl Running {
    fn run(mut self) {
        match self.kind {
            Kind::Kept => self.keep(|target| connect(target.plain)),
            Kind::KeptTls => self.keep(connect_tls),
            Kind::New => self.go_on(|target| once(connect(target.plain)?, target)),
            Kind::NewTls => self.go_on(|target| once(connect_tls(target)?, target)),
            Kind::Http2 => self.keep_http2(),
            Kind::WebSocket => self.keep_websocket(),
            Kind::Stream => self.go_on(stream),
            Kind::Readiness => self.go_on(readiness),
        }
    }

    /// Waits for the next turn; false when there is none.
    fn goes_on(&mut self) -> bool {
        thread::sleep(self.next.saturating_duration_since(Instant::now()));
        self.next += self.pace;
        !self.stopped.load(Ordering::SeqCst)
    }

    fn go_on(&mut self, mut turn: impl FnMut(&Target) -> Turn) {
        while self.goes_on() {
            let started = Instant::now();
            match turn(&self.target) {
                Ok(permitted) => self.note(started, permitted),
                Err(failure) => {
                    let failure = format!("{:?}: {failure}", self.kind);
                    self.tally.failures.lock().push(failure);
                }
            }
        }
    }

    fn note(&self, started: Instant, permitted: u64) {
        self.tally.answered.fetch_add(1, Ordering::SeqCst);
        self.tally.permitted.fetch_add(permitted, Ordering::SeqCst);
        let taken = u64::try_from(started.elapsed().as_micros()).unwrap();
        self.tally.longest_microseconds.fetch_max(taken, Ordering::SeqCst);
    }

    fn keep(&mut self, connect: fn(&Target) -> Result<Client, String>) {
        let tally = Arc::clone(&self.tally);
        let mut kept: Option<Client> = None;
        self.go_on(|target| {
            let mut client = match kept.take() {
                Some(client) => client,
                None => connect(target)?,
            };
            let response = ask(&mut client, &head(target, "POST /", "Content-Length: 5\r\n", "hello"))?;
            check(&response, b"hello")?;
            if response.values("connection") == ["close"] {
                tally.told.fetch_add(1, Ordering::SeqCst);
            } else {
                kept = Some(client);
            }
            Ok(1)
        });
    }

    fn keep_http2(&mut self) {
        let tally = Arc::clone(&self.tally);
        let mut kept: Option<Http2Client> = None;
        self.go_on(|target| {
            loop {
                let client = match &mut kept {
                    Some(client) => client,
                    // Fails as a whole if it is refused.
                    None => {
                        let socket =
                            TcpStream::connect(target.plain).map_err(|error| format!("{error:?}"))?;
                        kept.insert(Http2Client::over(socket))
                    }
                };
                let request = request_with(&target.token, "GET", "/", empty());
                let sending = client.sender.try_send_request(request);
                let sent = client.runtime.block_on(async { tokio::time::timeout(PATIENCE, sending).await });
                let response = match sent.map_err(|_| "no answer in time".to_owned())? {
                    Ok(response) => client.collect(response).map_err(|error| format!("body: {error:?}"))?,
                    Err(mut error) => match error.take_message() {
                        // The sidecar has said that it takes no more: this was not sent.
                        Some(_) => {
                            tally.told.fetch_add(1, Ordering::SeqCst);
                            kept = None;
                            continue;
                        }
                        None => {
                            let error = format!("{:?}", error.into_error());
                            // Sent as the word came that later streams than those before are not served (RFC 9113, section
                            // 6.8): certainly not served, by that word.
                            if !error.contains("GoAway") || !error.contains("NO_ERROR") {
                                return Err(error);
                            }
                            tally.told.fetch_add(1, Ordering::SeqCst);
                            kept = None;
                            continue;
                        }
                    },
                };
                check(&response, b"")?;
                return Ok(1);
            }
        });
    }

    fn keep_websocket(&mut self) {
        let mut kept: Option<Client> = None;
        self.go_on(|target| {
            let opened = u64::from(kept.is_none());
            let mut client = match kept.take() {
                Some(client) => client,
                None => {
                    let mut client = connect(target.plain)?;
                    client
                        .try_send(head(target, "GET /socket", OFFER, ""))
                        .map_err(|error| format!("{error:?}"))?;
                    let answer = client.read_head().map_err(|broken| format!("{broken:?}"))?;
                    if answer.status != 101 {
                        return Err(format!("{answer:?}"));
                    }
                    client
                }
            };
            client.try_send(FRAME).map_err(|error| format!("{error:?}"))?;
            let echoed = client.try_read_exactly(FRAME.len()).map_err(|broken| format!("{broken:?}"))?;
            if echoed != FRAME {
                return Err(format!("{echoed:?}"));
            }
            kept = Some(client);
            Ok(opened)
        });
    }
}

fn head(target: &Target, method_and_target: &str, lines: &str, body: &str) -> String {
    let token = &target.token;
    format!(
        "{method_and_target} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n{lines}\r\n{body}"
    )
}

fn connect(address: SocketAddr) -> Result<Client, String> {
    Ok(Client::on(TcpStream::connect(address).map_err(|error| format!("cannot connect: {error:?}"))?))
}

fn connect_tls(target: &Target) -> Result<Client, String> {
    let (address, config) = target.tls.as_ref().expect("a listener with TLS");
    let client = connect(*address)?;
    client.over_tls(HOST, Arc::clone(config)).map_err(|error| format!("cannot shake hands: {error:?}"))
}

fn ask(client: &mut Client, request: &str) -> Result<Response, String> {
    client.try_send(request).map_err(|error| format!("not sent: {error:?}"))?;
    client.try_response().map_err(|broken: Broken| format!("no whole answer: {broken:?}"))
}

fn check(response: &Response, body: &[u8]) -> Result<(), String> {
    let is_right = response.status == 200 && response.body == body;
    if is_right { Ok(()) } else { Err(format!("{response:?}")) }
}

fn once(mut client: Client, target: &Target) -> Turn {
    let response = ask(&mut client, &head(target, "POST /", "Content-Length: 5\r\n", "hello"))?;
    check(&response, b"hello").map(|()| 1)
}

fn stream(target: &Target) -> Turn {
    let mut client = connect(target.plain)?;
    let response = ask(&mut client, &head(target, "GET /stream", "", ""))?;
    let whole: String = (0..PARTS).map(|part| format!("{part:04}\n")).collect();
    check(&response, whole.as_bytes()).map(|()| 1)
}

fn readiness(target: &Target) -> Turn {
    let mut client = connect(target.ops)?;
    let response = ask(&mut client, "GET /readyz HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n")?;
    check(&response, b"ok\n").map(|()| 0)
}
