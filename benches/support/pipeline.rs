//! Whole requests: a worker on this thread, one client's connection to it and one connection of its to an upstream, both
//! over loopback and in hand here. Bytes go in at one socket and come out of the other, so nothing here knows what the
//! worker does in between.
//!
//! What drives both ends is as cheap as can be (plain reads and writes), but is not free: a time includes it and the
//! system calls of both sides. A [`Watch`] sees exactly the polls of the worker's own task.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use postern::config::Config;
use postern::lifecycle::Drain;
use postern::listen::stream::ClientStream;
use postern::pipeline::denials::RecentDenials;
use postern::serve;
use postern::snapshot::Snapshot;
use postern::telemetry::{AccessLog, Metrics};
use postern::worker::{Shared, Worker};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use super::directory::{ORGANIZATION, PROJECT};
use super::work::Setting;

/// Calls what it is given, once.
pub type Watch = fn(&mut dyn FnMut());

/// A watch that does not look.
pub fn unwatched(work: &mut dyn FnMut()) {
    work();
}

/// What the upstream answers.
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: upstream\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Content-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}";

/// A request and what becomes of it.
pub struct Request {
    bytes: Vec<u8>,
    body_bytes: usize,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    PassedOn,
    Answered(u16),
}

impl Request {
    pub fn get(token: &str) -> Self {
        Self::with_body(token, "GET /api/v1/query?query=up", "", b"")
    }

    pub fn post(token: &str, body: &[u8]) -> Self {
        let length = format!("Content-Length: {}\r\nContent-Type: application/json\r\n", body.len());
        Self::with_body(token, "POST /api/v1/write", &length, body)
    }

    fn with_body(token: &str, line: &str, more: &str, body: &[u8]) -> Self {
        let head = format!(
            "{line} HTTP/1.1\r\nHost: service.test\r\nUser-Agent: python-requests/2.32.3\r\n\
             Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\n\
             Authorization: Bearer {token}\r\n{more}\r\n"
        );
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        Self { bytes, body_bytes: body.len(), fate: Fate::PassedOn }
    }

    /// The upstream gets it, and its answer goes back.
    pub fn passed_on(mut self) -> Self {
        self.fate = Fate::PassedOn;
        self
    }

    /// Postern answers it itself.
    pub fn answered(mut self, status: u16) -> Self {
        self.fate = Fate::Answered(status);
        self
    }
}

/// One worker, one connection on each side.
pub struct Pipeline {
    runtime: LocalRuntime,
    client: TcpStream,
    upstream_listener: TcpListener,
    upstream: Option<TcpStream>,
    read: Vec<u8>,
}

impl Pipeline {
    /// Configured as usual, with `more` tables behind it.
    pub fn new(setting: &Setting, more: &str) -> Self {
        let upstream_listener = listen();
        let metrics = Metrics::new(1);
        let config = config(&upstream_listener, more);
        let log = config.logging.access_log.as_ref();
        let log = log.map(|settings| AccessLog::start(settings, 1, &metrics).unwrap());
        let snapshot = Snapshot::new(&config, &setting.directory.view, &metrics, log, None).unwrap();
        let shared =
            Shared::new(snapshot, Arc::clone(&setting.directory.view), RecentDenials::new(1, 10_000));
        let shared = Arc::new(shared);
        let worker = Rc::new(Worker::new(0, shared, Drain::new(1).worker(0)).unwrap());

        let listener = listen();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nodelay(true).unwrap();
        client.set_nonblocking(true).unwrap();
        let (accepted, peer) = loop {
            match listener.accept() {
                Ok(accepted) => break accepted,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        };
        accepted.set_nonblocking(true).unwrap();

        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
        let watch = setting.watch;
        runtime.block_on(async {
            let stream = ClientStream::Tcp(tokio::net::TcpStream::from_std(accepted).unwrap());
            let open = worker.registry.accepted(&Rc::default());
            let served = serve::accepted(worker, 0, stream, peer.ip(), open, metrics.listener("main"));
            tokio::task::spawn_local(Watched { inner: Box::pin(served), watch });
        });
        Self { runtime, client, upstream_listener, upstream: None, read: vec![0; 64 * 1024] }
    }

    /// Sends a request, answers it as the upstream if it gets there, and reads the response.
    pub fn exchange(&mut self, request: &Request) {
        self.client.write_all(&request.bytes).unwrap();
        let expected: &[u8] = match request.fate {
            Fate::PassedOn => {
                self.serve_upstream(request.body_bytes);
                b"HTTP/1.1 200 "
            }
            Fate::Answered(401) => b"HTTP/1.1 401 ",
            Fate::Answered(_) => b"HTTP/1.1 403 ",
        };
        let Self { runtime, client, read, .. } = self;
        let mut filled = 0;
        turn_until(runtime, || {
            filled += read_some(client, &mut read[filled..]);
            // Every body ends so, and no head has a brace.
            read[..filled].ends_with(b"}") || read[..filled].ends_with(b"}\n")
        });
        assert!(read.starts_with(expected), "{}", String::from_utf8_lossy(&read[..filled]));
    }

    fn serve_upstream(&mut self, body_bytes: usize) {
        let Self { runtime, upstream_listener, upstream, read, .. } = self;
        if upstream.is_none() {
            turn_until(runtime, || {
                *upstream = upstream_listener.accept().ok().map(|(stream, _)| stream);
                upstream.is_some()
            });
        }
        let upstream = upstream.as_mut().unwrap();
        upstream.set_nonblocking(true).unwrap();
        let mut filled = 0;
        turn_until(runtime, || {
            filled += read_some(upstream, &mut read[filled..]);
            let head_and_more = &read[..filled];
            head_and_more[..filled.saturating_sub(body_bytes)].ends_with(b"\r\n\r\n")
        });
        upstream.write_all(RESPONSE).unwrap();
    }
}

/// Runs the worker's task and looks in between, until `done`.
fn turn_until(runtime: &LocalRuntime, mut done: impl FnMut() -> bool) {
    runtime.block_on(async {
        while !done() {
            tokio::task::yield_now().await;
        }
    });
}

/// What is there now.
fn read_some(stream: &mut TcpStream, buffer: &mut [u8]) -> usize {
    match stream.read(buffer) {
        Ok(0) => panic!("the worker closed a connection"),
        Ok(read) => read,
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        Err(error) => panic!("{error}"),
    }
}

fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// A task whose polls are watched.
struct Watched<F> {
    inner: Pin<Box<F>>,
    watch: Watch,
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let mut polled = Poll::Pending;
        (self.watch)(&mut || polled = self.inner.as_mut().poll(context));
        polled
    }
}

fn config(upstream: &TcpListener, more: &str) -> Config {
    let upstream = upstream.local_addr().unwrap();
    let text = format!(
        r#"
workers = 1

[store]
path = "unused.db"

[[listeners]]
name = "main"
address = "127.0.0.1:0"

[ops]
address = "127.0.0.1:0"

[organization]
id = "{ORGANIZATION}"
name = "Example"

[[upstreams]]
name = "service"
endpoints = ["{upstream}"]

[[routes]]
name = "main"
hosts = ["service.test"]
project = "{PROJECT}"
service = "service"
upstream = "service"
{more}
"#
    );
    Config::parse(&text, "postern.toml".as_ref()).unwrap()
}
