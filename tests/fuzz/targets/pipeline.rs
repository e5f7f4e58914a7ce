//! Whole connections: a worker serves what the input says over a socket within this process, before a model of a service that
//! reads strictly what reaches it.
//!
//! The first byte says how the service answers and in which pieces the client sends; the rest is what it sends. Once nothing
//! happens any more it says that nothing more will come. It must hold, whatever that is:
//! - without the text of the good token, nothing reaches the service;
//! - there are no more requests than tokens, each by whom the token names, and in a form that has one meaning;
//! - none of them is for the path that this token may not use, however a service reads paths;
//! - the client gets as many of the service's answers as the service gave, in their order;
//! - everything ends.

#![allow(dead_code, reason = "libFuzzer needs no words")]

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::mem::ManuallyDrop;
use std::net::{IpAddr, Ipv4Addr, Shutdown};
use std::os::unix::net::UnixStream;
use std::panic;
use std::rc::Rc;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use postern::config::{Config, StoreConfig};
use postern::directory::model::{Principal, Resource, Timestamp};
use postern::directory::operations::{self, ImportedToken, NewApplicationUser, NewToken};
use postern::directory::{self, Synchronizer};
use postern::lifecycle::Drain;
use postern::listen::stream::ClientStream;
use postern::pipeline::denials::RecentDenials;
use postern::serve;
use postern::snapshot::Snapshot;
use postern::telemetry::Metrics;
use postern::telemetry::metrics::ListenerMetrics;
use postern::token::{TokenDigest, TokenKind};
use postern::worker::{Shared, Worker};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

#[path = "pipeline/answers.rs"]
mod answers;
#[path = "pipeline/service.rs"]
mod service;

use service::{Manner, Seen, Service};

pub const WORDS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\n",
    b"POST /write HTTP/1.1\r\n",
    b"HEAD / HTTP/1.1\r\n",
    b"OPTIONS * HTTP/1.1\r\n",
    b"GET http://service.test/ HTTP/1.1\r\n",
    b"GET /public/../admin HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b"Host: service.test\r\n",
    b"Host: other.test\r\n",
    b"Authorization: Bearer permitted-token-for-fuzzing\r\n",
    b"Authorization: Bearer revoked-token-for-fuzzing\r\n",
    b"permitted-token-for-fuzzing",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"transfer_encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: authorization, x-postern-user-id\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
    b"Expect: 100-continue\r\n",
    b"X-Postern-User-Id: root\r\n",
    b"X_Postern.User-Id: root\r\n",
    b"X-Original-URL: /admin\r\n",
    b"TE: trailers\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"5\r\nhello\r\n",
    b"5;a=\"b\"\r\nhello\r\n",
    b"0\r\n\r\n",
    b"0\r\nX-Postern-User-Id: root\r\n\r\n",
    b"/admin",
    b"%2e%2e",
    b"%2f",
    b"//",
    b";",
    b"\t",
    b" ",
    b"\x00",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
];

const ORGANIZATION: &str = "org1a2b3c4d5e6";
const HOST: &str = "service.test";
const PERMITTED: &str = "permitted-token-for-fuzzing";
const REVOKED: &str = "revoked-token-for-fuzzing";

/// Turns without anything sent or received after which nothing more is to come of what was sent: what passes does so at once, on
/// one thread and over sockets within it.
const QUIET_TURNS: u32 = 24;

/// How long one input may take; nothing waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
    /// Panics of this thread, those within tasks included, which end quietly.
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

pub fn check(bytes: &[u8]) {
    static COUNTING: Once = Once::new();
    COUNTING.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            before(info);
        }));
    });
    let Some((&choice, sent)) = bytes.split_first() else { return };
    WORLD.with_borrow_mut(|place| {
        // One that has failed is not used again.
        let mut world = place.take().unwrap_or_else(World::new);
        let panics = PANICS.get();
        world.judge(choice, sent);
        assert_eq!(PANICS.get(), panics, "something has panicked");
        *place = Some(world);
    });
}

/// A worker with all that it needs, and the service behind it.
struct World {
    /// Never dropped: that would be when the thread ends, where a runtime cannot be.
    runtime: ManuallyDrop<LocalRuntime>,
    worker: ManuallyDrop<Rc<Worker>>,
    metrics: Arc<ListenerMetrics>,
    service: Service,
    /// Who holds the good token.
    user_id: String,
    _synchronizer: Synchronizer,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("service");
        let service = Service::at(&socket);
        let config =
            StoreConfig { path: folder.path().join("store"), create_if_missing: true, stale_after: None };
        let store = directory::open(&config).expect("a store");
        let user_id = fill(&*store);
        let (synchronizer, view) = Synchronizer::start(store, Default::default()).expect("a directory");
        let text = configuration(&socket.display().to_string());
        let config = Config::parse(&text, "postern.toml".as_ref()).expect("a configuration");
        let metrics = Metrics::new(1);
        let snapshot = Snapshot::new(&config, &view, &metrics, None, None).expect("a snapshot");
        let shared = Arc::new(Shared::new(snapshot, view, RecentDenials::new(1, 16)));
        let worker = Worker::new(0, shared, Drain::new(1).worker(0)).expect("a worker");
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        Self {
            runtime: ManuallyDrop::new(runtime.expect("a runtime")),
            worker: ManuallyDrop::new(Rc::new(worker)),
            metrics: metrics.listener("main"),
            service,
            user_id,
            _synchronizer: synchronizer,
            _folder: folder,
        }
    }

    fn judge(&mut self, choice: u8, sent: &[u8]) {
        let manner = Manner::of(choice);
        let received = self.exchange(manner, [usize::MAX, 1, 7, 100][usize::from(choice >> 2 & 3)], sent);
        let seen = self.service.take_seen();
        let tokens = count(sent, PERMITTED.as_bytes());
        let is_http2 = sent.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        // A header that HTTP/2's compression has seen once can be said again in a byte.
        let most = if is_http2 && tokens > 0 { usize::MAX } else { tokens };
        assert!(seen.len() <= most, "{tokens} tokens, {seen:?}");
        for request in &seen {
            self.judge_request(request);
        }
        if is_http2 {
            return;
        }
        let got = answers::of_service(&received, &seen);
        let given: Vec<u64> = seen.iter().filter(|seen| seen.is_answered).map(|seen| seen.number).collect();
        match manner {
            Manner::Early => assert!(is_within(&got, &given), "{got:?} of {given:?}"),
            Manner::Whole | Manner::Chunked | Manner::Closing => assert_eq!(got, given, "{seen:?}"),
        }
    }

    /// Sends all of it and says that it is over; what the client has received then.
    fn exchange(&mut self, manner: Manner, piece: usize, sent: &[u8]) -> Vec<u8> {
        let (mut client, accepted) = UnixStream::pair().expect("two sockets");
        client.set_nonblocking(true).expect("a socket");
        accepted.set_nonblocking(true).expect("a socket");
        let (worker, metrics) = (Rc::clone(&*self.worker), Arc::clone(&self.metrics));
        let Self { runtime, service, .. } = self;
        service.behave(manner);
        runtime.block_on(async {
            let stream = ClientStream::Unix(tokio::net::UnixStream::from_std(accepted).expect("a socket"));
            let open = worker.registry.accepted(&Rc::default());
            let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let serving = serve::accepted(worker, 0, stream, peer, open, metrics);
            let serving = tokio::task::spawn_local(serving);
            let (mut rest, mut received) = (sent, Vec::new());
            let mut quiet_turns = 0;
            let started = Instant::now();
            while !serving.is_finished() {
                assert!(started.elapsed() < PATIENCE, "the connection does not end");
                let before = (rest.len(), received.len());
                rest = send_some(&mut client, rest, piece);
                tokio::task::yield_now().await;
                let is_busy = service.turn();
                receive(&mut client, &mut received);
                quiet_turns =
                    if is_busy || before != (rest.len(), received.len()) { 0 } else { quiet_turns + 1 };
                if quiet_turns == QUIET_TURNS {
                    // Earlier, it would be gone, and what it asked for would be broken off. It may have closed already.
                    let _closed = client.shutdown(Shutdown::Write);
                }
            }
            serving.await.expect("the worker's task does not panic");
            // Tasks of streams learn of the end now; and what was sent to the service before it is at hand.
            for _ in 0..8 {
                tokio::task::yield_now().await;
                service.turn();
            }
            receive(&mut client, &mut received);
            received
        })
    }

    /// One meaning, from whom the token names, and not where that one may not go.
    fn judge_request(&self, request: &Seen) {
        let Seen { target, fields, .. } = request;
        let values = |name: &str| -> Vec<&str> {
            let named = fields.iter().filter(|(other, _)| other == name);
            named.map(|(_, value)| value.as_str()).collect()
        };
        assert_eq!(values("x-postern-user-id"), [self.user_id.as_str()], "{request:?}");
        assert_eq!(values("x-postern-project"), ["demo"], "{request:?}");
        assert_eq!(values("x-postern-token-prefix"), ["fuzz-permitted"], "{request:?}");
        assert!(values("authorization").is_empty(), "{request:?}");
        assert!(matches!(values("host")[..], [host] if is_host(host)), "{request:?}");
        for (name, _) in fields {
            let meant = name.replace(['_', '.'], "-");
            assert!(
                !meant.starts_with("x-postern-") || (meant == *name && values(name).len() == 1),
                "{name} in {request:?}"
            );
        }
        let path = lenient(target.split('?').next().unwrap_or_default());
        assert!(path != "/admin" && !path.starts_with("/admin/"), "{target} is read as {path}");
        assert!(target.starts_with('/'), "{request:?}");
    }
}

/// The organization, its projects, and who has which token; returns the id of who has the good one.
fn fill(store: &dyn directory::Store) -> String {
    let now = Timestamp::now();
    operations::ensure_organization(store, ORGANIZATION, "Example", now).expect("an organization");
    for project in ["demo", "other"] {
        operations::ensure_project(store, project, ORGANIZATION, now).expect("a project");
    }
    let new = NewApplicationUser {
        organization_id: ORGANIZATION.to_owned(),
        name: "fuzzing".to_owned(),
        description: String::new(),
        is_super_admin: false,
    };
    let user = operations::create_application_user(store, &new, now).expect("a user").value.user.id;
    let (principal, resource) = (Principal::User(user.clone()), Resource::Project("demo".to_owned()));
    operations::grant(store, &principal, &resource, &["developer".to_owned()], now).expect("a grant");
    let new = NewToken {
        user_id: user.clone(),
        kind: TokenKind::Application,
        description: String::new(),
        created_manually: true,
        max_age_seconds: None,
        extend_when_used: false,
        ip_allowlist: Vec::new(),
        scopes: Vec::new(),
        authentication_method_id: None,
    };
    for (text, prefix) in [(PERMITTED, "fuzz-permitted"), (REVOKED, "fuzz-revoked")] {
        let imported = ImportedToken { prefix: prefix.to_owned(), digest: TokenDigest::of(text.as_bytes()) };
        operations::import_token(store, &new, &imported, now).expect("a token");
    }
    operations::revoke_token(store, "fuzz-revoked", now).expect("a token to revoke");
    user
}

fn configuration(socket: &str) -> String {
    format!(
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
endpoints = ["unix:{socket}"]
[[routes]]
name = "main"
hosts = ["{HOST}"]
project = "demo"
service = "service"
upstream = "service"
[[routes]]
name = "admin"
hosts = ["{HOST}"]
path_prefix = "/admin"
project = "other"
service = "service"
upstream = "service"
[logging.access_log]
output = "off"
"#
    )
}

/// Sends the next piece, if it is taken; what is left.
fn send_some<'a>(client: &mut UnixStream, rest: &'a [u8], piece: usize) -> &'a [u8] {
    if rest.is_empty() {
        return rest;
    }
    match client.write(&rest[..rest.len().min(piece)]) {
        Ok(written) => &rest[written..],
        Err(error) if error.kind() == ErrorKind::WouldBlock => rest,
        // It has closed, and wants no more.
        Err(_) => &[],
    }
}

fn receive(client: &mut UnixStream, received: &mut Vec<u8>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        received.extend_from_slice(&buffer[..length]);
    }
}

fn count(text: &[u8], word: &[u8]) -> usize {
    text.windows(word.len()).filter(|window| *window == word).count()
}

fn is_within(some: &[u64], all: &[u64]) -> bool {
    let mut all = all.iter();
    some.iter().all(|one| all.any(|other| other == one))
}

/// The host of the routes, however it is spelled.
fn is_host(value: &str) -> bool {
    let name = value.split(':').next().unwrap_or_default();
    name.strip_suffix('.').unwrap_or(name).eq_ignore_ascii_case(HOST)
}

/// A path as the most obliging service reads it: decoded, parameters cut off, slashes merged, dots resolved, in small letters.
fn lenient(path: &str) -> String {
    let mut decoded = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, behind @ ..] = rest {
        let digit = |at: usize| behind.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        (decoded, rest) = match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                (decoded, &behind[2..])
            }
            _ => {
                decoded.push(*first);
                (decoded, behind)
            }
        };
    }
    let text = String::from_utf8_lossy(&decoded).replace('\\', "/");
    let mut segments = Vec::new();
    for segment in text.split('/') {
        match segment.split([';', '\0', '#']).next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}
