//! Good traffic beside an attack, and what it notices.
//!
//! One request follows another on the worker that is attacked, so that each waits for whatever the worker does just then.
//! They are compared with those of a second sidecar that nobody attacks, slice by slice in turn while the attack goes on, and the median
//! of the ratios counts: what else the machine does, and what attackers themselves take of it, is in both slices of a pair or spoils
//! few pairs.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Client, Sidecar, until};

/// Between two requests, and between two attacking connections: both share two cores with the sidecar.
const PAUSE: Duration = Duration::from_micros(200);
const PAUSE_OF_ATTACK: Duration = Duration::from_millis(10);

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Measure {
    pub(crate) pairs: usize,
    /// In each slice.
    pub(crate) requests: usize,
    /// Of a slice's requests that took no longer than what is compared.
    pub(crate) percent: usize,
}

/// In continuous integration: few requests, and no percentile that is one request's.
pub(crate) const SHORT: Measure = Measure { pairs: 3, requests: 50, percent: 90 };
/// For the strict figure.
pub(crate) const LONG: Measure = Measure { pairs: 11, requests: 500, percent: 99 };

/// What the others may notice.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    /// In continuous integration, where attackers, others, service and a sidecar that is not optimized share two cores with
    /// whatever else the machine does: nobody waits for long, and the ratio is only shown.
    Served,
    /// In the long form: so many times what it is where nobody attacks.
    Ratio(f64),
}

/// Longer than this nobody waits who is only slowed down.
const LONG_WAIT: Duration = Duration::from_millis(50);

impl Bound {
    #[track_caller]
    pub(crate) fn check(self, what: &str, noticed: Noticed) {
        match self {
            Self::Served => assert!(noticed.attacked < LONG_WAIT, "{what}: {noticed:?}"),
            Self::Ratio(most) => assert!(noticed.ratio < most, "{what}: {noticed:?}"),
        }
    }
}

/// What the others noticed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noticed {
    /// The median of the pairs' ratios.
    pub(crate) ratio: f64,
    /// The medians of what is compared.
    pub(crate) quiet: Duration,
    pub(crate) attacked: Duration,
}

/// Somebody whose requests are good.
pub(crate) struct Others {
    address: SocketAddr,
    request: String,
}

/// Says when it is dropped that something is over, so that whoever waits for that does not when a test fails.
pub(crate) struct Over<'a>(pub(crate) &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Others {
    pub(crate) fn of(sidecar: &Sidecar) -> Self {
        let others = Self { address: sidecar.address(), request: sidecar.get() };
        // Until everything that is made once is made.
        others.slice(200);
        others
    }

    /// How long each of so many requests takes over one connection, sorted.
    #[track_caller]
    pub(crate) fn slice(&self, requests: usize) -> Vec<Duration> {
        let mut client = Client::connect(self.address);
        assert_eq!(client.request(&self.request).status, 200, "others are served");
        let mut times = Vec::with_capacity(requests);
        for _ in 0..requests {
            let started = Instant::now();
            assert_eq!(client.request(&self.request).status, 200, "others are served");
            times.push(started.elapsed());
            std::thread::sleep(PAUSE);
        }
        times.sort_unstable();
        times
    }

    /// Slices of somebody's who is not attacked, and of these, in turn; for as long as it is worth while.
    #[track_caller]
    pub(crate) fn pairs(
        &self,
        elsewhere: &Self,
        measure: Measure,
        goes_on: impl Fn() -> bool,
    ) -> Vec<(Duration, Duration)> {
        let mut pairs = Vec::new();
        while pairs.len() < measure.pairs {
            let quiet = measure.of(&elsewhere.slice(measure.requests));
            let attacked = measure.of(&self.slice(measure.requests));
            if !goes_on() {
                break;
            }
            pairs.push((quiet, attacked));
        }
        pairs
    }

    /// What is noticed of an attack that is made again and again, and not elsewhere.
    #[track_caller]
    pub(crate) fn beside(&self, elsewhere: &Self, measure: Measure, attack: impl Fn() + Sync) -> Noticed {
        let (begun, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let pairs = std::thread::scope(|scope| {
            let _is_over = Over(&over);
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    begun.store(true, Ordering::SeqCst);
                    attack();
                    std::thread::sleep(PAUSE_OF_ATTACK);
                }
            });
            until("the attack to begin", || begun.load(Ordering::SeqCst));
            self.pairs(elsewhere, measure, || true)
        });
        Noticed::of(&pairs)
    }
}

impl Measure {
    /// The time that so many percent of a slice's requests did not exceed.
    pub(crate) fn of(self, sorted: &[Duration]) -> Duration {
        sorted[(sorted.len() * self.percent).div_ceil(100) - 1]
    }
}

impl Noticed {
    pub(crate) fn of(pairs: &[(Duration, Duration)]) -> Self {
        let ratios = pairs.iter().map(|(quiet, attacked)| attacked.as_secs_f64() / quiet.as_secs_f64());
        Self {
            ratio: median(ratios),
            quiet: median(pairs.iter().map(|pair| pair.0)),
            attacked: median(pairs.iter().map(|pair| pair.1)),
        }
    }
}

fn median<T: PartialOrd + Copy>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<_> = values.collect();
    values.sort_by(|one, other| one.partial_cmp(other).unwrap());
    values[values.len() / 2]
}
