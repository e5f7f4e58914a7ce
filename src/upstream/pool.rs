//! One worker's idle connections to one endpoint: last used first, so that what is not needed ages and is closed.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::exchange::Exchange;
use crate::telemetry::metrics::EndpointMetrics;

/// Idle connections to one endpoint.
#[derive(Debug)]
pub struct IdlePool {
    worker: usize,
    #[expect(clippy::vec_box, reason = "an exchange is moved in and out at each request and is large")]
    idle: RefCell<Vec<Box<Exchange>>>,
    most: usize,
    timeout: Duration,
    metrics: Arc<EndpointMetrics>,
}

impl IdlePool {
    /// An empty pool that keeps at most `most` connections, each for at most `timeout`.
    pub fn new(worker: usize, most: usize, timeout: Duration, metrics: Arc<EndpointMetrics>) -> Self {
        Self { worker, idle: RefCell::default(), most, timeout, metrics }
    }

    /// What is counted about the endpoint.
    pub fn metrics(&self) -> &EndpointMetrics {
        &self.metrics
    }

    /// Counts a new connection, in use.
    pub fn active(&self) -> ConnectionGauge {
        ConnectionGauge::active(Arc::clone(&self.metrics), self.worker)
    }

    /// The connection used last that still works.
    pub fn take(&self, now: Instant) -> Option<Box<Exchange>> {
        loop {
            let mut exchange = self.idle.borrow_mut().pop()?;
            // Nobody has watched the connection while it was idle: one look tells if the other side closed it.
            if exchange.is_reusable() && now.saturating_duration_since(exchange.idle_since) < self.timeout {
                exchange.gauge.set_active();
                return Some(exchange);
            }
        }
    }

    /// Keeps a connection for the next request, if nothing speaks against it and there is room. Whether the other side
    /// has closed it, or has sent more than it should, is looked at when it is taken.
    pub fn put(&self, mut exchange: Box<Exchange>, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.most && exchange.is_at_rest() {
            exchange.rest();
            exchange.idle_since = now;
            exchange.gauge.set_idle();
            idle.push(exchange);
        }
    }

    /// Closes what was idle for too long or was closed by the other side.
    pub fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain_mut(|exchange| {
            exchange.is_reusable() && now.duration_since(exchange.idle_since) < self.timeout
        });
    }
}

/// Counts one connection as active or idle for as long as it lives.
#[derive(Debug)]
pub struct ConnectionGauge {
    metrics: Arc<EndpointMetrics>,
    worker: usize,
    is_idle: bool,
}

impl ConnectionGauge {
    fn active(metrics: Arc<EndpointMetrics>, worker: usize) -> Self {
        metrics.connection_opened(worker);
        Self { metrics, worker, is_idle: false }
    }

    pub(super) fn set_active(&mut self) {
        if std::mem::replace(&mut self.is_idle, false) {
            self.metrics.connection_reused(self.worker);
        }
    }

    pub(super) fn set_idle(&mut self) {
        if !std::mem::replace(&mut self.is_idle, true) {
            self.metrics.connection_idled(self.worker);
        }
    }
}

impl Drop for ConnectionGauge {
    fn drop(&mut self) {
        if self.is_idle {
            self.metrics.idle_connection_closed(self.worker);
        } else {
            self.metrics.active_connection_closed(self.worker);
        }
    }
}
