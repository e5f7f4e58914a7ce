//! The directory as commands reach it: through the store itself, for the configuration's organization. A running
//! sidecar sees within moments what changes.

use std::sync::Arc;

use super::arguments::ConfigArguments;
use super::failure::Failure;
use super::nearest::suggestion;
use crate::config::{Config, StoreConfig};
use crate::directory::model::{Group, Member};
use crate::directory::{self, Author, AuthoredStore, Channel, Store, StoreError};
use crate::policy::facts::UserKind;

/// A configuration and its open store.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) config: Config,
    pub(super) store: Arc<dyn Store>,
}

impl Directory {
    /// Opens the store of a configuration. It is never made here, whatever the configuration says: a wrong path must
    /// not be taken for an empty directory.
    pub(super) fn open(arguments: &ConfigArguments) -> Result<Self, Failure> {
        let config = Config::load(&arguments.config)?;
        let store = directory::open(&StoreConfig { create_if_missing: false, ..config.store.clone() })?;
        let store: Arc<dyn Store> = Arc::new(AuthoredStore::new(store, Author::of(Channel::CommandLine)));
        let id = &config.organization.id;
        if store.read(|records| records.organization(id))?.is_none() {
            return Err(Failure::Failed(format!(
                "organization {id:?} is not in store {}: correct `id` under [organization], or enter it by starting \
                 `postern run` once",
                store.location()
            )));
        }
        Ok(Self { config, store })
    }

    /// The organization all commands are about.
    pub(super) fn organization_id(&self) -> &str {
        &self.config.organization.id
    }

    /// The organization's application users.
    pub(super) fn application_users(&self) -> Result<Vec<Member>, StoreError> {
        self.store.read(|records| records.members(self.organization_id(), UserKind::ApplicationUser))
    }

    /// The organization's users of both kinds.
    pub(super) fn users(&self) -> Result<Vec<Member>, StoreError> {
        self.store.read(|records| {
            let mut users = records.members(self.organization_id(), UserKind::ApplicationUser)?;
            users.extend(records.members(self.organization_id(), UserKind::OrganizationUser)?);
            Ok(users)
        })
    }

    /// The application user with this id or, if only one has it, this name.
    pub(super) fn application_user(&self, wanted: &str) -> Result<Member, Failure> {
        choose(
            self.application_users()?,
            Wanted { kind: "application user", text: wanted, list: "postern application-user list" },
            |member| [&member.user.id, &member.user.name, &member.user.email],
        )
    }

    /// The organization's people.
    pub(super) fn people(&self) -> Result<Vec<Member>, StoreError> {
        self.store.read(|records| records.members(self.organization_id(), UserKind::OrganizationUser))
    }

    /// The person with this id or, if only one has it, this address or name.
    pub(super) fn person(&self, wanted: &str) -> Result<Member, Failure> {
        choose(self.people()?, Wanted { kind: "user", text: wanted, list: "postern user list" }, |member| {
            [&member.user.id, &member.user.email, &member.user.name]
        })
    }

    /// The user of either kind with this id or, if only one has it, this name or email address.
    pub(super) fn user(&self, wanted: &str) -> Result<Member, Failure> {
        choose(
            self.users()?,
            Wanted { kind: "user", text: wanted, list: "postern application-user list" },
            |member| [&member.user.id, &member.user.name, &member.user.email],
        )
    }

    /// The group with this id or name.
    pub(super) fn group(&self, wanted: &str) -> Result<Group, Failure> {
        let groups = self.store.read(|records| records.groups(self.organization_id()))?;
        let wanted = Wanted { kind: "group", text: wanted, list: "postern permission list --organization" };
        choose(groups, wanted, |group| [&group.id, &group.name, &group.name])
    }
}

/// What somebody asked for by id or name.
struct Wanted<'a> {
    kind: &'static str,
    text: &'a str,
    /// A command that shows what there is.
    list: &'static str,
}

/// The one with this id, else the only one with this name. `keys`: the id, then the names.
fn choose<T>(all: Vec<T>, wanted: Wanted<'_>, keys: impl Fn(&T) -> [&String; 3]) -> Result<T, Failure> {
    let Wanted { kind, text, list } = wanted;
    let mut by_id = None;
    let mut by_name = Vec::new();
    let mut names = Vec::new();
    for one in all {
        let [id, name, other] = keys(&one);
        if id == text {
            by_id = Some(one);
            break;
        }
        names.push(name.clone());
        if name == text || other == text {
            by_name.push(one);
        }
    }
    match (by_id, by_name.len()) {
        (Some(one), _) => Ok(one),
        (None, 1) => Ok(by_name.remove(0)),
        (None, 0) => Err(Failure::Failed(format!(
            "{kind} {text:?} does not exist{}; `{list}` shows what there is",
            suggestion(text, names.iter().map(String::as_str))
        ))),
        (None, count) => {
            let ids: Vec<&str> = by_name.iter().map(|one| keys(one)[0].as_str()).collect();
            let ids = ids.join(", ");
            Err(Failure::Failed(format!("{count} {kind}s are called {text:?}; say which by id: {ids}")))
        }
    }
}
