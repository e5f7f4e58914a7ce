//! Requests that run on after their decision: WebSockets, streams, long answers. They are decided again whenever something
//! has changed, so that a revoked token's end is theirs, within a look.
//!
//! A worker looks over all of them a few times a second; a request that is over by then costs a place in a table and nothing
//! else. What must not live here: how a request is ended.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Waker};

use crate::directory::gather::{Gathered, Question};
use crate::error::Answer;
use crate::policy::{self, Denial, Permission};
use crate::serve::connection::Way;
use crate::token::TokenIndex;
use crate::worker::{LocalSnapshot, Shared};

/// One worker's running requests.
#[derive(Debug, Default)]
pub struct Watches {
    slots: RefCell<Vec<Option<Watch>>>,
    free: RefCell<Vec<u32>>,
    seen: Cell<Seen>,
}

/// What decisions depend on beside the request. While it stays the same, so do they.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    now: u32,
    sequence: u64,
    generation: u64,
    is_directory_stale: bool,
}

/// A running request, and what was asked of its token.
#[derive(Debug)]
pub struct Watch {
    token: TokenIndex,
    snapshot: Rc<LocalSnapshot>,
    route: usize,
    required: Permission,
    client_address: IpAddr,
    way: Way,
    withdrawn: Option<Answer>,
    waker: Option<Waker>,
}

/// A request's place among the watched.
#[derive(Debug)]
pub struct Place(u32);

impl Watch {
    /// A request that was just permitted.
    pub fn new(
        token: TokenIndex,
        snapshot: Rc<LocalSnapshot>,
        route: usize,
        required: Permission,
        client_address: IpAddr,
        way: Way,
    ) -> Self {
        Self { token, snapshot, route, required, client_address, way, withdrawn: None, waker: None }
    }

    /// Whether it would be let in now.
    fn decide(&self, shared: &Shared, now: u32) -> Result<(), Denial> {
        let entry = shared.directory.tokens.entry(self.token).ok_or(Denial::UnknownToken)?;
        let question = Question { now, client_address: self.client_address, required: self.required };
        let project = &self.snapshot.shared.routes[self.route].project;
        let gathered = Gathered::new(&shared.directory, entry, Some(project), question);
        policy::decide(&gathered.facts()).map(drop)
    }
}

impl Watches {
    /// Watches a request until its place is given back.
    pub fn enter(&self, watch: Watch) -> Place {
        let mut slots = self.slots.borrow_mut();
        match self.free.borrow_mut().pop() {
            Some(place) => {
                slots[place as usize] = Some(watch);
                Place(place)
            }
            None => {
                slots.push(Some(watch));
                Place(u32::try_from(slots.len() - 1).expect("fewer requests than four billion run at once"))
            }
        }
    }

    /// The request is over.
    pub fn leave(&self, place: &Place) {
        // Dropped last: what a request holds may hold more.
        let _watch = self.slots.borrow_mut()[place.0 as usize].take();
        self.free.borrow_mut().push(place.0);
    }

    /// Why the request may not go on, if it may not; who asks is woken when that changes.
    pub fn withdrawn(&self, place: &Place, context: &Context<'_>) -> Option<Answer> {
        let mut slots = self.slots.borrow_mut();
        let watch = slots[place.0 as usize].as_mut()?;
        if watch.waker.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
            watch.waker = Some(context.waker().clone());
        }
        watch.withdrawn
    }

    /// Decides all of them again, if anything that decisions depend on is different from the last look. None goes on while the directory
    /// is too old to decide by.
    pub fn look(&self, shared: &Shared, now: u32, is_directory_stale: bool) {
        let sequence = shared.directory.status.sequence().0;
        let seen = Seen { now, sequence, generation: shared.generation(), is_directory_stale };
        if self.seen.replace(seen) == seen {
            return;
        }
        for watch in self.slots.borrow_mut().iter_mut().flatten() {
            if watch.withdrawn.is_some() {
                // It was told a look ago and is still there: its client takes nothing any more.
                watch.way.end();
                continue;
            }
            let decided = if is_directory_stale {
                Err(Answer::DirectoryStale)
            } else {
                watch.decide(shared, now).map_err(Answer::Denied)
            };
            if let Err(answer) = decided {
                watch.withdrawn = Some(answer);
                if let Some(waker) = watch.waker.take() {
                    waker.wake();
                }
            }
        }
    }
}
