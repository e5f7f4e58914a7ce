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
//! | [`telemetry`] | metrics, access log, the program's own log |
//! | [`ops`] | `/metrics`, `/healthz`, `/readyz` |
//! | [`lifecycle`] | readiness, drain, signals |

pub mod config;
pub mod directory;
pub mod lifecycle;
pub mod ops;
pub mod policy;
pub mod telemetry;
pub mod token;
