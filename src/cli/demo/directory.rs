//! What is in the demo's directory: who may do what, and tokens that show it.

use secrecy::SecretString;

use crate::cli::failure::Failure;
use crate::cli::init;
use crate::config::Config;
use crate::directory::model::{Principal, Resource, Timestamp};
use crate::directory::operations::{self, CreatedToken, NewApplicationUser, NewToken};
use crate::directory::{self, Store};
use crate::token::TokenKind;

/// The one organization.
pub(super) const ORGANIZATION: &str = "org-demo";

/// The one project.
pub(super) const PROJECT: &str = "demo";

/// The tokens that the lines to paste are made with.
#[derive(Debug)]
pub(super) struct Made {
    /// May read and write.
    pub(super) token: SecretString,
    /// Its public handle.
    pub(super) token_prefix: String,
    /// May only read.
    pub(super) reader_token: SecretString,
    /// May do everything in the organization.
    pub(super) admin_token: SecretString,
    /// Has been revoked.
    pub(super) revoked_token: SecretString,
}

/// Makes the store and all that is in it.
pub(super) fn fill(config: &Config) -> Result<Made, Failure> {
    let store = directory::open(&config.store)?;
    let store = &*store;
    init::enter(store, config)?;
    let application = user(store, "demo-app", "may read and write", "developer")?;
    let reader = user(store, "demo-reader", "may only read", "read_only")?;
    let admin = user(store, "demo-admin", "may change everything", "read_only")?;
    operations::set_super_admin(store, &admin, ORGANIZATION, true, Timestamp::now())?;
    let admin_token = token(store, &admin, "manages the organization")?;
    let CreatedToken { fresh, .. } = token(store, &application, "the demo's token")?;
    let reader_token = token(store, &reader, "may only read")?;
    let revoked = token(store, &application, "revoked, to show that it is refused")?;
    operations::revoke_token(store, &revoked.fresh.prefix, Timestamp::now())?;
    Ok(Made {
        token: fresh.full,
        token_prefix: fresh.prefix,
        reader_token: reader_token.fresh.full,
        admin_token: admin_token.fresh.full,
        revoked_token: revoked.fresh.full,
    })
}

/// Makes an application user with one role on the project; returns its id.
fn user(store: &dyn Store, name: &str, description: &str, role: &str) -> Result<String, Failure> {
    let new = NewApplicationUser {
        organization_id: ORGANIZATION.to_owned(),
        name: name.to_owned(),
        description: description.to_owned(),
        is_super_admin: false,
    };
    let id = operations::create_application_user(store, &new, Timestamp::now())?.value.user.id;
    let principal = Principal::User(id.clone());
    let project = Resource::Project(PROJECT.to_owned());
    operations::grant(store, &principal, &project, &[role.to_owned()], Timestamp::now())?;
    Ok(id)
}

fn token(store: &dyn Store, user_id: &str, description: &str) -> Result<CreatedToken, Failure> {
    let new = NewToken {
        user_id: user_id.to_owned(),
        kind: TokenKind::Application,
        description: description.to_owned(),
        created_manually: true,
        max_age_seconds: None,
        extend_when_used: false,
        ip_allowlist: Vec::new(),
        scopes: Vec::new(),
        authentication_method_id: None,
    };
    Ok(operations::create_token(store, &new, Timestamp::now())?.value)
}
