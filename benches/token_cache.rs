//! The token cache at size: how long a start takes, how many bytes a token needs, and what a look-up and a decision
//! cost. Run with `cargo bench --bench token_cache -- [TOKENS] [--json]`; the default is one million. With `--json` one
//! object is printed, for those who plot.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark, for people")]

use std::fs;
use std::hint::black_box;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern::config::StoreConfig;
use postern::directory::gather::{Gathered, Question};
use postern::directory::model::Timestamp;
use postern::directory::operations::{self, NewApplicationUser};
use postern::directory::store::{DirectorySnapshot, SnapshotReceiver, TokenRow};
use postern::directory::view::ProjectCell;
use postern::directory::{DirectoryView, Synchronizer};
use postern::policy::{Permission, decide};
use postern::token::format::TOKEN_LENGTH;
use postern::token::{FreshToken, TokenDigest, TokenKind};
use rusqlite::{Connection, params};
use secrecy::ExposeSecret;
use serde_json::{Map, Value};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: Timestamp = Timestamp(1_800_000_000);
const ORGANIZATION: &str = "org1a2b3c4d5e6f";
const PROJECT: &str = "example-project";
const USERS: u32 = 10_000;
/// Tells this program to start from this store and to say how long that took and what memory.
const CHILD: &str = "POSTERN_BENCH_STORE";
/// Tokens that are measured hot; with their users they fit into the nearest caches.
const HOT_TOKENS: usize = 1_000;
/// Tokens whose decisions are timed one by one.
const TIMED_TOKENS: usize = 100_000;
/// More than the processor's caches hold.
const EVICTING_BYTES: usize = 128 << 20;

fn main() {
    if let Some(path) = std::env::var_os(CHILD) {
        return start_alone(&StoreConfig { path: path.into(), create_if_missing: false, stale_after: None });
    }
    let count = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let mut report =
        Report { as_json: std::env::args().any(|argument| argument == "--json"), ..Report::default() };
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        path: folder.path().join("directory.sqlite"),
        create_if_missing: true,
        stale_after: None,
    };
    let tokens = fill(&config, count);
    report.tell("tokens", count as f64);
    report.tell("users", USERS.into());
    report.tell("store_bytes", fs::metadata(&config.path).unwrap().len() as f64);

    measure_starts(&config, if count > 2_000_000 { 3 } else { 5 }, &mut report);
    let store = postern::directory::open(&config).unwrap();
    let started = Instant::now();
    store.snapshot(&mut Nobody).unwrap();
    report.tell("store_read_seconds", started.elapsed().as_secs_f64());
    drop(store);

    let (synchronizer, view) = start(&config);
    assert_eq!(view.tokens.len(), count);
    let mut order: Vec<usize> = (0..count).collect();
    shuffle(&mut order);
    let hot = &order[..count.min(HOT_TOKENS)];
    measure_look_ups(&view, &tokens, hot, &order, &mut report);
    let bench = Decisions::new(&view);
    bench.measure_hot(&presented(&tokens, hot), &mut report);
    bench.measure_cold(&presented(&tokens, &order), &mut report);

    let flushed = view.usage.flush(&view.tokens, &**synchronizer.store()).unwrap();
    assert_eq!(flushed.tokens, count);
    report.tell("usage_flush_seconds", flushed.duration.as_secs_f64());
    report.end();
}

/// What was measured, told at once or as one object.
#[derive(Default)]
struct Report {
    as_json: bool,
    figures: Map<String, Value>,
}

impl Report {
    fn tell(&mut self, name: &str, value: f64) {
        let rounded = (value * 1_000.0).round() / 1_000.0;
        if !self.as_json {
            println!("{name:<32} {rounded}");
        }
        self.figures.insert(name.to_owned(), rounded.into());
    }

    fn tell_each(&mut self, name: &str, started: Instant, count: usize) {
        self.tell(name, started.elapsed().as_nanos() as f64 / count as f64);
    }

    fn end(self) {
        if self.as_json {
            println!("{}", Value::Object(self.figures));
        }
    }
}

fn start(config: &StoreConfig) -> (Synchronizer, Arc<DirectoryView>) {
    let store = postern::directory::open(config).unwrap();
    Synchronizer::start(store, Default::default()).unwrap()
}

/// Starts several times, each in a process of its own, where nothing else has left or wants memory.
fn measure_starts(config: &StoreConfig, rounds: usize, report: &mut Report) {
    let mut seconds = Vec::new();
    let mut last = [0.0; 4];
    for _ in 0..rounds {
        let child = Command::new(std::env::current_exe().unwrap()).env(CHILD, &config.path).output().unwrap();
        assert!(child.status.success());
        let text = String::from_utf8(child.stdout).unwrap();
        let mut figures = text.split_ascii_whitespace().map(|figure| figure.parse().unwrap());
        last = std::array::from_fn(|_| figures.next().unwrap());
        seconds.push(last[0]);
    }
    seconds.sort_unstable_by(f64::total_cmp);
    report.tell("start_seconds", seconds[rounds / 2]);
    report.tell("start_seconds_least", seconds[0]);
    report.tell("start_seconds_most", seconds[rounds - 1]);
    report.tell("bytes_per_token_at_once", last[1]);
    report.tell("bytes_per_token", last[2]);
    report.tell("huge_page_bytes", last[3]);
}

/// Prints seconds, bytes a token right after the start and half a second later, and bytes in huge pages.
fn start_alone(config: &StoreConfig) {
    let before = kibibytes("status", "RssAnon:");
    let started = Instant::now();
    let (synchronizer, view) = start(config);
    let seconds = started.elapsed().as_secs_f64();
    let a_token = || {
        let grown = (kibibytes("status", "RssAnon:") - before) as f64;
        grown * 1024.0 / view.tokens.len() as f64
    };
    let at_once = a_token();
    // The allocator gives back what only the start needed with the next allocations after a moment.
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(5));
        synchronizer.apply_pending().unwrap();
        black_box(vec![0_u8; 1 << 16]);
    }
    let huge = kibibytes("smaps_rollup", "AnonHugePages:") * 1024;
    println!("{seconds} {at_once} {} {huge}", a_token());
}

/// Receives a snapshot and keeps nothing.
struct Nobody;

impl SnapshotReceiver for Nobody {
    fn receive_directory(&mut self, _: DirectorySnapshot) {}

    fn receive_tokens(&mut self, tokens: Vec<TokenRow>) {
        black_box(tokens);
    }
}

/// Digest known, look up the entry and its facts; and look up what nobody knows.
fn measure_look_ups(
    view: &DirectoryView,
    tokens: &[Box<[u8]>],
    hot: &[usize],
    order: &[usize],
    report: &mut Report,
) {
    let look_up = |digests: &[TokenDigest]| {
        for digest in digests {
            let entry = view.tokens.find(black_box(digest)).unwrap();
            black_box(entry.state().facts());
        }
    };
    let digests =
        |order: &[usize]| -> Vec<_> { order.iter().map(|&token| TokenDigest::of(&tokens[token])).collect() };
    let hot = digests(hot);
    look_up(&hot);
    let started = Instant::now();
    (0..1_000).for_each(|_| look_up(&hot));
    report.tell_each("lookup_hot_ns", started, hot.len() * 1_000);
    let cold = digests(order);
    evict();
    let started = Instant::now();
    look_up(&cold);
    report.tell_each("lookup_cold_ns", started, cold.len());
    let unknown: Vec<_> = (0..cold.len()).map(|n| TokenDigest::of(&n.to_le_bytes())).collect();
    evict();
    let started = Instant::now();
    for digest in &unknown {
        assert!(view.tokens.find(black_box(digest)).is_none());
    }
    report.tell_each("lookup_unknown_cold_ns", started, unknown.len());
}

/// The tokens' texts one after another, as a request's head is in the processor's cache when its token is looked at.
fn presented(tokens: &[Box<[u8]>], order: &[usize]) -> Vec<u8> {
    order.iter().flat_map(|&token| tokens[token].iter().copied()).collect()
}

/// From the token's text to the decision: digest, look-up, policy, permission, usage. Each token's first use in a
/// second also notes it; the others find it noted.
struct Decisions<'a> {
    view: &'a DirectoryView,
    project: Arc<ProjectCell>,
    client: IpAddr,
}

impl<'a> Decisions<'a> {
    fn new(view: &'a DirectoryView) -> Self {
        Self { view, project: view.project(PROJECT), client: "192.0.2.7".parse().unwrap() }
    }

    fn measure_hot(&self, presented: &[u8], report: &mut Report) {
        const ROUNDS: u32 = 1_000;
        let count = presented.len() / TOKEN_LENGTH;
        let started = Instant::now();
        for _ in 0..ROUNDS {
            for token in presented.chunks(TOKEN_LENGTH) {
                black_box(TokenDigest::of(black_box(token)));
            }
        }
        report.tell_each("digest_ns", started, count * ROUNDS as usize);
        self.decide_each(presented, NOW.0 + 1_000);
        let started = Instant::now();
        (1..=ROUNDS).for_each(|second| self.decide_each(presented, NOW.0 + 1_000 + second));
        report.tell_each("decision_hot_ns", started, count * ROUNDS as usize);
        let started = Instant::now();
        (0..ROUNDS).for_each(|_| self.decide_each(presented, NOW.0 + 1_000 + ROUNDS));
        report.tell_each("decision_hot_noted_ns", started, count * ROUNDS as usize);
    }

    /// Every token once, in an order in which no two neighbours share anything but their user: nothing of the token is in
    /// a cache. First one after another, as a worker under load has them (the processor begins the next one while it waits); then
    /// each by itself, from its beginning to its end.
    fn measure_cold(&self, presented: &[u8], report: &mut Report) {
        let count = presented.len() / TOKEN_LENGTH;
        for (name, second) in [
            // Also goes on the list of what is to be flushed.
            ("decision_cold_listing_ns", 3_000),
            ("decision_cold_ns", 3_001),
            ("decision_cold_noted_ns", 3_001),
        ] {
            evict();
            let started = Instant::now();
            self.decide_each(presented, NOW.0 + second);
            report.tell_each(name, started, count);
        }
        evict();
        let timer = median((0..10_000).map(|_| Instant::now().elapsed()).collect());
        let mut times: Vec<_> = presented
            .chunks(TOKEN_LENGTH)
            .take(TIMED_TOKENS)
            .map(|token| {
                let started = Instant::now();
                assert!(self.is_permitted(token, NOW.0 + 3_002));
                started.elapsed().saturating_sub(timer)
            })
            .collect();
        times.sort_unstable();
        report.tell("decision_cold_alone_p50_ns", times[times.len() / 2].as_nanos() as f64);
        report.tell("decision_cold_alone_p99_ns", times[times.len() * 99 / 100].as_nanos() as f64);
    }

    fn decide_each(&self, presented: &[u8], now: u32) {
        for token in presented.chunks(TOKEN_LENGTH) {
            assert!(self.is_permitted(token, now));
        }
    }

    fn is_permitted(&self, token: &[u8], now: u32) -> bool {
        let entry = self.view.tokens.find(&TokenDigest::of(token)).unwrap();
        let question = Question { now, client_address: self.client, required: Permission::ServiceDataWrite };
        let gathered = Gathered::new(self.view, entry, Some(&self.project), question);
        let permitted = decide(&gathered.facts()).is_ok();
        self.view.usage.touch(entry, now, self.client, Some(b"bench/1.0"));
        permitted
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Fills the processor's caches with something else.
fn evict() {
    let bytes = vec![1_u8; EVICTING_BYTES];
    black_box(bytes.chunks(64).map(|line| u64::from(line[0])).sum::<u64>());
}

/// Makes the store through the operations, then its tokens and their usage as bulk rows.
fn fill(config: &StoreConfig, count: usize) -> Vec<Box<[u8]>> {
    let store = postern::directory::open(config).unwrap();
    operations::ensure_organization(&*store, ORGANIZATION, "Example", NOW).unwrap();
    operations::ensure_project(&*store, PROJECT, ORGANIZATION, NOW).unwrap();
    let new = NewApplicationUser {
        organization_id: ORGANIZATION.to_owned(),
        name: "reports".to_owned(),
        description: String::new(),
        is_super_admin: false,
    };
    let first = operations::create_application_user(&*store, &new, NOW).unwrap().value.user;
    drop(store);
    fill_rows(&config.path, count, &first.id)
}

fn fill_rows(path: &Path, count: usize, first_user: &str) -> Vec<Box<[u8]>> {
    let mut connection = Connection::open(path).unwrap();
    connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000").unwrap();
    let transaction = connection.transaction().unwrap();
    transaction
        .execute(
            "WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
             INSERT INTO users SELECT NULL, 'u' || printf('%012x', i), kind, i || email, name, description, state,
                 two_factor_enabled, token_validity_begin, managing_organization_id, create_time
             FROM n, users WHERE id = ?2",
            params![USERS, first_user],
        )
        .unwrap();
    transaction
        .execute_batch(
            "INSERT OR IGNORE INTO memberships SELECT id, managing_organization_id, 0, create_time FROM users;
             INSERT INTO grants SELECT 'user', id, 'project', 'example-project', '[\"developer\"]', 0, 0 FROM users",
        )
        .unwrap();
    let mut tokens = Vec::with_capacity(count);
    {
        let mut insert = transaction
            .prepare(
                "INSERT INTO tokens (digest, user_number, kind, create_time, max_age_seconds, extend_when_used,
                     ip_allowlist, scopes, imported, prefix, created_manually, description)
                 VALUES (?1, ?2, 'application', ?3, ?4, ?5, ?6, ?7, 0, ?8, 1, 'token of a nightly job')",
            )
            .unwrap();
        let mut used = transaction
            .prepare(
                "INSERT INTO token_usage (token_number, last_used_time, last_ip, last_user_agent)
                 VALUES (?1, ?2, ?3, 'Mozilla/5.0 (X11; Linux x86_64) agent ' || ?4)",
            )
            .unwrap();
        for n in 0..u32::try_from(count).unwrap() {
            let fresh = FreshToken::generate(TokenKind::Application).unwrap();
            let max_age = (n % 2 == 0).then_some(86_400 * 365);
            let allowlist = (n % 4 == 0).then(|| format!("[\"192.0.2.0/{}\"]", 20 + n % 8));
            let scopes = (n % 8 == 0).then_some("[\"service:data:write\"]");
            insert
                .execute(params![
                    fresh.digest.as_bytes(),
                    n % USERS + 1,
                    NOW.0 - 1_000,
                    max_age,
                    n % 4 == 0,
                    allowlist,
                    scopes,
                    fresh.prefix
                ])
                .unwrap();
            let address = format!("198.51.{}.{}", n / 256 % 256, n % 256);
            used.execute(params![n + 1, NOW.0 - 100, address, n % 50]).unwrap();
            tokens.push(fresh.full.expose_secret().as_bytes().into());
        }
    }
    transaction.commit().unwrap();
    tokens
}

/// A figure that the system tells of this process. Anonymous memory is what no file is behind.
fn kibibytes(file: &str, name: &str) -> usize {
    let text = fs::read_to_string(format!("/proc/self/{file}")).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

fn shuffle(values: &mut [usize]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for i in (1..values.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        values.swap(i, (state >> 33) as usize % (i + 1));
    }
}
