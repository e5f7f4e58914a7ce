//! Who may pass: from the credential to an [`Admission`], which nothing but the policy's permit or a route's
//! explicit declaration can yield.

use std::sync::Arc;

use http::HeaderValue;
use http::request::Parts;

use super::denials::{Denied, OfToken};
use super::glance::{Glance, Lines};
use super::outcome::Outcome;
use crate::directory::candidate::{Candidate, Difference};
use crate::directory::gather::{Gathered, Question};
use crate::headers::Identity;
use crate::identity_token::keys::SigningError;
use crate::identity_token::{Standing, Statement};
use crate::limit::Exceeded;
use crate::policy::facts::UserKind;
use crate::policy::{self, Denial, Facts, Permission, Permit};
use crate::snapshot::{DeclaredOpen, Route, Target};
use crate::token::credential::CredentialError;
use crate::token::credential::elsewhere::{Carrying, Opening};
use crate::token::{Credential, TokenEntry, TokenIndex, credential};
use crate::worker::{LocalSnapshot, Worker};

/// Proof that a request may be sent on, with what the upstream is told about its sender.
#[derive(Debug)]
pub struct Admission {
    identity: Option<Identity>,
    token: Option<TokenIndex>,
    /// What a statement of the identity would say beside it, if the upstream wants one.
    standing: Option<Standing>,
}

/// Why a request may not pass.
#[derive(Debug)]
pub enum Refusal {
    /// The policy refuses it.
    Denied {
        /// Why.
        denial: Denial,
        /// Prefix of the token if it is a known one, whose holder learns why.
        token_prefix: Option<HeaderValue>,
    },
    /// It comes from where too many have failed, with no known token.
    Throttled(Exceeded),
}

impl Admission {
    /// The policy permitted it.
    fn permitted(_permit: Permit, identity: Identity, token: TokenIndex, standing: Option<Standing>) -> Self {
        Self { identity: Some(identity), token: Some(token), standing }
    }

    /// The route was declared open: nobody is identified.
    pub fn open(_declared: DeclaredOpen) -> Self {
        Self { identity: None, token: None, standing: None }
    }

    /// The token that let it in.
    pub fn token(&self) -> Option<TokenIndex> {
        self.token
    }

    /// What the upstream is told.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Whether the upstream wants a signed statement of the identity beside it.
    pub fn wants_statement(&self) -> bool {
        self.standing.is_some()
    }

    /// Adds the signed statement, if the upstream wants one.
    ///
    /// # Errors
    ///
    /// When it cannot be signed: without it the upstream would not know whom to believe.
    #[cold]
    pub fn state(
        &mut self,
        worker: &Worker,
        snapshot: &LocalSnapshot,
        route: usize,
        outcome: &Outcome,
    ) -> Result<(), SigningError> {
        let (Some(identity), Some(standing)) = (&mut self.identity, self.standing) else { return Ok(()) };
        let Target::Upstream(upstream) = &snapshot.shared.routes[route].target else { return Ok(()) };
        let upstream = &snapshot.shared.upstreams[*upstream];
        let Some(wanted) = &upstream.config.identity_token else { return Ok(()) };
        let request_id = outcome.request_id();
        let statement = Statement {
            wanted,
            generation: snapshot.generation(),
            route,
            identity,
            standing,
            request_id: str::from_utf8(&request_id).unwrap_or_default(),
            now: worker.shared.clock.seconds(outcome.time()),
        };
        let token = worker.identity_tokens.state(&worker.shared.identity_keys, &statement)?;
        identity.token = Some(token);
        Ok(())
    }
}

/// Where a request may present a token.
#[derive(Clone, Copy, Debug)]
pub struct Presenting<'a> {
    /// The header lines that were seen at first sight.
    pub glance: &'a Glance<'a>,
    /// All of its head.
    pub head: &'a Parts,
    /// What it opens.
    pub opening: Opening,
}

impl Presenting<'_> {
    /// Checks 1 and 2: the one credential of a request, from where this route takes it.
    fn credential(&self, route: &Route) -> Result<Credential, CredentialError> {
        let Some(carriers) = &route.carriers else { return of_authorization(self.glance) };
        let (headers, query) = (&self.head.headers, self.head.uri.query());
        carriers.read(Carrying { headers, query, opening: self.opening })
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
    presenting: &Presenting<'_>,
    outcome: &mut Outcome,
) -> Result<Admission, Refusal> {
    let asked = Some((route, required));
    let Presented { entry, credential } = present(worker, presenting.credential(route))
        .map_err(|denial| refuse_stranger(worker, outcome, asked, denial))?;
    let now = worker.shared.clock.seconds(outcome.time());
    let directory = &worker.shared.directory;
    let client_address = outcome.client_address();
    let question = Question { now, client_address, required };
    let gathered = Gathered::new(directory, entry, Some(&route.project), question);
    let prefix = prefix(&credential, gathered.token().imported_prefix());
    outcome.identified(&gathered.user().id, &prefix);
    let facts = gathered.facts();
    let decided = policy::decide(&facts);
    if let Some(candidate) = gathered.candidate() {
        try_candidate(worker, candidate, facts, &decided, route, outcome);
    }
    let permit = match decided {
        Ok(permit) => permit,
        Err(denial) => return Err(refuse(worker, outcome, asked, &gathered, prefix, denial)),
    };
    let standing = route.states_identity.then(|| Standing::of(entry.index(), &facts));
    outcome.permitted(entry.index(), required, client_address);
    let user_agent = presenting.glance.user_agent.map(HeaderValue::as_bytes);
    directory.usage.touch(entry, now, client_address, user_agent);
    worker.request_counts.count(entry, &directory.usage);

    let identity = Identity {
        user_id: gathered.user().id.clone(),
        user_kind: user_kind(gathered.user().kind),
        organization_id: gathered.organization_id().cloned().unwrap_or(HeaderValue::from_static("")),
        project: route.project_header.clone(),
        token_prefix: prefix,
        token: None,
    };
    Ok(Admission::permitted(permit, identity, entry.index(), standing))
}

/// Whether a request's token holds a permission that is needed beside the one that it is let in with: no usage is noted.
#[cold]
pub fn holds_permission(
    worker: &Worker,
    route: &Route,
    required: Permission,
    presenting: &Presenting<'_>,
    outcome: &mut Outcome,
) -> Result<(), Refusal> {
    let asked = Some((route, required));
    let Presented { entry, credential } = present(worker, presenting.credential(route))
        .map_err(|denial| refuse_stranger(worker, outcome, asked, denial))?;
    let now = worker.shared.clock.seconds(outcome.time());
    let question = Question { now, client_address: outcome.client_address(), required };
    let gathered = Gathered::new(&worker.shared.directory, entry, Some(&route.project), question);
    let prefix = prefix(&credential, gathered.token().imported_prefix());
    outcome.identified(&gathered.user().id, &prefix);
    match policy::decide(&gathered.facts()) {
        Ok(_one_of_two) => Ok(()),
        Err(denial) => Err(refuse(worker, outcome, asked, &gathered, prefix, denial)),
    }
}

/// Checks 1 to 6, for a request that no route matches: only who holds a valid token learns that.
pub fn holds_valid_token(worker: &Worker, glance: &Glance<'_>, outcome: &mut Outcome) -> Result<(), Refusal> {
    let Presented { entry, credential } = present(worker, of_authorization(glance))
        .map_err(|denial| refuse_stranger(worker, outcome, None, denial))?;
    let now = worker.shared.clock.seconds(outcome.time());
    let directory = &worker.shared.directory;
    // No route, so no permission is asked for either: whichever stands here is never looked at.
    let client_address = outcome.client_address();
    let question = Question { now, client_address, required: Permission::ProjectServicesRead };
    let gathered = Gathered::new(directory, entry, None, question);
    let prefix = prefix(&credential, gathered.token().imported_prefix());
    outcome.identified(&gathered.user().id, &prefix);
    // Without an organization, the decision fails at check 7 at the latest: what fails before concerns the token.
    match policy::decide(&gathered.facts()) {
        Err(denial) if denial.status() == http::StatusCode::UNAUTHORIZED => {
            Err(refuse(worker, outcome, None, &gathered, prefix, denial))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Decides once more under the policy that is tried. Nothing comes of it but counts and a word in the access log.
#[cold]
fn try_candidate(
    worker: &Worker,
    candidate: &Candidate,
    facts: Facts<'_>,
    decided: &Result<Permit, Denial>,
    route: &Route,
    outcome: &mut Outcome,
) {
    let difference = match (decided, policy::decide(&facts.under(&candidate.policy))) {
        (Ok(_), Err(denial)) => Some(Difference::WouldDeny(denial)),
        (&Err(denial), Ok(_)) => Some(Difference::WouldPermit(denial)),
        (Ok(_), Ok(_)) | (Err(_), Err(_)) => None,
    };
    candidate.count(worker.index, difference);
    if let Some(difference) = difference {
        outcome.candidate_differs(route, difference);
    }
}

/// A known token is refused: remembered with what was decided on.
fn refuse(
    worker: &Worker,
    outcome: &Outcome,
    asked: Option<(&Route, Permission)>,
    gathered: &Gathered<'_>,
    prefix: HeaderValue,
    denial: Denial,
) -> Refusal {
    worker.shared.denials.remember(
        worker.index,
        OfToken {
            denied: denied(outcome, asked, denial),
            token_prefix: prefix.as_bytes().into(),
            facts: gathered.to_kept(),
        },
    );
    Refusal::Denied { denial, token_prefix: Some(prefix) }
}

/// Who presents no known token is refused. Who presents none at all costs nothing and has not failed.
fn refuse_stranger(
    worker: &Worker,
    outcome: &Outcome,
    asked: Option<(&Route, Permission)>,
    denial: Denial,
) -> Refusal {
    let failed = matches!(denial, Denial::MalformedCredentials | Denial::UnknownToken);
    if failed
        && let Some(throttle) = outcome.failure_throttle()
        && let Err(exceeded) = throttle.fail(outcome.client_address(), outcome.started())
    {
        return Refusal::Throttled(exceeded);
    }
    worker.shared.denials.remember_stranger(worker.index, denied(outcome, asked, denial));
    Refusal::Denied { denial, token_prefix: None }
}

fn denied(outcome: &Outcome, asked: Option<(&Route, Permission)>, reason: Denial) -> Denied {
    Denied {
        request_id: outcome.request_id(),
        time: outcome.time(),
        client_address: outcome.client_address(),
        route: asked.map(|(route, _)| Arc::clone(&route.label)),
        required: asked.map(|(_, required)| required),
        reason,
    }
}

/// Checks 1 to 3: a credential, and a token that the directory knows.
fn present(
    worker: &Worker,
    credential: Result<Credential, CredentialError>,
) -> Result<Presented<'_>, Denial> {
    let credential = credential?;
    let found = worker.shared.directory.tokens.find(&credential.digest);
    let entry = found.ok_or(Denial::UnknownToken)?;
    Ok(Presented { entry, credential })
}

fn of_authorization(glance: &Glance<'_>) -> Result<Credential, CredentialError> {
    match glance.authorization {
        Lines::None => Err(CredentialError::Missing),
        Lines::One(value) => credential::from_header(value),
        Lines::Several => Err(CredentialError::Malformed),
    }
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
