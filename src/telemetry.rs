//! What Postern tells about itself: metrics, the access log, and the program's own log. To be filled.

pub mod record;
