//! What one decision is made from, gathered from the cells as they are now: the same for production, for `explain` and
//! for the benchmark.
//!
//! Nothing is decided here, and nothing is known of HTTP.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::Guard;
use http::HeaderValue;

use super::view::{CurrentUser, DirectoryView, OrganizationEntry, ProjectCell, ProjectEntry, UserEntry};
use crate::policy::{Facts, Permission, RequestFacts};
use crate::token::TokenEntry;
use crate::token::cache::TokenState;

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
            request: RequestFacts {
                now: self.question.now,
                client_address: self.question.client_address,
                required: self.question.required,
                resource_chain: project.map_or(&[], |project| &project.resource_chain),
            },
            token: self.token.facts(),
            user: self.user.facts(),
            organization: organization.map(|(project, current)| current.facts(project.organization.index)),
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
