//! From start to stop: what makes the process ready, how it drains, and which signals ask for what.
//!
//! What must not live here: what is done at each step (that is the application's wiring), sockets, and HTTP.

pub mod core_dumps;
pub mod descriptors;
pub mod drain;
pub mod readiness;
pub mod signals;

pub use drain::{Drain, DrainOutcome, Live, WorkerDrain};
pub use readiness::{Readiness, Unready};
pub use signals::{SignalEvent, Signals};
