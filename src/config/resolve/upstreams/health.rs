//! What keeps requests from what fails, and failures from growing: `[upstreams.health]`, `[upstreams.ejection]`,
//! `[upstreams.retries]`, `[upstreams.limits]`.

use std::time::Duration;

use http::StatusCode;
use http::uri::PathAndQuery;

use super::super::Resolution;
use super::super::text::{self, Refusal};
use super::needed;
use crate::config::file::{EjectionTable, HealthTable, RetriesTable, UpstreamLimitsTable};
use crate::config::report::{Located, Location};
use crate::config::{
    EjectionConfig, HealthCheck, HealthConfig, RetriesConfig, UpstreamLimitsConfig, UpstreamProtocol,
};

pub(super) fn health(
    table: &Located<HealthTable>,
    protocol: Option<UpstreamProtocol>,
    resolution: &mut Resolution<'_, '_>,
) -> Option<HealthConfig> {
    let check = check(table, protocol, resolution);
    let HealthTable { interval_seconds, timeout_seconds, .. } = &table.value;
    let (interval, timeout) = (interval_seconds.as_ref()?, timeout_seconds.as_ref()?);
    if timeout.value.duration() > interval.value.duration() {
        let reason = format!(
            "a check may take {} seconds, and the next is due after {}",
            timeout.value.duration().as_secs(),
            interval.value.duration().as_secs()
        );
        let remedy = "choose a `timeout_seconds` of no more than `interval_seconds`";
        resolution.report.value_problem(&timeout.at, reason, remedy);
    }
    Some(HealthConfig {
        check: check?,
        interval: interval.value.duration(),
        timeout: timeout.value.duration(),
        healthy_threshold: table.value.healthy_threshold.as_ref()?.value.count() as u32,
        unhealthy_threshold: table.value.unhealthy_threshold.as_ref()?.value.count() as u32,
    })
}

fn check(
    table: &Located<HealthTable>,
    protocol: Option<UpstreamProtocol>,
    resolution: &mut Resolution<'_, '_>,
) -> Option<HealthCheck> {
    let HealthTable { kind, path, expected_status, service, .. } = &table.value;
    let kind = kind.as_ref()?;
    let mut unwanted = |key: Option<&Location>| {
        let Some(at) = key else { return };
        let reason = format!("`{}` has no meaning with `kind = \"{}\"`", at.name(), kind.value);
        resolution.report.place_problem(at, reason, "remove it, or correct `kind`");
    };
    let (path_at, status_at) =
        (path.as_ref().map(|path| &path.at), expected_status.as_ref().map(|it| &it.at));
    let service_at = service.as_ref().map(|service| &service.at);
    match kind.value.as_str() {
        "tcp" => {
            [path_at, status_at, service_at].into_iter().for_each(unwanted);
            Some(HealthCheck::Tcp)
        }
        "http" => {
            unwanted(service_at);
            let path = needed(path.as_ref(), "path", &table.at, resolution);
            let path = resolution.text(path, check_path);
            let status = expected_status.as_ref().map(|status| status.value.count() as u16);
            // The key's range is that of statuses.
            let status = status.and_then(|status| StatusCode::from_u16(status).ok());
            Some(HealthCheck::Http { path: path?, status })
        }
        "grpc" => {
            [path_at, status_at].into_iter().for_each(unwanted);
            if protocol == Some(UpstreamProtocol::Http1) {
                let reason = "gRPC needs HTTP/2, and this upstream is spoken to in HTTP/1.1";
                let remedy = "set the upstream's `protocol = \"http2\"`, or choose `http` or `tcp`";
                resolution.report.value_problem(&kind.at, reason, remedy);
            }
            let service = service.as_ref().map_or_else(String::new, |service| service.value.clone());
            Some(HealthCheck::Grpc { service })
        }
        other => {
            let reason = format!("there is no kind of check called {}", text::quoted(other));
            resolution.report.value_problem(&kind.at, reason, "write `http`, `tcp` or `grpc`");
            None
        }
    }
}

/// A path as it stands in a request, with a query if there is one.
fn check_path(text: &str) -> Result<String, Refusal> {
    let is_path = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if is_path && PathAndQuery::try_from(text).is_ok() {
        return Ok(text.to_owned());
    }
    Err(Refusal {
        reason: format!("{} is no path of a request", text::quoted(text)),
        remedy: "begin it with a slash, and write it as it is sent: `/healthz`".to_owned(),
    })
}

pub(super) fn ejection(table: &EjectionTable, resolution: &mut Resolution<'_, '_>) -> Option<EjectionConfig> {
    let seconds = |duration: Duration| duration.as_secs();
    let rest = table.rest_seconds.as_ref()?.value.duration();
    let longest = table.longest_rest_seconds.as_ref()?;
    if longest.value.duration() < rest {
        let reason = format!(
            "the longest rest, {} seconds, is shorter than the first, {}",
            seconds(longest.value.duration()),
            seconds(rest)
        );
        let remedy = "choose a `longest_rest_seconds` of no less than `rest_seconds`";
        resolution.report.value_problem(&longest.at, reason, remedy);
    }
    Some(EjectionConfig {
        consecutive_failures: table.consecutive_failures.as_ref()?.value.count() as u32,
        rest,
        longest: longest.value.duration(),
        return_time: table.return_seconds.as_ref()?.value.duration(),
        most_percent: table.most_percent.as_ref()?.value.count(),
    })
}

pub(super) fn retries(table: &RetriesTable) -> Option<RetriesConfig> {
    let statuses = table.statuses.as_ref()?.value.iter();
    // The key's range is that of statuses.
    let statuses = statuses.filter_map(|status| StatusCode::from_u16(status.value.count() as u16).ok());
    Some(RetriesConfig {
        most_per_request: table.most_per_request.as_ref()?.value.count(),
        budget_percent: table.budget_percent.as_ref()?.value.count(),
        least_per_second: table.least_per_second.as_ref()?.value.count(),
        statuses: statuses.collect(),
    })
}

pub(super) fn limits(table: &UpstreamLimitsTable) -> UpstreamLimitsConfig {
    UpstreamLimitsConfig {
        concurrent_requests: table.concurrent_requests.as_ref().map(|count| count.value.count()),
        pending_connections: table.pending_connections.as_ref().map(|count| count.value.count()),
    }
}
