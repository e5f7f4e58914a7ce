//! `[tracing]`: which requests are traced, and where traces go.

use reqwest::Url;

use super::Resolution;
use super::settings::value;
use super::text::{self, Refusal};
use crate::config::TracingConfig;
use crate::config::file::TracingTable;

pub(super) fn resolve(table: &TracingTable, resolution: &mut Resolution<'_, '_>) -> Option<TracingConfig> {
    let endpoint = resolution.text(table.endpoint.as_ref(), endpoint);
    let service_name = resolution.text(table.service_name.as_ref(), text::name);
    Some(TracingConfig {
        endpoint: endpoint?,
        service_name: service_name?,
        sampled_per_million: value(&table.sampled_per_million)?.count() as u32,
        follow_parent: value(&table.follow_parent)?,
    })
}

/// A collector is often beside this process, or in the same cluster: it may be spoken to in the clear.
fn endpoint(text: &str) -> Result<String, Refusal> {
    let refuse = |reason: &str| {
        Err(Refusal {
            reason: format!("{} {reason}", text::quoted(text)),
            remedy: "write the collector's URL for traces: `http://localhost:4318/v1/traces`".to_owned(),
        })
    };
    match Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => refuse("is neither http:// nor https://"),
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            refuse("has a user or password in it, which would be in logs")
        }
        Ok(url) if url.path() == "/" => refuse("has no path"),
        Ok(_) => Ok(text.to_owned()),
        Err(_) => refuse("is no URL"),
    }
}
