//! A request that is not sent on, from whichever of the reasons that there are.
//!
//! What must not live here: the answer's words, which are [`crate::error`]'s.

use http::HeaderValue;

use super::admission::Refusal;
use crate::error::Answer;
use crate::error::response::Challenges;
use crate::limit::Exceeded;
use crate::policy::Permission;

/// A request that Postern answers itself, and what the answer may say.
pub(super) struct Refused {
    pub(super) answer: Answer,
    pub(super) required: Option<Permission>,
    pub(super) token_prefix: Option<HeaderValue>,
    pub(super) exceeded: Option<Box<Exceeded>>,
    pub(super) challenges: Challenges,
    pub(super) location: Option<String>,
}

impl From<Answer> for Refused {
    fn from(answer: Answer) -> Self {
        Self {
            answer,
            required: None,
            token_prefix: None,
            exceeded: None,
            challenges: Challenges::default(),
            location: None,
        }
    }
}

impl From<Exceeded> for Refused {
    fn from(exceeded: Exceeded) -> Self {
        Self { exceeded: Some(Box::new(exceeded)), ..Answer::LimitExceeded(exceeded.limit).into() }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied { denial, token_prefix } => {
                Self { token_prefix, ..Answer::Denied(denial).into() }
            }
            Refusal::Throttled(exceeded) => exceeded.into(),
        }
    }
}
