//! What the event log is told of each change of a record: by whom, and what differs. Written in the change's own
//! transaction, so that neither is there without the other.
//!
//! What must not live here: the changes themselves, and reading the log.

use rusqlite::params;
use serde::Serialize;
use serde_json::{Map, Value};

use super::write::Writer;
use crate::directory::concern::concerned_organizations;
use crate::directory::error::StoreError;
use crate::directory::model::{Grant, Organization, Principal, Resource, Token, User, Word as _};
use crate::directory::store::{NewEvent, Records as _};

/// A record before and after a change; `None`: there was or is none.
pub(super) struct Record<'a, T> {
    pub(super) entity: &'static str,
    pub(super) id: &'a str,
    pub(super) before: Option<&'a T>,
    pub(super) after: Option<&'a T>,
}

/// What happens between a user and a group.
#[derive(Clone, Copy)]
pub(super) enum Membership {
    Begins,
    Ends,
}

impl Writer<'_> {
    /// Notes a change of a record that belongs to one organization, or to none. One that differs in nothing is none.
    pub(super) fn note<T: Serialize>(
        &self,
        organization_id: Option<&str>,
        record: Record<'_, T>,
    ) -> Result<(), StoreError> {
        let Some((before, after)) = difference(record.before, record.after) else { return Ok(()) };
        let verb = match (&before, &after) {
            (None, _) => "created",
            (Some(_), None) => "deleted",
            (Some(_), Some(_)) => "changed",
        };
        let event_type = format!("{}_{verb}", record.entity);
        self.insert_event(&NewEvent {
            organization_id,
            event_type: &event_type,
            entity: record.entity,
            entity_id: record.id,
            before,
            after,
        })
    }

    /// Notes a change of a user, or of what is a user's, for every organization that the user belongs to.
    pub(super) fn note_of_user<T: Serialize>(
        &self,
        user_id: &str,
        record: &Record<'_, T>,
    ) -> Result<(), StoreError> {
        let organizations = self.organizations_of(user_id)?;
        let each = organizations.iter().map(|id| Some(id.as_str()));
        let nobody = organizations.is_empty().then_some(None);
        each.chain(nobody).try_for_each(|organization_id| {
            let Record { entity, id, before, after } = *record;
            self.note(organization_id, Record { entity, id, before, after })
        })
    }

    /// Notes a change of a token, for the organizations whose business the user's tokens are; else for the operator alone.
    pub(super) fn note_of_token(&self, user_id: &str, record: &Record<'_, Token>) -> Result<(), StoreError> {
        self.to_whom_of_token(user_id)?.iter().try_for_each(|organization_id| {
            let Record { entity, id, before, after } = *record;
            self.note(organization_id.as_deref(), Record { entity, id, before, after })
        })
    }

    fn to_whom_of_token(&self, user_id: &str) -> Result<Vec<Option<String>>, StoreError> {
        let organizations = concerned_organizations(&**self, user_id)?;
        Ok(if organizations.is_empty() { vec![None] } else { organizations.into_iter().map(Some).collect() })
    }

    /// Name and policy are noted apart: who looks for changes of the policy finds all of them by one word.
    pub(super) fn note_organization(
        &self,
        before: Option<&Organization>,
        after: &Organization,
    ) -> Result<(), StoreError> {
        let id = after.id.as_str();
        let without_policy = |organization: &Organization| Organization {
            authentication_policy: None,
            candidate_policy: None,
            ..organization.clone()
        };
        let (plain_before, plain_after) = (before.map(without_policy), without_policy(after));
        self.note(
            Some(id),
            Record { entity: "organization", id, before: plain_before.as_ref(), after: Some(&plain_after) },
        )?;
        let policy_before = before.and_then(|organization| organization.authentication_policy.as_ref());
        let policy = after.authentication_policy.as_ref();
        let record = Record { entity: "authentication_policy", id, before: policy_before, after: policy };
        self.note(Some(id), record)?;
        let candidate_before = before.and_then(|organization| organization.candidate_policy.as_ref());
        let candidate = after.candidate_policy.as_ref();
        let record = Record { entity: "candidate_policy", id, before: candidate_before, after: candidate };
        self.note(Some(id), record)
    }

    pub(super) fn note_grant(&self, before: Option<&Grant>, after: Option<&Grant>) -> Result<(), StoreError> {
        let Some(grant) = after.or(before) else { return Ok(()) };
        let principal = match &grant.principal {
            Principal::User(id) | Principal::UserGroup(id) => id,
        };
        let (organization_id, resource) = match &grant.resource {
            Resource::Organization(id) => (Some(id.clone()), id),
            Resource::OrganizationUnit(id) => (self.unit(id)?.map(|unit| unit.organization_id), id),
            Resource::Project(name) => (self.project(name)?.map(|project| project.organization_id), name),
        };
        let id = format!("{principal} on {resource}");
        self.note(organization_id.as_deref(), Record { entity: "grant", id: &id, before, after })
    }

    pub(super) fn note_group_member(
        &self,
        group_id: &str,
        user_id: &str,
        membership: Membership,
    ) -> Result<(), StoreError> {
        let organization_id = self.group(group_id)?.map(|group| group.organization_id);
        let member = Some(serde_json::json!({ "user_id": user_id }));
        let (event_type, before, after) = match membership {
            Membership::Begins => ("group_member_added", None, member),
            Membership::Ends => ("group_member_removed", member, None),
        };
        self.insert_event(&NewEvent {
            organization_id: organization_id.as_deref(),
            event_type,
            entity: "group",
            entity_id: group_id,
            before,
            after,
        })
    }

    /// Notes that a token was revoked, by its number.
    pub(super) fn note_revocation(&self, number: u32) -> Result<(), StoreError> {
        let found: Option<(String, String)> = self.one(
            "SELECT t.prefix, u.id FROM tokens t JOIN users u ON u.number = t.user_number WHERE t.number = ?1",
            [number],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let Some((prefix, user_id)) = found else { return Ok(()) };
        self.to_whom_of_token(&user_id)?.iter().try_for_each(|organization_id| {
            self.insert_event(&NewEvent {
                organization_id: organization_id.as_deref(),
                event_type: "token_revoked",
                entity: "token",
                entity_id: &prefix,
                before: None,
                after: Some(serde_json::json!({ "user_id": user_id })),
            })
        })
    }

    pub(super) fn insert_event(&self, event: &NewEvent<'_>) -> Result<(), StoreError> {
        self.execute(
            "INSERT INTO events (event_time, organization_id, event_type, channel, actor_user_id,
                 actor_token_prefix, actor_address, request_id, entity, entity_id, before, after)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            params![
                self.now.0,
                event.organization_id,
                event.event_type,
                self.author.channel.word(),
                self.author.user_id,
                self.author.token_prefix,
                self.author.address.map(|address| address.to_string()),
                self.author.request_id,
                event.entity,
                event.entity_id,
                event.before.as_ref().map(Value::to_string),
                event.after.as_ref().map(Value::to_string),
            ],
        )?;
        Ok(())
    }

    fn organizations_of(&self, user_id: &str) -> Result<Vec<String>, StoreError> {
        let memberships = self.memberships(user_id)?;
        let mut organizations: Vec<String> =
            memberships.into_iter().map(|membership| membership.organization_id).collect();
        let managing = self.user(user_id)?.and_then(|user: User| user.managing_organization_id);
        if let Some(managing) = managing
            && !organizations.contains(&managing)
        {
            organizations.push(managing);
        }
        Ok(organizations)
    }
}

/// What differs between two states of a record, as objects with only the fields that do; `None`: nothing.
pub(super) fn difference<T: Serialize>(
    before: Option<&T>,
    after: Option<&T>,
) -> Option<(Option<Value>, Option<Value>)> {
    let object = |record: &T| match serde_json::to_value(record) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    match (before.map(object), after.map(object)) {
        (None, None) => None,
        (Some(before), Some(after)) => {
            // When it changed last is the event's own time.
            let differs = |key: &str| key != "update_time" && before.get(key) != after.get(key);
            let only = |fields: &Map<String, Value>| -> Map<String, Value> {
                let differing = fields.iter().filter(|(key, _)| differs(key));
                differing.map(|(key, value)| (key.clone(), value.clone())).collect()
            };
            let (was, is) = (only(&before), only(&after));
            (!was.is_empty() || !is.is_empty()).then_some((Some(was.into()), Some(is.into())))
        }
        (before, after) => Some((before.map(Value::Object), after.map(Value::Object))),
    }
}
