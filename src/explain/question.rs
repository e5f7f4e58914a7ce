//! A request that is asked about before it is made: the route that it takes, found as the pipeline finds it, what that asks for,
//! and what nobody has said about the request although it depends on it.
//!
//! What must not live here: the decision.

use std::borrow::Cow;

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Uri};

use crate::error::Answer;
use crate::error::response;
use crate::pipeline::{self, routing};
use crate::policy::Permission;
use crate::route;
use crate::route::condition::Part;
use crate::serve::http1::{self, Violation};
use crate::serve::target::{self, Ambiguity};
use crate::snapshot::{Route, Snapshot};

/// What tells who somebody is: no route depends on it, and who asks names the token in another way.
const CREDENTIALS: [HeaderName; 3] = [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE];

/// What is said about a request.
#[derive(Debug)]
pub struct AskedRequest {
    /// The host in lower case, without port.
    pub host: String,
    /// The one reading of the path, without query.
    pub path: String,
    head: Parts,
    scheme: Option<Scheme>,
    /// Whether the address has a query: then that is all of it.
    says_query: bool,
    /// Headers that the request does not have, it is said.
    absent: Vec<HeaderName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// Why there is nothing to decide.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// Before anything is decided.
    #[error("this request would be answered {status}: {message}")]
    Answered {
        /// The status.
        status: u16,
        /// What the client is told.
        message: Cow<'static, str>,
    },
    /// No header line.
    #[error("`{0}` is no header line: write `Name: value`, or `Name:` to say that the request has none")]
    Header(String),
    /// A header with a credential.
    #[error("no route is chosen by `{0}`, which holds credentials: leave it out")]
    Credentials(HeaderName),
}

/// What a request needs: an offer of a tunnel, of which a service may make what it likes, needs two permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Required {
    /// What its method needs.
    pub first: Permission,
    /// What a tunnel needs beside it, if that is another.
    pub then: Option<Permission>,
}

impl Required {
    /// One permission.
    pub const fn one(permission: Permission) -> Self {
        Self { first: permission, then: None }
    }
}

impl AskedRequest {
    /// A request to an address, `host/path?query`, with or without a scheme.
    ///
    /// # Errors
    ///
    /// If a request to it would be refused whoever sends it.
    pub fn new(address: &str, method: Method) -> Result<Self, QuestionError> {
        let (scheme, address) = match (address.strip_prefix("https://"), address.strip_prefix("http://")) {
            (Some(rest), _) => (Some(Scheme::Https), rest),
            (None, Some(rest)) => (Some(Scheme::Http), rest),
            (None, None) => (None, address),
        };
        let (authority, target) = address.split_at(address.find(['/', '?']).unwrap_or(address.len()));
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let normal = match target::normalize(&target) {
            // Whether it passes is for the route to say.
            Err(Ambiguity::EncodedSlash) => target::normalize_with_encoded_slashes(&target),
            normal => normal,
        };
        let normal = normal.map_err(|ambiguity| answered(Answer::AmbiguousTarget(ambiguity)))?;
        let (path, query) =
            normal.split_once('?').map_or((&*normal, None), |(path, query)| (path, Some(query)));
        if matches!(method, Method::CONNECT | Method::TRACE) {
            return Err(answered(Answer::MethodNotAllowed));
        }
        let malformed = || answered(Answer::Violation(Violation::Target));
        let is_query = query.is_none_or(|query| http1::is_query(query.as_bytes()));
        let target = PathAndQuery::try_from(&*target).ok().filter(|_| is_query).ok_or_else(malformed)?;
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = method;
        head.uri = Uri::from(target);
        Ok(Self {
            host: route::host_name(authority).to_ascii_lowercase(),
            path: path.to_owned(),
            head,
            scheme,
            says_query: query.is_some(),
            absent: Vec::new(),
        })
    }

    /// Says that the request has this header line, or without a value that it has none of this name.
    ///
    /// # Errors
    ///
    /// If it is none, or one that holds a credential.
    pub fn say_header(&mut self, name: &str, value: Option<&str>) -> Result<(), QuestionError> {
        let malformed = || QuestionError::Header(format!("{name}: {}", value.unwrap_or_default()));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| malformed())?;
        if CREDENTIALS.contains(&name) {
            return Err(QuestionError::Credentials(name));
        }
        match value {
            None => self.absent.push(name),
            Some(value) => {
                let value = HeaderValue::from_str(value).map_err(|_| malformed())?;
                self.head.headers.append(name, value);
            }
        }
        Ok(())
    }

    /// The same for a line as it is written, `Name: value`.
    ///
    /// # Errors
    ///
    /// As [`Self::say_header`].
    pub fn say_line(&mut self, line: &str) -> Result<(), QuestionError> {
        let (name, value) = line.split_once(':').ok_or_else(|| QuestionError::Header(line.to_owned()))?;
        let value = value.trim();
        self.say_header(name, (!value.is_empty()).then_some(value))
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.head.method
    }

    /// The position of the route that the request takes; `None`: there is none.
    ///
    /// # Errors
    ///
    /// If it would be answered without a decision.
    pub fn route(&self, snapshot: &Snapshot) -> Result<Option<usize>, QuestionError> {
        let found = routing::of_head(snapshot, &self.host, &self.head).map_err(answered)?;
        let redirects = found.is_some_and(|position| snapshot.routes[position].redirect.is_some());
        if redirects && self.scheme == Some(Scheme::Http) {
            return Err(answered(Answer::HttpsRequired));
        }
        Ok(found)
    }

    /// Whether the route lets the request in without a token.
    pub fn is_let_in_by(&self, route: &Route) -> bool {
        let is_once = |name| self.head.headers.get_all(name).iter().count() == 1;
        let is_preflight = self.may_be_preflight(route)
            && !self.opens_tunnel(route)
            && is_once(header::ORIGIN)
            && is_once(header::ACCESS_CONTROL_REQUEST_METHOD);
        route.declared_open().is_some() || is_preflight
    }

    /// What the route asks for.
    pub fn required(&self, route: &Route) -> Required {
        let first = pipeline::required_permission(route, &self.head.method);
        let needs_more = self.opens_tunnel(route) && first != route.write_permission;
        Required { first, then: needs_more.then_some(route.write_permission) }
    }

    /// What the answer depends on and was not said, in words.
    pub fn depends_on(&self, snapshot: &Snapshot) -> Vec<String> {
        let is_known = |part: &Part| match part {
            Part::Header(name) => self.says_header(name),
            Part::Parameter(_) => self.says_query,
        };
        let parts = routing::depends_on(snapshot, &self.host, &self.head, &is_known);
        let mut words: Vec<_> = parts
            .into_iter()
            .map(|part| match part {
                Part::Header(name) => format!("the header `{name}`"),
                Part::Parameter(name) => format!("the query parameter `{name}`"),
            })
            .collect();
        let Ok(Some(position)) = self.route(snapshot) else { return words };
        let route = &snapshot.routes[position];
        if route.redirect.is_some() && self.scheme.is_none() {
            words.push("whether it comes over HTTPS: in the clear it is redirected".to_owned());
        }
        let of_preflight = [header::ORIGIN, header::ACCESS_CONTROL_REQUEST_METHOD];
        if self.may_be_preflight(route) && !of_preflight.iter().all(|name| self.says_header(name)) {
            words.push("whether it is a browser's preflight request, which the route lets pass".to_owned());
        }
        words
    }

    fn says_header(&self, name: &HeaderName) -> bool {
        self.head.headers.contains_key(name) || self.absent.contains(name)
    }

    fn may_be_preflight(&self, route: &Route) -> bool {
        route.declared_open_to_preflight().is_some() && self.head.method == Method::OPTIONS
    }

    /// Whether it offers to go on in a protocol that the route's service may be offered.
    fn opens_tunnel(&self, route: &Route) -> bool {
        let mut offered = self.head.headers.get_all(header::UPGRADE).iter();
        let (Some(offered), None) = (offered.next(), offered.next()) else { return false };
        let is_websocket =
            self.head.method == Method::GET && offered.as_bytes().eq_ignore_ascii_case(b"websocket");
        is_websocket || route.offered(&self.head).is_some()
    }
}

fn answered(answer: Answer) -> QuestionError {
    QuestionError::Answered { status: answer.status().as_u16(), message: response::message(answer, None, "") }
}

#[cfg(test)]
mod tests {
    //! What is taken for a question, and what is not.

    use http::Method;

    use super::AskedRequest;

    #[track_caller]
    fn check(address: &str, host: &str, path: &str) {
        let question = AskedRequest::new(address, Method::GET).expect("an address");
        assert_eq!((question.host.as_str(), question.path.as_str()), (host, path), "{address}");
    }

    #[test]
    fn addresses_are_read_as_requests_are() {
        check("a.test", "a.test", "/");
        check("A.Test:8443/%61?b=%61", "a.test", "/a");
        check("https://a.test?b", "a.test", "/");
        check("http://[::1]:80/x", "[::1]", "/x");
        check("a.test/b%2Fc", "a.test", "/b%2Fc");
        for refused in ["a.test/../b", "a.test/a;b", "a.test/a b", "a.test/a?b#c", "a.test/a?b c", "a.test/ä"]
        {
            let error = AskedRequest::new(refused, Method::GET).expect_err(refused);
            assert!(error.to_string().contains("400"), "{refused}: {error}");
        }
        let error = AskedRequest::new("a.test", Method::TRACE).expect_err("a method that nobody serves");
        assert!(error.to_string().contains("405"), "{error}");
    }

    #[test]
    fn header_lines_are_read_as_requests_are() {
        let mut question = AskedRequest::new("a.test", Method::GET).expect("an address");
        for line in ["X-Version: 2", "x-debug:", "x-empty: ", "x-colon: a:b"] {
            assert!(question.say_line(line).is_ok(), "{line}");
        }
        for line in
            ["", "x-version", ": 2", "a b: c", "x: a\r\nY: b", "Authorization: Bearer x", "cookie: a=b"]
        {
            assert!(question.say_line(line).is_err(), "{line:?}");
        }
    }
}
