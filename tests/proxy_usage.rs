//! Usage and revocation through the store: what another process writes there is in force at once, and what the
//! sidecar has seen is there for others to read.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; figures are shown")]

mod support;

use std::time::{Duration, Instant};

use postern::directory::model::{Timestamp, Usage};
use postern::token::TokenKind;
use support::directory::{Directory, now};
use support::{Http2Client, Sidecar, Upstream, eventually, until};

fn usage(directory: &Directory, prefix: &str) -> Option<Usage> {
    directory.stored(prefix).usage
}

#[test]
fn the_last_use_reaches_the_store() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let prefix = &sidecar.permitted.prefix;
    assert_eq!(usage(&sidecar.directory, prefix), None);
    let before = now();
    assert_eq!(sidecar.request(sidecar.head("GET /", "User-Agent: reader/1.0\r\n")).status, 200);
    let stored = eventually("usage to be flushed", || usage(&sidecar.directory, prefix));
    assert!(stored.last_used_time >= before && stored.last_used_time <= now(), "{stored:?}");
    assert_eq!(stored.last_ip, Some("127.0.0.1".parse().unwrap()));
    assert_eq!(stored.last_user_agent.as_deref(), Some("reader/1.0"));

    let response = sidecar.request(sidecar.head("GET /", "User-Agent: writer/2.0\r\n"));
    assert_eq!(response.status, 200);
    until("the second use to be flushed", || {
        usage(&sidecar.directory, prefix)
            .is_some_and(|usage| usage.last_user_agent.as_deref() == Some("writer/2.0"))
    });
}

#[test]
fn a_refused_request_is_no_use() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let user = sidecar.directory.application_user();
    let ungranted = sidecar.directory.token(&user);
    sidecar.wait_for(&ungranted);
    sidecar.request(sidecar.head_with(&ungranted.token, "GET /", "")).assert_error(403, "permission_denied");
    assert_eq!(sidecar.request(sidecar.get()).status, 200);
    sidecar.stop();
    assert_eq!(usage(&sidecar.directory, &ungranted.prefix), None);
    assert!(usage(&sidecar.directory, &sidecar.permitted.prefix).is_some());
}

#[test]
fn every_request_that_is_let_in_is_counted_once() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    // More than have a slot of their own in a worker's table, so that some share one.
    let credentials: Vec<_> = (0..1_500).map(|_| sidecar.directory.permitted()).collect();
    let ungranted = sidecar.directory.token(&sidecar.directory.application_user());
    sidecar.wait_for(&ungranted);
    let mut clients: Vec<_> = (0..4).map(|_| sidecar.connect()).collect();
    for (number, credential) in credentials.iter().enumerate() {
        let client = &mut clients[number % 4];
        for _ in 0..1 + number % 3 {
            assert_eq!(client.request(sidecar.head_with(&credential.token, "GET /", "")).status, 200);
        }
        assert_eq!(client.request(sidecar.get()).status, 200);
        assert_eq!(client.request(sidecar.head_with(&ungranted.token, "GET /", "")).status, 403);
    }
    drop(clients);
    sidecar.stop();
    let count = |prefix: &str| usage(&sidecar.directory, prefix).map(|usage| usage.request_count);
    for (number, credential) in credentials.iter().enumerate() {
        assert_eq!(count(&credential.prefix), Some(1 + number as u64 % 3), "{number}");
    }
    assert_eq!(count(&sidecar.permitted.prefix), Some(1_500));
    assert_eq!(count(&ungranted.prefix), None);
}

#[test]
fn a_stop_flushes_what_is_left() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let credentials: Vec<_> = (0..50).map(|_| sidecar.directory.permitted()).collect();
    sidecar.wait_for(credentials.last().unwrap());
    let mut client = sidecar.connect();
    for credential in &credentials {
        assert_eq!(client.request(sidecar.head_with(&credential.token, "GET /", "")).status, 200);
    }
    drop(client);
    sidecar.stop();
    for credential in &credentials {
        assert!(usage(&sidecar.directory, &credential.prefix).is_some(), "{}", credential.prefix);
    }
}

#[test]
fn a_revocation_by_another_process_is_in_force_at_once() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let mut slowest = Duration::ZERO;
    for round in 0..5 {
        let credential = sidecar.directory.permitted();
        sidecar.wait_for(&credential);
        let head = sidecar.head_with(&credential.token, "GET /", "");
        let mut over_1 = sidecar.connect();
        assert_eq!(over_1.request(&head).status, 200);
        sidecar.directory.revoke(&credential.prefix);
        let revoked = Instant::now();
        loop {
            let response = over_1.request(&head);
            if response.status == 401 {
                response.assert_error(401, "token_revoked");
                break;
            }
            assert!(revoked.elapsed() < Duration::from_secs(1), "round {round}: still let in after a second");
        }
        slowest = slowest.max(revoked.elapsed());
        // From then on it is refused on every worker, connection and protocol.
        for _ in 0..10 {
            assert_eq!(sidecar.request(&head).status, 401);
        }
        let request = support::http2::request_with(&credential.token, "GET", "/", support::http2::empty());
        assert_eq!(Http2Client::connect(sidecar.address()).request(request).status, 401);
    }
    println!("revocation through the store: in force after {slowest:?} at most");
}

#[test]
fn a_grant_by_another_process_is_in_force_at_once() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let user = sidecar.directory.application_user();
    let credential = sidecar.directory.token(&user);
    sidecar.wait_for(&credential);
    let head = sidecar.head_with(&credential.token, "GET /", "");
    assert_eq!(sidecar.request(&head).status, 403);
    sidecar.directory.grant(&user, &["read_only"]);
    let granted = Instant::now();
    until("the grant to be in force", || sidecar.request(&head).status == 200);
    println!("grant through the store: in force after {:?}", granted.elapsed());
    assert!(granted.elapsed() < Duration::from_secs(1), "{:?}", granted.elapsed());
}

#[test]
fn a_token_ends_by_the_clock() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let user = sidecar.directory.application_user();
    sidecar.directory.grant(&user, &["admin"]);
    // Of its 600 seconds, three are left.
    let made = Timestamp(now().0 - 597);
    let ending = |token: &mut postern::directory::operations::NewToken| token.max_age_seconds = Some(600);
    let credential = sidecar.directory.token_made_at(made, &user, TokenKind::Application, ending);
    sidecar.wait_for(&credential);
    let head = sidecar.head_with(&credential.token, "GET /", "");
    assert_eq!(sidecar.request(&head).status, 200);
    let refused = eventually("the token to end", || {
        let response = sidecar.request(&head);
        (response.status != 200).then_some(response)
    });
    refused.assert_error(401, "token_expired");
    assert!(now() >= Timestamp(made.0 + 600), "not before its time");
}

#[test]
fn a_token_that_is_used_lives_on() {
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let user = sidecar.directory.application_user();
    sidecar.directory.grant(&user, &["admin"]);
    let made = Timestamp(now().0 - 598);
    let extending = |token: &mut postern::directory::operations::NewToken| {
        token.max_age_seconds = Some(600);
        token.extend_when_used = true;
    };
    let credential = sidecar.directory.token_made_at(made, &user, TokenKind::Application, extending);
    sidecar.wait_for(&credential);
    let head = sidecar.head_with(&credential.token, "GET /", "");
    assert_eq!(sidecar.request(&head).status, 200);
    until("its first end to pass", || now() > Timestamp(made.0 + 601));
    assert_eq!(sidecar.request(&head).status, 200, "its use has extended it");
}
