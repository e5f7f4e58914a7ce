//! A request that is being served: one future, small where it is answered at once.
//!
//! What must not live here: what is answered.

use std::pin::Pin;
use std::task::{Context, Poll};

use super::response::Response;

/// A request that is being served.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one a connection or stream, and a box for each answer would cost every refusal an allocation"
)]
pub(super) enum Serving<F> {
    /// Postern has answered it itself, at once; `None` once the answer was taken.
    Answered(Option<Response>),
    /// It is on its way to its upstream. In a place of its own: an idle connection would else keep room for it, and who is answered
    /// at once does without.
    Forwarded(Pin<Box<F>>),
}

impl<F> Serving<F> {
    pub(super) fn answered(response: Response) -> Self {
        Self::Answered(Some(response))
    }
}

impl<F: Future<Output = Response>> Future for Serving<F> {
    type Output = Response;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response> {
        match self.get_mut() {
            Self::Answered(response) => {
                Poll::Ready(response.take().expect("nobody waits for an answer twice"))
            }
            Self::Forwarded(response) => response.as_mut().poll(context),
        }
    }
}
