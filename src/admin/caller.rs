//! Who calls the management API, and what they may: tokens are found and judged by the data plane's own cache and policy.
//!
//! What must not live here: any rule about who may do what. A handler says what it needs; [`crate::policy`] decides.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::header::USER_AGENT;
use http::request::Parts;

use super::server::{Peer, RequestId};
use super::{Admin, ApiError};
use crate::directory::gather::{Gathered, Question};
use crate::directory::model::{Resource, Timestamp};
use crate::directory::view::ProjectCell;
use crate::directory::{Author, Channel};
use crate::error::Answer;
use crate::error::response::{Answers, Details};
use crate::headers::forwarded;
use crate::policy::facts::UserKind;
use crate::policy::{self, AuthenticationPolicy, Check, Denial, Permission, PermissionSet, Role};
use crate::token::{TokenIndex, TokenKind, credential};

/// What a token must pass to be anybody's.
const GOOD_TOKEN: [Check; 4] =
    [Check::NotRevoked, Check::NotExpired, Check::UserActive, Check::TokenAddresses];

/// What it must pass once more when it is about its holder: a body may have come long after the head.
const STILL_GOOD_TOKEN: [Check; 5] =
    [Check::NotRevoked, Check::NotExpired, Check::UserActive, Check::TokenAddresses, Check::Scopes];

/// What a token must pass to reach an organization at all, whatever is asked of it there.
const REACHES_ORGANIZATION: [Check; 9] = [
    Check::NotRevoked,
    Check::NotExpired,
    Check::UserActive,
    Check::Member,
    Check::OrganizationAddresses,
    Check::TokenAddresses,
    Check::PersonalTokensEnabled,
    Check::MethodAllowed,
    Check::TwoFactor,
];

/// Whoever holds the valid token that a request came with.
#[derive(Clone, Debug)]
pub struct Caller {
    token: TokenIndex,
    token_prefix: String,
    token_kind: TokenKind,
    user_id: String,
    user_kind: UserKind,
    address: IpAddr,
    request_id: String,
    /// Read once: a request has one time.
    now: Timestamp,
}

impl FromRequestParts<Arc<Admin>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, admin: &Arc<Admin>) -> Result<Self, ApiError> {
        let address = client_address(parts, admin);
        let credential = credential::from_headers(&parts.headers)
            .map_err(|error| denied(admin, error.into(), Details::default()))?;
        let directory = &admin.shared.directory;
        if directory.status.is_stale() {
            return Err(said(admin, Answer::DirectoryStale, Details::default()));
        }
        let entry = directory
            .tokens
            .find(&credential.digest)
            .ok_or_else(|| denied(admin, Denial::UnknownToken, Details::default()))?;
        let now = admin.now();
        let question = Question { now: now.0, client_address: address, required: Permission::UserRead };
        let gathered = Gathered::new(directory, entry, None, question);
        let token_prefix = match (gathered.token().imported_prefix(), credential.prefix) {
            (Some(imported), _) => imported.to_owned(),
            (None, Some(own)) => String::from_utf8_lossy(&own).into_owned(),
            (None, None) => "-".to_owned(),
        };
        policy::check(&gathered.facts(), &GOOD_TOKEN).map_err(|denial| {
            denied(admin, denial, Details { token_prefix: Some(&token_prefix), ..Details::default() })
        })?;
        let user_agent = parts.headers.get(USER_AGENT).map(http::HeaderValue::as_bytes);
        directory.usage.touch(entry, now.0, address, user_agent);
        directory.usage.add_requests(entry, 1);
        Ok(Self {
            token: entry.index(),
            token_kind: gathered.facts().token.kind,
            user_id: gathered.user().id.to_str().unwrap_or_default().to_owned(),
            user_kind: gathered.user().kind,
            token_prefix,
            address,
            request_id: request_id(parts),
            now,
        })
    }
}

impl Caller {
    /// Whose token it is.
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// Person or program.
    pub fn user_kind(&self) -> UserKind {
        self.user_kind
    }

    /// Public handle of the token that the request came with.
    pub fn token_prefix(&self) -> &str {
        &self.token_prefix
    }

    /// Application, personal or session token.
    pub fn token_kind(&self) -> TokenKind {
        self.token_kind
    }

    /// When the token that the request came with ends if it is not used again; `None`: never.
    pub fn expiry_time(&self, admin: &Admin) -> Option<Timestamp> {
        let entry = admin.shared.directory.tokens.entry(self.token)?;
        entry.state().facts().expires_at.map(Timestamp)
    }

    /// From where the request came.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// When the request came.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Who a change is said to be by.
    pub fn author(&self) -> Author {
        Author {
            channel: Channel::Api,
            user_id: Some(self.user_id.clone()),
            token_prefix: Some(self.token_prefix.clone()),
            address: Some(self.address),
            request_id: Some(self.request_id.clone()),
        }
    }

    /// Asks for a permission on a resource: the whole of the policy, as on the data plane.
    ///
    /// # Errors
    ///
    /// 404 for who does not belong to the resource's organization, else the policy's own refusal.
    pub fn require(
        &self,
        admin: &Admin,
        resource: &Resource,
        permission: Permission,
    ) -> Result<(), ApiError> {
        self.judge(admin, resource, Needs::Permission(permission), |facts| policy::decide(facts).map(drop))
    }

    /// Asks for all of some permissions on a resource.
    ///
    /// # Errors
    ///
    /// As [`Self::require`].
    pub fn require_all(
        &self,
        admin: &Admin,
        resource: &Resource,
        permissions: PermissionSet,
    ) -> Result<(), ApiError> {
        permissions.iter().try_for_each(|permission| self.require(admin, resource, permission))
    }

    /// Asks that the caller belongs to an organization and may reach it, without any permission.
    ///
    /// # Errors
    ///
    /// As [`Self::require`].
    pub fn require_member(&self, admin: &Admin, organization_id: &str) -> Result<(), ApiError> {
        let organization = Resource::Organization(organization_id.to_owned());
        self.judge(admin, &organization, Needs::Permission(Permission::UserRead), |facts| {
            policy::check(facts, &REACHES_ORGANIZATION)
        })
    }

    /// Asks for an admin of the whole organization: a super admin, or who holds all that `role:organization:admin` has.
    ///
    /// # Errors
    ///
    /// As [`Self::require`].
    pub fn require_organization_admin(&self, admin: &Admin, organization_id: &str) -> Result<(), ApiError> {
        let organization = Resource::Organization(organization_id.to_owned());
        self.require_role(admin, &organization, Role::OrganizationAdmin)
    }

    /// Asks for an admin of a resource: who holds everything that is below it.
    ///
    /// # Errors
    ///
    /// As [`Self::require`].
    pub fn require_resource_admin(&self, admin: &Admin, resource: &Resource) -> Result<(), ApiError> {
        match resource {
            Resource::Organization(id) => self.require_organization_admin(admin, id),
            Resource::OrganizationUnit(_) | Resource::Project(_) => {
                self.require_role(admin, resource, Role::ProjectAdmin)
            }
        }
    }

    /// Asks for all that a role has. Which part of it is missing first tells nobody what to ask for.
    fn require_role(&self, admin: &Admin, resource: &Resource, role: Role) -> Result<(), ApiError> {
        role.permissions().iter().try_for_each(|permission| {
            self.judge(admin, resource, Needs::Role(role, permission), |facts| {
                policy::decide(facts).map(drop)
            })
        })
    }

    /// Whether the caller would still reach an organization under another policy, with this token and from here.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn reaches_under(
        &self,
        admin: &Admin,
        organization_id: &str,
        policy: &AuthenticationPolicy,
    ) -> Result<(), Denial> {
        let place = admin.shared.directory.resource(&Resource::Organization(organization_id.to_owned()));
        self.look(admin, place.as_ref(), Permission::UserRead, |facts| {
            policy::check(&facts.under(policy), &REACHES_ORGANIZATION)
        })
    }

    /// Asks that the token's scopes let it look at, or change, its holder's own profile and tokens.
    ///
    /// # Errors
    ///
    /// 403 with `insufficient_scope`; 401 if the token has ended since the request's head came.
    pub fn require_own(&self, admin: &Admin, permission: Permission) -> Result<(), ApiError> {
        self.look(admin, None, permission, |facts| policy::check(facts, &STILL_GOOD_TOKEN))
            .map_err(|denial| self.refusal(admin, denial, Needs::Permission(permission)))
    }

    /// Asks that the caller has logged in itself. Personal tokens are handed to programs: one of them, with a password that
    /// was found beside it, must not become a login without the second factor, nor take that away.
    ///
    /// # Errors
    ///
    /// 403 with `session_required`.
    pub fn require_session(&self) -> Result<(), ApiError> {
        if self.token_kind == TokenKind::Session {
            return Ok(());
        }
        Err(ApiError::forbidden(
            "session_required",
            "Only somebody who has logged in changes how they log in: use the token of a session, not a personal token.",
        ))
    }

    fn judge(
        &self,
        admin: &Admin,
        resource: &Resource,
        needs: Needs,
        decide: impl FnOnce(&policy::Facts<'_>) -> Result<(), Denial>,
    ) -> Result<(), ApiError> {
        let (entity, id) = named(resource);
        let place = admin.shared.directory.resource(resource);
        let place = place.ok_or_else(|| ApiError::not_found(entity, id))?;
        match self.look(admin, Some(&place), needs.permission(), decide) {
            Ok(()) => Ok(()),
            // Who is not of the organization does not learn that it is there.
            Err(Denial::NotAMember) => Err(ApiError::not_found(entity, id)),
            Err(denial) => Err(self.refusal(admin, denial, needs)),
        }
    }

    fn look(
        &self,
        admin: &Admin,
        place: Option<&ProjectCell>,
        required: Permission,
        decide: impl FnOnce(&policy::Facts<'_>) -> Result<(), Denial>,
    ) -> Result<(), Denial> {
        let directory = &admin.shared.directory;
        let entry = directory.tokens.entry(self.token).ok_or(Denial::UnknownToken)?;
        let question = Question { now: self.now.0, client_address: self.address, required };
        decide(&Gathered::new(directory, entry, place, question).facts())
    }

    fn refusal(&self, admin: &Admin, denial: Denial, needs: Needs) -> ApiError {
        let required = match needs {
            Needs::Permission(permission) => Some(permission),
            Needs::Role(..) => None,
        };
        let refusal = denied(
            admin,
            denial,
            Details { required, token_prefix: Some(&self.token_prefix), ..Details::default() },
        );
        match (denial, needs) {
            (Denial::PermissionDenied, Needs::Permission(required)) => refusal.saying(format!(
                "The user of this token does not hold {required} here. Ask an admin of the organization to grant it."
            )),
            (Denial::PermissionDenied, Needs::Role(role, _)) => {
                refusal.saying(format!("This needs {}. The user of this token is none.", admin_of(role)))
            }
            (Denial::InsufficientScope, Needs::Role(role, _)) => refusal.saying(format!(
                "This needs {}, and the scopes of this token leave a part of that out.",
                admin_of(role)
            )),
            _ => refusal,
        }
    }
}

/// What a handler asks for.
#[derive(Clone, Copy)]
enum Needs {
    Permission(Permission),
    /// All that a role has; this is the part that is looked at.
    Role(Role, Permission),
}

impl Needs {
    const fn permission(self) -> Permission {
        match self {
            Self::Permission(permission) | Self::Role(_, permission) => permission,
        }
    }
}

fn admin_of(role: Role) -> &'static str {
    match role {
        Role::OrganizationAdmin => "an admin of the organization (role:organization:admin, or a super admin)",
        _ => "an admin of the resource (role:project:admin there or above it, or a super admin)",
    }
}

/// From where a request came, by the rules of the `[admin]` listener.
pub(super) fn client_address(parts: &Parts, admin: &Admin) -> IpAddr {
    let peer = parts.extensions.get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0.ip());
    forwarded::client_address(&admin.settings().admin.trusted_proxies, peer, &parts.headers)
}

/// The name of a request.
pub(super) fn request_id(parts: &Parts) -> String {
    parts.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default()
}

fn denied(admin: &Admin, denial: Denial, details: Details<'_>) -> ApiError {
    said(admin, Answer::Denied(denial), details)
}

fn said(admin: &Admin, answer: Answer, details: Details<'_>) -> ApiError {
    let realm = admin.settings().organization.name.as_str().into();
    ApiError::denied(&Answers::new(realm), answer, details)
}

fn named(resource: &Resource) -> (&'static str, &str) {
    match resource {
        Resource::Organization(id) => ("organization", id),
        Resource::OrganizationUnit(id) => ("organizational unit", id),
        Resource::Project(name) => ("project", name),
    }
}
