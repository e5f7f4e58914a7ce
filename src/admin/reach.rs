//! Whom a caller reaches that may change users or make tokens for them: without being an admin of the organization, only
//! who has nothing. Whoever could take over somebody with more rights would have them.
//!
//! It is asked in the change's own transaction: a right that was given a moment before counts.

use super::{Admin, Caller};
use crate::directory::OperationError;
use crate::directory::store::Records;
use crate::token::TokenKind;

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
        if has_nothing(records, user_id)? {
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

/// Refuses to reset how somebody logs in who has rights, unless the caller has logged in itself: what a token can do ends
/// with the token, and what it became by logging in as somebody else would not, nor stay within this organization.
pub(super) fn check_may_reset(
    caller: TokenKind,
    records: &dyn Records,
    user_id: &str,
) -> Result<(), OperationError> {
    if caller == TokenKind::Session || has_nothing(records, user_id)? {
        return Ok(());
    }
    Err(OperationError::Forbidden {
        code: "session_required",
        message: "This user is a super admin or has been granted something: only an admin who has logged in resets how \
                  they log in. Use the token of a session, or the command line beside the store."
            .to_owned(),
    })
}

fn has_nothing(records: &dyn Records, user_id: &str) -> Result<bool, OperationError> {
    let mut memberships = records.memberships(user_id)?.into_iter();
    let is_super_admin = memberships.any(|membership| membership.is_super_admin);
    Ok(!is_super_admin && records.grants_reaching(user_id)?.is_empty())
}
