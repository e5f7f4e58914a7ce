//! The header lines that the pipeline looks at itself, found in one pass: a look-up by name costs a hash each.
//!
//! What must not live here: what any of them means.

use http::{HeaderMap, HeaderName, HeaderValue, header};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What a request's head has of the headers that matter to Postern.
#[derive(Clone, Copy, Debug, Default)]
pub struct Glance<'a> {
    /// `Host`.
    pub host: Lines<'a>,
    /// `Authorization`.
    pub authorization: Lines<'a>,
    /// `Expect`.
    pub expect: Lines<'a>,
    /// `User-Agent`, the first.
    pub user_agent: Option<&'a HeaderValue>,
    /// `traceparent`, the first.
    pub traceparent: Option<&'a HeaderValue>,
}

/// The lines of one name: most requests have one at most.
#[derive(Clone, Copy, Debug, Default)]
pub enum Lines<'a> {
    /// There is none.
    #[default]
    None,
    /// There is one.
    One(&'a HeaderValue),
    /// There are several, which may disagree.
    Several,
}

impl<'a> Glance<'a> {
    /// Looks over a head.
    pub fn over(headers: &'a HeaderMap) -> Self {
        let mut glance = Self::default();
        for (name, value) in headers {
            match *name {
                header::HOST => glance.host.add(value),
                header::AUTHORIZATION => glance.authorization.add(value),
                header::EXPECT => glance.expect.add(value),
                header::USER_AGENT => glance.user_agent = glance.user_agent.or(Some(value)),
                _ if *name == TRACEPARENT => glance.traceparent = glance.traceparent.or(Some(value)),
                _ => {}
            }
        }
        glance
    }
}

impl<'a> Lines<'a> {
    fn add(&mut self, value: &'a HeaderValue) {
        *self = match self {
            Self::None => Self::One(value),
            Self::One(_) | Self::Several => Self::Several,
        };
    }
}
