//! What is done with a route's requests and responses on their way.

use http::{HeaderName, HeaderValue};

use super::super::text::{self, Refusal};
use super::super::{Resolution, all};
use super::UpstreamNames;
use crate::config::file::RouteTable;
use crate::config::map::Map;
use crate::config::report::Located;
use crate::config::{
    CorsPreflight, CredentialCarrier, CredentialsConfig, HeaderChangesConfig, RouteAuthentication,
};
use crate::headers::change::{self, Direction};

/// Where tokens are taken from.
pub(super) fn credentials(
    route: &RouteTable,
    authentication: Option<RouteAuthentication>,
    resolution: &mut Resolution<'_, '_>,
) -> Option<CredentialsConfig> {
    let query_parameter = resolution.text(route.query_parameter.as_ref(), query_parameter);
    let written = route.credentials.as_ref()?;
    let carriers = written.value.iter().map(|word| resolution.text(Some(word), carrier));
    let carriers: Option<Vec<_>> = all(carriers.collect());
    let carriers = carriers?;
    if carriers.is_empty() && !resolution.report.is_noted(&written.at) {
        let remedy = "name at least one, or write `authentication = \"off\"` to let everybody in";
        resolution.report.value_problem(&written.at, "tokens would be taken from nowhere", remedy);
    }
    let repeated = (1..carriers.len()).find(|at| carriers[..*at].contains(&carriers[*at]));
    if let Some(repeated) = repeated.and_then(|at| written.value.get(at)) {
        resolution.report.value_problem(&repeated.at, "it is listed twice", "list each place once");
    }
    let is_usual = carriers == [CredentialCarrier::Bearer];
    if authentication == Some(RouteAuthentication::Off) && !is_usual {
        let reason = "`credentials` are never asked for where `authentication` is off";
        resolution.report.value_problem(&written.at, reason, "remove one of the two");
    }
    if let Some(redirect) = &route.redirect
        && carriers.contains(&CredentialCarrier::Query)
    {
        let reason = "a token in a query would have been sent in the clear, and be sent back in `Location`";
        let remedy = "remove `redirect`, or `query` from `credentials`";
        resolution.report.value_problem(&redirect.at, reason, remedy);
    }
    Some(CredentialsConfig { carriers, query_parameter: query_parameter? })
}

fn carrier(word: &str) -> Result<CredentialCarrier, Refusal> {
    match word {
        "bearer" => Ok(CredentialCarrier::Bearer),
        "basic" => Ok(CredentialCarrier::Basic),
        "websocket_protocol" => Ok(CredentialCarrier::WebsocketProtocol),
        "query" => Ok(CredentialCarrier::Query),
        _ => Err(Refusal {
            reason: format!("tokens are not taken from {}", text::quoted(word)),
            remedy: "name some of `bearer`, `basic`, `websocket_protocol` and `query`".to_owned(),
        }),
    }
}

fn query_parameter(name: &str) -> Result<String, Refusal> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    if (1..=64).contains(&name.len()) && name.bytes().all(is_plain) {
        return Ok(name.to_owned());
    }
    Err(Refusal {
        reason: format!("{} is no name of a parameter for tokens", text::quoted(name)),
        remedy: "use 1 to 64 letters, digits, `-`, `_`, `.` or `~`".to_owned(),
    })
}

/// Protocols that the service may be offered beside WebSocket.
pub(super) fn upgrades(
    route: &RouteTable,
    upstreams: &UpstreamNames<'_>,
    resolution: &mut Resolution<'_, '_>,
) -> Option<Vec<String>> {
    let written = route.upgrades.as_ref()?;
    let names = written.value.iter().map(|name| resolution.text(Some(name), protocol));
    let names: Option<Vec<String>> = all(names.collect());
    let names = names?;
    let is_before = |at: usize| names[..at].iter().any(|before| before.eq_ignore_ascii_case(&names[at]));
    if let Some(repeated) = (1..names.len()).find(|at| is_before(*at)).and_then(|at| written.value.get(at)) {
        let remedy = "list each protocol once: capitals make no difference";
        resolution.report.value_problem(&repeated.at, "it is listed twice", remedy);
    }
    if !names.is_empty()
        && let Some(upstream) = &route.upstream
        && upstreams.is_in_http2(upstream)
    {
        let reason =
            format!("the upstream {} speaks HTTP/2, which has no `Upgrade`", text::quoted(&upstream.value));
        let remedy = "remove `upgrades`, or name an upstream in HTTP/1.1";
        resolution.report.value_problem(&written.at, reason, remedy);
    }
    Some(names)
}

/// A protocol that a connection may go on in without anything in it being a request that nobody decides about.
fn protocol(name: &str) -> Result<String, Refusal> {
    let refuse = |reason: String, remedy: &str| Err(Refusal { reason, remedy: remedy.to_owned() });
    let is_token = |part: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !part.is_empty() && part.bytes().all(is_plain)
    };
    let quoted = text::quoted(name);
    if name.len() > 64 || !name.splitn(2, '/').all(is_token) {
        let remedy = "write it as in the `Upgrade` header: `tcp`, or with a version `SPDY/3.1`";
        return refuse(format!("{quoted} is no name of a protocol"), remedy);
    }
    match name.split('/').next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "websocket" => refuse("WebSockets pass on every route".to_owned(), "leave it out"),
        "tls" => refuse(
            format!("{quoted} would hide the requests behind it from every decision"),
            "leave it out: TLS is for `[listeners.tls]` and `[upstreams.tls]`",
        ),
        http if http.starts_with("http") || matches!(http, "h2" | "h2c" | "h3") => refuse(
            format!("behind {quoted} come requests, and nobody would decide about them"),
            "leave it out: clients speak HTTP/2 with postern itself, and upstreams by `protocol = \"http2\"`",
        ),
        _ => Ok(name.to_owned()),
    }
}

/// Whether browsers may ask without a token: no, unless it says `pass`.
pub(super) fn cors_preflight(
    route: &RouteTable,
    authentication: Option<RouteAuthentication>,
    resolution: &mut Resolution<'_, '_>,
) -> Option<CorsPreflight> {
    let Some(written) = &route.cors_preflight else { return Some(CorsPreflight::Authenticate) };
    if authentication == Some(RouteAuthentication::Off) {
        let reason = "`cors_preflight` has no meaning where `authentication` is off: everything passes";
        resolution.report.value_problem(&written.at, reason, "remove one of the two");
    }
    let parse = |text: &str| match text {
        "pass" => Ok(CorsPreflight::Pass),
        _ => Err(Refusal {
            reason: format!("`cors_preflight` cannot be {}", text::quoted(text)),
            remedy:
                "leave the key out, or write `pass` to let the service answer browsers' preflight requests"
                    .to_owned(),
        }),
    };
    resolution.text(Some(written), parse)
}

pub(super) fn header_changes(
    set: Option<&Located<Map<String>>>,
    add: Option<&Located<Map<String>>>,
    remove: Option<&Located<Vec<Located<String>>>>,
    direction: Direction,
    resolution: &mut Resolution<'_, '_>,
) -> Option<HeaderChangesConfig> {
    let set = set.map(|lines| self::lines(lines, direction, resolution));
    let add = add.map(|lines| self::lines(lines, direction, resolution));
    let name = |text: &str| changeable(text, direction);
    let remove = remove
        .map(|names| all(names.value.iter().map(|written| resolution.text(Some(written), name)).collect()));
    Some(HeaderChangesConfig { set: set??, add: add??, remove: remove?? })
}

fn lines(
    lines: &Located<Map<String>>,
    direction: Direction,
    resolution: &mut Resolution<'_, '_>,
) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let resolved = lines.value.0.iter().map(|(written, text)| {
        // It may be a key that the service wants.
        resolution.report.mask(&text.at);
        let name = resolution.text(Some(written), |text| changeable(text, direction));
        let value = change::value(&text.value);
        if value.is_none() {
            let reason = "a header cannot carry this value";
            let remedy = "write it in one line, without control characters and without spaces around it";
            resolution.report.value_problem(&text.at, reason, remedy);
        }
        Some((name?, value?))
    });
    all(resolved.collect())
}

/// A header that routes may change.
fn changeable(name: &str, direction: Direction) -> Result<HeaderName, Refusal> {
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Refusal {
        reason: format!("{} is no name of a header", text::quoted(name)),
        remedy: "use letters, digits and dashes, as in `x-environment`".to_owned(),
    })?;
    match change::why_reserved(&parsed, direction) {
        None => Ok(parsed),
        Some(why) => Err(Refusal {
            reason: format!("no route changes `{parsed}`: it {why}"),
            remedy: "leave it out, or choose another header".to_owned(),
        }),
    }
}
