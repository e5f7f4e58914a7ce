//! Codes that carry a completed sign-in from a browser to the command line that began it.
//!
//! The code travels through an address or a person's hands and is worth nothing without the secret that only the
//! command line has. It works once, and not for long. The session token is made when the code is turned in, so a code
//! that nobody turns in leaves no token behind.

use std::collections::{HashMap, VecDeque};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::directory::model::Timestamp;
use crate::directory::operations::SignedIn;

/// How long a code works, in seconds: long enough to be copied by hand.
pub const CODE_SECONDS: u32 = 180;

/// Most codes that wait at one time.
const MAX_WAITING: usize = 4096;

/// Lengths an S256 challenge has, and a PKCE verifier may have.
const CHALLENGE_LENGTH: usize = 43;
const VERIFIER_LENGTH: std::ops::RangeInclusive<usize> = 43..=128;

/// Codes that wait to be turned in.
#[derive(Debug, Default)]
pub struct HandOvers(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    by_digest: HashMap<[u8; 32], HandedOver>,
    in_order: VecDeque<(Timestamp, [u8; 32])>,
}

#[derive(Debug)]
struct HandedOver {
    challenge: String,
    signed_in: SignedIn,
    expiry: Timestamp,
}

/// Whether a text can be a challenge.
pub fn is_challenge(text: &str) -> bool {
    text.len() == CHALLENGE_LENGTH && BASE64URL_NOPAD.decode(text.as_bytes()).is_ok()
}

impl HandOvers {
    /// Keeps a completed sign-in; returns the code that stands for it.
    pub fn keep(&self, challenge: String, signed_in: SignedIn, now: Timestamp) -> String {
        let mut random = [0; 20];
        getrandom::fill(&mut random).expect("the system has random bytes: tokens could not be made either");
        let code = BASE32_NOPAD.encode(&random);
        let expiry = Timestamp(now.0.saturating_add(CODE_SECONDS));
        let mut waiting = self.0.lock();
        waiting.forget_old(now);
        let digest = digest(&code);
        waiting.by_digest.insert(digest, HandedOver { challenge, signed_in, expiry });
        waiting.in_order.push_back((expiry, digest));
        code
    }

    /// The sign-in that a code stands for. Whatever comes of it, the code is used up: a wrong secret gets no second try.
    pub fn take(&self, code: &str, verifier: &str, now: Timestamp) -> Option<SignedIn> {
        let code: String = code.chars().filter(char::is_ascii_alphanumeric).collect();
        let handed_over = self.0.lock().by_digest.remove(&digest(&code.to_ascii_uppercase()))?;
        let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(verifier.as_bytes()));
        let theirs = verify_slices_are_equal(challenge.as_bytes(), handed_over.challenge.as_bytes()).is_ok();
        let right = VERIFIER_LENGTH.contains(&verifier.len()) && theirs && now < handed_over.expiry;
        right.then_some(handed_over.signed_in)
    }
}

impl Waiting {
    fn forget_old(&mut self, now: Timestamp) {
        while let Some((expiry, _)) = self.in_order.front()
            && (*expiry <= now || self.in_order.len() >= MAX_WAITING)
            && let Some((_, digest)) = self.in_order.pop_front()
        {
            self.by_digest.remove(&digest);
        }
    }
}

/// Codes are kept as digests, so that looking one up says nothing about others by the time it takes.
fn digest(code: &str) -> [u8; 32] {
    Sha256::digest(code.as_bytes()).into()
}

#[cfg(test)]
mod tests;
