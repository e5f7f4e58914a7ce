//! The directory behind a running sidecar's management API: each of a command's questions is one request, or a few.

use http::{Method, StatusCode};
use secrecy::SecretString;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};

use super::super::failure::Failure;
use super::api::{Api, Refusal, Unanswered};
use super::{
    Backend, InvitedPerson, Lockout, MadeToken, NamedToken, PersonEnded, PersonFacts, Place, PolicyInForce,
    wire,
};
use crate::directory::OperationError;
use crate::directory::model::{
    Grant, Group, Member, Principal, Resource, Timestamp, Token, TokenWithUsage, Word as _,
};
use crate::directory::operations::{
    ApplicationUserUpdate, AssignmentOperation, NewApplicationUser, NewToken, PolicyUpdate,
};
use crate::policy::AuthenticationPolicy;
use crate::policy::facts::{UserKind, UserState};
use crate::token::format::PREFIX_LENGTH;

/// A management API and one organization.
#[derive(Debug)]
pub(in crate::cli) struct Remote {
    api: Api,
    organization_id: String,
}

impl Remote {
    /// For the organization that was named, else the only one that the token's user is in.
    pub(super) fn new(api: Api) -> Result<Self, Failure> {
        if let Some(organization_id) = api.organization_id.clone() {
            return Ok(Self { api, organization_id });
        }
        let answer: wire::Organizations = api.ask(Method::GET, &["organizations"], &[], None)?;
        let mut ids: Vec<String> =
            answer.organizations.into_iter().map(|organization| organization.organization_id).collect();
        match (ids.pop(), ids.is_empty()) {
            (Some(organization_id), true) => Ok(Self { api, organization_id }),
            (Some(last), false) => {
                ids.push(last);
                let ids = ids.join(", ");
                Err(Failure::Usage(format!(
                    "say which organization, by --organization-id; the token's user is in {ids}"
                )))
            }
            (None, _) => Err(Failure::Failed(format!(
                "the token's user is in no organization of {}, or none lets it in from here",
                api.url()
            ))),
        }
    }

    /// Asks for something of the organization.
    fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<T, Unanswered> {
        self.ask_with(method, path, &[], body)
    }

    /// The same with query parameters.
    pub(in crate::cli) fn ask_with<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<T, Unanswered> {
        self.api.ask(method, &[&["organization", self.organization_id.as_str()], path].concat(), query, body)
    }

    /// The API as such, for what is no organization's.
    pub(in crate::cli) fn api(&self) -> &Api {
        &self.api
    }
}

impl Backend for Remote {
    fn organization_id(&self) -> &str {
        &self.organization_id
    }

    fn application_users(&self) -> Result<Vec<Member>, Failure> {
        let answer: wire::ApplicationUsers = self.ask(Method::GET, &["application-users"], None)?;
        Ok(answer.application_users.into_iter().map(|user| user.into_member(&self.organization_id)).collect())
    }

    fn users(&self) -> Result<Vec<Member>, Failure> {
        let mut users = self.application_users()?;
        users.extend(self.people()?);
        Ok(users)
    }

    fn people(&self) -> Result<Vec<Member>, Failure> {
        let answer: wire::OrganizationUsers = self.ask(Method::GET, &["user"], None)?;
        let people = answer.users.into_iter().map(Member::from);
        Ok(people.filter(|member| member.user.kind == UserKind::OrganizationUser).collect())
    }

    fn groups(&self) -> Result<Vec<Group>, Failure> {
        let answer: wire::Groups = self.ask(Method::GET, &["user-groups"], None)?;
        Ok(answer.user_groups.into_iter().map(|group| group.into_group(&self.organization_id)).collect())
    }

    fn projects(&self) -> Result<Vec<String>, Failure> {
        let answer: wire::Projects = self.api.ask(Method::GET, &["project"], &[], None)?;
        let own = answer.projects.into_iter().filter(|one| one.organization_id == self.organization_id);
        Ok(own.map(|project| project.project_name).collect())
    }

    fn has_unit(&self, id: &str) -> Result<bool, Failure> {
        match self.ask::<IgnoredAny>(Method::GET, &["permissions", "organization_unit", id], None) {
            Ok(_) => Ok(true),
            Err(Unanswered::Refused(Refusal { status: StatusCode::NOT_FOUND, .. })) => Ok(false),
            Err(unanswered) => Err(unanswered.into()),
        }
    }

    fn create_application_user(&self, new: &NewApplicationUser) -> Result<Member, Failure> {
        let body = json!({
            "name": new.name,
            "description": new.description,
            "is_super_admin": new.is_super_admin,
        });
        let made: wire::ApplicationUser = self.ask(Method::POST, &["application-users"], Some(&body))?;
        Ok(made.into_member(&self.organization_id))
    }

    fn update_application_user(&self, id: &str, update: &ApplicationUserUpdate) -> Result<Member, Failure> {
        let body = json!({
            "name": update.name,
            "description": update.description,
            "is_super_admin": update.is_super_admin,
        });
        let changed: wire::ApplicationUser =
            self.ask(Method::PATCH, &["application-users", id], Some(&body))?;
        Ok(changed.into_member(&self.organization_id))
    }

    fn delete_application_user(&self, id: &str) -> Result<(), Failure> {
        Ok(self.ask(Method::DELETE, &["application-users", id], None)?)
    }

    fn person_facts(&self, member: &Member) -> Result<PersonFacts, Failure> {
        let id = &member.user.id;
        let user: wire::OrganizationUser = self.ask(Method::GET, &["user", id], None)?;
        let answer: wire::Methods = self.ask(Method::GET, &["user", id, "authentication_methods"], None)?;
        let password = answer.authentication_methods.into_iter().find(wire::UserMethod::is_password);
        Ok(PersonFacts {
            has_password: password.is_some(),
            two_factor_enabled: password.is_some_and(|password| password.is_enabled_2fa.unwrap_or(false)),
            last_activity_time: user.last_activity_time,
        })
    }

    fn set_user_state(&self, id: &str, state: UserState) -> Result<(), Failure> {
        let body = json!({ "state": state.word() });
        let IgnoredAny = self.ask(Method::PATCH, &["user", id], Some(&body))?;
        Ok(())
    }

    fn set_super_admin(&self, id: &str, is_super_admin: bool) -> Result<(), Failure> {
        let body = json!({ "is_super_admin": is_super_admin });
        let IgnoredAny = self.ask(Method::PATCH, &["user", id], Some(&body))?;
        Ok(())
    }

    fn delete_person(&self, member: &Member) -> Result<PersonEnded, Failure> {
        let IgnoredAny = self.ask(Method::DELETE, &["user", &member.user.id], None)?;
        let is_managed = member.user.managing_organization_id.as_ref() == Some(&self.organization_id);
        Ok(if is_managed { PersonEnded::Deleted } else { PersonEnded::Removed })
    }

    fn invite(&self, email: &str) -> Result<InvitedPerson, Failure> {
        let body = json!({ "user_email": email });
        let made: wire::CreatedInvitation = self.ask(Method::POST, &["invitation"], Some(&body))?;
        let wire::Invitation { user_email, expiry_time } = made.invitation;
        Ok(InvitedPerson { user_email, expiry_time, code: made.code.map(SecretString::from) })
    }

    fn reset_two_factor(&self, id: &str) -> Result<(), Failure> {
        let IgnoredAny = self.ask(Method::POST, &["user", id, "reset_two_factor"], Some(&json!({})))?;
        Ok(())
    }

    fn place(&self) -> Place<'_> {
        Place::Api(self)
    }

    fn tokens(&self, user_id: &str) -> Result<Vec<TokenWithUsage>, Failure> {
        let path = ["organization", &self.organization_id, "tokens"];
        let query = [("user_id", user_id), ("include_ended", "true")];
        match self.api.ask::<wire::Tokens>(Method::GET, &path, &query, None) {
            Ok(answer) => Ok(answer.tokens.into_iter().map(wire::OwnedToken::into_token).collect()),
            // A person's whose tokens are not the caller's to see: a list of everybody's goes on without them.
            Err(Unanswered::Refused(Refusal { status: StatusCode::FORBIDDEN, .. })) => Ok(Vec::new()),
            Err(unanswered) => Err(unanswered.into()),
        }
    }

    fn token(&self, prefix: &str) -> Result<NamedToken, Failure> {
        match self.ask::<wire::OwnedToken>(Method::GET, &["tokens", prefix], None) {
            Ok(found) => {
                let user_name = found.user_name.clone();
                Ok(NamedToken { token: found.into_token(), user_name })
            }
            // With the words of a command, which say where to look.
            Err(Unanswered::Refused(Refusal { status: StatusCode::NOT_FOUND, .. })) => {
                let id = prefix.chars().take(PREFIX_LENGTH).collect();
                Err(OperationError::NotFound { entity: "token", id }.into())
            }
            Err(unanswered) => Err(unanswered.into()),
        }
    }

    fn create_token(&self, new: &NewToken) -> Result<MadeToken, Failure> {
        let body = json!({
            "description": new.description,
            "max_age_seconds": new.max_age_seconds,
            "extend_when_used": new.extend_when_used,
            "ip_allowlist": new.ip_allowlist,
            "scopes": new.scopes,
        });
        let path = ["application-users", &new.user_id, "access-tokens"];
        let mut made: wire::CreatedToken = self.ask(Method::POST, &path, Some(&body))?;
        let full = std::mem::take(&mut made.full_token).into();
        Ok(MadeToken { full, token: made.into_token(&new.user_id) })
    }

    fn rotate_token(&self, old: &Token, overlap_seconds: u32) -> Result<MadeToken, Failure> {
        let body = json!({ "overlap_seconds": overlap_seconds });
        let path = ["application-users", &old.user_id, "access-tokens", &old.token_prefix, "rotate"];
        let mut made: wire::CreatedToken = self.ask(Method::POST, &path, Some(&body))?;
        let full = std::mem::take(&mut made.full_token).into();
        Ok(MadeToken { full, token: made.into_token(&old.user_id) })
    }

    fn revoke_token(&self, prefix: &str) -> Result<(), Failure> {
        let IgnoredAny = self.ask(Method::DELETE, &["tokens", prefix], None)?;
        Ok(())
    }

    fn policy(&self) -> Result<PolicyInForce, Failure> {
        let policy = self.ask(Method::GET, &["config", "authentication"], None)?;
        Ok(PolicyInForce { policy, pinned_by: None })
    }

    fn set_policy(&self, update: &PolicyUpdate, lockout: Lockout) -> Result<AuthenticationPolicy, Failure> {
        let body = serde_json::to_value(update).map_err(Failure::failed)?;
        let query: &[(&str, &str)] = match lockout {
            Lockout::Refused => &[],
            Lockout::Meant => &[("confirm_lockout", "true")],
        };
        Ok(self.ask_with(Method::PATCH, &["config", "authentication"], query, Some(&body))?)
    }

    fn grants(&self, resource: &Resource) -> Result<Vec<Grant>, Failure> {
        let (kind, id) = kind_and_id(resource);
        let answer: wire::Grants = self.ask(Method::GET, &["permissions", kind, id], None)?;
        Ok(answer.on(resource))
    }

    fn change_grant(
        &self,
        principal: &Principal,
        resource: &Resource,
        operation: AssignmentOperation,
        names: &[String],
    ) -> Result<Grant, Failure> {
        let (kind, id) = kind_and_id(resource);
        let (principal_type, principal_id) = match principal {
            Principal::User(id) => ("user", id),
            Principal::UserGroup(id) => ("user_group", id),
        };
        let operation = match operation {
            AssignmentOperation::Set => "set",
            AssignmentOperation::Grant => "grant",
            AssignmentOperation::Revoke => "revoke",
        };
        let body = json!({
            "operation": operation,
            "permissions": [{
                "principal_type": principal_type,
                "principal_id": principal_id,
                "permissions": names,
            }],
        });
        let answer: wire::Grants = self.ask(Method::PATCH, &["permissions", kind, id], Some(&body))?;
        Ok(super::grant_of(answer.on(resource), principal, resource, Timestamp::now()))
    }
}

fn kind_and_id(resource: &Resource) -> (&'static str, &str) {
    match resource {
        Resource::Organization(id) => ("organization", id),
        Resource::OrganizationUnit(id) => ("organization_unit", id),
        Resource::Project(name) => ("project", name),
    }
}
