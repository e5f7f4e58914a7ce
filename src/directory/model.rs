//! The directory's durable records, plain values with ids as Aiven has them.
//!
//! What must not live here: how records are stored ([`super::store`]), when they may change
//! ([`super::operations`]), or what workers see of them ([`super::view`]).

mod people;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::policy::AuthenticationPolicy;
use crate::policy::facts::{UserKind, UserState};
use crate::token::{TokenDigest, TokenKind};

pub use people::{Invitation, PasswordRecord, PasswordReset, TotpRecord};
pub use words::Word;
use words::serialize_word;

/// An organization, the root of a resource tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Organization {
    /// Such as `org1a2b3c4d5e6`.
    pub id: String,
    /// Name as people know it.
    pub name: String,
    /// Which methods, tokens and addresses may reach its resources. `None` only if the stored policy cannot be
    /// read; such an organization is closed until it is set again.
    pub authentication_policy: Option<AuthenticationPolicy>,
    /// A policy that is tried on real requests without refusing any (shadow mode); `None`: none is.
    pub candidate_policy: Option<AuthenticationPolicy>,
    /// When it was made.
    pub create_time: Timestamp,
    /// When name or policy changed last.
    pub update_time: Timestamp,
}

/// An organizational unit, nested in an organization or in another unit of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OrganizationalUnit {
    /// Such as `a1b2c3d4e5f6`.
    pub id: String,
    /// Name as people know it.
    pub name: String,
    /// The organization at the root.
    pub organization_id: String,
    /// The unit it nests in; `None`: directly in the organization.
    pub parent_id: Option<String>,
    /// When it was made.
    pub create_time: Timestamp,
}

/// A project. Its name is its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Project {
    /// Unique over the whole directory.
    pub name: String,
    /// The organization that owns it.
    pub organization_id: String,
    /// The unit it nests in; `None`: directly in the organization.
    pub unit_id: Option<String>,
    /// When it was made.
    pub create_time: Timestamp,
}

/// A person or a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// Such as `u1a2b3c4d5e6f`.
    pub id: String,
    /// Person or program.
    #[serde(serialize_with = "serialize_word")]
    pub kind: UserKind,
    /// Address of a person; a synthetic, unique one of an application user.
    pub email: String,
    /// Real name of a person; name of an application user.
    pub name: String,
    /// What an application user is for.
    pub description: String,
    /// Active, deactivated or deleted.
    #[serde(serialize_with = "serialize_word")]
    pub state: UserState,
    /// Whether a person has set up two-factor authentication.
    pub two_factor_enabled: bool,
    /// Tokens created before this second are void.
    pub token_validity_begin: Timestamp,
    /// The organization that manages the user: it has verified the domain of the email address, or made the
    /// application user.
    pub managing_organization_id: Option<String>,
    /// When it was made.
    pub create_time: Timestamp,
}

/// That a user belongs to an organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MembershipRecord {
    /// Who.
    pub user_id: String,
    /// Where.
    pub organization_id: String,
    /// Super admins hold every permission in that organization.
    pub is_super_admin: bool,
    /// Since when.
    pub join_time: Timestamp,
}

/// A member of an organization together with the membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// The user.
    #[serde(flatten)]
    pub user: User,
    /// Super admins hold every permission in that organization.
    pub is_super_admin: bool,
    /// Since when.
    pub join_time: Timestamp,
}

/// A way in which one person logs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuthenticationMethod {
    /// Such as `uam1a2b3c4d5e6`.
    pub id: String,
    /// Whose.
    pub user_id: String,
    /// Password, a third party, or an identity provider.
    #[serde(serialize_with = "serialize_word")]
    pub kind: MethodKind,
    /// Which identity provider, exactly if `kind` says so.
    pub identity_provider_id: Option<String>,
    /// Who the person is at the third party or provider; `None` for the password, and for what has never been used.
    pub subject: Option<String>,
    /// When it was made.
    pub create_time: Timestamp,
}

/// The kinds of authentication methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MethodKind {
    /// Email address and password.
    Password,
    /// Google.
    Google,
    /// Microsoft.
    Microsoft,
    /// GitHub.
    GitHub,
    /// An organization's identity provider.
    IdentityProvider,
}

/// An organization's own identity provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IdentityProvider {
    /// Such as `am1a2b3c4d5e6`.
    pub id: String,
    /// Whose.
    pub organization_id: String,
    /// SAML or OIDC.
    #[serde(serialize_with = "serialize_word")]
    pub kind: IdentityProviderKind,
    /// Name as people know it.
    pub name: String,
    /// Switched on by the organization's admins.
    pub enabled: bool,
    /// Domains whose users log in with it.
    pub linked_domain_ids: Vec<String>,
    /// Group that users join by logging in.
    pub auto_join_user_group_id: Option<String>,
    /// Lifetime of the session tokens it makes, in seconds; `None`: the default.
    pub auth_token_max_age_seconds: Option<u32>,
    /// Whether the session tokens it makes live longer by being used.
    pub auth_token_extend_when_used: bool,
    /// How it is reached and what it is asked, by its kind.
    pub settings: ProviderSettings,
    /// When it was made.
    pub create_time: Timestamp,
    /// When it changed last.
    pub update_time: Timestamp,
}

impl IdentityProvider {
    /// Whether all is there that a login with it needs.
    pub fn is_set_up(&self) -> bool {
        let ProviderSettings { oidc_issuer, oidc_client_id, saml, .. } = &self.settings;
        match self.kind {
            IdentityProviderKind::Oidc => oidc_issuer.is_some() && oidc_client_id.is_some(),
            IdentityProviderKind::Saml => {
                saml.saml_idp_url.is_some()
                    && saml.saml_entity_id.is_some()
                    && saml.saml_certificate.is_some()
            }
        }
    }
}

/// How an identity provider is reached and what it is asked. What is absent has not been set up. The secret of an
/// OpenID Connect client is not here: it is kept sealed, and never shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProviderSettings {
    /// OpenID Connect: the provider's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oidc_issuer: Option<String>,
    /// OpenID Connect: who we are to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oidc_client_id: Option<String>,
    /// OpenID Connect: what is asked for beside `openid`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub oidc_scopes: Vec<String>,
    /// SAML's fields, named as in the API.
    #[serde(flatten)]
    pub saml: SamlSettings,
}

/// SAML's settings, named as in the API. Kept, not acted upon yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SamlSettings {
    /// Address that browsers are sent to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saml_idp_url: Option<String>,
    /// What the provider calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saml_entity_id: Option<String>,
    /// Certificate that assertions are signed with, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saml_certificate: Option<String>,
    /// Digest of requests, such as `sha256`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saml_digest_algorithm: Option<String>,
    /// Signature of requests, such as `rsa-sha256`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saml_signature_algorithm: Option<String>,
    /// Peculiarities, such as `adfs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saml_variant: Option<String>,
    /// Whether assertions have to be signed themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saml_assertion_signed_enabled: Option<bool>,
    /// Whether requests are signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saml_authn_requests_signed_enabled: Option<bool>,
    /// Whether the provider may begin a login by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saml_idp_login_allowed: Option<bool>,
    /// Whether a way of logging in is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saml_requested_authn_context_enabled: Option<bool>,
    /// Names of the attributes that carry email, names and identity.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub saml_field_mapping: BTreeMap<String, String>,
}

/// The protocols of identity providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdentityProviderKind {
    /// SAML 2.0.
    Saml,
    /// OpenID Connect.
    Oidc,
}

/// A domain that an organization claims; once it is verified, the organization manages its users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Domain {
    /// Such as `dom1a2b3c4d5e6`.
    pub id: String,
    /// Whose.
    pub organization_id: String,
    /// Lower case, such as `example.com`.
    pub name: String,
    /// Unverified, verified or deleted.
    #[serde(serialize_with = "serialize_word")]
    pub state: DomainState,
    /// How ownership is shown.
    #[serde(serialize_with = "serialize_word")]
    pub verification_type: DomainVerification,
    /// What must be found there; not a secret.
    pub challenge_token: String,
    /// When it was made.
    pub create_time: Timestamp,
}

/// Where a domain is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DomainState {
    /// Claimed.
    Unverified,
    /// Shown to be the organization's.
    Verified,
    /// Given up.
    Deleted,
}

/// How the ownership of a domain is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DomainVerification {
    /// A TXT record.
    Dns,
    /// A file on the domain's web server.
    Http,
}

/// A group of an organization's users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Such as `ug1a2b3c4d5e6`.
    pub id: String,
    /// Whose.
    pub organization_id: String,
    /// Unique in the organization.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Whether an identity provider keeps its members.
    pub managed_by_scim: bool,
    /// When it was made.
    pub create_time: Timestamp,
    /// When name or description changed last.
    pub update_time: Timestamp,
}

/// Who a grant is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "principal_type", content = "principal_id", rename_all = "snake_case")]
pub enum Principal {
    /// One user, by id.
    User(String),
    /// Everybody in a group, by id.
    UserGroup(String),
}

/// What a grant is on, everything below included.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "resource_type", content = "resource_id", rename_all = "snake_case")]
pub enum Resource {
    /// An organization, by id.
    Organization(String),
    /// An organizational unit, by id.
    OrganizationUnit(String),
    /// A project, by name.
    Project(String),
}

/// Permissions and roles of one principal on one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Grant {
    /// For whom.
    #[serde(flatten)]
    pub principal: Principal,
    /// On what.
    #[serde(flatten)]
    pub resource: Resource,
    /// Names of permissions and roles, sorted, each once.
    pub permissions: Vec<String>,
    /// When the first of them was granted.
    pub create_time: Timestamp,
    /// When they changed last.
    pub update_time: Timestamp,
}

/// A token, in the only form in which it is kept: digest and prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Token {
    /// The store's number for it; 0 until it is stored.
    #[serde(skip)]
    pub number: u32,
    /// The public handle, unique.
    pub token_prefix: String,
    /// SHA-256 of the whole token.
    #[serde(skip)]
    pub digest: TokenDigest,
    /// Whose.
    pub user_id: String,
    /// Application, personal or session token.
    #[serde(serialize_with = "serialize_word")]
    pub kind: TokenKind,
    /// What it is for.
    pub description: String,
    /// When it was made.
    pub create_time: Timestamp,
    /// Whether somebody asked for it, as opposed to a login's.
    pub created_manually: bool,
    /// Whether it was made elsewhere and only its digest and prefix came here.
    pub imported: bool,
    /// Lifetime in seconds; `None`: never ends.
    pub max_age_seconds: Option<u32>,
    /// Whether the lifetime counts from the last use.
    pub extend_when_used: bool,
    /// When it ends however much it is used; `None`: its lifetime alone decides.
    pub end_time: Option<Timestamp>,
    /// Addresses and networks it may be used from; empty: any.
    pub ip_allowlist: Vec<String>,
    /// Names of permissions and roles it is restricted to; empty: not restricted.
    pub scopes: Vec<String>,
    /// The login method it was made with; `None` for application tokens.
    pub authentication_method_id: Option<String>,
    /// When it was revoked.
    pub revoked_time: Option<Timestamp>,
}

/// When, from where and by what a token was last used, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// When.
    pub last_used_time: Timestamp,
    /// From where.
    pub last_ip: Option<IpAddr>,
    /// By what, as the client called itself.
    pub last_user_agent: Option<String>,
    /// For how many requests, since it was made.
    pub request_count: u64,
}

/// A token and its usage, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenWithUsage {
    /// The token.
    #[serde(flatten)]
    pub token: Token,
    /// Its last use; `None`: never used, as far as the store knows.
    #[serde(flatten)]
    pub usage: Option<Usage>,
    /// When it ends, use included; `None`: never.
    pub expiry_time: Option<Timestamp>,
}

impl TokenWithUsage {
    /// Joins the two and computes the expiry.
    pub fn new(token: Token, usage: Option<Usage>) -> Self {
        let outlived = token.max_age_seconds.map(|max_age| {
            let last_used = usage.as_ref().map_or(Timestamp(0), |usage| usage.last_used_time);
            let start =
                if token.extend_when_used { token.create_time.max(last_used) } else { token.create_time };
            Timestamp(start.0.saturating_add(max_age))
        });
        let expiry_time = match (outlived, token.end_time) {
            (Some(outlived), Some(end)) => Some(outlived.min(end)),
            (outlived, end) => outlived.or(end),
        };
        Self { token, usage, expiry_time }
    }
}

/// An entry of the event log: a change of the directory, or a login. Never with a secret in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Event {
    /// Its position in the log; grows with every entry.
    pub number: u64,
    /// When it happened.
    #[schema(value_type = String, format = DateTime)]
    pub event_time: Timestamp,
    /// Whose admins see it; `None`: only the operator does.
    pub organization_id: Option<String>,
    /// What happened, such as `token_revoked`.
    pub event_type: String,
    /// Through what: `api`, `login`, `command_line`, `configuration` or `system`.
    pub channel: String,
    /// Who did it, if a user is known.
    pub actor_user_id: Option<String>,
    /// Prefix of the token that it was done with.
    pub actor_token_prefix: Option<String>,
    /// From where.
    pub actor_address: Option<String>,
    /// Id of the request that asked for it.
    pub request_id: Option<String>,
    /// Kind of thing that it happened to, such as `token`.
    pub entity: String,
    /// Which one, such as a token prefix.
    pub entity_id: String,
    /// What differs, as it was; `null`: it was not there.
    #[schema(value_type = Option<Object>)]
    pub before: Option<serde_json::Value>,
    /// What differs, as it is; `null`: it is gone.
    #[schema(value_type = Option<Object>)]
    pub after: Option<serde_json::Value>,
}

/// Seconds since the Unix epoch, UTC; RFC 3339 wherever people see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u32);

impl Timestamp {
    /// The system clock's time.
    pub fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u32::try_from(since_epoch.as_secs()).unwrap_or(u32::MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(i64::from(self.0)) {
            Ok(time) => time.fmt(f),
            Err(_) => write!(f, "{}", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = text.parse::<jiff::Timestamp>().ok();
        let seconds = time.and_then(|time| u32::try_from(time.as_second()).ok());
        seconds.map(Self).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no time")))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Position in the directory's log of changes; grows with every change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Sequence(pub u64);

/// A new id: the prefix of its kind (`org`, `u`, `ug`, …) and twelve random hexadecimal digits.
pub fn new_id(prefix: &str) -> String {
    let mut random = [0; 6];
    getrandom::fill(&mut random).expect("the operating system has random bytes");
    let mut id = String::with_capacity(prefix.len() + 12);
    id.push_str(prefix);
    for byte in random {
        for digit in [byte >> 4, byte & 15] {
            id.push(char::from_digit(u32::from(digit), 16).expect("four bits are one hexadecimal digit"));
        }
    }
    id
}
