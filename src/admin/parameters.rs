//! Values of query parameters and fields that come as text, each problem named by its field.

use std::net::IpAddr;
use std::str::FromStr;

use super::ApiError;
use crate::directory::model::Timestamp;
use crate::policy::Permission;

/// A time: RFC 3339, or seconds since the Unix epoch.
pub(super) fn time(field: &str, text: Option<&str>) -> Result<Option<Timestamp>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let seconds = match text.parse::<u32>() {
        Ok(seconds) => Some(seconds),
        Err(_) => text.parse::<jiff::Timestamp>().ok().and_then(|time| u32::try_from(time.as_second()).ok()),
    };
    let time = seconds.map(Timestamp).ok_or_else(|| {
        ApiError::bad_request(field, "write a time such as 2026-08-01T12:00:00Z, or seconds since 1970")
    })?;
    Ok(Some(time))
}

/// An address.
pub(super) fn address(field: &str, text: Option<&str>) -> Result<Option<IpAddr>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let address = IpAddr::from_str(text);
    address.map(Some).map_err(|_| ApiError::bad_request(field, "write an address such as 192.0.2.7"))
}

/// A permission.
pub(super) fn permission(field: &str, text: Option<&str>) -> Result<Option<Permission>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    text.parse().map(Some).map_err(|error| ApiError::bad_request(field, error))
}
