//! `kill -9` at random moments under load, while tokens are made and revoked: what was acknowledged holds, and usage loses no more
//! than what was not flushed yet.
//!
//! The test's own memory is the log: it is not killed. After each crash, and all the time, the sidecar's answers and its store
//! are compared with it.

use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;

use crate::is_long;
use crate::load;
use crate::support::directory::ORGANIZATION;
use crate::support::sidecar::{HOST, PROGRAM};
use crate::support::{Client, Directory, Response, Sidecar, Upstream};

/// What the sidecar is configured with.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// From a request's count to the flush that writes it there is more than the interval: workers tell a few times a second, and
/// the flush takes its time on a machine that is busy.
const SLACK: Duration = Duration::from_millis(1_500);

/// A small generator: what happened can be repeated by its seed, as far as threads can.
struct Random(u64);

impl Random {
    fn seeded() -> Self {
        let seed = std::env::var("POSTERN_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| {
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
        });
        println!("POSTERN_TEST_SEED={seed}");
        Self(seed | 1)
    }

    fn another(&mut self) -> Self {
        Self(self.next() | 1)
    }

    fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn milliseconds(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(range.start + self.next() % (range.end - range.start))
    }
}

/// A token whose making was acknowledged, and what has happened to it since.
#[derive(Debug)]
struct Known {
    token: String,
    prefix: String,
    revocation_asked: bool,
    revocation_acknowledged: bool,
    /// It has been refused: whatever became of the answer, it is revoked and stays so.
    seen_revoked: bool,
    /// Requests that were begun.
    sent: u64,
    /// When those were answered with 200 that this life of the sidecar has answered.
    answered: Vec<Instant>,
    /// What the store had after the last crash.
    stored_requests: u64,
    stored_last_use: u32,
}

#[derive(Default)]
struct History {
    tokens: Mutex<Vec<Known>>,
    /// What must not be.
    violations: Mutex<Vec<String>>,
    created: AtomicU64,
    revoked: AtomicU64,
    /// Asked for, and never answered.
    unanswered: AtomicU64,
    answered: AtomicU64,
    broken: AtomicU64,
}

/// Where the sidecar is, while it is.
#[derive(Default)]
struct Place {
    current: Mutex<Option<Life>>,
    stopped: AtomicBool,
}

/// From one start to the next kill.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Life {
    number: usize,
    proxy: SocketAddr,
    api: SocketAddr,
}

impl Life {
    fn of(number: usize, sidecar: &Sidecar) -> Self {
        Self { number, proxy: sidecar.address(), api: sidecar.admin.unwrap() }
    }
}

impl Place {
    /// Waits for a sidecar that is being started; `None`: that was all.
    fn life(&self) -> Option<Life> {
        while !self.stopped.load(Ordering::SeqCst) {
            if let Some(life) = *self.current.lock() {
                return Some(life);
            }
            thread::sleep(Duration::from_millis(1));
        }
        None
    }
}

impl History {
    fn violation(&self, what: String) {
        self.violations.lock().push(what);
    }

    /// Makes and revokes tokens, one after the other.
    fn change(&self, place: &Place, user: &str, admin: &str, mut random: Random) {
        let tokens = format!("/v1/organization/{ORGANIZATION}/application-users/{user}/access-tokens");
        while let Some(Life { api, .. }) = place.life() {
            let live: Vec<usize> = {
                let known = self.tokens.lock();
                (0..known.len()).filter(|&index| !known[index].revocation_asked).collect()
            };
            if live.len() > 20 && random.below(100) < 55 {
                let index = live[random.below(live.len())];
                let prefix = {
                    let mut known = self.tokens.lock();
                    // Two may have chosen the same.
                    if std::mem::replace(&mut known[index].revocation_asked, true) {
                        continue;
                    }
                    known[index].prefix.clone()
                };
                match ask(api, admin, &format!("DELETE {tokens}/{prefix}"), "") {
                    Ok(response) if response.status == 204 => {
                        self.tokens.lock()[index].revocation_acknowledged = true;
                        self.revoked.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok(response) => self.violation(format!("revoking: {response:?}")),
                    Err(_) => drop(self.unanswered.fetch_add(1, Ordering::SeqCst)),
                }
            } else {
                match ask(api, admin, &format!("POST {tokens}"), "{}") {
                    Ok(response) if response.status == 201 => {
                        let made = response.json();
                        let text = |name: &str| made[name].as_str().unwrap().to_owned();
                        self.tokens.lock().push(Known::new(text("full_token"), text("token_prefix")));
                        self.created.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok(response) => self.violation(format!("making: {response:?}")),
                    Err(_) => drop(self.unanswered.fetch_add(1, Ordering::SeqCst)),
                }
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends requests with tokens, good and revoked ones.
    fn use_tokens(&self, place: &Place, mut random: Random) {
        let mut kept: Option<(Life, Client)> = None;
        while let Some(life) = place.life() {
            let (index, before) = {
                let mut known = self.tokens.lock();
                // Of the latest more often: their changes are the ones that a crash could undo.
                let index = match known.len() {
                    0 => continue,
                    count if random.below(2) == 0 => count - 1 - random.below(count.min(30)),
                    count => random.below(count),
                };
                known[index].sent += 1;
                (index, known[index].as_it_was())
            };
            let client = kept.take().filter(|(to, _)| *to == life).map(|(_, client)| client);
            let answer = client.map_or_else(|| connect(life.proxy), Ok).and_then(|mut client| {
                let head = format!(
                    "GET / HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {}\r\n\r\n",
                    before.token
                );
                client.try_send(head).map_err(drop)?;
                let response = client.try_response().map_err(drop)?;
                kept = Some((life, client));
                Ok(response)
            });
            let Ok(response) = answer else {
                // Killed amid it.
                self.broken.fetch_add(1, Ordering::SeqCst);
                continue;
            };
            self.judge(index, &before, &response, || *place.current.lock() == Some(life));
        }
    }

    /// What an answer may be, by what was acknowledged before its request. One that is noted after the kill has been added up
    /// already would count for the next life.
    fn judge(&self, index: usize, before: &Known, response: &Response, still_lives: impl FnOnce() -> bool) {
        let mut known = self.tokens.lock();
        let now = &mut known[index];
        match response.status {
            200 if before.revocation_acknowledged || before.seen_revoked => {
                self.violation(format!("{} is revoked and was let in", now.prefix));
            }
            200 => {
                if still_lives() {
                    now.answered.push(Instant::now());
                }
                self.answered.fetch_add(1, Ordering::SeqCst);
            }
            401 if !now.revocation_asked => {
                self.violation(format!("{} is good and was refused: {}", now.prefix, response.text()));
            }
            401 => now.seen_revoked = true,
            _ => self.violation(format!("{}: {response:?}", now.prefix)),
        }
    }

    /// Compares the store with what was acknowledged, after a sidecar that ended then. Returns the oldest use that is lost.
    fn check_store(&self, directory: &Directory, killed_at: Instant, allowed: Option<Duration>) -> Duration {
        let mut oldest_lost = Duration::ZERO;
        for known in &mut *self.tokens.lock() {
            let prefix = &known.prefix;
            let stored = directory.store.read(|records| records.token(prefix)).unwrap();
            let Some(stored) = stored else {
                self.violation(format!("{prefix} was acknowledged and is lost"));
                continue;
            };
            let is_revoked = stored.token.revoked_time.is_some();
            if (known.revocation_acknowledged || known.seen_revoked) && !is_revoked {
                self.violation(format!("{prefix} was revoked and is not"));
            }
            if is_revoked && !known.revocation_asked {
                self.violation(format!("{prefix} is revoked, and nobody asked for it"));
            }
            let (requests, last_use) =
                stored.usage.map_or((0, 0), |usage| (usage.request_count, usage.last_used_time.0));
            if requests < known.stored_requests || last_use < known.stored_last_use {
                self.violation(format!("the usage of {prefix} went back: {known:?}, {requests}, {last_use}"));
            }
            if requests > known.sent {
                self.violation(format!("{prefix}: {requests} requests counted of {} sent", known.sent));
            }
            let answered = std::mem::take(&mut known.answered);
            let counted = usize::try_from(requests - known.stored_requests.min(requests)).unwrap();
            if let Some(lost) = answered.len().checked_sub(counted).filter(|lost| *lost > 0) {
                // It is the last ones that were not written.
                let age = killed_at.saturating_duration_since(answered[answered.len() - lost]);
                oldest_lost = oldest_lost.max(age);
                if allowed.is_none_or(|allowed| age > allowed) {
                    self.violation(format!("{prefix}: {lost} uses are lost, of which one was {age:?} old"));
                }
            }
            (known.stored_requests, known.stored_last_use) = (requests, last_use);
        }
        oldest_lost
    }

    #[track_caller]
    fn assert_no_violation(&self) {
        let violations = self.violations.lock();
        assert!(
            violations.is_empty(),
            "{}:\n{}",
            violations.len(),
            violations[..violations.len().min(20)].join("\n")
        );
    }
}

impl Known {
    fn new(token: String, prefix: String) -> Self {
        Self {
            token,
            prefix,
            revocation_asked: false,
            revocation_acknowledged: false,
            seen_revoked: false,
            sent: 0,
            answered: Vec::new(),
            stored_requests: 0,
            stored_last_use: 0,
        }
    }

    /// Without what is long.
    fn as_it_was(&self) -> Self {
        let Self { token, prefix, .. } = self;
        let (token, prefix, answered) = (token.clone(), prefix.clone(), Vec::new());
        Self { token, prefix, answered, ..*self }
    }
}

fn connect(address: SocketAddr) -> Result<Client, ()> {
    TcpStream::connect(address).map(Client::on).map_err(drop)
}

fn ask(api: SocketAddr, token: &str, method_and_target: &str, body: &str) -> Result<Response, ()> {
    let mut client = connect(api)?;
    let length = body.len();
    let head = format!(
        "{method_and_target} HTTP/1.1\r\nHost: admin\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    client.try_send(head + body).map_err(drop)?;
    client.try_response().map_err(drop)
}

fn quick_check(directory: &std::path::Path) {
    let store = rusqlite::Connection::open(directory.join("store.db")).unwrap();
    let found: String = store.query_row("PRAGMA quick_check", [], |row| row.get(0)).unwrap();
    assert_eq!(found, "ok");
}

#[test]
fn what_was_acknowledged_survives_kills_at_random_moments() {
    let kills = if is_long() { 100 } else { 10 };
    let mut random = Random::seeded();
    let upstream: Upstream = load::upstream();
    let mut sidecar = Sidecar::in_front_of(&upstream).admin("").start();
    let admin = sidecar.super_admin();
    let user = sidecar.permitted.user_id.clone();
    let (history, place) = (Arc::new(History::default()), Arc::new(Place::default()));
    let mut threads = Vec::new();
    for _ in 0..2 {
        let (history, place) = (Arc::clone(&history), Arc::clone(&place));
        let (user, admin, random) = (user.clone(), admin.token.clone(), random.another());
        threads.push(thread::spawn(move || history.change(&place, &user, &admin, random)));
    }
    for _ in 0..3 {
        let (history, place, random) = (Arc::clone(&history), Arc::clone(&place), random.another());
        threads.push(thread::spawn(move || history.use_tokens(&place, random)));
    }
    let mut oldest_lost = Duration::ZERO;
    let mut longest_start = Duration::ZERO;
    for round in 0..kills {
        if round > 0 && random.below(4) == 0 {
            // As it starts, perhaps before it listens anywhere.
            sidecar.start_again();
            thread::sleep(random.milliseconds(0..80));
            sidecar.crash();
        }
        if round > 0 {
            let started = Instant::now();
            sidecar.start_again();
            sidecar.wait_until_it_listens();
            longest_start = longest_start.max(started.elapsed());
        }
        *place.current.lock() = Some(Life::of(round, &sidecar));
        // Some lives are longer than usage may wait: what was never written would be found.
        let life = if round % 5 == 3 { 3_500..4_500 } else { 50..1_800 };
        thread::sleep(random.milliseconds(life));
        let killed_at = Instant::now();
        sidecar.crash();
        *place.current.lock() = None;
        quick_check(sidecar.folder());
        let lost = history.check_store(&sidecar.directory, killed_at, Some(FLUSH_INTERVAL + SLACK));
        oldest_lost = oldest_lost.max(lost);
        history.assert_no_violation();
    }

    // One more life, which ends as it should: nothing is lost, and every token is asked.
    sidecar.start_again();
    sidecar.wait_until_it_listens();
    *place.current.lock() = Some(Life::of(kills, &sidecar));
    thread::sleep(random.milliseconds(300..600));
    place.stopped.store(true, Ordering::SeqCst);
    for thread in threads {
        thread.join().unwrap();
    }
    let mut client = sidecar.connect();
    let count = history.tokens.lock().len();
    for index in 0..count {
        let before = {
            let mut known = history.tokens.lock();
            known[index].sent += 1;
            known[index].as_it_was()
        };
        let response = client.request(sidecar.head_with(&before.token, "GET /", ""));
        history.judge(index, &before, &response, || true);
    }
    drop(client);
    sidecar.stop();
    history.check_store(&sidecar.directory, Instant::now(), None);
    history.assert_no_violation();
    let of = |count: &AtomicU64| count.load(Ordering::SeqCst);
    println!(
        "{kills} kills: {} tokens made and {} revoked, acknowledged, 0 lost, 0 revived; {} changes unanswered; {} requests \
         answered, {} cut by a kill; oldest use lost {:.2} s before a kill (flushed every {:.0} s); longest start {:.2} s",
        of(&history.created),
        of(&history.revoked),
        of(&history.unanswered),
        of(&history.answered),
        of(&history.broken),
        oldest_lost.as_secs_f64(),
        FLUSH_INTERVAL.as_secs_f64(),
        longest_start.as_secs_f64(),
    );
    let kills = u64::try_from(kills).unwrap();
    assert!(of(&history.created) > kills && of(&history.revoked) > kills / 2, "the load was one");
}

#[test]
fn a_command_that_is_killed_has_done_all_or_nothing() {
    let rounds = if is_long() { 200 } else { 25 };
    let mut random = Random::seeded();
    let upstream = Upstream::echo();
    let sidecar = Sidecar::in_front_of(&upstream).start();
    let (mut printed, mut killed) = (Vec::new(), 0);
    // How long it takes is found out as it goes: kills come before, amid and after its work.
    let mut usual = Duration::from_millis(100);
    for round in 0..rounds {
        let started = Instant::now();
        let mut command = Command::new(PROGRAM)
            .args(["token", "create", "--json", "--user", &sidecar.permitted.user_id, "--config"])
            .arg(sidecar.config_file())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        if round % 5 > 0 {
            let end = u64::try_from(usual.as_millis()).unwrap().max(1);
            thread::sleep(random.milliseconds(end / 3..end + 1));
            // It may have ended already.
            let _ended = command.kill();
        }
        let output = command.wait_with_output().unwrap();
        if output.status.success() {
            usual = started.elapsed();
        } else {
            killed += 1;
        }
        if let Ok(made) = serde_json::from_slice::<Value>(&output.stdout) {
            printed.push(made["token_prefix"].as_str().unwrap().to_owned());
        }
        assert_eq!(sidecar.request(sidecar.get()).status, 200, "the sidecar beside it goes on");
    }
    quick_check(sidecar.folder());
    assert!(!printed.is_empty() && printed.len() < rounds, "{} of {rounds}", printed.len());
    for prefix in &printed {
        let stored = sidecar.directory.store.read(|records| records.token(prefix)).unwrap();
        assert!(stored.is_some(), "{prefix} was printed and is lost");
    }
    println!("{rounds} commands, {killed} killed, {} tokens printed, 0 lost", printed.len());
    sidecar.stop();
}
