//! Which requests a route is for: paths, methods, header lines, parameters of the query.

use http::{HeaderName, Method, header};

use super::super::text::{self, PathKind, Refusal};
use super::super::{Resolution, all};
use crate::config::file::RouteTable;
use crate::config::map::{Map, TextOrPresence};
use crate::config::report::Located;
use crate::config::{ConditionsConfig, EncodedSlashes, RoutePath, Wanted};
use crate::route::pattern::parameter_name;

/// What tells who somebody is chooses no route: it would have to stand in the file.
const CREDENTIALS: [HeaderName; 3] = [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE];

/// A path or the beginning of one; `/` where nothing is said.
pub(super) fn path(route: &RouteTable, resolution: &mut Resolution<'_, '_>) -> Option<RoutePath> {
    match (&route.path_prefix, &route.path) {
        (Some(_), Some(whole)) => {
            let reason = "a route has either `path` or `path_prefix`";
            let remedy = "remove one: `path` is for that path alone, `path_prefix` also for everything below";
            resolution.report.place_problem(&whole.at, reason, remedy);
            None
        }
        (prefix, None) => match prefix {
            Some(_) => {
                let check = |text: &str| text::path(text, PathKind::Prefix);
                resolution.text(prefix.as_ref(), check).map(RoutePath::Below)
            }
            // One of a wrong type has been noted.
            None => Some(RoutePath::Below("/".to_owned())),
        },
        (None, Some(_)) => {
            let check = |text: &str| text::path(text, PathKind::Whole);
            resolution.text(route.path.as_ref(), check).map(RoutePath::Whole)
        }
    }
}

/// The same path with its parameters called nothing: what they are called makes no difference to what is matched.
pub(super) fn without_names(path: &RoutePath) -> RoutePath {
    let nameless = |text: &str| {
        let segments = text.split('/').map(|segment| parameter_name(segment).map_or(segment, |_| "{}"));
        segments.collect::<Vec<_>>().join("/")
    };
    match path {
        RoutePath::Below(text) => RoutePath::Below(nameless(text)),
        RoutePath::Whole(text) => RoutePath::Whole(nameless(text)),
    }
}

pub(super) fn conditions(
    route: &RouteTable,
    resolution: &mut Resolution<'_, '_>,
) -> Option<ConditionsConfig> {
    let methods = route
        .methods
        .as_ref()
        .map(|methods| all(methods.value.iter().map(|name| resolution.text(Some(name), method)).collect()));
    let headers = route.match_headers.as_ref().map(|headers| wanted(headers, resolution, condition_header));
    let query = route.match_query.as_ref().map(|query| wanted(query, resolution, parameter));
    Some(ConditionsConfig { methods: methods??, headers: headers??, query: query?? })
}

fn wanted<N>(
    map: &Located<Map<TextOrPresence>>,
    resolution: &mut Resolution<'_, '_>,
    name: impl Fn(&str) -> Result<N, Refusal>,
) -> Option<Vec<(N, Wanted)>> {
    let resolved = map.value.0.iter().map(|(written, wanted)| {
        let name = resolution.text(Some(written), &name);
        let wanted = match &wanted.value {
            TextOrPresence::Presence(true) => Wanted::Present,
            TextOrPresence::Presence(false) => Wanted::Absent,
            TextOrPresence::Text(text) => Wanted::Value(text.clone()),
        };
        Some((name?, wanted))
    });
    all(resolved.collect())
}

/// A method, as requests spell it.
pub(super) fn method(name: &str) -> Result<Method, Refusal> {
    let refuse = |remedy: String| {
        Err(Refusal { reason: format!("{} is no method that a route can have", text::quoted(name)), remedy })
    };
    match Method::from_bytes(name.as_bytes()) {
        Ok(Method::CONNECT | Method::TRACE) => {
            refuse("leave it out: it is refused on every route".to_owned())
        }
        Ok(_) if name.bytes().any(|byte| byte.is_ascii_lowercase()) => {
            refuse(format!("write it as requests do, in capitals: `{}`", name.to_ascii_uppercase()))
        }
        Ok(method) => Ok(method),
        Err(_) => refuse("name a method such as `GET` or `DELETE`".to_owned()),
    }
}

fn condition_header(name: &str) -> Result<HeaderName, Refusal> {
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Refusal {
        reason: format!("{} is no name of a header", text::quoted(name)),
        remedy: "use letters, digits and dashes, as in `x-version`".to_owned(),
    })?;
    if CREDENTIALS.contains(&parsed) {
        return Err(Refusal {
            reason: format!("routes are not chosen by `{parsed}`, which holds credentials"),
            remedy: "choose by another header".to_owned(),
        });
    }
    Ok(parsed)
}

fn parameter(name: &str) -> Result<String, Refusal> {
    if !name.is_empty() && name.len() <= 128 && !name.chars().any(char::is_control) {
        return Ok(name.to_owned());
    }
    Err(Refusal {
        reason: format!("{} is no name of a parameter", text::quoted(name)),
        remedy: "write the parameter's name, decoded".to_owned(),
    })
}

pub(super) fn encoded_slashes(text: &str) -> Result<EncodedSlashes, Refusal> {
    match text {
        "refuse" => Ok(EncodedSlashes::Refuse),
        "pass" => Ok(EncodedSlashes::Pass),
        _ => Err(Refusal {
            reason: format!("`encoded_slashes` cannot be {}", text::quoted(text)),
            remedy: "write `refuse`, or `pass` for a service that takes `%2F` for part of a name".to_owned(),
        }),
    }
}
