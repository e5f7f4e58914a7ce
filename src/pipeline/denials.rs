//! The latest denials, so that an operator who is given a request id can say why: in memory only, and bounded.
//!
//! Each worker keeps its own. Denials of known tokens come with the facts they were decided on, to be explained when
//! somebody asks; those of strangers are kept apart and say less, so that a flood of them pushes out nothing but their like.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::directory::gather::KeptFacts;
use crate::headers::trace::RequestId;
use crate::policy::{Denial, Permission};
use crate::snapshot::RouteLabel;

/// Denials looked through before the worker may go on: some millionths of a second.
const LOOKED_THROUGH_AT_ONCE: usize = 256;

/// The latest denials of all workers.
#[derive(Debug, Default)]
pub struct RecentDenials {
    workers: Box<[OfWorker]>,
}

/// One worker's, on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct OfWorker {
    known: Mutex<Ring<OfToken>>,
    strangers: Mutex<Ring<Denied>>,
}

/// A request that was refused.
#[derive(Clone, Debug)]
pub struct Denied {
    /// The request's id.
    pub request_id: RequestId,
    /// When its head had arrived.
    pub time: SystemTime,
    /// From where.
    pub client_address: IpAddr,
    /// The route; `None` if there is none for it.
    pub route: Option<Arc<RouteLabel>>,
    /// What the route asks for; `None` without a route.
    pub required: Option<Permission>,
    /// Why.
    pub reason: Denial,
}

/// A request with a known token that was refused.
#[derive(Clone, Debug)]
pub struct OfToken {
    /// The refusal.
    pub denied: Denied,
    /// The token's prefix: within this, but for long ones of imported tokens.
    pub token_prefix: SmallVec<[u8; 24]>,
    /// What it was decided on.
    pub facts: KeptFacts,
}

/// A denial as it is found again.
#[derive(Clone, Debug)]
pub enum RecentDenial {
    /// Of a known token.
    OfToken(Box<OfToken>),
    /// Of a stranger.
    OfStranger(Denied),
}

impl RecentDenials {
    /// Room for `capacity` denials of known tokens, and for as many of strangers, over all workers. Memory is taken as it
    /// is needed. 0: nothing is remembered.
    pub fn new(workers: usize, capacity: usize) -> Self {
        let each = capacity.div_ceil(workers.max(1));
        let of_worker =
            || OfWorker { known: Mutex::new(Ring::new(each)), strangers: Mutex::new(Ring::new(each)) };
        Self { workers: (0..workers).map(|_| of_worker()).collect() }
    }

    /// Remembers that a known token was refused. `worker` is the calling worker's index.
    pub fn remember(&self, worker: usize, denied: OfToken) {
        if let Some(of_worker) = self.workers.get(worker) {
            of_worker.known.lock().push(denied);
        }
    }

    /// Remembers that a stranger was refused.
    pub fn remember_stranger(&self, worker: usize, denied: Denied) {
        if let Some(of_worker) = self.workers.get(worker) {
            of_worker.strangers.lock().push(denied);
        }
    }

    /// The denial of the request with this id, if it is still remembered. Not for workers: it looks at all of them.
    pub fn find(&self, request_id: &str) -> Option<RecentDenial> {
        let request_id: RequestId = request_id.as_bytes().try_into().ok()?;
        self.workers.iter().find_map(|of_worker| {
            let known = find(&of_worker.known, |kept| kept.denied.request_id == request_id);
            known.map(|of_token| RecentDenial::OfToken(Box::new(of_token))).or_else(|| {
                let stranger = find(&of_worker.strangers, |kept| kept.request_id == request_id);
                stranger.map(RecentDenial::OfStranger)
            })
        })
    }
}

impl OfToken {
    /// The token's prefix.
    pub fn token_prefix(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.token_prefix)
    }
}

impl RecentDenial {
    /// The refusal.
    pub fn denied(&self) -> &Denied {
        match self {
            Self::OfToken(of_token) => &of_token.denied,
            Self::OfStranger(denied) => denied,
        }
    }

    /// The token's part, if it is a known one.
    pub fn of_token(&self) -> Option<&OfToken> {
        match self {
            Self::OfToken(of_token) => Some(of_token),
            Self::OfStranger(_) => None,
        }
    }
}

/// Looks through a ring piece by piece: the worker whose ring it is must not wait for the whole of it. What it pushes
/// out meanwhile is missed, as it would have been a moment later.
fn find<T: Clone>(ring: &Mutex<Ring<T>>, is_wanted: impl Fn(&T) -> bool) -> Option<T> {
    let mut from = 0;
    loop {
        let ring = ring.lock();
        if from >= ring.kept.len() {
            return None;
        }
        let until = ring.kept.len().min(from + LOOKED_THROUGH_AT_ONCE);
        if let Some(found) = ring.kept[from..until].iter().find(|kept| is_wanted(kept)) {
            return Some(found.clone());
        }
        from = until;
    }
}

/// The latest so many of something.
#[derive(Debug)]
struct Ring<T> {
    kept: Vec<T>,
    capacity: usize,
    /// The oldest, once all places are taken.
    next: usize,
}

impl<T> Ring<T> {
    const fn new(capacity: usize) -> Self {
        Self { kept: Vec::new(), capacity, next: 0 }
    }

    fn push(&mut self, new: T) {
        if self.kept.len() < self.capacity {
            self.kept.push(new);
        } else if let Some(oldest) = self.kept.get_mut(self.next) {
            *oldest = new;
            self.next = if self.next + 1 == self.capacity { 0 } else { self.next + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::net::Ipv4Addr;

    use super::*;

    fn stranger(number: usize) -> Denied {
        Denied {
            request_id: id(number).as_bytes().try_into().unwrap(),
            time: SystemTime::UNIX_EPOCH,
            client_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            route: None,
            required: None,
            reason: Denial::UnknownToken,
        }
    }

    fn id(number: usize) -> String {
        format!("{number:032x}")
    }

    #[test]
    fn the_latest_are_found_and_the_oldest_give_way() {
        let recent = RecentDenials::new(2, 2_000);
        for number in 0..3_000 {
            recent.remember_stranger(number % 2, stranger(number));
        }
        for number in 0..1_000 {
            assert!(recent.find(&id(number)).is_none(), "{number}");
        }
        for number in 1_000..3_000 {
            let found = recent.find(&id(number)).unwrap();
            assert_eq!(found.denied().request_id, stranger(number).request_id);
            assert!(found.of_token().is_none());
        }
        assert!(recent.find("nonsense").is_none() && recent.find("").is_none());
    }

    #[test]
    fn nothing_is_remembered_where_there_is_no_room() {
        for recent in [RecentDenials::new(1, 0), RecentDenials::default()] {
            recent.remember_stranger(0, stranger(1));
            assert!(recent.find(&id(1)).is_none());
        }
    }
}
