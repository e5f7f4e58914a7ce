//! The directory in the store beside the command: its operations, called here.

use super::super::directory::Directory;
use super::super::failure::Failure;
use super::{
    Backend, InvitedPerson, Lockout, MadeToken, NamedToken, PersonEnded, PersonFacts, Place, PolicyInForce,
};
use crate::directory::OperationError;
use crate::directory::model::{
    Grant, Group, Invitation, Member, Principal, Resource, Timestamp, Token, TokenWithUsage, User,
};
use crate::directory::operations::{
    self, ApplicationUserUpdate, Assignment, AssignmentOperation, NewApplicationUser, NewToken, PolicyUpdate,
    Replacement,
};
use crate::policy::AuthenticationPolicy;
use crate::policy::facts::{UserKind, UserState};
use crate::token::format::PREFIX_LENGTH;

/// A configuration and its open store.
#[derive(Debug)]
pub(super) struct Local {
    directory: Directory,
}

impl Local {
    pub(super) fn new(directory: Directory) -> Self {
        Self { directory }
    }
}

impl Backend for Local {
    fn organization_id(&self) -> &str {
        self.directory.organization_id()
    }

    fn application_users(&self) -> Result<Vec<Member>, Failure> {
        let organization_id = self.organization_id();
        Ok(self
            .directory
            .store
            .read(|records| records.members(organization_id, UserKind::ApplicationUser))?)
    }

    fn users(&self) -> Result<Vec<Member>, Failure> {
        let organization_id = self.organization_id();
        Ok(self.directory.store.read(|records| {
            let mut users = records.members(organization_id, UserKind::ApplicationUser)?;
            users.extend(records.members(organization_id, UserKind::OrganizationUser)?);
            Ok(users)
        })?)
    }

    fn people(&self) -> Result<Vec<Member>, Failure> {
        let organization_id = self.organization_id();
        Ok(self
            .directory
            .store
            .read(|records| records.members(organization_id, UserKind::OrganizationUser))?)
    }

    fn groups(&self) -> Result<Vec<Group>, Failure> {
        Ok(self.directory.store.read(|records| records.groups(self.organization_id()))?)
    }

    fn projects(&self) -> Result<Vec<String>, Failure> {
        let projects = self.directory.store.read(|records| records.projects(self.organization_id()))?;
        Ok(projects.into_iter().map(|project| project.name).collect())
    }

    fn has_unit(&self, id: &str) -> Result<bool, Failure> {
        let units = self.directory.store.read(|records| records.units(self.organization_id()))?;
        Ok(units.iter().any(|unit| unit.id == id))
    }

    fn create_application_user(&self, new: &NewApplicationUser) -> Result<Member, Failure> {
        Ok(operations::create_application_user(&*self.directory.store, new, Timestamp::now())?.value)
    }

    fn update_application_user(&self, id: &str, update: &ApplicationUserUpdate) -> Result<Member, Failure> {
        Ok(operations::update_application_user(&*self.directory.store, id, update, Timestamp::now())?.value)
    }

    fn delete_application_user(&self, id: &str) -> Result<(), Failure> {
        operations::delete_user(&*self.directory.store, id, Timestamp::now())?;
        Ok(())
    }

    fn person_facts(&self, member: &Member) -> Result<PersonFacts, Failure> {
        let Member { user, .. } = member;
        Ok(self.directory.store.read(|records| {
            Ok(PersonFacts {
                has_password: records.password(&user.id)?.is_some(),
                two_factor_enabled: user.two_factor_enabled,
                last_activity_time: records.last_activity(&user.id)?,
            })
        })?)
    }

    fn set_user_state(&self, id: &str, state: UserState) -> Result<(), Failure> {
        operations::set_user_state(&*self.directory.store, id, state, Timestamp::now())?;
        Ok(())
    }

    fn set_super_admin(&self, id: &str, is_super_admin: bool) -> Result<(), Failure> {
        let (store, organization_id) = (&*self.directory.store, self.organization_id());
        operations::set_super_admin(store, id, organization_id, is_super_admin, Timestamp::now())?;
        Ok(())
    }

    fn delete_person(&self, member: &Member) -> Result<PersonEnded, Failure> {
        operations::delete_user(&*self.directory.store, &member.user.id, Timestamp::now())?;
        Ok(PersonEnded::Deleted)
    }

    fn invite(&self, email: &str) -> Result<InvitedPerson, Failure> {
        let (store, organization_id) = (&*self.directory.store, self.organization_id());
        let invited = operations::invite(store, organization_id, email, None, Timestamp::now())?.value;
        let Invitation { user_email, expiry_time, .. } = invited.invitation;
        Ok(InvitedPerson { user_email, expiry_time, code: invited.code })
    }

    fn reset_two_factor(&self, id: &str) -> Result<(), Failure> {
        operations::set_two_factor(&*self.directory.store, id, false, Timestamp::now())?;
        Ok(())
    }

    fn place(&self) -> Place<'_> {
        Place::Store(&self.directory)
    }

    fn tokens(&self, user_id: &str) -> Result<Vec<TokenWithUsage>, Failure> {
        let (user, tokens) =
            self.directory.store.read(|records| Ok((records.user(user_id)?, records.tokens(user_id)?)))?;
        Ok(tokens.into_iter().map(|token| as_of_user(token, user.as_ref())).collect())
    }

    fn token(&self, prefix: &str) -> Result<NamedToken, Failure> {
        let found = self.directory.store.read(|records| {
            let Some(token) = records.token(prefix)? else { return Ok(None) };
            let memberships = records.memberships(&token.token.user_id)?;
            let user = records.user(&token.token.user_id)?;
            // Who has been deleted is a member of nothing any more, but was managed by the organization.
            let is_ours = memberships
                .iter()
                .map(|membership| membership.organization_id.as_str())
                .chain(user.as_ref().and_then(|user| user.managing_organization_id.as_deref()))
                .any(|organization_id| organization_id == self.organization_id());
            let token = as_of_user(token, user.as_ref());
            Ok(is_ours.then_some((token, user.map_or_else(String::new, |user| user.name))))
        })?;
        let (token, user_name) = found.ok_or_else(|| {
            let id = prefix.chars().take(PREFIX_LENGTH).collect();
            Failure::from(OperationError::NotFound { entity: "token", id })
        })?;
        Ok(NamedToken { token, user_name })
    }

    fn create_token(&self, new: &NewToken) -> Result<MadeToken, Failure> {
        let made = operations::create_token(&*self.directory.store, new, Timestamp::now())?.value;
        Ok(MadeToken { full: made.fresh.full, token: TokenWithUsage::new(made.token, None) })
    }

    fn rotate_token(&self, old: &Token, overlap_seconds: u32) -> Result<MadeToken, Failure> {
        let (store, prefix) = (&*self.directory.store, &old.token_prefix);
        let replacement = Replacement { overlap_seconds, latest_end_time: None };
        let made = operations::rotate_token(store, prefix, replacement, Timestamp::now())?.value.created;
        Ok(MadeToken { full: made.fresh.full, token: TokenWithUsage::new(made.token, None) })
    }

    fn revoke_token(&self, prefix: &str) -> Result<(), Failure> {
        // Another organization's tokens are none of this command's business.
        self.token(prefix)?;
        operations::revoke_token(&*self.directory.store, prefix, Timestamp::now())?;
        Ok(())
    }

    fn policy(&self) -> Result<PolicyInForce, Failure> {
        policy_of_store(&self.directory)
    }

    fn set_policy(&self, update: &PolicyUpdate, _: Lockout) -> Result<AuthenticationPolicy, Failure> {
        let config = &self.directory.config;
        if config.organization.authentication.is_some() {
            return Err(Failure::Failed(format!(
                "the policy is pinned by {}: change [organization.authentication] there, or remove that table to let \
                 the store's policy rule; nothing was changed",
                config.file.display()
            )));
        }
        let store = &*self.directory.store;
        Ok(operations::set_policy(store, self.organization_id(), update, Timestamp::now())?.value)
    }

    fn grants(&self, resource: &Resource) -> Result<Vec<Grant>, Failure> {
        Ok(operations::list_grants(&*self.directory.store, resource)?)
    }

    fn change_grant(
        &self,
        principal: &Principal,
        resource: &Resource,
        operation: AssignmentOperation,
        names: &[String],
    ) -> Result<Grant, Failure> {
        let store = &*self.directory.store;
        let assignment = Assignment { principal: principal.clone(), names: names.to_vec() };
        let now = Timestamp::now();
        let grants = operations::change_grants(store, resource, operation, &[assignment], now)?.value;
        Ok(super::grant_of(grants, principal, resource, now))
    }
}

/// The policy in force of a configuration's organization.
pub(in crate::cli) fn policy_of_store(directory: &Directory) -> Result<PolicyInForce, Failure> {
    let config = &directory.config;
    if let Some(policy) = config.organization.authentication.clone() {
        return Ok(PolicyInForce { policy, pinned_by: Some(config.file.clone()) });
    }
    let id = directory.organization_id();
    let organization = directory.store.read(|records| records.organization(id))?;
    let policy = organization.and_then(|organization| organization.authentication_policy);
    let policy = policy.ok_or_else(|| {
        Failure::Failed(format!(
            "the stored policy of organization {id:?} cannot be read, and all its requests are refused: set it anew \
             with `postern policy set`; what is not named there becomes as in a new organization"
        ))
    })?;
    Ok(PolicyInForce { policy, pinned_by: None })
}

/// Revoked if all the user's tokens were ended since it was made.
fn as_of_user(token: TokenWithUsage, user: Option<&User>) -> TokenWithUsage {
    match user {
        Some(user) => token.of(user),
        None => token,
    }
}
