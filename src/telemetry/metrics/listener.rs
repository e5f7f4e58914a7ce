//! What is counted per listener: open connections, TLS handshakes, what could not be accepted, and who was closed on for
//! what was sent.

use std::sync::Arc;

use super::cells::Cell;

/// How a TLS handshake with a client went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TlsOutcome {
    /// Finished.
    Ok,
    /// Not finished in time.
    Timeout,
    /// The client went away in the middle.
    Aborted,
    /// The two could not agree, or the client broke TLS's rules.
    Failed,
}

impl TlsOutcome {
    /// Every outcome, in the order of the declaration.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Timeout, Self::Aborted, Self::Failed];

    /// The word that metrics use.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Timeout => "timeout",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
        }
    }
}

/// Why a connection was closed that had to begin with a header of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ProxyProtocolFailure {
    /// Who connected may not speak it.
    Untrusted,
    /// What came is no such header.
    Malformed,
    /// It did not come in time.
    Timeout,
    /// The connection ended before.
    Aborted,
}

impl ProxyProtocolFailure {
    /// Every failure, in the order of the declaration.
    pub const ALL: [Self; 4] = [Self::Untrusted, Self::Malformed, Self::Timeout, Self::Aborted];

    /// The word that metrics use.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Malformed => "malformed",
            Self::Timeout => "timeout",
            Self::Aborted => "aborted",
        }
    }
}

/// Why an HTTP/2 client was told to go away, unless it was because the process stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum GoAway {
    /// It made work without end.
    Flood,
    /// It broke HTTP/2's rules.
    Error,
}

impl GoAway {
    /// Every reason, in the order of the declaration.
    pub const ALL: [Self; 2] = [Self::Flood, Self::Error];

    /// The word that metrics use.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Flood => "flood",
            Self::Error => "error",
        }
    }
}

/// One listener's metrics; shared by all workers, each of which writes only its own cells.
///
/// `worker` is always the calling worker's own index; no other worker may use it.
#[derive(Debug)]
pub struct ListenerMetrics {
    name: Arc<str>,
    workers: Box<[ListenerCells]>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct ListenerCells {
    connections: Cell,
    handshakes: [Cell; TlsOutcome::ALL.len()],
    proxy_protocol_failures: [Cell; ProxyProtocolFailure::ALL.len()],
    go_aways: [Cell; GoAway::ALL.len()],
    accept_failures: Cell,
}

/// An open client connection; it counts as open until this is dropped, on the worker that made it.
#[derive(Debug)]
pub struct OpenConnection {
    listener: Arc<ListenerMetrics>,
    worker: usize,
}

/// A listener's counts over all workers.
#[derive(Default)]
pub(super) struct ListenerSum {
    /// Open connections.
    pub(super) connections: i64,
    /// In the order of [`TlsOutcome::ALL`].
    pub(super) handshakes: [u64; TlsOutcome::ALL.len()],
    /// In the order of [`ProxyProtocolFailure::ALL`].
    pub(super) proxy_protocol_failures: [u64; ProxyProtocolFailure::ALL.len()],
    /// In the order of [`GoAway::ALL`].
    pub(super) go_aways: [u64; GoAway::ALL.len()],
    /// Failures to accept.
    pub(super) accept_failures: u64,
}

impl ListenerMetrics {
    pub(super) fn new(name: &str, workers: usize) -> Self {
        Self { name: name.into(), workers: (0..workers).map(|_| ListenerCells::default()).collect() }
    }

    /// The listener's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts a connection as open for as long as the result lives.
    #[must_use]
    pub fn connection_opened(self: &Arc<Self>, worker: usize) -> OpenConnection {
        self.workers[worker].connections.add(1);
        OpenConnection { listener: Arc::clone(self), worker }
    }

    /// Counts one TLS handshake.
    pub fn handshake(&self, worker: usize, outcome: TlsOutcome) {
        self.workers[worker].handshakes[outcome as usize].add(1);
    }

    /// Counts one connection that was closed for want of a header of the PROXY protocol.
    pub fn proxy_protocol_failed(&self, worker: usize, failure: ProxyProtocolFailure) {
        self.workers[worker].proxy_protocol_failures[failure as usize].add(1);
    }

    /// Counts one HTTP/2 connection whose client was told to go away.
    pub fn went_away(&self, worker: usize, reason: GoAway) {
        self.workers[worker].go_aways[reason as usize].add(1);
    }

    /// Counts one try to accept that failed: the connection waits in the system's queue.
    pub fn accept_failed(&self, worker: usize) {
        self.workers[worker].accept_failures.add(1);
    }

    pub(super) fn sum(&self) -> ListenerSum {
        let mut sum = ListenerSum::default();
        for cells in &self.workers {
            sum.connections += cells.connections.value().cast_signed();
            sum.accept_failures += cells.accept_failures.value();
            for (total, cell) in sum.handshakes.iter_mut().zip(&cells.handshakes) {
                *total += cell.value();
            }
            for (total, cell) in sum.proxy_protocol_failures.iter_mut().zip(&cells.proxy_protocol_failures) {
                *total += cell.value();
            }
            for (total, cell) in sum.go_aways.iter_mut().zip(&cells.go_aways) {
                *total += cell.value();
            }
        }
        sum
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.listener.workers[self.worker].connections.subtract_one();
    }
}
