//! What is remembered while a browser is at the provider: sealed into a cookie with a key that lives as long as the
//! process. Only the browser that began can end; after a restart it has to begin again.

use std::collections::{HashSet, VecDeque};
use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use data_encoding::BASE64URL_NOPAD;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::SignInError;
use crate::directory::model::Timestamp;
use crate::directory::operations::Via;
use crate::login::oidc::Secrets;
use crate::policy::method::ThirdParty;

/// What is sealed is for this and nothing else.
const PURPOSE: &str = "postern sign-in flow 1";

/// Longest cookie that is opened, in bytes.
const MAX_COOKIE: usize = 4096;

/// Most answers that are remembered, so that none is taken twice. One is forgotten when its flow is over anyway.
const MAX_USED: usize = 65_536;

/// A sign-in that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Through whom.
    pub via: Via,
    /// What the answer is held against.
    pub secrets: Secrets,
    /// When it is over.
    pub expiry: Timestamp,
    /// Who gets the token.
    pub hand_over: HandOver,
}

/// Who gets the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HandOver {
    /// The browser: it is shown once.
    Browser,
    /// A command line, which alone knows what this is the digest of.
    CommandLine {
        /// S256 challenge, as in PKCE.
        challenge: String,
        /// Port on the same machine where it waits to be called; `None`: people carry the code over.
        port: Option<u16>,
        /// What it wants to be told with the code.
        state: Option<String>,
    },
}

/// As it is sealed: short names, for cookies are small.
#[derive(Serialize, Deserialize)]
struct Sealed {
    p: String,
    s: String,
    n: String,
    v: String,
    e: u32,
    h: HandOver,
}

impl Flow {
    /// Whether the answer is to the question that this browser took along.
    ///
    /// # Errors
    ///
    /// If not.
    pub fn check_state(&self, answered: Option<&str>) -> Result<(), SignInError> {
        let answered = answered.unwrap_or_default();
        verify_slices_are_equal(answered.as_bytes(), self.secrets.state.as_bytes())
            .map_err(|_| SignInError::NotBegunHere)
    }
}

/// Seals and opens flows.
pub struct FlowKey(RandomizedNonceKey);

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlowKey")
    }
}

impl FlowKey {
    pub(super) fn generate() -> Self {
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the system has random bytes: tokens could not be made either");
        Self(RandomizedNonceKey::new(&AES_256_GCM, &key).expect("the key has the algorithm's length"))
    }

    pub(super) fn seal(&self, flow: &Flow) -> String {
        let sealed = Sealed {
            p: via_text(&flow.via).to_owned(),
            s: flow.secrets.state.clone(),
            n: flow.secrets.nonce.clone(),
            v: flow.secrets.pkce_verifier.clone(),
            e: flow.expiry.0,
            h: flow.hand_over.clone(),
        };
        let mut content = serde_json::to_vec(&sealed).expect("texts and numbers are JSON");
        let nonce = self.0.seal_in_place_append_tag(Aad::from(PURPOSE), &mut content);
        let nonce = nonce.expect("a flow is shorter than what one key may encrypt at once");
        let mut whole = nonce.as_ref().to_vec();
        whole.extend_from_slice(&content);
        BASE64URL_NOPAD.encode(&whole)
    }

    pub(super) fn open(&self, cookie: &str) -> Option<Flow> {
        if cookie.len() > MAX_COOKIE {
            return None;
        }
        let whole = BASE64URL_NOPAD.decode(cookie.as_bytes()).ok()?;
        let (nonce, content) = whole.split_first_chunk::<NONCE_LEN>()?;
        let mut content = content.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.0.open_in_place(nonce, Aad::from(PURPOSE), &mut content).ok()?;
        let Sealed { p, s, n, v, e, h } = serde_json::from_slice(opened).ok()?;
        Some(Flow {
            via: via_of(&p),
            secrets: Secrets { state: s, nonce: n, pkce_verifier: v },
            expiry: Timestamp(e),
            hand_over: h,
        })
    }
}

/// The name in addresses of whom one signs in through.
pub fn via_text(via: &Via) -> &str {
    match via {
        Via::ThirdParty(ThirdParty::Google) => "google",
        Via::ThirdParty(ThirdParty::Microsoft) => "microsoft",
        Via::ThirdParty(ThirdParty::GitHub) => "github",
        Via::IdentityProvider(id) => id,
    }
}

/// Whom a name in an address stands for. Ids of identity providers are none of the third parties' names.
pub fn via_of(text: &str) -> Via {
    match text {
        "google" => Via::ThirdParty(ThirdParty::Google),
        "microsoft" => Via::ThirdParty(ThirdParty::Microsoft),
        "github" => Via::ThirdParty(ThirdParty::GitHub),
        id => Via::IdentityProvider(id.to_owned()),
    }
}

/// The flows that have been ended, by their state. Memory is bounded; the oldest are forgotten first.
#[derive(Debug, Default)]
pub(super) struct Used(Mutex<UsedFlows>);

#[derive(Debug, Default)]
struct UsedFlows {
    states: HashSet<String>,
    in_order: VecDeque<(Timestamp, String)>,
}

impl Used {
    /// Whether this flow has not been ended before; it is from now on.
    pub(super) fn first_time(&self, flow: &Flow, now: Timestamp) -> bool {
        let mut used = self.0.lock();
        while let Some((expiry, _)) = used.in_order.front()
            && (*expiry <= now || used.in_order.len() >= MAX_USED)
            && let Some((_, state)) = used.in_order.pop_front()
        {
            used.states.remove(&state);
        }
        let state = &flow.secrets.state;
        let first = used.states.insert(state.clone());
        if first {
            used.in_order.push_back((flow.expiry, state.clone()));
        }
        first
    }
}

#[cfg(test)]
mod tests;
