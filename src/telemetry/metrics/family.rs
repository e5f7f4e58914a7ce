//! Names, help texts and labels of the metrics that are summed from workers' cells, and how they become samples.

use std::collections::HashMap;

use prometheus::core::Desc;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::cells::{BUCKET_BOUNDS_NANOSECONDS, HistogramSum};

/// One metric: everything about it but its values.
#[derive(Debug)]
pub(super) struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    labels: &'static [&'static str],
}

pub(super) static REQUESTS: Family = Family {
    name: "postern_requests_total",
    help: "Requests by route and by the status code that the client was sent (none: it left before an answer).",
    kind: MetricType::COUNTER,
    labels: &["route", "code"],
};

pub(super) static DENIALS: Family = Family {
    name: "postern_denials_total",
    help: "Requests that the policy refused, by route and reason.",
    kind: MetricType::COUNTER,
    labels: &["route", "reason"],
};

pub(super) static LIMITED: Family = Family {
    name: "postern_limited_total",
    help: "Requests that were one too many, by route and by the limit.",
    kind: MetricType::COUNTER,
    labels: &["route", "limit"],
};

pub(super) static WOULD_DENY: Family = Family {
    name: "postern_would_deny_total",
    help: "Requests that were let in and that the organization's candidate policy would refuse, by route and reason.",
    kind: MetricType::COUNTER,
    labels: &["route", "reason"],
};

pub(super) static WOULD_PERMIT: Family = Family {
    name: "postern_would_permit_total",
    help: "Requests that were refused, by route and reason, and that the organization's candidate policy would let in.",
    kind: MetricType::COUNTER,
    labels: &["route", "reason"],
};

pub(super) static REQUEST_DURATION: Family = Family {
    name: "postern_request_duration_seconds",
    help: "Time from the arrival of a request's head to the end of its response.",
    kind: MetricType::HISTOGRAM,
    labels: &["route"],
};

pub(super) static UPSTREAM_DURATION: Family = Family {
    name: "postern_upstream_duration_seconds",
    help: "Time from the choice of an endpoint to the head of its response.",
    kind: MetricType::HISTOGRAM,
    labels: &["upstream"],
};

pub(super) static UPSTREAM_REQUESTS: Family = Family {
    name: "postern_upstream_requests_total",
    help: "Requests sent to an upstream's endpoint, by how they went.",
    kind: MetricType::COUNTER,
    labels: &["upstream", "endpoint", "outcome"],
};

pub(super) static UPSTREAM_CONNECTIONS: Family = Family {
    name: "postern_upstream_connections",
    help: "Open connections to an upstream, by whether a request is on them.",
    kind: MetricType::GAUGE,
    labels: &["upstream", "state"],
};

pub(super) static UPSTREAM_REFUSALS: Family = Family {
    name: "postern_upstream_refusals_total",
    help: "Requests that were not sent to an upstream, by why not.",
    kind: MetricType::COUNTER,
    labels: &["upstream", "reason"],
};

pub(super) static UPSTREAM_RETRIES: Family = Family {
    name: "postern_upstream_retries_total",
    help: "Requests that could be sent again to another address, by whether the budget had it.",
    kind: MetricType::COUNTER,
    labels: &["upstream", "outcome"],
};

pub(super) static UPSTREAM_ADDRESSES: Family = Family {
    name: "postern_upstream_addresses",
    help: "Addresses of an upstream's endpoint, by how they are.",
    kind: MetricType::GAUGE,
    labels: &["upstream", "endpoint", "state"],
};

pub(super) static CONNECTIONS: Family = Family {
    name: "postern_connections",
    help: "Open client connections of a listener.",
    kind: MetricType::GAUGE,
    labels: &["listener"],
};

pub(super) static ACCEPT_FAILURES: Family = Family {
    name: "postern_accept_failures_total",
    help: "Tries to accept a connection that failed, mostly for want of file descriptors. What waits is tried again.",
    kind: MetricType::COUNTER,
    labels: &["listener"],
};

pub(super) static TLS_HANDSHAKES: Family = Family {
    name: "postern_tls_handshakes_total",
    help: "TLS handshakes with clients, by how they went.",
    kind: MetricType::COUNTER,
    labels: &["listener", "outcome"],
};

pub(super) static PROXY_PROTOCOL_FAILURES: Family = Family {
    name: "postern_proxy_protocol_failures_total",
    help: "Connections closed for want of a header of the PROXY protocol, by what was wrong.",
    kind: MetricType::COUNTER,
    labels: &["listener", "reason"],
};

pub(super) static HTTP2_GO_AWAYS: Family = Family {
    name: "postern_http2_go_aways_total",
    help: "HTTP/2 clients told to go away for what they sent: floods, or breaches of the protocol.",
    kind: MetricType::COUNTER,
    labels: &["listener", "reason"],
};

pub(super) static TOKENS: Family = Family {
    name: "postern_tokens",
    help: "Tokens in the token cache, by kind.",
    kind: MetricType::GAUGE,
    labels: &["kind"],
};

pub(super) static DIRECTORY_SEQUENCE: Family = Family {
    name: "postern_directory_sequence",
    help: "Sequence number of the last directory change that was applied.",
    kind: MetricType::GAUGE,
    labels: &[],
};

pub(super) static DIRECTORY_AGE: Family = Family {
    name: "postern_directory_age_seconds",
    help: "Time since the directory in memory was last known to be in step with the store.",
    kind: MetricType::GAUGE,
    labels: &[],
};

pub(super) static USAGE_PENDING: Family = Family {
    name: "postern_usage_pending",
    help: "Tokens whose usage waits to be written to the store.",
    kind: MetricType::GAUGE,
    labels: &[],
};

pub(super) static LOG_DROPPED: Family = Family {
    name: "postern_log_dropped_total",
    help: "Lines of the program's own log that were lost: standard error was not read fast enough, or could not be written.",
    kind: MetricType::COUNTER,
    labels: &[],
};

pub(super) static CLOCK_AHEAD: Family = Family {
    name: "postern_clock_ahead_seconds",
    help: "How far the clock of decisions is ahead of the system's: it never steps back, so that no expired token revives.",
    kind: MetricType::GAUGE,
    labels: &[],
};

pub(super) static CERTIFICATE_EXPIRY: Family = Family {
    name: "postern_certificate_expiry_timestamp_seconds",
    help: "When a listener's certificate expires, in seconds since 1970.",
    kind: MetricType::GAUGE,
    labels: &["listener", "certificate"],
};

impl Family {
    /// What the registry wants to know in advance.
    pub(super) fn describe(&self) -> Desc {
        let labels = self.labels.iter().map(|label| String::from(*label)).collect();
        Desc::new(self.name.into(), self.help.into(), labels, HashMap::new())
            .expect("names and labels are constants that a test checks")
    }

    /// The family with its samples.
    pub(super) fn with(&self, samples: Vec<Metric>) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.name.into());
        family.set_help(self.help.into());
        family.set_field_type(self.kind);
        family.set_metric(samples);
        family
    }

    /// A sample of a counter; `labels` are the values in the family's order.
    #[expect(clippy::cast_precision_loss, reason = "Prometheus knows only floating point")]
    pub(super) fn count(&self, labels: &[&str], value: u64) -> Metric {
        let mut counter = Counter::default();
        counter.set_value(value as f64);
        let mut sample = self.sample(labels);
        sample.set_counter(counter);
        sample
    }

    /// A sample of a gauge.
    pub(super) fn level(&self, labels: &[&str], value: f64) -> Metric {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut sample = self.sample(labels);
        sample.set_gauge(gauge);
        sample
    }

    /// A sample of a histogram.
    #[expect(clippy::cast_precision_loss, reason = "Prometheus knows only floating point")]
    pub(super) fn distribution(&self, labels: &[&str], sum: &HistogramSum) -> Metric {
        let mut cumulative = 0;
        let buckets = BUCKET_BOUNDS_NANOSECONDS
            .iter()
            .zip(&sum.buckets)
            .map(|(bound, count)| {
                cumulative += count;
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(*bound as f64 / 1e9);
                bucket.set_cumulative_count(cumulative);
                bucket
            })
            .collect();
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(sum.buckets.iter().sum());
        histogram.set_sample_sum(sum.sum_nanoseconds as f64 / 1e9);
        let mut sample = self.sample(labels);
        sample.set_histogram(histogram);
        sample
    }

    fn sample(&self, values: &[&str]) -> Metric {
        debug_assert_eq!(self.labels.len(), values.len(), "{} wants a value for each label", self.name);
        let pairs = self.labels.iter().zip(values).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(String::from(*name));
            pair.set_value(String::from(*value));
            pair
        });
        Metric::from_label(pairs.collect())
    }
}
