//! The guard in front of a real hyper: bytes in, what the client is answered, and what the service sees.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "guard/accepted.rs"]
mod accepted;
#[path = "guard/connection.rs"]
mod connection;
#[path = "guard/random.rs"]
mod random;
#[path = "guard/refused.rs"]
mod refused;
#[path = "guard/support.rs"]
mod support;
