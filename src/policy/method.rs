//! Authentication methods: what a personal or session token is bound to, and whether the policy allows it.
//!
//! Which tokens are asked for their method is not known here: that is the decision's table.

use super::facts::{IdentityProviderIndex, OrganizationFacts};
use super::reason::Denial;

/// The login method that a personal or session token was created with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MethodBinding {
    /// Email address and password.
    Password,
    /// Google, Microsoft or GitHub: one switch for all three, as in Aiven's API.
    ThirdParty(ThirdParty),
    /// An identity provider (SAML or OIDC) of this or of another organization.
    IdentityProvider(IdentityProviderIndex),
}

/// The third parties people can sign in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ThirdParty {
    /// Google.
    Google,
    /// Microsoft.
    Microsoft,
    /// GitHub.
    GitHub,
}

/// Whether the organization's policy lets in tokens with this binding. A token without one is bound to no allowed
/// method.
///
/// # Errors
/// [`Denial::ExternalIdentityProviderNotAllowed`] when only the switch for other organizations' providers stands
/// in the way, else [`Denial::AuthenticationMethodNotAllowed`].
#[inline]
pub fn allowed(binding: Option<MethodBinding>, organization: &OrganizationFacts<'_>) -> Result<(), Denial> {
    let policy = organization.policy;
    match binding {
        Some(MethodBinding::Password) => allowed_if(policy.password_auth_enabled),
        Some(MethodBinding::ThirdParty(_)) => allowed_if(policy.oauth_enabled),
        Some(MethodBinding::IdentityProvider(index)) => {
            allowed_if(policy.saml_enabled)?;
            match organization.identity_providers.iter().find(|provider| provider.index == index) {
                Some(own) => allowed_if(own.enabled),
                None if policy.saml_allow_external => Ok(()),
                None => Err(Denial::ExternalIdentityProviderNotAllowed),
            }
        }
        None => Err(Denial::AuthenticationMethodNotAllowed),
    }
}

#[inline]
const fn allowed_if(switched_on: bool) -> Result<(), Denial> {
    if switched_on { Ok(()) } else { Err(Denial::AuthenticationMethodNotAllowed) }
}

#[cfg(test)]
mod tests;
