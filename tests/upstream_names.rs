//! Endpoints by name: all addresses are used, changes are followed, and what a broken or hostile name server says changes
//! nothing. Against a real dnsmasq whose answers change, and a server that says what none should.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use support::peers::{self, Process};
use support::{Peer, Sidecar, SidecarBuilder, Upstream, eventually, until};

/// The name that all of this is about.
const NAME: &str = "service.internal";

/// A running dnsmasq.
struct Dnsmasq {
    process: Process,
    folder: tempfile::TempDir,
    address: SocketAddr,
}

impl Dnsmasq {
    /// One that knows these addresses of [`NAME`], for a second each time; `None` where it is not installed.
    #[track_caller]
    fn start(addresses: &[&str]) -> Option<Self> {
        let program = peers::program("dnsmasq")?;
        let folder = tempfile::tempdir().unwrap();
        write_hosts(folder.path(), addresses);
        // Another process may take the port before dnsmasq does: then it is tried with another one.
        for _ in 0..10 {
            let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let child = Command::new(&program)
                .args([
                    "--keep-in-foreground",
                    "--conf-file=/dev/null",
                    "--no-resolv",
                    "--no-hosts",
                    "--pid-file=",
                ])
                .args(["--listen-address=127.0.0.1", "--bind-interfaces", "--local-ttl=1", "--user="])
                .arg(format!("--port={}", address.port()))
                .arg(format!("--addn-hosts={}", folder.path().join("hosts").display()))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut process = Process(child);
            let answers = eventually("dnsmasq to answer", || match process.0.try_wait().unwrap() {
                Some(_ended) => Some(false),
                None => answers(address).then_some(true),
            });
            if answers {
                return Some(Self { process, folder, address });
            }
        }
        panic!("dnsmasq does not start");
    }

    /// It knows these from now on.
    fn change(&self, addresses: &[&str]) {
        write_hosts(self.folder.path(), addresses);
        let told = Command::new("sh").args(["-c", &format!("kill -HUP {}", self.process.0.id())]).status();
        assert!(told.unwrap().success());
    }

    fn resolves(&self, port: u16) -> SidecarBuilder {
        resolved_by(self.address, port, "")
    }
}

fn write_hosts(folder: &std::path::Path, addresses: &[&str]) {
    let lines: String = addresses.iter().map(|address| format!("{address} {NAME}\n")).collect();
    let new = folder.join("hosts.new");
    fs::write(&new, lines).unwrap();
    fs::rename(new, folder.join("hosts")).unwrap();
}

/// Whether somebody answers a question for [`NAME`] there.
fn answers(address: SocketAddr) -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let question = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x07service\x08internal\0\0\x01\0\x01";
    socket.send_to(question, address).is_ok() && socket.recv(&mut [0; 512]).is_ok()
}

/// A sidecar in front of [`NAME`], as this server knows it.
fn resolved_by(server: SocketAddr, port: u16, upstream: &str) -> SidecarBuilder {
    Sidecar::with_endpoint(format!("{NAME}:{port}"))
        .one_worker()
        .upstream(&format!("resolvers = [\"{server}\"]\n{upstream}"))
}

/// Upstreams at these addresses of the loopback network, at one port.
#[track_caller]
fn at_one_port<const N: usize>(
    addresses: [&str; N],
    script: impl Fn(&mut Peer) + Clone + Send + Sync + 'static,
) -> ([Upstream; N], u16) {
    eventually("a port that is free at all addresses", || {
        let first = Upstream::start_at(&format!("{}:0", addresses[0]), script.clone())?;
        let port = first.address().port();
        let others = addresses[1..].iter();
        let others = others.map(|address| Upstream::start_at(&format!("{address}:{port}"), script.clone()));
        let all: Option<Vec<_>> = std::iter::once(Some(first)).chain(others).collect();
        Some((all?.try_into().ok()?, port))
    })
}

fn answering(peer: &mut Peer) {
    while peer.read_request().is_some() {
        peer.respond(200, &[], b"fine");
    }
}

fn resolutions(sidecar: &Sidecar, port: u16, outcome: &str) -> usize {
    let series = format!(
        "postern_upstream_resolutions_total{{endpoint=\"{NAME}:{port}\",outcome=\"{outcome}\",upstream=\"service\"}}"
    );
    sidecar.find_metric(&series).unwrap_or_default() as usize
}

#[test]
fn all_addresses_are_used_and_changes_are_followed() {
    let release = Arc::new(AtomicBool::new(false));
    let held = Arc::clone(&release);
    let script = move |peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha");
            while request.target == "/slow" && !held.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            peer.write(b"lf");
        }
    };
    let ([one, two, three], port) = at_one_port(["127.0.0.1", "127.0.0.2", "127.0.0.3"], script);
    let Some(dnsmasq) = Dnsmasq::start(&["127.0.0.1", "127.0.0.2"]) else { return };
    let sidecar = dnsmasq.resolves(port).start();
    for _ in 0..10 {
        assert_eq!(sidecar.request(sidecar.get()).status, 200);
    }
    assert_eq!([&one, &two, &three].map(|upstream| upstream.requests().len()), [5, 5, 0]);

    // One request is under way at each when the first address goes.
    let mut slow: Vec<_> = (0..2).map(|_| sidecar.connect()).collect();
    for (number, client) in slow.iter_mut().enumerate() {
        client.send(sidecar.head("GET /slow", ""));
        until("it to arrive", || one.requests().len() + two.requests().len() == 11 + number);
    }
    dnsmasq.change(&["127.0.0.2", "127.0.0.3"]);
    until("the new address to be used", || {
        assert_eq!(sidecar.request(sidecar.get()).status, 200);
        !three.requests().is_empty()
    });
    let before = one.requests().len();
    for _ in 0..10 {
        assert_eq!(sidecar.request(sidecar.get()).status, 200);
    }
    assert_eq!(one.requests().len(), before, "the old address gets no more");
    release.store(true, Ordering::SeqCst);
    for client in &mut slow {
        assert_eq!(client.response().text(), "half", "what was under way comes to its end");
    }
    (0..one.connections()).for_each(|connection| one.wait_closed(connection));
    let addresses = format!(
        "postern_upstream_addresses{{upstream=\"service\",endpoint=\"{NAME}:{port}\",state=\"healthy\"}}"
    );
    assert!((sidecar.metric(&addresses) - 2.0).abs() < 0.5);
    assert!(sidecar.output().contains("has other addresses"), "{}", sidecar.output());
}

#[test]
fn both_families_are_used_as_long_as_both_work() {
    let Some(_has_ipv6) = Upstream::start_at("[::1]:0", answering) else { return };
    let ([four, six], port) = at_one_port(["127.0.0.1", "[::1]"], answering);
    let Some(dnsmasq) = Dnsmasq::start(&["127.0.0.1", "::1"]) else { return };
    let sidecar = dnsmasq.resolves(port).start();
    let ask = |times: usize| (0..times).for_each(|_| assert_eq!(sidecar.request(sidecar.get()).status, 200));
    ask(10);
    assert_eq!((four.requests().len(), six.requests().len()), (5, 5));
    // One of them takes no more connections: after the next look-up nobody is sent there any more.
    drop(six);
    let used = format!(
        "postern_upstream_addresses{{upstream=\"service\",endpoint=\"{NAME}:{port}\",state=\"healthy\"}}"
    );
    until("it to be left out", || sidecar.metric(&used) < 1.5);
    // Each worker takes up the change when it next looks; until then it has a connection there that still works.
    until("the workers to go to the other alone", || {
        let before = four.requests().len();
        ask(10);
        four.requests().len() == before + 10
    });
    let unreachable = format!(
        "postern_upstream_requests_total{{upstream=\"service\",endpoint=\"{NAME}:{port}\",outcome=\"unreachable\"}}"
    );
    let in_vain = sidecar.metric(&unreachable);
    ask(10);
    assert!((sidecar.metric(&unreachable) - in_vain).abs() < 0.5, "nobody is asked in vain");
}

#[test]
fn with_the_name_server_gone_the_last_addresses_stay() {
    let ([one, two], port) = at_one_port(["127.0.0.1", "127.0.0.2"], answering);
    let Some(dnsmasq) = Dnsmasq::start(&["127.0.0.1", "127.0.0.2"]) else { return };
    let sidecar = dnsmasq.resolves(port).start();
    assert!(resolutions(&sidecar, port, "found") > 0);
    drop(dnsmasq);
    until("a look-up to fail", || resolutions(&sidecar, port, "failed") > 0);
    until("that to be told", || sidecar.output().contains("its last addresses stay in use"));
    for _ in 0..10 {
        assert_eq!(sidecar.request(sidecar.get()).status, 200);
    }
    assert_eq!((one.requests().len(), two.requests().len()), (5, 5));
}

#[test]
fn a_name_without_addresses_is_unreachable_until_it_has_some() {
    let ([one], port) = at_one_port(["127.0.0.1"], answering);
    let Some(dnsmasq) = Dnsmasq::start(&[]) else { return };
    let sidecar = dnsmasq.resolves(port).start();
    sidecar.request(sidecar.get()).assert_error(502, "upstream_unreachable");
    dnsmasq.change(&["127.0.0.1"]);
    until("it to be served", || sidecar.request(sidecar.get()).status == 200);
    assert_eq!(one.requests().len(), 1);
}

/// An answer to a question that is none.
type Lie = fn(&[u8]) -> Vec<u8>;

/// A name server that says something true once, to each question for an address of IPv4, and then these, in turn.
fn liar(lies: Vec<Lie>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let told = AtomicUsize::new(0);
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let question = &buffer[..length];
            let is_for_ipv4 = question.windows(4).any(|window| window == [0, 1, 0, 1]);
            let answer = match (is_for_ipv4, told.load(Ordering::SeqCst)) {
                (false, _) => none(question),
                (true, 0) => with_address(question, [127, 0, 0, 1]),
                (true, count) => lies[count % lies.len()](question),
            };
            told.fetch_add(usize::from(is_for_ipv4), Ordering::SeqCst);
            // Who asked may have gone.
            let _gone = socket.send_to(&answer, peer);
        }
    });
    address
}

/// The question, as an answer with this code and so many records.
fn answer_to(question: &[u8], code: u8, records: u8) -> Vec<u8> {
    // Up to the end of the question: what is behind it is an option.
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    [&question[..2], &[0x85, 0x80 | code, 0, 1, 0, records, 0, 0, 0, 0], &question[12..end]].concat()
}

fn none(question: &[u8]) -> Vec<u8> {
    answer_to(question, 0, 0)
}

/// With a TTL of 0.
fn with_address(question: &[u8], address: [u8; 4]) -> Vec<u8> {
    let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4];
    [answer_to(question, 0, 1).as_slice(), &record, &address].concat()
}

#[test]
fn lies_of_a_name_server_change_nothing() {
    let ([one], port) = at_one_port(["127.0.0.1"], answering);
    let lies: Vec<Lie> = vec![
        |question| answer_to(question, 3, 0),
        |question| answer_to(question, 2, 0),
        none,
        |question| with_address(question, [0, 0, 0, 0]),
        |question| with_address(question, [224, 0, 0, 1]),
        |question| {
            let mut cut_off = with_address(question, [127, 0, 0, 9]);
            cut_off.truncate(cut_off.len() - 6);
            cut_off
        },
    ];
    let count = lies.len();
    let sidecar = resolved_by(liar(lies), port, "").start();
    let started = std::time::Instant::now();
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
    until("a look-up to fail", || resolutions(&sidecar, port, "failed") > 0);
    // A TTL of 0 does not make a flood of questions.
    let look_ups = || resolutions(&sidecar, port, "failed") + resolutions(&sidecar, port, "found");
    assert!(look_ups() as u64 <= started.elapsed().as_secs() + 3, "{} look-ups", look_ups());
    assert!(count > 0 && sidecar.request(sidecar.get()).status == 200);
    assert_eq!(one.requests().len(), 2);
}

#[test]
fn the_hosts_file_is_honoured_and_either_family_will_do() {
    let four = Upstream::echo();
    let sidecar = Sidecar::with_endpoint(format!("localhost:{}", four.address().port())).start();
    for _ in 0..10 {
        assert_eq!(sidecar.request(sidecar.get()).status, 200);
    }
    let series = format!(
        "postern_upstream_requests_total{{upstream=\"service\",endpoint=\"localhost:{}\",outcome=\"unreachable\"}}",
        four.address().port()
    );
    assert!(sidecar.metric(&series) < 0.5, "nobody is asked in vain");
    let Some(six) = Upstream::start_at("[::1]:0", answering) else { return };
    let sidecar = Sidecar::with_endpoint(format!("localhost:{}", six.address().port())).start();
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
}
