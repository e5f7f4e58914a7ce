//! How people prove who they are: through third parties and identity providers, and how organizations show that a
//! domain is theirs.
//!
//! Nothing here knows HTTP of the management API, and nothing decides what a session may do: that is the policy's. What
//! is written to the store, and when, is in [`crate::directory::operations`].

pub mod domain;
pub mod github;
pub mod identity;
pub mod oidc;
pub mod outgoing;
pub mod sign_in;
