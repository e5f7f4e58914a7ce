//! From start to stop: what makes the process ready, how it drains, which signals ask for what, whether it gets on, and what
//! the service manager hears of all that.
//!
//! What must not live here: what is done at each step (that is the application's wiring), sockets that are served, and HTTP.

pub mod core_dumps;
pub mod descriptors;
pub mod drain;
pub mod notify;
pub mod progress;
pub mod readiness;
pub mod signals;
pub mod watchdog;

pub use drain::{Drain, DrainOutcome, Live, WorkerDrain};
pub use progress::{Progress, Pulse};
pub use readiness::{Readiness, Unready};
pub use signals::{SignalEvent, Signals};
