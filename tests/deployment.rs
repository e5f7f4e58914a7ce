//! What comes with Postern for running it: units of systemd, an image, manifests of Kubernetes, rules and a dashboard for its
//! metrics. Each is given to the program that it is made for, where that is installed, and to a running sidecar.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests; what was found is shown")]

mod support;

#[path = "deployment/grafana.rs"]
mod grafana;
#[path = "deployment/image.rs"]
mod image;
#[path = "deployment/kubernetes.rs"]
mod kubernetes;
#[path = "deployment/prometheus.rs"]
mod prometheus;
#[path = "deployment/service_manager.rs"]
mod service_manager;
#[path = "deployment/systemd.rs"]
mod systemd;

use std::fs;
use std::path::{Path, PathBuf};

/// A file or folder of the repository.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text of a file of the repository.
#[track_caller]
fn text(path: &str) -> String {
    fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The names of metrics in an expression of Prometheus', without what makes them a histogram's parts.
fn metrics_in(expression: &str) -> Vec<String> {
    let word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let mut names: Vec<String> = expression
        .split(|character| !word(character))
        .filter(|name| ["postern_", "process_"].iter().any(|prefix| name.starts_with(prefix)))
        .map(|name| {
            let part = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end));
            part.unwrap_or(name).to_owned()
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn names_of_metrics_are_found_in_expressions() {
    let expression =
        "histogram_quantile(0.9, rate(postern_a_seconds_bucket{route=~\"x\"}[5m])) / process_b > up";
    assert_eq!(metrics_in(expression), ["postern_a_seconds", "process_b"]);
}
