//! A small directory, the same in every run: users with grants, and tokens of every shape whose text is fixed, so that
//! no look-up depends on chance.

use std::sync::Arc;

use postern::config::StoreConfig;
use postern::directory::model::{Principal, Resource, Timestamp};
use postern::directory::operations::{self, NewApplicationUser, NewToken};
use postern::directory::view::ProjectCell;
use postern::directory::{DirectoryView, Store, Synchronizer};
use postern::policy::Permission;
use postern::token::format::PREFIX_LENGTH;
use postern::token::{TokenDigest, TokenKind};
use rusqlite::{Connection, params};

pub const ORGANIZATION: &str = "org1a2b3c4d5e6";
pub const PROJECT: &str = "example-project";

/// The address that the tokens' allow-lists have, and that requests over loopback come from.
pub const CLIENT: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// What requests need unless said otherwise.
pub const REQUIRED: Permission = Permission::ServiceDataWrite;

const USERS: u64 = 8;
const TOKENS: u64 = 64;

/// A directory in memory with its tokens' texts.
pub struct Directory {
    pub view: Arc<DirectoryView>,
    pub project: Arc<ProjectCell>,
    /// Tokens that are permitted [`REQUIRED`] on the project: every second one ends, every fourth has an allow-list, every
    /// eighth has scopes.
    pub tokens: Vec<String>,
    /// A token that may read the project's services and nothing else.
    pub reader: String,
    /// A token in the right format that nobody has made.
    pub unknown: String,
    /// Keeps the view alive as production does.
    _synchronizer: Synchronizer,
    _folder: tempfile::TempDir,
}

impl Directory {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig {
            path: folder.path().join("directory.sqlite"),
            create_if_missing: true,
            stale_after: None,
        };
        let store = postern::directory::open(&config).unwrap();
        let now = Timestamp::now();
        operations::ensure_organization(&*store, ORGANIZATION, "Example", now).unwrap();
        operations::ensure_project(&*store, PROJECT, ORGANIZATION, now).unwrap();
        let users: Vec<_> = (0..USERS).map(|_| user(&*store, "developer", now)).collect();
        let made = (0..TOKENS).map(|n| make(&*store, &users[(n % USERS) as usize], n, now));
        let mut prefixes: Vec<_> = made.collect();
        prefixes.push(make(&*store, &user(&*store, "read_only", now), 1, now));
        drop(store);

        // The tokens' texts are the only thing left to chance.
        let connection = Connection::open(&config.path).unwrap();
        let mut tokens = Vec::new();
        for (n, prefix) in prefixes.iter().enumerate() {
            let token = token_text(n as u64);
            let digest = TokenDigest::of(token.as_bytes());
            connection
                .execute(
                    "UPDATE tokens SET digest = ?1, prefix = ?2 WHERE prefix = ?3",
                    params![digest.as_bytes(), &token[..PREFIX_LENGTH], prefix],
                )
                .unwrap();
            tokens.push(token);
        }
        drop(connection);
        let store = postern::directory::open(&config).unwrap();
        let (synchronizer, view) = Synchronizer::start(store, Default::default()).unwrap();
        Self {
            project: view.project(PROJECT),
            reader: tokens.pop().unwrap(),
            tokens,
            unknown: token_text(1_000_000),
            view,
            _synchronizer: synchronizer,
            _folder: folder,
        }
    }
}

fn user(store: &dyn Store, role: &str, now: Timestamp) -> String {
    let new = NewApplicationUser {
        organization_id: ORGANIZATION.to_owned(),
        name: "reports".to_owned(),
        description: String::new(),
        is_super_admin: false,
    };
    let id = operations::create_application_user(store, &new, now).unwrap().value.user.id;
    let (principal, resource) = (Principal::User(id.clone()), Resource::Project(PROJECT.to_owned()));
    operations::grant(store, &principal, &resource, &[role.to_owned()], now).unwrap();
    id
}

/// Makes a token; returns its prefix.
fn make(store: &dyn Store, user: &str, n: u64, now: Timestamp) -> String {
    let every = |period: u64, names: &[&str]| {
        names.iter().filter(|_| n.is_multiple_of(period)).map(|&name| name.to_owned()).collect()
    };
    let new = NewToken {
        user_id: user.to_owned(),
        kind: TokenKind::Application,
        description: String::new(),
        created_manually: true,
        max_age_seconds: n.is_multiple_of(2).then_some(86_400 * 365),
        extend_when_used: n.is_multiple_of(4),
        ip_allowlist: every(4, &["192.0.2.0/24", "127.0.0.0/8"]),
        scopes: every(8, &[REQUIRED.as_str()]),
        authentication_method_id: None,
    };
    operations::create_token(store, &new, now).unwrap().value.fresh.prefix
}

/// The text of an application token: marker, 44 digits that only `n` decides, checksum.
fn token_text(n: u64) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut state = n;
    let mut text = String::from("psta_");
    for _ in 0..44 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push(char::from(DIGITS[(state >> 33) as usize % 62]));
    }
    let mut checksum = crc32fast::hash(text.as_bytes());
    let mut written = [0; 6];
    for digit in written.iter_mut().rev() {
        *digit = DIGITS[(checksum % 62) as usize];
        checksum /= 62;
    }
    text + std::str::from_utf8(&written).unwrap()
}
