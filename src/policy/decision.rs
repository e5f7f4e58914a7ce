//! The checks of the policy's table that need the directory (4 to 14), in their order, and the decision over them.

use super::{Denial, Facts};

/// Proof that a request was allowed. Only [`decide`] makes one.
#[derive(Debug)]
pub struct Permit {
    _made_by_decide: (),
}

/// One row of the policy's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Row 4.
    NotRevoked,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckResult {
    /// The check holds.
    Passed,
    /// The check does not concern this kind of token, user or policy.
    NotApplicable,
    /// The check fails, and with it the request.
    Failed(Denial),
}

/// Decides one request.
pub fn decide(_facts: &Facts<'_>) -> Result<Permit, Denial> {
    Err(Denial::PermissionDenied)
}

/// Every check with its result, also those after the first that failed.
pub fn explain(_facts: &Facts<'_>) -> Vec<(Check, CheckResult)> {
    Vec::new()
}
