//! Figures that are asked for when somebody scrapes, and certificates' ends.
//!
//! What must not live here: names and kinds of metrics ([`crate::telemetry::metrics`]).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::config::{Config, certificates};
use crate::telemetry::Metrics;
use crate::telemetry::log::LogHandle;
use crate::telemetry::metrics::CertificateExpiry;
use crate::worker::Shared;

/// Lets a scrape see how the addresses of the upstreams in force are.
pub(super) fn observe_upstreams(shared: &Arc<Shared>, metrics: &Metrics) {
    // Metrics are kept by what a snapshot has.
    let shared = Arc::downgrade(shared);
    metrics.observe_upstreams(move || {
        let snapshot = shared.upgrade().map(|shared| shared.snapshot());
        let upstreams = snapshot.iter().flat_map(|snapshot| &snapshot.upstreams);
        upstreams.flat_map(|upstream| upstream.figures()).collect()
    });
}

/// Lets a scrape see what the log has lost, and how the clock of decisions is.
pub(super) fn observe_process(shared: &Arc<Shared>, log: Option<&LogHandle>, metrics: &Metrics) {
    if let Some(log) = log.cloned() {
        metrics.observe_log(move || log.lines_lost());
    }
    let shared = Arc::downgrade(shared);
    metrics.observe_clock(move || {
        let ahead = shared.upgrade().map(|shared| shared.clock.ahead_of(SystemTime::now()));
        u64::from(ahead.unwrap_or(0))
    });
}

/// Tells Prometheus when certificates end.
pub(super) fn publish_certificates(config: &Config, metrics: &Metrics) {
    let mut expiries = Vec::new();
    for listener in &config.listeners {
        for certificate in listener.tls.iter().flat_map(|tls| &tls.certificates) {
            if let Ok(loaded) = certificates::load(certificate) {
                let seconds = u64::try_from(loaded.not_after).unwrap_or(0);
                expiries.push(CertificateExpiry {
                    listener: listener.name.clone(),
                    certificate: certificate.certificate_file.display().to_string(),
                    expires: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
                });
            }
        }
    }
    metrics.set_certificates(expiries);
}
