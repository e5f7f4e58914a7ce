//! `[[routes]]`: what goes where, and what it needs. Nothing in here can make a route open but the word `off`, and nothing
//! lets a preflight pass but the word `pass`.

mod answer;
mod limits;
mod matching;
mod request;

use std::collections::HashMap;
use std::time::Duration;

use http::Method;

use super::text::{self, Refusal};
use super::{Resolution, all, settings};
use crate::config::file::{FileConfig, RateLimitTable, RouteTable, TokenRateLimitTable};
use crate::config::map::Map;
use crate::config::report::{Located, Location};
use crate::config::unknown::nearest;
use crate::config::{ConditionsConfig, RouteAuthentication, RouteConfig, RoutePath};
use crate::headers::change::Direction;
use crate::policy::Permission;
use crate::policy::permission::expand;

/// What a read needs where a route names nothing else; Aiven has no `service:data:read`.
const READ_PERMISSION: Permission = Permission::ProjectServicesRead;

/// What any other method needs where a route names nothing else.
const WRITE_PERMISSION: Permission = Permission::ServiceDataWrite;

pub(super) fn resolve(file: &FileConfig, resolution: &mut Resolution<'_, '_>) -> Option<Vec<RouteConfig>> {
    let routes = file.routes.as_ref()?;
    if routes.value.is_empty() {
        let remedy = "add a `[[routes]]` with `project`, `service` and `upstream`";
        resolution.report.value_problem(&routes.at, "there is no route", remedy);
    }
    let upstreams = UpstreamNames::new(file);
    let mut names = HashMap::new();
    let mut alike = HashMap::new();
    let resolved = routes.value.iter().map(|route| {
        resolution.unique_name("route", route.value.name.as_ref(), &mut names);
        let resolved = one(route, &upstreams, resolution)?;
        note_alike(&resolved, route, &mut alike, resolution);
        Some((resolved, route))
    });
    let resolved = all(resolved.collect())?;
    // Names made here come last: two of them are the same only for routes that are alike, which has been noted.
    for (route, written) in resolved.iter().filter(|(_, written)| written.value.name.is_none()) {
        if let Some(first) = names.get(&route.name) {
            let place = resolution.place(first);
            let reason = format!("this route is called `{}` like another one{place}", route.name);
            resolution.report.place_problem(&written.at, reason, "give it a `name` of its own");
        }
    }
    Some(resolved.into_iter().map(|(route, _)| route).collect())
}

/// The upstreams that routes can go to, by position.
struct UpstreamNames<'t> {
    names: Option<Vec<Option<&'t str>>>,
    /// Those that say they speak HTTP/2.
    in_http2: Vec<&'t str>,
}

impl<'t> UpstreamNames<'t> {
    fn new(file: &'t FileConfig) -> Self {
        let name = |name: &'t Located<String>| name.value.as_str();
        let names = file.upstreams.as_ref().map(|upstreams| {
            upstreams.value.iter().map(|upstream| upstream.value.name.as_ref().map(name)).collect()
        });
        let upstreams = file.upstreams.iter().flat_map(|upstreams| &upstreams.value);
        let in_http2 = upstreams
            .filter(|upstream| upstream.value.protocol.as_ref().is_some_and(|it| it.value == "http2"))
            .filter_map(|upstream| upstream.value.name.as_ref().map(name))
            .collect();
        Self { names, in_http2 }
    }

    /// Whether the upstream with this name speaks HTTP/2.
    fn is_in_http2(&self, name: &Located<String>) -> bool {
        self.in_http2.contains(&name.value.as_str())
    }

    /// The position of the upstream with this name; `None` with the problem noted.
    fn position(&self, name: &Located<String>, resolution: &mut Resolution<'_, '_>) -> Option<usize> {
        let names = self.names.as_ref()?;
        if let Some(position) = names.iter().position(|known| *known == Some(&name.value)) {
            return Some(position);
        }
        // A nameless one has a problem of its own, and may be the one that is meant.
        if names.iter().any(Option::is_none) {
            return None;
        }
        let known = names.iter().flatten().copied();
        let list: std::collections::BTreeSet<_> = known.clone().map(text::quoted).collect();
        let list = list.into_iter().collect::<Vec<_>>().join(", ");
        let remedy = match nearest(&name.value, known) {
            Some(nearest) => format!("did you mean {}? The upstreams are {list}", text::quoted(nearest)),
            None => format!("name one of {list}, or add an `[[upstreams]]` of that name"),
        };
        let reason = format!("there is no upstream named {}", text::quoted(&name.value));
        resolution.report.value_problem(&name.at, reason, remedy);
        None
    }
}

fn one(
    located: &Located<RouteTable>,
    upstreams: &UpstreamNames<'_>,
    resolution: &mut Resolution<'_, '_>,
) -> Option<RouteConfig> {
    let route = &located.value;
    let hosts = route.hosts.as_ref().map(|hosts| self::hosts(&hosts.value, resolution));
    let path = matching::path(route, resolution);
    let conditions = matching::conditions(route, resolution);
    let encoded_slashes = resolution.text(route.encoded_slashes.as_ref(), matching::encoded_slashes);
    let authentication = authentication(route, resolution);
    let project = owner(located, "project", route.project.as_ref(), authentication, resolution);
    let service = owner(located, "service", route.service.as_ref(), authentication, resolution);
    let target = answer::target(located, upstreams, resolution);
    let rewrite = answer::rewrite(route, path.as_ref(), resolution);
    let redirect = answer::redirect(route, resolution);
    let read_permission =
        permission(route.read_permission.as_ref(), READ_PERMISSION, authentication, resolution);
    let write_permission =
        permission(route.write_permission.as_ref(), WRITE_PERMISSION, authentication, resolution);
    let permissions = permissions(route.permissions.as_ref(), authentication, resolution);
    let upgrades = request::upgrades(route, upstreams, resolution);
    let credentials = request::credentials(route, authentication, resolution);
    let cors_preflight = request::cors_preflight(route, authentication, resolution);
    let (of_request, of_response) = (route.request_headers.as_ref(), route.response_headers.as_ref());
    let request_headers = of_request.map(|Located { value: table, .. }| {
        let (set, add, remove) = (table.set.as_ref(), table.add.as_ref(), table.remove.as_ref());
        request::header_changes(set, add, remove, Direction::Request, resolution)
    });
    let response_headers = of_response.map(|Located { value: table, .. }| {
        let (set, add, remove) = (table.set.as_ref(), table.add.as_ref(), table.remove.as_ref());
        request::header_changes(set, add, remove, Direction::Response, resolution)
    });
    let (response_header_timeout, total_timeout) = timeouts(route, resolution);
    let rate_limit = route.rate_limit.as_ref().map(|table| {
        let RateLimitTable { requests, per_seconds, burst, concurrent_requests } = &table.value;
        limits::rate(&table.at, requests, per_seconds, (burst, concurrent_requests), resolution)
    });
    let token_rate_limit = route.token_rate_limit.as_ref().map(|table| {
        let TokenRateLimitTable { requests, per_seconds, burst, concurrent_requests } = &table.value;
        limits::of_tokens(&table.at, authentication, resolution);
        limits::rate(&table.at, requests, per_seconds, (burst, concurrent_requests), resolution)
    });
    let name = match &route.name {
        Some(name) => resolution.text(Some(name), text::route_name),
        None => default_name(hosts.as_ref(), path.as_ref()),
    };
    Some(RouteConfig {
        name: name?,
        hosts: hosts??,
        path: path?,
        conditions: conditions?,
        encoded_slashes: encoded_slashes?,
        project: project?,
        service: service?,
        target: target?,
        rewrite: rewrite?,
        redirect: redirect?,
        read_permission: read_permission?,
        write_permission: write_permission?,
        permissions: permissions?,
        upgrades: upgrades?,
        authentication: authentication?,
        credentials: credentials?,
        cors_preflight: cors_preflight?,
        pass_authorization: settings::value(&route.pass_authorization)?,
        response_header_timeout,
        total_timeout,
        request_body_bytes: settings::value(&route.request_body_bytes).map(|bytes| bytes.size() as u64),
        rate_limit: limits::given(rate_limit)?,
        token_rate_limit: limits::given(token_rate_limit)?,
        request_headers: request_headers??,
        response_headers: response_headers??,
    })
}

/// A wait for the head that is longer than the whole may take would never end by itself.
fn timeouts(route: &RouteTable, resolution: &mut Resolution<'_, '_>) -> (Option<Duration>, Option<Duration>) {
    let response_header = settings::value(&route.response_header_seconds).map(|seconds| seconds.duration());
    let total = settings::value(&route.total_seconds).map(|seconds| seconds.duration());
    if let (Some(head), Some(total), Some(written)) = (response_header, total, &route.response_header_seconds)
        && head > total
    {
        let (head, total) = (head.as_secs(), total.as_secs());
        let reason = format!("the whole may take {total} seconds, so its head cannot take {head}");
        let remedy = "lower `response_header_seconds` or raise `total_seconds`";
        resolution.report.value_problem(&written.at, reason, remedy);
    }
    (response_header, total)
}

fn default_name(hosts: Option<&Option<Vec<String>>>, path: Option<&RoutePath>) -> Option<String> {
    let host = hosts?.as_ref()?.first().map_or("*", String::as_str);
    Some(format!("{host}{}", path?.as_str()))
}

fn hosts(list: &[Located<String>], resolution: &mut Resolution<'_, '_>) -> Option<Vec<String>> {
    all(list.iter().map(|host| resolution.text(Some(host), text::route_host)).collect())
}

/// Whether the route asks for a token: yes, unless it says `off`.
fn authentication(route: &RouteTable, resolution: &mut Resolution<'_, '_>) -> Option<RouteAuthentication> {
    let parse = |text: &str| {
        match text {
        "off" => Ok(RouteAuthentication::Off),
        _ => Err(Refusal {
            reason: format!("`authentication` cannot be {}", text::quoted(text)),
            remedy: "leave the key out to require a token, or write `authentication = \"off\"` to let everybody in"
                .to_owned(),
        }),
    }
    };
    match &route.authentication {
        Some(word) => resolution.text(Some(word), parse),
        None => Some(RouteAuthentication::Required),
    }
}

/// Project or service of a route: needed where somebody has to be let in, else empty unless named.
fn owner(
    route: &Located<RouteTable>,
    key: &str,
    name: Option<&Located<String>>,
    authentication: Option<RouteAuthentication>,
    resolution: &mut Resolution<'_, '_>,
) -> Option<String> {
    if name.is_some() {
        return resolution.text(name, text::name);
    }
    let at = route.at.child(key, route.at.span.clone());
    if authentication == Some(RouteAuthentication::Required) && !resolution.report.is_noted(&at) {
        let reason = format!("missing key `{key}`: a route that asks for a token needs it");
        resolution.report.place_problem(
            &at,
            reason,
            format!("add `{key} = \"…\"`, as the directory knows it"),
        );
        return None;
    }
    Some(String::new())
}

fn permission(
    name: Option<&Located<String>>,
    default: Permission,
    authentication: Option<RouteAuthentication>,
    resolution: &mut Resolution<'_, '_>,
) -> Option<Permission> {
    let Some(name) = name else { return Some(default) };
    if authentication == Some(RouteAuthentication::Off) {
        let reason = format!("`{}` is never asked for where `authentication` is off", name.at.name());
        let remedy = "remove it, or remove `authentication` to require a token";
        resolution.report.value_problem(&name.at, reason, remedy);
    }
    resolution.text(Some(name), known_permission)
}

/// Permissions by method.
fn permissions(
    permissions: Option<&Located<Map<String>>>,
    authentication: Option<RouteAuthentication>,
    resolution: &mut Resolution<'_, '_>,
) -> Option<Vec<(Method, Permission)>> {
    let entries = &permissions?.value.0;
    let resolved = entries.iter().map(|(method, name)| {
        let permission = permission(Some(name), READ_PERMISSION, authentication, resolution);
        let method = resolution.text(Some(method), matching::method);
        Some((method?, permission?))
    });
    all(resolved.collect())
}

fn known_permission(name: &str) -> Result<Permission, Refusal> {
    let refuse = |reason: String, remedy: String| Err(Refusal { reason, remedy });
    match (name.parse::<Permission>(), expand([name])) {
        (Ok(permission), Ok(_)) => Ok(permission),
        (Ok(_), Err(_)) => refuse(
            format!("nobody can be granted {}", text::quoted(name)),
            "name a permission such as `service:data:write`".to_owned(),
        ),
        (Err(_), Ok(_)) => refuse(
            format!("{} is a role, not a permission", text::quoted(name)),
            "name the one permission that is needed, such as `service:data:write`".to_owned(),
        ),
        (Err(_), Err(_)) => {
            let known = Permission::ALL.iter().map(|permission| permission.as_str());
            let remedy = match nearest(name, known) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => {
                    "name a permission such as `project:services:read` or `service:data:write`".to_owned()
                }
            };
            refuse(format!("there is no permission {}", text::quoted(name)), remedy)
        }
    }
}

/// Notes that two routes match the very same requests, so that one of them would never be used.
fn note_alike(
    route: &RouteConfig,
    written: &Located<RouteTable>,
    seen: &mut HashMap<(Option<String>, RoutePath, ConditionsConfig), Location>,
    resolution: &mut Resolution<'_, '_>,
) {
    let places = written.value.hosts.iter().flat_map(|hosts| &hosts.value).map(|host| &host.at);
    let hosts = route.hosts.iter().cloned().map(Some).zip(places);
    let any = route.hosts.is_empty().then_some((None, &written.at));
    let mut noted = false;
    for (host, at) in hosts.chain(any) {
        let shown = host.clone().unwrap_or_else(|| "any host".to_owned());
        let key = (host, matching::without_names(&route.path), route.conditions.clone());
        let Some(first) = seen.insert(key, written.at.clone()) else { continue };
        if first.key == written.at.key {
            let reason = format!("the host `{shown}` is listed twice");
            resolution.report.value_problem(at, reason, "list each host once");
        } else if !noted {
            // Once, however many hosts the two have in common.
            noted = true;
            let (place, own) = (resolution.place(&first), resolution.place(&written.at));
            let path = route.path.as_str();
            let reason = format!(
                "two routes are alike: this one{own} and the one{place} are both for `{shown}` and `{path}`"
            );
            let remedy = "remove one of them, or give it another host, path or conditions";
            resolution.report.place_problem(&written.at, reason, remedy);
        }
    }
}
