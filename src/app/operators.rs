//! The operators' listener as the application has it: not open yet, serving, or left to the process that follows.
//!
//! What must not live here: what is answered ([`crate::ops`]).

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::sockets::ControlListener;
use crate::lifecycle::Drain;
use crate::ops::{self, Told};

/// Ends with this.
#[derive(Debug)]
pub(super) struct Operators {
    unopened: Option<(ControlListener, Told)>,
    serving: JoinSet<()>,
    left: watch::Sender<bool>,
    drain: Drain,
}

impl Operators {
    pub(super) fn new(listener: ControlListener, told: Told, drain: Drain) -> Self {
        Self {
            unopened: Some((listener, told)),
            serving: JoinSet::new(),
            left: watch::Sender::new(false),
            drain,
        }
    }

    /// Serves until nothing is alive any more, or the listener is left. Again: does nothing.
    pub(super) fn open(&mut self) {
        let Some((listener, told)) = self.unopened.take() else { return };
        let (drain, mut left) = (self.drain.clone(), self.left.subscribe());
        let ending = async move {
            tokio::select! {
                () = drain.nothing_alive() => {}
                () = async {
                    // An error means that nobody is there to leave it, or to wait for its end.
                    let _left = left.wait_for(|left| *left).await.map(drop);
                } => {}
            }
        };
        self.serving.spawn(ops::serve(listener, told, ending));
    }

    /// Accepts nothing more: another process does, which is asked whether it is ready from now on.
    pub(super) fn leave(&self) {
        self.left.send_replace(true);
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self) {
        while let Some(ended) = self.serving.join_next().await {
            if let Err(error) = ended {
                tracing::error!(error = %error, "the operators' listener ended early");
            }
        }
    }
}
