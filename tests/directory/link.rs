//! One sidecar's way to the store, which fails when it is told to: before an answer, amid one, and after what was asked for has
//! happened. The store behind it is the real one. While somebody reads, others may write.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use postern::directory::model::{
    AuthenticationMethod, Domain, Grant, Group, IdentityProvider, Invitation, Member, MembershipRecord,
    MethodKind, Organization, OrganizationalUnit, PasswordRecord, PasswordReset, Principal, Project,
    Resource, Sequence, Timestamp, TokenWithUsage, TotpRecord, User,
};
use postern::directory::sqlite::SqliteStore;
use postern::directory::store::people::PeopleRecords;
use postern::directory::store::{
    Change, ChangeMark, Changes, DirectorySnapshot, EventPage, EventQuery, Records, SnapshotReceiver,
    TokenRow, UsageUpdate,
};
use postern::directory::{Author, OperationError, Store, StoreError};
use postern::policy::facts::UserKind;
use postern::token::{TokenDigest, TokenKind};

/// What goes on elsewhere while somebody reads.
pub(crate) type Elsewhere = dyn Fn() + Send + Sync;

/// The way to the store.
pub(crate) struct Link {
    store: SqliteStore,
    elsewhere: Arc<Elsewhere>,
    weather: Mutex<Weather>,
}

/// What becomes of the looks at the store to come.
#[derive(Debug, Default)]
struct Weather {
    is_cut: bool,
    /// After so many looks that go well the link is cut.
    cut_after: Option<u32>,
    /// After so many looks something happens elsewhere.
    elsewhere_after: Option<u32>,
    /// So many times the version told last is told again.
    late_versions: u32,
    told_version: u64,
    /// Changes happen, and whoever asked for them is not told.
    loses_answers: bool,
}

impl Link {
    pub(crate) fn new(store: SqliteStore, elsewhere: Arc<Elsewhere>) -> Self {
        Self { store, elsewhere, weather: Mutex::default() }
    }

    /// Nothing comes through.
    pub(crate) fn cut(&self) {
        self.weather.lock().is_cut = true;
    }

    /// Everything comes through again.
    pub(crate) fn mend(&self) {
        let told_version = self.weather.lock().told_version;
        *self.weather.lock() = Weather { told_version, ..Weather::default() };
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.weather.lock().is_cut
    }

    /// Is cut after so many looks, likely amid what belongs together.
    pub(crate) fn cut_after(&self, looks: u32) {
        self.weather.lock().cut_after = Some(looks);
    }

    /// After so many looks something happens elsewhere, likely amid what belongs together.
    pub(crate) fn elsewhere_after(&self, looks: u32) {
        self.weather.lock().elsewhere_after = Some(looks);
    }

    /// That there is something new is told so many looks too late.
    pub(crate) fn delay_versions(&self, looks: u32) {
        self.weather.lock().late_versions = looks;
    }

    /// Changes happen, and whoever asked for them is not told.
    pub(crate) fn lose_answers(&self) {
        self.weather.lock().loses_answers = true;
    }

    /// One look at the store.
    fn look(&self) -> Result<(), StoreError> {
        let mut weather = self.weather.lock();
        weather.is_cut |= is_due(&mut weather.cut_after);
        if weather.is_cut {
            return Err(self.failure());
        }
        let happens = is_due(&mut weather.elsewhere_after);
        drop(weather);
        if happens {
            (self.elsewhere)();
        }
        Ok(())
    }

    fn failure(&self) -> StoreError {
        StoreError::Unavailable { path: self.store.location().into(), detail: "the link is cut".to_owned() }
    }
}

/// Counts one look; whether it was the last one before something is due.
fn is_due(after: &mut Option<u32>) -> bool {
    match after {
        Some(0) => {
            *after = None;
            true
        }
        Some(looks) => {
            *looks -= 1;
            false
        }
        None => false,
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("weather", &self.weather).finish_non_exhaustive()
    }
}

impl Store for Link {
    fn location(&self) -> String {
        self.store.location()
    }

    fn read_with(
        &self,
        work: &mut dyn FnMut(&dyn Records) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.look()?;
        self.store.read_with(&mut |records| work(&Watched { records, link: self }))?;
        self.look()
    }

    fn follow_with(
        &self,
        work: &mut dyn FnMut(&dyn Records) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.look()?;
        self.store.follow_with(&mut |records| work(&Watched { records, link: self }))?;
        self.look()
    }

    fn change_by(
        &self,
        author: &Author,
        now: Timestamp,
        work: &mut dyn FnMut(&dyn Changes) -> Result<(), OperationError>,
    ) -> Result<Sequence, OperationError> {
        self.look()?;
        let sequence = self.store.change_by(author, now, work)?;
        if self.weather.lock().loses_answers {
            return Err(self.failure().into());
        }
        Ok(sequence)
    }

    fn snapshot(&self, receiver: &mut dyn SnapshotReceiver) -> Result<(), StoreError> {
        self.look()?;
        self.store.snapshot(&mut Received { receiver, link: self })?;
        self.look()
    }

    fn version(&self) -> Result<u64, StoreError> {
        self.look()?;
        let version = self.store.version()?;
        let mut weather = self.weather.lock();
        if weather.late_versions > 0 {
            weather.late_versions -= 1;
        } else {
            weather.told_version = version;
        }
        Ok(weather.told_version)
    }

    fn record_usage(&self, updates: &[UsageUpdate]) -> Result<(), StoreError> {
        self.look()?;
        self.store.record_usage(updates)
    }

    fn prune_events(&self, before: Timestamp, at_most: u32) -> Result<usize, StoreError> {
        self.look()?;
        self.store.prune_events(before, at_most)
    }
}

/// A snapshot on its way. It cannot fail here, but others may write meanwhile.
struct Received<'a> {
    receiver: &'a mut dyn SnapshotReceiver,
    link: &'a Link,
}

impl SnapshotReceiver for Received<'_> {
    fn receive_directory(&mut self, directory: DirectorySnapshot) {
        self.receiver.receive_directory(directory);
        // What fails is told at the end of the snapshot.
        let _told_later = self.link.look();
    }

    fn receive_tokens(&mut self, tokens: Vec<TokenRow>) {
        let _told_later = self.link.look();
        self.receiver.receive_tokens(tokens);
    }
}

/// Records, each of which may not come through.
struct Watched<'a> {
    records: &'a dyn Records,
    link: &'a Link,
}

/// Passes on, after a look, what is asked of records.
macro_rules! passed_on {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)+) => {
        $(fn $name(&self, $($argument: $type),*) -> Result<$result, StoreError> {
            self.link.look()?;
            self.records.$name($($argument),*)
        })+
    };
}

impl Records for Watched<'_> {
    passed_on! {
        sequence() -> Sequence;
        changes_after(sequence: Sequence, limit: u32) -> Vec<Change>;
        change_mark(sequence: Sequence) -> Option<ChangeMark>;
        organization(id: &str) -> Option<Organization>;
        organizations() -> Vec<Organization>;
        unit(id: &str) -> Option<OrganizationalUnit>;
        units(organization_id: &str) -> Vec<OrganizationalUnit>;
        project(name: &str) -> Option<Project>;
        projects(organization_id: &str) -> Vec<Project>;
        user(id: &str) -> Option<User>;
        user_number(id: &str) -> Option<u32>;
        user_id(number: u32) -> Option<String>;
        user_by_email(email: &str) -> Option<User>;
        members(organization_id: &str, kind: UserKind) -> Vec<Member>;
        memberships(user_id: &str) -> Vec<MembershipRecord>;
        authentication_method(id: &str) -> Option<AuthenticationMethod>;
        authentication_methods(user_id: &str) -> Vec<AuthenticationMethod>;
        authentication_method_of(kind: MethodKind, provider: Option<&str>, subject: &str) -> Option<AuthenticationMethod>;
        identity_provider(id: &str) -> Option<IdentityProvider>;
        identity_providers(organization_id: &str) -> Vec<IdentityProvider>;
        sealed_client_secret(identity_provider_id: &str) -> Option<Vec<u8>>;
        domain(id: &str) -> Option<Domain>;
        verified_domain(name: &str) -> Option<Domain>;
        domains(organization_id: &str) -> Vec<Domain>;
        is_invited(email: &str, now: Timestamp) -> bool;
        people_at(domain: &str) -> Vec<User>;
        group(id: &str) -> Option<Group>;
        groups(organization_id: &str) -> Vec<Group>;
        group_members(group_id: &str) -> Vec<String>;
        groups_of_user(user_id: &str) -> Vec<Group>;
        grant(principal: &Principal, resource: &Resource) -> Option<Grant>;
        grants_on(resource: &Resource) -> Vec<Grant>;
        grants_of(principal: &Principal) -> Vec<Grant>;
        grants_reaching(user_id: &str) -> Vec<Grant>;
        token(prefix: &str) -> Option<TokenWithUsage>;
        token_by_number(number: u32) -> Option<TokenWithUsage>;
        token_by_digest(digest: &TokenDigest) -> Option<TokenWithUsage>;
        tokens(user_id: &str) -> Vec<TokenWithUsage>;
        token_row(number: u32) -> Option<TokenRow>;
        events(query: &EventQuery<'_>) -> EventPage;
        last_event() -> u64;
    }
}

impl PeopleRecords for Watched<'_> {
    passed_on! {
        password(user_id: &str) -> Option<PasswordRecord>;
        totp(user_id: &str) -> Option<TotpRecord>;
        password_reset(code: &TokenDigest) -> Option<PasswordReset>;
        invitation(organization_id: &str, email: &str) -> Option<Invitation>;
        invitation_by_code(code: &TokenDigest) -> Option<Invitation>;
        invitations(organization_id: &str) -> Vec<Invitation>;
        invitations_of(email: &str) -> Vec<Invitation>;
        living_tokens(user_id: &str, kind: TokenKind, now: Timestamp) -> Vec<u32>;
        last_activity(user_id: &str) -> Option<Timestamp>;
        session_addresses() -> Vec<(String, IpAddr)>;
    }
}
