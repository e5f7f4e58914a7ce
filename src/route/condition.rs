//! Conditions that choose between routes of the same host and path: methods, header lines, parameters of the query.
//!
//! Conditions choose, they do not protect: a client decides what it sends. What has two readings is told, and never
//! settled silently. What must not live here: hosts and paths.

use http::{HeaderMap, HeaderName, Method};

use super::query;
use crate::config::{ConditionsConfig, Wanted};
use crate::headers;

/// What a request must have for a route to be taken.
#[derive(Debug)]
pub struct Conditions {
    methods: Box<[Method]>,
    headers: Box<[(HeaderName, Wanted)]>,
    query: Box<[(String, Wanted)]>,
}

/// A header or parameter that a condition asks for can be read in more than one way: it is there more than once, or a service
/// may see another than the one that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ambiguous;

/// A part of a request that conditions look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A header.
    Header(HeaderName),
    /// A parameter of the query, decoded.
    Parameter(String),
}

impl Conditions {
    /// The conditions of a route, if it has any.
    pub fn of(config: &ConditionsConfig) -> Option<Box<Self>> {
        let ConditionsConfig { methods, headers, query } = config;
        let is_unconditional = methods.is_empty() && headers.is_empty() && query.is_empty();
        (!is_unconditional).then(|| {
            Box::new(Self {
                methods: methods.clone().into(),
                headers: headers.clone().into(),
                query: query.clone().into(),
            })
        })
    }

    /// Whether all of them hold.
    ///
    /// # Errors
    /// If that depends on which of several header lines or parameters of one name is looked at, or if what a service sees of a
    /// header may not be what is looked at.
    pub fn hold(&self, method: &Method, headers: &HeaderMap, query: Option<&str>) -> Result<bool, Ambiguous> {
        if !self.methods.is_empty() && !self.methods.contains(method) {
            return Ok(false);
        }
        for (name, wanted) in &self.headers {
            if !header_holds(name, wanted, headers)? {
                return Ok(false);
            }
        }
        for (name, wanted) in &self.query {
            if !parameter_holds(name, wanted, query)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Of a request of which not all is known: what else would have to be, to tell whether all of them hold. `None`: they do
    /// not, whatever that is.
    pub fn depend_on(
        &self,
        method: &Method,
        headers: &HeaderMap,
        query: Option<&str>,
        is_known: &dyn Fn(&Part) -> bool,
    ) -> Option<Vec<Part>> {
        if !self.methods.is_empty() && !self.methods.contains(method) {
            return None;
        }
        let mut unknown = Vec::new();
        let headers = self
            .headers
            .iter()
            .map(|(name, wanted)| (Part::Header(name.clone()), header_holds(name, wanted, headers)));
        let parameters = self
            .query
            .iter()
            .map(|(name, wanted)| (Part::Parameter(name.clone()), parameter_holds(name, wanted, query)));
        for (part, holds) in headers.chain(parameters) {
            match holds {
                _ if !is_known(&part) => unknown.push(part),
                Ok(false) => return None,
                Ok(true) | Err(Ambiguous) => {}
            }
        }
        Some(unknown)
    }
}

#[inline]
fn header_holds(name: &HeaderName, wanted: &Wanted, fields: &HeaderMap) -> Result<bool, Ambiguous> {
    if headers::is_doubtful(fields, name) {
        return Err(Ambiguous);
    }
    let values = fields.get_all(name).iter();
    holds(wanted, values, |value, wanted| value.as_bytes() == wanted.as_bytes())
}

#[inline]
fn parameter_holds(name: &str, wanted: &Wanted, query: Option<&str>) -> Result<bool, Ambiguous> {
    let parameters = query.into_iter().flat_map(query::parameters);
    let values = parameters.filter(|(given, _)| query::decoded(given).eq(name.bytes()));
    holds(wanted, values, |(_, value), wanted| query::decoded(value).eq(wanted.bytes()))
}

fn holds<T>(
    wanted: &Wanted,
    mut values: impl Iterator<Item = T>,
    is_equal: impl Fn(T, &str) -> bool,
) -> Result<bool, Ambiguous> {
    let Wanted::Value(wanted) = wanted else {
        return Ok(values.next().is_some() == (*wanted == Wanted::Present));
    };
    match (values.next(), values.next()) {
        (None, _) => Ok(false),
        (Some(value), None) => Ok(is_equal(value, wanted)),
        (Some(_), Some(_)) => Err(Ambiguous),
    }
}

#[cfg(test)]
mod tests {
    //! What holds, what does not, and what cannot be told.

    use http::{HeaderMap, HeaderName, HeaderValue, Method};

    use super::{Ambiguous, Conditions, Part};
    use crate::config::{ConditionsConfig, Wanted};

    #[track_caller]
    fn check(wanted: Wanted, values: &[&'static str], expect: Result<bool, Ambiguous>) {
        let name = HeaderName::from_static("x-version");
        let headers: HeaderMap =
            values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect();
        let by_header =
            ConditionsConfig { headers: vec![(name, wanted.clone())], ..ConditionsConfig::default() };
        let by_header = Conditions::of(&by_header).expect("a condition");
        assert_eq!(by_header.hold(&Method::GET, &headers, None), expect, "{wanted:?} of {values:?}");

        let parameters: Vec<_> = values.iter().map(|value| format!("x%2Dversion={value}")).collect();
        let query = format!("other=2&{}", parameters.join("&"));
        let by_query = ConditionsConfig {
            query: vec![("x-version".into(), wanted.clone())],
            ..ConditionsConfig::default()
        };
        let by_query = Conditions::of(&by_query).expect("a condition");
        assert_eq!(
            by_query.hold(&Method::GET, &HeaderMap::new(), Some(&query)),
            expect,
            "{wanted:?} in {query}"
        );
    }

    #[test]
    fn values_are_equal_or_there_or_not() {
        let two = || Wanted::Value("2".into());
        check(two(), &["2"], Ok(true));
        check(two(), &["3"], Ok(false));
        check(two(), &["22"], Ok(false));
        check(two(), &[], Ok(false));
        check(two(), &["2", "2"], Err(Ambiguous));
        check(two(), &["3", "2"], Err(Ambiguous));
        check(Wanted::Present, &["x"], Ok(true));
        check(Wanted::Present, &["x", "y"], Ok(true));
        check(Wanted::Present, &[], Ok(false));
        check(Wanted::Absent, &[], Ok(true));
        check(Wanted::Absent, &["x"], Ok(false));
    }

    #[test]
    fn what_a_service_may_see_otherwise_is_told() {
        let name = HeaderName::from_static("x-version");
        let one = Wanted::Value("1".into());
        for (wanted, lines, expect) in [
            (&one, &[("x-version", "1"), ("accept", "x")][..], Ok(true)),
            // It would not reach the service.
            (&one, &[("x-version", "1"), ("connection", "close, X-Version")], Err(Ambiguous)),
            (&Wanted::Present, &[("x-version", "1"), ("connection", "x-version")], Err(Ambiguous)),
            (&one, &[("x-version", "1"), ("connection", "close, x-other")], Ok(true)),
            (&one, &[("connection", "x-version")], Ok(false)),
            // Some servers take either for the other.
            (&one, &[("x-version", "1"), ("x_version", "2")], Err(Ambiguous)),
            (&Wanted::Absent, &[("x.version", "1")], Err(Ambiguous)),
            (&Wanted::Absent, &[("x~version", "1")], Err(Ambiguous)),
            (&Wanted::Absent, &[("xversion", "1"), ("x-version-2", "1")], Ok(true)),
        ] {
            let headers: HeaderMap = lines
                .iter()
                .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            let config =
                ConditionsConfig { headers: vec![(name.clone(), wanted.clone())], ..Default::default() };
            let conditions = Conditions::of(&config).expect("a condition");
            assert_eq!(conditions.hold(&Method::GET, &headers, None), expect, "{wanted:?} of {lines:?}");
        }
        // A WebSocket's offer names its own header: that is said anew to the service in any case.
        let upgrade = Wanted::Value("websocket".into());
        let config = ConditionsConfig {
            headers: vec![(HeaderName::from_static("upgrade"), upgrade)],
            ..Default::default()
        };
        let offer: HeaderMap = [("upgrade", "websocket"), ("connection", "Upgrade")]
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .into_iter()
            .collect();
        let conditions = Conditions::of(&config).expect("a condition");
        assert_eq!(conditions.hold(&Method::GET, &offer, None), Ok(true));
    }

    #[test]
    fn what_is_not_known_is_told() {
        let (seen, unseen) = (HeaderName::from_static("x-seen"), HeaderName::from_static("x-unseen"));
        let conditions = ConditionsConfig {
            methods: vec![Method::GET],
            headers: vec![(seen.clone(), Wanted::Value("1".into())), (unseen.clone(), Wanted::Absent)],
            query: vec![("v".into(), Wanted::Present)],
        };
        let conditions = Conditions::of(&conditions).expect("conditions");
        let depend = |method: Method, value: &'static str, query: Option<&str>| {
            let headers = HeaderMap::from_iter([(seen.clone(), HeaderValue::from_static(value))]);
            conditions.depend_on(&method, &headers, query, &|part| match part {
                Part::Header(name) => *name == seen,
                Part::Parameter(_) => query.is_some(),
            })
        };
        let (header, parameter) = (Part::Header(unseen.clone()), Part::Parameter("v".into()));
        assert_eq!(depend(Method::GET, "1", None), Some(vec![header.clone(), parameter]));
        assert_eq!(depend(Method::GET, "1", Some("v=2")), Some(vec![header]));
        assert_eq!(
            depend(Method::GET, "1", Some("w=2")),
            None,
            "the query is known, and has no such parameter"
        );
        assert_eq!(depend(Method::GET, "2", None), None, "a header is known, and has another value");
        assert_eq!(depend(Method::POST, "1", None), None);
    }

    #[test]
    fn a_route_without_conditions_asks_nothing() {
        assert!(Conditions::of(&ConditionsConfig::default()).is_none());
    }

    #[test]
    fn methods_are_compared_as_they_are_written() {
        let reads = ConditionsConfig { methods: vec![Method::GET], ..ConditionsConfig::default() };
        let reads = Conditions::of(&reads).expect("a condition");
        let lower_case = Method::from_bytes(b"get").expect("a method");
        for (method, expect) in [(Method::GET, true), (Method::HEAD, false), (lower_case, false)] {
            assert_eq!(reads.hold(&method, &HeaderMap::new(), None), Ok(expect), "{method}");
        }
    }
}
