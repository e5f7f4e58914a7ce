use super::*;
use crate::policy::AuthenticationPolicy;
use crate::policy::facts::{IdentityProviderFacts, OrganizationIndex};

const OWN: Option<MethodBinding> = Some(MethodBinding::IdentityProvider(IdentityProviderIndex(1)));
const OWN_DISABLED: Option<MethodBinding> = Some(MethodBinding::IdentityProvider(IdentityProviderIndex(2)));
const FOREIGN: Option<MethodBinding> = Some(MethodBinding::IdentityProvider(IdentityProviderIndex(3)));
const PASSWORD: Option<MethodBinding> = Some(MethodBinding::Password);

const NOT_ALLOWED: Result<(), Denial> = Err(Denial::AuthenticationMethodNotAllowed);
const EXTERNAL_NOT_ALLOWED: Result<(), Denial> = Err(Denial::ExternalIdentityProviderNotAllowed);

/// Checks a binding under the policy that allows everything but what `change` takes away.
#[track_caller]
fn check(
    binding: Option<MethodBinding>,
    change: impl FnOnce(&mut AuthenticationPolicy),
    expect: Result<(), Denial>,
) {
    let mut policy = AuthenticationPolicy::default();
    change(&mut policy);
    let organization = OrganizationFacts {
        index: OrganizationIndex(1),
        policy: &policy,
        identity_providers: &[
            IdentityProviderFacts { index: IdentityProviderIndex(1), enabled: true },
            IdentityProviderFacts { index: IdentityProviderIndex(2), enabled: false },
        ],
    };
    assert_eq!(allowed(binding, &organization), expect);
}

#[test]
fn a_new_organization_allows_every_method_but_none() {
    check(PASSWORD, |_| {}, Ok(()));
    check(Some(MethodBinding::ThirdParty(ThirdParty::Google)), |_| {}, Ok(()));
    check(OWN, |_| {}, Ok(()));
    check(FOREIGN, |_| {}, Ok(()));
    check(None, |_| {}, NOT_ALLOWED);
}

#[test]
fn one_switch_stands_for_all_third_parties() {
    for third_party in [ThirdParty::Google, ThirdParty::Microsoft, ThirdParty::GitHub] {
        check(
            Some(MethodBinding::ThirdParty(third_party)),
            |policy| policy.oauth_enabled = false,
            NOT_ALLOWED,
        );
        check(Some(MethodBinding::ThirdParty(third_party)), |policy| policy.saml_enabled = false, Ok(()));
    }
}

#[test]
fn the_password_switch_concerns_passwords_only() {
    check(PASSWORD, |policy| policy.password_auth_enabled = false, NOT_ALLOWED);
    check(OWN, |policy| policy.password_auth_enabled = false, Ok(()));
}

#[test]
fn identity_providers_need_their_switch_and_external_ones_two() {
    check(OWN, |policy| policy.saml_enabled = false, NOT_ALLOWED);
    check(FOREIGN, |policy| policy.saml_enabled = false, NOT_ALLOWED);
    check(OWN, |policy| policy.saml_allow_external = false, Ok(()));
    check(FOREIGN, |policy| policy.saml_allow_external = false, EXTERNAL_NOT_ALLOWED);
    check(
        FOREIGN,
        |policy| {
            policy.saml_enabled = false;
            policy.saml_allow_external = false;
        },
        NOT_ALLOWED,
    );
}

#[test]
fn a_disabled_provider_of_this_organization_is_not_an_external_one() {
    check(OWN_DISABLED, |_| {}, NOT_ALLOWED);
    check(OWN_DISABLED, |policy| policy.saml_allow_external = false, NOT_ALLOWED);
}
