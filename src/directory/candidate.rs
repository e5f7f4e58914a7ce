//! Shadow mode: a policy that is tried on real requests, and what would have come of it. Nothing is refused because of
//! it. The deciding itself is [`crate::policy`]'s, on the same facts.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::directory::model::Timestamp;
use crate::policy::{AuthenticationPolicy, Denial};

/// How many sets of counters there are: workers beyond share.
const STRIPES: usize = 8;

/// A policy on trial, with its counts since this sidecar took it up.
#[derive(Debug)]
pub struct Candidate {
    /// The policy.
    pub policy: AuthenticationPolicy,
    /// Since when it is counted here.
    pub counted_since: Timestamp,
    stripes: [Stripe; STRIPES],
}

/// Counters of one worker, or of a few, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    tried: AtomicU64,
    would_deny: [AtomicU64; Denial::ALL.len()],
    would_permit: [AtomicU64; Denial::ALL.len()],
}

/// In what a candidate differs from the policy in force, on one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The request was let in; the candidate would refuse it, for this reason.
    WouldDeny(Denial),
    /// The request was refused, for this reason; the candidate would let it in.
    WouldPermit(Denial),
}

/// What would have come of a candidate so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShadowCounts {
    /// Requests it was tried on.
    pub tried: u64,
    /// Requests that were let in and that it would refuse, by its reason.
    pub would_deny: Vec<(Denial, u64)>,
    /// Requests that were refused and that it would let in, by the reason they were refused for.
    pub would_permit: Vec<(Denial, u64)>,
}

impl Candidate {
    /// A policy that nothing has been counted of.
    pub fn new(policy: AuthenticationPolicy, counted_since: Timestamp) -> Self {
        Self { policy, counted_since, stripes: Default::default() }
    }

    /// Counts one request. `worker` is the calling worker's index.
    pub fn count(&self, worker: usize, difference: Option<Difference>) {
        let stripe = &self.stripes[worker % STRIPES];
        stripe.tried.fetch_add(1, Ordering::Relaxed);
        match difference {
            Some(Difference::WouldDeny(denial)) => {
                stripe.would_deny[denial as usize].fetch_add(1, Ordering::Relaxed);
            }
            Some(Difference::WouldPermit(denial)) => {
                stripe.would_permit[denial as usize].fetch_add(1, Ordering::Relaxed);
            }
            None => {}
        }
    }

    /// The counts so far, of this sidecar alone; reasons that did not occur are left out.
    pub fn counts(&self) -> ShadowCounts {
        let sum = |of: fn(&Stripe) -> &[AtomicU64; Denial::ALL.len()]| {
            let counted = Denial::ALL.into_iter().enumerate().map(|(position, denial)| {
                let counts = self.stripes.iter().map(|stripe| of(stripe)[position].load(Ordering::Relaxed));
                (denial, counts.sum::<u64>())
            });
            counted.filter(|(_, count)| *count > 0).collect()
        };
        ShadowCounts {
            tried: self.stripes.iter().map(|stripe| stripe.tried.load(Ordering::Relaxed)).sum(),
            would_deny: sum(|stripe| &stripe.would_deny),
            would_permit: sum(|stripe| &stripe.would_permit),
        }
    }
}
