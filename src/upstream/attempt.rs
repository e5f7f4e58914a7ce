//! One request to an upstream, in as many attempts as it takes: what each of them leaves, and whether another may follow.
//!
//! Where it goes, and whether the budget has it, is [`super::worker`]'s business.

use super::encode::Sending;
use super::exchange::ExchangeError;
use super::{OutgoingHead, Reply, Upstream, UpstreamError};
use crate::pipeline::body::{ForwardBody, Upload};

/// One request, in as many attempts as it takes.
pub(super) struct Attempt<'a> {
    pub(super) head: &'a OutgoingHead<'a>,
    /// Whether sending it twice does no harm, and it has no body that could be gone.
    pub(super) is_repeatable: bool,
    /// How far its body has come; only where somebody wants to know.
    pub(super) upload: Option<&'a Upload>,
}

/// What is sent.
pub(super) enum Cargo {
    /// A request of which nothing is written.
    Whole(ForwardBody),
    /// One that is written in HTTP/1.1's words, and of which nothing was sent.
    Written(Box<Sending>),
}

/// An attempt without a response.
pub(super) struct Failure {
    pub(super) error: UpstreamError,
    /// What can be sent again without harm, if anything can.
    pub(super) again: Option<Cargo>,
}

impl Cargo {
    /// In HTTP/1.1's words. Not before there is a connection that takes them: whoever waits for one would hold them for so long,
    /// and they may be many more than the client has sent.
    pub(super) fn written(self, head: &OutgoingHead<'_>) -> Sending {
        match self {
            Self::Whole(body) => Sending::new(head, body),
            Self::Written(sending) => *sending,
        }
    }
}

impl Attempt<'_> {
    /// Whether another address may be asked after this.
    pub(super) fn may_go_on(&self, result: &Result<Reply, Failure>, upstream: &Upstream) -> bool {
        match result {
            Err(failure) => failure.again.is_some(),
            Ok(reply) => {
                let retries = upstream.config.retries.as_ref();
                self.is_repeatable
                    && retries.is_some_and(|settings| settings.statuses.contains(&reply.status()))
            }
        }
    }

    /// What can be sent again: what was not sent at all, and what does no harm twice where the connection ended instead of an
    /// answer. After a timeout nothing is: the client has waited long enough, and the service is slow, not gone.
    pub(super) fn failure(&self, error: ExchangeError) -> Failure {
        match error {
            ExchangeError::Closed { unsent: Some(unsent), source, .. } => {
                Failure { error: UpstreamError::Closed(source), again: Some(Cargo::Written(unsent)) }
            }
            ExchangeError::Closed { unsent: None, whole_body: Some(body), source } => {
                let again = self.head.method.is_idempotent().then_some(Cargo::Whole(body));
                Failure { error: UpstreamError::Closed(source), again }
            }
            ExchangeError::Closed { unsent: None, whole_body: None, .. } | ExchangeError::Broken(_) => {
                let again = self.is_repeatable.then(|| Cargo::Whole(ForwardBody::empty()));
                Failure { error: error.into(), again }
            }
            ExchangeError::Malformed(_) | ExchangeError::Timeout | ExchangeError::ClientBody(_) => {
                Failure::last(error.into())
            }
        }
    }
}

impl Failure {
    /// One after which there is nothing more to try.
    pub(super) fn last(error: UpstreamError) -> Self {
        Self { error, again: None }
    }
}
