//! One worker's open connections: who is too slow, and whom to tell when the worker drains.
//!
//! A look at all of them a few times a second replaces timers that every request would have to set and reset.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::Notify;

use super::connection::{Connection, Order};
use crate::snapshot::Listener;

/// A worker's open connections.
#[derive(Debug, Default)]
pub struct Registry {
    entered: Rc<Entered>,
    open: Rc<Open>,
    /// What is wanted of every connection.
    order: Cell<Order>,
}

/// Connections by place, and the places that are free.
#[derive(Debug, Default)]
struct Entered {
    slots: RefCell<Vec<Option<Rc<Connection>>>>,
    free: RefCell<Vec<usize>>,
}

/// How many connections are open, of a worker or of one of its listeners, and who waits for that to change.
#[derive(Debug, Default)]
pub struct Open {
    connections: Cell<usize>,
    closed: Notify,
}

/// Counts one connection as open, from its accept to its end, whatever it does or does not send in between.
#[derive(Debug)]
pub struct Accepted {
    /// The worker's connections, and the listener's.
    counts: [Rc<Open>; 2],
}

/// A connection's place in the registry, given back when this is dropped, also by a panic.
#[derive(Debug)]
pub struct Registration {
    entered: Rc<Entered>,
    slot: usize,
}

impl Registry {
    /// Counts a connection from now on, until the result is dropped, here and among its listener's.
    pub fn accepted(&self, of_listener: &Rc<Open>) -> Accepted {
        let counts = [Rc::clone(&self.open), Rc::clone(of_listener)];
        for count in &counts {
            count.connections.set(count.connections.get() + 1);
        }
        Accepted { counts }
    }

    /// Enters a connection. One that comes while leaving or draining is told so at once.
    pub fn enter(&self, connection: &Rc<Connection>) -> Registration {
        let mut slots = self.entered.slots.borrow_mut();
        let slot = self.entered.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(None);
            slots.len() - 1
        });
        slots[slot] = Some(Rc::clone(connection));
        connection.give(self.order.get());
        Registration { entered: Rc::clone(&self.entered), slot }
    }

    /// All that are open.
    pub fn open(&self) -> &Open {
        &self.open
    }

    /// Looks at every connection for what has taken too long by its listener's rules.
    pub fn look(&self, now: Instant, listeners: &[Listener]) {
        for connection in self.entered.slots.borrow().iter().flatten() {
            // A reload neither adds nor removes listeners.
            if let Some(listener) = listeners.get(connection.origin.listener) {
                connection.look(now, &listener.timeouts);
            }
        }
    }

    /// Tells every connection, present and future, to end with its next answer.
    pub fn leave(&self) {
        self.give(Order::Leave);
    }

    /// Tells every connection, present and future, to end once its requests are done.
    pub fn drain(&self) {
        self.give(Order::Drain);
    }

    fn give(&self, order: Order) {
        self.order.set(order);
        for connection in self.entered.slots.borrow().iter().flatten() {
            connection.give(order);
        }
    }
}

impl Open {
    /// Their number.
    pub fn count(&self) -> usize {
        self.connections.get()
    }

    /// Returns once fewer than `limit` are open.
    pub async fn below(&self, limit: usize) {
        loop {
            let closed = self.closed.notified();
            if self.count() < limit {
                return;
            }
            closed.await;
        }
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        for count in &self.counts {
            count.connections.set(count.connections.get() - 1);
            count.closed.notify_waiters();
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.entered.slots.borrow_mut()[self.slot] = None;
        self.entered.free.borrow_mut().push(self.slot);
    }
}
