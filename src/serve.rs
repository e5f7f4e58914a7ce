//! One downstream connection, from accepted stream to closed.
//!
//! What must not live here: what a request may do (that is [`crate::policy`]), or where it goes.

pub mod guard;
pub mod target;
