//! The directory's operations, as the command line and the management API offer them: what each one checks, what it
//! changes, and what follows from it. Each is one transaction; nothing happens if it fails.
//!
//! Who may do what is not decided here, and nothing here knows SQL or HTTP.

mod application_users;
mod domains;
mod groups;
mod housekeeping;
mod identity_providers;
mod import;
mod invitations;
mod members;
mod methods;
mod organizations;
mod passwords;
mod permissions;
mod sign_in;
mod tokens;
mod users;

use super::error::OperationError;
use super::model::{Organization, User};
use super::store::Records;
use crate::policy::facts::UserState;

pub use application_users::{
    ApplicationUserUpdate, NewApplicationUser, create_application_user, update_application_user,
};
pub use domains::{add_domain, delete_domain, update_domain, verify_domain};
pub use groups::{
    GroupUpdate, add_group_members, create_group, delete_group, remove_group_members, update_group,
};
pub use housekeeping::{
    LeakedToken, MAX_OVERLAP_SECONDS, Replacement, RotatedToken, revoke_leaked_tokens, revoke_unused_tokens,
    rotate_token,
};
pub use identity_providers::{
    IdentityProviderUpdate, NewIdentityProvider, SettingsUpdate, create_identity_provider,
    delete_identity_provider, set_up_identity_provider, update_identity_provider,
};
pub use import::{Import, Imported, import_tokens, try_import};
pub use invitations::{INVITATION_SECONDS, Invited, accept_invitation, delete_invitation, invite, sign_up};
pub use members::{MemberUpdate, add_member, dismiss_member, remove_member, set_super_admin, update_member};
pub use methods::{add_authentication_method, delete_authentication_method, delete_own_method};
pub use organizations::{
    Placement, PolicyUpdate, create_unit, delete_project, delete_unit, ensure_organization, ensure_project,
    move_project, move_unit, rename_organization, set_candidate_policy, set_policy,
};
pub use passwords::{
    CodeHolder, Credentials, Proved, RESET_SECONDS, StartedReset, change_password, credentials,
    enable_two_factor, finish_reset, holder_of_code, log_in, reset_two_factor, set_password, start_reset,
    unusable_code,
};
pub use permissions::{
    Assignment, AssignmentOperation, change_grants, grant, list_grants, replace_grants, revoke,
};
pub use sign_in::{Arrival, SignInRefusal, SignedIn, Via, begin_session, sign_in};
pub use tokens::{
    CreatedToken, ImportedToken, MAX_AGE_SECONDS, NewSession, NewToken, Revocation, TokenUpdate,
    check_lives_on, create_session, create_token, create_token_until, import_token, revoke_token,
    update_token,
};
pub use users::{
    NewOrganizationUser, NewPerson, create_organization_user, create_person, delete_user, expire_tokens,
    managing_organization, set_two_factor, set_user_state,
};

/// Longest description of anything, in characters.
const MAX_DESCRIPTION: usize = 1_000;

/// Longest name of anything, in characters.
const MAX_NAME: usize = 128;

type Result<T> = std::result::Result<T, OperationError>;

fn not_found(entity: &'static str, id: &str) -> OperationError {
    OperationError::NotFound { entity, id: id.to_owned() }
}

fn already_exists(entity: &'static str, id: &str) -> OperationError {
    OperationError::AlreadyExists { entity, id: id.to_owned() }
}

fn invalid(field: &'static str, reason: impl Into<String>) -> OperationError {
    OperationError::Invalid { field, reason: reason.into() }
}

fn conflict(message: impl Into<String>) -> OperationError {
    OperationError::Conflict(message.into())
}

fn organization(records: &dyn Records, id: &str) -> Result<Organization> {
    records.organization(id)?.ok_or_else(|| not_found("organization", id))
}

/// A user that has not been deleted.
fn user(records: &dyn Records, id: &str) -> Result<User> {
    records.user(id)?.filter(|user| user.state != UserState::Deleted).ok_or_else(|| not_found("user", id))
}

fn check_name(field: &'static str, name: &str) -> Result<()> {
    let length = name.chars().count();
    if name.trim().is_empty() || length > MAX_NAME || name.chars().any(is_invisible) {
        return Err(invalid(field, format!("must be 1 to {MAX_NAME} printable characters")));
    }
    if name.trim() != name {
        return Err(invalid(field, "must not begin or end with a space"));
    }
    Ok(())
}

/// What shows nowhere, or turns what is around it: two names that look alike must not be two names.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{115f}'
                | '\u{1160}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// A name that stands on command lines where an id, a person's address or an option could stand as well.
fn check_handle(field: &'static str, name: &str) -> Result<()> {
    check_name(field, name)?;
    let digits = name.trim_start_matches(|c: char| c.is_ascii_lowercase() && !c.is_ascii_hexdigit());
    let is_id = digits.len() < name.len()
        && digits.len() == 12
        && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_id {
        return Err(invalid(field, "must not look like an id, which others would take it for"));
    }
    if name.starts_with('-') || name.contains('@') {
        return Err(invalid(
            field,
            "must not begin with '-' nor contain '@': it would be taken for something else",
        ));
    }
    Ok(())
}

/// What a person may be called.
///
/// # Errors
///
/// If it is empty, too long or not printable.
pub fn check_real_name(name: &str) -> Result<()> {
    check_name("real_name", name)
}

/// What one change may name, members or principals: the store is its alone while it lasts.
const MAX_AT_ONCE: usize = 1_000;

fn check_count(field: &'static str, count: usize) -> Result<()> {
    if count > MAX_AT_ONCE {
        return Err(invalid(
            field,
            format!("names {count}, at most {MAX_AT_ONCE} at once: use several requests"),
        ));
    }
    Ok(())
}

/// The address as it is stored.
fn check_email(email: &str) -> Result<String> {
    let email = email.trim().to_lowercase();
    check_name("user_email", &email)?;
    let is_address = email
        .split_once('@')
        .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'));
    if !is_address || email.contains(char::is_whitespace) {
        return Err(invalid("user_email", "must be an email address, such as jane@example.com"));
    }
    Ok(email)
}

/// Ids and project names travel in headers, paths and logs.
fn check_id(field: &'static str, id: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if id.is_empty() || id.len() > MAX_NAME || !id.chars().all(allowed) {
        return Err(invalid(field, format!("must be 1 to {MAX_NAME} letters, digits, '-', '_' or '.'")));
    }
    Ok(())
}

/// Descriptions are shown on terminals.
fn check_description(description: &str) -> Result<()> {
    if description.chars().any(|c| c.is_control() && c != '\n') {
        return Err(invalid("description", "must not have control characters other than line feeds"));
    }
    match description.chars().count() {
        0..=MAX_DESCRIPTION => Ok(()),
        length => Err(invalid(
            "description",
            format!("has {length} characters, at most {MAX_DESCRIPTION} are allowed"),
        )),
    }
}
