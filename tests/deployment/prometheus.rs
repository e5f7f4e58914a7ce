//! Scrape configuration and alert rules, by Prometheus' own tool; and that rules name only metrics that there are.

use std::fs;
use std::process::Command;

use crate::support::peers;
use crate::text;

const RULES: &str = "config/prometheus/postern.rules.yml";
const TESTS: &str = "config/prometheus/postern.rules.test.yml";

fn promtool(arguments: &[&str]) -> Option<String> {
    let program = peers::program("promtool")?;
    Some(peers::run(Command::new(program).args(arguments).current_dir(crate::file("config/prometheus"))))
}

/// Values of `key: VALUE`, in the order of a file.
fn values(path: &str, key: &str) -> Vec<String> {
    let text = text(path);
    let lines = text.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key));
    lines.filter_map(|rest| rest.strip_prefix(": ")).map(str::to_owned).collect()
}

#[test]
fn promtool_finds_nothing_wrong_and_every_alert_does_what_it_says() {
    let Some(said) = promtool(&["check", "config", "prometheus.yml"]) else { return };
    println!("{said}");
    promtool(&["test", "rules", "postern.rules.test.yml"]);
}

#[test]
fn every_alert_is_shown_to_fire_and_not_to() {
    let alerts = values(RULES, "alert");
    assert!(alerts.len() > 15, "{alerts:?}");
    let tests = text(TESTS);
    let tests: Vec<_> = tests.split("\n- name: ").skip(1).collect();
    for alert in &alerts {
        let about: Vec<_> =
            tests.iter().filter(|test| test.contains(&format!("alertname: {alert}\n"))).collect();
        let fires = about.iter().filter(|test| test.contains("exp_labels:")).count();
        let quiet = about.iter().filter(|test| test.contains("exp_alerts: []")).count();
        assert!(fires > 0 && quiet > 0, "{alert}: {fires} tests that it fires, {quiet} that it does not");
    }
    let severities = values(RULES, "severity");
    assert_eq!(severities.len(), alerts.len());
    assert!(severities.iter().all(|severity| severity == "critical" || severity == "warning"));
    assert_eq!(values(RULES, "summary").len(), alerts.len());
    assert_eq!(values(RULES, "action").len(), alerts.len(), "whoever is woken is told what to do");
}

/// A rule that would never fire again would also be one whose metric has another name: see `grafana`, which has a sidecar with
/// all of them.
pub(crate) fn metrics() -> Vec<String> {
    let text = fs::read_to_string(crate::file(RULES)).unwrap();
    let lines = text.lines().filter(|line| !line.contains("action:") && !line.contains("summary:"));
    crate::metrics_in(&lines.collect::<Vec<_>>().join("\n"))
}
