//! Postern: an authenticating reverse-proxy sidecar.
//!
//! The map, in the order of a request's way; ARCHITECTURE.md says more.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`app`] | the wiring: start, reload, stop |
//! | [`limit`] | limits of rate and number: of routes, tokens, failed authentication |
//! | [`listen`] | sockets, accepting, TLS |
//! | [`serve`] | one downstream connection: HTTP/1, HTTP/2, deadlines |
//! | [`pipeline`] | one request, from its head to its outcome: read this first |
//! | [`route`] | host and path → route |
//! | [`token`] | credential, digest, token format, token cache, usage |
//! | [`policy`] | the decision, a pure function |
//! | [`headers`] | hop-by-hop, identity, forwarding, trace |
//! | [`identity_token`] | the signed statement of who is asking, for upstreams that want one |
//! | [`upstream`] | connections to the services behind |
//! | [`explain`] | a decision as it is told to people |
//! | [`error`] | Postern's own answers |
//! | [`worker`], [`snapshot`] | one thread's state, and the configuration it runs on |
//! | `slab` | a table that one thread makes longer while others read it |
//! | `primitives` | what threads share things by, where every order of their steps is checked |
//! | [`directory`] | organizations, users, grants, policies and tokens: durable, in memory, and in step |
//! | [`login`] | how people prove who they are: passwords, one-time passwords, sessions, third parties, identity providers |
//! | [`admin`] | the management API: one file a resource |
//! | [`config`] | the TOML file and what it resolves to |
//! | [`telemetry`] | metrics, access log, the program's own log |
//! | [`ops`] | `/metrics`, `/healthz`, `/readyz`, the public keys |
//! | [`lifecycle`] | readiness, drain, signals |
//! | [`cli`] | the command line: one file a group of commands |

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod directory;
pub mod error;
pub mod explain;
pub mod headers;
pub mod identity_token;
pub mod lifecycle;
pub mod limit;
pub mod listen;
pub mod login;
pub mod ops;
pub mod pipeline;
pub mod policy;
mod primitives;
pub mod route;
pub mod serve;
mod slab;
pub mod snapshot;
pub mod telemetry;
pub mod token;
pub mod upstream;
pub mod worker;
