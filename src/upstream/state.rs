//! What is known of an upstream while it is served, by all workers together: where it is, and how that fares. It outlives
//! a reload that does not change the upstream.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::target::{Place, Target};
use crate::config::UpstreamConfig;

/// What all workers and the control side know of one upstream.
#[derive(Debug)]
pub struct State {
    targets: ArcSwap<Vec<Arc<Target>>>,
    /// Where its clock begins.
    started: Instant,
    /// Held while an address is ejected.
    pub(super) ejecting: Mutex<()>,
}

impl State {
    /// As configured, with nothing known.
    pub(super) fn new(config: &UpstreamConfig) -> Self {
        let places = config.endpoints.iter().map(Place::of).enumerate();
        let targets = places.map(|(endpoint, place)| Arc::new(Target::new(endpoint, place))).collect();
        Self { targets: ArcSwap::from_pointee(targets), started: Instant::now(), ejecting: Mutex::new(()) }
    }

    /// Where requests can go; at least one.
    pub fn targets(&self) -> Arc<Vec<Arc<Target>>> {
        self.targets.load_full()
    }

    /// A moment on its clock, in milliseconds.
    pub(crate) fn milliseconds(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }
}
