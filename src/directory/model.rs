//! The directory's durable records, plain values with ids as Aiven has them.
//!
//! What must not live here: how records are stored ([`super::store`]), when they may change
//! ([`super::operations`]), or what workers see of them ([`super::view`]).

mod identity_providers;
mod people;
mod time;
mod tokens;
mod words;

use serde::{Deserialize, Serialize};

use crate::policy::AuthenticationPolicy;
use crate::policy::facts::{UserKind, UserState};

pub use identity_providers::{IdentityProvider, IdentityProviderKind, ProviderSettings, SamlSettings};
pub use people::{Invitation, PasswordRecord, PasswordReset, TotpRecord};
pub use time::Timestamp;
pub use tokens::{Token, TokenState, TokenWithUsage, Usage};
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
