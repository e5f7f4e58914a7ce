//! Permissions, sets of them, and the roles that stand for sets. To be filled: the closed list of permissions.

/// One permission, such as `service:data:write`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Permission {
    /// Write a service's data.
    ServiceDataWrite,
}

/// A set of permissions, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PermissionSet(u64);

/// A named set of permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// `admin`.
    Admin,
}

impl PermissionSet {
    /// No permission.
    pub const EMPTY: Self = Self(0);

    /// Whether the set has this permission.
    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u8) != 0
    }
}
