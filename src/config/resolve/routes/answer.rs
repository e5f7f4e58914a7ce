//! Who answers a route's requests: a service, under which path, or Postern itself.

use http::{HeaderValue, StatusCode};

use super::super::Resolution;
use super::super::text::{self, PathKind, Refusal};
use super::UpstreamNames;
use crate::config::file::{FixedResponseTable, RouteTable};
use crate::config::report::Located;
use crate::config::{FixedResponseConfig, HttpsRedirect, RoutePath, RouteTarget};

/// The upstream, or the response in its place.
pub(super) fn target(
    located: &Located<RouteTable>,
    upstreams: &UpstreamNames<'_>,
    resolution: &mut Resolution<'_, '_>,
) -> Option<RouteTarget> {
    let route = &located.value;
    match (&route.upstream, &route.response) {
        (Some(name), None) => upstreams.position(name, resolution).map(RouteTarget::Upstream),
        (None, Some(response)) => {
            without_service(route, resolution);
            fixed(&response.value, resolution).map(RouteTarget::Response)
        }
        (Some(upstream), Some(_)) => {
            let reason = "a route with a `response` of its own has no upstream";
            let remedy = "remove `upstream`, or remove `[routes.response]`";
            resolution.report.place_problem(&upstream.at, reason, remedy);
            None
        }
        (None, None) => {
            let at = located.at.child("upstream", located.at.span.clone());
            let response = located.at.child("response", None);
            if !resolution.report.is_noted(&at) && !resolution.report.is_noted(&response) {
                let remedy = "add `upstream = …`, a string, or a `[routes.response]`";
                resolution.report.place_problem(&at, "missing key `upstream`", remedy);
            }
            None
        }
    }
}

/// Notes what would be done with a request if it went on.
fn without_service(route: &RouteTable, resolution: &mut Resolution<'_, '_>) {
    let given = [
        route.rewrite.as_ref().map(|key| &key.at),
        route.cors_preflight.as_ref().map(|key| &key.at),
        route.pass_authorization.as_ref().filter(|key| key.value).map(|key| &key.at),
        route.upgrades.as_ref().filter(|key| !key.value.is_empty()).map(|key| &key.at),
        route.response_header_seconds.as_ref().map(|key| &key.at),
        route.total_seconds.as_ref().map(|key| &key.at),
    ];
    for at in given.into_iter().flatten() {
        let reason = format!("`{}` has no meaning where nothing is sent on", at.name());
        let remedy = "remove it, or name an `upstream` instead of a response";
        resolution.report.place_problem(at, reason, remedy);
    }
}

fn fixed(table: &FixedResponseTable, resolution: &mut Resolution<'_, '_>) -> Option<FixedResponseConfig> {
    let content_type = resolution.text(table.content_type.as_ref(), content_type);
    let (written, body) = (table.status.as_ref()?, table.body.as_ref()?);
    let status =
        u16::try_from(written.value.count()).ok().and_then(|code| StatusCode::from_u16(code).ok())?;
    let is_bodiless =
        matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED);
    if is_bodiless && !body.value.is_empty() {
        let reason = format!("a response with the status {} has no body", status.as_u16());
        resolution.report.value_problem(&written.at, reason, "leave `body` out, or choose another status");
        return None;
    }
    Some(FixedResponseConfig { status, body: body.value.clone(), content_type: content_type? })
}

fn content_type(text: &str) -> Result<HeaderValue, Refusal> {
    let is_type = text.split_once('/').is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty());
    HeaderValue::from_str(text).ok().filter(|_| is_type).ok_or_else(|| Refusal {
        reason: format!("{} is no type of a content", text::quoted(text)),
        remedy: "write one such as `text/plain` or `application/json`".to_owned(),
    })
}

/// What a path becomes; the inner `None`: it stays as it is.
pub(super) fn rewrite(
    route: &RouteTable,
    path: Option<&RoutePath>,
    resolution: &mut Resolution<'_, '_>,
) -> Option<Option<String>> {
    let Some(written) = &route.rewrite else { return Some(None) };
    let template = resolution.text(Some(written), |text| text::path(text, PathKind::Rewrite))?;
    let pattern = path?.as_str();
    let unknown =
        text::parameters(&template).find(|name| text::parameters(pattern).all(|known| known != *name));
    if let Some(unknown) = unknown {
        let reason = format!("the path `{pattern}` has no parameter `{unknown}`");
        let remedy = format!("put `{{{unknown}}}` into the path, or take it out here");
        resolution.report.value_problem(&written.at, reason, remedy);
        return None;
    }
    Some(Some(template))
}

/// Where requests in the clear are sent; the inner `None`: they are served.
pub(super) fn redirect(
    route: &RouteTable,
    resolution: &mut Resolution<'_, '_>,
) -> Option<Option<HttpsRedirect>> {
    let Some(written) = &route.redirect else { return Some(None) };
    let parse = |text: &str| match text.split_once(':') {
        None if text == "https" => Ok(HttpsRedirect { port: None }),
        Some(("https", port)) if port.parse::<u16>().is_ok_and(|port| port != 0) => {
            Ok(HttpsRedirect { port: port.parse().ok().filter(|port| *port != 443) })
        }
        _ => Err(Refusal {
            reason: format!("`redirect` cannot be {}", text::quoted(text)),
            remedy: "write `https`, or `https:8443` for a port that is not 443".to_owned(),
        }),
    };
    resolution.text(Some(written), parse).map(Some)
}
