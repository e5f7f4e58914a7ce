//! Showing that a domain is an organization's: a TXT record that only its owner can make, or a file that only its
//! owner can put on its web server.
//!
//! What follows from it is not known here ([`crate::directory::operations::verify_domain`]).

use super::outgoing::{NameError, Names, Outgoing, OutgoingError};
use crate::directory::model::{Domain, DomainVerification};

/// Label in front of the domain at which the TXT record is looked for.
const CHALLENGE_LABEL: &str = "_aiven-challenge";

/// Where the file is on the domain's web server.
const CHALLENGE_PATH: &str = "/.well-known/aiven";

/// Most of a file that is looked at, in bytes and lines. A file is a line; a page may stand around it.
const MAX_FILE_BYTES: usize = 64 * 1024;

/// Looks whether domains are whose they are said to be. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DomainCheck {
    /// Looks records up.
    pub names: Names,
    /// Fetches files.
    pub outgoing: Outgoing,
    /// Where web servers of domains are asked, 443 but in tests.
    pub port: u16,
}

/// Why it has not been shown. The messages say what was looked for and what was found.
#[derive(Debug, thiserror::Error)]
pub enum NotShown {
    /// The record cannot be looked up.
    #[error("{0}; make a TXT record at {1:?} with the value {2:?}, and try again once it is published")]
    NoRecord(NameError, String, String),
    /// The record says something else.
    #[error("the TXT record at {place:?} does not say {expected:?}, found {found} other(s)")]
    OtherRecord {
        /// Name of the record.
        place: String,
        /// What it should say.
        expected: String,
        /// How many others there are.
        found: usize,
    },
    /// The file cannot be fetched.
    #[error("{0}; put the challenge token into the file at {1:?}, reachable over HTTPS without a redirect")]
    NoFile(OutgoingError, String),
    /// The file says something else.
    #[error("no line of the file at {place:?} is the challenge token")]
    OtherFile {
        /// Address of the file.
        place: String,
    },
}

impl DomainCheck {
    /// Looks for the domain's challenge in the way that the domain is to be verified.
    ///
    /// # Errors
    ///
    /// If it is not there, or cannot be looked for.
    pub async fn check(&self, domain: &Domain) -> Result<(), NotShown> {
        match domain.verification_type {
            DomainVerification::Dns => self.dns(domain).await,
            DomainVerification::Http => self.http(domain).await,
        }
    }

    async fn dns(&self, domain: &Domain) -> Result<(), NotShown> {
        let place = format!("{CHALLENGE_LABEL}.{}", domain.name);
        let expected = record(domain);
        match self.names.texts(&place).await {
            Ok(texts) if texts.iter().any(|text| text.trim() == expected) => Ok(()),
            Ok(texts) => Err(NotShown::OtherRecord { place, expected, found: texts.len() }),
            Err(error) => Err(NotShown::NoRecord(error, place, expected)),
        }
    }

    async fn http(&self, domain: &Domain) -> Result<(), NotShown> {
        let place = match self.port {
            443 => format!("https://{}{CHALLENGE_PATH}", domain.name),
            port => format!("https://{}:{port}{CHALLENGE_PATH}", domain.name),
        };
        let content = match self.outgoing.fetch(&place, "text/plain, text/html, */*").await {
            Ok(content) => content,
            Err(error) => return Err(NotShown::NoFile(error, place)),
        };
        let content = content.get(..MAX_FILE_BYTES).unwrap_or(&content);
        let record = record(domain);
        let shown = String::from_utf8_lossy(content)
            .lines()
            .map(str::trim)
            .any(|line| line == domain.challenge_token || line == record);
        if shown { Ok(()) } else { Err(NotShown::OtherFile { place }) }
    }
}

/// What the TXT record says, as in Aiven's documentation.
fn record(domain: &Domain) -> String {
    format!("token={},expiry=never", domain.challenge_token)
}
