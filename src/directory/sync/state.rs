//! What the applier knows: the cells by id, the numbers given out, and how a record becomes what workers see.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderValue;
use smallvec::SmallVec;
use tracing::error;

use super::numbers::Numbers;
use super::touched::Touched;
use super::{PinnedPolicies, convert};
use crate::directory::candidate::Candidate;
use crate::directory::error::StoreError;
use crate::directory::model::{
    Grant, IdentityProvider, MembershipRecord, MethodKind, Organization, OrganizationalUnit, Principal,
    Project, Resource, Sequence, Timestamp, User,
};
use crate::directory::store::{Change, DirectorySnapshot, Records, RowBinding, TokenRow};
use crate::directory::view::{
    DirectoryView, OrganizationCell, OrganizationEntry, ProjectEntry, UserEntry, UserIndex,
};
use crate::policy::facts::{IdentityProviderIndex, OrganizationIndex, ResourceIndex, UserState};
use crate::policy::{
    AuthenticationPolicy, ExpandedGrant, IdentityProviderFacts, Membership, MethodBinding, ThirdParty,
};
use crate::token::cache::{Restrictions, TokenAttributes};
use crate::token::{TokenDigest, TokenKind};

/// Units above one another before the tree is taken for a knot.
const MAX_DEPTH: usize = 64;

/// Different restrictions remembered so that equal ones are shared.
const SHARED_RESTRICTIONS: usize = 10_000;

/// Allow-list and scopes of a token, as stored.
type StoredRestrictions = (Option<Arc<str>>, Option<Arc<str>>);

/// The directory as the applier knows it.
#[derive(Debug)]
pub(super) struct State {
    view: Arc<DirectoryView>,
    sequence: Sequence,
    pinned: PinnedPolicies,
    stored_policies: HashMap<String, AuthenticationPolicy>,
    organizations: HashMap<String, Arc<OrganizationCell>>,
    organization_numbers: Numbers<String>,
    resource_numbers: Numbers<Resource>,
    provider_numbers: Numbers<String>,
    users: HashMap<String, UserIndex>,
    users_by_number: HashMap<u32, UserIndex>,
    restrictions: HashMap<StoredRestrictions, Arc<Restrictions>>,
}

impl State {
    pub(super) fn new(view: Arc<DirectoryView>, pinned: PinnedPolicies) -> Self {
        Self {
            view,
            sequence: Sequence(0),
            pinned,
            stored_policies: HashMap::new(),
            organizations: HashMap::new(),
            organization_numbers: Numbers::default(),
            resource_numbers: Numbers::default(),
            provider_numbers: Numbers::default(),
            users: HashMap::new(),
            users_by_number: HashMap::new(),
            restrictions: HashMap::new(),
        }
    }

    /// Sequence of the last change applied.
    pub(super) const fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// Takes in everything but tokens.
    pub(super) fn load_directory(&mut self, directory: DirectorySnapshot) {
        self.view.tokens.reserve(directory.token_count);
        self.view.users.reserve(directory.users.len());
        let mut providers =
            group_by(directory.identity_providers, |provider| provider.organization_id.clone());
        for organization in directory.organizations {
            let providers = providers.remove(&organization.id).unwrap_or_default();
            self.put_organization(&organization, &providers);
        }
        let units: HashMap<_, _> = directory.units.into_iter().map(|unit| (unit.id.clone(), unit)).collect();
        for project in &directory.projects {
            let above =
                chain(project.unit_id.as_deref(), |id| Ok(units.get(id).cloned())).unwrap_or_default();
            self.put_project(project, &above);
        }
        for unit in units.values() {
            let nesting = chain(Some(unit.id.as_str()), |id| Ok(units.get(id).cloned())).unwrap_or_default();
            self.put_unit(unit, &nesting);
        }
        let mut memberships = group_by(directory.memberships, |membership| membership.user_id.clone());
        let mut grants = group_by(directory.grants, |grant| grant.principal.clone());
        let mut groups = group_by(directory.group_members, |(_, user_id)| user_id.clone());
        // Of groups the grants are needed again for each member; of users once.
        for (number, user) in directory.users {
            let own = grants.remove(&Principal::User(user.id.clone())).unwrap_or_default();
            let groups = groups.remove(&user.id).unwrap_or_default();
            let through_groups = groups
                .into_iter()
                .filter_map(|(group, _)| grants.get(&Principal::UserGroup(group)))
                .flatten();
            let reaching: Vec<&Grant> = own.iter().chain(through_groups).collect();
            let memberships = memberships.remove(&user.id).unwrap_or_default();
            let entry = self.user_entry(&user, &memberships, &reaching);
            self.put_user(number, &user.id, entry);
        }
        self.sequence = directory.sequence;
    }

    /// Applies changes, all read from the same state of the store.
    pub(super) fn apply(&mut self, records: &dyn Records, changes: &[Change]) -> Result<(), StoreError> {
        let Some(last) = changes.last() else { return Ok(()) };
        let mut touched = Touched::default();
        for change in changes {
            match &change.entity {
                Some(entity) => touched.add(records, entity)?,
                None => self.report("change", &change.sequence.0.to_string(), "of an unknown kind"),
            }
        }
        for id in &touched.organizations {
            if let Some(organization) = records.organization(id)? {
                self.put_organization(&organization, &records.identity_providers(id)?);
            }
        }
        for name in &touched.projects {
            match records.project(name)? {
                Some(project) => {
                    let above = chain(project.unit_id.as_deref(), |id| records.unit(id))?;
                    self.put_project(&project, &above);
                }
                None => self.view.project(name).current.store(None),
            }
        }
        for organization in &touched.trees {
            for unit in records.units(organization)? {
                let nesting = chain(Some(unit.id.as_str()), |id| records.unit(id))?;
                self.put_unit(&unit, &nesting);
            }
        }
        for id in touched.units_gone {
            self.view.remove_place(&Resource::OrganizationUnit(id));
        }
        for id in &touched.users {
            self.refresh_user(records, id)?;
        }
        for number in touched.tokens {
            if let Some(row) = records.token_row(number)? {
                if !self.users_by_number.contains_key(&row.user_number)
                    && let Some(id) = records.user_id(row.user_number)?
                {
                    self.refresh_user(records, &id)?;
                }
                self.put_token(row);
            }
        }
        self.sequence = last.sequence;
        Ok(())
    }

    /// Puts a token's attributes in force.
    pub(super) fn put_token(&mut self, row: TokenRow) {
        let Some(user) = self.users_by_number.get(&row.user_number).copied() else {
            self.report("token", &row.number.to_string(), "has no user; it stays unknown");
            return;
        };
        if row.kind.is_none() {
            self.report("token", &row.number.to_string(), "is of an unknown kind; taken for revoked");
        }
        let restrictions = self.restrictions(&row);
        let binding = self.binding(&row.binding);
        self.view.tokens.put(TokenAttributes {
            digest: TokenDigest::from_bytes(row.digest),
            number: row.number,
            user,
            kind: row.kind.unwrap_or(TokenKind::Session),
            created_at: row.created_at,
            max_age_seconds: Some(row.max_age_seconds).filter(|&seconds| seconds != 0),
            extend_when_used: row.extend_when_used,
            end_time: row.end_time,
            revoked: row.revoked || row.kind.is_none(),
            binding,
            restrictions,
            imported_prefix: row.imported_prefix,
            last_used_at: row.last_used_at,
            last_address: row.last_address,
            last_user_agent: row.last_user_agent,
        });
    }

    /// Lets a policy win over the stored one, or the stored one rule again.
    pub(super) fn pin_policy(&mut self, organization_id: &str, policy: Option<AuthenticationPolicy>) {
        match policy {
            Some(policy) => self.pinned.insert(organization_id.to_owned(), policy),
            None => self.pinned.remove(organization_id),
        };
        if let Some(cell) = self.organizations.get(organization_id) {
            let current = cell.current.load();
            cell.current.store(Arc::new(OrganizationEntry {
                name: current.name.clone(),
                policy: self.policy_in_force(organization_id),
                identity_providers: current.identity_providers.clone(),
                candidate: current.candidate.clone(),
            }));
        }
    }

    fn put_organization(&mut self, organization: &Organization, providers: &[IdentityProvider]) {
        let Ok(id) = HeaderValue::from_str(&organization.id) else {
            self.report(
                "organization",
                &organization.id,
                "has an id that no header can carry; it stays unknown",
            );
            return;
        };
        let stored = organization.authentication_policy.clone().unwrap_or_else(|| {
            self.report("organization", &organization.id, "has a policy that cannot be read; it is closed");
            convert::closed_policy()
        });
        self.stored_policies.insert(organization.id.clone(), stored);
        let entry = Arc::new(OrganizationEntry {
            name: organization.name.as_str().into(),
            policy: self.policy_in_force(&organization.id),
            identity_providers: providers
                .iter()
                .map(|provider| IdentityProviderFacts {
                    index: IdentityProviderIndex(self.provider_numbers.of(&provider.id)),
                    enabled: provider.enabled,
                })
                .collect(),
            candidate: self.candidate(organization),
        });
        match self.organizations.get(&organization.id) {
            Some(cell) => cell.current.store(entry),
            None => {
                let index = OrganizationIndex(self.organization_numbers.of(&organization.id));
                let cell = Arc::new(OrganizationCell { index, id, current: ArcSwap::new(entry) });
                self.organizations.insert(organization.id.clone(), Arc::clone(&cell));
                self.put_place(Resource::Organization(organization.id.clone()), cell, &[]);
            }
        }
    }

    /// The candidate policy: the one that is being counted already if it is the same.
    fn candidate(&self, organization: &Organization) -> Option<Arc<Candidate>> {
        let wanted = organization.candidate_policy.as_ref()?;
        let current = self.organizations.get(&organization.id).map(|cell| cell.current.load());
        let counted = current.and_then(|current| current.candidate.clone());
        let same = counted.filter(|counted| counted.policy == *wanted);
        Some(same.unwrap_or_else(|| Arc::new(Candidate::new(wanted.clone(), Timestamp::now()))))
    }

    fn policy_in_force(&self, organization_id: &str) -> AuthenticationPolicy {
        let policy = self.pinned.get(organization_id).or_else(|| self.stored_policies.get(organization_id));
        policy.cloned().unwrap_or_else(convert::closed_policy)
    }

    /// `above`: the units that the project is in, from the inside out.
    fn put_project(&mut self, project: &Project, above: &[OrganizationalUnit]) {
        let Some(organization) = self.organizations.get(&project.organization_id).map(Arc::clone) else {
            self.report("project", &project.name, "has no organization; it stays unknown");
            self.view.project(&project.name).current.store(None);
            return;
        };
        let entry = self.placed(&Resource::Project(project.name.clone()), organization, above);
        self.view.project(&project.name).current.store(Some(Arc::new(entry)));
    }

    /// `nesting`: the unit itself and those that it is in, from the inside out.
    fn put_unit(&mut self, unit: &OrganizationalUnit, nesting: &[OrganizationalUnit]) {
        let Some(organization) = self.organizations.get(&unit.organization_id).map(Arc::clone) else {
            self.report("unit", &unit.id, "has no organization; it stays unknown");
            return;
        };
        let above = nesting.get(1..).unwrap_or_default();
        self.put_place(Resource::OrganizationUnit(unit.id.clone()), organization, above);
    }

    fn put_place(
        &mut self,
        resource: Resource,
        organization: Arc<OrganizationCell>,
        above: &[OrganizationalUnit],
    ) {
        let entry = self.placed(&resource, organization, above);
        self.view.put_place(resource, entry);
    }

    fn placed(
        &mut self,
        resource: &Resource,
        organization: Arc<OrganizationCell>,
        above: &[OrganizationalUnit],
    ) -> ProjectEntry {
        let root = Resource::Organization(organization.id.to_str().unwrap_or_default().to_owned());
        let mut resource_chain: SmallVec<[ResourceIndex; 4]> = SmallVec::new();
        resource_chain.push(self.resource(resource));
        for unit in above {
            resource_chain.push(self.resource(&Resource::OrganizationUnit(unit.id.clone())));
        }
        if *resource != root {
            resource_chain.push(self.resource(&root));
        }
        ProjectEntry { organization, resource_chain }
    }

    fn refresh_user(&mut self, records: &dyn Records, id: &str) -> Result<(), StoreError> {
        if let (Some(number), Some(user)) = (records.user_number(id)?, records.user(id)?) {
            let grants = records.grants_reaching(id)?;
            let entry = self.user_entry(&user, &records.memberships(id)?, &grants.iter().collect::<Vec<_>>());
            self.put_user(number, id, entry);
        }
        Ok(())
    }

    fn put_user(&mut self, number: u32, id: &str, entry: UserEntry) {
        let index = match self.users.get(id) {
            Some(&index) => index,
            None => {
                let count =
                    u32::try_from(self.users.len()).expect("fewer than four billion users fit into memory");
                let index = UserIndex(count);
                self.users_by_number.insert(number, index);
                self.users.insert(id.to_owned(), index);
                index
            }
        };
        self.view.users.put(index, entry);
    }

    fn user_entry(&mut self, user: &User, memberships: &[MembershipRecord], grants: &[&Grant]) -> UserEntry {
        let (id, state) = match HeaderValue::from_str(&user.id) {
            Ok(id) => (id, user.state),
            Err(_) => {
                self.report(
                    "user",
                    &user.id,
                    "has an id that no header can carry; it is taken for deactivated",
                );
                (HeaderValue::from_static("unknown"), UserState::Deactivated)
            }
        };
        let memberships = memberships
            .iter()
            .map(|membership| Membership {
                organization: OrganizationIndex(self.organization_numbers.of(&membership.organization_id)),
                is_super_admin: membership.is_super_admin,
            })
            .collect();
        let mut expanded: SmallVec<[ExpandedGrant; 2]> = SmallVec::with_capacity(grants.len());
        for grant in grants {
            let read = convert::granted(&grant.permissions);
            for problem in &read.problems {
                self.report("grant", &user.id, problem);
            }
            let resource = self.resource(&grant.resource);
            match expanded.iter_mut().find(|other| other.resource == resource) {
                Some(other) => other.permissions = other.permissions.union(read.value),
                None => expanded.push(ExpandedGrant { resource, permissions: read.value }),
            }
        }
        UserEntry {
            id,
            kind: user.kind,
            state,
            token_validity_begin: user.token_validity_begin.0,
            two_factor_enabled: user.two_factor_enabled,
            memberships,
            grants: expanded,
        }
    }

    fn restrictions(&mut self, row: &TokenRow) -> Option<Arc<Restrictions>> {
        if row.ip_allowlist.is_none() && row.scopes.is_none() {
            return None;
        }
        let key = (row.ip_allowlist.clone(), row.scopes.clone());
        if let Some(shared) = self.restrictions.get(&key) {
            return Some(Arc::clone(shared));
        }
        let allowlist = row.ip_allowlist.as_deref().map(convert::ip_allowlist);
        let scopes = row.scopes.as_deref().map(convert::scopes);
        let problems =
            [allowlist.as_ref().map(|read| &read.problems), scopes.as_ref().map(|read| &read.problems)];
        for problem in problems.into_iter().flatten().flatten() {
            self.report("token", &row.number.to_string(), problem);
        }
        let ip_allowlist = allowlist.map_or_else(Box::default, |read| read.value);
        let made = Arc::new(Restrictions::new(ip_allowlist, scopes.map(|read| read.value)));
        if self.restrictions.len() >= SHARED_RESTRICTIONS {
            self.restrictions.clear();
        }
        self.restrictions.insert(key, Arc::clone(&made));
        Some(made)
    }

    fn binding(&mut self, stored: &RowBinding) -> Option<MethodBinding> {
        match stored {
            RowBinding::None | RowBinding::Method(MethodKind::IdentityProvider) => None,
            RowBinding::Method(MethodKind::Password) => Some(MethodBinding::Password),
            RowBinding::Method(MethodKind::Google) => Some(MethodBinding::ThirdParty(ThirdParty::Google)),
            RowBinding::Method(MethodKind::Microsoft) => {
                Some(MethodBinding::ThirdParty(ThirdParty::Microsoft))
            }
            RowBinding::Method(MethodKind::GitHub) => Some(MethodBinding::ThirdParty(ThirdParty::GitHub)),
            RowBinding::IdentityProvider(id) => {
                let number = self.provider_numbers.of_text(id);
                Some(MethodBinding::IdentityProvider(IdentityProviderIndex(number)))
            }
        }
    }

    fn resource(&mut self, resource: &Resource) -> ResourceIndex {
        ResourceIndex(self.resource_numbers.of(resource))
    }

    /// A record that this version cannot make sense of: closed, never a reason to stop.
    fn report(&self, entity: &str, id: &str, problem: &str) {
        self.view.status.failed();
        error!(entity, id, problem, "a record of the directory cannot be used as it is");
    }
}

/// A unit and those that it is in, from the inside out.
fn chain(
    innermost: Option<&str>,
    unit: impl Fn(&str) -> Result<Option<OrganizationalUnit>, StoreError>,
) -> Result<Vec<OrganizationalUnit>, StoreError> {
    let mut above: Vec<OrganizationalUnit> = Vec::new();
    let mut next = innermost.map(str::to_owned);
    while let Some(id) = next
        && above.len() < MAX_DEPTH
        && let Some(unit) = unit(&id)?
    {
        next = unit.parent_id.clone();
        above.push(unit);
    }
    Ok(above)
}

fn group_by<T, K: Eq + Hash>(values: Vec<T>, key: impl Fn(&T) -> K) -> HashMap<K, Vec<T>> {
    let mut grouped: HashMap<K, Vec<T>> = HashMap::new();
    for value in values {
        grouped.entry(key(&value)).or_default().push(value);
    }
    grouped
}
