//! A drain waits for what is alive, no longer than its grace, and tells every worker.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::thread;

use tokio::sync::oneshot;

use super::*;
use crate::directory::DirectoryView;
use crate::lifecycle::{Readiness, Unready};

/// Long enough never to be reached.
const AGES: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn nothing_alive_ends_at_once() {
    let drain = Drain::new(2);
    assert!(!drain.draining());
    assert_eq!(drain.finish(AGES).await, DrainOutcome::Finished);
    assert!(drain.draining());
    assert!(drain.worker(1).draining());
}

#[tokio::test]
async fn waits_for_the_last_guard() {
    let drain = Drain::new(2);
    let (first, second) = (drain.worker(0).live(), drain.worker(1).live());
    let mut finish = Box::pin(drain.finish(AGES));
    assert!(poll_once(&mut finish).await.is_none());
    drop(first);
    assert!(poll_once(&mut finish).await.is_none());
    drop(second);
    assert_eq!(finish.await, DrainOutcome::Finished);
}

#[tokio::test]
async fn forces_what_is_left_after_the_grace() {
    let drain = Drain::new(1);
    let worker = drain.worker(0);
    let guards = [worker.live(), worker.live()];
    assert_eq!(drain.finish(Duration::ZERO).await, DrainOutcome::Forced { live: 2 });
    worker.forced().await;
    drop(guards);
    drain.nothing_alive().await;
}

#[tokio::test]
async fn a_second_signal_ends_the_wait() {
    let drain = Drain::new(1);
    let _live = drain.worker(0).live();
    let mut finish = Box::pin(drain.finish(AGES));
    assert!(poll_once(&mut finish).await.is_none());
    drain.force();
    assert_eq!(finish.await, DrainOutcome::Forced { live: 1 });
}

#[tokio::test]
async fn whoever_leaves_lets_the_idle_wait_until_its_patience_is_over() {
    let drain = Drain::new(1);
    let worker = drain.worker(0);
    let live = worker.live();
    let mut finish = Box::pin(drain.leave_and_finish(Duration::ZERO, AGES));
    assert!(!worker.draining());
    assert!(poll_once(&mut finish).await.is_none());
    worker.nothing_new().await;
    // The patience was none: what is idle ends, and what runs is waited for.
    tokio::select! {
        outcome = &mut finish => panic!("{outcome:?}"),
        () = worker.started() => {}
    }
    assert!(poll_once(&mut finish).await.is_none());
    drop(live);
    assert_eq!(finish.await, DrainOutcome::Finished);
}

#[tokio::test]
async fn whoever_leaves_without_anything_alive_ends_at_once() {
    let drain = Drain::new(2);
    let live = drain.worker(1).live();
    let mut finish = Box::pin(drain.leave_and_finish(AGES, AGES));
    assert!(poll_once(&mut finish).await.is_none());
    assert!(drain.draining());
    let worker = drain.worker(0);
    assert!(poll_once(&mut Box::pin(worker.started())).await.is_none(), "idle connections stay");
    drop(live);
    assert_eq!(finish.await, DrainOutcome::Finished);
}

#[tokio::test]
async fn a_signal_amid_leaving_ends_what_is_idle() {
    let drain = Drain::new(1);
    let live = drain.worker(0).live();
    let mut finish = Box::pin(drain.leave_and_finish(AGES, AGES));
    assert!(poll_once(&mut finish).await.is_none());
    drain.start();
    drain.worker(0).started().await;
    assert!(poll_once(&mut finish).await.is_none());
    drop(live);
    assert_eq!(finish.await, DrainOutcome::Finished);
}

#[tokio::test]
async fn phases_only_go_forward() {
    let drain = Drain::new(1);
    drain.force();
    drain.start();
    drain.leave();
    drain.worker(0).started().await;
    drain.worker(0).forced().await;
    drain.forced().await;
}

#[test]
fn workers_on_runtimes_of_their_own_are_waited_for() {
    const WORKERS: usize = 4;
    let drain = Drain::new(WORKERS);
    let (mut up, mut threads) = (Vec::new(), Vec::new());
    for index in 0..WORKERS {
        let (worker, (ready, is_ready)) = (drain.worker(index), oneshot::channel());
        up.push(is_ready);
        threads.push(thread::spawn(move || {
            single_threaded().block_on(async {
                let accepting = worker.live();
                let connections: Vec<_> = (0..100)
                    .map(|_| {
                        let (worker, live) = (worker.clone(), worker.live());
                        tokio::spawn(async move {
                            worker.started().await;
                            drop(live);
                        })
                    })
                    .collect();
                ready.send(()).unwrap();
                worker.started().await;
                drop(accepting);
                for connection in connections {
                    connection.await.unwrap();
                }
            });
        }));
    }
    single_threaded().block_on(async {
        for ready in up {
            ready.await.unwrap();
        }
        assert_eq!(drain.live(), WORKERS * 101);
        assert_eq!(drain.finish(AGES).await, DrainOutcome::Finished);
    });
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(drain.live(), 0);
}

#[test]
fn the_last_guard_of_two_racing_threads_wakes_control() {
    for _ in 0..200 {
        let drain = Drain::new(2);
        let guards = [drain.worker(0).live(), drain.worker(1).live()];
        thread::scope(|scope| {
            for guard in guards {
                scope.spawn(move || drop(guard));
            }
            let outcome = single_threaded().block_on(drain.finish(AGES));
            assert_eq!(outcome, DrainOutcome::Finished);
        });
    }
}

#[test]
fn readiness_needs_a_directory_that_is_not_too_old_and_listeners_and_ends_with_the_drain() {
    let drain = Drain::new(1);
    let readiness = Readiness::new(drain.clone());
    assert_eq!(readiness.missing(), [Unready::DirectoryNotLoaded, Unready::ListenersNotBound]);
    readiness.listeners_bound();
    assert_eq!(readiness.missing(), [Unready::DirectoryNotLoaded]);
    let directory = Arc::new(DirectoryView::default());
    readiness.directory_loaded(Arc::clone(&directory));
    assert_eq!(readiness.missing(), []);
    directory.status.allow_age(Some(Duration::ZERO));
    assert_eq!(readiness.missing(), [Unready::DirectoryStale]);
    directory.status.allow_age(None);
    assert_eq!(readiness.missing(), []);
    drain.start();
    assert_eq!(readiness.missing(), [Unready::Draining]);
}

fn single_threaded() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

/// Polls once: what it came to, or `None` if it still waits.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut *future).poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
