//! The tables that are mostly numbers and words: `[store]`, `[ops]`, `[usage]`, `[limits]`, `[timeouts]`, `[logging]`.

use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::Resolution;
use super::text::{self, Refusal};
use crate::config::file::{
    AccessLogTable, AuthenticationThrottleTable, EventsTable, FileConfig, LimitsTable, LoggingTable,
    OpsTable, StoreTable, TimeoutsTable, TokensTable, UsageTable,
};
use crate::config::report::Located;
use crate::config::unknown::nearest;
use crate::config::{
    AccessLogConfig, AccessLogOutput, AuthenticationThrottleConfig, EventsConfig, LimitsConfig, LogFormat,
    LoggingConfig, OpsConfig, StoreConfig, TimeoutsConfig, TokensConfig, UsageConfig,
};

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The value of a key that needs no more checks; `None` if a problem has been noted for it.
pub(super) fn value<T: Copy>(located: &Option<Located<T>>) -> Option<T> {
    located.as_ref().map(|located| located.value)
}

pub(super) fn workers(file: &FileConfig) -> usize {
    match &file.workers {
        Some(workers) => workers.value.count(),
        None => std::thread::available_parallelism().map_or(1, usize::from).min(1024),
    }
}

pub(super) fn store(table: &StoreTable, resolution: &mut Resolution<'_, '_>) -> Option<StoreConfig> {
    let path = table.path.as_ref().and_then(|path| resolution.path(path));
    Some(StoreConfig {
        path: path?,
        create_if_missing: value(&table.create_if_missing)?,
        stale_after: value(&table.stale_after_seconds).map(|seconds| seconds.duration()),
    })
}

pub(super) fn ops(table: &OpsTable, resolution: &mut Resolution<'_, '_>) -> Option<OpsConfig> {
    Some(OpsConfig { address: resolution.text(table.address.as_ref(), text::socket_address)? })
}

pub(super) fn authentication_throttle(
    table: &AuthenticationThrottleTable,
) -> Option<AuthenticationThrottleConfig> {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Some(AuthenticationThrottleConfig {
        failures: number(value(&table.failures)?.count()),
        period: value(&table.per_seconds)?.duration(),
        ipv4_prefix_bits: number(value(&table.ipv4_prefix_bits)?.count()),
        ipv6_prefix_bits: number(value(&table.ipv6_prefix_bits)?.count()),
    })
}

pub(super) fn usage(table: &UsageTable) -> Option<UsageConfig> {
    Some(UsageConfig { flush_interval: value(&table.flush_interval_seconds)?.duration() })
}

pub(super) fn events(table: &EventsTable) -> Option<EventsConfig> {
    Some(EventsConfig {
        retention: days(value(&table.retention_days)?.count()),
        mirror: value(&table.mirror)?,
    })
}

pub(super) fn tokens(table: &TokensTable) -> Option<TokensConfig> {
    Some(TokensConfig { expire_unused_after: days(value(&table.expire_unused_after_days)?.count()) })
}

/// So many days; 0: for ever.
fn days(count: usize) -> Option<Duration> {
    (count > 0).then(|| Duration::from_secs(count as u64 * 86_400))
}

pub(super) fn limits(table: &LimitsTable, resolution: &mut Resolution<'_, '_>) -> Option<LimitsConfig> {
    let header_bytes = value(&table.header_bytes)?.size();
    let uri = table.uri_bytes.as_ref()?;
    let uri_bytes = uri.value.size();
    if uri_bytes > header_bytes {
        let reason = format!(
            "`uri_bytes` is {uri_bytes}, but a request's head, the URI included, ends at {header_bytes} bytes"
        );
        resolution.report.value_problem(&uri.at, reason, "lower `uri_bytes` or raise `header_bytes`");
    }
    Some(LimitsConfig {
        header_bytes,
        header_count: value(&table.header_count)?.count(),
        uri_bytes,
        connections: value(&table.connections)?.count(),
    })
}

pub(super) fn timeouts(table: &TimeoutsTable) -> Option<TimeoutsConfig> {
    Some(TimeoutsConfig {
        header_read: value(&table.header_read_seconds)?.duration(),
        idle: value(&table.idle_seconds)?.duration(),
        drain: value(&table.drain_seconds)?.duration(),
    })
}

pub(super) fn logging(table: &LoggingTable, resolution: &mut Resolution<'_, '_>) -> Option<LoggingConfig> {
    let level = resolution.text(table.level.as_ref(), level);
    let format = resolution.text(table.format.as_ref(), format);
    let access_log = table.access_log.as_ref().map(|table| access_log(&table.value, resolution));
    let recent_denials = value(&table.recent_denials)?.count();
    Some(LoggingConfig { level: level?, format: format?, recent_denials, access_log: access_log?? })
}

/// The outer `None` means that a problem has been noted, the inner one that there is no access log.
fn access_log(
    table: &AccessLogTable,
    resolution: &mut Resolution<'_, '_>,
) -> Option<Option<AccessLogConfig>> {
    let format = resolution.text(table.format.as_ref(), format);
    let output = table.output.as_ref()?;
    let output = match output.value.as_str() {
        "off" => return Some(None),
        "stdout" => AccessLogOutput::StandardOutput,
        _ => AccessLogOutput::File(log_file(output, resolution)?),
    };
    Some(Some(AccessLogConfig { output, format: format? }))
}

fn log_file(path: &Located<String>, resolution: &mut Resolution<'_, '_>) -> Option<std::path::PathBuf> {
    let file = resolution.path(path)?;
    if file.is_dir() {
        let reason = format!("`{}` is a folder", file.display());
        resolution.report.value_problem(&path.at, reason, "name a file in it, `stdout` or `off`");
        return None;
    }
    let folder = file.parent().filter(|folder| !folder.is_dir());
    if let Some(folder) = folder {
        let reason = format!("there is no folder `{}` for the access log", folder.display());
        resolution.report.value_problem(&path.at, reason, "make the folder, or write `stdout` or `off`");
        return None;
    }
    Some(file)
}

fn format(text: &str) -> Result<LogFormat, Refusal> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(Refusal {
            reason: format!("there is no log format {}", text::quoted(text)),
            remedy: "write `text` or `json`".to_owned(),
        }),
    }
}

/// A filter for the program's log. A bare word must be a level: the filter's own language would take a mistyped
/// level for the name of a module and log nothing else.
fn level(text: &str) -> Result<String, Refusal> {
    let refuse = |reason: String, remedy: String| Err(Refusal { reason, remedy });
    let words = text.split(',').map(str::trim).filter(|part| !part.contains(['=', '[']));
    for word in words {
        if LEVELS.contains(&word.to_ascii_lowercase().as_str()) {
            continue;
        }
        let remedy = match nearest(&word.to_ascii_lowercase(), LEVELS) {
            Some(nearest) => format!("did you mean `{nearest}`? Levels are {}", LEVELS.join(", ")),
            None => format!("write one of {}; for one module `postern=debug`", LEVELS.join(", ")),
        };
        return refuse(format!("there is no log level {}", text::quoted(word)), remedy);
    }
    match EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => refuse(
            format!("{} is no log filter", text::quoted(text)),
            format!("write one of {}, or such as `info,postern=debug`", LEVELS.join(", ")),
        ),
    }
}
