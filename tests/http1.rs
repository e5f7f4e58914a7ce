//! HTTP/1 with scripted clients: bytes in, what the client is answered, and what the service sees.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "http1/accepted.rs"]
mod accepted;
#[path = "http1/connection.rs"]
mod connection;
#[path = "http1/random.rs"]
mod random;
#[path = "http1/refused.rs"]
mod refused;
#[path = "http1/support.rs"]
mod support;
