//! Whether somebody is who they say: a password and, where two-factor authentication is on, a one-time password. The work
//! is the same for an account that does not exist, up to the moment when the password is known to be right.

use super::Login;
use super::password::Verified;
use super::seal::{Purpose, SealError};
use super::totp::Authenticator;
use crate::directory::model::{Timestamp, TotpRecord};
use crate::directory::operations::{Credentials, Proved};

/// What was found out about somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// They are who they say.
    Given(Proved),
    /// The password is right, and a one-time password is needed too.
    OneTimePasswordMissing,
    /// There is no such account, or the password is wrong.
    Wrong,
    /// The password is right, and the one-time password is wrong: to be told to nobody.
    OneTimePasswordWrong,
}

/// Whether a one-time password is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondFactor<'a> {
    /// For a login, if two-factor authentication is on: this is what was given.
    IfEnabled(Option<&'a str>),
    /// Not for somebody who is logged in and shows to know the password.
    NotAsked,
}

impl Login {
    /// Compares what somebody gave with what is known of the account they named. Blocks while it hashes.
    ///
    /// # Errors
    /// If the secret of the one-time passwords cannot be opened.
    pub fn prove(
        &self,
        account: Option<&Credentials>,
        password: &str,
        second: SecondFactor<'_>,
        now: Timestamp,
    ) -> Result<Proof, SealError> {
        let stored = account.and_then(|account| account.password.as_ref());
        let verified = self.passwords.verify(password, stored.map(|stored| stored.hash.as_str()));
        let (Some(account), Some(stored)) = (account, stored) else { return Ok(Proof::Wrong) };
        if verified == Verified::Wrong {
            return Ok(Proof::Wrong);
        }
        let mut proved = Proved {
            user_id: account.user.id.clone(),
            hash: stored.hash.clone(),
            renewed_hash: None,
            totp_step: None,
        };
        if let (SecondFactor::IfEnabled(given), true) = (second, account.user.two_factor_enabled) {
            let Some(given) = given.filter(|given| !given.trim().is_empty()) else {
                return Ok(Proof::OneTimePasswordMissing);
            };
            // Switched on without a secret, which only a broken store has, nothing is right.
            let step = account.totp.as_ref().map(|totp| self.check(totp, given, now)).transpose()?.flatten();
            proved.totp_step = Some(match step {
                Some(step) => step,
                None => return Ok(Proof::OneTimePasswordWrong),
            });
        }
        if verified == Verified::RightAndOutdated {
            proved.renewed_hash = Some(self.passwords.hash(password));
        }
        Ok(Proof::Given(proved))
    }

    fn check(&self, totp: &TotpRecord, given: &str, now: Timestamp) -> Result<Option<u64>, SealError> {
        let secret = self.sealer.open(Purpose::Totp(&totp.user_id), &totp.sealed_secret)?;
        let authenticator = Authenticator::from_secret(&secret);
        Ok(authenticator.ok().and_then(|app| app.check(given, u64::from(now.0), totp.last_step)))
    }
}
