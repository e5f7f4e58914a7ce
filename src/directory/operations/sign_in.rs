//! Whom somebody is who comes from a third party or an identity provider: the one person in the directory that the
//! identity belongs to, or nobody.
//!
//! The subject is the identity: once it is a person's, it stays that person's, whatever becomes of email addresses.
//! Before that, an address counts only if the provider's word for it does. Everything happens in one transaction.

use super::members::find_membership;
use super::passwords::void_reset;
use super::tokens::PreparedSession;
use super::users::{managing_organization, note_of_user};
use super::{CreatedToken, Result, check_name, methods};
use crate::directory::model::{
    AuthenticationMethod, DomainState, IdentityProvider, MembershipRecord, MethodKind, Timestamp, User,
    new_id,
};
use crate::directory::store::{Changed, Changes, Records, Store};
use crate::login::identity::{Email, Identity, email_domain};
use crate::login::session::SessionTerms;
use crate::policy::facts::{UserKind, UserState};
use crate::policy::method::ThirdParty;

/// Through whom somebody signs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// Google, Microsoft or GitHub.
    ThirdParty(ThirdParty),
    /// An organization's identity provider, by id.
    IdentityProvider(String),
}

/// Somebody who has come back from there, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Through whom.
    pub via: Via,
    /// Who it is there.
    pub identity: Identity,
}

/// Who it is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// The person.
    pub user: User,
    /// The way of logging in, which tokens are bound to.
    pub method: AuthenticationMethod,
    /// The identity provider, if it was one: it may decide how long the session lasts.
    pub provider: Option<IdentityProvider>,
}

/// Why nobody is let in. The messages are for who tries, who has shown to be the identity in question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignInRefusal {
    /// The identity provider has been switched off or removed.
    #[error("this identity provider is not enabled; ask an admin of your organization")]
    ProviderDisabled,
    /// The provider did not say an email address, or not one whose word counts.
    #[error(
        "the provider does not vouch for your email address; verify it there, or ask an admin of your organization \
         to let the provider say so"
    )]
    EmailNotVerified,
    /// The identity provider logs in people of other domains.
    #[error(
        "your email address is not at a verified domain that this identity provider is linked to; ask an admin of \
         your organization"
    )]
    DomainNotLinked,
    /// Nobody with this address is here or expected.
    #[error(
        "there is no user with your email address, and no organization has invited it; ask for an invitation"
    )]
    Unknown,
    /// The person has been switched off.
    #[error("this user has been deactivated; ask an admin of your organization")]
    Deactivated,
    /// The address is the one of an application user.
    #[error("application users cannot log in")]
    ApplicationUser,
    /// The person is linked to another identity there.
    #[error(
        "your user is linked to another account at this provider; log in with that, or remove that authentication \
         method first"
    )]
    LinkedToAnother,
}

/// Finds the person, links or makes it where that is safe, and sees to memberships.
///
/// # Errors
///
/// If the store fails. Who is refused gets a [`SignInRefusal`] as the result, and nothing has changed.
pub fn sign_in(
    store: &dyn Store,
    arrival: &Arrival,
    now: Timestamp,
) -> Result<Changed<std::result::Result<SignedIn, SignInRefusal>>> {
    let (user_id, method_id) = (new_id("u"), new_id("uam"));
    store.change(now, |changes| {
        let entry = Entry { changes, arrival, now, user_id: &user_id, method_id: &method_id };
        match entry.admit() {
            Ok(signed_in) => Ok(Ok(signed_in)),
            Err(Stop::Refused(refusal)) => Ok(Err(refusal)),
            Err(Stop::Failed(error)) => Err(error),
        }
    })
}

/// Begins a session of somebody who has signed in.
///
/// # Errors
///
/// If the person was switched off or the way of logging in removed in the meantime, or the store fails.
pub fn begin_session(
    store: &dyn Store,
    signed_in: &SignedIn,
    terms: SessionTerms,
    now: Timestamp,
) -> Result<Changed<CreatedToken>> {
    let session = PreparedSession::new(terms)?;
    let stored = store.change(now, |changes| {
        note_of_user(changes, &signed_in.user.id, "user_logged_in")?;
        session.insert(changes, &signed_in.user.id, &signed_in.method.id, now)
    })?;
    Ok(Changed { value: session.finish(stored.value), sequence: stored.sequence })
}

/// Why an entry ended. A refusal is decided before anything is written.
enum Stop {
    Refused(SignInRefusal),
    Failed(crate::directory::OperationError),
}

impl<E: Into<crate::directory::OperationError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

type Admission<T> = std::result::Result<T, Stop>;

fn refuse<T>(refusal: SignInRefusal) -> Admission<T> {
    Err(Stop::Refused(refusal))
}

struct Entry<'a> {
    changes: &'a dyn Changes,
    arrival: &'a Arrival,
    now: Timestamp,
    user_id: &'a str,
    method_id: &'a str,
}

impl Entry<'_> {
    fn admit(&self) -> Admission<SignedIn> {
        let records = self.changes.records();
        let provider = self.provider()?;
        let known = records.authentication_method_of(
            self.kind(),
            self.provider_id(),
            &self.arrival.identity.subject,
        )?;
        let known = match known {
            Some(method) => records.user(&method.user_id)?.map(|user| (user, method)),
            None => None,
        };
        let (user, method) = match known {
            Some((user, method)) if user.state != UserState::Deleted => {
                check_user(&user)?;
                if let Some(provider) = &provider {
                    // Both count: the address it has here, and the one the provider now says.
                    require_linked(records, provider, &user.email)?;
                    require_linked(records, provider, self.verified_email()?)?;
                }
                (user, method)
            }
            // A person that was deleted for good does not stand in the way of a new one.
            gone => self.link_or_make(provider.as_ref(), gone.map(|(_, method)| method))?,
        };
        Ok(SignedIn { user, method, provider })
    }

    /// The identity is nobody's yet.
    fn link_or_make(
        &self,
        provider: Option<&IdentityProvider>,
        gone: Option<AuthenticationMethod>,
    ) -> Admission<(User, AuthenticationMethod)> {
        let records = self.changes.records();
        let email = self.verified_email()?;
        if let Some(provider) = provider {
            require_linked(records, provider, email)?;
        }
        let existing = records.user_by_email(email)?;
        let unused = match &existing {
            Some(user) => {
                check_user(user)?;
                self.unused_method(user)?
            }
            // The provider's organization owns the domain; a third party's word alone makes no member.
            None if provider.is_none() && !records.is_invited(email, self.now)? => {
                return refuse(SignInRefusal::Unknown);
            }
            None => None,
        };
        // From here on nothing is refused any more.
        if let Some(gone) = gone {
            self.changes.delete_authentication_method(&gone.id)?;
        }
        let mut user = match existing {
            Some(user) => self.without_unproved_password(user)?,
            None => self.new_user(email)?,
        };
        if let Some(provider) = provider {
            self.join(&mut user, provider)?;
        }
        let subject = &self.arrival.identity.subject;
        let method = match unused {
            Some(method) => {
                self.changes.set_authentication_method_subject(&method.id, subject)?;
                AuthenticationMethod { subject: Some(subject.clone()), ..method }
            }
            None => {
                let method = AuthenticationMethod {
                    id: self.method_id.to_owned(),
                    user_id: user.id.clone(),
                    kind: self.kind(),
                    identity_provider_id: self.provider_id().map(str::to_owned),
                    subject: Some(subject.clone()),
                    create_time: self.now,
                };
                self.changes.insert_authentication_method(&method)?;
                method
            }
        };
        Ok((user, method))
    }

    /// Takes the password from somebody who has shown for the first time whose address it is, if it goes back to a code.
    /// Whoever was handed that code, or kept it, made the account, and would go on logging into it beside its owner.
    fn without_unproved_password(&self, user: User) -> Admission<User> {
        let records = self.changes.records();
        let methods = records.authentication_methods(&user.id)?;
        let has_been_shown = methods.iter().any(|method| method.subject.is_some());
        if has_been_shown || !records.password(&user.id)?.is_some_and(|password| password.from_code) {
            return Ok(user);
        }
        for method in methods.iter().filter(|method| method.kind == MethodKind::Password) {
            methods::delete(self.changes, method)?;
        }
        note_of_user(self.changes, &user.id, "unproved_password_removed")?;
        // Two-factor authentication has gone with it.
        Ok(records.user(&user.id)?.unwrap_or(user))
    }

    /// The provider, which must be one to log in with.
    fn provider(&self) -> Admission<Option<IdentityProvider>> {
        let Via::IdentityProvider(id) = &self.arrival.via else { return Ok(None) };
        match self.changes.records().identity_provider(id)? {
            Some(provider) if provider.enabled => Ok(Some(provider)),
            _ => refuse(SignInRefusal::ProviderDisabled),
        }
    }

    /// The user's method of this kind, if it has one that has never been used; one of another identity is in the way.
    fn unused_method(&self, user: &User) -> Admission<Option<AuthenticationMethod>> {
        let methods = self.changes.records().authentication_methods(&user.id)?;
        let same = methods.into_iter().find(|method| {
            method.kind == self.kind() && method.identity_provider_id.as_deref() == self.provider_id()
        });
        match same {
            Some(AuthenticationMethod { subject: Some(_), .. }) => refuse(SignInRefusal::LinkedToAnother),
            unused => Ok(unused),
        }
    }

    fn new_user(&self, email: &str) -> Admission<User> {
        let name = self.arrival.identity.name.as_deref().map(str::trim).unwrap_or_default();
        let name = if check_name("real_name", name).is_ok() { name } else { email };
        let user = User {
            id: self.user_id.to_owned(),
            kind: UserKind::OrganizationUser,
            email: email.to_owned(),
            // An address may be longer than a name.
            name: name.chars().take(super::MAX_NAME).collect(),
            description: String::new(),
            state: UserState::Active,
            two_factor_enabled: false,
            token_validity_begin: Timestamp(0),
            managing_organization_id: managing_organization(self.changes.records(), email)?,
            create_time: self.now,
        };
        self.changes.put_user(&user)?;
        Ok(user)
    }

    /// Makes who comes for the first time a member of the provider's organization and of the group it names.
    fn join(&self, user: &mut User, provider: &IdentityProvider) -> Admission<()> {
        let records = self.changes.records();
        let organization_id = &provider.organization_id;
        if find_membership(records, &user.id, organization_id)?.is_none() {
            self.changes.put_membership(&MembershipRecord {
                user_id: user.id.clone(),
                organization_id: organization_id.clone(),
                is_super_admin: false,
                join_time: self.now,
            })?;
        }
        if let Some(group_id) = &provider.auto_join_user_group_id
            && records.group(group_id)?.is_some_and(|group| group.organization_id == *organization_id)
        {
            self.changes.add_group_member(group_id, &user.id)?;
            void_reset(self.changes, &user.id)?;
        }
        let manager = managing_organization(records, &user.email)?;
        if user.managing_organization_id != manager && manager.as_ref() == Some(organization_id) {
            user.managing_organization_id = manager;
            self.changes.put_user(user)?;
        }
        Ok(())
    }

    fn verified_email(&self) -> Admission<&str> {
        match &self.arrival.identity.email {
            Email::Verified(email) => Ok(email),
            Email::Unverified(_) | Email::None => refuse(SignInRefusal::EmailNotVerified),
        }
    }

    fn kind(&self) -> MethodKind {
        match &self.arrival.via {
            Via::ThirdParty(ThirdParty::Google) => MethodKind::Google,
            Via::ThirdParty(ThirdParty::Microsoft) => MethodKind::Microsoft,
            Via::ThirdParty(ThirdParty::GitHub) => MethodKind::GitHub,
            Via::IdentityProvider(_) => MethodKind::IdentityProvider,
        }
    }

    fn provider_id(&self) -> Option<&str> {
        match &self.arrival.via {
            Via::ThirdParty(_) => None,
            Via::IdentityProvider(id) => Some(id),
        }
    }
}

fn check_user(user: &User) -> Admission<()> {
    match (user.kind, user.state) {
        (UserKind::ApplicationUser, _) => refuse(SignInRefusal::ApplicationUser),
        (UserKind::OrganizationUser, UserState::Active) => Ok(()),
        (UserKind::OrganizationUser, UserState::Deactivated | UserState::Deleted) => {
            refuse(SignInRefusal::Deactivated)
        }
    }
}

/// Whether the address is at a domain that the provider's organization has verified and linked to it.
fn require_linked(records: &dyn Records, provider: &IdentityProvider, email: &str) -> Admission<()> {
    let domain = match email_domain(email) {
        Some(domain) => records.verified_domain(domain)?,
        None => None,
    };
    let linked = domain.is_some_and(|domain| {
        domain.state == DomainState::Verified
            && domain.organization_id == provider.organization_id
            && provider.linked_domain_ids.contains(&domain.id)
    });
    if linked { Ok(()) } else { refuse(SignInRefusal::DomainNotLinked) }
}
