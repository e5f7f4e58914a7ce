//! How many hash passwords at a time, and how many may wait for it. Hashing is made to be expensive: unbounded, it would
//! be the cheapest way to stop a sidecar.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Who waits where: strangers never stand in the way of those who logged in from where they are before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Somebody who has logged in to this account from this network.
    Known,
    /// Anybody else.
    Stranger,
}

/// Attempts that may wait for one that is being hashed, in each lane.
const WAITING_PER_HASH: usize = 16;

/// Too many are waiting already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// One turn to hash; ends when dropped. It belongs on the thread that hashes, which goes on when the client has gone.
#[derive(Debug)]
pub struct Turn {
    _permit: OwnedSemaphorePermit,
}

/// The bound.
#[derive(Debug)]
pub struct Gate {
    known: Way,
    strangers: Way,
}

#[derive(Debug)]
struct Way {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    most_waiting: usize,
}

impl Gate {
    /// So many at a time of strangers, and one more of those who are known.
    pub fn new(concurrent: usize) -> Self {
        Self { known: Way::new(1), strangers: Way::new(concurrent) }
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// If too many are waiting.
    pub async fn enter(&self, lane: Lane) -> Result<Turn, Busy> {
        match lane {
            Lane::Known => self.known.enter().await,
            Lane::Stranger => self.strangers.enter().await,
        }
    }
}

impl Way {
    fn new(concurrent: usize) -> Self {
        let concurrent = concurrent.max(1);
        Self {
            permits: Arc::new(Semaphore::new(concurrent)),
            waiting: AtomicUsize::new(0),
            most_waiting: concurrent * WAITING_PER_HASH,
        }
    }

    async fn enter(&self) -> Result<Turn, Busy> {
        let waiting = Waiting(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.most_waiting {
            return Err(Busy);
        }
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_closed| Busy)?;
        drop(waiting);
        Ok(Turn { _permit: permit })
    }
}

/// Counted as waiting, also if the client goes away in the meantime.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn strangers_wait_in_a_queue_with_an_end_and_never_before_those_who_are_known() {
        let gate = Gate::new(1);
        let hashing = gate.enter(Lane::Stranger).await.unwrap();
        let mut queue: Vec<_> = (0..WAITING_PER_HASH).map(|_| Box::pin(gate.enter(Lane::Stranger))).collect();
        for waiting in &mut queue {
            let pending = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_pending())).await;
            assert!(pending);
        }
        assert_eq!(gate.enter(Lane::Stranger).await.unwrap_err(), Busy);
        let known = gate.enter(Lane::Known).await.unwrap();
        drop(known);
        // Who gives up waiting makes room.
        queue.pop();
        let mut late = pin!(gate.enter(Lane::Stranger));
        assert!(poll_fn(|context| Poll::Ready(late.as_mut().poll(context).is_pending())).await);
        drop(hashing);
        for waiting in queue {
            waiting.await.unwrap();
        }
        late.await.unwrap();
    }
}
