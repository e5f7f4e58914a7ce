//! The checks of the policy's table that need the directory (4 to 14), in their order, and the decision over them.
//!
//! [`decide`] and [`explain`] evaluate the same [`Check::evaluate`], so that what an operator is told is what
//! happened. Checks 1 to 3, which find the token, are [`crate::token`]'s.

use super::facts::{Facts, OrganizationFacts, UserState};
use super::method::MethodBinding;
use super::permission::PermissionSet;
use super::reason::Denial;
use super::{address, method};
use crate::token::TokenKind;

mod inputs;

/// Proof that a request was allowed. Only [`decide`] makes one.
///
/// ```compile_fail,E0451
/// let forged = postern::policy::Permit { _made_by_decide: () };
/// ```
#[derive(Debug)]
#[must_use = "a permit is there to be taken to the upstream"]
pub struct Permit {
    _made_by_decide: (),
}

/// One row of the policy's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Check {
    /// Row 4: not revoked, and not created before the user's `token_validity_begin`.
    NotRevoked,
    /// Row 5.
    NotExpired,
    /// Row 6.
    UserActive,
    /// Row 7.
    Member,
    /// Row 8.
    OrganizationAddresses,
    /// Row 9.
    TokenAddresses,
    /// Row 10.
    PersonalTokensEnabled,
    /// Row 11.
    MethodAllowed,
    /// Row 12.
    TwoFactor,
    /// Row 13.
    Scopes,
    /// Row 14.
    Granted,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a failed check is a denial"]
pub enum CheckResult {
    /// The check holds.
    Passed,
    /// The check does not concern this kind of token, user or policy.
    NotApplicable,
    /// The check fails, and with it the request.
    Failed(Denial),
}

/// One check as it is told to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedCheck {
    /// Which check.
    pub check: Check,
    /// Its number in the policy's table.
    pub number: u8,
    /// What it asks, in a few words.
    pub title: &'static str,
    /// The values it was evaluated on.
    pub inputs: String,
    /// How it came out.
    pub result: CheckResult,
}

/// Decides one request: the first check that fails is the denial.
///
/// # Errors
/// The denial of the first check that fails.
#[inline]
pub fn decide(facts: &Facts<'_>) -> Result<Permit, Denial> {
    // Written out and not a loop over `Check::ALL`: each line becomes its row's comparisons and nothing else.
    Check::NotRevoked.evaluate(facts).unless_failed()?;
    Check::NotExpired.evaluate(facts).unless_failed()?;
    Check::UserActive.evaluate(facts).unless_failed()?;
    Check::Member.evaluate(facts).unless_failed()?;
    Check::OrganizationAddresses.evaluate(facts).unless_failed()?;
    Check::TokenAddresses.evaluate(facts).unless_failed()?;
    Check::PersonalTokensEnabled.evaluate(facts).unless_failed()?;
    Check::MethodAllowed.evaluate(facts).unless_failed()?;
    Check::TwoFactor.evaluate(facts).unless_failed()?;
    Check::Scopes.evaluate(facts).unless_failed()?;
    Check::Granted.evaluate(facts).unless_failed()?;
    Ok(Permit { _made_by_decide: () })
}

/// The first denial among some of the checks, for questions that are about less than a whole request: whether a token is
/// good at all, or whether its holder belongs to an organization. It makes no [`Permit`].
///
/// # Errors
///
/// The denial.
pub fn check(facts: &Facts<'_>, checks: &[Check]) -> Result<(), Denial> {
    checks.iter().try_for_each(|check| check.evaluate(facts).unless_failed())
}

/// Everything that the token may do to the project, as far as scopes and grants go: all permissions for which rows 13 and 14 pass.
#[must_use]
pub fn held(facts: &Facts<'_>) -> PermissionSet {
    let granted = if is_super_admin(facts) {
        PermissionSet::ALL
    } else {
        let reaching =
            facts.user.grants.iter().filter(|it| facts.request.resource_chain.contains(&it.resource));
        reaching.fold(PermissionSet::EMPTY, |held, grant| held.union(grant.permissions))
    };
    facts.token.scopes.map_or(granted, |scopes| granted.intersection(scopes))
}

/// Every check with its inputs and its result, also those after the first that failed: the one that decided is the
/// first whose result is [`CheckResult::Failed`].
#[must_use]
pub fn explain(facts: &Facts<'_>) -> Vec<ExplainedCheck> {
    Check::ALL
        .into_iter()
        .map(|check| ExplainedCheck {
            check,
            number: check.number(),
            title: check.title(),
            inputs: inputs::describe(check, facts),
            result: check.evaluate(facts),
        })
        .collect()
}

impl Check {
    /// Every check that is decided here, in the order of the policy's table.
    pub const ALL: [Self; 11] = [
        Self::NotRevoked,
        Self::NotExpired,
        Self::UserActive,
        Self::Member,
        Self::OrganizationAddresses,
        Self::TokenAddresses,
        Self::PersonalTokensEnabled,
        Self::MethodAllowed,
        Self::TwoFactor,
        Self::Scopes,
        Self::Granted,
    ];

    /// The check's number in the policy's table.
    pub const fn number(self) -> u8 {
        match self {
            Self::NotRevoked => 4,
            Self::NotExpired => 5,
            Self::UserActive => 6,
            Self::Member => 7,
            Self::OrganizationAddresses => 8,
            Self::TokenAddresses => 9,
            Self::PersonalTokensEnabled => 10,
            Self::MethodAllowed => 11,
            Self::TwoFactor => 12,
            Self::Scopes => 13,
            Self::Granted => 14,
        }
    }

    /// What the check asks, in a few words.
    pub const fn title(self) -> &'static str {
        match self {
            Self::NotRevoked => "token not revoked",
            Self::NotExpired => "token not expired",
            Self::UserActive => "user active",
            Self::Member => "user in the project's organization",
            Self::OrganizationAddresses => "address allowed by organization",
            Self::TokenAddresses => "address allowed by token",
            Self::PersonalTokensEnabled => "personal tokens enabled",
            Self::MethodAllowed => "authentication method allowed",
            Self::TwoFactor => "two-factor authentication",
            Self::Scopes => "permission in token's scopes",
            Self::Granted => "permission granted",
        }
    }

    /// Evaluates this row alone, as if those before it had passed.
    ///
    /// While the organization is unknown, only [`Check::Member`] fails for it: the rows that ask its policy do not
    /// apply then.
    #[inline(always)] // In `decide` the check is a constant, and the match goes away.
    pub fn evaluate(self, facts: &Facts<'_>) -> CheckResult {
        match self {
            Self::NotRevoked => not_revoked(facts),
            Self::NotExpired => not_expired(facts),
            Self::UserActive => user_active(facts),
            Self::Member => member(facts),
            Self::OrganizationAddresses => organization_addresses(facts),
            Self::TokenAddresses => token_addresses(facts),
            Self::PersonalTokensEnabled => personal_tokens_enabled(facts),
            Self::MethodAllowed => method_allowed(facts),
            Self::TwoFactor => two_factor(facts),
            Self::Scopes => scopes(facts),
            Self::Granted => granted(facts),
        }
    }
}

impl CheckResult {
    #[inline]
    const fn passed_if(holds: bool, denial: Denial) -> Self {
        if holds { Self::Passed } else { Self::Failed(denial) }
    }

    #[inline]
    const fn unless_failed(self) -> Result<(), Denial> {
        match self {
            Self::Passed | Self::NotApplicable => Ok(()),
            Self::Failed(denial) => Err(denial),
        }
    }
}

/// Row 4. A token created in the very second in which validity begins is valid.
#[inline]
fn not_revoked(facts: &Facts<'_>) -> CheckResult {
    let void = facts.token.revoked | (facts.token.created_at < facts.user.token_validity_begin);
    CheckResult::passed_if(!void, Denial::TokenRevoked)
}

/// Row 5. In the second of its expiry a token has expired.
#[inline]
fn not_expired(facts: &Facts<'_>) -> CheckResult {
    let expired = facts.token.expires_at.is_some_and(|expires_at| facts.request.now >= expires_at);
    CheckResult::passed_if(!expired, Denial::TokenExpired)
}

/// Row 6.
#[inline]
fn user_active(facts: &Facts<'_>) -> CheckResult {
    match facts.user.state {
        UserState::Active => CheckResult::Passed,
        UserState::Deactivated => CheckResult::Failed(Denial::UserDeactivated),
        UserState::Deleted => CheckResult::Failed(Denial::UserDeleted),
    }
}

/// Row 7. Nobody is a member of an organization that the directory does not know.
#[inline]
fn member(facts: &Facts<'_>) -> CheckResult {
    let is_member = facts.organization.is_some_and(|organization| {
        facts.user.memberships.iter().any(|membership| membership.organization == organization.index)
    });
    CheckResult::passed_if(is_member, Denial::NotAMember)
}

/// Row 8.
#[inline]
fn organization_addresses(facts: &Facts<'_>) -> CheckResult {
    let Some(organization) = &facts.organization else {
        return CheckResult::NotApplicable;
    };
    let allowed = address::allows(&organization.policy.allowed_ip_ranges, facts.request.client_address);
    CheckResult::passed_if(allowed, Denial::IpNotAllowedByOrganization)
}

/// Row 9.
#[inline]
fn token_addresses(facts: &Facts<'_>) -> CheckResult {
    let allowed = address::allows(facts.token.ip_allowlist, facts.request.client_address);
    CheckResult::passed_if(allowed, Denial::IpNotAllowedByToken)
}

/// Row 10.
#[inline]
fn personal_tokens_enabled(facts: &Facts<'_>) -> CheckResult {
    match (facts.token.kind, &facts.organization) {
        (TokenKind::Personal, Some(organization)) => CheckResult::passed_if(
            organization.policy.personal_tokens_enabled,
            Denial::PersonalTokensDisabled,
        ),
        (TokenKind::Application | TokenKind::Personal | TokenKind::Session, _) => CheckResult::NotApplicable,
    }
}

/// Row 11.
#[inline]
fn method_allowed(facts: &Facts<'_>) -> CheckResult {
    let Some(organization) = &facts.organization else {
        return CheckResult::NotApplicable;
    };
    if !asks_for_method(facts.token.kind, organization) {
        return CheckResult::NotApplicable;
    }
    match method::allowed(facts.token.binding, organization) {
        Ok(()) => CheckResult::Passed,
        Err(denial) => CheckResult::Failed(denial),
    }
}

/// Whether the organization asks tokens of this kind for the method they are bound to.
#[inline]
const fn asks_for_method(kind: TokenKind, organization: &OrganizationFacts<'_>) -> bool {
    match kind {
        TokenKind::Session => true,
        TokenKind::Personal => organization.policy.personal_tokens_require_allowed_auth_method,
        TokenKind::Application => false,
    }
}

/// Row 12. Requiring two-factor authentication leaves personal tokens, third parties and identity providers alone.
#[inline]
fn two_factor(facts: &Facts<'_>) -> CheckResult {
    match (facts.token.kind, facts.token.binding, &facts.organization) {
        (TokenKind::Session, Some(MethodBinding::Password), Some(organization)) => {
            let satisfied = !organization.policy.two_factor_required | facts.user.two_factor_enabled;
            CheckResult::passed_if(satisfied, Denial::TwoFactorRequired)
        }
        _ => CheckResult::NotApplicable,
    }
}

/// Row 13. Scopes restrict super admins too.
#[inline]
fn scopes(facts: &Facts<'_>) -> CheckResult {
    let contained = facts.token.scopes.is_none_or(|scopes| scopes.contains(facts.request.required));
    CheckResult::passed_if(contained, Denial::InsufficientScope)
}

/// Row 14. Grants add up, so it is enough that one of them, anywhere on the way up, has the permission.
#[inline]
fn granted(facts: &Facts<'_>) -> CheckResult {
    let has_grant = || {
        facts.user.grants.iter().any(|grant| {
            grant.permissions.contains(facts.request.required)
                && facts.request.resource_chain.contains(&grant.resource)
        })
    };
    CheckResult::passed_if(is_super_admin(facts) || has_grant(), Denial::PermissionDenied)
}

/// Whether the user is a super admin of the organization that owns the project; being one elsewhere is nothing here.
#[inline]
fn is_super_admin(facts: &Facts<'_>) -> bool {
    facts.organization.is_some_and(|organization| {
        facts
            .user
            .memberships
            .iter()
            .any(|membership| (membership.organization == organization.index) & membership.is_super_admin)
    })
}

#[cfg(test)]
mod tests;
