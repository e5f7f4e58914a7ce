//! Limits of rate and number, exactly, over all workers; and that failures from one network make nobody wait who holds a token.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use support::http2::{empty, request_with};
use support::sidecar::{HOST, OPEN_HOST};
use support::{Client, Http2Client, Response, Sidecar, Upstream, until};

/// An hour is longer than any test: nothing comes back meanwhile.
const TEN: &str = "[routes.token_rate_limit]\nrequests = 10\nper_seconds = 3600";

#[track_caller]
fn assert_limited(response: &Response, code: &str) {
    response.assert_error(429, code);
    let wait: u64 = response.header("retry-after").expect("a time to wait").parse().unwrap();
    assert!(wait >= 1, "{wait}");
    assert_eq!(response.values("cache-control"), ["no-store"]);
    assert_eq!(response.values("connection"), [""; 0], "the connection stays good");
}

#[test]
fn a_token_may_send_so_many_and_no_other_pays_for_it() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).route(TEN).start();
    let other = sidecar.directory.permitted();
    sidecar.wait_for(&other);
    for left in (0..10).rev() {
        let response = sidecar.request(sidecar.get());
        assert_eq!(response.status, 200);
        assert_eq!(response.values("ratelimit-policy"), ["\"token\";q=10;w=3600"]);
        assert!(response.header("ratelimit").unwrap().starts_with(&format!("\"token\";r={left};t=")));
    }
    let mut client = sidecar.connect();
    for _ in 0..3 {
        let response = client.request(sidecar.get());
        assert_limited(&response, "token_rate_limited");
        assert!(response.header("ratelimit").unwrap().starts_with("\"token\";r=0;t="));
        let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
        assert!((300..=360).contains(&wait), "one comes back every six minutes, not in {wait} s");
    }
    assert_eq!(sidecar.request(sidecar.head_with(&other.token, "GET /", "")).status, 200);
    // Strangers and those who may not are told so, and use nothing up.
    sidecar.request(sidecar.head_with("wrong-wrong-wrong", "GET /", "")).assert_error(401, "invalid_token");
    assert_eq!(upstream.requests().len(), 11);
    until("the metric to count them", || {
        sidecar.find_metric("postern_limited_total{route=\"main\",limit=\"token_rate_limited\"}") == Some(3.0)
    });
    // How many lines come before them depends on how often the sidecar was asked whether it knows the other token.
    until("the log to have them", || {
        let lines = sidecar.access_log(1);
        let mut limited = lines.iter().filter(|line| line["ending"] == "token_rate_limited");
        limited.clone().count() == 3
            && limited.all(|line| line["status"] == 429 && line["reason"] == "token_rate_limited")
    });
}

#[test]
fn many_at_once_get_exactly_what_there_is() {
    let upstream = Upstream::echo();
    let limits = "[routes.token_rate_limit]\nrequests = 60\nper_seconds = 3600\nburst = 60\n\
                  [routes.rate_limit]\nrequests = 80\nper_seconds = 3600";
    let sidecar = Sidecar::in_front_of(&upstream).route(limits).start();
    let other = sidecar.directory.permitted();
    sidecar.wait_for(&other);
    let passed = [AtomicUsize::new(0), AtomicUsize::new(0)];
    thread::scope(|scope| {
        for number in 0..8 {
            let (passed, sidecar) = (&passed[number % 2], &sidecar);
            let token = if number % 2 == 0 { &sidecar.permitted.token } else { &other.token };
            scope.spawn(move || {
                let mut client = sidecar.connect();
                for _ in 0..30 {
                    match client.request(sidecar.head_with(token, "GET /", "")).status {
                        200 => drop(passed.fetch_add(1, Ordering::SeqCst)),
                        status => assert_eq!(status, 429),
                    }
                }
            });
        }
    });
    let [first, second] = passed.map(AtomicUsize::into_inner);
    assert_eq!(first + second, 80, "{first} and {second}");
    assert!(first <= 60 && second <= 60, "{first} and {second}");
    assert_eq!(upstream.requests().len(), 80);
}

#[test]
fn so_many_run_at_the_same_time_and_who_goes_away_makes_room() {
    let (tell, told) = mpsc::channel::<()>();
    let told = parking_lot::Mutex::new(told);
    let upstream = Upstream::start(move |peer| {
        while let Some(request) = peer.read_request() {
            if request.target == "/waits" {
                // An error says that the test is over.
                let _over = told.lock().recv();
            }
            if !peer.respond(200, &[], b"done") {
                return;
            }
        }
    });
    let sidecar = Sidecar::in_front_of(&upstream)
        .route("[routes.rate_limit]\nconcurrent_requests = 2\n[routes.token_rate_limit]\nconcurrent_requests = 1")
        .start();
    let others = [sidecar.directory.permitted(), sidecar.directory.permitted()];
    sidecar.wait_for(&others[1]);
    let begin = |token: &str, number: usize| -> Client {
        let mut client = sidecar.connect();
        client.send(sidecar.head_with(token, "GET /waits", ""));
        until("the service to have the request", || upstream.requests().len() == number);
        client
    };
    let ask = |token: &str| sidecar.request(sidecar.head_with(token, "GET /", ""));
    let mut first = begin(&sidecar.permitted.token, 1);
    assert_limited(&ask(&sidecar.permitted.token), "token_concurrency_limited");
    let second = begin(&others[0].token, 2);
    let response = ask(&others[1].token);
    assert_limited(&response, "route_concurrency_limited");
    assert_eq!(response.values("ratelimit"), [""; 0], "there is no rate");
    drop(second);
    until("the place of who went away", || ask(&others[1].token).status == 200);
    tell.send(()).unwrap();
    tell.send(()).unwrap();
    assert_eq!(first.response().text(), "done");
    until("the place of who was answered", || ask(&sidecar.permitted.token).status == 200);
    drop(tell);
}

#[test]
fn an_open_route_has_limits_too() {
    let upstream = Upstream::echo();
    // The lines come behind those of the open route.
    let sidecar =
        Sidecar::in_front_of(&upstream).more("[routes.rate_limit]\nrequests = 2\nper_seconds = 3600").start();
    let ask = || sidecar.request(format!("GET / HTTP/1.1\r\nHost: {OPEN_HOST}\r\n\r\n"));
    assert_eq!([ask().status, ask().status], [200, 200]);
    assert_limited(&ask(), "route_rate_limited");
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn grpc_clients_read_that_a_resource_is_exhausted() {
    let upstream = Upstream::echo();
    let one = TEN.replace("10", "1");
    let sidecar = Sidecar::in_front_of(&upstream).route(&one).start();
    let mut client = Http2Client::connect(sidecar.address());
    let mut call = || {
        let mut request = request_with(&sidecar.permitted.token, "POST", "/s/M", empty());
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        client.request(request)
    };
    assert_eq!(call().header("grpc-status"), None, "the echo is no gRPC service");
    let limited = call();
    assert_eq!((limited.status, limited.header("grpc-status")), (200, Some("8")));
    assert!(limited.header("grpc-message").unwrap().starts_with("token_rate_limited: "));
}

#[test]
fn a_reload_goes_on_counting() {
    let upstream = Upstream::echo();
    let throttle = "[authentication_throttle]\nfailures = 3\nper_seconds = 3600";
    let sidecar = Sidecar::in_front_of(&upstream).route(TEN).more(throttle).start();
    for _ in 0..10 {
        assert_eq!(sidecar.request(sidecar.get()).status, 200);
    }
    let stranger = sidecar.head_with("wrong-wrong-wrong", "GET /", "");
    for _ in 0..3 {
        sidecar.request(&stranger).assert_error(401, "invalid_token");
    }
    let text = fs::read_to_string(sidecar.config_file()).unwrap();
    fs::write(sidecar.config_file(), text.replace("requests = 10\n", "requests = 9\n")).unwrap();
    sidecar.signal("HUP");
    until("the reload", || {
        sidecar.find_metric("postern_config_reloads_total{outcome=\"applied\"}").unwrap_or(0.0) > 0.5
    });
    assert_limited(&sidecar.request(sidecar.get()), "token_rate_limited");
    assert_limited(&sidecar.request(&stranger), "authentication_throttled");
}

/// A sidecar that believes where clients say they come from.
fn throttled(upstream: &Upstream, failures: u32) -> Sidecar {
    Sidecar::in_front_of(upstream)
        .listener("trusted_proxies = [\"127.0.0.0/8\"]")
        .more(&format!("[authentication_throttle]\nfailures = {failures}\nper_seconds = 3600"))
        .start()
}

fn from(sidecar: &Sidecar, address: &str, token: &str) -> Response {
    let lines = format!("X-Forwarded-For: {address}\r\n");
    sidecar.request(sidecar.head_with(token, "GET /", &lines))
}

#[test]
fn a_network_that_keeps_failing_is_told_to_wait_and_others_are_not() {
    let upstream = Upstream::echo();
    let sidecar = throttled(&upstream, 5);
    let never_made = "psta_AAAAAAAAAAAABBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBCCCCCC";
    for number in 0..5 {
        let token = if number % 2 == 0 { "unknown-unknown-unknown" } else { never_made };
        from(&sidecar, "2001:db8:1:2::1", token).assert_error(401, "invalid_token");
    }
    // Unknown and malformed are told the same, as ever.
    let unknown = from(&sidecar, "2001:db8:1:2:3::4", "unknown-unknown-unknown");
    let malformed = from(&sidecar, "2001:db8:1:2:3::4", never_made);
    for response in [&unknown, &malformed] {
        assert_limited(response, "authentication_throttled");
        assert_eq!(response.values("www-authenticate"), [""; 0]);
    }
    assert_eq!(unknown.body, malformed.body);
    from(&sidecar, "2001:db8:1:3::1", "unknown-unknown-unknown").assert_error(401, "invalid_token");
    from(&sidecar, "192.0.2.1", "unknown-unknown-unknown").assert_error(401, "invalid_token");
    let nothing = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 2001:db8:1:2::1\r\n\r\n");
    sidecar.request(&nothing).assert_error(401, "missing_credentials");
    let elsewhere = "GET / HTTP/1.1\r\nHost: nowhere.test\r\nX-Forwarded-For: 2001:db8:1:2::1\r\n\
         Authorization: Bearer unknown-unknown-unknown\r\n\r\n";
    assert_limited(&sidecar.request(elsewhere), "authentication_throttled");
    upstream.assert_untouched();
}

#[test]
fn who_holds_a_token_gets_in_beside_a_flood_from_the_same_address() {
    let upstream = Upstream::echo();
    let sidecar = throttled(&upstream, 20);
    let revoked = sidecar.directory.permitted();
    sidecar.directory.revoke(&revoked.prefix);
    let address = "198.51.100.7";
    let (limited, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for flood in 0..4 {
            let (limited, refused, sidecar) = (&limited, &refused, &sidecar);
            scope.spawn(move || {
                let mut client = sidecar.connect();
                for number in 0..200 {
                    let token = format!("made-up-token-{flood}-{number}");
                    let lines = format!("X-Forwarded-For: {address}\r\n");
                    match client.request(sidecar.head_with(&token, "GET /", &lines)).status {
                        401 => refused.fetch_add(1, Ordering::SeqCst),
                        429 => limited.fetch_add(1, Ordering::SeqCst),
                        status => panic!("{status}"),
                    };
                }
            });
        }
        for _ in 0..50 {
            assert_eq!(from(&sidecar, address, &sidecar.permitted.token).status, 200);
        }
    });
    assert_eq!((refused.into_inner(), limited.into_inner()), (20, 780));
    // A token that was never seen before, and one whose holder has to learn that it was revoked.
    let new = sidecar.directory.permitted();
    sidecar.wait_for(&new);
    assert_eq!(from(&sidecar, address, &new.token).status, 200);
    from(&sidecar, address, &revoked.token).assert_error(401, "token_revoked");
    assert_limited(&from(&sidecar, address, "made-up-token-again"), "authentication_throttled");
    until("the metric to count them", || {
        let series = "postern_limited_total{route=\"main\",limit=\"authentication_throttled\"}";
        sidecar.find_metric(series) == Some(781.0)
    });
}
