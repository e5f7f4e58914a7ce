//! The form of addresses that Postern sends requests to: over TLS, or not leaving this machine; no password inside.
//!
//! Which addresses of that form are reached is not known here ([`crate::login::outgoing`]).

use std::net::IpAddr;

use reqwest::Url;

/// Whether an address is of a form that requests are sent to: `https`, or `http` on this machine, without user and
/// password.
///
/// # Errors
///
/// What is wrong with it.
pub fn check(url: &Url) -> Result<(), String> {
    let local = literal(url).is_some_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => {}
        "http" if local => {}
        _ => {
            return Err(
                "must begin with https:// (http:// only for an IP address of this machine)".to_owned()
            );
        }
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not have a user or password in it".to_owned());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("must name a host".to_owned());
    }
    Ok(())
}

/// The address that stands in place of a name.
pub fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}
