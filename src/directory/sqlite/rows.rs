//! From rows to records. A value that this version cannot read becomes the one that allows least.

use std::net::IpAddr;
use std::sync::Arc;

use rusqlite::Row;
use tracing::error;

use crate::directory::model::{
    AuthenticationMethod, Domain, DomainState, DomainVerification, Grant, Group, IdentityProvider,
    IdentityProviderKind, Member, MembershipRecord, MethodKind, Organization, OrganizationalUnit, Principal,
    Project, ProviderSettings, Resource, Timestamp, Token, TokenWithUsage, Usage, User, Word,
};
use crate::policy::facts::{UserKind, UserState};
use crate::token::{TokenDigest, TokenKind};

pub(super) const ORGANIZATION: &str =
    "id, name, authentication_policy, create_time, update_time, candidate_policy";
pub(super) const UNIT: &str = "id, name, organization_id, parent_id, create_time";
pub(super) const PROJECT: &str = "name, organization_id, unit_id, create_time";
pub(super) const USER: &str = "u.id, u.kind, u.email, u.name, u.description, u.state, u.two_factor_enabled, \
     u.token_validity_begin, u.managing_organization_id, u.create_time";
pub(super) const MEMBERSHIP: &str = "m.user_id, m.organization_id, m.is_super_admin, m.join_time";
pub(super) const METHOD: &str = "id, user_id, kind, identity_provider_id, subject, create_time";
pub(super) const PROVIDER: &str = "id, organization_id, kind, name, enabled, linked_domain_ids, \
     auto_join_user_group_id, auth_token_max_age_seconds, auth_token_extend_when_used, settings, create_time, \
     update_time";
pub(super) const DOMAIN: &str =
    "id, organization_id, name, state, verification_type, challenge_token, create_time";
pub(super) const GROUP: &str =
    "g.id, g.organization_id, g.name, g.description, g.managed_by_scim, g.create_time, g.update_time";
pub(super) const GRANT: &str =
    "principal_type, principal_id, resource_type, resource_id, permissions, create_time, update_time";
/// With the tables that [`TOKEN_FROM`] joins.
pub(super) const TOKEN: &str = "t.number, t.prefix, t.digest, u.id, t.kind, t.description, t.create_time, \
     t.created_manually, t.imported, t.max_age_seconds, t.extend_when_used, t.ip_allowlist, t.scopes, a.id, \
     t.revoked_time, t.end_time, s.last_used_time, s.last_ip, s.last_user_agent, s.request_count, \
     t.successor_prefix";
pub(super) const TOKEN_FROM: &str = "tokens t JOIN users u ON u.number = t.user_number \
     LEFT JOIN authentication_methods a ON a.number = t.method_number \
     LEFT JOIN token_usage s ON s.token_number = t.number";

type Result<T> = rusqlite::Result<T>;

pub(super) fn organization(row: &Row<'_>) -> Result<Organization> {
    let id: String = row.get(0)?;
    let policy = serde_json::from_str(row.get_ref(2)?.as_str()?).inspect_err(
        |error| error!(organization = id, %error, "the stored authentication policy cannot be read"),
    );
    let candidate = row.get_ref(5)?.as_str_or_null()?.map(serde_json::from_str);
    let candidate = candidate.transpose().inspect_err(
        |error| error!(organization = id, %error, "the stored candidate policy cannot be read; none is tried"),
    );
    Ok(Organization {
        id,
        name: row.get(1)?,
        authentication_policy: policy.ok(),
        candidate_policy: candidate.ok().flatten(),
        create_time: time(row, 3)?,
        update_time: time(row, 4)?,
    })
}

pub(super) fn unit(row: &Row<'_>) -> Result<OrganizationalUnit> {
    Ok(OrganizationalUnit {
        id: row.get(0)?,
        name: row.get(1)?,
        organization_id: row.get(2)?,
        parent_id: row.get(3)?,
        create_time: time(row, 4)?,
    })
}

pub(super) fn project(row: &Row<'_>) -> Result<Project> {
    Ok(Project {
        name: row.get(0)?,
        organization_id: row.get(1)?,
        unit_id: row.get(2)?,
        create_time: time(row, 3)?,
    })
}

pub(super) fn user(row: &Row<'_>) -> Result<User> {
    Ok(User {
        id: row.get(0)?,
        kind: word(row, 1, UserKind::OrganizationUser)?,
        email: row.get(2)?,
        name: row.get(3)?,
        description: row.get(4)?,
        state: word(row, 5, UserState::Deactivated)?,
        two_factor_enabled: row.get(6)?,
        token_validity_begin: time(row, 7)?,
        managing_organization_id: row.get(8)?,
        create_time: time(row, 9)?,
    })
}

/// [`USER`], then whether it is a super admin, then the time it joined.
pub(super) fn member(row: &Row<'_>) -> Result<Member> {
    Ok(Member { user: user(row)?, is_super_admin: row.get(10)?, join_time: time(row, 11)? })
}

pub(super) fn membership(row: &Row<'_>) -> Result<MembershipRecord> {
    Ok(MembershipRecord {
        user_id: row.get(0)?,
        organization_id: row.get(1)?,
        is_super_admin: row.get(2)?,
        join_time: time(row, 3)?,
    })
}

pub(super) fn method(row: &Row<'_>) -> Result<AuthenticationMethod> {
    Ok(AuthenticationMethod {
        id: row.get(0)?,
        user_id: row.get(1)?,
        kind: word(row, 2, MethodKind::IdentityProvider)?,
        identity_provider_id: row.get(3)?,
        subject: row.get(4)?,
        create_time: time(row, 5)?,
    })
}

pub(super) fn provider(row: &Row<'_>) -> Result<IdentityProvider> {
    let id: String = row.get(0)?;
    // Settings that cannot be read are none: nobody can log in with the provider until it is set up again.
    let settings = serde_json::from_str(row.get_ref(9)?.as_str()?).unwrap_or_else(|error| {
        error!(identity_provider = id, %error, "the stored settings of an identity provider cannot be read");
        ProviderSettings::default()
    });
    Ok(IdentityProvider {
        id,
        organization_id: row.get(1)?,
        kind: word(row, 2, IdentityProviderKind::Saml)?,
        name: row.get(3)?,
        enabled: row.get(4)?,
        linked_domain_ids: list(row, 5)?,
        auto_join_user_group_id: row.get(6)?,
        auth_token_max_age_seconds: max_age(row, 7)?,
        auth_token_extend_when_used: row.get(8)?,
        settings,
        create_time: time(row, 10)?,
        update_time: time(row, 11)?,
    })
}

pub(super) fn domain(row: &Row<'_>) -> Result<Domain> {
    Ok(Domain {
        id: row.get(0)?,
        organization_id: row.get(1)?,
        name: row.get(2)?,
        state: word(row, 3, DomainState::Unverified)?,
        verification_type: word(row, 4, DomainVerification::Dns)?,
        challenge_token: row.get(5)?,
        create_time: time(row, 6)?,
    })
}

pub(super) fn group(row: &Row<'_>) -> Result<Group> {
    Ok(Group {
        id: row.get(0)?,
        organization_id: row.get(1)?,
        name: row.get(2)?,
        description: row.get(3)?,
        managed_by_scim: row.get(4)?,
        create_time: time(row, 5)?,
        update_time: time(row, 6)?,
    })
}

/// `None` for a grant to or on a kind of thing that this version does not know.
pub(super) fn grant(row: &Row<'_>) -> Result<Option<Grant>> {
    let principal_id: String = row.get(1)?;
    let resource_id: String = row.get(3)?;
    let principal = match row.get_ref(0)?.as_str()? {
        USER_PRINCIPAL => Principal::User(principal_id),
        GROUP_PRINCIPAL => Principal::UserGroup(principal_id),
        unknown => {
            error!(principal_type = unknown, principal_id, "a grant is to an unknown kind of principal");
            return Ok(None);
        }
    };
    let resource = match row.get_ref(2)?.as_str()? {
        ORGANIZATION_RESOURCE => Resource::Organization(resource_id),
        UNIT_RESOURCE => Resource::OrganizationUnit(resource_id),
        PROJECT_RESOURCE => Resource::Project(resource_id),
        unknown => {
            error!(resource_type = unknown, resource_id, "a grant is on an unknown kind of resource");
            return Ok(None);
        }
    };
    Ok(Some(Grant {
        principal,
        resource,
        permissions: list(row, 4)?,
        create_time: time(row, 5)?,
        update_time: time(row, 6)?,
    }))
}

pub(super) fn token(row: &Row<'_>) -> Result<TokenWithUsage> {
    let token = Token {
        number: row.get(0)?,
        token_prefix: row.get(1)?,
        digest: TokenDigest::from_bytes(row.get(2)?),
        user_id: row.get(3)?,
        kind: word(row, 4, TokenKind::Session)?,
        description: row.get(5)?,
        create_time: time(row, 6)?,
        created_manually: row.get(7)?,
        imported: row.get(8)?,
        max_age_seconds: max_age(row, 9)?,
        extend_when_used: row.get(10)?,
        ip_allowlist: list(row, 11)?,
        scopes: list(row, 12)?,
        authentication_method_id: row.get(13)?,
        revoked_time: optional_time(row, 14)?,
        end_time: optional_time(row, 15)?,
        successor_prefix: row.get(20)?,
    };
    let usage = match optional_time(row, 16)? {
        None => None,
        Some(last_used_time) => Some(Usage {
            last_used_time,
            last_ip: address(row, 17)?,
            last_user_agent: row.get(18)?,
            request_count: row.get_ref(19)?.as_i64()?.unsigned_abs(),
        }),
    };
    Ok(TokenWithUsage::new(token, usage))
}

pub(super) const USER_PRINCIPAL: &str = "user";
pub(super) const GROUP_PRINCIPAL: &str = "user_group";
pub(super) const ORGANIZATION_RESOURCE: &str = "organization";
pub(super) const UNIT_RESOURCE: &str = "organization_unit";
pub(super) const PROJECT_RESOURCE: &str = "project";

/// The two columns of a principal.
pub(super) fn principal_columns(principal: &Principal) -> (&'static str, &str) {
    match principal {
        Principal::User(id) => (USER_PRINCIPAL, id),
        Principal::UserGroup(id) => (GROUP_PRINCIPAL, id),
    }
}

/// The two columns of a resource.
pub(super) fn resource_columns(resource: &Resource) -> (&'static str, &str) {
    match resource {
        Resource::Organization(id) => (ORGANIZATION_RESOURCE, id),
        Resource::OrganizationUnit(id) => (UNIT_RESOURCE, id),
        Resource::Project(name) => (PROJECT_RESOURCE, name),
    }
}

/// A list as it is stored.
pub(super) fn list_column(values: &[String]) -> String {
    serde_json::Value::from(values).to_string()
}

/// A value as it is stored.
pub(super) fn json_column(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).map_or_else(|_| "{}".to_owned(), |value| value.to_string())
}

/// A list as it is stored where an empty one is none.
pub(super) fn optional_list_column(values: &[String]) -> Option<String> {
    (!values.is_empty()).then(|| list_column(values))
}

/// A number of 32 bits; others are taken for the nearest.
pub(super) fn number(row: &Row<'_>, column: usize) -> Result<u32> {
    Ok(clamp(row.get_ref(column)?.as_i64()?))
}

/// Seconds since the epoch; 0 for none.
pub(super) fn number_or_zero(row: &Row<'_>, column: usize) -> Result<u32> {
    Ok(row.get_ref(column)?.as_i64_or_null()?.map_or(0, clamp))
}

/// A number of 32 bits, where there is one.
pub(super) fn optional_number(row: &Row<'_>, column: usize) -> Result<Option<u32>> {
    Ok(row.get_ref(column)?.as_i64_or_null()?.map(clamp))
}

/// A lifetime: absent, or at least a second, so that nonsense never means "for ever".
pub(super) fn max_age(row: &Row<'_>, column: usize) -> Result<Option<u32>> {
    Ok(row.get_ref(column)?.as_i64_or_null()?.map(|seconds| clamp(seconds).max(1)))
}

pub(super) fn address(row: &Row<'_>, column: usize) -> Result<Option<IpAddr>> {
    Ok(row.get_ref(column)?.as_str_or_null()?.and_then(|text| text.parse().ok()))
}

pub(super) fn time(row: &Row<'_>, column: usize) -> Result<Timestamp> {
    number(row, column).map(Timestamp)
}

pub(super) fn optional_time(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>> {
    Ok(optional_number(row, column)?.map(Timestamp))
}

fn clamp(value: i64) -> u32 {
    u32::try_from(value.max(0)).unwrap_or(u32::MAX)
}

fn word<T: Word>(row: &Row<'_>, column: usize, fallback: T) -> Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    Ok(T::from_word(text).unwrap_or_else(|| {
        error!(
            word = text,
            taken_for = fallback.word(),
            "the store has a word that this version does not know"
        );
        fallback
    }))
}

/// A list of texts. One that cannot be read becomes a list of the whole text: a name that nothing has.
fn list(row: &Row<'_>, column: usize) -> Result<Vec<String>> {
    let text = row.get_ref(column)?.as_str_or_null()?;
    Ok(text.map_or_else(Vec::new, parse_list))
}

/// As [`list`], of a text.
pub(super) fn parse_list(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|_| vec![text.to_owned()])
}

/// Equal texts share memory.
#[derive(Debug, Default)]
pub(super) struct Interner(std::collections::HashSet<Arc<str>>);

impl Interner {
    pub(super) fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let shared: Arc<str> = text.into();
        self.0.insert(Arc::clone(&shared));
        shared
    }
}
