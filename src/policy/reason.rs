//! The closed list of reasons for a refusal: code, status, and which check of the policy it belongs to.
//!
//! Client, log, metric and documentation share these codes. What a client is told in words is in
//! [`crate::error`].

use http::StatusCode;

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Denial {
    /// No `Authorization` header.
    MissingCredentials,
    /// More than one header, another scheme, a shape no token has, or a wrong checksum.
    MalformedCredentials,
    /// No such token in the directory.
    UnknownToken,
    /// Revoked, or created before the user's `token_validity_begin`.
    TokenRevoked,
    /// Past its expiry.
    TokenExpired,
    /// The user has been switched off.
    UserDeactivated,
    /// The user is gone.
    UserDeleted,
    /// The user does not belong to the organization that owns the project.
    NotAMember,
    /// The client's address is outside the organization's allowed ranges.
    IpNotAllowedByOrganization,
    /// The client's address is outside the token's allow-list.
    IpNotAllowedByToken,
    /// The organization has personal tokens switched off.
    PersonalTokensDisabled,
    /// The login method the token is bound to is not allowed.
    AuthenticationMethodNotAllowed,
    /// The token is bound to another organization's identity provider.
    ExternalIdentityProviderNotAllowed,
    /// Password logins need two-factor authentication, which the user has not set up.
    TwoFactorRequired,
    /// The token's scopes do not contain the permission.
    InsufficientScope,
    /// No grant contains the permission.
    PermissionDenied,
}

impl Denial {
    /// Every reason, in the order of the policy's table.
    pub const ALL: [Self; 16] = [
        Self::MissingCredentials,
        Self::MalformedCredentials,
        Self::UnknownToken,
        Self::TokenRevoked,
        Self::TokenExpired,
        Self::UserDeactivated,
        Self::UserDeleted,
        Self::NotAMember,
        Self::IpNotAllowedByOrganization,
        Self::IpNotAllowedByToken,
        Self::PersonalTokensDisabled,
        Self::AuthenticationMethodNotAllowed,
        Self::ExternalIdentityProviderNotAllowed,
        Self::TwoFactorRequired,
        Self::InsufficientScope,
        Self::PermissionDenied,
    ];

    /// The code that logs, metrics, bodies and documentation use.
    pub const fn code(self) -> &'static str {
        match self {
            Self::MissingCredentials => "missing_credentials",
            Self::MalformedCredentials => "malformed_credentials",
            Self::UnknownToken => "unknown_token",
            Self::TokenRevoked => "token_revoked",
            Self::TokenExpired => "token_expired",
            Self::UserDeactivated => "user_deactivated",
            Self::UserDeleted => "user_deleted",
            Self::NotAMember => "not_a_member",
            Self::IpNotAllowedByOrganization => "ip_not_allowed_by_organization",
            Self::IpNotAllowedByToken => "ip_not_allowed_by_token",
            Self::PersonalTokensDisabled => "personal_tokens_disabled",
            Self::AuthenticationMethodNotAllowed => "authentication_method_not_allowed",
            Self::ExternalIdentityProviderNotAllowed => "external_identity_provider_not_allowed",
            Self::TwoFactorRequired => "two_factor_required",
            Self::InsufficientScope => "insufficient_scope",
            Self::PermissionDenied => "permission_denied",
        }
    }

    /// 401 where a better token would help (checks 1 to 6), 403 where it would not (7 to 14).
    pub const fn status(self) -> StatusCode {
        match self {
            Self::MissingCredentials
            | Self::MalformedCredentials
            | Self::UnknownToken
            | Self::TokenRevoked
            | Self::TokenExpired
            | Self::UserDeactivated
            | Self::UserDeleted => StatusCode::UNAUTHORIZED,
            Self::NotAMember
            | Self::IpNotAllowedByOrganization
            | Self::IpNotAllowedByToken
            | Self::PersonalTokensDisabled
            | Self::AuthenticationMethodNotAllowed
            | Self::ExternalIdentityProviderNotAllowed
            | Self::TwoFactorRequired
            | Self::InsufficientScope
            | Self::PermissionDenied => StatusCode::FORBIDDEN,
        }
    }
}

impl std::fmt::Display for Denial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}
