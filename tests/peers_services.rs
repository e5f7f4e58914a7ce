//! Real services behind the sidecar: what they are told, and what of theirs arrives.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "peers_services/documentation.rs"]
mod documentation;
#[path = "peers_services/envoy.rs"]
mod envoy;
#[path = "peers_services/prometheus.rs"]
mod prometheus;
mod support;
#[path = "peers_services/victoria_metrics.rs"]
mod victoria_metrics;
