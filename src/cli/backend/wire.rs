//! What the management API answers, as commands read it: only the fields that they need, into the directory's own types.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer};

use crate::directory::model::{
    Grant, Group, Member, Principal, Resource, Timestamp, Token, TokenWithUsage, Usage, User, Word,
};
use crate::policy::facts::{UserKind, UserState};
use crate::token::{TokenDigest, TokenKind};

#[derive(Debug, Deserialize)]
pub(super) struct Organizations {
    pub(super) organizations: Vec<Organization>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Organization {
    pub(super) organization_id: String,
}

/// Its code opens an account: it has no `Debug`.
#[derive(Deserialize)]
pub(super) struct CreatedInvitation {
    pub(super) invitation: Invitation,
    pub(super) code: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Invitation {
    pub(super) user_email: String,
    pub(super) expiry_time: Timestamp,
}

#[derive(Debug, Deserialize)]
pub(super) struct Projects {
    pub(super) projects: Vec<Project>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Project {
    pub(super) project_name: String,
    pub(super) organization_id: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct ApplicationUsers {
    pub(super) application_users: Vec<ApplicationUser>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ApplicationUser {
    user_id: String,
    name: String,
    description: String,
    user_email: String,
    is_super_admin: bool,
    #[serde(deserialize_with = "word")]
    state: UserState,
    create_time: Timestamp,
}

impl ApplicationUser {
    pub(super) fn into_member(self, organization_id: &str) -> Member {
        Member {
            user: User {
                id: self.user_id,
                kind: UserKind::ApplicationUser,
                email: self.user_email,
                name: self.name,
                description: self.description,
                state: self.state,
                two_factor_enabled: false,
                token_validity_begin: Timestamp(0),
                managing_organization_id: Some(organization_id.to_owned()),
                create_time: self.create_time,
            },
            is_super_admin: self.is_super_admin,
            join_time: self.create_time,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct OrganizationUsers {
    pub(super) users: Vec<OrganizationUser>,
}

#[derive(Debug, Deserialize)]
pub(super) struct OrganizationUser {
    user_id: String,
    is_super_admin: bool,
    join_time: Timestamp,
    pub(super) last_activity_time: Option<Timestamp>,
    user_info: UserInfo,
}

#[derive(Debug, Deserialize)]
struct UserInfo {
    user_email: String,
    real_name: String,
    #[serde(deserialize_with = "word")]
    state: UserState,
    is_application_user: bool,
    managing_organization_id: Option<String>,
    create_time: Timestamp,
}

impl From<OrganizationUser> for Member {
    fn from(member: OrganizationUser) -> Self {
        let OrganizationUser { user_id, is_super_admin, join_time, user_info: user, .. } = member;
        let kind =
            if user.is_application_user { UserKind::ApplicationUser } else { UserKind::OrganizationUser };
        Self {
            user: User {
                id: user_id,
                kind,
                email: user.user_email,
                name: user.real_name,
                description: String::new(),
                state: user.state,
                two_factor_enabled: false,
                token_validity_begin: Timestamp(0),
                managing_organization_id: user.managing_organization_id,
                create_time: user.create_time,
            },
            is_super_admin,
            join_time,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Methods {
    pub(super) authentication_methods: Vec<UserMethod>,
}

/// A person's way to log in.
#[derive(Debug, Deserialize)]
pub(super) struct UserMethod {
    method_type: String,
    pub(super) is_enabled_2fa: Option<bool>,
}

impl UserMethod {
    pub(super) fn is_password(&self) -> bool {
        self.method_type == "password"
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Groups {
    pub(super) user_groups: Vec<UserGroup>,
}

#[derive(Debug, Deserialize)]
pub(super) struct UserGroup {
    user_group_id: String,
    user_group_name: String,
    description: String,
    managed_by_scim: bool,
    create_time: Timestamp,
    update_time: Timestamp,
}

impl UserGroup {
    pub(super) fn into_group(self, organization_id: &str) -> Group {
        Group {
            id: self.user_group_id,
            organization_id: organization_id.to_owned(),
            name: self.user_group_name,
            description: self.description,
            managed_by_scim: self.managed_by_scim,
            create_time: self.create_time,
            update_time: self.update_time,
        }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Grants {
    permissions: Vec<WireGrant>,
}

#[derive(Debug, Deserialize)]
struct WireGrant {
    principal_id: String,
    principal_type: PrincipalType,
    permissions: Vec<String>,
    create_time: Timestamp,
    update_time: Timestamp,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PrincipalType {
    User,
    UserGroup,
}

impl Grants {
    pub(super) fn on(self, resource: &Resource) -> Vec<Grant> {
        let grant = |grant: WireGrant| Grant {
            principal: match grant.principal_type {
                PrincipalType::User => Principal::User(grant.principal_id),
                PrincipalType::UserGroup => Principal::UserGroup(grant.principal_id),
            },
            resource: resource.clone(),
            permissions: grant.permissions,
            create_time: grant.create_time,
            update_time: grant.update_time,
        };
        self.permissions.into_iter().map(grant).collect()
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Tokens {
    pub(super) tokens: Vec<OwnedToken>,
}

/// A token with whose it is.
#[derive(Debug, Deserialize)]
pub(super) struct OwnedToken {
    user_id: String,
    pub(super) user_name: String,
    #[serde(deserialize_with = "word")]
    kind: TokenKind,
    revoked_time: Option<Timestamp>,
    #[serde(flatten)]
    token: WireToken,
}

/// A token just made. It cannot be printed.
#[derive(Deserialize)]
pub(super) struct CreatedToken {
    pub(super) full_token: String,
    #[serde(flatten)]
    token: WireToken,
}

#[derive(Debug, Deserialize)]
struct WireToken {
    token_prefix: String,
    description: String,
    create_time: Timestamp,
    created_manually: bool,
    expiry_time: Option<Timestamp>,
    max_age_seconds: Option<u32>,
    extend_when_used: bool,
    ip_allowlist: Vec<String>,
    scopes: Vec<String>,
    last_used_time: Option<Timestamp>,
    last_ip: Option<IpAddr>,
    last_user_agent: Option<String>,
    request_count: u64,
    /// An older sidecar does not say.
    #[serde(default)]
    successor_prefix: Option<String>,
}

impl OwnedToken {
    pub(super) fn into_token(self) -> TokenWithUsage {
        self.token.into_token(self.user_id, self.kind, self.revoked_time)
    }
}

impl CreatedToken {
    pub(super) fn into_token(self, user_id: &str) -> TokenWithUsage {
        self.token.into_token(user_id.to_owned(), TokenKind::Application, None)
    }
}

impl WireToken {
    fn into_token(self, user_id: String, kind: TokenKind, revoked_time: Option<Timestamp>) -> TokenWithUsage {
        let usage = self.last_used_time.map(|last_used_time| Usage {
            last_used_time,
            last_ip: self.last_ip,
            last_user_agent: self.last_user_agent,
            request_count: self.request_count,
        });
        let token = Token {
            number: 0,
            token_prefix: self.token_prefix,
            // The API tells nobody.
            digest: TokenDigest::from_bytes([0; 32]),
            user_id,
            kind,
            description: self.description,
            create_time: self.create_time,
            created_manually: self.created_manually,
            imported: false,
            max_age_seconds: self.max_age_seconds,
            extend_when_used: self.extend_when_used,
            ip_allowlist: self.ip_allowlist,
            scopes: self.scopes,
            authentication_method_id: None,
            end_time: None,
            successor_prefix: self.successor_prefix,
            revoked_time,
        };
        TokenWithUsage { token, usage, expiry_time: self.expiry_time }
    }
}

fn word<'de, T: Word, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    T::from_word(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not known")))
}
