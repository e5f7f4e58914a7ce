//! Who may pass: from the credential to an [`Admission`], which nothing but the policy's permit or a route's
//! explicit declaration can yield.

use http::HeaderValue;
use std::net::IpAddr;

use super::glance::{Glance, Lines};
use super::outcome::Outcome;
use crate::directory::gather::{Gathered, Question};
use crate::headers::Identity;
use crate::policy::facts::UserKind;
use crate::policy::{self, Denial, Permission, Permit};
use crate::snapshot::{DeclaredOpen, Route};
use crate::token::credential::CredentialError;
use crate::token::{Credential, TokenEntry, credential};
use crate::worker::Worker;

/// Proof that a request may be sent on, with what the upstream is told about its sender.
#[derive(Debug)]
pub struct Admission {
    identity: Option<Identity>,
}

/// A refusal, with the prefix of the token if it is a known one.
#[derive(Debug)]
pub struct Refusal {
    /// Why.
    pub denial: Denial,
    /// Whose holder learns why.
    pub token_prefix: Option<HeaderValue>,
}

impl Admission {
    /// The policy permitted it.
    fn permitted(_permit: Permit, identity: Identity) -> Self {
        Self { identity: Some(identity) }
    }

    /// The route was declared open: nobody is identified.
    pub fn open(_declared: DeclaredOpen) -> Self {
        Self { identity: None }
    }

    /// What the upstream is told.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }
}

impl Refusal {
    fn of_stranger(denial: Denial) -> Self {
        Self { denial, token_prefix: None }
    }
}

/// A known token, as a request presented it.
struct Presented<'a> {
    entry: TokenEntry<'a>,
    credential: Credential,
}

/// Checks 1 to 14 of the policy, for a route; usage is noted when it permits.
pub fn authorize(
    worker: &Worker,
    route: &Route,
    required: Permission,
    glance: &Glance<'_>,
    client_address: IpAddr,
    outcome: &mut Outcome,
) -> Result<Admission, Refusal> {
    let Presented { entry, credential } = present(worker, glance)?;
    let now = worker.shared.clock.seconds(outcome.time());
    let directory = &worker.shared.directory;
    let question = Question { now, client_address, required };
    let gathered = Gathered::new(directory, entry, Some(&route.project), question);
    let prefix = prefix(&credential, gathered.token().imported_prefix());
    outcome.identified(&gathered.user().id, &prefix);
    let permit = match policy::decide(&gathered.facts()) {
        Ok(permit) => permit,
        Err(denial) => return Err(Refusal { denial, token_prefix: Some(prefix) }),
    };
    outcome.permitted(entry.index(), required, client_address);
    let user_agent = glance.user_agent.map(HeaderValue::as_bytes);
    directory.usage.touch(entry, now, client_address, user_agent);

    let identity = Identity {
        user_id: gathered.user().id.clone(),
        user_kind: user_kind(gathered.user().kind),
        organization_id: gathered.organization_id().cloned().unwrap_or(HeaderValue::from_static("")),
        project: route.project_header.clone(),
        token_prefix: prefix,
    };
    Ok(Admission::permitted(permit, identity))
}

/// Checks 1 to 6, for a request that no route matches: only who holds a valid token learns that.
pub fn holds_valid_token(
    worker: &Worker,
    glance: &Glance<'_>,
    client_address: IpAddr,
    outcome: &mut Outcome,
) -> Result<(), Refusal> {
    let Presented { entry, credential } = present(worker, glance)?;
    let now = worker.shared.clock.seconds(outcome.time());
    let directory = &worker.shared.directory;
    // No route, so no permission is asked for either: whichever stands here is never looked at.
    let question = Question { now, client_address, required: Permission::ProjectServicesRead };
    let gathered = Gathered::new(directory, entry, None, question);
    let prefix = prefix(&credential, gathered.token().imported_prefix());
    outcome.identified(&gathered.user().id, &prefix);
    // Without an organization, the decision fails at check 7 at the latest: what fails before concerns the token.
    match policy::decide(&gathered.facts()) {
        Err(denial) if denial.status() == http::StatusCode::UNAUTHORIZED => {
            Err(Refusal { denial, token_prefix: Some(prefix) })
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Checks 1 to 3: a credential, and a token that the directory knows.
fn present<'a>(worker: &'a Worker, glance: &Glance<'_>) -> Result<Presented<'a>, Refusal> {
    let credential = match glance.authorization {
        Lines::None => Err(CredentialError::Missing),
        Lines::One(value) => credential::from_header(value),
        Lines::Several => Err(CredentialError::Malformed),
    };
    let credential = credential.map_err(|error| Refusal::of_stranger(error.into()))?;
    let found = worker.shared.directory.tokens.find(&credential.digest);
    let entry = found.ok_or_else(|| Refusal::of_stranger(Denial::UnknownToken))?;
    Ok(Presented { entry, credential })
}

/// The token's public handle: its own beginning, or what it was imported under.
fn prefix(credential: &Credential, imported: Option<&str>) -> HeaderValue {
    let bytes = match (&credential.prefix, imported) {
        (_, Some(imported)) => imported.as_bytes(),
        (Some(own), None) => own,
        (None, None) => b"-",
    };
    HeaderValue::from_bytes(bytes).unwrap_or(HeaderValue::from_static("-"))
}

fn user_kind(kind: UserKind) -> HeaderValue {
    HeaderValue::from_static(match kind {
        UserKind::OrganizationUser => "organization",
        UserKind::ApplicationUser => "application",
    })
}
