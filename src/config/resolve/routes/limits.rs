//! How often and how many at the same time.

use super::super::{Resolution, settings};
use crate::config::number::{Count, Seconds};
use crate::config::report::{Located, Location};
use crate::config::{RateConfig, RateLimitConfig, RouteAuthentication};

type Number = Option<Located<Count<1, 10_000_000>>>;

/// A limit; `None` with the problem noted. `more` is the burst, and how many at the same time.
pub(super) fn rate(
    at: &Location,
    requests: &Number,
    per_seconds: &Option<Located<Seconds<1, 86_400>>>,
    more: (&Number, &Number),
    resolution: &mut Resolution<'_, '_>,
) -> Option<RateLimitConfig> {
    let (burst, concurrent) = more;
    let number = |number: &Number| {
        settings::value(number).map(|number| u32::try_from(number.count()).unwrap_or(u32::MAX))
    };
    if requests.is_none() && concurrent.is_none() && !resolution.report.is_noted(at) {
        let remedy = "say `requests`, `concurrent_requests` or both, or remove the table";
        resolution.report.place_problem(at, "this limits nothing", remedy);
        return None;
    }
    if let (None, Some(burst)) = (requests, burst)
        && !resolution.report.is_noted(at)
    {
        let remedy = "add `requests`, how many may come in `per_seconds`";
        resolution.report.value_problem(&burst.at, "a burst of no rate has no meaning", remedy);
    }
    let period = settings::value(per_seconds)?.duration();
    let rate = number(requests).map(|requests| RateConfig {
        requests,
        period,
        burst: number(burst).unwrap_or(requests),
    });
    Some(RateLimitConfig { rate, concurrent_requests: number(concurrent) })
}

/// There are tokens only where they are asked for.
pub(super) fn of_tokens(
    at: &Location,
    authentication: Option<RouteAuthentication>,
    resolution: &mut Resolution<'_, '_>,
) {
    if authentication == Some(RouteAuthentication::Off) {
        let reason = "`token_rate_limit` limits nothing where `authentication` is off";
        resolution.report.place_problem(at, reason, "remove it, or use `rate_limit`");
    }
}

/// What was given: nothing, or what has no problem.
pub(super) fn given<T>(resolved: Option<Option<T>>) -> Option<Option<T>> {
    match resolved {
        Some(resolved) => resolved.map(Some),
        None => Some(None),
    }
}
