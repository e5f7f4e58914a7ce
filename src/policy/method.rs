//! Authentication methods: what a personal or session token is bound to, and whether the policy allows it.

use super::facts::IdentityProviderIndex;

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
