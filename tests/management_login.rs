//! Logging in under attack: guessing is refused before it costs anything, nobody is locked out by strangers, and nothing
//! tells which accounts exist.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

#[path = "people/support.rs"]
mod people;
mod support;

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use people::{Answer, PASSWORD, Person, made, with_api};
use postern::directory::model::Timestamp;
use postern::directory::operations::{self, NewSession};
use postern::login::session::SessionLifetime;
use postern::policy::facts::UserState;
use secrecy::ExposeSecret as _;
use serde_json::json;
use support::directory::now;
use support::{Sidecar, Upstream, until};

const HASHES: &str = "postern_password_hashes_total";

fn logins(sidecar: &Sidecar, outcome: &str) -> f64 {
    sidecar.metric(&format!("postern_logins_total{{outcome=\"{outcome}\"}}"))
}

/// Wrong logins one after another on one connection; returns how many were refused unseen.
fn guess(stranger: &Person, count: usize, email: impl Fn(usize) -> String) -> u64 {
    let mut stream = stranger.connect();
    let mut refused = 0;
    let mut pending = Vec::new();
    for n in 0..count {
        let body = json!({ "email": email(n), "password": "guess" });
        stream
            .write_all(stranger.request("POST", "/v1/userauth", Some(&body), "keep-alive").as_bytes())
            .unwrap();
        let answer = read_answer(&mut stream, &mut pending);
        match answer.status {
            429 => refused += 1,
            status => assert_eq!(status, 401, "{}", answer.body),
        }
    }
    refused
}

fn read_answer(stream: &mut std::net::TcpStream, pending: &mut Vec<u8>) -> Answer {
    loop {
        let text = String::from_utf8_lossy(pending).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_lowercase().lines().find_map(|line| {
                line.strip_prefix("content-length: ").map(|length| length.parse::<usize>().unwrap())
            });
            let length = length.expect("an answer has a length");
            if body.len() >= length {
                let whole = head.len() + 4 + length;
                pending.drain(..whole);
                return Answer::parse(&text[..whole]);
            }
        }
        let mut more = [0; 4096];
        let read = stream.read(&mut more).unwrap();
        assert!(read > 0, "the connection ended");
        pending.extend_from_slice(&more[..read]);
    }
}

#[test]
fn ten_thousand_wrong_logins_cost_little_and_lock_nobody_out() {
    const GUESSES: usize = 10_000;
    const STRANGERS: usize = 4;
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    made(&sidecar, "jane@example.com", &["--super-admin"]);
    let jane = Person::stranger(&sidecar).from([127, 0, 0, 1]);
    for _ in 0..8 {
        jane.log_in("jane@example.com", PASSWORD, None).ok();
    }
    let (memory, hashes) = (sidecar.resident_bytes(), sidecar.metric(HASHES));
    let (over, logged_in, proxied) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let started = Instant::now();
    let refused: u64 = thread::scope(|scope| {
        let strangers: Vec<_> = (0..STRANGERS)
            .map(|n| {
                // Three guess at Jane's password from elsewhere; one tries others' from where Jane is.
                let address = if n == 0 { [127, 0, 0, 1] } else { [127, 0, 9, n as u8] };
                let stranger = Person::stranger(&sidecar).from(address);
                scope.spawn(move || {
                    guess(&stranger, GUESSES / STRANGERS, |guess| match n {
                        0 => format!("{guess}@example.com"),
                        _ => "jane@example.com".to_owned(),
                    })
                })
            })
            .collect();
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                jane.log_in("jane@example.com", PASSWORD, None).ok();
                logged_in.fetch_add(1, Ordering::Relaxed);
            }
        });
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(sidecar.request(sidecar.get()).status, 200);
                proxied.fetch_add(1, Ordering::Relaxed);
            }
        });
        let refused = strangers.into_iter().map(|stranger| stranger.join().unwrap()).sum();
        over.store(true, Ordering::Relaxed);
        refused
    });
    let elapsed = started.elapsed();
    let logged_in = logged_in.into_inner();
    let guessed = sidecar.metric(HASHES) - hashes - logged_in as f64;
    let grown = sidecar.resident_bytes().saturating_sub(memory) / 1024;
    println!(
        "{GUESSES} guesses in {elapsed:?}: {refused} refused unseen, {guessed} hashed; meanwhile {logged_in} right logins, \
         {} requests through the proxy; memory grew by {grown} KiB",
        proxied.into_inner()
    );
    assert!(guessed < 100.0, "{guessed} guesses were hashed");
    assert_eq!(refused as f64, logins(&sidecar, "throttled"));
    assert!(refused as usize > GUESSES - 100);
    assert!(logged_in > 0);
    assert!(grown < 32 * 1024, "memory grew by {grown} KiB");
    // Also from where she has never been.
    jane.from([127, 0, 77, 1]).log_in("jane@example.com", PASSWORD, None).ok();
}

#[test]
fn too_many_at_once_wait_in_a_queue_with_an_end() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    made(&sidecar, "jane@example.com", &[]);
    let jane = Person::stranger(&sidecar);
    jane.logged_in("jane@example.com", PASSWORD);
    let answers: Vec<Answer> = thread::scope(|scope| {
        let strangers: Vec<_> = (0..200_u8)
            .map(|n| {
                let stranger = jane.from([127, 0, 5, n + 1]);
                scope.spawn(move || stranger.log_in(&format!("{n}@example.com"), "guess", None))
            })
            .collect();
        for _ in 0..3 {
            jane.logged_in("jane@example.com", PASSWORD);
        }
        strangers.into_iter().map(|stranger| stranger.join().unwrap()).collect()
    });
    for answer in &answers {
        match answer.status {
            401 => {}
            429 => assert_eq!(answer.header("retry-after"), Some("1"), "{}", answer.body),
            _ => panic!("{} {}", answer.status, answer.body),
        }
    }
    // Nothing was found out about who was not looked at: they may come back at once.
    until("the queue to be empty", || {
        jane.from([127, 0, 6, 1]).log_in("late@example.com", "guess", None).status == 401
    });
}

#[test]
fn nothing_tells_which_accounts_exist() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    made(&sidecar, "jane@example.com", &[]);
    made(&sidecar, "passwordless@example.com", &["--without-password"]);
    let off = made(&sidecar, "off@example.com", &[]);
    operations::set_user_state(&*sidecar.directory.store, &off, UserState::Deactivated, now()).unwrap();
    let program = sidecar.directory.application_user();
    let program = sidecar.directory.store.read(|records| records.user(&program)).unwrap().unwrap().email;
    let mut answers = Vec::new();
    let cases = [
        "jane@example.com",
        "passwordless@example.com",
        "off@example.com",
        "nobody@example.com",
        &program,
        "",
        "x",
    ];
    for (n, email) in cases.into_iter().enumerate() {
        let before = sidecar.metric(HASHES);
        let stranger = Person::stranger(&sidecar).from([127, 0, 3, n as u8 + 1]);
        let password = if email == "jane@example.com" { "wrong" } else { PASSWORD };
        let answer = stranger.log_in(email, password, None).refused(401, "invalid_credentials");
        assert!((sidecar.metric(HASHES) - before - 1.0).abs() < 0.001, "{email}: one hash, whoever it is");
        let head: Vec<_> = answer
            .head
            .lines()
            .filter(|line| !line.starts_with("x-postern-request-id") && !line.starts_with("date"))
            .map(str::to_owned)
            .collect();
        answers.push((head, answer.body));
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    // And throttling starts alike.
    for (n, email) in ["jane@example.com", "nobody@example.com"].into_iter().enumerate() {
        let stranger = Person::stranger(&sidecar).from([127, 0, 4, n as u8 + 1]);
        for _ in 0..5 {
            stranger.log_in(email, "wrong", None).refused(401, "invalid_credentials");
        }
        let before = sidecar.metric(HASHES);
        let refused = stranger.log_in(email, "wrong", None).refused(429, "too_many_requests");
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert!((sidecar.metric(HASHES) - before).abs() < 0.001, "nothing is hashed for it");
    }
    // How somebody with an address logs in is no secret, whether there is somebody or not.
    let anybody = Person::stranger(&sidecar);
    for email in ["jane@example.com", "nobody@example.com"] {
        let options = anybody.post("/v1/userauth/login_options", &json!({ "email": email })).ok();
        assert_eq!(options.text("action"), "password");
    }
}

#[test]
fn a_stolen_token_is_not_the_password() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    made(&sidecar, "jane@example.com", &[]);
    let jane = Person::stranger(&sidecar).logged_in("jane@example.com", PASSWORD);
    let thief = jane.from([127, 0, 8, 1]);
    let guess = json!({ "password": "guess", "new_password": "thief's own Password 1" });
    for _ in 0..5 {
        thief.put("/v1/me/password", &guess).refused(401, "invalid_credentials");
    }
    let before = sidecar.metric(HASHES);
    thief.put("/v1/me/password", &guess).refused(429, "too_many_requests");
    assert!((sidecar.metric(HASHES) - before).abs() < 0.001);
    jane.logged_in("jane@example.com", PASSWORD);
}

#[test]
fn a_session_ends_when_it_is_not_used_and_in_any_case_some_time_later() {
    let upstream = Upstream::echo();
    let lifetime = "session_idle_seconds = 600\nsession_absolute_seconds = 3600\n";
    let sidecar = Sidecar::in_front_of(&upstream).admin(&format!("{}{lifetime}", people::CHEAP)).start();
    let jane_id = made(&sidecar, "jane@example.com", &[]);
    let anybody = Person::stranger(&sidecar);
    let jane = anybody.logged_in("jane@example.com", PASSWORD);
    let session = jane.get("/v1/access_token").ok().body["tokens"][0].clone();
    assert_eq!((&session["max_age_seconds"], &session["extend_when_used"]), (&600.into(), &true.into()));

    // Sessions that began a while ago, as the store has them.
    let store = &*sidecar.directory.store;
    let methods = store.read(|records| records.authentication_methods(&jane_id)).unwrap();
    let begun = |seconds_ago: u32| {
        let then = Timestamp(now().0 - seconds_ago);
        let terms = SessionLifetime { idle_seconds: 3_000, absolute_seconds: 3_600 }.beginning(then);
        let session =
            NewSession { user_id: jane_id.clone(), authentication_method_id: methods[0].id.clone(), terms };
        let made = operations::create_session(store, &session, then).unwrap().value;
        anybody.with(made.fresh.full.expose_secret())
    };
    let (idle, old, fresh) = (begun(3_100), begun(3_700), begun(2_900));
    until("the sessions to be known", || fresh.get("/v1/me").status == 200);
    for ended in [&idle, &old] {
        ended.get("/v1/me").refused(401, "token_expired");
    }
    // Where it was used from is known to the next process too, which throttles nobody there.
    until("the use to be in the store", || {
        let known = store.read(|records| records.session_addresses()).unwrap();
        known.contains(&("jane@example.com".to_owned(), [127, 0, 0, 1].into()))
    });
    // Used just now, it would live another 3,000 seconds, but for its end.
    let tokens = fresh.get("/v1/access_token").ok().body["tokens"].clone();
    let current = tokens.as_array().unwrap().iter().find(|token| token["currently_active"] == true).unwrap();
    let expiry: jiff::Timestamp = current["expiry_time"].as_str().unwrap().parse().unwrap();
    let left = expiry.as_second() - i64::from(now().0);
    assert!((600..=700).contains(&left), "{left} seconds are left");
}

#[test]
fn what_is_sent_to_log_in_is_checked_and_never_repeated() {
    let upstream = Upstream::echo();
    let sidecar = with_api(&upstream).start();
    let anybody = Person::stranger(&sidecar);
    for (body, field) in [
        (json!({}), "body"),
        (json!({ "email": "jane@example.com" }), "body"),
        (json!({ "email": 1, "password": "x" }), "email"),
        (json!({ "email": "a@b.c", "password": ["x"] }), "password"),
        (json!({ "email": "a@b.c", "password": "x", "otp": 5 }), "otp"),
        (json!({ "email": "a@b.c", "password": "x", "remember": true }), "remember"),
    ] {
        let refused = anybody.post("/v1/userauth", &body).refused(400, "bad_request");
        assert!(refused.text("message").contains(field), "{}", refused.body);
    }
    let stranger = "canary-3f9a\r\nX: \u{1b}[31m";
    anybody.log_in(stranger, "canary-password", None).refused(401, "invalid_credentials");
    let long = "x".repeat(500_000);
    anybody.from([127, 0, 2, 1]).log_in(&long, &long, None).refused(401, "invalid_credentials");
    assert!(!sidecar.output().contains("canary"), "what was typed is in the log");
}
