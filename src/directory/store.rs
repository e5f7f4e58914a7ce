//! How the directory is kept durable: the trait that every store implements, and what it hands out.
//!
//! Calls block; they belong on control threads, never on a worker. Which operations exist and when they are
//! allowed is not known here ([`super::operations`]).

mod events;
pub mod people;
mod snapshot;

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

use super::author::{Author, Channel};
use super::error::{OperationError, StoreError};
use super::model::{
    AuthenticationMethod, Domain, Grant, Group, IdentityProvider, Member, MembershipRecord, MethodKind,
    Organization, OrganizationalUnit, Principal, Project, Resource, Sequence, Timestamp, Token,
    TokenWithUsage, User,
};
use crate::policy::facts::UserKind;
use crate::token::TokenDigest;
use crate::token::usage::UserAgent;
use people::{PeopleChanges, PeopleRecords};

pub use events::{EventOrder, EventPage, EventQuery, EventScope, NewEvent};
pub use snapshot::{DirectorySnapshot, RowBinding, SnapshotReceiver, TokenRow};

/// A place where the directory is durable.
pub trait Store: Send + Sync + Debug {
    /// Where it is, for messages.
    fn location(&self) -> String;

    /// Runs `work` on one consistent state of the directory.
    fn read_with(
        &self,
        work: &mut dyn FnMut(&dyn Records) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;

    /// As [`Store::read_with`], for whoever brings changes into memory: it waits for no other reader.
    fn follow_with(
        &self,
        work: &mut dyn FnMut(&dyn Records) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;

    /// Runs `work` in one transaction: all of it happens, with its entries in the log of changes, or nothing does.
    /// Durable once this returns. The result is the sequence of the last change, `work`'s own or an earlier one. The event
    /// log says that it was Postern itself.
    fn change_with(
        &self,
        now: Timestamp,
        work: &mut dyn FnMut(&dyn Changes) -> Result<(), OperationError>,
    ) -> Result<Sequence, OperationError> {
        self.change_by(&Author::of(Channel::System), now, work)
    }

    /// As [`Store::change_with`]; the event log says that it was `author`.
    fn change_by(
        &self,
        author: &Author,
        now: Timestamp,
        work: &mut dyn FnMut(&dyn Changes) -> Result<(), OperationError>,
    ) -> Result<Sequence, OperationError>;

    /// Hands one consistent state of the whole directory to `receiver`.
    fn snapshot(&self, receiver: &mut dyn SnapshotReceiver) -> Result<(), StoreError>;

    /// A number that differs from the one before if anything may have been written in between, by any process.
    /// Cheap enough to ask for many times a second.
    fn version(&self) -> Result<u64, StoreError>;

    /// Merges usage into what is stored: times only move forward, requests are added. Not in the log of changes.
    fn record_usage(&self, updates: &[UsageUpdate]) -> Result<(), StoreError>;

    /// Removes entries of the event log that are older than `before`, the oldest first, at most so many at once; returns
    /// how many.
    fn prune_events(&self, before: Timestamp, at_most: u32) -> Result<usize, StoreError>;
}

impl dyn Store + '_ {
    /// Runs `work` on one consistent state of the directory and returns its result.
    pub fn read<T>(&self, work: impl Fn(&dyn Records) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut result = None;
        self.read_with(&mut |records| {
            result = Some(work(records)?);
            Ok(())
        })?;
        Ok(result.expect("read_with runs the work before it reports success"))
    }

    /// Runs `work` in one transaction and returns its result with the sequence of the last change.
    pub fn change<T>(
        &self,
        now: Timestamp,
        work: impl Fn(&dyn Changes) -> Result<T, OperationError>,
    ) -> Result<Changed<T>, OperationError> {
        let mut result = None;
        let sequence = self.change_with(now, &mut |changes| {
            result = Some(work(changes)?);
            Ok(())
        })?;
        let value = result.expect("change_with runs the work before it reports success");
        Ok(Changed { value, sequence })
    }
}

/// The result of an operation, and the position in the log of changes from which on it is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed<T> {
    /// The result.
    pub value: T,
    /// A view of the directory that has applied this sequence shows the result.
    pub sequence: Sequence,
}

/// Reading one consistent state of the directory. Lists are sorted by name or id.
pub trait Records: PeopleRecords {
    /// Sequence of the last change in this state.
    fn sequence(&self) -> Result<Sequence, StoreError>;
    /// Entries of the log of changes after `sequence`, oldest first, at most `limit`.
    fn changes_after(&self, sequence: Sequence, limit: u32) -> Result<Vec<Change>, StoreError>;
    /// What tells the entry at `sequence` from another one with the same number; `None`: there is no such entry.
    fn change_mark(&self, sequence: Sequence) -> Result<Option<ChangeMark>, StoreError>;

    /// The organization with this id.
    fn organization(&self, id: &str) -> Result<Option<Organization>, StoreError>;
    /// All organizations.
    fn organizations(&self) -> Result<Vec<Organization>, StoreError>;
    /// The unit with this id.
    fn unit(&self, id: &str) -> Result<Option<OrganizationalUnit>, StoreError>;
    /// The units of an organization, at any depth.
    fn units(&self, organization_id: &str) -> Result<Vec<OrganizationalUnit>, StoreError>;
    /// The project with this name.
    fn project(&self, name: &str) -> Result<Option<Project>, StoreError>;
    /// The projects of an organization, at any depth.
    fn projects(&self, organization_id: &str) -> Result<Vec<Project>, StoreError>;

    /// The user with this id, deleted ones included.
    fn user(&self, id: &str) -> Result<Option<User>, StoreError>;
    /// The store's number for the user with this id.
    fn user_number(&self, id: &str) -> Result<Option<u32>, StoreError>;
    /// The id of the user with this number.
    fn user_id(&self, number: u32) -> Result<Option<String>, StoreError>;
    /// The user with this email address, deleted ones not included.
    fn user_by_email(&self, email: &str) -> Result<Option<User>, StoreError>;
    /// The members of an organization that are of this kind.
    fn members(&self, organization_id: &str, kind: UserKind) -> Result<Vec<Member>, StoreError>;
    /// The organizations a user belongs to.
    fn memberships(&self, user_id: &str) -> Result<Vec<MembershipRecord>, StoreError>;

    /// The authentication method with this id.
    fn authentication_method(&self, id: &str) -> Result<Option<AuthenticationMethod>, StoreError>;
    /// The authentication methods of a user.
    fn authentication_methods(&self, user_id: &str) -> Result<Vec<AuthenticationMethod>, StoreError>;
    /// The authentication method of who has this subject at a third party, or at the identity provider with this id.
    fn authentication_method_of(
        &self,
        kind: MethodKind,
        identity_provider_id: Option<&str>,
        subject: &str,
    ) -> Result<Option<AuthenticationMethod>, StoreError>;
    /// The identity provider with this id.
    fn identity_provider(&self, id: &str) -> Result<Option<IdentityProvider>, StoreError>;
    /// The identity providers of an organization.
    fn identity_providers(&self, organization_id: &str) -> Result<Vec<IdentityProvider>, StoreError>;
    /// The sealed client secret of an identity provider.
    fn sealed_client_secret(&self, identity_provider_id: &str) -> Result<Option<Vec<u8>>, StoreError>;
    /// The domain with this id.
    fn domain(&self, id: &str) -> Result<Option<Domain>, StoreError>;
    /// The verified domain with this name; at most one organization has it.
    fn verified_domain(&self, name: &str) -> Result<Option<Domain>, StoreError>;
    /// The domains of an organization.
    fn domains(&self, organization_id: &str) -> Result<Vec<Domain>, StoreError>;
    /// Whether an organization has invited who has this email address, and the invitation holds at `now`.
    fn is_invited(&self, email: &str, now: Timestamp) -> Result<bool, StoreError>;
    /// The people whose email address is at this domain, deleted ones not included.
    fn people_at(&self, domain: &str) -> Result<Vec<User>, StoreError>;

    /// The group with this id.
    fn group(&self, id: &str) -> Result<Option<Group>, StoreError>;
    /// The groups of an organization.
    fn groups(&self, organization_id: &str) -> Result<Vec<Group>, StoreError>;
    /// The ids of a group's members.
    fn group_members(&self, group_id: &str) -> Result<Vec<String>, StoreError>;
    /// The groups a user is in, of all organizations.
    fn groups_of_user(&self, user_id: &str) -> Result<Vec<Group>, StoreError>;

    /// The grant of a principal on a resource.
    fn grant(&self, principal: &Principal, resource: &Resource) -> Result<Option<Grant>, StoreError>;
    /// All grants on a resource.
    fn grants_on(&self, resource: &Resource) -> Result<Vec<Grant>, StoreError>;
    /// All grants of a principal, those of a user's groups not included.
    fn grants_of(&self, principal: &Principal) -> Result<Vec<Grant>, StoreError>;
    /// All grants that reach a user: its own and those of its groups.
    fn grants_reaching(&self, user_id: &str) -> Result<Vec<Grant>, StoreError>;

    /// The token with this prefix, revoked ones included.
    fn token(&self, prefix: &str) -> Result<Option<TokenWithUsage>, StoreError>;
    /// The token with this number, revoked ones included.
    fn token_by_number(&self, number: u32) -> Result<Option<TokenWithUsage>, StoreError>;
    /// The token with this digest, revoked ones included.
    fn token_by_digest(&self, digest: &TokenDigest) -> Result<Option<TokenWithUsage>, StoreError>;
    /// The tokens of a user, revoked ones included, newest first.
    fn tokens(&self, user_id: &str) -> Result<Vec<TokenWithUsage>, StoreError>;
    /// What the token cache needs of the token with this number.
    fn token_row(&self, number: u32) -> Result<Option<TokenRow>, StoreError>;

    /// Some entries of the event log. Looks at a bounded number of them, so that it never takes long.
    fn events(&self, query: &EventQuery<'_>) -> Result<EventPage, StoreError>;
    /// The number of the latest entry of the event log; 0: there was never one.
    fn last_event(&self) -> Result<u64, StoreError>;
}

/// Changing the directory within one transaction. Each call also writes what it touches to the log of changes, and what it
/// did to the event log.
/// `put_*` inserts, or replaces the record with the same id.
pub trait Changes: PeopleChanges {
    /// Reading the state that the transaction has made so far.
    fn records(&self) -> &dyn Records;

    /// Inserts or replaces.
    fn put_organization(&self, organization: &Organization) -> Result<(), StoreError>;
    /// Inserts or replaces.
    fn put_unit(&self, unit: &OrganizationalUnit) -> Result<(), StoreError>;
    /// Removes a unit without content, and the grants on it.
    fn delete_unit(&self, id: &str) -> Result<(), StoreError>;
    /// Inserts or replaces.
    fn put_project(&self, project: &Project) -> Result<(), StoreError>;
    /// Removes a project, and the grants on it.
    fn delete_project(&self, name: &str) -> Result<(), StoreError>;

    /// Inserts or replaces.
    fn put_user(&self, user: &User) -> Result<(), StoreError>;
    /// Inserts or replaces.
    fn put_membership(&self, membership: &MembershipRecord) -> Result<(), StoreError>;
    /// Takes a user out of an organization, with its grants on the organization's resources and its memberships
    /// of the organization's groups.
    fn delete_membership(&self, user_id: &str, organization_id: &str) -> Result<(), StoreError>;

    /// Adds a method.
    fn insert_authentication_method(&self, method: &AuthenticationMethod) -> Result<(), StoreError>;
    /// Sets who the method's person is at the third party or provider.
    fn set_authentication_method_subject(&self, id: &str, subject: &str) -> Result<(), StoreError>;
    /// Removes a method and revokes the tokens bound to it; returns how many it revoked.
    fn delete_authentication_method(&self, id: &str) -> Result<usize, StoreError>;
    /// Inserts or replaces.
    fn put_identity_provider(&self, provider: &IdentityProvider) -> Result<(), StoreError>;
    /// Keeps the sealed client secret of an identity provider; `None`: it has none.
    fn put_sealed_client_secret(
        &self,
        identity_provider_id: &str,
        sealed: Option<&[u8]>,
    ) -> Result<(), StoreError>;
    /// Removes a provider with the authentication methods that use it, and revokes the tokens bound to them;
    /// returns how many it revoked.
    fn delete_identity_provider(&self, id: &str) -> Result<usize, StoreError>;
    /// Inserts or replaces.
    fn put_domain(&self, domain: &Domain) -> Result<(), StoreError>;

    /// Inserts or replaces.
    fn put_group(&self, group: &Group) -> Result<(), StoreError>;
    /// Removes a group with its members and grants.
    fn delete_group(&self, id: &str) -> Result<(), StoreError>;
    /// Adds a user to a group; nothing happens if it is in.
    fn add_group_member(&self, group_id: &str, user_id: &str) -> Result<(), StoreError>;
    /// Takes a user out of a group; nothing happens if it is not in.
    fn remove_group_member(&self, group_id: &str, user_id: &str) -> Result<(), StoreError>;

    /// Inserts or replaces.
    fn put_grant(&self, grant: &Grant) -> Result<(), StoreError>;
    /// Removes the grant of a principal on a resource.
    fn delete_grant(&self, principal: &Principal, resource: &Resource) -> Result<(), StoreError>;

    /// Adds a token; its number is ignored, the store chooses one.
    fn insert_token(&self, token: &Token) -> Result<(), StoreError>;
    /// Replaces description, lifetime, end, addresses and scopes of a token.
    fn update_token(&self, token: &Token) -> Result<(), StoreError>;
    /// Whether a token with this prefix or digest is there.
    fn token_taken(&self, token: &Token) -> Result<bool, StoreError>;
    /// Revokes a token that was not revoked.
    fn revoke_token(&self, number: u32) -> Result<(), StoreError>;
    /// Revokes a user's personal tokens that are bound to the password method; returns how many it revoked.
    fn revoke_personal_password_tokens(&self, user_id: &str) -> Result<usize, StoreError>;

    /// Notes in the event log what changes no record, such as a login. Never with a secret in it.
    fn record_event(&self, event: &NewEvent<'_>) -> Result<(), StoreError>;
}

/// One entry of the log of changes: what changed, not how. Who applies it reads the present state of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Position in the log.
    pub sequence: Sequence,
    /// What changed; `None` for a kind of thing that this version does not know.
    pub entity: Option<Entity>,
}

/// What an entry of the log of changes says, and when it was made. Two logs with the same mark at the same place have the same past
/// up to there: nothing else makes an entry for the same thing, with the same number, in the same second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeMark {
    /// Kind of what changed, as stored.
    pub entity: String,
    /// Its id, as stored.
    pub entity_id: String,
    /// When, in seconds since the epoch, by the clock of whoever changed it.
    pub change_time: i64,
}

/// Something that can change, by kind and id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entity {
    /// Name or policy of an organization.
    Organization(String),
    /// Place of a unit.
    Unit(String),
    /// Place of a project.
    Project(String),
    /// A user: itself, its memberships, its groups or its own grants.
    User(String),
    /// The grants of a group.
    Group(String),
    /// An identity provider.
    IdentityProvider(String),
    /// A domain.
    Domain(String),
    /// A token, by number.
    Token(u32),
}

/// The use of one token since the last flush.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageUpdate {
    /// The store's number for the token.
    pub token_number: u32,
    /// When it was last used.
    pub last_used_at: u32,
    /// From where.
    pub address: Option<IpAddr>,
    /// By what.
    pub user_agent: Option<Arc<UserAgent>>,
    /// How many requests it was used for since the last flush.
    pub requests: u32,
}
