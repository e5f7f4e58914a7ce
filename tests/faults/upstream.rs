//! Upstreams that reset, hang below HTTP, come and go, or vanish without a word; and name servers that say nothing.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use super::support::certificates::Authority;
use super::support::client::Broken;
use super::support::upstream::find;
use super::support::{Sidecar, Upstream, until};
use super::{may_mount, recovers, says, serves};

/// Reads each request's head, sends this, and resets the connection.
fn resetting(after: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
            while find(&read, b"\r\n\r\n").is_none() {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(length) => read.extend_from_slice(&buffer[..length]),
                }
            }
            // Who asked may have gone.
            let _gone = stream.write_all(after);
            // With this, closing is a reset.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    });
    address
}

#[test]
fn a_reset_before_the_answer_is_502_and_within_it_breaks_off() {
    let sidecar = Sidecar::with_endpoint(resetting(b"")).start();
    sidecar.request(sidecar.get()).assert_error(502, "upstream_failed");
    says(&sidecar, "an upstream fails");
    assert_eq!(sidecar.access_log(1)[0]["ending"], "upstream_failed");

    let begun = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this";
    let sidecar = Sidecar::with_endpoint(resetting(begun)).start();
    let mut client = sidecar.connect();
    client.send(sidecar.get());
    match client.try_response() {
        // A reset may overtake what was sent before it.
        Err(Broken::InBody(_) | Broken::Closed) => {}
        Ok(response) => response.assert_error(502, "upstream_failed"),
        other => panic!("it must look broken off, not {other:?}"),
    }
}

#[test]
fn who_does_not_let_a_connection_come_about_costs_connect_seconds_and_no_more() {
    // A queue for connections that is full: the system drops what more come, as a firewall would.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let _waiting: Vec<_> = (0..4)
        .map(|_| {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            let _under_way = client.connect(&address.into());
            client
        })
        .collect();
    // It takes connections and says nothing: TLS does not come about.
    let silent = Upstream::start(|peer| peer.read_to_end());
    let tls = "connect_seconds = 1\n[upstreams.tls]\nca_file = \"ca.pem\"";
    let authority = Authority::new();
    for sidecar in [
        Sidecar::with_endpoint(address).upstream("connect_seconds = 1").start(),
        Sidecar::in_front_of(&silent).upstream(tls).file("ca.pem", &authority.pem()).start(),
    ] {
        let asked = Instant::now();
        sidecar.request(sidecar.get()).assert_error(502, "upstream_unreachable");
        assert!(asked.elapsed() >= Duration::from_secs(1) && asked.elapsed() < Duration::from_secs(10));
        says(&sidecar, "within connect_seconds");
        assert_eq!(sidecar.access_log(1)[0]["ending"], "upstream_unreachable");
    }
}

#[test]
fn one_that_comes_and_goes_costs_no_request_beside_one_that_works() {
    let works = Arc::new(AtomicBool::new(true));
    let answers = Arc::clone(&works);
    let flapping = Upstream::start(move |peer| {
        while peer.read_request().is_some() && answers.load(Ordering::SeqCst) {
            peer.respond(200, &[], b"fine");
        }
    });
    let steady = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&flapping)
        .endpoint(steady.address())
        .one_worker()
        .upstream(
            "[upstreams.retries]\nbudget_percent = 100\nleast_per_second = 1000\n[upstreams.ejection]\n\
             consecutive_failures = 1\nrest_seconds = 1\nlongest_rest_seconds = 1\nreturn_seconds = 0",
        )
        .start();
    let endpoint = flapping.address();
    let series = |state: &str| {
        format!(
            "postern_upstream_addresses{{upstream=\"service\",endpoint=\"{endpoint}\",state=\"{state}\"}}"
        )
    };
    let (ejected, healthy) = (series("ejected"), series("healthy"));
    for _ in 0..2 {
        works.store(false, Ordering::SeqCst);
        until("it to be ejected", || {
            serves(&sidecar, 2);
            sidecar.metric(&ejected) > 0.5
        });
        works.store(true, Ordering::SeqCst);
        recovers("its rest to be over", || {
            serves(&sidecar, 2);
            sidecar.metric(&healthy) > 0.5
        });
        let before = flapping.requests().len();
        recovers("it to be asked again", || {
            serves(&sidecar, 2);
            flapping.requests().len() > before
        });
    }
    says(&sidecar, "has rested and returns");
    until("both times to be told", || {
        sidecar.output().matches("an upstream's address is ejected").count() == 2
    });
}

/// Whether the system asks for a sign of life on each of this process's connections to an address, by what it says of their timers.
fn are_kept_alive(process: u32, address: SocketAddr) -> bool {
    let SocketAddr::V4(address) = address else { panic!("{address}") };
    let remote = format!("{:08X}:{:04X}", u32::from(*address.ip()).swap_bytes(), address.port());
    let table = std::fs::read_to_string(format!("/proc/{process}/net/tcp")).unwrap();
    let connections: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields[2] == remote && fields[3] == "01")
        .collect();
    // 02: the timer that runs is that of keep-alive.
    !connections.is_empty() && connections.iter().all(|fields| fields[5].starts_with("02:"))
}

#[test]
fn a_service_that_vanishes_without_a_word_is_noticed_by_the_system() {
    let upstream = Upstream::start(|peer| {
        if peer.read_request().is_some() {
            peer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
            peer.read_to_end();
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut client = sidecar.connect();
    client.send(sidecar.get());
    assert_eq!(client.read_head().unwrap().status, 200);
    // The stream may go on for days without a byte: nothing but this ends it if its service is gone.
    until("the system to watch over the connection", || are_kept_alive(sidecar.id(), upstream.address()));
}

#[test]
fn a_name_server_that_says_nothing_holds_nobody_up_and_is_asked_again() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (server, answers) = (socket.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
    let answering = Arc::clone(&answers);
    thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            if answering.load(Ordering::SeqCst) {
                let _gone = socket.send_to(&local_address(&buffer[..length]), peer);
            }
        }
    });
    let upstream = Upstream::echo();
    let sidecar = Sidecar::with_endpoint(format!("service.example:{}", upstream.address().port()))
        .upstream(&format!("resolvers = [\"{server}\"]"))
        .start();
    let asked = Instant::now();
    sidecar.request(sidecar.get()).assert_error(502, "upstream_unreachable");
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    says(&sidecar, "cannot be looked up");
    answers.store(true, Ordering::SeqCst);
    recovers("its address to be known", || sidecar.request(sidecar.get()).status == 200);
    says(&sidecar, "an upstream's name can be looked up again");
    let endpoint = format!("service.example:{}", upstream.address().port());
    for outcome in ["failed", "found"] {
        let series = format!(
            "postern_upstream_resolutions_total{{endpoint=\"{endpoint}\",outcome=\"{outcome}\",upstream=\"service\"}}"
        );
        assert!(sidecar.metric(&series) > 0.5, "{outcome}");
    }
}

/// 127.0.0.1 for a question about IPv4, nothing for others (RFC 1035).
fn local_address(question: &[u8]) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let is_for_ipv4 = question[end - 4..end] == [0, 1, 0, 1];
    let head = [0x85, 0x80, 0, 1, 0, u8::from(is_for_ipv4), 0, 0, 0, 0];
    let record: &[u8] =
        if is_for_ipv4 { &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1] } else { &[] };
    [&question[..2], &head, &question[12..end], record].concat()
}

#[test]
fn a_system_that_cannot_look_names_up_takes_no_more_than_a_few_threads_for_it() {
    if !may_mount() {
        return;
    }
    // Bound, and never read: the system asks, and waits for seconds each time.
    let Ok(_silent) = UdpSocket::bind("127.0.0.77:53") else {
        println!("skipped: port 53 of 127.0.0.77 is not to be had");
        return;
    };
    let script = "echo nameserver 127.0.0.77 > resolv.conf && mount --bind resolv.conf /etc/resolv.conf && exec \"$@\"";
    let sidecar = Sidecar::with_endpoint("service.example:80")
        .one_worker()
        .upstream("connect_seconds = 1")
        .wrapped_in(&["unshare", "-m", "sh", "-c", script, "sh"])
        .start();
    let threads = || std::fs::read_dir(format!("/proc/{}/task", sidecar.id())).unwrap().count();
    let before = threads();
    let mut clients: Vec<_> = (0..120).map(|_| sidecar.connect()).collect();
    clients.iter_mut().for_each(|client| client.send(sidecar.get()));
    for client in &mut clients {
        client.response().assert_error(502, "upstream_unreachable");
    }
    assert!(threads() <= before + 40, "{} threads more", threads() - before);
    let asked = Instant::now();
    sidecar.request(sidecar.get()).assert_error(502, "upstream_unreachable");
    assert!(
        asked.elapsed() < Duration::from_millis(900),
        "beyond a few, nobody waits: {:?}",
        asked.elapsed()
    );
}
