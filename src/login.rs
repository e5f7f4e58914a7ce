//! How people prove who they are: passwords, one-time passwords, the throttle in front of them, third parties and
//! identity providers, what is kept sealed, and how long a session lasts; and how organizations show that a domain is
//! theirs.
//!
//! Nothing here knows HTTP of the management API, and nothing decides what a session may do: that is the policy's. What is written to the
//! store, and when, is in [`crate::directory::operations`].

pub mod domain;
pub mod gate;
pub mod github;
pub mod identity;
pub mod oidc;
pub mod outgoing;
pub mod password;
pub mod proof;
pub mod seal;
pub mod session;
pub mod sign_in;
pub mod throttle;
pub mod totp;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use gate::{Busy, Gate, Turn};
use password::{HashCost, Passwords};
use seal::Sealer;
use session::SessionLifetime;
use throttle::{Attempt, Budget, Refusal, Throttle, ThrottleSettings};

use crate::config::LoginConfig;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{LoginOutcome, SignInOutcome};

/// Everything that logging in needs, shared by all requests.
#[derive(Debug)]
pub struct Login {
    /// Hashes and verifies.
    pub passwords: Passwords,
    /// Refuses who tries too often, before anything is hashed.
    pub throttle: Throttle,
    /// Encrypts what has to be recoverable.
    pub sealer: Sealer,
    /// How long a session lasts.
    pub session: SessionLifetime,
    gate: Gate,
    metrics: Arc<Metrics>,
}

impl Login {
    /// As configured; `store` is the file of the store, whose key file stands beside it.
    pub fn new(config: &LoginConfig, store: &Path, metrics: Arc<Metrics>) -> Self {
        Self {
            passwords: Passwords::counted_by(
                HashCost {
                    memory_kib: config.argon2_memory_kib,
                    iterations: config.argon2_iterations,
                    parallelism: config.argon2_parallelism,
                },
                metrics.control().password_hashes(),
            ),
            throttle: Throttle::new(ThrottleSettings {
                free_attempts: config.free_attempts,
                longest_delay: config.longest_delay,
                source: Budget { attempts: config.source_attempts, refill: config.source_refill },
            }),
            sealer: Sealer::beside(store),
            session: SessionLifetime {
                idle_seconds: config.session_idle_seconds,
                absolute_seconds: config.session_absolute_seconds,
            },
            gate: Gate::new(config.concurrent_hashes),
            metrics,
        }
    }

    /// Counts what came of an attempt.
    pub fn count(&self, outcome: LoginOutcome) {
        self.metrics.control().login(outcome);
    }

    /// Counts what came of somebody's return from a third party or an identity provider.
    pub fn count_sign_in(&self, outcome: SignInOutcome) {
        self.metrics.control().sign_in(outcome);
    }

    /// Lets somebody try to prove that an account is theirs, or says when to come back.
    ///
    /// # Errors
    /// If there have been too many tries.
    pub fn admit(&self, email: &str, address: IpAddr) -> Result<Attempt<'_>, Refusal> {
        self.throttle.admit(Instant::now(), email, address)
    }

    /// Waits for a turn to hash; few hash at a time, so that the process stays responsive.
    ///
    /// # Errors
    /// If too many are waiting.
    pub async fn turn(&self, attempt: &Attempt<'_>) -> Result<Turn, Busy> {
        self.gate.enter(attempt.lane()).await
    }

    /// As [`Self::turn`], for somebody who is known by a token or a code.
    ///
    /// # Errors
    /// If too many are waiting.
    pub async fn turn_of_known(&self) -> Result<Turn, Busy> {
        self.gate.enter(gate::Lane::Known).await
    }
}
