#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::IpAddr;

use super::*;
use crate::policy::facts::{
    ExpandedGrant, Membership, OrganizationIndex, RequestFacts, ResourceIndex, TokenFacts, UserFacts,
    UserKind,
};
use crate::policy::{AuthenticationPolicy, Permission, PermissionSet, Role};

const NOW: u32 = 1_788_000_000;
const HERE: OrganizationIndex = OrganizationIndex(1);
const CHAIN: [ResourceIndex; 3] = [ResourceIndex(1), ResourceIndex(2), ResourceIndex(3)];
const MEMBER: [Membership; 1] = [Membership { organization: HERE, is_super_admin: false }];
const SUPER_ADMIN: [Membership; 1] = [Membership { organization: HERE, is_super_admin: true }];
const DEVELOPER_ON_PROJECT: [ExpandedGrant; 1] =
    [ExpandedGrant { resource: CHAIN[0], permissions: Role::Developer.permissions() }];

/// An application token that is let in, changed by `change`.
#[track_caller]
fn check(change: impl FnOnce(&mut Facts<'_>), expect: Result<(), Denial>) {
    let policy = AuthenticationPolicy::default();
    let mut facts = allowed_facts(&policy);
    change(&mut facts);
    assert_eq!(decide(&facts).map(|_| ()), expect);
}

fn allowed_facts(policy: &AuthenticationPolicy) -> Facts<'_> {
    Facts {
        request: RequestFacts {
            now: NOW,
            client_address: IpAddr::from([10, 1, 2, 3]),
            required: Permission::ServiceDataWrite,
            resource_chain: &CHAIN,
        },
        token: TokenFacts {
            kind: TokenKind::Application,
            revoked: false,
            created_at: NOW - 100,
            expires_at: None,
            binding: None,
            ip_allowlist: &[],
            scopes: None,
        },
        user: UserFacts {
            kind: UserKind::ApplicationUser,
            state: UserState::Active,
            token_validity_begin: 0,
            two_factor_enabled: false,
            memberships: &MEMBER,
            grants: &DEVELOPER_ON_PROJECT,
        },
        organization: Some(OrganizationFacts { index: HERE, policy, identity_providers: &[] }),
    }
}

#[test]
fn a_valid_token_is_let_in() {
    check(|_| {}, Ok(()));
}

#[test]
fn a_token_ends_in_the_second_of_its_expiry() {
    check(|facts| facts.token.expires_at = Some(NOW + 1), Ok(()));
    check(|facts| facts.token.expires_at = Some(NOW), Err(Denial::TokenExpired));
    check(|facts| facts.token.expires_at = Some(NOW - 1), Err(Denial::TokenExpired));
    check(|facts| facts.token.expires_at = Some(0), Err(Denial::TokenExpired));
    check(
        |facts| {
            facts.request.now = u32::MAX;
            facts.token.expires_at = Some(u32::MAX);
        },
        Err(Denial::TokenExpired),
    );
}

#[test]
fn tokens_from_before_validity_begins_are_void() {
    check(|facts| facts.user.token_validity_begin = NOW - 99, Err(Denial::TokenRevoked));
    check(|facts| facts.user.token_validity_begin = NOW - 100, Ok(()));
    check(|facts| facts.user.token_validity_begin = u32::MAX, Err(Denial::TokenRevoked));
}

#[test]
fn the_first_check_that_fails_is_the_denial() {
    check(
        |facts| {
            facts.token.revoked = true;
            facts.token.expires_at = Some(0);
            facts.user.state = UserState::Deleted;
            facts.organization = None;
        },
        Err(Denial::TokenRevoked),
    );
}

#[test]
fn nobody_is_a_member_of_an_unknown_organization() {
    check(|facts| facts.organization = None, Err(Denial::NotAMember));
    check(
        |facts| {
            facts.organization = None;
            facts.user.memberships = &SUPER_ADMIN;
        },
        Err(Denial::NotAMember),
    );
}

#[test]
fn super_admins_hold_everything_but_scopes_still_restrict() {
    for required in Permission::ALL {
        let super_admin = |facts: &mut Facts<'_>| {
            facts.request.required = required;
            facts.user.memberships = &SUPER_ADMIN;
            facts.user.grants = &[];
        };
        check(super_admin, Ok(()));
        check(
            |facts| {
                super_admin(facts);
                facts.token.scopes = Some(PermissionSet::EMPTY);
            },
            Err(Denial::InsufficientScope),
        );
    }
}

#[test]
fn every_permission_is_asked_for_by_its_own_bit() {
    for required in Permission::ALL {
        for held in Permission::ALL {
            let grants = [ExpandedGrant { resource: CHAIN[2], permissions: held.into() }];
            let policy = AuthenticationPolicy::default();
            let mut facts = allowed_facts(&policy);
            facts.request.required = required;
            facts.user.grants = &grants;
            assert_eq!(decide(&facts).is_ok(), required == held, "{required} with {held} granted");
            facts.user.memberships = &SUPER_ADMIN;
            facts.token.scopes = Some(held.into());
            assert_eq!(decide(&facts).is_ok(), required == held, "{required} with {held} as scope");
        }
    }
}

#[test]
fn grants_on_several_levels_add_up() {
    const GRANTS: [ExpandedGrant; 2] = [
        ExpandedGrant { resource: CHAIN[0], permissions: Role::ReadOnly.permissions() },
        ExpandedGrant { resource: CHAIN[2], permissions: Role::Developer.permissions() },
    ];
    check(|facts| facts.user.grants = &GRANTS, Ok(()));
    check(|facts| facts.user.grants = &GRANTS[..1], Err(Denial::PermissionDenied));
    check(
        |facts| {
            facts.user.grants = &GRANTS;
            facts.request.resource_chain = &CHAIN[..2];
        },
        Err(Denial::PermissionDenied),
    );
    check(|facts| facts.request.resource_chain = &[], Err(Denial::PermissionDenied));
}

#[test]
fn checks_are_numbered_as_in_the_table() {
    let numbers: Vec<_> = Check::ALL.into_iter().map(Check::number).collect();
    assert_eq!(numbers, [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
}

#[track_caller]
fn check_explained(facts: &Facts<'_>, check: Check, inputs: &str, result: CheckResult) {
    let explained = explain(facts).into_iter().find(|row| row.check == check).unwrap();
    assert_eq!((explained.inputs.as_str(), explained.result), (inputs, result));
    assert_eq!((explained.number, explained.title), (check.number(), check.title()));
}

#[test]
fn explained_checks_show_what_they_were_evaluated_on() {
    let policy = AuthenticationPolicy {
        two_factor_required: true,
        saml_allow_external: false,
        allowed_ip_ranges: vec!["192.0.2.0/24".parse().unwrap(), "10.0.0.0/8".parse().unwrap()],
        ..AuthenticationPolicy::default()
    };
    let mut facts = allowed_facts(&policy);
    facts.token.kind = TokenKind::Session;
    facts.token.binding = Some(MethodBinding::Password);
    facts.token.expires_at = Some(NOW - 1);
    facts.token.scopes = Some(Role::ServicesRecover.permissions());
    facts.user.state = UserState::Deactivated;
    let passed = CheckResult::Passed;
    #[rustfmt::skip]
    let expected = [
        (Check::NotRevoked, "revoked: no; created: 2026-08-29T10:38:20Z; user's tokens valid since: always", passed),
        (Check::NotExpired, "expires: 2026-08-29T10:39:59Z; now: 2026-08-29T10:40:00Z", CheckResult::Failed(Denial::TokenExpired)),
        (Check::UserActive, "user: deactivated", CheckResult::Failed(Denial::UserDeactivated)),
        (Check::Member, "project's organization: #1; user's organizations: #1", passed),
        (Check::OrganizationAddresses, "client: 10.1.2.3; allowed_ip_ranges: 192.0.2.0/24, 10.0.0.0/8", passed),
        (Check::TokenAddresses, "client: 10.1.2.3; ip_allowlist: any", passed),
        (Check::PersonalTokensEnabled, "token: session; personal_tokens_enabled: true", CheckResult::NotApplicable),
        (Check::MethodAllowed, "token: session; personal_tokens_require_allowed_auth_method: false; bound to: password; password_auth_enabled: true", passed),
        (Check::TwoFactor, "token: session; bound to: password; two_factor_required: true; user has it: no", CheckResult::Failed(Denial::TwoFactorRequired)),
        (Check::Scopes, "required: service:data:write; scopes: project:services:read, project:services:write", CheckResult::Failed(Denial::InsufficientScope)),
        (Check::Granted, "required: service:data:write; super admin: no; granted here and above: project:event_logs:read, project:integrations:read, project:networking:read, project:permissions:read, project:services:read, service:data:write, service:logs:read, service:metrics:read, service:secrets:read, service:users:write on resource #1", passed),
    ];
    for (check, inputs, result) in expected {
        check_explained(&facts, check, inputs, result);
    }
    facts.token.binding =
        Some(MethodBinding::IdentityProvider(crate::policy::facts::IdentityProviderIndex(7)));
    check_explained(
        &facts,
        Check::MethodAllowed,
        "token: session; personal_tokens_require_allowed_auth_method: false; bound to: identity provider #7 \
         (another organization's); saml_enabled: true; saml_allow_external: false",
        CheckResult::Failed(Denial::ExternalIdentityProviderNotAllowed),
    );
}

#[test]
fn an_unknown_organization_is_explained_too() {
    let policy = AuthenticationPolicy::default();
    let mut facts = allowed_facts(&policy);
    facts.organization = None;
    facts.request.resource_chain = &[];
    let unknown = "project's organization: unknown";
    check_explained(
        &facts,
        Check::Member,
        "project's organization: unknown; user's organizations: #1",
        CheckResult::Failed(Denial::NotAMember),
    );
    for check in
        [Check::OrganizationAddresses, Check::PersonalTokensEnabled, Check::MethodAllowed, Check::TwoFactor]
    {
        check_explained(&facts, check, unknown, CheckResult::NotApplicable);
    }
}

#[test]
fn what_is_held_is_what_scopes_and_grants_let_pass() {
    let reader = [ExpandedGrant { resource: CHAIN[2], permissions: Role::ReadOnly.permissions() }];
    let elsewhere = [ExpandedGrant { resource: ResourceIndex(9), permissions: PermissionSet::ALL }];
    let both = [DEVELOPER_ON_PROJECT[0], reader[0]];
    let scopes = [None, Some(PermissionSet::EMPTY), Some(Role::ReadOnly.permissions())];
    let policy = AuthenticationPolicy::default();
    for grants in [&[][..], &reader, &elsewhere, &both] {
        for (memberships, scopes) in
            [&MEMBER, &SUPER_ADMIN].into_iter().flat_map(|it| scopes.map(|scopes| (it, scopes)))
        {
            let mut facts = allowed_facts(&policy);
            facts.user.grants = grants;
            facts.user.memberships = memberships;
            facts.token.scopes = scopes;
            for permission in Permission::ALL {
                facts.request.required = permission;
                assert_eq!(
                    held(&facts).contains(permission),
                    decide(&facts).is_ok(),
                    "{permission:?} of {facts:?}"
                );
            }
        }
    }
}
