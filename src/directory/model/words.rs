//! The words by which closed enums are stored and shown. One table each, read in both directions.

use serde::Serializer;

use super::{DomainState, DomainVerification, IdentityProviderKind, MethodKind};
use crate::directory::author::Channel;
use crate::policy::facts::{UserKind, UserState};
use crate::token::TokenKind;

/// A closed enum whose values have a word each.
pub trait Word: Copy + PartialEq + 'static {
    /// Every value with its word.
    const WORDS: &'static [(Self, &'static str)];

    /// The value's word.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(value, _)| *value == self).map_or("", |(_, word)| word)
    }

    /// The value with this word, if there is one.
    fn from_word(text: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(_, word)| *word == text).map(|(value, _)| *value)
    }
}

/// Serializes a value as its word.
pub(super) fn serialize_word<T: Word, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.word())
}

impl Word for UserKind {
    const WORDS: &'static [(Self, &'static str)] =
        &[(Self::OrganizationUser, "organization_user"), (Self::ApplicationUser, "application_user")];
}

impl Word for UserState {
    const WORDS: &'static [(Self, &'static str)] =
        &[(Self::Active, "active"), (Self::Deactivated, "deactivated"), (Self::Deleted, "deleted")];
}

impl Word for TokenKind {
    const WORDS: &'static [(Self, &'static str)] =
        &[(Self::Application, "application"), (Self::Personal, "personal"), (Self::Session, "session")];
}

impl Word for Channel {
    const WORDS: &'static [(Self, &'static str)] = &[
        (Self::Api, "api"),
        (Self::Login, "login"),
        (Self::CommandLine, "command_line"),
        (Self::Configuration, "configuration"),
        (Self::System, "system"),
    ];
}

impl Word for MethodKind {
    const WORDS: &'static [(Self, &'static str)] = &[
        (Self::Password, "password"),
        (Self::Google, "google"),
        (Self::Microsoft, "microsoft"),
        (Self::GitHub, "github"),
        (Self::IdentityProvider, "identity_provider"),
    ];
}

impl Word for IdentityProviderKind {
    const WORDS: &'static [(Self, &'static str)] = &[(Self::Saml, "saml"), (Self::Oidc, "oidc")];
}

impl Word for DomainState {
    const WORDS: &'static [(Self, &'static str)] =
        &[(Self::Unverified, "unverified"), (Self::Verified, "verified"), (Self::Deleted, "deleted")];
}

impl Word for DomainVerification {
    const WORDS: &'static [(Self, &'static str)] = &[(Self::Dns, "dns"), (Self::Http, "http")];
}
