//! What one decision is made from, gathered from the cells as they are now: the same for production, for `explain` and
//! for the benchmark.
//!
//! Nothing is decided here, and nothing is known of HTTP.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::Guard;
use http::HeaderValue;

use super::candidate::Candidate;
use super::view::{CurrentUser, DirectoryView, OrganizationEntry, ProjectCell, ProjectEntry, UserEntry};
use crate::policy::{Facts, Permission, RequestFacts};
use crate::token::TokenEntry;
use crate::token::cache::{KeptToken, TokenState};

/// What is asked of a token.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Seconds since the epoch; must never step back within a process.
    pub now: u32,
    /// Where the request comes from.
    pub client_address: IpAddr,
    /// The permission that the request needs.
    pub required: Permission,
}

/// The states of a user, a project and an organization at one moment, held for one decision.
#[derive(Debug)]
pub struct Gathered<'a> {
    question: Question,
    token: TokenState<'a>,
    user: CurrentUser,
    project: Option<Guard<Option<Arc<ProjectEntry>>>>,
    organization: Option<Guard<Arc<OrganizationEntry>>>,
}

impl<'a> Gathered<'a> {
    /// Looks at every cell once. Without a project there is no organization, of which then nobody is a member.
    pub fn new(
        view: &DirectoryView,
        entry: TokenEntry<'a>,
        project: Option<&ProjectCell>,
        question: Question,
    ) -> Self {
        let project = project.map(|cell| cell.current.load());
        let owner = project.as_ref().and_then(|project| project.as_ref());
        let organization = owner.map(|project| project.organization.current.load());
        Self { question, token: entry.state(), user: view.users.current(entry.user()), organization, project }
    }

    /// The facts, borrowed.
    pub fn facts(&self) -> Facts<'_> {
        let project = self.known_project();
        let organization = project.zip(self.organization.as_ref());
        Facts {
            request: self.question.facts(project),
            token: self.token.facts(),
            user: self.user.facts(),
            organization: organization.map(|(project, current)| current.facts(project.organization.index)),
        }
    }

    /// The policy that is tried on the organization's requests, if one is.
    #[inline]
    pub fn candidate(&self) -> Option<&Candidate> {
        self.organization.as_ref()?.candidate.as_deref()
    }

    /// All of it, to be kept longer than for one decision: a denial can be explained later as it was.
    pub fn to_kept(&self) -> KeptFacts {
        KeptFacts {
            question: self.question,
            token: self.token.to_kept(),
            user: self.user.to_kept(),
            project: self.project.as_ref().and_then(|project| Option::clone(project)),
            organization: self.organization.as_ref().map(|organization| Arc::clone(organization)),
        }
    }

    /// What decides about the token.
    pub fn token(&self) -> &TokenState<'a> {
        &self.token
    }

    /// Whose token it is.
    pub fn user(&self) -> &UserEntry {
        &self.user
    }

    /// Who owns the project, if the directory knows it.
    pub fn organization_id(&self) -> Option<&HeaderValue> {
        self.known_project().map(|project| &project.organization.id)
    }

    fn known_project(&self) -> Option<&ProjectEntry> {
        self.project.as_ref().and_then(|project| project.as_deref())
    }
}

impl Question {
    fn facts(self, project: Option<&ProjectEntry>) -> RequestFacts<'_> {
        RequestFacts {
            now: self.now,
            client_address: self.client_address,
            required: self.required,
            resource_chain: project.map_or(&[], |project| &project.resource_chain),
        }
    }
}

/// What a decision was made from, as it was then.
#[derive(Clone, Debug)]
pub struct KeptFacts {
    question: Question,
    token: KeptToken,
    user: Arc<UserEntry>,
    project: Option<Arc<ProjectEntry>>,
    organization: Option<Arc<OrganizationEntry>>,
}

impl KeptFacts {
    /// The facts, borrowed.
    pub fn facts(&self) -> Facts<'_> {
        let project = self.project.as_deref();
        let organization = project.zip(self.organization.as_deref());
        Facts {
            request: self.question.facts(project),
            token: self.token.facts(),
            user: self.user.facts(),
            organization: organization.map(|(project, current)| current.facts(project.organization.index)),
        }
    }

    /// Whose token it was.
    pub fn user(&self) -> &UserEntry {
        &self.user
    }

    /// Who owned the project, if the directory knew it.
    pub fn organization_id(&self) -> Option<&HeaderValue> {
        self.project.as_deref().map(|project| &project.organization.id)
    }
}
