//! Thousands of slow clients at once: heads, bodies and handshakes that do not come on, answers that are not read. Each is told or
//! closed on at its deadline, what it held is given back, and others go on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;

use crate::alone;
use crate::others::{Bound, Measure, Noticed, Others};
use crate::service::{KEPT, Service};
use crate::support::certificates::Authority;
use crate::support::{PATIENCE, Sidecar, until};

/// How long after its deadline the last has to be gone: the sidecar looks four times a second, and the system probes a closed window ever more
/// seldom.
const LEEWAY: Duration = Duration::from_secs(20);
/// Between two bytes of who trickles.
const TRICKLE: Duration = Duration::from_millis(500);
/// Of an answer, what the system keeps for who does not read it.
const UNREAD_BYTES: u32 = 4 * 1024;

/// Descriptors that others' connections and the sidecar's own business may come to have meanwhile.
const MOST_DESCRIPTORS: usize = 8;
/// What the allocator may keep after a second round beyond what it kept after the first: a crowd of a thousand has about 100 MiB.
const MOST_KEPT: u64 = 32 * 1024 * 1024;

/// How somebody is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A head that trickles.
    Head,
    /// A body that stops.
    Body,
    /// An answer that is not read.
    Reading,
    /// A TLS handshake that stops.
    Handshake,
}

const KINDS: [Kind; 4] = [Kind::Head, Kind::Body, Kind::Reading, Kind::Handshake];

/// Clients of each kind, on a runtime of their own.
struct Crowd {
    clients: std::thread::JoinHandle<Vec<(Kind, String)>>,
    /// Who does not read is told that it is over: the system does not tell them.
    over: Arc<Notify>,
    /// Whether all have connected.
    is_complete: Arc<AtomicBool>,
}

impl Crowd {
    fn start(sidecar: &Sidecar, of_each_kind: usize) -> Self {
        let addresses: Vec<_> = KINDS.iter().map(|kind| kind.listener(sidecar)).collect();
        let (body, read) =
            (sidecar.head("POST /silent", "Content-Length: 1000\r\n"), sidecar.head("GET /pour", ""));
        let over = Arc::<Notify>::default();
        let told = Arc::clone(&over);
        let is_complete = Arc::<AtomicBool>::default();
        let connected = Arc::clone(&is_complete);
        let clients = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut clients = Vec::new();
                for number in 0..of_each_kind * KINDS.len() {
                    let kind = KINDS[number % KINDS.len()];
                    let stream = connect(addresses[number % KINDS.len()], kind).await;
                    let begin = match kind {
                        Kind::Head => "GET / HTTP/1.1\r\nHost: service.test\r\nX-Slow: ".to_owned(),
                        Kind::Body => format!("{body}half of"),
                        Kind::Reading => read.clone(),
                        Kind::Handshake => "\x16\x03\x01".to_owned(),
                    };
                    let told = Arc::clone(&told);
                    clients.push((kind, tokio::spawn(be_slow(kind, stream, begin, told))));
                }
                connected.store(true, Ordering::SeqCst);
                let mut ends = Vec::new();
                for (kind, client) in clients {
                    ends.push((kind, client.await.unwrap()));
                }
                ends
            })
        });
        Self { clients, over, is_complete }
    }

    /// What each was told before the end.
    fn ends(self) -> Vec<(Kind, String)> {
        self.over.notify_waiters();
        self.clients.join().unwrap()
    }
}

impl Kind {
    fn listener(self, sidecar: &Sidecar) -> SocketAddr {
        sidecar.listeners[usize::from(self == Self::Handshake)]
    }
}

async fn connect(address: SocketAddr, kind: Kind) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    if kind == Kind::Reading {
        socket.set_recv_buffer_size(UNREAD_BYTES).unwrap();
    }
    let connected = tokio::time::timeout(PATIENCE, socket.connect(address)).await;
    connected.expect("the sidecar accepts in time").expect("the sidecar accepts")
}

/// What came until the end.
async fn be_slow(kind: Kind, mut stream: TcpStream, begin: String, over: Arc<Notify>) -> String {
    let is_over = over.notified();
    stream.write_all(begin.as_bytes()).await.unwrap();
    if kind == Kind::Reading {
        is_over.await;
        return String::new();
    }
    let mut read = Vec::new();
    loop {
        tokio::select! {
            // An end that is an error is one too: what was still on its way to the sidecar was thrown away there.
            came = stream.read_buf(&mut read) => if !came.is_ok_and(|length| length > 0) {
                return String::from_utf8_lossy(&read).into_owned();
            },
            () = tokio::time::sleep(TRICKLE), if kind == Kind::Head => {
                let _closed_already = stream.write_all(b"x").await;
            }
        }
    }
}

/// As many descriptors as this process may have: each client needs one here, and up to two in the sidecar, which has this limit
/// from here.
fn raise_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

fn descriptors(sidecar: &Sidecar) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", sidecar.id())).unwrap().count()
}

fn connections(sidecar: &Sidecar) -> f64 {
    let of = |listener| sidecar.metric(&format!("postern_connections{{listener=\"{listener}\"}}"));
    of("main") + of("tls")
}

/// A sidecar whose every deadline is this.
fn start(service: &Service, deadline: Duration) -> Sidecar {
    let certificate = Authority::new().certificate(&["service.test"]);
    let seconds = deadline.as_secs();
    Sidecar::with_endpoint(service.address)
        .one_worker()
        .more_listeners(
            "[[listeners]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\n[listeners.tls]\n\
             [[listeners.tls.certificates]]\ncertificate_file = \"a.crt\"\nkey_file = \"a.key\"",
        )
        .file("a.crt", &certificate.pem)
        .file("a.key", &certificate.key_pem)
        .upstream(&format!("response_header_seconds = {seconds}"))
        .timeouts(&format!("header_read_seconds = {seconds}\nidle_seconds = {seconds}"))
        .limits("connections = 20000")
        .start()
}

/// A crowd of so many of each kind comes, waits, and is gone soon after the deadline.
#[track_caller]
fn round(
    sidecar: &Sidecar,
    service: &Service,
    (others, elsewhere): (&Others, &Others),
    (of_each_kind, deadline): (usize, Duration),
    measure: Measure,
) -> Noticed {
    let (before, memory) = (descriptors(sidecar), sidecar.resident_bytes());
    let started = Instant::now();
    let crowd = Crowd::start(sidecar, of_each_kind);
    let all = (of_each_kind * KINDS.len()) as f64;
    until("all to have connected", || crowd.is_complete.load(Ordering::SeqCst));
    let held = descriptors(sidecar);
    let pairs = others.pairs(elsewhere, measure, || connections(sidecar) >= all / 10.0);
    let most = sidecar.resident_bytes();
    assert!(!pairs.is_empty(), "the crowd is gone before anything is measured");
    until("all to be closed on", || connections(sidecar) < 0.5);
    let gone = started.elapsed();
    let ends = crowd.ends();
    until("descriptors to be given back", || descriptors(sidecar) <= before + MOST_DESCRIPTORS);
    until("the service to be left alone", || service.open() <= KEPT);
    let noticed = Noticed::of(&pairs);
    println!(
        "{all} slow clients: {} descriptors, {:.1} KiB of memory each, gone after {gone:.1?}; others {noticed:?}",
        held - before,
        most.saturating_sub(memory) as f64 / 1024.0 / all,
    );
    for (kind, end) in ends {
        match kind {
            Kind::Head | Kind::Body => assert!(end.starts_with("HTTP/1.1 408 "), "{kind:?}: {end:?}"),
            Kind::Reading | Kind::Handshake => assert_eq!(end, "", "{kind:?}"),
        }
    }
    assert!(gone < deadline + LEEWAY, "{gone:?}");
    noticed
}

#[track_caller]
fn slow_clients(crowd: (usize, Duration), measure: Measure, bound: Bound) {
    let _alone = alone();
    raise_limit();
    let service = Service::start();
    let sidecar = start(&service, crowd.1);
    let beside = start(&service, crowd.1);
    let (others, elsewhere) = (Others::of(&sidecar), Others::of(&beside));
    let mut kept = Vec::new();
    for _ in 0..2 {
        let noticed = round(&sidecar, &service, (&others, &elsewhere), crowd, measure);
        bound.check("slow clients", noticed);
        kept.push(sidecar.resident_bytes());
    }
    assert!(kept[1] < kept[0] + MOST_KEPT, "memory after each round: {kept:?}");
}

#[test]
fn a_thousand_slow_clients() {
    // On a busy machine it takes seconds until all have connected.
    let crowd = (250, Duration::from_secs(6));
    slow_clients(crowd, Measure { pairs: 5, requests: 50, percent: 90 }, Bound::Served);
}

#[test]
#[ignore = "the long form: 9,900 connections, and strict about 99th percentiles; alone on an idle machine"]
fn ten_thousand_slow_clients_held_to_the_strict_figure() {
    // Where 20,000 descriptors are the most that there may be, a sidecar takes no more than 9,968 connections.
    let crowd = (2_475, Duration::from_secs(20));
    slow_clients(crowd, Measure { pairs: 5, requests: 500, percent: 99 }, Bound::Ratio(2.0));
}
