//! Limits of rate and number: of a route, of each token on it, and of failed authentication from one source.
//!
//! Counted in atomics that all workers share, exactly and without locks: a request takes its place by one compare and swap,
//! or is refused. Time is a request's arrival, which the pipeline has looked up already. What must not live here: who is
//! told what.

mod bucket;
pub mod source;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{RateLimitConfig, RouteConfig};
use crate::slab::Slab;
use crate::token::TokenIndex;
pub use bucket::Standing;
use bucket::{Bucket, Rate};

/// How long a client is asked to stay away where nobody knows when a place becomes free.
const UNTIL_ANOTHER_ENDS: Duration = Duration::from_secs(1);

/// What a request has too many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Limit {
    /// Requests with its token on its route.
    TokenRate,
    /// Requests with its token on its route that run at the same time.
    TokenConcurrency,
    /// Requests on its route.
    RouteRate,
    /// Requests on its route that run at the same time.
    RouteConcurrency,
    /// Failures to authenticate from its network.
    FailedAuthentication,
}

impl Limit {
    /// Every limit.
    pub const ALL: [Self; 5] = [
        Self::TokenRate,
        Self::TokenConcurrency,
        Self::RouteRate,
        Self::RouteConcurrency,
        Self::FailedAuthentication,
    ];

    /// The word that answers and metrics use.
    pub const fn code(self) -> &'static str {
        match self {
            Self::TokenRate => "token_rate_limited",
            Self::TokenConcurrency => "token_concurrency_limited",
            Self::RouteRate => "route_rate_limited",
            Self::RouteConcurrency => "route_concurrency_limited",
            Self::FailedAuthentication => "authentication_throttled",
        }
    }
}

/// A request is one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Of what.
    pub limit: Limit,
    /// When it may be tried again.
    pub wait: Duration,
    /// How the rates stand.
    pub standings: Standings,
}

/// The limits of one route.
#[derive(Debug)]
pub struct RouteLimits {
    route: LimitConfigured,
    token: LimitConfigured,
    counted: Arc<Counted>,
}

/// What is counted for one route; kept over reloads, whatever its limits are then.
#[derive(Debug)]
struct Counted {
    /// What all times are counted from.
    epoch: Instant,
    route: Bucket,
    /// By the token's place. Memory is taken for tokens that come, and for a thousand neighbours each.
    tokens: Slab<Bucket>,
}

#[derive(Clone, Copy, Debug, Default)]
struct LimitConfigured {
    rate: Option<Rate>,
    concurrent: Option<u32>,
}

/// How the rates stand that a request has to do with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standings {
    token: Option<Standing>,
    route: Option<Standing>,
}

/// A request's places among those that run at the same time; given back when it is dropped.
#[derive(Debug)]
pub struct Held {
    counted: Arc<Counted>,
    token: Option<TokenIndex>,
    holds_route: bool,
    /// How the rates stand.
    pub standings: Standings,
}

impl RouteLimits {
    /// The limits of a route, if it has any.
    pub fn of(config: &RouteConfig) -> Option<Box<Self>> {
        let (route, token) = (config.rate_limit.as_ref(), config.token_rate_limit.as_ref());
        (route.is_some() || token.is_some()).then(|| {
            let configured = |config: &RateLimitConfig| LimitConfigured {
                rate: config.rate.map(|rate| Rate::new(rate.requests, rate.period, rate.burst)),
                concurrent: config.concurrent_requests,
            };
            let counted =
                Counted { epoch: Instant::now(), route: Bucket::default(), tokens: Slab::default() };
            Box::new(Self {
                route: route.map(configured).unwrap_or_default(),
                token: token.map(configured).unwrap_or_default(),
                counted: Arc::new(counted),
            })
        })
    }

    /// Goes on counting where another configuration's limits of the same route are.
    pub fn go_on_from(&mut self, before: &Self) {
        self.counted = Arc::clone(&before.counted);
    }

    /// Lets a request in that arrived at this time, or says what it is too many of. Nothing is counted of a request that is
    /// not let in.
    ///
    /// # Errors
    /// The first limit that is exceeded, the token's first.
    pub fn enter(&self, token: Option<TokenIndex>, arrived: Instant) -> Result<Held, Exceeded> {
        let counted = &*self.counted;
        let now = arrived.saturating_duration_since(counted.epoch);
        let bucket = token.map(|token| counted.tokens.at_or_blank(token.place()));
        let mut held = Held {
            counted: Arc::clone(&self.counted),
            token: None,
            holds_route: false,
            standings: Standings::default(),
        };
        let exceeded = |limit, wait, held: &Held| Exceeded { limit, wait, standings: held.standings };
        if let (Some(most), Some(bucket)) = (self.token.concurrent, bucket) {
            if !bucket.enter(most) {
                return Err(exceeded(Limit::TokenConcurrency, UNTIL_ANOTHER_ENDS, &held));
            }
            held.token = token;
        }
        if let Some(most) = self.route.concurrent {
            if !counted.route.enter(most) {
                return Err(exceeded(Limit::RouteConcurrency, UNTIL_ANOTHER_ENDS, &held));
            }
            held.holds_route = true;
        }
        if let (Some(rate), Some(bucket)) = (self.token.rate, bucket) {
            let taken = bucket.take(rate, now);
            held.standings.token = Some(taken.unwrap_or_else(|spent| spent.standing));
            taken.map_err(|spent| exceeded(Limit::TokenRate, spent.wait, &held))?;
        }
        if let Some(rate) = self.route.rate {
            let taken = counted.route.take(rate, now);
            held.standings.route = Some(taken.unwrap_or_else(|spent| spent.standing));
            taken.map_err(|spent| {
                if let (Some(rate), Some(bucket)) = (self.token.rate, bucket) {
                    bucket.give_back(rate);
                }
                exceeded(Limit::RouteRate, spent.wait, &held)
            })?;
        }
        Ok(held)
    }
}

impl Standings {
    /// The header lines that tell a client (draft-ietf-httpapi-ratelimit-headers-10), each with its end.
    pub fn write_lines(&self, lines: &mut Vec<u8>) {
        let named = [("token", self.token), ("route", self.route)];
        let all = || named.iter().filter_map(|(name, standing)| Some((name, standing.as_ref()?)));
        if all().next().is_none() {
            return;
        }
        let join = |items: Vec<String>| items.join(", ");
        let policies = all().map(|(name, standing)| standing.policy(name)).collect();
        let standings = all().map(|(name, standing)| standing.limit(name)).collect();
        crate::headers::write_field(lines, b"ratelimit-policy", join(policies).as_bytes());
        crate::headers::write_field(lines, b"ratelimit", join(standings).as_bytes());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(token) = self.token {
            self.counted.tokens.at_or_blank(token.place()).leave();
        }
        if self.holds_route {
            self.counted.route.leave();
        }
    }
}

#[cfg(test)]
mod tests;
