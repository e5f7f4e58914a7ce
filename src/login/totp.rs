//! One-time passwords of an authenticator app (RFC 6238): SHA-1, six digits, thirty seconds, as every app has them.
//!
//! Where the secret is kept, and that no step is accepted twice, is for the caller to see to: a check says which step it
//! was.

use secrecy::zeroize::Zeroizing;
use totp_rs::{Algorithm, Builder, Secret, Totp};

/// Seconds that one password lasts.
pub const STEP_SECONDS: u64 = 30;

/// Digits of a password.
const DIGITS: u8 = 6;

/// Steps before and after the present one that are accepted: clocks differ.
const SKEW: u16 = 1;

/// A secret that is about to be, or has been, taken into an app.
#[derive(Debug)]
pub struct Authenticator(Totp);

/// Why a URI is not one that was handed out here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not what was answered when two-factor authentication was asked for: start anew")]
pub struct ForeignUri;

impl Authenticator {
    /// A new secret.
    pub fn generate(issuer: &str, email: &str) -> Self {
        Self::with_secret(Secret::generate(), issuer, email).expect("a generated secret is long enough")
    }

    /// The one with this secret.
    ///
    /// # Errors
    /// If the secret is too short to be one.
    pub fn from_secret(secret: &[u8]) -> Result<Self, ForeignUri> {
        Self::with_secret(Secret::from(secret), "", "user").ok_or(ForeignUri)
    }

    /// The one that was handed out, as the client gives it back.
    ///
    /// # Errors
    /// If it is not for this person, or not of the kind that is handed out.
    pub fn from_uri(uri: &str, issuer: &str, email: &str) -> Result<Self, ForeignUri> {
        let given = Totp::from_url(uri).map_err(|_| ForeignUri)?;
        let made = Self::with_secret(given.secret().clone(), issuer, email).ok_or(ForeignUri)?;
        // Whatever else the URI says would be another kind of one-time password.
        if made.0 == given { Ok(made) } else { Err(ForeignUri) }
    }

    /// The `otpauth:` URI that apps take in.
    pub fn uri(&self) -> String {
        self.0.to_url().expect("it has an account")
    }

    /// The URI as a picture, a PNG in base64.
    pub fn qr_code(&self) -> String {
        self.0.to_qr_base64().expect("the URI is short enough for a QR code")
    }

    /// What has to be kept.
    pub fn secret(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.secret().as_bytes().to_vec())
    }

    /// The step whose password this is, if it is one of now and no step up to `last_step` had been accepted.
    pub fn check(&self, password: &str, now_seconds: u64, last_step: u64) -> Option<u64> {
        let password = password.trim();
        let present = now_seconds / STEP_SECONDS;
        let steps = present.saturating_sub(u64::from(SKEW))..=present + u64::from(SKEW);
        steps.filter(|step| *step > last_step).find(|step| {
            // Asked of one step alone: a password that two steps share must not hide behind the used one.
            let at = step * STEP_SECONDS;
            self.alone().check(password, at).is_some()
        })
    }

    /// The password of a moment, as an app would show it.
    pub fn password_at(&self, now_seconds: u64) -> String {
        self.0.generate(now_seconds).to_string()
    }

    fn alone(&self) -> Totp {
        builder(self.0.secret().clone()).with_skew(0).build_noncompliant()
    }

    fn with_secret(secret: Secret, issuer: &str, email: &str) -> Option<Self> {
        // A colon divides the two in the URI.
        let issuer = issuer.replace(':', " ");
        let builder = builder(secret).with_account_name(email.replace(':', " "));
        let builder = if issuer.is_empty() { builder } else { builder.with_issuer(Some(issuer)) };
        builder.build().ok().map(Self)
    }
}

fn builder(secret: Secret) -> Builder {
    Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_digits(DIGITS)
        .with_skew(SKEW)
        .with_step_duration(STEP_SECONDS)
        .with_secret(secret)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// RFC 6238, appendix B: the secret of the SHA-1 rows.
    const RFC: &[u8] = b"12345678901234567890";

    #[test]
    fn the_passwords_are_those_of_the_rfc() {
        let rfc = Authenticator::from_secret(RFC).unwrap();
        for (time, password) in
            [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924"), (20_000_000_000, "353130")]
        {
            assert_eq!(rfc.password_at(time), password);
            assert_eq!(rfc.check(password, time, 0), Some(time / 30));
        }
    }

    #[test]
    fn a_password_lasts_a_step_longer_and_begins_a_step_earlier() {
        let rfc = Authenticator::from_secret(RFC).unwrap();
        for (time, step) in [(30, Some(1)), (59, Some(1)), (60, Some(1)), (89, Some(1)), (90, None)] {
            assert_eq!(rfc.check("287082", time, 0), step, "{time}");
        }
        assert_eq!(rfc.check(" 287082\n", 59, 0), Some(1));
        for wrong in ["", "28708", "2870820", "287083", "28708x", "-87082"] {
            assert_eq!(rfc.check(wrong, 59, 0), None, "{wrong}");
        }
    }

    #[test]
    fn no_step_is_accepted_twice() {
        let rfc = Authenticator::from_secret(RFC).unwrap();
        let used = rfc.check("287082", 59, 0).unwrap();
        assert_eq!(rfc.check("287082", 59, used), None);
        // Nor one before it.
        let before = rfc.password_at(0);
        assert_eq!(rfc.check(&before, 59, used), None);
        let next = rfc.password_at(60);
        assert_eq!(rfc.check(&next, 60, used), Some(2));
    }

    #[test]
    fn what_is_handed_out_comes_back_and_nothing_else_does() {
        let made = Authenticator::generate("Example: Ltd", "jane+1@example.com");
        let uri = made.uri();
        assert!(uri.starts_with("otpauth://totp/"), "{uri}");
        let back = Authenticator::from_uri(&uri, "Example: Ltd", "jane+1@example.com").unwrap();
        assert_eq!(back.secret(), made.secret());
        assert_eq!(made.secret().len(), 20);
        assert_ne!(Authenticator::generate("", "a@b.c").secret(), made.secret());
        for foreign in [
            uri.replace("jane", "john"),
            format!("{uri}&digits=8"),
            format!("{uri}&period=3600"),
            format!("{uri}&algorithm=SHA512"),
            "otpauth://totp/Example?secret=AA".to_owned(),
            "https://example.com".to_owned(),
            String::new(),
        ] {
            let refused = Authenticator::from_uri(&foreign, "Example: Ltd", "jane+1@example.com");
            assert_eq!(refused.unwrap_err(), ForeignUri, "{foreign}");
        }
    }

    #[test]
    fn the_picture_is_a_png() {
        let picture = Authenticator::generate("Example", "jane@example.com").qr_code();
        let bytes = data_encoding::BASE64.decode(picture.as_bytes()).unwrap();
        assert!(bytes.starts_with(b"\x89PNG\r\n"));
    }
}
