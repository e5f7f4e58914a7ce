//! Changing the directory in SQLite. Every statement that a sidecar must hear of is followed, in the same
//! transaction, by its entries in the log of changes; nothing outside this file writes to the directory's tables.

use std::ops::Deref;

use rusqlite::{Connection, Params, params};

use super::events::{Membership, Record};
use super::failure::Failures;
use super::read::Reader;
use super::rows::{
    self, json_column, list_column, optional_list_column, principal_columns, resource_columns,
};
use crate::directory::author::Author;
use crate::directory::error::StoreError;
use crate::directory::model::{
    AuthenticationMethod, Domain, Grant, Group, IdentityProvider, MembershipRecord, Organization,
    OrganizationalUnit, Principal, Project, Resource, Timestamp, Token, User, Word,
};
use crate::directory::store::{Changes, NewEvent, Records};

/// A transaction to write in.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    reader: Reader<'a>,
    pub(super) author: &'a Author,
    pub(super) now: Timestamp,
}

impl<'a> Deref for Writer<'a> {
    type Target = Reader<'a>;

    fn deref(&self) -> &Reader<'a> {
        &self.reader
    }
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        failures: &'a Failures,
        author: &'a Author,
        now: Timestamp,
    ) -> Self {
        Self { reader: Reader::new(connection, failures), author, now }
    }

    pub(super) fn execute(&self, sql: &str, params: impl Params) -> Result<usize, StoreError> {
        let run = || self.connection.prepare_cached(sql)?.execute(params);
        run().map_err(|error| self.failures.of(error))
    }

    fn log(&self, entity: &str, id: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO changes (entity, entity_id, change_time) VALUES (?1, ?2, ?3)";
        self.execute(sql, params![entity, id, self.now.0])?;
        Ok(())
    }

    fn log_users(&self, ids: Vec<String>) -> Result<(), StoreError> {
        ids.iter().try_for_each(|id| self.log("user", id))
    }

    fn log_principals(&self, grants: &[Grant]) -> Result<(), StoreError> {
        grants.iter().try_for_each(|grant| self.log_principal(&grant.principal))
    }

    fn log_principal(&self, principal: &Principal) -> Result<(), StoreError> {
        match principal {
            Principal::User(id) => self.log("user", id),
            Principal::UserGroup(id) => self.log("group", id),
        }
    }

    fn delete_grants_on(&self, resource: &Resource) -> Result<(), StoreError> {
        let grants = self.grants_on(resource)?;
        self.log_principals(&grants)?;
        grants.iter().try_for_each(|grant| self.note_grant(Some(grant), None))?;
        let (kind, id) = resource_columns(resource);
        self.execute("DELETE FROM grants WHERE resource_type = ?1 AND resource_id = ?2", [kind, id])?;
        Ok(())
    }

    fn membership(
        &self,
        user_id: &str,
        organization_id: &str,
    ) -> Result<Option<MembershipRecord>, StoreError> {
        let memberships = self.memberships(user_id)?;
        Ok(memberships.into_iter().find(|membership| membership.organization_id == organization_id))
    }

    /// Revokes the tokens that are bound to methods about to go. Those revoked before lose their binding, which is a
    /// change too.
    fn revoke_bound(&self, condition: &str, id: &str) -> Result<usize, StoreError> {
        let sql = format!("SELECT number FROM tokens WHERE revoked_time IS NOT NULL AND ({condition})");
        let before: Vec<u32> = self.all(&sql, [id], |row| row.get(0))?;
        before.iter().try_for_each(|number| self.log("token", &number.to_string()))?;
        self.revoke_where(condition, params![id, self.now.0])
    }

    /// Revokes the tokens that are not revoked and meet the condition; the last parameter is the time.
    pub(super) fn revoke_where(&self, condition: &str, params: impl Params) -> Result<usize, StoreError> {
        let sql = format!(
            "UPDATE tokens SET revoked_time = ?2 WHERE revoked_time IS NULL AND ({condition}) RETURNING number"
        );
        let revoked: Vec<u32> = self.all(&sql, params, |row| row.get(0))?;
        for number in &revoked {
            self.log("token", &number.to_string())?;
            self.note_revocation(*number)?;
        }
        Ok(revoked.len())
    }
}

impl Changes for Writer<'_> {
    fn records(&self) -> &dyn Records {
        &self.reader
    }

    fn put_organization(&self, organization: &Organization) -> Result<(), StoreError> {
        self.note_organization(self.organization(&organization.id)?.as_ref(), organization)?;
        let policy =
            organization.authentication_policy.as_ref().and_then(|policy| serde_json::to_string(policy).ok());
        let candidate =
            organization.candidate_policy.as_ref().and_then(|policy| serde_json::to_string(policy).ok());
        self.execute(
            "INSERT INTO organizations (id, name, authentication_policy, create_time, update_time,
                 candidate_policy)
             VALUES (?1, ?2, coalesce(?3, ''), ?4, ?5, ?6)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, update_time = excluded.update_time,
                 authentication_policy = coalesce(?3, authentication_policy),
                 candidate_policy = excluded.candidate_policy",
            params![
                organization.id,
                organization.name,
                policy,
                organization.create_time.0,
                organization.update_time.0,
                candidate,
            ],
        )?;
        self.log("organization", &organization.id)
    }

    fn put_unit(&self, unit: &OrganizationalUnit) -> Result<(), StoreError> {
        let before = self.unit(&unit.id)?;
        let record = Record {
            entity: "organizational_unit",
            id: &unit.id,
            before: before.as_ref(),
            after: Some(unit),
        };
        self.note(Some(&unit.organization_id), record)?;
        self.execute(
            "INSERT INTO units (id, name, organization_id, parent_id, create_time) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, parent_id = excluded.parent_id",
            params![unit.id, unit.name, unit.organization_id, unit.parent_id, unit.create_time.0],
        )?;
        self.log("unit", &unit.id)
    }

    fn delete_unit(&self, id: &str) -> Result<(), StoreError> {
        self.delete_grants_on(&Resource::OrganizationUnit(id.to_owned()))?;
        if let Some(unit) = self.unit(id)? {
            let record = Record { entity: "organizational_unit", id, before: Some(&unit), after: None };
            self.note(Some(&unit.organization_id), record)?;
        }
        self.execute("DELETE FROM units WHERE id = ?1", [id])?;
        self.log("unit", id)
    }

    fn put_project(&self, project: &Project) -> Result<(), StoreError> {
        let before = self.project(&project.name)?;
        let record =
            Record { entity: "project", id: &project.name, before: before.as_ref(), after: Some(project) };
        self.note(Some(&project.organization_id), record)?;
        self.execute(
            "INSERT INTO projects (name, organization_id, unit_id, create_time) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET
                 organization_id = excluded.organization_id, unit_id = excluded.unit_id",
            params![project.name, project.organization_id, project.unit_id, project.create_time.0],
        )?;
        self.log("project", &project.name)
    }

    fn delete_project(&self, name: &str) -> Result<(), StoreError> {
        self.delete_grants_on(&Resource::Project(name.to_owned()))?;
        if let Some(project) = self.project(name)? {
            let record = Record { entity: "project", id: name, before: Some(&project), after: None };
            self.note(Some(&project.organization_id), record)?;
        }
        self.execute("DELETE FROM projects WHERE name = ?1", [name])?;
        self.log("project", name)
    }

    fn put_user(&self, user: &User) -> Result<(), StoreError> {
        let before = self.user(&user.id)?;
        self.execute(
            "INSERT INTO users (id, kind, email, name, description, state, two_factor_enabled,
                 token_validity_begin, managing_organization_id, create_time)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (id) DO UPDATE SET email = excluded.email, name = excluded.name,
                 description = excluded.description, state = excluded.state,
                 two_factor_enabled = excluded.two_factor_enabled,
                 token_validity_begin = excluded.token_validity_begin,
                 managing_organization_id = excluded.managing_organization_id",
            params![
                user.id,
                user.kind.word(),
                user.email,
                user.name,
                user.description,
                user.state.word(),
                user.two_factor_enabled,
                user.token_validity_begin.0,
                user.managing_organization_id,
                user.create_time.0,
            ],
        )?;
        let record = Record { entity: "user", id: &user.id, before: before.as_ref(), after: Some(user) };
        self.note_of_user(&user.id, &record)?;
        self.log("user", &user.id)
    }

    fn put_membership(&self, membership: &MembershipRecord) -> Result<(), StoreError> {
        let before = self.membership(&membership.user_id, &membership.organization_id)?;
        let record = Record {
            entity: "membership",
            id: &membership.user_id,
            before: before.as_ref(),
            after: Some(membership),
        };
        self.note(Some(&membership.organization_id), record)?;
        self.execute(
            "INSERT INTO memberships (user_id, organization_id, is_super_admin, join_time)
             VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (user_id, organization_id) DO UPDATE SET is_super_admin = excluded.is_super_admin",
            params![
                membership.user_id,
                membership.organization_id,
                membership.is_super_admin,
                membership.join_time.0
            ],
        )?;
        self.log("user", &membership.user_id)
    }

    fn delete_membership(&self, user_id: &str, organization_id: &str) -> Result<(), StoreError> {
        let before = self.membership(user_id, organization_id)?;
        let record = Record { entity: "membership", id: user_id, before: before.as_ref(), after: None };
        self.note(Some(organization_id), record)?;
        let groups: Vec<String> = self.all(
            "DELETE FROM group_members WHERE user_id = ?1
             AND group_id IN (SELECT id FROM groups WHERE organization_id = ?2) RETURNING group_id",
            [user_id, organization_id],
            |row| row.get(0),
        )?;
        for group in &groups {
            self.note_group_member(group, user_id, Membership::Ends)?;
        }
        let sql = format!(
            "DELETE FROM grants WHERE principal_type = 'user' AND principal_id = ?1 AND (
                 (resource_type = 'organization' AND resource_id = ?2)
                 OR (resource_type = 'organization_unit'
                     AND resource_id IN (SELECT id FROM units WHERE organization_id = ?2))
                 OR (resource_type = 'project'
                     AND resource_id IN (SELECT name FROM projects WHERE organization_id = ?2)))
             RETURNING {}",
            rows::GRANT
        );
        for grant in self.all(&sql, [user_id, organization_id], rows::grant)?.into_iter().flatten() {
            self.note_grant(Some(&grant), None)?;
        }
        self.execute(
            "DELETE FROM memberships WHERE user_id = ?1 AND organization_id = ?2",
            [user_id, organization_id],
        )?;
        self.log("user", user_id)
    }

    fn insert_authentication_method(&self, method: &AuthenticationMethod) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO authentication_methods (id, user_id, kind, identity_provider_id, subject, create_time)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                method.id,
                method.user_id,
                method.kind.word(),
                method.identity_provider_id,
                method.subject,
                method.create_time.0
            ],
        )?;
        let record =
            Record { entity: "authentication_method", id: &method.id, before: None, after: Some(method) };
        self.note_of_user(&method.user_id, &record)?;
        self.log("user", &method.user_id)
    }

    fn set_authentication_method_subject(&self, id: &str, subject: &str) -> Result<(), StoreError> {
        let Some(before) = self.authentication_method(id)? else { return Ok(()) };
        let after = AuthenticationMethod { subject: Some(subject.to_owned()), ..before.clone() };
        let record =
            Record { entity: "authentication_method", id, before: Some(&before), after: Some(&after) };
        self.note_of_user(&before.user_id, &record)?;
        self.execute("UPDATE authentication_methods SET subject = ?2 WHERE id = ?1", [id, subject])?;
        self.log("user", &before.user_id)
    }

    fn delete_authentication_method(&self, id: &str) -> Result<usize, StoreError> {
        if let Some(method) = self.authentication_method(id)? {
            let record = Record { entity: "authentication_method", id, before: Some(&method), after: None };
            self.note_of_user(&method.user_id, &record)?;
        }
        let condition = "method_number = (SELECT number FROM authentication_methods WHERE id = ?1)";
        let revoked = self.revoke_bound(condition, id)?;
        self.execute("DELETE FROM authentication_methods WHERE id = ?1", [id])?;
        Ok(revoked)
    }

    fn put_identity_provider(&self, provider: &IdentityProvider) -> Result<(), StoreError> {
        let before = self.identity_provider(&provider.id)?;
        let record = Record {
            entity: "identity_provider",
            id: &provider.id,
            before: before.as_ref(),
            after: Some(provider),
        };
        self.note(Some(&provider.organization_id), record)?;
        self.execute(
            "INSERT INTO identity_providers (id, organization_id, kind, name, enabled, linked_domain_ids,
                 auto_join_user_group_id, auth_token_max_age_seconds, auth_token_extend_when_used, settings,
                 create_time, update_time)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, enabled = excluded.enabled,
                 linked_domain_ids = excluded.linked_domain_ids,
                 auto_join_user_group_id = excluded.auto_join_user_group_id,
                 auth_token_max_age_seconds = excluded.auth_token_max_age_seconds,
                 auth_token_extend_when_used = excluded.auth_token_extend_when_used,
                 settings = excluded.settings, update_time = excluded.update_time",
            params![
                provider.id,
                provider.organization_id,
                provider.kind.word(),
                provider.name,
                provider.enabled,
                list_column(&provider.linked_domain_ids),
                provider.auto_join_user_group_id,
                provider.auth_token_max_age_seconds,
                provider.auth_token_extend_when_used,
                json_column(&provider.settings),
                provider.create_time.0,
                provider.update_time.0,
            ],
        )?;
        self.log("identity_provider", &provider.id)
    }

    fn put_sealed_client_secret(
        &self,
        identity_provider_id: &str,
        sealed: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        let Some(provider) = self.identity_provider(identity_provider_id)? else { return Ok(()) };
        let had_one = self.sealed_client_secret(identity_provider_id)?.is_some();
        self.insert_event(&NewEvent {
            organization_id: Some(&provider.organization_id),
            event_type: "client_secret_changed",
            entity: "identity_provider",
            entity_id: identity_provider_id,
            before: Some(serde_json::json!({ "has_client_secret": had_one })),
            after: Some(serde_json::json!({ "has_client_secret": sealed.is_some() })),
        })?;
        self.execute(
            "UPDATE identity_providers SET sealed_client_secret = ?2 WHERE id = ?1",
            params![identity_provider_id, sealed],
        )?;
        self.log("identity_provider", identity_provider_id)
    }

    fn delete_identity_provider(&self, id: &str) -> Result<usize, StoreError> {
        if let Some(provider) = self.identity_provider(id)? {
            let record = Record { entity: "identity_provider", id, before: Some(&provider), after: None };
            self.note(Some(&provider.organization_id), record)?;
        }
        let condition =
            "method_number IN (SELECT number FROM authentication_methods WHERE identity_provider_id = ?1)";
        let revoked = self.revoke_bound(condition, id)?;
        self.execute("DELETE FROM authentication_methods WHERE identity_provider_id = ?1", [id])?;
        let organization: Option<String> = self.one(
            "DELETE FROM identity_providers WHERE id = ?1 RETURNING organization_id",
            [id],
            |row| row.get(0),
        )?;
        if let Some(organization) = organization {
            self.log("organization", &organization)?;
        }
        Ok(revoked)
    }

    fn put_domain(&self, domain: &Domain) -> Result<(), StoreError> {
        let before = self.domain(&domain.id)?;
        let record =
            Record { entity: "domain", id: &domain.id, before: before.as_ref(), after: Some(domain) };
        self.note(Some(&domain.organization_id), record)?;
        self.execute(
            "INSERT INTO domains (id, organization_id, name, state, verification_type, challenge_token, create_time)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (id) DO UPDATE SET state = excluded.state,
                 verification_type = excluded.verification_type, challenge_token = excluded.challenge_token",
            params![
                domain.id,
                domain.organization_id,
                domain.name,
                domain.state.word(),
                domain.verification_type.word(),
                domain.challenge_token,
                domain.create_time.0,
            ],
        )?;
        self.log("domain", &domain.id)
    }

    fn put_group(&self, group: &Group) -> Result<(), StoreError> {
        let before = self.group(&group.id)?;
        let record = Record { entity: "group", id: &group.id, before: before.as_ref(), after: Some(group) };
        self.note(Some(&group.organization_id), record)?;
        self.execute(
            "INSERT INTO groups (id, organization_id, name, description, managed_by_scim, create_time, update_time)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description,
                 managed_by_scim = excluded.managed_by_scim, update_time = excluded.update_time",
            params![
                group.id,
                group.organization_id,
                group.name,
                group.description,
                group.managed_by_scim,
                group.create_time.0,
                group.update_time.0
            ],
        )?;
        self.log("group", &group.id)
    }

    fn delete_group(&self, id: &str) -> Result<(), StoreError> {
        if let Some(group) = self.group(id)? {
            let record = Record { entity: "group", id, before: Some(&group), after: None };
            self.note(Some(&group.organization_id), record)?;
        }
        let members =
            self.all("DELETE FROM group_members WHERE group_id = ?1 RETURNING user_id", [id], |row| {
                row.get(0)
            })?;
        for grant in self.grants_of(&Principal::UserGroup(id.to_owned()))? {
            self.note_grant(Some(&grant), None)?;
        }
        self.execute("DELETE FROM grants WHERE principal_type = 'user_group' AND principal_id = ?1", [id])?;
        self.execute("DELETE FROM groups WHERE id = ?1", [id])?;
        self.log_users(members)
    }

    fn add_group_member(&self, group_id: &str, user_id: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO group_members (group_id, user_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        match self.execute(sql, [group_id, user_id])? {
            0 => Ok(()),
            _ => {
                self.note_group_member(group_id, user_id, Membership::Begins)?;
                self.log("user", user_id)
            }
        }
    }

    fn remove_group_member(&self, group_id: &str, user_id: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM group_members WHERE group_id = ?1 AND user_id = ?2";
        match self.execute(sql, [group_id, user_id])? {
            0 => Ok(()),
            _ => {
                self.note_group_member(group_id, user_id, Membership::Ends)?;
                self.log("user", user_id)
            }
        }
    }

    fn put_grant(&self, grant: &Grant) -> Result<(), StoreError> {
        self.note_grant(self.grant(&grant.principal, &grant.resource)?.as_ref(), Some(grant))?;
        let (principal_type, principal_id) = principal_columns(&grant.principal);
        let (resource_type, resource_id) = resource_columns(&grant.resource);
        self.execute(
            "INSERT INTO grants (principal_type, principal_id, resource_type, resource_id, permissions,
                 create_time, update_time)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (principal_type, principal_id, resource_type, resource_id) DO UPDATE SET
                 permissions = excluded.permissions, update_time = excluded.update_time",
            params![
                principal_type,
                principal_id,
                resource_type,
                resource_id,
                list_column(&grant.permissions),
                grant.create_time.0,
                grant.update_time.0,
            ],
        )?;
        self.log_principal(&grant.principal)
    }

    fn delete_grant(&self, principal: &Principal, resource: &Resource) -> Result<(), StoreError> {
        self.note_grant(self.grant(principal, resource)?.as_ref(), None)?;
        let (principal_type, principal_id) = principal_columns(principal);
        let (resource_type, resource_id) = resource_columns(resource);
        self.execute(
            "DELETE FROM grants WHERE principal_type = ?1 AND principal_id = ?2 AND resource_type = ?3
             AND resource_id = ?4",
            [principal_type, principal_id, resource_type, resource_id],
        )?;
        self.log_principal(principal)
    }

    fn insert_token(&self, token: &Token) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO tokens (digest, user_number, kind, create_time, max_age_seconds, extend_when_used,
                 revoked_time, method_number, ip_allowlist, scopes, imported, prefix, created_manually,
                 description, end_time)
             VALUES (?1, (SELECT number FROM users WHERE id = ?2), ?3, ?4, ?5, ?6, ?7,
                 (SELECT number FROM authentication_methods WHERE id = ?8), ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            params![
                token.digest.as_bytes(),
                token.user_id,
                token.kind.word(),
                token.create_time.0,
                token.max_age_seconds,
                token.extend_when_used,
                token.revoked_time.map(|time| time.0),
                token.authentication_method_id,
                optional_list_column(&token.ip_allowlist),
                optional_list_column(&token.scopes),
                token.imported,
                token.token_prefix,
                token.created_manually,
                token.description,
                token.end_time.map(|time| time.0),
            ],
        )?;
        let number = self.connection.last_insert_rowid();
        let record = Record { entity: "token", id: &token.token_prefix, before: None, after: Some(token) };
        self.note_of_token(&token.user_id, &record)?;
        self.log("token", &number.to_string())
    }

    fn update_token(&self, token: &Token) -> Result<(), StoreError> {
        let before = self.reader.token(&token.token_prefix)?.map(|found| found.token);
        let record =
            Record { entity: "token", id: &token.token_prefix, before: before.as_ref(), after: Some(token) };
        self.note_of_token(&token.user_id, &record)?;
        self.execute(
            "UPDATE tokens SET description = ?2, max_age_seconds = ?3, extend_when_used = ?4, ip_allowlist = ?5,
                 scopes = ?6, end_time = ?7, successor_prefix = ?8 WHERE number = ?1",
            params![
                token.number,
                token.description,
                token.max_age_seconds,
                token.extend_when_used,
                optional_list_column(&token.ip_allowlist),
                optional_list_column(&token.scopes),
                token.end_time.map(|time| time.0),
                token.successor_prefix,
            ],
        )?;
        self.log("token", &token.number.to_string())
    }

    fn token_taken(&self, token: &Token) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM tokens WHERE prefix = ?1)
             OR EXISTS (SELECT 1 FROM tokens WHERE digest = ?2)";
        let taken = self.one(sql, params![token.token_prefix, token.digest.as_bytes()], |row| row.get(0))?;
        Ok(taken.unwrap_or(false))
    }

    fn revoke_token(&self, number: u32) -> Result<(), StoreError> {
        self.revoke_where("number = ?1", params![number, self.now.0])?;
        Ok(())
    }

    fn revoke_personal_password_tokens(&self, user_id: &str) -> Result<usize, StoreError> {
        let condition = "kind = 'personal' AND method_number IN (SELECT number FROM authentication_methods
             WHERE user_id = ?1 AND kind = 'password')";
        self.revoke_where(condition, params![user_id, self.now.0])
    }

    fn record_event(&self, event: &NewEvent<'_>) -> Result<(), StoreError> {
        self.insert_event(event)
    }
}
