//! Reading one state of the directory from SQLite.

use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use super::event_log;
use super::failure::Failures;
use super::rows;
use super::snapshot;
use crate::directory::error::StoreError;
use crate::directory::model::{
    AuthenticationMethod, Domain, Grant, Group, IdentityProvider, Member, MembershipRecord, MethodKind,
    Organization, OrganizationalUnit, Principal, Project, Resource, Sequence, Timestamp, TokenWithUsage,
    User, Word,
};
use crate::directory::store::{Change, ChangeMark, Entity, EventPage, EventQuery, Records, TokenRow};
use crate::policy::facts::UserKind;
use crate::token::TokenDigest;

/// A transaction to read in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    pub(super) connection: &'a Connection,
    pub(super) failures: &'a Failures,
}

impl<'a> Reader<'a> {
    pub(super) fn new(connection: &'a Connection, failures: &'a Failures) -> Self {
        Self { connection, failures }
    }

    /// The one row of a query, if there is one.
    pub(super) fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        map: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        let find = || self.connection.prepare_cached(sql)?.query_row(params, map).optional();
        find().map_err(|error| self.failures.of(error))
    }

    /// All rows of a query.
    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        map: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let list = || -> rusqlite::Result<Vec<T>> {
            self.connection.prepare_cached(sql)?.query_map(params, map)?.collect()
        };
        list().map_err(|error| self.failures.of(error))
    }

    fn grants(&self, condition: &str, params: impl Params) -> Result<Vec<Grant>, StoreError> {
        let sql = format!(
            "SELECT {} FROM grants WHERE {condition}
             ORDER BY principal_type, principal_id, resource_type, resource_id",
            rows::GRANT
        );
        Ok(self.all(&sql, params, rows::grant)?.into_iter().flatten().collect())
    }
}

impl Records for Reader<'_> {
    fn sequence(&self) -> Result<Sequence, StoreError> {
        let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'changes'";
        let sequence: Option<i64> = self.one(sql, [], |row| row.get(0))?;
        Ok(Sequence(sequence.unwrap_or(0).unsigned_abs()))
    }

    fn changes_after(&self, sequence: Sequence, limit: u32) -> Result<Vec<Change>, StoreError> {
        let sql =
            "SELECT sequence, entity, entity_id FROM changes WHERE sequence > ?1 ORDER BY sequence LIMIT ?2";
        let after = i64::try_from(sequence.0).unwrap_or(i64::MAX);
        self.all(sql, params![after, limit], |row| {
            let sequence: i64 = row.get(0)?;
            let entity = entity(row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
            Ok(Change { sequence: Sequence(sequence.unsigned_abs()), entity })
        })
    }

    fn change_mark(&self, sequence: Sequence) -> Result<Option<ChangeMark>, StoreError> {
        let at = i64::try_from(sequence.0).unwrap_or(i64::MAX);
        let sql = "SELECT entity, entity_id, change_time FROM changes WHERE sequence = ?1";
        self.one(sql, [at], |row| {
            Ok(ChangeMark { entity: row.get(0)?, entity_id: row.get(1)?, change_time: row.get(2)? })
        })
    }

    fn organization(&self, id: &str) -> Result<Option<Organization>, StoreError> {
        let sql = format!("SELECT {} FROM organizations WHERE id = ?1", rows::ORGANIZATION);
        self.one(&sql, [id], rows::organization)
    }

    fn organizations(&self) -> Result<Vec<Organization>, StoreError> {
        let sql = format!("SELECT {} FROM organizations ORDER BY name, id", rows::ORGANIZATION);
        self.all(&sql, [], rows::organization)
    }

    fn unit(&self, id: &str) -> Result<Option<OrganizationalUnit>, StoreError> {
        self.one(&format!("SELECT {} FROM units WHERE id = ?1", rows::UNIT), [id], rows::unit)
    }

    fn units(&self, organization_id: &str) -> Result<Vec<OrganizationalUnit>, StoreError> {
        let sql = format!("SELECT {} FROM units WHERE organization_id = ?1 ORDER BY name, id", rows::UNIT);
        self.all(&sql, [organization_id], rows::unit)
    }

    fn project(&self, name: &str) -> Result<Option<Project>, StoreError> {
        self.one(&format!("SELECT {} FROM projects WHERE name = ?1", rows::PROJECT), [name], rows::project)
    }

    fn projects(&self, organization_id: &str) -> Result<Vec<Project>, StoreError> {
        let sql = format!("SELECT {} FROM projects WHERE organization_id = ?1 ORDER BY name", rows::PROJECT);
        self.all(&sql, [organization_id], rows::project)
    }

    fn user(&self, id: &str) -> Result<Option<User>, StoreError> {
        self.one(&format!("SELECT {} FROM users u WHERE id = ?1", rows::USER), [id], rows::user)
    }

    fn user_by_email(&self, email: &str) -> Result<Option<User>, StoreError> {
        let sql = format!("SELECT {} FROM users u WHERE email = ?1 AND state <> 'deleted'", rows::USER);
        self.one(&sql, [email], rows::user)
    }

    fn members(&self, organization_id: &str, kind: UserKind) -> Result<Vec<Member>, StoreError> {
        let sql = format!(
            "SELECT {}, m.is_super_admin, m.join_time FROM memberships m JOIN users u ON u.id = m.user_id
             WHERE m.organization_id = ?1 AND u.kind = ?2 ORDER BY u.name, u.id",
            rows::USER
        );
        self.all(&sql, [organization_id, kind.word()], rows::member)
    }

    fn memberships(&self, user_id: &str) -> Result<Vec<MembershipRecord>, StoreError> {
        let sql = format!(
            "SELECT {} FROM memberships m WHERE user_id = ?1 ORDER BY organization_id",
            rows::MEMBERSHIP
        );
        self.all(&sql, [user_id], rows::membership)
    }

    fn authentication_method(&self, id: &str) -> Result<Option<AuthenticationMethod>, StoreError> {
        let sql = format!("SELECT {} FROM authentication_methods WHERE id = ?1", rows::METHOD);
        self.one(&sql, [id], rows::method)
    }

    fn authentication_methods(&self, user_id: &str) -> Result<Vec<AuthenticationMethod>, StoreError> {
        let sql =
            format!("SELECT {} FROM authentication_methods WHERE user_id = ?1 ORDER BY number", rows::METHOD);
        self.all(&sql, [user_id], rows::method)
    }

    fn authentication_method_of(
        &self,
        kind: MethodKind,
        identity_provider_id: Option<&str>,
        subject: &str,
    ) -> Result<Option<AuthenticationMethod>, StoreError> {
        let sql = format!(
            "SELECT {} FROM authentication_methods
             WHERE kind = ?1 AND coalesce(identity_provider_id, '') = ?2 AND subject = ?3",
            rows::METHOD
        );
        self.one(&sql, [kind.word(), identity_provider_id.unwrap_or(""), subject], rows::method)
    }

    fn sealed_client_secret(&self, identity_provider_id: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT sealed_client_secret FROM identity_providers WHERE id = ?1";
        Ok(self.one(sql, [identity_provider_id], |row| row.get(0))?.flatten())
    }

    fn is_invited(&self, email: &str, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM invitations WHERE user_email = ?1 AND expiry_time > ?2)";
        Ok(self.one(sql, params![email, now.0], |row| row.get(0))?.unwrap_or(false))
    }

    fn people_at(&self, domain: &str) -> Result<Vec<User>, StoreError> {
        let sql = format!(
            "SELECT {} FROM users u WHERE u.kind = ?1 AND u.state <> 'deleted'
             AND lower(substr(u.email, instr(u.email, '@') + 1)) = ?2 ORDER BY u.id",
            rows::USER
        );
        self.all(&sql, [UserKind::OrganizationUser.word(), domain], rows::user)
    }

    fn identity_provider(&self, id: &str) -> Result<Option<IdentityProvider>, StoreError> {
        let sql = format!("SELECT {} FROM identity_providers WHERE id = ?1", rows::PROVIDER);
        self.one(&sql, [id], rows::provider)
    }

    fn identity_providers(&self, organization_id: &str) -> Result<Vec<IdentityProvider>, StoreError> {
        let sql = format!(
            "SELECT {} FROM identity_providers WHERE organization_id = ?1 ORDER BY name, id",
            rows::PROVIDER
        );
        self.all(&sql, [organization_id], rows::provider)
    }

    fn domain(&self, id: &str) -> Result<Option<Domain>, StoreError> {
        self.one(&format!("SELECT {} FROM domains WHERE id = ?1", rows::DOMAIN), [id], rows::domain)
    }

    fn verified_domain(&self, name: &str) -> Result<Option<Domain>, StoreError> {
        let sql = format!("SELECT {} FROM domains WHERE name = ?1 AND state = 'verified'", rows::DOMAIN);
        self.one(&sql, [name], rows::domain)
    }

    fn domains(&self, organization_id: &str) -> Result<Vec<Domain>, StoreError> {
        let sql =
            format!("SELECT {} FROM domains WHERE organization_id = ?1 ORDER BY name, id", rows::DOMAIN);
        self.all(&sql, [organization_id], rows::domain)
    }

    fn group(&self, id: &str) -> Result<Option<Group>, StoreError> {
        self.one(&format!("SELECT {} FROM groups g WHERE id = ?1", rows::GROUP), [id], rows::group)
    }

    fn groups(&self, organization_id: &str) -> Result<Vec<Group>, StoreError> {
        let sql = format!("SELECT {} FROM groups g WHERE organization_id = ?1 ORDER BY name", rows::GROUP);
        self.all(&sql, [organization_id], rows::group)
    }

    fn group_members(&self, group_id: &str) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT user_id FROM group_members WHERE group_id = ?1 ORDER BY user_id";
        self.all(sql, [group_id], |row| row.get(0))
    }

    fn groups_of_user(&self, user_id: &str) -> Result<Vec<Group>, StoreError> {
        let sql = format!(
            "SELECT {} FROM group_members m JOIN groups g ON g.id = m.group_id WHERE m.user_id = ?1
             ORDER BY g.name, g.id",
            rows::GROUP
        );
        self.all(&sql, [user_id], rows::group)
    }

    fn grant(&self, principal: &Principal, resource: &Resource) -> Result<Option<Grant>, StoreError> {
        let (principal_type, principal_id) = rows::principal_columns(principal);
        let (resource_type, resource_id) = rows::resource_columns(resource);
        let condition =
            "principal_type = ?1 AND principal_id = ?2 AND resource_type = ?3 AND resource_id = ?4";
        let grants = self.grants(condition, [principal_type, principal_id, resource_type, resource_id])?;
        Ok(grants.into_iter().next())
    }

    fn grants_on(&self, resource: &Resource) -> Result<Vec<Grant>, StoreError> {
        let (kind, id) = rows::resource_columns(resource);
        self.grants("resource_type = ?1 AND resource_id = ?2", [kind, id])
    }

    fn grants_of(&self, principal: &Principal) -> Result<Vec<Grant>, StoreError> {
        let (kind, id) = rows::principal_columns(principal);
        self.grants("principal_type = ?1 AND principal_id = ?2", [kind, id])
    }

    fn grants_reaching(&self, user_id: &str) -> Result<Vec<Grant>, StoreError> {
        let condition = "(principal_type = 'user' AND principal_id = ?1) OR (principal_type = 'user_group'
             AND principal_id IN (SELECT group_id FROM group_members WHERE user_id = ?1))";
        self.grants(condition, [user_id])
    }

    fn token(&self, prefix: &str) -> Result<Option<TokenWithUsage>, StoreError> {
        let sql = format!("SELECT {} FROM {} WHERE t.prefix = ?1", rows::TOKEN, rows::TOKEN_FROM);
        self.one(&sql, [prefix], rows::token)
    }

    fn token_by_number(&self, number: u32) -> Result<Option<TokenWithUsage>, StoreError> {
        let sql = format!("SELECT {} FROM {} WHERE t.number = ?1", rows::TOKEN, rows::TOKEN_FROM);
        self.one(&sql, [number], rows::token)
    }

    fn token_by_digest(&self, digest: &TokenDigest) -> Result<Option<TokenWithUsage>, StoreError> {
        let sql = format!("SELECT {} FROM {} WHERE t.digest = ?1", rows::TOKEN, rows::TOKEN_FROM);
        self.one(&sql, [digest.as_bytes()], rows::token)
    }

    fn tokens(&self, user_id: &str) -> Result<Vec<TokenWithUsage>, StoreError> {
        let sql = format!(
            "SELECT {} FROM {} WHERE t.user_number = (SELECT number FROM users WHERE id = ?1)
             ORDER BY t.number DESC",
            rows::TOKEN,
            rows::TOKEN_FROM
        );
        self.all(&sql, [user_id], rows::token)
    }

    fn token_row(&self, number: u32) -> Result<Option<TokenRow>, StoreError> {
        snapshot::token_row(self, number)
    }

    fn events(&self, query: &EventQuery<'_>) -> Result<EventPage, StoreError> {
        event_log::page(self, query)
    }

    fn last_event(&self) -> Result<u64, StoreError> {
        event_log::last(self)
    }

    fn user_number(&self, id: &str) -> Result<Option<u32>, StoreError> {
        self.one("SELECT number FROM users WHERE id = ?1", [id], |row| row.get(0))
    }

    fn user_id(&self, number: u32) -> Result<Option<String>, StoreError> {
        self.one("SELECT id FROM users WHERE number = ?1", [number], |row| row.get(0))
    }
}

/// What an entry of the log of changes names.
fn entity(kind: &str, id: &str) -> Option<Entity> {
    let text = || id.to_owned();
    match kind {
        "organization" => Some(Entity::Organization(text())),
        "unit" => Some(Entity::Unit(text())),
        "project" => Some(Entity::Project(text())),
        "user" => Some(Entity::User(text())),
        "group" => Some(Entity::Group(text())),
        "identity_provider" => Some(Entity::IdentityProvider(text())),
        "domain" => Some(Entity::Domain(text())),
        "token" => id.parse().ok().map(Entity::Token),
        _ => None,
    }
}
