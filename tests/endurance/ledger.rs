//! What holds of each token at each moment, and what was answered: the judge of an endurance run. It sends nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::support::Response;
use crate::support::directory::Credential;

/// So many findings are told in words; the others are counted.
const TOLD: usize = 20;

/// A stream may go on for so long after its token has ended. The promise is a second; the rest is for machines that do other things too.
const LATE: Duration = Duration::from_secs(5);

/// Buckets of the times, four to each power of two of microseconds.
const BUCKETS: usize = 128;

/// Whether a token is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is.
    Good,
    /// A change is under way: both answers are right.
    Changing,
    /// It is not.
    Ended,
}

/// A token, whether it is let in now, and what was asked with it.
pub struct Pass {
    pub credential: Credential,
    /// The phase in the two low bits; above them, how often it has changed. So an answer that came over a change and back is known.
    word: AtomicU64,
    ended_at: Mutex<Option<Instant>>,
    sent: AtomicU64,
    answered: AtomicU64,
}

/// A question to which no answer has come yet.
pub struct Asked {
    pub pass: Arc<Pass>,
    word: u64,
    at: Instant,
}

/// What the request was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// It always answers with 200.
    Sound,
    /// It breaks off, says nonsense or nothing.
    Faulty,
}

/// What must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    Lost,
    WronglyAllowed,
    WronglyRefused,
    WrongStatus,
    MixedUp,
    EndedLate,
    MiscountedUse,
}

#[derive(Default)]
pub struct Ledger {
    answers: Mutex<BTreeMap<(&'static str, String), u64>>,
    findings: Mutex<BTreeMap<Finding, u64>>,
    told: Mutex<Vec<String>>,
    longest_end: Mutex<Duration>,
    times: Times,
}

struct Times([AtomicU64; BUCKETS]);

impl Pass {
    pub fn new(credential: Credential, phase: Phase) -> Arc<Self> {
        Arc::new(Self {
            credential,
            word: AtomicU64::new(phase as u64),
            ended_at: Mutex::new(None),
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        })
    }

    pub fn phase(&self) -> Phase {
        phase_of(self.word.load(Ordering::SeqCst))
    }

    /// Only one thread changes a pass.
    pub fn set(&self, phase: Phase) {
        *self.ended_at.lock() = (phase == Phase::Ended).then(Instant::now);
        let changes = (self.word.load(Ordering::SeqCst) >> 2) + 1;
        self.word.store(changes << 2 | phase as u64, Ordering::SeqCst);
    }

    /// How long ago it ended, if it has.
    pub fn ended_since(&self) -> Option<Duration> {
        self.ended_at.lock().map(|at| at.elapsed())
    }

    /// How many requests with it were answered by the service, and how many were sent.
    pub fn uses(&self) -> (u64, u64) {
        (self.answered.load(Ordering::SeqCst), self.sent.load(Ordering::SeqCst))
    }

    /// Is about to be sent.
    pub fn asks(self: &Arc<Self>) -> Asked {
        let word = self.word.load(Ordering::SeqCst);
        self.sent.fetch_add(1, Ordering::SeqCst);
        Asked { pass: Arc::clone(self), word, at: Instant::now() }
    }
}

fn phase_of(word: u64) -> Phase {
    match word & 3 {
        0 => Phase::Good,
        1 => Phase::Changing,
        _ => Phase::Ended,
    }
}

impl Asked {
    /// What held from the question until now; `None` if that has changed.
    fn phase(&self) -> Option<Phase> {
        (self.pass.word.load(Ordering::SeqCst) == self.word).then(|| phase_of(self.word))
    }

    /// Whether it was let in all the time.
    pub fn was_good(&self) -> bool {
        self.phase() == Some(Phase::Good)
    }
}

impl Ledger {
    /// Judges an answer, or that none came.
    pub fn judge(
        &self,
        kind: &'static str,
        service: Service,
        asked: &Asked,
        answer: Result<&Response, &str>,
    ) {
        let phase = asked.phase();
        let response = match answer {
            Ok(response) => response,
            Err(_) if service == Service::Faulty || phase != Some(Phase::Good) => {
                return self.count(kind, "broken off");
            }
            Err(how) => return self.find(Finding::Lost, format!("{kind}: {how}")),
        };
        self.count(kind, &response.status.to_string());
        self.times.note(asked.at.elapsed());
        let is_refused = matches!(response.status, 401 | 403);
        let told = || {
            format!("{kind}: {} of {}: {}", response.status, asked.pass.credential.prefix, response.text())
        };
        if response.status < 300 {
            asked.pass.answered.fetch_add(1, Ordering::SeqCst);
            if response.header("x-seen-prefix") != Some(&asked.pass.credential.prefix) {
                self.find(
                    Finding::MixedUp,
                    format!("the service saw {:?}; {}", response.header("x-seen-prefix"), told()),
                );
            }
        }
        match phase {
            Some(Phase::Ended) if !is_refused => self.find(Finding::WronglyAllowed, told()),
            Some(Phase::Good) if is_refused => self.find(Finding::WronglyRefused, told()),
            Some(Phase::Good) if service == Service::Sound && response.status != 200 => {
                self.find(Finding::WrongStatus, told())
            }
            _ => {}
        }
        if !is_refused && service == Service::Faulty && !matches!(response.status, 200 | 502..=504) {
            self.find(Finding::WrongStatus, told());
        }
    }

    /// A stream with this token goes on.
    pub fn goes_on(&self, kind: &'static str, pass: &Pass) {
        if let Some(since) = pass.ended_since().filter(|since| *since > LATE) {
            self.find(Finding::EndedLate, format!("{kind}: goes on {since:?} after its token has ended"));
        }
    }

    /// A stream was ended by the sidecar.
    pub fn stream_ended(&self, kind: &'static str, asked: &Asked) {
        if asked.was_good() {
            return self.find(Finding::Lost, format!("{kind}: ended, with a good token"));
        }
        self.count(kind, "ended with its token");
        if let Some(since) = asked.pass.ended_since() {
            let mut longest = self.longest_end.lock();
            *longest = since.max(*longest);
        }
    }

    pub fn count(&self, kind: &'static str, how: &str) {
        *self.answers.lock().entry((kind, how.to_owned())).or_default() += 1;
    }

    pub fn find(&self, finding: Finding, words: String) {
        *self.findings.lock().entry(finding).or_default() += 1;
        let mut told = self.told.lock();
        if told.len() < TOLD {
            told.push(format!("{finding:?}: {words}"));
        }
    }

    pub fn found(&self, finding: Finding) -> u64 {
        self.findings.lock().get(&finding).copied().unwrap_or_default()
    }

    /// The first findings in words.
    pub fn told(&self) -> String {
        self.told.lock().join("\n")
    }

    /// Everything counted so far, by kind and by what came of it.
    pub fn answers(&self) -> Vec<(&'static str, String, u64)> {
        self.answers.lock().iter().map(|((kind, how), count)| (*kind, how.clone(), *count)).collect()
    }

    /// The longest time from the end of a token to the end of a stream with it.
    pub fn longest_end(&self) -> Duration {
        *self.longest_end.lock()
    }

    /// So long at most took this share of the answers, to within 19 %.
    pub fn time_of(&self, share: f64) -> Duration {
        self.times.quantile(share)
    }
}

impl Default for Times {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Times {
    fn note(&self, time: Duration) {
        let microseconds = time.as_micros().max(1) as f64;
        let bucket = (microseconds.log2() * 4.0) as usize;
        self.0[bucket.min(BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
    }

    fn quantile(&self, share: f64) -> Duration {
        let counts: Vec<u64> = self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let wanted = (counts.iter().sum::<u64>() as f64 * share) as u64;
        let mut below = 0;
        let bucket = counts.iter().position(|count| {
            below += count;
            below > wanted
        });
        Duration::from_micros(2_f64.powf((bucket.unwrap_or_default() + 1) as f64 / 4.0) as u64)
    }
}
