//! What a check was evaluated on, as text for people. Nothing in here decides.
//!
//! Facts carry no names, so organizations, resources and providers appear by the directory's numbers.

use std::fmt::Display;

use ipnet::IpNet;

use super::{Check, is_super_admin};
use crate::policy::facts::{Facts, OrganizationFacts, UserState};
use crate::policy::method::{MethodBinding, ThirdParty};

/// The values of `facts` that `check` depends on.
pub(super) fn describe(check: Check, facts: &Facts<'_>) -> String {
    let token = &facts.token;
    let user = &facts.user;
    let organization = facts.organization.as_ref();
    match check {
        Check::NotRevoked => format!(
            "revoked: {}; created: {}; user's tokens valid since: {}",
            yes_no(token.revoked),
            time(token.created_at),
            validity_begin(user.token_validity_begin)
        ),
        Check::NotExpired => format!(
            "expires: {}; now: {}",
            token.expires_at.map_or_else(|| "never".to_owned(), time),
            time(facts.request.now)
        ),
        Check::UserActive => format!("user: {}", state(user.state)),
        Check::Member => format!(
            "project's organization: {}; user's organizations: {}",
            organization.map_or_else(|| "unknown".to_owned(), |known| number(known.index.0)),
            list(user.memberships.iter().map(|membership| number(membership.organization.0)), "none")
        ),
        Check::OrganizationAddresses => asked_of(organization, |known| {
            addresses(facts, "allowed_ip_ranges", &known.policy.allowed_ip_ranges)
        }),
        Check::TokenAddresses => addresses(facts, "ip_allowlist", token.ip_allowlist),
        Check::PersonalTokensEnabled => asked_of(organization, |known| {
            format!(
                "token: {}; personal_tokens_enabled: {}",
                token.kind, known.policy.personal_tokens_enabled
            )
        }),
        Check::MethodAllowed => asked_of(organization, |known| method(facts, known)),
        Check::TwoFactor => asked_of(organization, |known| {
            format!(
                "token: {}; bound to: {}; two_factor_required: {}; user has it: {}",
                token.kind,
                binding(token.binding),
                known.policy.two_factor_required,
                yes_no(user.two_factor_enabled)
            )
        }),
        Check::Scopes => format!(
            "required: {}; scopes: {}",
            facts.request.required,
            token.scopes.map_or_else(|| "any".to_owned(), |scopes| list(scopes.iter(), "none"))
        ),
        Check::Granted => format!(
            "required: {}; super admin: {}; granted here and above: {}",
            facts.request.required,
            yes_no(is_super_admin(facts)),
            granted(facts)
        ),
    }
}

/// What is said about a row that asks the organization's policy.
fn asked_of(
    organization: Option<&OrganizationFacts<'_>>,
    describe: impl FnOnce(&OrganizationFacts<'_>) -> String,
) -> String {
    organization.map_or_else(|| "project's organization: unknown".to_owned(), describe)
}

fn addresses(facts: &Facts<'_>, name: &str, ranges: &[IpNet]) -> String {
    let client = match facts.request.client_address.to_canonical() {
        address if address.is_unspecified() => "unknown".to_owned(),
        address => address.to_string(),
    };
    format!("client: {client}; {name}: {}", list(ranges, "any"))
}

fn method(facts: &Facts<'_>, organization: &OrganizationFacts<'_>) -> String {
    let token = &facts.token;
    let policy = organization.policy;
    let switches = match token.binding {
        None => String::new(),
        Some(MethodBinding::Password) => {
            format!("; password_auth_enabled: {}", policy.password_auth_enabled)
        }
        Some(MethodBinding::ThirdParty(_)) => format!("; oauth_enabled: {}", policy.oauth_enabled),
        Some(MethodBinding::IdentityProvider(index)) => {
            let own = organization.identity_providers.iter().find(|provider| provider.index == index);
            let owner = match own {
                Some(provider) if provider.enabled => "this organization's, enabled",
                Some(_) => "this organization's, disabled",
                None => "another organization's",
            };
            format!(
                " ({owner}); saml_enabled: {}; saml_allow_external: {}",
                policy.saml_enabled, policy.saml_allow_external
            )
        }
    };
    format!(
        "token: {}; personal_tokens_require_allowed_auth_method: {}; bound to: {}{switches}",
        token.kind,
        policy.personal_tokens_require_allowed_auth_method,
        binding(token.binding)
    )
}

/// The grants on the project and above it; others say nothing about this request.
fn granted(facts: &Facts<'_>) -> String {
    let on_the_way_up = facts
        .user
        .grants
        .iter()
        .filter(|grant| facts.request.resource_chain.contains(&grant.resource))
        .map(|grant| {
            format!("{} on resource {}", list(grant.permissions.iter(), "nothing"), number(grant.resource.0))
        });
    list(on_the_way_up, "nothing")
}

fn binding(binding: Option<MethodBinding>) -> String {
    match binding {
        None => "no method".to_owned(),
        Some(MethodBinding::Password) => "password".to_owned(),
        Some(MethodBinding::ThirdParty(ThirdParty::Google)) => "Google".to_owned(),
        Some(MethodBinding::ThirdParty(ThirdParty::Microsoft)) => "Microsoft".to_owned(),
        Some(MethodBinding::ThirdParty(ThirdParty::GitHub)) => "GitHub".to_owned(),
        Some(MethodBinding::IdentityProvider(index)) => format!("identity provider {}", number(index.0)),
    }
}

const fn state(state: UserState) -> &'static str {
    match state {
        UserState::Active => "active",
        UserState::Deactivated => "deactivated",
        UserState::Deleted => "deleted",
    }
}

fn number(index: u32) -> String {
    format!("#{index}")
}

const fn yes_no(answer: bool) -> &'static str {
    if answer { "yes" } else { "no" }
}

/// A user who never declared older tokens void has the epoch here.
fn validity_begin(seconds: u32) -> String {
    if seconds == 0 { "always".to_owned() } else { time(seconds) }
}

/// A time in seconds since the epoch, as RFC 3339 writes it.
fn time(seconds: u32) -> String {
    jiff::Timestamp::from_second(i64::from(seconds))
        .map_or_else(|_| seconds.to_string(), |timestamp| timestamp.to_string())
}

fn list<T: Display>(items: impl IntoIterator<Item = T>, when_empty: &str) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { when_empty.to_owned() } else { items.join(", ") }
}
