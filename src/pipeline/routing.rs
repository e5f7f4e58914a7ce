//! Which route a request takes: one reading of its target, host and path in the table, then the conditions of the routes
//! that are for both.
//!
//! What must not live here: who may pass.

use std::borrow::Cow;

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Uri};

use crate::config::EncodedSlashes;
use crate::error::Answer;
use crate::route::condition::Part;
use crate::serve::http1::Violation;
use crate::serve::target::{self, Ambiguity};
use crate::snapshot::{Route, Snapshot};

/// The one reading of a request's path, with its query: what is matched, and, but for a route's rewriting, forwarded.
#[derive(Clone, Debug)]
pub(super) struct Target {
    path_and_query: PathAndQuery,
    /// How a service reads the path that decodes slashes first, if it has encoded ones.
    slashes_decoded: Option<Box<str>>,
}

/// What routes are chosen by.
#[derive(Clone, Copy, Debug)]
struct Sought<'a> {
    /// The host in lower case, without port.
    host: &'a str,
    /// The normalized path.
    path: &'a str,
    /// The query.
    query: Option<&'a str>,
    /// The method.
    method: &'a Method,
    /// The header lines.
    headers: &'a HeaderMap,
}

impl Target {
    /// Shares the client's bytes unless something in them had to be decoded.
    pub(super) fn normalized(uri: &Uri, snapshot: &Snapshot) -> Result<Self, Answer> {
        let Some(given) = uri.path_and_query() else {
            return Ok(Self { path_and_query: PathAndQuery::from_static("/"), slashes_decoded: None });
        };
        match target::normalize(given.as_str()) {
            Ok(Cow::Borrowed(_)) => Ok(Self { path_and_query: given.clone(), slashes_decoded: None }),
            Ok(Cow::Owned(decoded)) => Ok(Self { path_and_query: whole(decoded)?, slashes_decoded: None }),
            Err(Ambiguity::EncodedSlash) if snapshot.passes_encoded_slashes => {
                Self::with_encoded_slashes(given.as_str())
            }
            Err(ambiguity) => Err(Answer::AmbiguousTarget(ambiguity)),
        }
    }

    fn with_encoded_slashes(given: &str) -> Result<Self, Answer> {
        let normal = target::normalize_with_encoded_slashes(given).map_err(Answer::AmbiguousTarget)?;
        let path_and_query = whole(normal.into_owned())?;
        let decoded = target::with_slashes_decoded(path_and_query.path());
        Ok(Self { path_and_query, slashes_decoded: Some(decoded.into()) })
    }

    pub(super) fn path(&self) -> &str {
        self.path_and_query.path()
    }

    pub(super) fn as_str(&self) -> &str {
        self.path_and_query.as_str()
    }

    /// What goes on over this route, if that is something else: under the path that it says, without the parameter that carries
    /// tokens.
    pub(super) fn for_service(&self, route: &Route) -> Result<Option<PathAndQuery>, Answer> {
        let carriers = route.carriers.as_deref();
        let without_token = carriers.and_then(|carriers| carriers.without_token(self.as_str()));
        let without_token = without_token.map(whole).transpose()?;
        let Some(rewrite) = &route.rewrite else { return Ok(without_token) };
        let target = without_token.as_ref().unwrap_or(&self.path_and_query);
        let path = rewrite.apply(target.path()).ok_or(Answer::NoRoute)?;
        let path_and_query = match target.query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        whole(path_and_query).map(Some)
    }
}

/// Only its length can still be wrong.
fn whole(path_and_query: String) -> Result<PathAndQuery, Answer> {
    PathAndQuery::try_from(path_and_query).map_err(|_| Answer::Violation(Violation::TargetTooLong))
}

/// The route of a request with this target; `None`: there is none.
#[inline]
pub(super) fn find(
    snapshot: &Snapshot,
    host: &str,
    target: &Target,
    head: &Parts,
) -> Result<Option<usize>, Answer> {
    let sought = Sought {
        host,
        path: target.path(),
        query: target.path_and_query.query(),
        method: &head.method,
        headers: &head.headers,
    };
    let found = route(snapshot, &sought)?;
    match &target.slashes_decoded {
        None => Ok(found),
        Some(decoded) => check_slashes(snapshot, found, &Sought { path: decoded, ..sought }),
    }
}

/// The route that a request with this head takes, for who asks before it is made; `None`: there is none.
///
/// # Errors
/// If it would be refused before it has a route.
pub fn of_head(snapshot: &Snapshot, host: &str, head: &Parts) -> Result<Option<usize>, Answer> {
    find(snapshot, host, &Target::normalized(&head.uri, snapshot)?, head)
}

/// What the route of a request depends on that is not known of it, in the order in which it is looked at.
pub fn depends_on(
    snapshot: &Snapshot,
    host: &str,
    head: &Parts,
    is_known: &dyn Fn(&Part) -> bool,
) -> Vec<Part> {
    let Ok(target) = Target::normalized(&head.uri, snapshot) else { return Vec::new() };
    let found = find(snapshot, host, &target, head).ok().flatten();
    let query = target.path_and_query.query();
    let mut unknown = Vec::new();
    for position in snapshot.table.find(host, target.path()) {
        let conditions = snapshot.routes[*position].conditions.as_ref();
        let parts = conditions.and_then(|it| it.depend_on(&head.method, &head.headers, query, is_known));
        for part in parts.into_iter().flatten() {
            if !unknown.contains(&part) {
                unknown.push(part);
            }
        }
        if found == Some(*position) {
            break;
        }
    }
    unknown
}

/// The position of the route that is taken; `None`: there is none.
///
/// # Errors
/// If it depends on which of several header lines or parameters of one name is looked at.
#[inline]
fn route(snapshot: &Snapshot, sought: &Sought<'_>) -> Result<Option<usize>, Answer> {
    match snapshot.table.find(sought.host, sought.path) {
        [] => Ok(None),
        [only] if snapshot.routes[*only].conditions.is_none() => Ok(Some(*only)),
        several => choose(snapshot, several, sought),
    }
}

fn choose(snapshot: &Snapshot, routes: &[usize], sought: &Sought<'_>) -> Result<Option<usize>, Answer> {
    for position in routes {
        let holds = match &snapshot.routes[*position].conditions {
            None => true,
            Some(conditions) => conditions
                .hold(sought.method, sought.headers, sought.query)
                .map_err(|_ambiguous| Answer::AmbiguousCondition)?,
        };
        if holds {
            return Ok(Some(*position));
        }
    }
    Ok(None)
}

/// An encoded slash passes where the route says so, and only if no other route is for what it would be decoded.
#[cold]
fn check_slashes(
    snapshot: &Snapshot,
    found: Option<usize>,
    decoded: &Sought<'_>,
) -> Result<Option<usize>, Answer> {
    let passes =
        found.is_some_and(|position| snapshot.routes[position].encoded_slashes == EncodedSlashes::Pass);
    let read_otherwise = route(snapshot, decoded)?;
    if passes && (read_otherwise.is_none() || read_otherwise == found) {
        return Ok(found);
    }
    Err(Answer::AmbiguousTarget(Ambiguity::EncodedSlash))
}
