//! When another process takes this one's place: a hand-over that is under way, and what is left to the other in the end.
//!
//! What must not live here: how the two processes talk ([`super::hand_over`]).

use std::pin::Pin;
use std::time::Duration;

use super::App;
use super::control_socket::{Asker, ControlSocket};
use super::hand_over::{self, HandOverError, HandOverReport, Program, Successor};
use crate::lifecycle::notify::{State, notify};
use crate::listen::inherited::Purpose;
use crate::telemetry::metrics::HandOverOutcome;

/// A process that is to take over, and becomes ready.
pub(super) struct HandOver {
    preparing: Pin<Box<dyn Future<Output = Result<Successor, HandOverError>>>>,
    asker: Option<Asker>,
    /// Whether this process has reloaded what the other may have read before.
    is_reload_missed: bool,
}

/// Resolves when the new process is ready, or will not be.
pub(super) async fn prepared(hand_over: &mut Option<HandOver>) -> Result<Successor, HandOverError> {
    match hand_over {
        Some(hand_over) => hand_over.preparing.as_mut().await,
        None => std::future::pending().await,
    }
}

pub(super) fn note_reload(hand_over: &mut Option<HandOver>) {
    if let Some(hand_over) = hand_over {
        hand_over.is_reload_missed = true;
    }
}

impl App {
    /// Lets this process be replaced by a new one of this program, by a signal or through the control socket.
    #[must_use]
    pub fn replaceable_by(self, program: Option<Program>) -> Self {
        Self { program, ..self }
    }

    /// Starts a process that is to take over, unless one is being started already.
    pub(super) async fn hand_over(
        &self,
        under_way: &mut Option<HandOver>,
        asker: Option<Asker>,
        patience: Duration,
    ) {
        let program = match &self.program {
            _ if under_way.is_some() => Err(HandOverError::UnderWay),
            _ if std::process::id() == 1 => Err(HandOverError::FirstProcess),
            None => Err(HandOverError::NotReplaceable),
            Some(program) => self.passing.copy().map(|passed| (program, passed)).map_err(Into::into),
        };
        match program {
            Ok((program, passed)) => {
                tracing::info!(
                    patience_seconds = patience.as_secs(),
                    "starting a process that is to take over"
                );
                let preparing = Box::pin(hand_over::prepare(program.clone(), passed, patience));
                *under_way = Some(HandOver { preparing, asker, is_reload_missed: false });
            }
            Err(error) => {
                tracing::error!(%error, "no process takes over; this one goes on");
                if let Some(asker) = asker {
                    asker.answer(&HandOverReport::of(&Err(error))).await;
                }
            }
        }
    }

    /// Lets the new process take over if it is ready, and says what came of it.
    pub(super) async fn conclude(
        &self,
        HandOver { asker, is_reload_missed, .. }: HandOver,
        prepared: Result<Successor, HandOverError>,
    ) -> Option<Successor> {
        let taken_over = match prepared {
            Ok(successor) => successor.take_over(is_reload_missed).await,
            Err(error) => Err(error),
        };
        match &taken_over {
            Ok(Successor { process_id, version, .. }) => {
                notify(&State::HandedOver { process_id: *process_id });
                tracing::info!(process_id, version, "another process has taken over");
            }
            Err(error) => {
                self.metrics.control().handed_over(HandOverOutcome::Failed);
                tracing::error!(%error, "no process has taken over; this one goes on");
            }
        }
        if let Some(asker) = asker {
            asker.answer(&HandOverReport::of(&taken_over)).await;
        }
        taken_over.ok()
    }

    /// Leaves to the other process what it listens on; the rest goes with this one.
    pub(super) fn leave_to(&mut self, successor: &Successor, control_socket: Option<ControlSocket>) {
        // The service manager hears only the other one from now on.
        self.watching.abort_all();
        // What the other has not taken is listened on no longer than this process accepts from it.
        self.passing.close();
        self.passing.leave_files(&successor.took);
        if successor.took.contains(&Purpose::Control)
            && let Some(control_socket) = control_socket
        {
            control_socket.leave();
        }
        if successor.took.contains(&Purpose::Ops) {
            self.operators.leave();
        }
    }
}
