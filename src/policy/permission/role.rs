//! The roles of the policy's table: names for sets of permissions.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::{Permission, PermissionSet, unknown};

/// A named set of permissions. Aliases are roles of their own, so that a name reads back as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// `role:organization:admin`: everything in the organization, its own permissions too.
    OrganizationAdmin,
    /// `role:project:admin`: everything below the resource of the grant.
    ProjectAdmin,
    /// `admin`: the same as [`Role::ProjectAdmin`].
    Admin,
    /// `operator`: runs services.
    Operator,
    /// `developer`: uses services and their data.
    Developer,
    /// `read_only`: sees what there is.
    ReadOnly,
    /// `role:project:read`: the same as [`Role::ReadOnly`].
    ProjectRead,
    /// `role:services:maintenance`: configures services.
    ServicesMaintenance,
    /// `role:services:recover`: powers services on and off.
    ServicesRecover,
}

/// A name that is not the name of a role.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct UnknownRole(String);

impl Role {
    /// Every role, as in the policy's table.
    pub const ALL: [Self; 9] = [
        Self::OrganizationAdmin,
        Self::ProjectAdmin,
        Self::Admin,
        Self::Operator,
        Self::Developer,
        Self::ReadOnly,
        Self::ProjectRead,
        Self::ServicesMaintenance,
        Self::ServicesRecover,
    ];

    /// The name that configuration, API and documentation use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OrganizationAdmin => "role:organization:admin",
            Self::ProjectAdmin => "role:project:admin",
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Developer => "developer",
            Self::ReadOnly => "read_only",
            Self::ProjectRead => "role:project:read",
            Self::ServicesMaintenance => "role:services:maintenance",
            Self::ServicesRecover => "role:services:recover",
        }
    }

    /// What the role stands for.
    pub const fn permissions(self) -> PermissionSet {
        match self {
            Self::OrganizationAdmin => ORGANIZATION.union(PROJECT_AND_BELOW),
            Self::ProjectAdmin | Self::Admin => PROJECT_AND_BELOW,
            Self::Operator => OPERATOR,
            Self::Developer => DEVELOPER,
            Self::ReadOnly | Self::ProjectRead => READ_ONLY,
            Self::ServicesMaintenance => SERVICES_MAINTENANCE,
            Self::ServicesRecover => SERVICES_RECOVER,
        }
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        find_role(name).ok_or_else(|| UnknownRole(unknown("role", name, role_names())))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

pub(super) fn find_role(name: &str) -> Option<Role> {
    Role::ALL.into_iter().find(|role| role.as_str() == name)
}

pub(super) fn role_names() -> impl Iterator<Item = &'static str> {
    Role::ALL.into_iter().map(Role::as_str)
}

/// Every permission whose name begins with `project:` or `service:`: what is below any resource of a grant.
const PROJECT_AND_BELOW: PermissionSet = PermissionSet::of(&[
    Permission::ProjectAiGatewayKeysRead,
    Permission::ProjectAiGatewayKeysWrite,
    Permission::ProjectAuditLogsRead,
    Permission::ProjectEventLogsRead,
    Permission::ProjectIntegrationsRead,
    Permission::ProjectIntegrationsWrite,
    Permission::ProjectNetworkingRead,
    Permission::ProjectNetworkingWrite,
    Permission::ProjectPermissionsRead,
    Permission::ProjectServicesRead,
    Permission::ProjectServicesWrite,
    Permission::ServiceConfigurationWrite,
    Permission::ServiceDataWrite,
    Permission::ServiceLogsRead,
    Permission::ServiceMetricsRead,
    Permission::ServiceSecretsRead,
    Permission::ServiceUsersWrite,
]);

/// Every permission whose name begins with `organization:`.
const ORGANIZATION: PermissionSet = PermissionSet::of(&[
    Permission::OrganizationAppUsersWrite,
    Permission::OrganizationAuditLogsRead,
    Permission::OrganizationBillingRead,
    Permission::OrganizationBillingWrite,
    Permission::OrganizationDomainsWrite,
    Permission::OrganizationEventLogsRead,
    Permission::OrganizationGroupsWrite,
    Permission::OrganizationNetworkingRead,
    Permission::OrganizationNetworkingWrite,
    Permission::OrganizationProjectsWrite,
    Permission::OrganizationSustainabilityRead,
    Permission::OrganizationUsersWrite,
]);

const OPERATOR: PermissionSet = PermissionSet::of(&[
    Permission::ProjectEventLogsRead,
    Permission::ProjectIntegrationsRead,
    Permission::ProjectIntegrationsWrite,
    Permission::ProjectNetworkingRead,
    Permission::ProjectNetworkingWrite,
    Permission::ProjectPermissionsRead,
    Permission::ProjectServicesRead,
    Permission::ProjectServicesWrite,
    Permission::ServiceConfigurationWrite,
    Permission::ServiceLogsRead,
    Permission::ServiceMetricsRead,
    Permission::ServiceSecretsRead,
    Permission::ServiceUsersWrite,
]);

const DEVELOPER: PermissionSet = PermissionSet::of(&[
    Permission::ProjectEventLogsRead,
    Permission::ProjectIntegrationsRead,
    Permission::ProjectNetworkingRead,
    Permission::ProjectPermissionsRead,
    Permission::ProjectServicesRead,
    Permission::ServiceDataWrite,
    Permission::ServiceLogsRead,
    Permission::ServiceMetricsRead,
    Permission::ServiceSecretsRead,
    Permission::ServiceUsersWrite,
]);

const READ_ONLY: PermissionSet = PermissionSet::of(&[
    Permission::ProjectEventLogsRead,
    Permission::ProjectIntegrationsRead,
    Permission::ProjectPermissionsRead,
    Permission::ProjectServicesRead,
]);

const SERVICES_MAINTENANCE: PermissionSet =
    PermissionSet::of(&[Permission::ProjectServicesRead, Permission::ServiceConfigurationWrite]);

const SERVICES_RECOVER: PermissionSet =
    PermissionSet::of(&[Permission::ProjectServicesRead, Permission::ProjectServicesWrite]);
