//! `[admin.login]`, `[[admin.third_parties]]` and the requests that go with them, as the program runs on them.
//!
//! What must not live here: logging in itself, which is [`crate::login`].

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;

use crate::policy::ThirdParty;

/// `[admin.login]`: how people log in, and what it costs those who guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginConfig {
    /// Memory of one password hash, in KiB.
    pub argon2_memory_kib: u32,
    /// Passes of one password hash over its memory.
    pub argon2_iterations: u32,
    /// Lanes of one password hash.
    pub argon2_parallelism: u32,
    /// Passwords hashed at a time for people who have not logged in from where they are.
    pub concurrent_hashes: usize,
    /// How long a session may stay unused.
    pub session_idle_seconds: u32,
    /// How long a session may last.
    pub session_absolute_seconds: u32,
    /// Failures of an account from one source before any has to wait.
    pub free_attempts: u32,
    /// Longest time that a failure has to wait.
    pub longest_delay: Duration,
    /// Failures of one source at once, over all accounts.
    pub source_attempts: u32,
    /// How long it takes until there is one more.
    pub source_refill: Duration,
}

/// `[[admin.third_parties]]`: a third party that people can sign in with.
#[derive(Clone, Debug)]
pub struct ThirdPartyConfig {
    /// Which.
    pub kind: ThirdParty,
    /// Who we are to it.
    pub client_id: String,
    /// What shows that.
    pub client_secret: SecretString,
    /// How it is spoken to, and where.
    pub protocol: ThirdPartyProtocol,
}

/// How a third party is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThirdPartyProtocol {
    /// OpenID Connect.
    OpenIdConnect {
        /// Its address; what else there is to know is published below it.
        issuer: String,
        /// In place of the published one.
        authorization_endpoint: Option<String>,
        /// In place of the published one.
        token_endpoint: Option<String>,
    },
    /// GitHub's OAuth, which publishes nothing.
    GitHub {
        /// Where browsers are sent.
        authorization_endpoint: String,
        /// Where codes are exchanged.
        token_endpoint: String,
        /// Where it says who somebody is.
        user_endpoint: String,
        /// Where it says what their addresses are.
        emails_endpoint: String,
    },
}

/// `[admin.http]`: requests that Postern itself sends, to providers and to domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingConfig {
    /// PEM file of authorities that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long a whole exchange may take.
    pub total_timeout: Duration,
    /// Networks that are not of the public Internet and may be reached all the same.
    pub private_networks: Vec<IpNet>,
    /// Port at which the web servers of domains are asked.
    pub domain_check_port: u16,
}

impl Default for LoginConfig {
    /// What holds where the file says nothing.
    fn default() -> Self {
        Self {
            argon2_memory_kib: 19_456,
            argon2_iterations: 2,
            argon2_parallelism: 1,
            concurrent_hashes: 2,
            session_idle_seconds: 7 * 86_400,
            session_absolute_seconds: 30 * 86_400,
            free_attempts: 5,
            longest_delay: Duration::from_secs(900),
            source_attempts: 20,
            source_refill: Duration::from_secs(6),
        }
    }
}
