//! What the control side counts: directory, usage flush, reloads, certificates, the access log. Nothing in here is
//! on a request's way, so these are the library's own counters, shared between threads.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::family;
use super::upstream::EndpointFigures;

/// How a reload of the configuration went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// The new configuration is in force.
    Applied,
    /// The new configuration is bad; the last good one stays.
    Rejected,
}

impl ReloadOutcome {
    const ALL: [Self; 2] = [Self::Applied, Self::Rejected];

    /// The word that metrics use.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Rejected => "rejected",
        }
    }
}

/// How a hand-over to a new process went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOverOutcome {
    /// This process has taken over from another.
    TakenOver,
    /// The process that was to take over from this one did not become ready.
    Failed,
}

impl HandOverOutcome {
    const ALL: [Self; 2] = [Self::TakenOver, Self::Failed];

    /// The word that metrics use.
    pub const fn code(self) -> &'static str {
        match self {
            Self::TakenOver => "taken_over",
            Self::Failed => "failed",
        }
    }
}

/// What came of an attempt to prove a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginOutcome {
    /// It was right.
    Succeeded,
    /// Account, password or one-time password was wrong.
    Failed,
    /// The password was right, and a one-time password is needed too.
    OneTimePasswordMissing,
    /// Refused without a look: too many have failed.
    Throttled,
    /// Refused without a look: too many are waiting.
    Busy,
}

impl LoginOutcome {
    const ALL: [Self; 5] =
        [Self::Succeeded, Self::Failed, Self::OneTimePasswordMissing, Self::Throttled, Self::Busy];

    /// The word that metrics use.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::OneTimePasswordMissing => "otp_required",
            Self::Throttled => "throttled",
            Self::Busy => "busy",
        }
    }
}

/// What came of somebody's return from a third party or an identity provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignInOutcome {
    /// It is somebody, and they are in.
    Succeeded,
    /// It is somebody whom the directory does not let in.
    Refused,
    /// The provider declined, failed, or is not to be believed.
    Failed,
    /// The browser did not begin it, not with this answer, or too long ago.
    NotBegunHere,
}

impl SignInOutcome {
    const ALL: [Self; 4] = [Self::Succeeded, Self::Refused, Self::Failed, Self::NotBegunHere];

    /// The word that metrics use.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::NotBegunHere => "not_begun_here",
        }
    }
}

/// What came of an active check of an upstream's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckOutcome {
    /// A service answered as it should.
    Passed,
    /// It did not, or nobody answered.
    Failed,
}

impl CheckOutcome {
    /// The word that metrics use.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
        }
    }
}

/// What came of looking the name of an upstream's endpoint up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolutionOutcome {
    /// It has addresses.
    Found,
    /// It has none, or nobody knows.
    Failed,
}

impl ResolutionOutcome {
    /// The word that metrics use.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Failed => "failed",
        }
    }
}

/// What the directory's owner says of it at each scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectoryFigures {
    /// Application tokens in the token cache.
    pub application_tokens: u64,
    /// Personal tokens in the token cache.
    pub personal_tokens: u64,
    /// Session tokens in the token cache.
    pub session_tokens: u64,
    /// Sequence number of the last change applied.
    pub sequence: u64,
    /// Time since memory was last known to be in step with the store; `None` before the first time.
    pub age: Option<Duration>,
    /// Tokens whose usage waits to be flushed.
    pub usage_pending: u64,
}

/// One certificate of a listener and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateExpiry {
    /// The listener's name.
    pub listener: String,
    /// The certificate's file as the configuration names it.
    pub certificate: String,
    /// The end of its validity.
    pub expires: SystemTime,
}

/// Counters of the control side.
#[derive(Debug)]
pub struct ControlMetrics {
    directory_errors: IntCounter,
    usage_flush_duration: Histogram,
    usage_flushed: IntCounter,
    config_reloads: IntCounterVec,
    config_last_reload_successful: IntGauge,
    hand_overs: IntCounterVec,
    access_log_dropped: IntCounter,
    traces: IntCounterVec,
    access_log_errors: IntCounter,
    logins: IntCounterVec,
    password_hashes: IntCounter,
    sign_ins: IntCounterVec,
    upstream_checks: IntCounterVec,
    upstream_resolutions: IntCounterVec,
}

impl ControlMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        let metrics = Self {
            directory_errors: counter(
                "postern_directory_errors_total",
                "Failures to read the directory from the store, or to write it.",
            ),
            usage_flush_duration: Histogram::with_opts(
                HistogramOpts::new(
                    "postern_usage_flush_duration_seconds",
                    "Time to write one batch of usage to the store.",
                )
                .buckets(vec![
                    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
                ]),
            )
            .expect(VALID),
            usage_flushed: counter(
                "postern_usage_flushed_total",
                "Tokens whose usage was written to the store.",
            ),
            config_reloads: IntCounterVec::new(
                Opts::new("postern_config_reloads_total", "Reloads of the configuration, by how they went."),
                &["outcome"],
            )
            .expect(VALID),
            config_last_reload_successful: IntGauge::new(
                "postern_config_last_reload_successful",
                "1 if the last reload of the configuration was applied, 0 if it was rejected.",
            )
            .expect(VALID),
            hand_overs: IntCounterVec::new(
                Opts::new(
                    "postern_hand_overs_total",
                    "Upgrades without a pause: taken over by this process, or failed and this one goes on.",
                ),
                &["outcome"],
            )
            .expect(VALID),
            access_log_dropped: counter(
                "postern_access_log_dropped_total",
                "Lines of the access log that were lost: its queue was full, or its output failed.",
            ),
            traces: IntCounterVec::new(
                Opts::new(
                    "postern_traces_total",
                    "Sampled requests for the tracing collector, by what came of them.",
                ),
                &["outcome"],
            )
            .expect(VALID),
            access_log_errors: counter(
                "postern_access_log_errors_total",
                "Failures to write or reopen the access log.",
            ),
            logins: IntCounterVec::new(
                Opts::new("postern_logins_total", "Attempts to prove a password, by what came of them."),
                &["outcome"],
            )
            .expect(VALID),
            password_hashes: counter(
                "postern_password_hashes_total",
                "Password hashes computed: the work that logins cost.",
            ),
            sign_ins: IntCounterVec::new(
                Opts::new(
                    "postern_sign_ins_total",
                    "Returns from third parties and identity providers, by what came of them.",
                ),
                &["outcome"],
            )
            .expect(VALID),
            upstream_checks: IntCounterVec::new(
                Opts::new(
                    "postern_upstream_checks_total",
                    "Active checks of an endpoint's addresses, by what came of them.",
                ),
                &["upstream", "endpoint", "outcome"],
            )
            .expect(VALID),
            upstream_resolutions: IntCounterVec::new(
                Opts::new(
                    "postern_upstream_resolutions_total",
                    "Look-ups of an endpoint's name, by what came of them. After a failure the last addresses stay.",
                ),
                &["upstream", "endpoint", "outcome"],
            )
            .expect(VALID),
        };
        for outcome in SignInOutcome::ALL {
            metrics.sign_ins.with_label_values(&[outcome.code()]);
        }
        for outcome in LoginOutcome::ALL {
            metrics.logins.with_label_values(&[outcome.code()]);
        }
        for outcome in ReloadOutcome::ALL {
            metrics.config_reloads.with_label_values(&[outcome.code()]);
        }
        for outcome in HandOverOutcome::ALL {
            metrics.hand_overs.with_label_values(&[outcome.code()]);
        }
        metrics.config_last_reload_successful.set(1);

        let build_info = IntGaugeVec::new(
            Opts::new("postern_build_info", "Always 1; what is running is in the labels."),
            &["version"],
        )
        .expect(VALID);
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);

        let collectors: [Box<dyn Collector>; 15] = [
            Box::new(metrics.directory_errors.clone()),
            Box::new(metrics.usage_flush_duration.clone()),
            Box::new(metrics.usage_flushed.clone()),
            Box::new(metrics.config_reloads.clone()),
            Box::new(metrics.config_last_reload_successful.clone()),
            Box::new(metrics.hand_overs.clone()),
            Box::new(metrics.access_log_dropped.clone()),
            Box::new(metrics.traces.clone()),
            Box::new(metrics.access_log_errors.clone()),
            Box::new(metrics.logins.clone()),
            Box::new(metrics.sign_ins.clone()),
            Box::new(metrics.upstream_checks.clone()),
            Box::new(metrics.upstream_resolutions.clone()),
            Box::new(metrics.password_hashes.clone()),
            Box::new(build_info),
        ];
        for collector in collectors {
            registry.register(collector).expect("every metric is registered once, in a registry of its own");
        }
        metrics
    }

    /// The store could not be read or written.
    pub fn directory_error(&self) {
        self.directory_errors.inc();
    }

    /// Usage of so many tokens was written to the store.
    pub fn usage_flushed(&self, tokens: u64, duration: Duration) {
        self.usage_flushed.inc_by(tokens);
        self.usage_flush_duration.observe(duration.as_secs_f64());
    }

    /// A reload ended.
    pub fn config_reloaded(&self, outcome: ReloadOutcome) {
        self.config_reloads.with_label_values(&[outcome.code()]).inc();
        self.config_last_reload_successful.set(i64::from(outcome == ReloadOutcome::Applied));
    }

    /// A hand-over ended.
    pub fn handed_over(&self, outcome: HandOverOutcome) {
        self.hand_overs.with_label_values(&[outcome.code()]).inc();
    }

    /// A collector took so many traces.
    pub fn traces_exported(&self, traces: u64) {
        self.traces.with_label_values(&["exported"]).inc_by(traces);
    }

    /// So many traces were lost: the queue was full, or the collector did not take them.
    pub fn traces_dropped(&self, traces: u64) {
        self.traces.with_label_values(&["dropped"]).inc_by(traces);
    }

    /// So many lines of the access log were lost.
    pub fn access_log_dropped(&self, lines: u64) {
        self.access_log_dropped.inc_by(lines);
    }

    /// The access log could not be written or reopened.
    pub fn access_log_error(&self) {
        self.access_log_errors.inc();
    }

    /// Somebody tried to prove a password.
    pub fn login(&self, outcome: LoginOutcome) {
        self.logins.with_label_values(&[outcome.code()]).inc();
    }

    /// Somebody came back from a third party or an identity provider.
    pub fn sign_in(&self, outcome: SignInOutcome) {
        self.sign_ins.with_label_values(&[outcome.code()]).inc();
    }

    /// An address of this endpoint was checked.
    pub fn upstream_checked(&self, upstream: &str, endpoint: &str, outcome: CheckOutcome) {
        self.upstream_checks.with_label_values(&[upstream, endpoint, outcome.code()]).inc();
    }

    /// This endpoint's name was looked up.
    pub fn upstream_resolved(&self, upstream: &str, endpoint: &str, outcome: ResolutionOutcome) {
        self.upstream_resolutions.with_label_values(&[upstream, endpoint, outcome.code()]).inc();
    }

    /// Counts every password hash that is computed.
    pub fn password_hashes(&self) -> IntCounter {
        self.password_hashes.clone()
    }
}

const VALID: &str = "names, labels and buckets are constants that a test checks";

fn counter(name: &str, help: &str) -> IntCounter {
    IntCounter::new(name, help).expect(VALID)
}

type ReadDirectory = Box<dyn Fn() -> DirectoryFigures + Send + Sync>;
type ReadUpstreams = Box<dyn Fn() -> Vec<EndpointFigures> + Send + Sync>;
type ReadCount = Box<dyn Fn() -> u64 + Send + Sync>;

/// What is asked for only when it is scraped.
#[derive(Default)]
pub(super) struct Observed {
    pub(super) directory: Mutex<Option<ReadDirectory>>,
    pub(super) upstreams: Mutex<Option<ReadUpstreams>>,
    pub(super) log_dropped: Mutex<Option<ReadCount>>,
    pub(super) clock_ahead: Mutex<Option<ReadCount>>,
    pub(super) certificates: Mutex<BTreeMap<(String, String), SystemTime>>,
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed").field("certificates", &self.certificates).finish_non_exhaustive()
    }
}

impl Observed {
    pub(super) fn describe() -> Vec<Desc> {
        [
            &family::TOKENS,
            &family::DIRECTORY_SEQUENCE,
            &family::DIRECTORY_AGE,
            &family::USAGE_PENDING,
            &family::CERTIFICATE_EXPIRY,
            &family::UPSTREAM_ADDRESSES,
            &family::LOG_DROPPED,
            &family::CLOCK_AHEAD,
        ]
        .into_iter()
        .map(family::Family::describe)
        .collect()
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus knows only floating point")]
    pub(super) fn collect(&self, families: &mut Vec<MetricFamily>) {
        if let Some(read) = &*self.directory.lock() {
            collect_directory(&read(), families);
        }
        if let Some(read) = &*self.upstreams.lock() {
            collect_addresses(&read(), families);
        }
        if let Some(read) = &*self.log_dropped.lock() {
            families.push(family::LOG_DROPPED.with(vec![family::LOG_DROPPED.count(&[], read())]));
        }
        if let Some(read) = &*self.clock_ahead.lock() {
            families.push(family::CLOCK_AHEAD.with(vec![family::CLOCK_AHEAD.level(&[], read() as f64)]));
        }
        let certificates = self.certificates.lock();
        let expiries = certificates.iter().map(|((listener, certificate), expires)| {
            let seconds = expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            family::CERTIFICATE_EXPIRY.level(&[listener, certificate], seconds)
        });
        families.push(family::CERTIFICATE_EXPIRY.with(expiries.collect()));
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows only floating point")]
fn collect_addresses(endpoints: &[EndpointFigures], families: &mut Vec<MetricFamily>) {
    let mut samples = Vec::new();
    for figures in endpoints {
        let states =
            [("healthy", figures.healthy), ("unhealthy", figures.unhealthy), ("ejected", figures.ejected)];
        for (state, count) in states {
            let labels = [figures.upstream.as_str(), figures.endpoint.as_str(), state];
            samples.push(family::UPSTREAM_ADDRESSES.level(&labels, count as f64));
        }
    }
    families.push(family::UPSTREAM_ADDRESSES.with(samples));
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows only floating point")]
fn collect_directory(figures: &DirectoryFigures, families: &mut Vec<MetricFamily>) {
    families.push(family::TOKENS.with(vec![
        family::TOKENS.level(&["application"], figures.application_tokens as f64),
        family::TOKENS.level(&["personal"], figures.personal_tokens as f64),
        family::TOKENS.level(&["session"], figures.session_tokens as f64),
    ]));
    families.push(
        family::DIRECTORY_SEQUENCE.with(vec![family::DIRECTORY_SEQUENCE.level(&[], figures.sequence as f64)]),
    );
    if let Some(age) = figures.age {
        families.push(family::DIRECTORY_AGE.with(vec![family::DIRECTORY_AGE.level(&[], age.as_secs_f64())]));
    }
    families.push(
        family::USAGE_PENDING.with(vec![family::USAGE_PENDING.level(&[], figures.usage_pending as f64)]),
    );
}
