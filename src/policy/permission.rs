//! Permissions, sets of them, and how lists of names, those of roles among them, become sets.
//!
//! The lists are closed: a name that is not here is refused where it is written, never ignored. Who holds what
//! is not known here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use role::{find_role, role_names};

mod role;

pub use role::{Role, UnknownRole};

/// Declares the closed list of permissions once: variants, names and [`Permission::ALL`] cannot drift apart.
macro_rules! permissions {
    ($($variant:ident = $name:literal,)+) => {
        /// One permission, such as `service:data:write`. Its number is its bit in a [`PermissionSet`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Permission {
            $(#[doc = concat!("`", $name, "`")] $variant,)+
        }

        impl Permission {
            /// Every permission, in the order of their numbers.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The name that configuration, API and documentation use.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

permissions! {
    OrganizationAppUsersWrite = "organization:app_users:write",
    OrganizationAuditLogsRead = "organization:audit_logs:read",
    OrganizationBillingRead = "organization:billing:read",
    OrganizationBillingWrite = "organization:billing:write",
    OrganizationDomainsWrite = "organization:domains:write",
    OrganizationEventLogsRead = "organization:event_logs:read",
    OrganizationGroupsWrite = "organization:groups:write",
    OrganizationNetworkingRead = "organization:networking:read",
    OrganizationNetworkingWrite = "organization:networking:write",
    OrganizationProjectsWrite = "organization:projects:write",
    OrganizationSustainabilityRead = "organization:sustainability:read",
    OrganizationUsersWrite = "organization:users:write",
    ProjectAiGatewayKeysRead = "project:ai_gateway_keys:read",
    ProjectAiGatewayKeysWrite = "project:ai_gateway_keys:write",
    ProjectAuditLogsRead = "project:audit_logs:read",
    ProjectEventLogsRead = "project:event_logs:read",
    ProjectIntegrationsRead = "project:integrations:read",
    ProjectIntegrationsWrite = "project:integrations:write",
    ProjectNetworkingRead = "project:networking:read",
    ProjectNetworkingWrite = "project:networking:write",
    ProjectPermissionsRead = "project:permissions:read",
    ProjectServicesRead = "project:services:read",
    ProjectServicesWrite = "project:services:write",
    ServiceConfigurationWrite = "service:configuration:write",
    ServiceDataWrite = "service:data:write",
    ServiceLogsRead = "service:logs:read",
    ServiceMetricsRead = "service:metrics:read",
    ServiceSecretsRead = "service:secrets:read",
    ServiceUsersWrite = "service:users:write",
    UserRead = "user:read",
    UserWrite = "user:write",
}

/// A set of permissions, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PermissionSet(u64);

/// A name in a grant that is neither a permission nor a role that can be granted. The message repeats the name,
/// control characters escaped, and has the nearest known one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct UnknownPermission(String);

/// A name in a token's scopes that is neither a permission, nor a role, nor `user:read` or `user:write`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct UnknownScope(String);

/// What can be granted: the union of the named permissions and roles, roles expanded.
///
/// `user:read` and `user:write` restrict a token but are nothing that anyone can grant, so they are unknown here.
///
/// # Errors
/// At the first name that cannot be granted.
pub fn expand<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Result<PermissionSet, UnknownPermission> {
    names.into_iter().try_fold(PermissionSet::EMPTY, |set, name| match find(name.as_ref()) {
        Some(found) if found.intersection(USER).is_empty() => Ok(set.union(found)),
        Some(scope) => Err(UnknownPermission(format!(
            "`{scope}` can be a token's scope but cannot be granted; grant a permission or role instead"
        ))),
        None => {
            let known = grantable_names().chain(role_names());
            Err(UnknownPermission(unknown("permission or role", name.as_ref(), known)))
        }
    })
}

/// What a token is restricted to: the union of the named permissions and roles, roles expanded, and of `user:read`
/// and `user:write`.
///
/// No names give the empty set, which as a restriction allows nothing: a token without scopes is one with no
/// restriction at all (`None` in [`super::TokenFacts`]), and only the caller knows which is meant.
///
/// # Errors
/// At the first unknown name.
pub fn scopes<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Result<PermissionSet, UnknownScope> {
    names.into_iter().try_fold(PermissionSet::EMPTY, |set, name| match find(name.as_ref()) {
        Some(found) => Ok(set.union(found)),
        None => Err(UnknownScope(unknown("scope", name.as_ref(), permission_names().chain(role_names())))),
    })
}

impl PermissionSet {
    /// No permission.
    pub const EMPTY: Self = Self(0);

    /// Every permission there is.
    pub const ALL: Self = Self::of(&Permission::ALL);

    /// The set of these permissions.
    pub const fn of(permissions: &[Permission]) -> Self {
        let mut set = Self::EMPTY;
        let mut rest = permissions;
        while let [first, others @ ..] = rest {
            set = set.with(*first);
            rest = others;
        }
        set
    }

    /// This set and one permission more.
    #[must_use]
    pub const fn with(self, permission: Permission) -> Self {
        Self(self.0 | 1 << permission as u8)
    }

    /// What is in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether the set has this permission.
    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u8) != 0
    }

    /// Whether the set has no permission.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The permissions of the set, in the order of [`Permission::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.into_iter().filter(move |permission| self.contains(*permission))
    }
}

/// The caller's own profile and tokens: scopes, and nothing that can be granted.
const USER: PermissionSet = PermissionSet::of(&[Permission::UserRead, Permission::UserWrite]);

/// What a name stands for, be it a permission's or a role's.
fn find(name: &str) -> Option<PermissionSet> {
    find_permission(name)
        .map(|permission| PermissionSet::EMPTY.with(permission))
        .or_else(|| find_role(name).map(Role::permissions))
}

fn find_permission(name: &str) -> Option<Permission> {
    Permission::ALL.into_iter().find(|permission| permission.as_str() == name)
}

fn permission_names() -> impl Iterator<Item = &'static str> {
    Permission::ALL.into_iter().map(Permission::as_str)
}

fn grantable_names() -> impl Iterator<Item = &'static str> {
    Permission::ALL.into_iter().filter(|permission| !USER.contains(*permission)).map(Permission::as_str)
}

/// No known name is half as long; a longer one is neither compared nor repeated in full.
const LONGEST_NAME_SHOWN: usize = 80;

/// How alike (0 to 1, Jaro-Winkler) a known name must be to be suggested.
const SUGGESTED_FROM: f64 = 0.8;

/// The message for a name that is not among the known ones. Quoted with control characters escaped: the name may
/// come from a request.
fn unknown(what: &str, name: &str, known: impl Iterator<Item = &'static str>) -> String {
    let shown: String = name.chars().take(LONGEST_NAME_SHOWN).collect();
    let nearest = known
        .map(|candidate| (strsim::jaro_winkler(&shown, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= SUGGESTED_FROM)
        .max_by(|left, right| left.0.total_cmp(&right.0));
    match nearest {
        Some((_, nearest)) => format!("unknown {what} {shown:?}; did you mean `{nearest}`?"),
        None => format!("unknown {what} {shown:?}; write a name such as `service:data:write` or `developer`"),
    }
}

impl FromStr for Permission {
    type Err = UnknownPermission;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        find_permission(name)
            .ok_or_else(|| UnknownPermission(unknown("permission", name, permission_names())))
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for PermissionSet {
    /// The names, separated by single spaces as in RFC 6750's `scope`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, permission) in self.iter().enumerate() {
            if position > 0 {
                f.write_str(" ")?;
            }
            f.write_str(permission.as_str())?;
        }
        Ok(())
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        permissions.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl Extend<Permission> for PermissionSet {
    fn extend<I: IntoIterator<Item = Permission>>(&mut self, permissions: I) {
        *self = permissions.into_iter().fold(*self, Self::with);
    }
}

impl From<Permission> for PermissionSet {
    fn from(permission: Permission) -> Self {
        Self::EMPTY.with(permission)
    }
}

impl Serialize for Permission {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Permission {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
