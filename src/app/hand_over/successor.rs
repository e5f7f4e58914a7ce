//! The old process's side: starting the new one, giving it the sockets, and waiting until it is ready.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::channel::{self, Channel};
use super::{AT_STANDARD_INPUT, HandOverError, Message, VARIABLE};
use crate::listen::inherited::Purpose;

/// How long a process that has let go of its end may take to be gone.
const END_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked for.
const END_LOOK: Duration = Duration::from_millis(5);

/// What a process was started by, so that it can be started again.
#[derive(Clone, Debug)]
pub struct Program {
    program: OsString,
    arguments: Vec<OsString>,
}

/// A listening socket that a new process is given.
#[derive(Debug)]
pub(in crate::app) struct Passed {
    pub(in crate::app) purpose: Purpose,
    /// Whether the file of a Unix socket is this process's to remove.
    pub(in crate::app) owns_file: bool,
    pub(in crate::app) descriptor: OwnedFd,
}

/// A new process that is ready, or serves already.
#[derive(Debug)]
pub(in crate::app) struct Successor {
    pub(in crate::app) process_id: u32,
    pub(in crate::app) version: String,
    /// Of these purposes it has taken the sockets.
    pub(in crate::app) took: Vec<Purpose>,
    // Before the channel, as in `become_ready`.
    process: Started,
    channel: Channel,
}

/// A process that ends with this, unless it is let go.
#[derive(Debug)]
struct Started(Option<Child>);

impl Program {
    /// By what this process was started: the path as it was given, so that what has been put there since is run, and what a
    /// symbolic link points to now.
    pub fn of_this_process() -> Option<Self> {
        let mut words = env::args_os();
        Some(Self { program: words.next()?, arguments: words.collect() })
    }

    /// Another program, without arguments.
    #[cfg(test)]
    pub(super) fn at(program: &str) -> Self {
        Self { program: program.into(), arguments: Vec::new() }
    }

    /// A shell's script.
    #[cfg(test)]
    pub(super) fn script(script: &str) -> Self {
        Self { program: "sh".into(), arguments: vec!["-c".into(), script.into()] }
    }

    /// Starts it with one end of a pair as its standard input; returns the other end, and the process.
    fn start(&self) -> Result<(Channel, Started), HandOverError> {
        let (ours, theirs) = channel::pair()?;
        let channel = Channel::new(ours)?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .env(VARIABLE, AT_STANDARD_INPUT)
            // What systemd has passed to this process comes by the other way.
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_FDNAMES")
            // It names this process; without it, whoever is the service's main process feeds the watchdog.
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::from(theirs))
            .spawn()
            .map_err(|source| HandOverError::Start { program: self.program.clone(), source })?;
        Ok((channel, Started(Some(child))))
    }
}

/// Starts a new process and waits until it is ready; it then waits for [`Successor::take_over`]. Where this fails or is dropped,
/// the new process is ended, which has accepted nothing.
pub(in crate::app) async fn prepare(
    program: Program,
    passed: Vec<Passed>,
    patience: Duration,
) -> Result<Successor, HandOverError> {
    let ready = tokio::time::timeout(patience, become_ready(&program, &passed));
    ready.await.unwrap_or(Err(HandOverError::TooLate(patience)))
}

async fn become_ready(program: &Program, passed: &[Passed]) -> Result<Successor, HandOverError> {
    // In this order: where this is given up, the process ends before the channel does. One that is ready would take the
    // channel's end for a crash, and accept.
    let (channel, mut process) = program.start()?;
    if let Err(error) = give(&channel, passed).await {
        return Err(match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                HandOverError::Ended(process.ended().await?)
            }
            _ => error.into(),
        });
    }
    match channel.receive().await {
        Ok(Some(Message::Ready { version, took })) => {
            let process_id = process.id();
            Ok(Successor { process_id, version, took, process, channel })
        }
        Ok(Some(Message::Failed { error })) => {
            // What it has to say in its log, it says before it ends.
            process.ended().await?;
            Err(HandOverError::Refused(error))
        }
        Ok(Some(_)) => Err(HandOverError::Misunderstood),
        Ok(None) => Err(HandOverError::Ended(process.ended().await?)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(HandOverError::Misunderstood),
        Err(error) => Err(error.into()),
    }
}

async fn give(channel: &Channel, passed: &[Passed]) -> io::Result<()> {
    for Passed { purpose, owns_file, descriptor } in passed {
        let message = Message::Socket { purpose: purpose.clone(), owns_file: *owns_file };
        channel.send(&message, Some(descriptor.as_fd())).await?;
    }
    channel.send(&Message::Begin { process_id: std::process::id() }, None).await
}

impl Successor {
    /// Tells it to serve. From then on it is nobody's to end.
    pub(in crate::app) async fn take_over(mut self, reload: bool) -> Result<Self, HandOverError> {
        if self.channel.send(&Message::TakeOver { reload }, None).await.is_err() {
            return Err(HandOverError::Ended(self.process.ended().await?));
        }
        self.process.let_go();
        Ok(self)
    }
}

impl Started {
    fn id(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }

    /// Lets it live on.
    fn let_go(&mut self) {
        self.0 = None;
    }

    /// Waits, not for long, until it has ended by itself, and ends it then.
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        let Some(mut child) = self.0.take() else {
            return Err(io::Error::other("it is not ours to wait for"));
        };
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if started.elapsed() >= END_PATIENCE {
                child.kill()?;
                return child.wait();
            }
            tokio::time::sleep(END_LOOK).await;
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // It may have ended by itself.
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }
}
