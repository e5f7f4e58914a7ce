//! Which signal asks for what. Only translates; acting on an event is the application's.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What an operator or the system asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalEvent {
    /// Finish what runs, then stop: the first SIGTERM or SIGINT.
    Drain,
    /// Stop now: every further SIGTERM or SIGINT.
    StopNow,
    /// Read configuration and certificates again, and reopen logs: SIGHUP.
    Reload,
    /// Reopen the access log, after it was rotated: SIGUSR1.
    ReopenLogs,
    /// Hand over to a new process of the program that now stands where this one was started from: SIGUSR2.
    HandOver,
}

/// The process's signals, from the moment this is made.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    first_user: Signal,
    second_user: Signal,
    hangup_means: Hangup,
    stop_asked: bool,
}

/// What SIGHUP asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hangup {
    Reload,
    Stop,
}

impl Signals {
    /// Takes the signals over from their default actions. Must be called within a runtime that has I/O.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn install() -> io::Result<Self> {
        Self::install_with(Hangup::Reload)
    }

    /// The same for a process that must not outlive its terminal: SIGHUP, which the terminal's end sends, stops it.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn install_at_terminal() -> io::Result<Self> {
        Self::install_with(Hangup::Stop)
    }

    fn install_with(hangup_means: Hangup) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            first_user: signal(SignalKind::user_defined1())?,
            second_user: signal(SignalKind::user_defined2())?,
            hangup_means,
            stop_asked: false,
        })
    }

    /// The next event. Cancelling loses none. Several of one signal may arrive as one.
    pub async fn next(&mut self) -> SignalEvent {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => self.stop(),
            _ = self.interrupt.recv() => self.stop(),
            _ = self.hangup.recv() => match self.hangup_means {
                Hangup::Reload => SignalEvent::Reload,
                Hangup::Stop => self.stop(),
            },
            _ = self.first_user.recv() => SignalEvent::ReopenLogs,
            _ = self.second_user.recv() => SignalEvent::HandOver,
        }
    }

    fn stop(&mut self) -> SignalEvent {
        if std::mem::replace(&mut self.stop_asked, true) { SignalEvent::StopNow } else { SignalEvent::Drain }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::process::Command;

    use super::*;

    fn send(name: &str) {
        // The shell's parent is this process.
        let status = Command::new("sh").args(["-c", &format!("kill -{name} $PPID")]).status().unwrap();
        assert!(status.success());
    }

    #[tokio::test]
    async fn each_signal_is_its_event() {
        let mut signals = Signals::install().unwrap();
        let expected = [
            ("HUP", SignalEvent::Reload),
            ("USR1", SignalEvent::ReopenLogs),
            ("USR2", SignalEvent::HandOver),
            ("TERM", SignalEvent::Drain),
            ("HUP", SignalEvent::Reload),
            ("INT", SignalEvent::StopNow),
            ("TERM", SignalEvent::StopNow),
        ];
        for (name, event) in expected {
            send(name);
            assert_eq!(signals.next().await, event, "SIG{name}");
        }
    }
}
