//! A second connection to a sidecar's store, as the command line would have one: fills and changes the directory
//! through its operations.

use std::path::Path;
use std::sync::Arc;

use postern::config::StoreConfig;
use postern::directory::model::{
    DomainVerification, IdentityProviderKind, MethodKind, Principal, Resource, Timestamp, TokenWithUsage,
};
use postern::directory::operations::{
    self, IdentityProviderUpdate, NewApplicationUser, NewIdentityProvider, NewOrganizationUser, NewToken,
};
use postern::directory::{self, Store};
use postern::token::TokenKind;
use secrecy::ExposeSecret;

/// The organization of the routes.
pub const ORGANIZATION: &str = "org1a2b3c4d5e6";

/// The project of the routes.
pub const PROJECT: &str = "demo";

/// A store, open.
#[derive(Clone)]
pub struct Directory {
    pub store: Arc<dyn Store>,
}

/// A token and whose it is.
#[derive(Clone, Debug)]
pub struct Credential {
    pub token: String,
    pub prefix: String,
    pub user_id: String,
}

impl Directory {
    /// Opens the store, making it if it is missing, with the organization and the project of the routes.
    pub fn open(path: &Path) -> Self {
        let config = StoreConfig { path: path.to_owned(), create_if_missing: true, stale_after: None };
        let this = Self { store: directory::open(&config).expect("the store opens") };
        operations::ensure_organization(&*this.store, ORGANIZATION, "Example", now()).unwrap();
        operations::ensure_project(&*this.store, PROJECT, ORGANIZATION, now()).unwrap();
        this
    }

    /// A new application user.
    pub fn application_user(&self) -> String {
        self.application_user_of(ORGANIZATION)
    }

    pub fn application_user_of(&self, organization: &str) -> String {
        let new = NewApplicationUser {
            organization_id: organization.into(),
            name: "Test application".into(),
            description: String::new(),
            is_super_admin: false,
        };
        operations::create_application_user(&*self.store, &new, now()).unwrap().value.user.id
    }

    /// A new person who is a member, with a password, and the password method's id.
    pub fn person(&self, email: &str) -> (String, String) {
        let new = NewOrganizationUser {
            email: email.into(),
            real_name: "Test Person".into(),
            managing_organization_id: None,
        };
        let user = operations::create_organization_user(&*self.store, &new, now()).unwrap().value.id;
        operations::add_member(&*self.store, &user, ORGANIZATION, now()).unwrap();
        let method = self.method(&user, MethodKind::Password, None);
        (user, method)
    }

    /// Makes a domain one that the organization has shown to be its own: it manages everybody there.
    pub fn verify(&self, domain: &str) {
        let store = &*self.store;
        let added =
            operations::add_domain(store, ORGANIZATION, domain, DomainVerification::Dns, now()).unwrap();
        operations::verify_domain(store, ORGANIZATION, &added.value.id, now()).unwrap();
    }

    /// Makes a person a member of another organization as well.
    pub fn joins_another_organization(&self, user: &str) {
        operations::ensure_organization(&*self.store, "org-of-others", "Others", now()).unwrap();
        operations::add_member(&*self.store, user, "org-of-others", now()).unwrap();
    }

    /// Another way in for a person; returns its id.
    pub fn method(&self, user: &str, kind: MethodKind, provider: Option<&str>) -> String {
        operations::add_authentication_method(&*self.store, user, kind, provider, now()).unwrap().value.id
    }

    /// A new identity provider of an organization, switched on; returns its id.
    pub fn identity_provider(&self, organization: &str) -> String {
        operations::ensure_organization(&*self.store, organization, "Other", now()).unwrap();
        let new = NewIdentityProvider {
            organization_id: organization.into(),
            kind: IdentityProviderKind::Saml,
            name: "Provider".into(),
        };
        let id = operations::create_identity_provider(&*self.store, &new, now()).unwrap().value.id;
        let enabled = IdentityProviderUpdate { enabled: Some(true), ..Default::default() };
        operations::update_identity_provider(&*self.store, &id, &enabled, now()).unwrap();
        id
    }

    /// Grants on the routes' project.
    pub fn grant(&self, user: &str, permissions: &[&str]) {
        let names: Vec<String> = permissions.iter().map(|name| (*name).to_owned()).collect();
        let principal = Principal::User(user.into());
        let resource = Resource::Project(PROJECT.into());
        operations::grant(&*self.store, &principal, &resource, &names, now()).unwrap();
    }

    /// A token that never ends.
    pub fn token(&self, user: &str) -> Credential {
        self.token_with(user, TokenKind::Application, |_| {})
    }

    /// A token of which `change` says what is special.
    pub fn token_with(&self, user: &str, kind: TokenKind, change: impl FnOnce(&mut NewToken)) -> Credential {
        self.token_made_at(now(), user, kind, change)
    }

    /// A token that was made at some time.
    pub fn token_made_at(
        &self,
        time: Timestamp,
        user: &str,
        kind: TokenKind,
        change: impl FnOnce(&mut NewToken),
    ) -> Credential {
        let mut new = NewToken {
            user_id: user.into(),
            kind,
            description: String::new(),
            created_manually: true,
            max_age_seconds: None,
            extend_when_used: false,
            ip_allowlist: Vec::new(),
            scopes: Vec::new(),
            authentication_method_id: None,
        };
        change(&mut new);
        let created = operations::create_token(&*self.store, &new, time).unwrap().value;
        Credential {
            token: created.fresh.full.expose_secret().to_owned(),
            prefix: created.fresh.prefix,
            user_id: user.into(),
        }
    }

    /// A token of an application user that is a super admin.
    pub fn super_admin(&self) -> Credential {
        let user = self.application_user();
        self.make_super_admin(&user);
        self.token(&user)
    }

    pub fn make_super_admin(&self, user: &str) {
        operations::set_super_admin(&*self.store, user, ORGANIZATION, true, now()).unwrap();
    }

    /// An application user that may do everything on the project, and its token.
    pub fn permitted(&self) -> Credential {
        let user = self.application_user();
        self.grant(&user, &["admin"]);
        self.token(&user)
    }

    pub fn revoke(&self, prefix: &str) {
        operations::revoke_token(&*self.store, prefix, now()).unwrap();
    }

    /// What the store knows of a token.
    pub fn stored(&self, prefix: &str) -> TokenWithUsage {
        self.store.read(|records| records.token(prefix)).unwrap().expect("the token is in the store")
    }
}

pub fn now() -> Timestamp {
    Timestamp::now()
}
