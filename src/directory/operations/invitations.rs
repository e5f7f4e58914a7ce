//! Invitations: how people come to be members of an organization, those who have no account yet included.
//!
//! There is no mail server: an invitation of somebody without an account answers with a code, which whoever invited hands
//! over, and with which the person makes the account.

use super::members::find_membership;
use super::passwords::{OneTimeCode, PasswordOrigin, password_method, put_password, unusable_code};
use super::tokens::PreparedSession;
use super::users::{managing_organization, new_person};
use super::{
    CreatedToken, Result, already_exists, check_email, check_name, conflict, not_found, organization,
};
use crate::directory::model::{Invitation, MembershipRecord, Timestamp, User};
use crate::directory::store::{Changed, Changes, Records, Store};
use crate::login::session::SessionTerms;
use crate::policy::facts::UserState;
use crate::token::TokenDigest;

/// How long an invitation can be accepted, in seconds.
pub const INVITATION_SECONDS: u32 = 7 * 24 * 3600;

/// An invitation just made.
#[derive(Debug)]
pub struct Invited {
    /// What is kept of it.
    pub invitation: Invitation,
    /// For somebody without an account: to be handed over, shown once.
    pub code: Option<secrecy::SecretString>,
}

/// Invites an address.
///
/// An organization other than the only one in the directory gets a code only for addresses of domains that it has
/// verified: whoever holds the code becomes the person with that address, for other organizations too.
///
/// # Errors
///
/// If the person is a member, has been invited, or no code may be made for them; or the store fails.
pub fn invite(
    store: &dyn Store,
    organization_id: &str,
    email: &str,
    inviter_user_id: Option<&str>,
    now: Timestamp,
) -> Result<Changed<Invited>> {
    let email = check_email(email)?;
    let code = OneTimeCode::generate();
    let changed = store.change(now, |changes| {
        let records = changes.records();
        organization(records, organization_id)?;
        let account = records.user_by_email(&email)?;
        if let Some(user) = &account
            && find_membership(records, &user.id, organization_id)?.is_some()
        {
            return Err(already_exists("member", &email));
        }
        if records.invitation(organization_id, &email)?.is_some_and(|earlier| earlier.expiry_time > now) {
            return Err(already_exists("invitation", &email));
        }
        if account.is_none() {
            check_may_vouch(records, organization_id, &email)?;
        }
        let invitation = Invitation {
            organization_id: organization_id.to_owned(),
            user_email: email.clone(),
            inviter_user_id: inviter_user_id.map(str::to_owned),
            create_time: now,
            expiry_time: Timestamp(now.0.saturating_add(INVITATION_SECONDS)),
            code_digest: account.is_none().then_some(code.digest),
        };
        changes.put_invitation(&invitation)?;
        Ok(invitation)
    })?;
    let code = changed.value.code_digest.is_some().then_some(code.text);
    Ok(Changed { value: Invited { invitation: changed.value, code }, sequence: changed.sequence })
}

/// Takes an invitation back.
///
/// # Errors
///
/// If there is none, or the store fails.
pub fn delete_invitation(
    store: &dyn Store,
    organization_id: &str,
    email: &str,
    now: Timestamp,
) -> Result<Changed<()>> {
    let email = email.trim().to_lowercase();
    store.change(now, |changes| {
        pending(changes.records(), organization_id, &email, now)?;
        Ok(changes.delete_invitation(organization_id, &email)?)
    })
}

/// Makes the invited person, who has an account, a member.
///
/// # Errors
///
/// If there is no such invitation or it has expired, or the store fails.
pub fn accept_invitation(
    store: &dyn Store,
    organization_id: &str,
    user_id: &str,
    now: Timestamp,
) -> Result<Changed<MembershipRecord>> {
    store.change(now, |changes| {
        let user = super::passwords::person(changes.records(), user_id)?;
        let invitation = pending(changes.records(), organization_id, &user.email, now)?;
        join(changes, &user, &invitation, now)
    })
}

/// Makes the account of a person who was handed a code, and makes them a member; returns a session of theirs.
///
/// # Errors
///
/// If the code is not one, has been used or has expired, an account with the address was made in the meantime, the name is
/// not allowed, or the store fails.
pub fn sign_up(
    store: &dyn Store,
    code: &TokenDigest,
    real_name: &str,
    hash: &str,
    terms: SessionTerms,
    now: Timestamp,
) -> Result<Changed<CreatedToken>> {
    check_name("real_name", real_name)?;
    let session = PreparedSession::new(terms)?;
    let stored = store.change(now, |changes| {
        let records = changes.records();
        let invitation = records.invitation_by_code(code)?.filter(|invitation| invitation.expiry_time > now);
        let invitation = invitation.ok_or_else(unusable_code)?;
        let email = &invitation.user_email;
        if records.user_by_email(email)?.is_some() {
            return Err(conflict(
                "An account with this address exists already; log in with it and accept the invitation.",
            ));
        }
        let user = new_person(email, real_name, managing_organization(records, email)?, now);
        changes.put_user(&user)?;
        join(changes, &user, &invitation, now)?;
        let method = password_method(changes, &user.id, now)?;
        put_password(changes, &user.id, hash, PasswordOrigin::Code, now)?;
        session.insert(changes, &user.id, &method.id, now)
    })?;
    Ok(Changed { value: session.finish(stored.value), sequence: stored.sequence })
}

fn join(
    changes: &dyn Changes,
    user: &User,
    invitation: &Invitation,
    now: Timestamp,
) -> Result<MembershipRecord> {
    let organization_id = &invitation.organization_id;
    changes.delete_invitation(organization_id, &invitation.user_email)?;
    if user.state != UserState::Active {
        return Err(conflict("The account is deactivated."));
    }
    let records = changes.records();
    let manager = managing_organization(records, &user.email)?;
    if manager.as_ref() == Some(organization_id) && user.managing_organization_id != manager {
        changes.put_user(&User { managing_organization_id: manager, ..user.clone() })?;
    }
    if let Some(membership) = find_membership(records, &user.id, organization_id)? {
        return Ok(membership);
    }
    let membership = MembershipRecord {
        user_id: user.id.clone(),
        organization_id: organization_id.clone(),
        is_super_admin: false,
        join_time: now,
    };
    changes.put_membership(&membership)?;
    Ok(membership)
}

fn pending(records: &dyn Records, organization_id: &str, email: &str, now: Timestamp) -> Result<Invitation> {
    let invitation = records.invitation(organization_id, email)?;
    invitation.filter(|invitation| invitation.expiry_time > now).ok_or_else(|| not_found("invitation", email))
}

fn check_may_vouch(records: &dyn Records, organization_id: &str, email: &str) -> Result<()> {
    let managing = managing_organization(records, email)?;
    let vouches = match &managing {
        Some(managing) => managing == organization_id,
        None => records.organizations()?.len() == 1,
    };
    if vouches {
        return Ok(());
    }
    Err(conflict(match managing {
        Some(_) => {
            "There is no account with this address, and another organization has verified its domain: only that \
                    organization can invite people who have none."
        }
        None => {
            "There is no account with this address. Verify its domain first, or let the person make an account by \
                 signing in with a third party."
        }
    }))
}
