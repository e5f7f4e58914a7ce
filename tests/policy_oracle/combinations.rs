//! Every value of everything that a decision depends on, each in the oracle's words and as the crate's facts.

use ipnet::IpNet;
use postern::policy::facts::{
    IdentityProviderIndex, OrganizationIndex, ResourceIndex, UserKind, UserState as State,
};
use postern::policy::{
    AuthenticationPolicy, ExpandedGrant, IdentityProviderFacts, Membership, MethodBinding, OrganizationFacts,
    Permission, PermissionSet, RequestFacts, ThirdParty, TokenFacts, UserFacts,
};
use postern::token::TokenKind;

use super::oracle::{
    Addresses, Binding, Expiry, Grant, Kind, Level, Member, Policy, Scope, Token, User, UserState,
};

const REQUIRED: Permission = Permission::ServiceDataWrite;
const WITH_REQUIRED: PermissionSet = PermissionSet::of(&[Permission::ProjectServicesRead, REQUIRED]);
const WITHOUT_REQUIRED: PermissionSet = PermissionSet::of(&[
    Permission::ProjectServicesRead,
    Permission::ServiceLogsRead,
    Permission::ServiceUsersWrite,
]);

const PROJECT: ResourceIndex = ResourceIndex(1);
const UNIT: ResourceIndex = ResourceIndex(2);
const ORGANIZATION: ResourceIndex = ResourceIndex(3);
const OTHER_PROJECT: ResourceIndex = ResourceIndex(4);

const HERE: OrganizationIndex = OrganizationIndex(1);
const ELSEWHERE: OrganizationIndex = OrganizationIndex(2);

const OWN_PROVIDER: IdentityProviderIndex = IdentityProviderIndex(1);
const OWN_PROVIDER_DISABLED: IdentityProviderIndex = IdentityProviderIndex(2);
const FOREIGN_PROVIDER: IdentityProviderIndex = IdentityProviderIndex(3);

const NOW: u32 = 1_000_000;
const VALIDITY_BEGINS: u32 = 500_000;

pub(crate) const REQUEST: RequestFacts<'_> = RequestFacts {
    now: NOW,
    client_address: std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3)),
    required: REQUIRED,
    resource_chain: &[PROJECT, UNIT, ORGANIZATION],
};

const BOTH: [bool; 2] = [false, true];
const ADDRESSES: [Addresses; 3] = [Addresses::NoneListed, Addresses::ClientInside, Addresses::ClientOutside];

/// The three lists of address ranges.
pub(crate) struct Ranges {
    inside: Vec<IpNet>,
    outside: Vec<IpNet>,
}

impl Ranges {
    pub(crate) fn new() -> Self {
        let parse = |ranges: &[&str]| ranges.iter().map(|range| range.parse().unwrap()).collect();
        Self {
            inside: parse(&["192.0.2.0/24", "10.0.0.0/8"]),
            outside: parse(&["192.0.2.0/24", "2001:db8::/32"]),
        }
    }

    fn listed(&self, addresses: Addresses) -> &[IpNet] {
        match addresses {
            Addresses::NoneListed => &[],
            Addresses::ClientInside => &self.inside,
            Addresses::ClientOutside => &self.outside,
        }
    }
}

pub(crate) fn policies() -> Vec<(Policy, AuthenticationPolicy)> {
    let ranges = Ranges::new();
    let mut policies = Vec::new();
    for switches in 0..1_u8 << 7 {
        for addresses in ADDRESSES {
            let on = |position: u8| switches >> position & 1 == 1;
            let plain = Policy {
                password: on(0),
                two_factor_required: on(1),
                oauth: on(2),
                saml: on(3),
                external: on(4),
                personal: on(5),
                personal_requires_method: on(6),
                addresses,
            };
            let policy = AuthenticationPolicy {
                password_auth_enabled: plain.password,
                two_factor_required: plain.two_factor_required,
                oauth_enabled: plain.oauth,
                saml_enabled: plain.saml,
                saml_allow_external: plain.external,
                personal_tokens_enabled: plain.personal,
                personal_tokens_require_allowed_auth_method: plain.personal_requires_method,
                mcp_enabled: switches.count_ones() % 2 == 0,
                allowed_ip_ranges: ranges.listed(addresses).to_vec(),
            };
            policies.push((plain, policy));
        }
    }
    policies
}

pub(crate) fn organization_facts(policy: &AuthenticationPolicy) -> OrganizationFacts<'_> {
    OrganizationFacts {
        index: HERE,
        policy,
        identity_providers: &[
            IdentityProviderFacts { index: OWN_PROVIDER, enabled: true },
            IdentityProviderFacts { index: OWN_PROVIDER_DISABLED, enabled: false },
        ],
    }
}

#[rustfmt::skip]
const BINDINGS: [(Binding, Option<MethodBinding>); 8] = [
    (Binding::Unbound, None),
    (Binding::Password, Some(MethodBinding::Password)),
    (Binding::Google, Some(MethodBinding::ThirdParty(ThirdParty::Google))),
    (Binding::Microsoft, Some(MethodBinding::ThirdParty(ThirdParty::Microsoft))),
    (Binding::GitHub, Some(MethodBinding::ThirdParty(ThirdParty::GitHub))),
    (Binding::OwnProvider, Some(MethodBinding::IdentityProvider(OWN_PROVIDER))),
    (Binding::OwnProviderDisabled, Some(MethodBinding::IdentityProvider(OWN_PROVIDER_DISABLED))),
    (Binding::ForeignProvider, Some(MethodBinding::IdentityProvider(FOREIGN_PROVIDER))),
];

const KINDS: [(Kind, TokenKind); 3] = [
    (Kind::Application, TokenKind::Application),
    (Kind::Personal, TokenKind::Personal),
    (Kind::Session, TokenKind::Session),
];

const SCOPES: [(Scope, Option<PermissionSet>); 3] = [
    (Scope::Unrestricted, None),
    (Scope::WithRequired, Some(WITH_REQUIRED)),
    (Scope::WithoutRequired, Some(WITHOUT_REQUIRED)),
];

const EXPIRIES: [(Expiry, Option<u32>); 3] =
    [(Expiry::Never, None), (Expiry::Later, Some(NOW + 1)), (Expiry::Reached, Some(NOW))];

pub(crate) fn tokens(ranges: &Ranges) -> Vec<(Token, TokenFacts<'_>)> {
    let mut tokens = Vec::new();
    for (kind, token_kind) in KINDS {
        for (binding, method_binding) in BINDINGS {
            for (scope, scopes) in SCOPES {
                for addresses in ADDRESSES {
                    for revoked in BOTH {
                        for created_before_validity in BOTH {
                            for (expiry, expires_at) in EXPIRIES {
                                let plain = Token {
                                    kind,
                                    binding,
                                    revoked,
                                    created_before_validity,
                                    expiry,
                                    addresses,
                                    scope,
                                };
                                let facts = TokenFacts {
                                    kind: token_kind,
                                    revoked,
                                    created_at: VALIDITY_BEGINS - u32::from(created_before_validity),
                                    expires_at,
                                    binding: method_binding,
                                    ip_allowlist: ranges.listed(addresses),
                                    scopes,
                                };
                                tokens.push((plain, facts));
                            }
                        }
                    }
                }
            }
        }
    }
    tokens
}

const STATES: [(UserState, State); 3] = [
    (UserState::Active, State::Active),
    (UserState::Deactivated, State::Deactivated),
    (UserState::Deleted, State::Deleted),
];

const fn membership(organization: OrganizationIndex, is_super_admin: bool) -> Membership {
    Membership { organization, is_super_admin }
}

const MEMBERSHIPS: [(Member, &[Membership]); 4] = [
    (Member::Nowhere, &[]),
    (Member::Elsewhere, &[membership(ELSEWHERE, true)]),
    (Member::Here, &[membership(ELSEWHERE, true), membership(HERE, false)]),
    (Member::SuperAdminHere, &[membership(ELSEWHERE, false), membership(HERE, true)]),
];

/// What is granted on another project is beside every grant that may count, and never counts.
const ON_OTHER_PROJECT: ExpandedGrant = ExpandedGrant { resource: OTHER_PROJECT, permissions: WITH_REQUIRED };

const fn granted(resource: ResourceIndex, permissions: PermissionSet) -> [ExpandedGrant; 2] {
    [ON_OTHER_PROJECT, ExpandedGrant { resource, permissions }]
}

const GRANTS: [(Grant, &[ExpandedGrant]); 8] = [
    (Grant::Nothing, &[]),
    (Grant::Elsewhere, &[ON_OTHER_PROJECT]),
    (Grant::WithRequired(Level::Project), &granted(PROJECT, WITH_REQUIRED)),
    (Grant::WithRequired(Level::Unit), &granted(UNIT, WITH_REQUIRED)),
    (Grant::WithRequired(Level::Organization), &granted(ORGANIZATION, WITH_REQUIRED)),
    (Grant::WithoutRequired(Level::Project), &granted(PROJECT, WITHOUT_REQUIRED)),
    (Grant::WithoutRequired(Level::Unit), &granted(UNIT, WITHOUT_REQUIRED)),
    (Grant::WithoutRequired(Level::Organization), &granted(ORGANIZATION, WITHOUT_REQUIRED)),
];

pub(crate) fn users() -> Vec<(User, UserFacts<'static>)> {
    let mut users = Vec::new();
    for (plain_state, state) in STATES {
        for has_two_factor in BOTH {
            for (member, memberships) in MEMBERSHIPS {
                for (grant, grants) in GRANTS {
                    let plain = User { state: plain_state, has_two_factor, member, grant };
                    let facts = UserFacts {
                        kind: UserKind::OrganizationUser,
                        state,
                        token_validity_begin: VALIDITY_BEGINS,
                        two_factor_enabled: has_two_factor,
                        memberships,
                        grants,
                    };
                    users.push((plain, facts));
                }
            }
        }
    }
    users
}
