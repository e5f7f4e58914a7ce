//! What the agent keeps, and that workers on several threads lose no use. Flushing to a store is tested with the
//! directory.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::thread;

use super::*;

#[track_caller]
fn check_agent(sent: &[u8], kept: &str) {
    assert_eq!(UserAgent::from_bytes(sent).as_str(), kept);
    assert_eq!(UserAgent::shared(sent).as_str(), kept);
}

#[test]
fn a_user_agent_is_kept_as_bounded_visible_text() {
    check_agent(b"curl/8.5.0", "curl/8.5.0");
    check_agent(b"", "");
    check_agent(b"a\x1b[31m\r\n\xff\"b", "a?[31m???\"b");
    check_agent(&[b'x'; 1_000], &"x".repeat(256));
}

#[test]
fn equal_user_agents_share_memory_and_old_ones_give_way() {
    let first = UserAgent::shared(b"first");
    assert!(Arc::ptr_eq(&first, &UserAgent::shared(b"first")));
    for n in 0..100_u32 {
        assert_eq!(UserAgent::shared(n.to_string().as_bytes()).as_str(), n.to_string());
    }
    assert!(!Arc::ptr_eq(&first, &UserAgent::shared(b"first")));
}

#[test]
fn workers_touching_the_same_token_lose_no_use_and_list_it_once() {
    let directory = crate::token::cache::tests::one_token();
    let (cache, digest) = (&directory.0, &directory.1);
    let log = UsageLog::default();
    thread::scope(|scope| {
        for worker in 0..4_u8 {
            let log = &log;
            scope.spawn(move || {
                let entry = cache.find(digest).expect("the token is known");
                for now in 1..=5_000 {
                    let client = IpAddr::V4(Ipv4Addr::new(192, 0, 2, worker));
                    log.touch(entry, now, client, Some(b"load"));
                }
            });
        }
    });
    let entry = cache.find(digest).expect("the token is known");
    assert_eq!(entry.last_used_at(), Some(5_000));
    assert_eq!(entry.last_used_by().1.expect("an agent").as_str(), "load");
    assert_eq!(log.pending(), 1);
    let taken = log.take(cache, 10);
    assert_eq!((taken.len(), log.pending()), (1, 0));
    // A use after taking is listed again; putting back then adds nothing.
    log.touch(entry, 5_001, IpAddr::V4(Ipv4Addr::LOCALHOST), None);
    log.put_back(taken);
    assert_eq!(log.pending(), 1);
}

#[test]
fn workers_count_every_request_once_while_counts_are_folded_and_flushed() {
    const WORKERS: u64 = 4;
    const REQUESTS: u64 = 20_000;
    let cache = crate::token::cache::tests::tokens(3_000);
    let log = UsageLog::default();
    let counted = AtomicU64::new(0);
    let flush = |at_most: usize| {
        for entry in log.take(&cache, at_most) {
            counted.fetch_add(u64::from(entry.take_requests()), Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let (cache, log) = (&cache, &log);
                scope.spawn(move || {
                    let counts = RequestCounts::default();
                    for request in 0..REQUESTS {
                        // One token that everybody uses, and many that share slots.
                        let place = if request % 2 == 0 { 7 } else { (request * 1_021 + worker) % 3_000 };
                        let entry = cache.entry(TokenIndex::at(place as u32)).expect("the token is known");
                        log.touch(entry, 1 + (request / 5_000) as u32, IpAddr::V4(Ipv4Addr::LOCALHOST), None);
                        counts.count(entry, log);
                        if request % 997 == 0 {
                            counts.fold(cache, log);
                        }
                    }
                    counts.fold(cache, log);
                })
            })
            .collect();
        while workers.iter().any(|worker| !worker.is_finished()) {
            flush(10);
        }
    });
    // What is not on the list of those to be flushed would never be counted.
    flush(3_000);
    assert_eq!(counted.load(Ordering::Relaxed), WORKERS * REQUESTS);
    assert_eq!(cache.entries().map(|entry| u64::from(entry.requests_unwritten())).sum::<u64>(), 0);
}
