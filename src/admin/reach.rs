//! Whom a caller reaches that may change users or make tokens for them: without being an admin of the organization, only
//! who has nothing. Whoever could take over somebody with more rights would have them.
//!
//! It is asked in the change's own transaction: a right that was given a moment before counts.

use super::{Admin, Caller};
use crate::directory::OperationError;
use crate::directory::store::Records;

/// Whom a caller reaches in an organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// An admin: everybody.
    Everybody,
    /// Anybody else: who is no super admin and has been granted nothing.
    WhoHasNothing,
}

impl Reach {
    /// How far this caller reaches.
    pub(super) fn of(admin: &Admin, caller: &Caller, organization_id: &str) -> Self {
        match caller.require_organization_admin(admin, organization_id) {
            Ok(()) => Self::Everybody,
            Err(_refusal) => Self::WhoHasNothing,
        }
    }

    /// Refuses what is beyond it.
    pub(super) fn check(self, records: &dyn Records, user_id: &str) -> Result<(), OperationError> {
        if self == Self::Everybody {
            return Ok(());
        }
        let mut memberships = records.memberships(user_id)?.into_iter();
        let is_super_admin = memberships.any(|membership| membership.is_super_admin);
        if !is_super_admin && records.grants_reaching(user_id)?.is_empty() {
            return Ok(());
        }
        Err(OperationError::Forbidden {
            code: "user_has_more_than_caller",
            message:
                "This user is a super admin or has been granted something: only an admin of the organization \
                      changes it or makes tokens for it."
                    .to_owned(),
        })
    }
}
