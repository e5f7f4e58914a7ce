//! The token cache at size: how long a start takes, how many bytes a token needs, and what a look-up and a decision
//! cost. Run with `cargo bench --bench token_cache -- [TOKENS]`; the default is one million.
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

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: Timestamp = Timestamp(1_800_000_000);
const ORGANIZATION: &str = "org1a2b3c4d5e6f";
const PROJECT: &str = "example-project";
const USERS: u32 = 10_000;
/// Tells this program to start from this store and to say what memory that took.
const CHILD: &str = "POSTERN_BENCH_STORE";
const TARGET_BYTES: usize = 160;

fn main() {
    if let Some(path) = std::env::var_os(CHILD) {
        let config = StoreConfig { path: path.into(), create_if_missing: false };
        let before = anonymous_bytes();
        let (synchronizer, view) = start(&config);
        let at_once = (anonymous_bytes() - before) / view.tokens.len();
        // The allocator gives back what only the start needed with the next allocations after a moment.
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(5));
            synchronizer.apply_pending().unwrap();
            black_box(vec![0_u8; 1 << 16]);
        }
        let settled = (anonymous_bytes() - before) / view.tokens.len();
        println!(
            "resident bytes a token: {at_once} right after the start, {settled} half a second later (target {TARGET_BYTES})"
        );
        return;
    }
    let count = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { path: folder.path().join("directory.sqlite"), create_if_missing: true };
    let tokens = fill(&config, count);
    let size = fs::metadata(&config.path).unwrap().len();
    println!("{count} tokens of {USERS} users, all of them used; the store has {} MiB", size >> 20);

    // In a process of its own, where nothing else has left or wants memory.
    let child = Command::new(std::env::current_exe().unwrap()).env(CHILD, &config.path).status().unwrap();
    assert!(child.success());
    let mut view = Some(start(&config));
    for _ in 0..4 {
        drop(view.take());
        view = Some(start(&config));
    }
    let store = postern::directory::open(&config).unwrap();
    let started = Instant::now();
    store.snapshot(&mut Nobody).unwrap();
    println!("reading the store alone: {:.2?}", started.elapsed());
    let (synchronizer, view) = view.unwrap();
    assert_eq!(view.tokens.len(), count);
    let mut order: Vec<usize> = (0..count).collect();
    shuffle(&mut order);
    let hot = &order[..count.min(1_000)];
    measure_look_ups(&view, &tokens, "hot", hot, 1_000);
    measure_look_ups(&view, &tokens, "cold", &order, 1);
    measure_decisions(&view, &tokens, "hot", hot, 1_000);
    measure_decisions(&view, &tokens, "cold", &order, 1);

    let flushed = view.usage.flush(&view.tokens, &**synchronizer.store()).unwrap();
    println!("usage of {} tokens flushed in {:.2?}", flushed.tokens, flushed.duration);
}

fn start(config: &StoreConfig) -> (Synchronizer, Arc<DirectoryView>) {
    let started = Instant::now();
    let store = postern::directory::open(config).unwrap();
    let result = Synchronizer::start(store, Default::default()).unwrap();
    println!("start: {:.2?}", started.elapsed());
    result
}

/// Receives a snapshot and keeps nothing.
struct Nobody;

impl SnapshotReceiver for Nobody {
    fn receive_directory(&mut self, _: DirectorySnapshot) {}

    fn receive_tokens(&mut self, tokens: Vec<TokenRow>) {
        black_box(tokens);
    }
}

/// Digest known, look up the entry and its facts.
fn measure_look_ups(view: &DirectoryView, tokens: &[Box<[u8]>], name: &str, order: &[usize], rounds: usize) {
    let digests: Vec<_> = order.iter().map(|&token| TokenDigest::of(&tokens[token])).collect();
    let started = Instant::now();
    for _ in 0..rounds {
        for digest in &digests {
            let entry = view.tokens.find(black_box(digest)).unwrap();
            black_box(entry.state().facts());
        }
    }
    report(&format!("look-up and facts, {name}"), started, rounds * order.len());
}

/// From the token's text to the decision: digest, look-up, policy, permission, usage. Each token's first use in a
/// second also notes it; the others find it noted.
fn measure_decisions(view: &DirectoryView, tokens: &[Box<[u8]>], name: &str, order: &[usize], rounds: usize) {
    let project = view.project(PROJECT);
    let client: IpAddr = "192.0.2.7".parse().unwrap();
    // One after another, as a request's head is in the processor's cache when its token is looked at.
    let presented: Vec<u8> = order.iter().flat_map(|&token| tokens[token].iter().copied()).collect();
    let started = Instant::now();
    for token in presented.chunks(TOKEN_LENGTH) {
        black_box(TokenDigest::of(black_box(token)));
    }
    report("  of which the digest", started, order.len());
    for (second, what) in [(1, "first use in a second"), (1, "use noted"), (2, "first use in a second")] {
        let started = Instant::now();
        for round in 0..rounds {
            let now =
                NOW.0 + 1_000 * second + if what == "use noted" { 0 } else { u32::try_from(round).unwrap() };
            for token in presented.chunks(TOKEN_LENGTH) {
                assert!(is_permitted(view, &project, token, now, client));
            }
        }
        report(&format!("whole decision, {name}, {what}"), started, rounds * order.len());
    }
}

fn is_permitted(
    view: &DirectoryView,
    project: &Arc<ProjectCell>,
    token: &[u8],
    now: u32,
    client: IpAddr,
) -> bool {
    let entry = view.tokens.find(&TokenDigest::of(token)).unwrap();
    let question = Question { now, client_address: client, required: Permission::ServiceDataWrite };
    let permitted = decide(&Gathered::new(view, entry, Some(project), question).facts()).is_ok();
    view.usage.touch(entry, now, client, Some(b"bench/1.0"));
    permitted
}

fn report(what: &str, started: Instant, count: usize) {
    println!("{what}: {:.0} ns", started.elapsed().as_nanos() as f64 / count as f64);
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
                "INSERT INTO token_usage VALUES (?1, ?2, ?3, 'Mozilla/5.0 (X11; Linux x86_64) agent ' || ?4)",
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

/// Memory of this process that no file is behind.
fn anonymous_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

fn shuffle(values: &mut [usize]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for i in (1..values.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        values.swap(i, (state >> 33) as usize % (i + 1));
    }
}
