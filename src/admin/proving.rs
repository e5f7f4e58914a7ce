//! Proving a password over the network: throttle, queue, hash, in this order, so that guessing is refused before it costs
//! anything. Shared by all that ask for a password.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};

use super::{Admin, ApiError, beside};
use crate::directory::operations::{self, Proved};
use crate::login::gate::Turn;
use crate::login::password;
use crate::login::proof::{Proof, SecondFactor};
use crate::telemetry::metrics::LoginOutcome;

/// What comes back in at most, in seconds: nobody is told to stay away for longer at once.
const LONGEST_RETRY: u64 = 3600;

/// A password that somebody says is theirs.
pub(super) struct Claim {
    pub(super) email: String,
    pub(super) password: SecretString,
    pub(super) second: Second,
    pub(super) address: IpAddr,
}

/// Whether a one-time password is asked for, and what was given.
pub(super) enum Second {
    IfEnabled(Option<String>),
    NotAsked,
}

/// Lets somebody prove that an account is theirs.
///
/// # Errors
///
/// 429 if there have been too many tries, 401 if they have not, 510 if a one-time password is needed too.
pub(super) async fn prove(admin: &Arc<Admin>, claim: Claim) -> Result<Proved, ApiError> {
    let login = &admin.login;
    let attempt = login.admit(&claim.email, claim.address).map_err(|refusal| {
        login.count(LoginOutcome::Throttled);
        too_many(refusal.retry_after, "Too many failed logins.")
    })?;
    let turn = match login.turn(&attempt).await {
        Ok(turn) => turn,
        Err(_busy) => {
            login.count(LoginOutcome::Busy);
            attempt.undecided();
            return Err(too_many(Duration::from_secs(1), "Too many logins at once."));
        }
    };
    let (here, now, address) = (Arc::clone(admin), admin.now(), claim.address);
    let proof = beside(move || {
        let _turn: Turn = turn;
        let email = claim.email.clone();
        let account =
            here.synchronizer.store().read(move |records| operations::credentials(records, &email))?;
        let second = match &claim.second {
            Second::IfEnabled(given) => SecondFactor::IfEnabled(given.as_deref()),
            Second::NotAsked => SecondFactor::NotAsked,
        };
        let proof = here.login.prove(account.as_ref(), claim.password.expose_secret(), second, now);
        proof.map_err(|error| {
            tracing::error!(%error, "a one-time password cannot be checked");
            ApiError::internal()
        })
    });
    let proof = proof.await;
    let one_time_password = match &proof {
        Ok(Proof::Given(proved)) => proved.totp_step.map(|_step| true),
        Ok(Proof::OneTimePasswordWrong) => Some(false),
        Ok(Proof::OneTimePasswordMissing | Proof::Wrong) | Err(_) => None,
    };
    if let Some(is_right) = one_time_password {
        // Dropped, the attempt counts as failed.
        attempt.one_time_password(Instant::now(), is_right).map_err(|refusal| {
            login.count(LoginOutcome::Throttled);
            too_many(refusal.retry_after, "Too many wrong one-time passwords.")
        })?;
    }
    match proof {
        Ok(Proof::Given(proved)) => {
            login.count(LoginOutcome::Succeeded);
            attempt.succeeded();
            Ok(proved)
        }
        Ok(Proof::OneTimePasswordMissing) => {
            login.count(LoginOutcome::OneTimePasswordMissing);
            attempt.undecided();
            Err(ApiError::new(
                StatusCode::NOT_EXTENDED,
                "otp_required",
                "Two-factor authentication is on: repeat the request with the one-time password in `otp`.",
            ))
        }
        Ok(Proof::Wrong | Proof::OneTimePasswordWrong) => {
            login.count(LoginOutcome::Failed);
            // Never what was typed: people type passwords into the wrong field. The gate bounds how many lines there are.
            tracing::warn!(%address, "a login failed");
            Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                "invalid_credentials",
                "Address, password or one-time password is wrong.",
            ))
        }
        Err(error) => {
            attempt.undecided();
            Err(error)
        }
    }
}

/// Hashes a new password, if it is strong enough, in the queue of all who hash.
///
/// # Errors
///
/// 400 that says why not.
pub(super) async fn hash(
    admin: &Arc<Admin>,
    field: &'static str,
    password: SecretString,
    email: &str,
    name: &str,
) -> Result<String, ApiError> {
    let (email, name) = (email.to_owned(), name.to_owned());
    let turn = admin.login.turn_of_known().await;
    let turn = turn.map_err(|_busy| too_many(Duration::from_secs(1), "Too many logins at once."))?;
    let here = Arc::clone(admin);
    beside(move || {
        let _turn: Turn = turn;
        password::check_strength(password.expose_secret(), &email, &name)
            .map_err(|weakness| ApiError::bad_request(field, weakness))?;
        Ok(here.login.passwords.hash(password.expose_secret()))
    })
    .await
}

fn too_many(retry_after: Duration, why: &'static str) -> ApiError {
    let seconds = (retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0)).clamp(1, LONGEST_RETRY);
    ApiError::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too_many_requests",
        format!("{why} Try again in {seconds} seconds."),
    )
    .with_header(RETRY_AFTER, HeaderValue::from(seconds))
}
