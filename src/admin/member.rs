//! A member of an organization in the form in which the API shows organization users, members of groups too.

use serde::Serialize;
use utoipa::ToSchema;

use super::Admin;
use crate::directory::StoreError;
use crate::directory::model::{Member, Timestamp, TokenWithUsage, Word as _};
use crate::directory::store::Records;
use crate::policy::facts::{UserKind, UserState};

/// A member of the organization.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = OrganizationUser)]
pub(super) struct ShownMember {
    #[schema(example = "u1a2b3c4d5e6f")]
    user_id: String,
    /// Whether it holds every permission in the organization.
    is_super_admin: bool,
    #[schema(value_type = String, format = DateTime)]
    join_time: Timestamp,
    /// When one of its tokens was used last.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_activity_time: Option<Timestamp>,
    user_info: UserInfo,
}

/// The user itself.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct UserInfo {
    user_email: String,
    real_name: String,
    /// `active` or `deactivated`.
    #[schema(value_type = String)]
    state: &'static str,
    is_application_user: bool,
    managed_by_scim: bool,
    managing_organization_id: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    create_time: Timestamp,
}

/// What the store has of a member.
#[derive(Debug)]
pub(super) struct StoredMember {
    pub(super) member: Member,
    pub(super) tokens: Vec<TokenWithUsage>,
}

/// The member of this organization with this id; `None` if there is none.
pub(super) fn find(
    records: &dyn Records,
    organization_id: &str,
    user_id: &str,
) -> Result<Option<StoredMember>, StoreError> {
    let user = records.user(user_id)?.filter(|user| user.state != UserState::Deleted);
    let mut memberships = records.memberships(user_id)?.into_iter();
    let membership = memberships.find(|membership| membership.organization_id == organization_id);
    let Some((user, membership)) = user.zip(membership) else { return Ok(None) };
    let member = Member { user, is_super_admin: membership.is_super_admin, join_time: membership.join_time };
    Ok(Some(StoredMember { member, tokens: records.tokens(user_id)? }))
}

impl ShownMember {
    /// With the last activity as it is in memory, which may be ahead of the store.
    pub(super) fn new(admin: &Admin, stored: StoredMember) -> Self {
        let StoredMember { member: Member { user, is_super_admin, join_time }, tokens } = stored;
        let uses = tokens.iter().flat_map(|stored| {
            let noted = admin.shared.directory.tokens.find(&stored.token.digest);
            let noted = noted.and_then(|entry| entry.last_used_at()).map(Timestamp);
            noted.into_iter().chain(stored.usage.as_ref().map(|usage| usage.last_used_time))
        });
        Self {
            is_super_admin,
            join_time,
            last_activity_time: uses.max(),
            user_info: UserInfo {
                user_email: user.email,
                real_name: user.name,
                state: user.state.word(),
                is_application_user: user.kind == UserKind::ApplicationUser,
                managed_by_scim: false,
                managing_organization_id: user.managing_organization_id,
                create_time: user.create_time,
            },
            user_id: user.id,
        }
    }
}
