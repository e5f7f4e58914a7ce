//! Addresses that do not work: found by requests, or by checks; not asked any more, asked again once they work; and what
//! clients are told when none is left.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use postern::app::control_socket;
use support::http2::get;
use support::{Http2Client, Peer, Sidecar, Upstream, until};

/// An upstream that can be switched to closing connections instead of answering.
fn breakable(works: &Arc<AtomicBool>) -> Upstream {
    let works = Arc::clone(works);
    Upstream::start(move |peer| {
        while peer.read_request().is_some() && works.load(Ordering::SeqCst) {
            peer.respond(200, &[], b"fine");
        }
    })
}

/// How many addresses of an endpoint are in this state.
#[track_caller]
fn addresses(sidecar: &Sidecar, upstream: &Upstream, state: &str) -> u64 {
    let endpoint = upstream.address();
    let series = format!(
        "postern_upstream_addresses{{upstream=\"service\",endpoint=\"{endpoint}\",state=\"{state}\"}}"
    );
    sidecar.metric(&series) as u64
}

#[test]
fn where_requests_fail_in_a_row_none_is_sent_until_it_has_rested() {
    let works = Arc::new(AtomicBool::new(false));
    let (broken, fine) = (breakable(&works), Upstream::echo());
    let sidecar = Sidecar::in_front_of(&broken)
        .endpoint(fine.address())
        .one_worker()
        .upstream("[upstreams.ejection]\nconsecutive_failures = 3\nrest_seconds = 2\nreturn_seconds = 0")
        .start();
    let statuses: Vec<_> = (0..20).map(|_| sidecar.request(sidecar.get()).status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 3, "{statuses:?}");
    assert_eq!((broken.requests().len(), fine.requests().len()), (3, 17));
    assert_eq!(addresses(&sidecar, &broken, "ejected"), 1);
    assert_eq!(addresses(&sidecar, &fine, "healthy"), 1);
    assert!(sidecar.output().contains("an upstream's address is ejected"), "{}", sidecar.output());

    works.store(true, Ordering::SeqCst);
    until("its rest to be over", || addresses(&sidecar, &broken, "healthy") == 1);
    until("that to be told", || sidecar.output().contains("has rested and returns"));
    for _ in 0..10 {
        assert_eq!(sidecar.request(sidecar.get()).status, 200);
    }
    assert_eq!(broken.requests().len(), 8, "its half of ten");
}

#[test]
fn what_has_rested_gets_its_traffic_back_slowly() {
    let works = Arc::new(AtomicBool::new(false));
    let (broken, fine) = (breakable(&works), Upstream::echo());
    let sidecar = Sidecar::in_front_of(&broken)
        .endpoint(fine.address())
        .one_worker()
        .upstream("[upstreams.ejection]\nconsecutive_failures = 1\nrest_seconds = 1\nreturn_seconds = 3600")
        .start();
    until("it to be ejected", || {
        sidecar.request(sidecar.get());
        addresses(&sidecar, &broken, "ejected") == 1
    });
    works.store(true, Ordering::SeqCst);
    until("its rest to be over", || addresses(&sidecar, &broken, "healthy") == 1);
    let before = broken.requests().len();
    let mut client = sidecar.connect();
    for _ in 0..400 {
        assert_eq!(client.request(sidecar.get()).status, 200);
    }
    let share = broken.requests().len() - before;
    assert!((1..=40).contains(&share), "about one in forty: {share} of 400");
}

#[test]
fn statuses_of_services_that_do_not_work_count_and_others_do_not() {
    let status = Arc::new(AtomicU16::new(500));
    let answered = Arc::clone(&status);
    let failing = Upstream::start(move |peer| {
        while peer.read_request().is_some() {
            peer.respond(answered.load(Ordering::SeqCst), &[], b"");
        }
    });
    let fine = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&failing)
        .endpoint(fine.address())
        .one_worker()
        .upstream("[upstreams.ejection]\nconsecutive_failures = 2")
        .start();
    for _ in 0..10 {
        sidecar.request(sidecar.get());
    }
    assert_eq!((failing.requests().len(), addresses(&sidecar, &failing, "ejected")), (5, 0));
    status.store(503, Ordering::SeqCst);
    for _ in 0..10 {
        sidecar.request(sidecar.get());
    }
    assert_eq!((failing.requests().len(), addresses(&sidecar, &failing, "ejected")), (7, 1));
}

#[test]
fn no_more_rest_at_once_than_is_configured() {
    let works = Arc::new(AtomicBool::new(false));
    let upstreams = [(); 3].map(|()| breakable(&works));
    let builder = Sidecar::in_front_of(&upstreams[0])
        .endpoint(upstreams[1].address())
        .endpoint(upstreams[2].address())
        .upstream("[upstreams.ejection]\nconsecutive_failures = 1\nmost_percent = 67");
    let sidecar = builder.start();
    for _ in 0..20 {
        sidecar.request(sidecar.get()).assert_error(502, "upstream_failed");
    }
    let ejected: u64 = upstreams.iter().map(|upstream| addresses(&sidecar, upstream, "ejected")).sum();
    assert_eq!(ejected, 2);
}

#[test]
fn where_all_rest_all_are_used() {
    let works = Arc::new(AtomicBool::new(false));
    let only = breakable(&works);
    let sidecar = Sidecar::in_front_of(&only)
        .upstream("[upstreams.ejection]\nconsecutive_failures = 1\nrest_seconds = 3600\nlongest_rest_seconds = 3600\nmost_percent = 100")
        .start();
    sidecar.request(sidecar.get()).assert_error(502, "upstream_failed");
    assert_eq!(addresses(&sidecar, &only, "ejected"), 1);
    works.store(true, Ordering::SeqCst);
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
    assert_eq!(addresses(&sidecar, &only, "ejected"), 1, "one success ends no rest");
}

/// An upstream whose first failure ejects it, and which fails only when its client does.
fn blamed_for_nothing(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> (Upstream, Sidecar) {
    let upstream = Upstream::start(script);
    let sidecar = Sidecar::in_front_of(&upstream)
        .upstream(
            "response_header_seconds = 1\n[upstreams.ejection]\nconsecutive_failures = 1\nmost_percent = 100",
        )
        .start();
    (upstream, sidecar)
}

#[test]
fn a_clients_broken_body_does_not_speak_against_an_address() {
    let (upstream, sidecar) = blamed_for_nothing(|peer| while peer.read_request().is_some() {});
    // Breaks off.
    let mut client = sidecar.connect();
    client.send(sidecar.head("POST /", "Content-Length: 100\r\n") + "only this");
    until("some of it to arrive", || upstream.received_text().contains("only this"));
    drop(client);
    upstream.wait_closed(0);
    // Breaks HTTP's rules.
    let mut client = sidecar.connect();
    client.send(sidecar.head("POST /", "Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\nnonsense\r\n");
    assert_eq!(client.response().status, 400);
    // Does not come on.
    let mut client = sidecar.connect();
    client.send(sidecar.head("POST /", "Content-Length: 100\r\n") + "only this");
    client.response().assert_error(408, "body_timeout");
    sidecar.access_log(3);
    assert_eq!(addresses(&sidecar, &upstream, "healthy"), 1);
    // The upstream's own failure does.
    sidecar.request(sidecar.get()).assert_error(504, "upstream_timeout");
    assert_eq!(addresses(&sidecar, &upstream, "ejected"), 1);
}

#[test]
fn a_client_that_leaves_amid_a_response_does_not_speak_against_an_address() {
    let (upstream, sidecar) = blamed_for_nothing(|peer| {
        while let Some(request) = peer.read_request() {
            let rest: &[u8] = if request.target == "/whole" { b"456789" } else { b"" };
            peer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123");
            if rest.is_empty() && request.target == "/held" {
                peer.read_to_end();
            }
            if !peer.write(rest) || rest.is_empty() {
                break;
            }
        }
    });
    let mut client = sidecar.connect();
    client.send(sidecar.head("GET /held", ""));
    until("the request to arrive", || upstream.requests().len() == 1);
    drop(client);
    upstream.wait_closed(0);
    assert_eq!(sidecar.request(sidecar.head("GET /whole", "")).status, 200);
    sidecar.access_log(2);
    assert_eq!(addresses(&sidecar, &upstream, "healthy"), 1);
    // A response that the upstream breaks off does.
    let mut client = sidecar.connect();
    client.send(sidecar.head("GET /broken", ""));
    assert!(client.try_response().is_err());
    until("it to be ejected", || addresses(&sidecar, &upstream, "ejected") == 1);
}

/// Answers `/health` with what it is told, everything else with 200.
fn checked(status: &Arc<AtomicU16>) -> Upstream {
    let status = Arc::clone(status);
    Upstream::start(move |peer| {
        while let Some(request) = peer.read_request() {
            let is_check = request.target.starts_with("/health");
            let status = if is_check { status.load(Ordering::SeqCst) } else { 200 };
            if !peer.respond(status, &[], b"") {
                break;
            }
        }
    })
}

const QUICK_CHECKS: &str = "[upstreams.health]\nkind = \"http\"\npath = \"/health?full=1\"\ninterval_seconds = 1\n\
                            timeout_seconds = 1\nhealthy_threshold = 1\nunhealthy_threshold = 1";

#[test]
fn what_checks_find_unhealthy_gets_no_requests() {
    let status = Arc::new(AtomicU16::new(204));
    let (one, two) = (checked(&status), Upstream::echo());
    let sidecar = Sidecar::in_front_of(&one).endpoint(two.address()).upstream(QUICK_CHECKS).start();
    until("a check", || !one.requests().is_empty());
    let check = one.requests().remove(0);
    assert_eq!((check.method.as_str(), check.target.as_str()), ("GET", "/health?full=1"));
    assert_eq!(check.header("host"), Some(one.address().to_string().as_str()));
    assert_eq!(check.names(), ["host", "user-agent"]);

    status.store(500, Ordering::SeqCst);
    until("it to be unhealthy", || addresses(&sidecar, &one, "unhealthy") == 1);
    until("that to be told", || sidecar.output().contains("an upstream's address is unhealthy"));
    let requests = || one.requests().into_iter().filter(|request| request.target == "/").count();
    let before = requests();
    for _ in 0..10 {
        assert_eq!(sidecar.request(sidecar.get()).status, 200);
    }
    assert_eq!(requests(), before);

    status.store(200, Ordering::SeqCst);
    until("it to be asked again", || {
        sidecar.request(sidecar.get());
        requests() > before
    });
    let failed = format!(
        "postern_upstream_checks_total{{endpoint=\"{}\",outcome=\"failed\",upstream=\"service\"}}",
        one.address()
    );
    assert!(sidecar.metric(&failed) > 0.5);
}

#[test]
fn with_none_healthy_clients_are_told_to_come_back() {
    let status = Arc::new(AtomicU16::new(404));
    let only = checked(&status);
    let sidecar = Sidecar::in_front_of(&only).upstream(QUICK_CHECKS).start();
    until("it to be unhealthy", || addresses(&sidecar, &only, "unhealthy") == 1);
    let response = sidecar.request(sidecar.get());
    response.assert_error(503, "upstream_unhealthy");
    assert_eq!(response.header("retry-after"), Some("5"));
    let mut client = Http2Client::connect(sidecar.address());
    client.request(get(&sidecar, "/")).assert_error(503, "upstream_unhealthy");
    let refused = "postern_upstream_refusals_total{upstream=\"service\",reason=\"unhealthy\"}";
    assert!((sidecar.metric(refused) - 2.0).abs() < 0.5);
    assert_eq!(sidecar.access_log(2)[0]["ending"], "upstream_unhealthy");
    status.store(200, Ordering::SeqCst);
    until("it to be served again", || sidecar.request(sidecar.get()).status == 200);
}

/// Whatever answers a check like this is unhealthy.
#[track_caller]
fn unhealthy(script: impl Fn(&mut Peer) + Send + Sync + 'static) {
    let upstream = Upstream::start(script);
    let sidecar = Sidecar::in_front_of(&upstream).upstream(QUICK_CHECKS).start();
    until("it to be unhealthy", || addresses(&sidecar, &upstream, "unhealthy") == 1);
}

#[test]
fn checks_are_not_impressed() {
    unhealthy(|peer| {
        peer.read_request();
    });
    unhealthy(|peer| peer.read_to_end());
    unhealthy(|peer| {
        peer.read_request();
        peer.write(b"SSH-2.0-OpenSSH_9.2\r\n");
    });
    unhealthy(|peer| {
        peer.read_request();
        while peer.write(&[b'x'; 4096]) {}
    });
    unhealthy(|peer| {
        peer.read_request();
        while peer.write(b"HTTP/1.1 102 Processing\r\n\r\n") {}
    });
}

#[test]
fn a_service_that_takes_connections_passes_a_tcp_check_and_one_that_does_not_fails() {
    let upstream = Upstream::echo();
    let down = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sidecar = Sidecar::in_front_of(&upstream)
        .endpoint(down)
        .upstream("[upstreams.health]\nkind = \"tcp\"\ninterval_seconds = 1\ntimeout_seconds = 1")
        .start();
    let series =
        format!("postern_upstream_addresses{{upstream=\"service\",endpoint=\"{down}\",state=\"unhealthy\"}}");
    until("the one to be unhealthy", || sidecar.metric(&series) > 0.5);
    assert_eq!(addresses(&sidecar, &upstream, "healthy"), 1);
}

#[test]
fn what_is_known_of_an_upstream_outlives_a_reload_that_does_not_change_it() {
    let works = Arc::new(AtomicBool::new(false));
    let only = breakable(&works);
    let sidecar = Sidecar::in_front_of(&only)
        .upstream("[upstreams.ejection]\nconsecutive_failures = 1\nrest_seconds = 3600\nlongest_rest_seconds = 3600\nmost_percent = 100")
        .start();
    sidecar.request(sidecar.get()).assert_error(502, "upstream_failed");
    assert_eq!(addresses(&sidecar, &only, "ejected"), 1);
    let config = fs::read_to_string(sidecar.config_file()).unwrap();
    let reload = |text: &str| {
        fs::write(sidecar.config_file(), text).unwrap();
        let report = control_socket::request_reload(&sidecar.folder().join("store.db")).unwrap();
        assert_eq!(report["applied"], true, "{report}");
    };
    reload(&config.replace("hosts = [\"open.test\"]", "hosts = [\"other.test\"]"));
    assert_eq!(addresses(&sidecar, &only, "ejected"), 1);
    reload(&config.replace("rest_seconds = 3600\nlongest", "rest_seconds = 3599\nlongest"));
    assert_eq!(addresses(&sidecar, &only, "healthy"), 1, "another upstream, of which nothing is known");
}

#[test]
fn what_a_reload_takes_away_is_checked_no_more() {
    let status = Arc::new(AtomicU16::new(200));
    let (stays, goes) = (checked(&status), checked(&status));
    let other =
        format!("[[upstreams]]\nname = \"other\"\nendpoints = [\"{}\"]\n{QUICK_CHECKS}\n", goes.address());
    let sidecar = Sidecar::in_front_of(&stays).upstream(QUICK_CHECKS).more(&other).start();
    until("both to be checked", || !stays.requests().is_empty() && !goes.requests().is_empty());
    let config = fs::read_to_string(sidecar.config_file()).unwrap();
    fs::write(sidecar.config_file(), config.replace(&other, "")).unwrap();
    let report = control_socket::request_reload(&sidecar.folder().join("store.db")).unwrap();
    assert_eq!(report["applied"], true, "{report}");
    // A check that was being made may still arrive.
    let (before, stayed) = (goes.connections(), stays.connections());
    until("the other to be checked on", || stays.connections() >= stayed + 3);
    assert!(goes.connections() <= before + 1, "{} after {before}", goes.connections());
}
