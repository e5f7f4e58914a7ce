//! What Postern tells about itself: metrics, the access log, and the program's own log.
//!
//! What must not live here: anything that changes how a request is answered, and any full token.

pub mod access_log;
pub mod log;
pub mod metrics;
pub mod record;
pub mod spans;

pub use access_log::AccessLog;
pub use metrics::Metrics;
