//! The keys that sign statements for upstreams, and the list of them that upstreams fetch.
//!
//! A process makes its own keys and never writes them down: there is nothing to protect, to distribute or to forget on a disk, and a
//! stolen backup signs nothing. Upstreams find a key by its id and fetch the list again when they meet a new one, so a restart
//! needs no more than that. There are three keys at any time: one that signs, the one before it, whose statements may still be under
//! way, and the next one, so that whoever keeps the list for a while knows a key before it signs.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// What signs: ECDSA over P-256 with SHA-256, which every JWT library knows.
pub const ALGORITHM: &str = "ES256";

/// How long the list of keys may be kept without asking again, in seconds. The shortest rotation is twice as long: the next key
/// has been on the list before it signs.
pub const LIST_SECONDS: u32 = 300;

/// Bytes of one coordinate of a public key.
const COORDINATE: usize = 32;

/// The process's keys. They are made when they are first needed, and changed by whoever needs one when it is time.
#[derive(Debug, Default)]
pub struct IdentityKeys {
    /// Seconds after which the next key signs; 0: nobody wants statements.
    rotation: AtomicU32,
    keys: ArcSwapOption<Keys>,
    changing: Mutex<()>,
}

#[derive(Debug)]
struct Keys {
    /// When `current` began to sign, in seconds since the epoch.
    since: u32,
    current: Arc<SigningKey>,
    next: Arc<SigningKey>,
    /// All three, as upstreams read them.
    list: Bytes,
}

/// A private key with its public half as JWK.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    id: String,
    public: Value,
}

/// A signature cannot be made: the system has no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no signature for a statement of identity could be made")]
pub struct SigningError;

impl IdentityKeys {
    /// Whether statements are wanted, and how long a key signs. Keys that there are stay.
    pub fn configure(&self, rotation: Option<Duration>) {
        let seconds = rotation.map_or(0, |rotation| u32::try_from(rotation.as_secs()).unwrap_or(u32::MAX));
        self.rotation.store(seconds, Ordering::Relaxed);
    }

    /// The key that signs at `now`, seconds since the epoch.
    ///
    /// # Errors
    ///
    /// When a new one was needed and could not be made.
    pub fn current(&self, now: u32) -> Result<Arc<SigningKey>, SigningError> {
        Ok(Arc::clone(&self.at(now)?.current))
    }

    /// The public keys as a JWK set (RFC 7517); `None` if statements are not wanted.
    pub fn list(&self, now: u32) -> Option<Result<Bytes, SigningError>> {
        let is_wanted = self.rotation.load(Ordering::Relaxed) > 0;
        is_wanted.then(|| Ok(self.at(now)?.list.clone()))
    }

    fn at(&self, now: u32) -> Result<Arc<Keys>, SigningError> {
        if let Some(keys) = self.keys.load_full().filter(|keys| !self.is_due(keys, now)) {
            return Ok(keys);
        }
        let _alone = self.changing.lock();
        let keys = match self.keys.load_full() {
            Some(keys) if !self.is_due(&keys, now) => return Ok(keys),
            Some(keys) => keys.rotated(now)?,
            None => Keys::first(now)?,
        };
        let keys = Arc::new(keys);
        self.keys.store(Some(Arc::clone(&keys)));
        tracing::info!(key = keys.current.id(), "a new key signs statements of identity");
        Ok(keys)
    }

    fn is_due(&self, keys: &Keys, now: u32) -> bool {
        now.saturating_sub(keys.since) >= self.rotation.load(Ordering::Relaxed).max(1)
    }
}

impl Keys {
    fn first(now: u32) -> Result<Self, SigningError> {
        Ok(Self::new(now, None, SigningKey::generate()?.into(), SigningKey::generate()?.into()))
    }

    fn rotated(&self, now: u32) -> Result<Self, SigningError> {
        let next = SigningKey::generate()?.into();
        Ok(Self::new(now, Some(self.current.public.clone()), Arc::clone(&self.next), next))
    }

    fn new(since: u32, previous: Option<Value>, current: Arc<SigningKey>, next: Arc<SigningKey>) -> Self {
        let listed = [Some(&current.public), Some(&next.public), previous.as_ref()];
        let list = json!({ "keys": listed.into_iter().flatten().collect::<Vec<_>>() }).to_string().into();
        Self { since, current, next, list }
    }
}

impl SigningKey {
    fn generate() -> Result<Self, SigningError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| SigningError)?;
        // A point that is not compressed: one byte that says so, and both coordinates.
        let point = pair.public_key().as_ref().get(1..).filter(|point| point.len() == 2 * COORDINATE);
        let (x, y) = point.ok_or(SigningError)?.split_at(COORDINATE);
        let (x, y) = (BASE64URL_NOPAD.encode(x), BASE64URL_NOPAD.encode(y));
        // The key's thumbprint (RFC 7638): the required members, in the order of their names.
        let required = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let id = BASE64URL_NOPAD.encode(digest(&SHA256, required.as_bytes()).as_ref());
        let public =
            json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "use": "sig", "alg": ALGORITHM, "kid": id});
        Ok(Self { pair, id, public })
    }

    /// By what upstreams find it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The signature of a text, as JWS has it: both numbers, 32 bytes each.
    ///
    /// # Errors
    ///
    /// When the system has no randomness.
    pub fn sign(&self, text: &[u8]) -> Result<Vec<u8>, SigningError> {
        let signature = self.pair.sign(&SystemRandom::new(), text).map_err(|_| SigningError)?;
        Ok(signature.as_ref().to_vec())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}
