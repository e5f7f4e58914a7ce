//! Postern: an authenticating reverse-proxy sidecar.
//!
//! The map, in the order of a request's way; ARCHITECTURE.md says more.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`token`] | credential, digest, token format, token cache, usage |
//! | [`policy`] | the decision, a pure function |
//! | [`directory`] | organizations, users, grants, policies and tokens: durable, in memory, and in step |
//! | [`config`] | the TOML file and what it resolves to |
//! | [`serve`] | one downstream connection: what is let through to HTTP, and when it ends |
//! | [`telemetry`] | metrics, access log |

pub mod config;
pub mod directory;
pub mod policy;
pub mod serve;
pub mod telemetry;
pub mod token;
