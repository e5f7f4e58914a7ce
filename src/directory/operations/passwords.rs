//! Passwords and two-factor authentication: setting, changing, ending and recovering them, and what follows for the
//! tokens made with them.
//!
//! What must not live here: hashing and checking ([`crate::login`]). Hashes come in made, proofs come in proved, and each
//! operation sees to it that what was proved is still so.

use super::members::check_managed;
use super::tokens::PreparedSession;
use super::users::note_of_user;
use super::{CreatedToken, Result, conflict, invalid, not_found, user};
use crate::directory::model::{
    AuthenticationMethod, Invitation, MethodKind, PasswordRecord, PasswordReset, Timestamp, Token,
    TotpRecord, User, new_id,
};
use crate::directory::store::{Changed, Changes, Records, Store};
use crate::login::session::SessionTerms;
use crate::policy::facts::{UserKind, UserState};
use crate::token::TokenDigest;

/// How long a code that an admin hands over can be used, in seconds.
pub const RESET_SECONDS: u32 = 24 * 3600;

/// What a person is compared with who says to be them.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Who.
    pub user: User,
    /// The password, if there is one.
    pub password: Option<PasswordRecord>,
    /// The authenticator app, if two-factor authentication is on.
    pub totp: Option<TotpRecord>,
}

/// That somebody has proved to know a password, and more where that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// Who.
    pub user_id: String,
    /// The hash that their password had.
    pub hash: String,
    /// A hash of the same password as it would be made today, if the old one is outdated.
    pub renewed_hash: Option<String>,
    /// The step of the one-time password.
    pub totp_step: Option<u64>,
}

/// A reset that was just begun.
#[derive(Debug)]
pub struct StartedReset {
    /// To be handed over to the person; shown once.
    pub code: secrecy::SecretString,
    /// It cannot be used from then on.
    pub expiry_time: Timestamp,
}

/// What a person with this address is compared with; `None` if there is nobody who could log in.
///
/// # Errors
///
/// If the store fails.
pub fn credentials(
    records: &dyn Records,
    email: &str,
) -> std::result::Result<Option<Credentials>, crate::directory::StoreError> {
    let found = records.user_by_email(&email.trim().to_lowercase())?;
    let Some(user) =
        found.filter(|user| user.kind == UserKind::OrganizationUser && user.state == UserState::Active)
    else {
        return Ok(None);
    };
    Ok(Some(Credentials { password: records.password(&user.id)?, totp: records.totp(&user.id)?, user }))
}

/// Begins a session of somebody who has proved who they are. A one-time password counts once.
///
/// # Errors
///
/// If what was proved is no longer so, or the store fails.
pub fn log_in(
    store: &dyn Store,
    proved: &Proved,
    terms: SessionTerms,
    now: Timestamp,
) -> Result<Changed<CreatedToken>> {
    let session = PreparedSession::new(terms)?;
    let stored = store.change(now, |changes| {
        let (user, method) = settle(changes, proved)?;
        if user.two_factor_enabled && proved.totp_step.is_none() {
            return Err(conflict("Two-factor authentication has just been switched on; try again."));
        }
        if let Some(hash) = &proved.renewed_hash {
            replace_hash(changes, &user.id, hash, now)?;
        }
        note_of_user(changes, &user.id, "user_logged_in")?;
        session.insert(changes, &user.id, &method.id, now)
    })?;
    Ok(finish(session, stored))
}

/// Gives a person another password, who proved to know the old one. All sessions end but the one that is returned;
/// personal tokens go on, programs hold them.
///
/// # Errors
///
/// If what was proved is no longer so, or the store fails.
pub fn change_password(
    store: &dyn Store,
    proved: &Proved,
    hash: &str,
    terms: SessionTerms,
    now: Timestamp,
) -> Result<Changed<CreatedToken>> {
    let session = PreparedSession::new(terms)?;
    let stored = store.change(now, |changes| {
        let (user, method) = settle(changes, proved)?;
        replace_hash(changes, &user.id, hash, now)?;
        changes.revoke_sessions(&user.id)?;
        note_of_user(changes, &user.id, "password_changed")?;
        session.insert(changes, &user.id, &method.id, now)
    })?;
    Ok(finish(session, stored))
}

/// Switches two-factor authentication on for a person who proved to know the password and to hold the app. Personal
/// tokens that are bound to the password method end, and so do sessions that began without a one-time password; the one
/// that is returned takes their place.
///
/// # Errors
///
/// If it is on already, what was proved is no longer so, or the store fails.
pub fn enable_two_factor(
    store: &dyn Store,
    proved: &Proved,
    sealed_secret: &[u8],
    step: u64,
    terms: SessionTerms,
    now: Timestamp,
) -> Result<Changed<CreatedToken>> {
    let session = PreparedSession::new(terms)?;
    let stored = store.change(now, |changes| {
        let (user, method) = settle(changes, proved)?;
        if user.two_factor_enabled {
            return Err(conflict("Two-factor authentication is on already; switch it off first."));
        }
        changes.put_totp(&TotpRecord {
            user_id: user.id.clone(),
            sealed_secret: sealed_secret.to_owned(),
            last_step: step,
            create_time: now,
        })?;
        changes.put_user(&User { two_factor_enabled: true, ..user.clone() })?;
        changes.revoke_personal_password_tokens(&user.id)?;
        changes.revoke_password_sessions(&user.id)?;
        session.insert(changes, &user.id, &method.id, now)
    })?;
    Ok(finish(session, stored))
}

/// Sets a person's password without the old one, as somebody with the store at hand may. All sessions end.
///
/// # Errors
///
/// If there is no such person, or the store fails.
pub fn set_password(store: &dyn Store, user_id: &str, hash: &str, now: Timestamp) -> Result<Changed<()>> {
    store.change(now, |changes| {
        let user = person(changes.records(), user_id)?;
        password_method(changes, &user.id, now)?;
        put_password(changes, &user.id, hash, PasswordOrigin::Operator, now)?;
        changes.delete_password_reset(&user.id)?;
        changes.revoke_sessions(&user.id)?;
        note_of_user(changes, &user.id, "password_set")
    })
}

/// Takes password and two-factor authentication from a managed person, ends all sessions, and returns the code with
/// which the person can set a new password. It ends early if the person becomes a super admin, is granted more or joins a
/// group: who may reset somebody without rights is not who may reset an admin.
///
/// # Errors
///
/// If the person is not a member whom the organization manages, or the store fails.
pub fn start_reset(
    store: &dyn Store,
    organization_id: &str,
    user_id: &str,
    now: Timestamp,
) -> Result<Changed<StartedReset>> {
    let code = OneTimeCode::generate();
    let expiry_time = Timestamp(now.0.saturating_add(RESET_SECONDS));
    let changed = store.change(now, |changes| {
        let user = check_managed(changes.records(), organization_id, user_id)?;
        switch_two_factor_off(changes, &user)?;
        changes.delete_password(&user.id)?;
        changes.revoke_sessions(&user.id)?;
        changes.put_password_reset(&PasswordReset {
            user_id: user.id.clone(),
            code_digest: code.digest,
            create_time: now,
            expiry_time,
        })?;
        note_of_user(changes, &user.id, "password_reset_started")
    })?;
    Ok(Changed { value: StartedReset { code: code.text, expiry_time }, sequence: changed.sequence })
}

/// Switches the two-factor authentication of a managed person off, for an admin of the organization that manages them. It
/// revokes the personal tokens that are bound to the password method.
///
/// # Errors
///
/// If the person is not a member whom the organization manages, or the store fails.
pub fn reset_two_factor(
    store: &dyn Store,
    organization_id: &str,
    user_id: &str,
    now: Timestamp,
) -> Result<Changed<()>> {
    store.change(now, |changes| {
        let user = check_managed(changes.records(), organization_id, user_id)?;
        switch_two_factor_off(changes, &user)?;
        Ok(())
    })
}

/// Sets the password of the person whom a code was handed over to, and begins a session.
///
/// # Errors
///
/// If the code is not one, has been used or has expired, or the store fails.
pub fn finish_reset(
    store: &dyn Store,
    code: &TokenDigest,
    hash: &str,
    terms: SessionTerms,
    now: Timestamp,
) -> Result<Changed<CreatedToken>> {
    let session = PreparedSession::new(terms)?;
    let stored = store.change(now, |changes| {
        let reset = changes.records().password_reset(code)?.filter(|reset| reset.expiry_time > now);
        let reset = reset.ok_or_else(unusable_code)?;
        let user = person(changes.records(), &reset.user_id)?;
        let method = password_method(changes, &user.id, now)?;
        put_password(changes, &user.id, hash, PasswordOrigin::Code, now)?;
        changes.delete_password_reset(&user.id)?;
        note_of_user(changes, &user.id, "password_reset_finished")?;
        session.insert(changes, &user.id, &method.id, now)
    })?;
    Ok(finish(session, stored))
}

/// Ends the code of a reset that is under way, of somebody who comes to have more than when it was made: whoever made it
/// and kept it would have that too.
pub(super) fn void_reset(changes: &dyn Changes, user_id: &str) -> Result<()> {
    Ok(changes.delete_password_reset(user_id)?)
}

/// Whom a code that can be used now stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeHolder {
    /// Their account; `None`: the code makes one.
    pub user_id: Option<String>,
    /// Their address.
    pub email: String,
    /// Their name as far as it is known, else the address.
    pub name: String,
}

/// Whom a code stands for; `None` if it is none, has been used or has expired.
///
/// # Errors
///
/// If the store fails.
pub fn holder_of_code(
    records: &dyn Records,
    code: &TokenDigest,
    now: Timestamp,
) -> std::result::Result<Option<CodeHolder>, crate::directory::StoreError> {
    if let Some(reset) = records.password_reset(code)?.filter(|reset| reset.expiry_time > now) {
        let user = records.user(&reset.user_id)?;
        return Ok(user.map(|user| CodeHolder {
            user_id: Some(user.id),
            email: user.email,
            name: user.name,
        }));
    }
    let invitation = records.invitation_by_code(code)?.filter(|invitation| invitation.expiry_time > now);
    Ok(invitation.map(|Invitation { user_email: email, .. }| CodeHolder {
        user_id: None,
        name: email.clone(),
        email,
    }))
}

/// A text that stands for somebody once.
pub(super) struct OneTimeCode {
    pub(super) text: secrecy::SecretString,
    pub(super) digest: TokenDigest,
}

impl OneTimeCode {
    pub(super) fn generate() -> Self {
        let mut random = [0; 20];
        getrandom::fill(&mut random).expect("the operating system has random bytes");
        let text = format!("code-{}", data_encoding::BASE32_NOPAD.encode(&random).to_lowercase());
        Self { digest: TokenDigest::of(text.as_bytes()), text: text.into() }
    }
}

/// What is said of a code that is none.
pub fn unusable_code() -> crate::directory::OperationError {
    invalid("code", "there is no such code, it has been used, or it has expired: ask for another one")
}

/// The password method of a person, made if it is missing.
pub(super) fn password_method(
    changes: &dyn Changes,
    user_id: &str,
    now: Timestamp,
) -> Result<AuthenticationMethod> {
    if let Some(method) = find_password_method(changes.records(), user_id)? {
        return Ok(method);
    }
    let method = AuthenticationMethod {
        id: new_id("uam"),
        user_id: user_id.to_owned(),
        kind: MethodKind::Password,
        identity_provider_id: None,
        subject: None,
        create_time: now,
    };
    changes.insert_authentication_method(&method)?;
    Ok(method)
}

/// Through whom a person came by a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PasswordOrigin {
    /// The operator, who has the store at hand.
    Operator,
    /// A code that was handed over.
    Code,
}

pub(super) fn put_password(
    changes: &dyn Changes,
    user_id: &str,
    hash: &str,
    origin: PasswordOrigin,
    now: Timestamp,
) -> Result<()> {
    Ok(changes.put_password(&PasswordRecord {
        user_id: user_id.to_owned(),
        hash: hash.to_owned(),
        update_time: now,
        from_code: origin == PasswordOrigin::Code,
    })?)
}

/// Another hash for somebody who knew the password: that makes nobody else of them.
fn replace_hash(changes: &dyn Changes, user_id: &str, hash: &str, now: Timestamp) -> Result<()> {
    let former = changes.records().password(user_id)?;
    let former = former.ok_or_else(|| conflict("The password has just been removed; try again."))?;
    Ok(changes.put_password(&PasswordRecord { hash: hash.to_owned(), update_time: now, ..former })?)
}

/// Ends two-factor authentication, and with it the personal tokens that are bound to the password method. Nothing
/// happens if it is off.
pub(super) fn switch_two_factor_off(changes: &dyn Changes, user: &User) -> Result<User> {
    changes.delete_totp(&user.id)?;
    if !user.two_factor_enabled {
        return Ok(user.clone());
    }
    let user = User { two_factor_enabled: false, ..user.clone() };
    changes.put_user(&user)?;
    changes.revoke_personal_password_tokens(&user.id)?;
    Ok(user)
}

pub(super) fn person(records: &dyn Records, id: &str) -> Result<User> {
    match user(records, id) {
        Ok(user) if user.kind == UserKind::OrganizationUser => Ok(user),
        Ok(_) => Err(not_found("organization user", id)),
        Err(error) => Err(error),
    }
}

/// Whether what was proved before the transaction still holds in it; uses up the one-time password.
fn settle(changes: &dyn Changes, proved: &Proved) -> Result<(User, AuthenticationMethod)> {
    let records = changes.records();
    let user = person(records, &proved.user_id)?;
    let now_kept = records.password(&user.id)?;
    let method = find_password_method(records, &user.id)?;
    let (Some(method), true) = (method, now_kept.is_some_and(|kept| kept.hash == proved.hash)) else {
        return Err(conflict("The password has just been changed; try again."));
    };
    if let Some(step) = proved.totp_step
        && !changes.use_totp_step(&user.id, step)?
    {
        return Err(conflict("The one-time password has just been used; wait for the next one."));
    }
    Ok((user, method))
}

fn find_password_method(records: &dyn Records, user_id: &str) -> Result<Option<AuthenticationMethod>> {
    let methods = records.authentication_methods(user_id)?;
    Ok(methods.into_iter().find(|method| method.kind == MethodKind::Password))
}

fn finish(session: PreparedSession, stored: Changed<Token>) -> Changed<CreatedToken> {
    Changed { value: session.finish(stored.value), sequence: stored.sequence }
}
