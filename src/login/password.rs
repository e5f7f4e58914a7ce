//! Passwords: argon2id, how strong one has to be, and the same work for an account that does not exist.
//!
//! When a password may be set, and what follows, is not known here.

use std::fmt;

use argon2::password_hash::phc::{Output, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use prometheus::IntCounter;
use zxcvbn::Score;

/// Lengths a password may have, in characters. Where people type more, hashing and judging would be what costs.
const LENGTH: std::ops::RangeInclusive<usize> = 8..=256;

/// Guesses that the weakest allowed password takes: more than 10⁸ are needed.
const LEAST_SCORE: Score = Score::Three;

/// Bytes of a hash.
const HASH_LENGTH: usize = 32;

/// What one hash costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub iterations: u32,
    /// Lanes; each could be computed by a thread of its own.
    pub parallelism: u32,
}

/// Hashes and verifies passwords. Blocks for tens of milliseconds: belongs on a blocking thread, behind the gate.
pub struct Passwords {
    argon2: Argon2<'static>,
    /// Verified where there is no hash: of no password.
    nobodys: PasswordHash,
    evaluations: IntCounter,
}

/// What verifying found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// The password is right.
    Right,
    /// The password is right, but its hash costs less, or more, than is configured now.
    RightAndOutdated,
    /// The password is wrong, or there is none to be right.
    Wrong,
}

/// Why a password is not accepted as a new one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    /// Too short or too long.
    #[error("must have {} to {} characters", LENGTH.start(), LENGTH.end())]
    Length,
    /// Too easy to guess.
    #[error("is too easy to guess: {0}")]
    Guessable(String),
}

impl Passwords {
    /// Hashes at this cost.
    pub fn new(cost: HashCost) -> Self {
        let evaluations = IntCounter::new("password_hashes", "Password hashes computed.");
        Self::counted_by(cost, evaluations.expect("its name is a valid one"))
    }

    /// Hashes at this cost, and counts it.
    pub fn counted_by(cost: HashCost, evaluations: IntCounter) -> Self {
        let params = Params::new(cost.memory_kib, cost.iterations, cost.parallelism, Some(HASH_LENGTH))
            .expect("the configuration allows only what argon2 does");
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        Self { nobodys: nobodys(&argon2), argon2, evaluations }
    }

    /// The hash of a password, as a PHC string.
    ///
    /// # Panics
    /// If the system has no random bytes or no memory.
    pub fn hash(&self, password: &str) -> String {
        self.evaluations.inc();
        let hash: PasswordHash = self
            .argon2
            .hash_password(password.as_bytes())
            .expect("length and parameters are allowed, and the system has random bytes");
        hash.to_string()
    }

    /// Compares a password with a hash. Where there is none, or it cannot be read, the same work is done for nothing, so
    /// that the time it takes tells nobody which accounts exist.
    pub fn verify(&self, password: &str, hash: Option<&str>) -> Verified {
        self.evaluations.inc();
        let parsed = hash.and_then(|hash| PasswordHash::new(hash).ok());
        let against = parsed.as_ref().unwrap_or(&self.nobodys);
        let is_right = self.argon2.verify_password(password.as_bytes(), against).is_ok();
        match (is_right, &parsed) {
            (true, Some(parsed)) if self.is_outdated(parsed) => Verified::RightAndOutdated,
            (true, Some(_)) => Verified::Right,
            (false, _) | (true, None) => Verified::Wrong,
        }
    }

    /// How many hashes have been computed so far.
    pub fn evaluations(&self) -> u64 {
        self.evaluations.get()
    }

    fn is_outdated(&self, hash: &PasswordHash) -> bool {
        let ours = &self.nobodys;
        (hash.algorithm, hash.version, &hash.params) != (ours.algorithm, ours.version, &ours.params)
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").field("evaluations", &self.evaluations()).finish_non_exhaustive()
    }
}

/// A hash that no password has, at this cost: made of random bytes, not computed.
fn nobodys(argon2: &Argon2<'_>) -> PasswordHash {
    let mut output = [0; HASH_LENGTH];
    getrandom::fill(&mut output).expect("the operating system has random bytes");
    PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: argon2.params().try_into().expect("they are those of a hash"),
        salt: Some(Salt::generate()),
        hash: Some(Output::new(&output).expect("its length is allowed")),
    }
}

/// Whether a password may become somebody's. Knows whose it is to be: the own name is the first guess.
///
/// # Errors
/// Why not.
pub fn check_strength(password: &str, email: &str, name: &str) -> Result<(), Weakness> {
    if !LENGTH.contains(&password.chars().count()) {
        return Err(Weakness::Length);
    }
    let known: Vec<&str> = [email]
        .into_iter()
        .chain(email.split(['@', '.', '-', '_', '+']))
        .chain(name.split_whitespace())
        .chain(["postern", name])
        .filter(|word| !word.is_empty())
        .collect();
    let entropy = zxcvbn::zxcvbn(password, &known);
    if entropy.score() >= LEAST_SCORE {
        return Ok(());
    }
    let feedback = entropy.feedback();
    let warning = feedback.and_then(zxcvbn::feedback::Feedback::warning).map(|warning| warning.to_string());
    let advice = warning.unwrap_or_else(|| "use a few more words, less common ones".to_owned());
    Err(Weakness::Guessable(advice))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const CHEAP: HashCost = HashCost { memory_kib: 64, iterations: 1, parallelism: 1 };

    #[test]
    fn only_the_password_itself_is_right() {
        let passwords = Passwords::new(CHEAP);
        let hash = passwords.hash("correct horse");
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        assert_eq!(passwords.verify("correct horse", Some(&hash)), Verified::Right);
        for wrong in ["correct hors", "correct horse ", "Correct horse", ""] {
            assert_eq!(passwords.verify(wrong, Some(&hash)), Verified::Wrong, "{wrong}");
        }
        assert_ne!(passwords.hash("correct horse"), hash, "salted");
    }

    #[test]
    fn nobody_and_a_hash_that_cannot_be_read_cost_what_everybody_costs() {
        let passwords = Passwords::new(CHEAP);
        for hash in [None, Some(""), Some("$argon2id$"), Some("plain")] {
            let before = passwords.evaluations();
            assert_eq!(passwords.verify("", hash), Verified::Wrong);
            assert_eq!(passwords.evaluations() - before, 1, "{hash:?}");
        }
        assert_eq!(passwords.nobodys.params.to_string(), "m=64,t=1,p=1");
    }

    #[test]
    fn a_hash_of_another_cost_still_verifies_and_asks_to_be_made_anew() {
        let old = Passwords::new(CHEAP);
        let hash = old.hash("correct horse");
        let new = Passwords::new(HashCost { iterations: 2, ..CHEAP });
        assert_eq!(new.verify("correct horse", Some(&hash)), Verified::RightAndOutdated);
        assert_eq!(new.verify("wrong horse", Some(&hash)), Verified::Wrong);
    }

    #[track_caller]
    fn check(password: &str, is_allowed: bool) {
        let strength = check_strength(password, "jane.miller@example.com", "Jane Ottilie Miller");
        assert_eq!(strength.is_ok(), is_allowed, "{password}: {strength:?}");
    }

    #[test]
    fn what_is_guessed_first_is_no_password() {
        for weak in
            ["", "short", "password", "Passw0rd!", "12345678", "qwertyuiop", "aaaaaaaaaaaa", "letmein1"]
        {
            check(weak, false);
        }
        for own in ["jane.miller", "JaneMiller1", "ottiliemiller", "jane.miller@example.com", "postern1"] {
            check(own, false);
        }
        for good in ["tidal-acorn-velvet-9", "xkJ3#pQz7!mB", "Füße über Gräser springen"] {
            check(good, true);
        }
        check(&"long and ".repeat(40), false);
    }
}
