//! Tokens: making, importing, changing and revoking them. The full text of a token exists only in what
//! [`create_token`] returns.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::{Result, already_exists, check_description, conflict, invalid, not_found, user};
use crate::directory::error::OperationError;
use crate::directory::model::{Timestamp, Token, User};
use crate::directory::store::{Changed, Changes, Records, Store};
use crate::login::session::SessionTerms;
use crate::policy::facts::{UserKind, UserState};
use crate::policy::{address, permission};
use crate::token::format::shown_prefix;
use crate::token::{FreshToken, TokenDigest, TokenKind};

/// Lifetimes a token may have, in seconds.
pub const MAX_AGE_SECONDS: RangeInclusive<u32> = 600..=315_360_000;

/// Address ranges, and scopes, that a token may have.
const MAX_RESTRICTIONS: usize = 100;

/// Lengths a prefix from elsewhere may have, in characters.
const PREFIX_LENGTH: RangeInclusive<usize> = 4..=64;

/// Personal tokens that have not ended which a person may have; what was made elsewhere is the operator's to count.
const MAX_PERSONAL_TOKENS: usize = 1_000;

/// Sessions that have not ended which a person may have.
const MAX_SESSIONS: usize = 100;

/// What a token is made from, whoever made its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// Whose.
    pub user_id: String,
    /// Application, personal or session token.
    pub kind: TokenKind,
    /// What it is for.
    pub description: String,
    /// Whether somebody asked for it, as opposed to a login's.
    pub created_manually: bool,
    /// Lifetime in seconds; `None`: never ends.
    pub max_age_seconds: Option<u32>,
    /// Whether the lifetime counts from the last use.
    pub extend_when_used: bool,
    /// Addresses and networks it may be used from; empty: any.
    pub ip_allowlist: Vec<String>,
    /// Names of permissions and roles it is restricted to; empty: not restricted.
    pub scopes: Vec<String>,
    /// The login method it is made with: exactly for personal and session tokens.
    pub authentication_method_id: Option<String>,
}

/// A token that was made elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedToken {
    /// Its public handle, unique.
    pub prefix: String,
    /// SHA-256 of the whole token.
    pub digest: TokenDigest,
}

/// A partial change of a token: what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenUpdate {
    /// What it is for.
    pub description: Option<String>,
    /// Addresses and networks it may be used from; empty: any.
    pub ip_allowlist: Option<Vec<String>>,
    /// Lifetime in seconds; `Some(None)`: never ends.
    pub max_age_seconds: Option<Option<u32>>,
    /// Whether the lifetime counts from the last use.
    pub extend_when_used: Option<bool>,
    /// When the token ends at the latest if this changes its lifetime; `None`: nobody says so.
    pub latest_end_time: Option<Timestamp>,
}

/// A token just made.
#[derive(Debug)]
pub struct CreatedToken {
    /// The token with its full text, to be shown once.
    pub fresh: FreshToken,
    /// What is kept of it.
    pub token: Token,
}

/// What a revocation found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// The token was revoked just now.
    Revoked(Token),
    /// It had been revoked before.
    AlreadyRevoked(Token),
}

/// Makes a token.
///
/// # Errors
///
/// If the user does not exist, is not active or of the wrong kind, a value is not allowed, the system has no random
/// bytes, or the store fails.
pub fn create_token(store: &dyn Store, new: &NewToken, now: Timestamp) -> Result<Changed<CreatedToken>> {
    create_token_until(store, new, None, now)
}

/// Makes a token that ends at `end_time` at the latest, whatever its lifetime is.
///
/// # Errors
///
/// As [`create_token`].
pub fn create_token_until(
    store: &dyn Store,
    new: &NewToken,
    end_time: Option<Timestamp>,
    now: Timestamp,
) -> Result<Changed<CreatedToken>> {
    let fresh = generate(new.kind)?;
    let identity = ImportedToken { prefix: fresh.prefix.clone(), digest: fresh.digest };
    let stored = insert(store, new, &identity, Origin::Generated(end_time), now)?;
    Ok(Changed { value: CreatedToken { fresh, token: stored.value }, sequence: stored.sequence })
}

/// A session that begins with a login, or with what is worth one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSession {
    /// Whose.
    pub user_id: String,
    /// The method that was logged in with.
    pub authentication_method_id: String,
    /// How long it lasts.
    pub terms: SessionTerms,
}

/// Makes a session token, as [`create_token`] does.
///
/// # Errors
///
/// As [`create_token`].
pub fn create_session(
    store: &dyn Store,
    session: &NewSession,
    now: Timestamp,
) -> Result<Changed<CreatedToken>> {
    let prepared = PreparedSession::new(session.terms)?;
    let stored = store.change(now, |changes| {
        prepared.insert(changes, &session.user_id, &session.authentication_method_id, now)
    })?;
    Ok(Changed { value: prepared.finish(stored.value), sequence: stored.sequence })
}

/// A session token whose text has been made and that is not stored yet.
pub(super) struct PreparedSession {
    fresh: FreshToken,
    terms: SessionTerms,
}

impl PreparedSession {
    pub(super) fn new(terms: SessionTerms) -> Result<Self> {
        Ok(Self { fresh: generate(TokenKind::Session)?, terms })
    }

    /// Within a transaction that does more than that.
    pub(super) fn insert(
        &self,
        changes: &dyn Changes,
        user_id: &str,
        authentication_method_id: &str,
        now: Timestamp,
    ) -> Result<Token> {
        let new = NewToken {
            user_id: user_id.to_owned(),
            kind: TokenKind::Session,
            description: "login".to_owned(),
            created_manually: false,
            max_age_seconds: Some(self.terms.max_age_seconds),
            extend_when_used: self.terms.extend_when_used,
            ip_allowlist: Vec::new(),
            scopes: Vec::new(),
            authentication_method_id: Some(authentication_method_id.to_owned()),
        };
        let identity = ImportedToken { prefix: self.fresh.prefix.clone(), digest: self.fresh.digest };
        let origin = Origin::Generated(Some(self.terms.end_time));
        insert_into(changes, &new, &token(&new, &identity, origin, Vec::new(), now))
    }

    pub(super) fn finish(self, stored: Token) -> CreatedToken {
        CreatedToken { fresh: self.fresh, token: stored }
    }
}

pub(super) fn generate(kind: TokenKind) -> Result<FreshToken> {
    FreshToken::generate(kind).map_err(|error| invalid("full_token", error.to_string()))
}

/// Takes in a token that was made elsewhere, by its digest and prefix.
///
/// # Errors
///
/// As [`create_token`]; and if prefix or digest are taken.
pub fn import_token(
    store: &dyn Store,
    new: &NewToken,
    imported: &ImportedToken,
    now: Timestamp,
) -> Result<Changed<Token>> {
    store.change(now, |changes| {
        check_import(changes.records(), new, imported)?;
        import_into(changes, new, imported, now)
    })
}

/// Whether a token from elsewhere could be taken in, as far as it alone decides: another may have its prefix or its digest.
pub(super) fn check_import(records: &dyn Records, new: &NewToken, imported: &ImportedToken) -> Result<()> {
    let printable = imported.prefix.bytes().all(|byte| byte.is_ascii_graphic());
    if !printable || !PREFIX_LENGTH.contains(&imported.prefix.len()) {
        let (least, most) = (PREFIX_LENGTH.start(), PREFIX_LENGTH.end());
        return Err(invalid("token_prefix", format!("must be {least} to {most} visible ASCII characters")));
    }
    check_values(new)?;
    check_user(&user(records, &new.user_id)?, new.kind)?;
    check_binding(records, new)
}

/// Takes in a token that has been checked, if its prefix and its digest are free.
pub(super) fn import_into(
    changes: &dyn Changes,
    new: &NewToken,
    imported: &ImportedToken,
    now: Timestamp,
) -> Result<Token> {
    let ip_allowlist = check_allowlist(&new.ip_allowlist)?;
    insert_into(changes, new, &token(new, imported, Origin::Imported, ip_allowlist, now))
}

/// Changes what the update names of a token that has not been revoked.
///
/// # Errors
///
/// If there is no such token, a value is not allowed, or the store fails.
pub fn update_token(
    store: &dyn Store,
    prefix: &str,
    update: &TokenUpdate,
    now: Timestamp,
) -> Result<Changed<Token>> {
    store.change(now, |changes| {
        let mut token = find(changes.records(), prefix)?;
        if token.revoked_time.is_some() {
            return Err(invalid("token_prefix", "the token has been revoked and cannot be changed"));
        }
        check_session_lasts(&token, update)?;
        if let Some(description) = &update.description {
            check_description(description)?;
            token.description.clone_from(description);
        }
        if let Some(ip_allowlist) = &update.ip_allowlist {
            token.ip_allowlist = check_allowlist(ip_allowlist)?;
        }
        if let Some(max_age_seconds) = update.max_age_seconds {
            check_max_age(max_age_seconds)?;
            token.max_age_seconds = max_age_seconds;
        }
        token.extend_when_used = update.extend_when_used.unwrap_or(token.extend_when_used);
        if update.max_age_seconds.is_some() || update.extend_when_used.is_some() {
            token.end_time = earlier(token.end_time, update.latest_end_time);
        }
        changes.update_token(&token)?;
        Ok(token)
    })
}

/// How long a session lasts is the configuration's to say, or its identity provider's, not whoever's who holds it. Clients
/// that send whole objects repeat what is so already.
fn check_session_lasts(token: &Token, update: &TokenUpdate) -> Result<()> {
    let is_other = update.max_age_seconds.is_some_and(|wanted| wanted != token.max_age_seconds)
        || update.extend_when_used.is_some_and(|wanted| wanted != token.extend_when_used);
    if token.kind == TokenKind::Session && is_other {
        return Err(invalid(
            "max_age_seconds",
            "a session lasts as long as the configuration says ([admin.login]): make a personal token instead",
        ));
    }
    Ok(())
}

/// Revokes a token. To repeat it does no harm, and the result says so.
///
/// # Errors
///
/// If there is no such token, or the store fails.
pub fn revoke_token(store: &dyn Store, prefix: &str, now: Timestamp) -> Result<Changed<Revocation>> {
    store.change(now, |changes| {
        let token = find(changes.records(), prefix)?;
        if token.revoked_time.is_some() {
            return Ok(Revocation::AlreadyRevoked(token));
        }
        changes.revoke_token(token.number)?;
        Ok(Revocation::Revoked(Token { revoked_time: Some(now), ..token }))
    })
}

/// Whether the token that a change was asked for with has not been ended, nor its user, since it was let in. Its lifetime
/// is not asked about: it was good when the request came.
///
/// # Errors
///
/// If it has, or the store fails.
pub fn check_lives_on(records: &dyn Records, prefix: &str) -> Result<()> {
    let token = records.token(prefix)?.map(|found| found.token).filter(|token| token.revoked_time.is_none());
    let Some(token) = token else { return Err(OperationError::TokenEnded) };
    match records.user(&token.user_id)? {
        Some(user) if user.state == UserState::Active && token.create_time >= user.token_validity_begin => {
            Ok(())
        }
        _ => Err(OperationError::TokenEnded),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Here; it ends then at the latest.
    Generated(Option<Timestamp>),
    Imported,
}

fn insert(
    store: &dyn Store,
    new: &NewToken,
    identity: &ImportedToken,
    origin: Origin,
    now: Timestamp,
) -> Result<Changed<Token>> {
    let ip_allowlist = check_values(new)?;
    let token = token(new, identity, origin, ip_allowlist, now);
    store.change(now, |changes| insert_into(changes, new, &token))
}

/// Everything that does not depend on the directory; returns the address ranges as they are stored.
fn check_values(new: &NewToken) -> Result<Vec<String>> {
    check_description(&new.description)?;
    check_max_age(new.max_age_seconds)?;
    let ip_allowlist = check_allowlist(&new.ip_allowlist)?;
    check_scopes(&new.scopes)?;
    Ok(ip_allowlist)
}

pub(super) fn token(
    new: &NewToken,
    identity: &ImportedToken,
    origin: Origin,
    ip_allowlist: Vec<String>,
    now: Timestamp,
) -> Token {
    Token {
        number: 0,
        token_prefix: identity.prefix.clone(),
        digest: identity.digest,
        user_id: new.user_id.clone(),
        kind: new.kind,
        description: new.description.clone(),
        create_time: now,
        created_manually: new.created_manually,
        imported: origin == Origin::Imported,
        max_age_seconds: new.max_age_seconds,
        extend_when_used: new.extend_when_used,
        end_time: match origin {
            Origin::Generated(end_time) => end_time,
            Origin::Imported => None,
        },
        successor_prefix: None,
        ip_allowlist,
        scopes: without_repetitions(&new.scopes),
        authentication_method_id: new.authentication_method_id.clone(),
        revoked_time: None,
    }
}

fn without_repetitions(scopes: &[String]) -> Vec<String> {
    let mut seen = HashSet::new();
    scopes.iter().filter(|scope| seen.insert(scope.as_str())).cloned().collect()
}

/// Within a transaction that does more than that.
pub(super) fn insert_into(changes: &dyn Changes, new: &NewToken, token: &Token) -> Result<Token> {
    let records = changes.records();
    let user = user(records, &new.user_id)?;
    check_user(&user, new.kind)?;
    check_binding(records, new)?;
    if !token.imported {
        make_room(changes, token)?;
    }
    if changes.token_taken(token)? {
        return Err(already_exists("token", &token.token_prefix));
    }
    // A token made in the same second in which all older ones were ended is not one of them.
    let create_time = token.create_time.max(user.token_validity_begin);
    changes.insert_token(&Token { create_time, ..token.clone() })?;
    find(records, &token.token_prefix)
}

/// Nobody fills the store and every worker's memory: a person with too many personal tokens makes no more, and with too
/// many sessions the oldest end.
fn make_room(changes: &dyn Changes, token: &Token) -> Result<()> {
    let living = || changes.records().living_tokens(&token.user_id, token.kind, token.create_time);
    match token.kind {
        TokenKind::Application => Ok(()),
        TokenKind::Personal if living()?.len() < MAX_PERSONAL_TOKENS => Ok(()),
        TokenKind::Personal => Err(conflict(format!(
            "This user has {MAX_PERSONAL_TOKENS} personal tokens, and more are not allowed: revoke those that are not \
             needed any more."
        ))),
        TokenKind::Session => {
            let sessions = living()?;
            let too_many = (sessions.len() + 1).saturating_sub(MAX_SESSIONS);
            Ok(sessions.iter().take(too_many).try_for_each(|number| changes.revoke_token(*number))?)
        }
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn find(records: &dyn Records, prefix: &str) -> Result<Token> {
    let found = records.token(prefix)?;
    found.map(|found| found.token).ok_or_else(|| not_found("token", &shown_prefix(prefix)))
}

fn check_user(user: &User, kind: TokenKind) -> Result<()> {
    if user.state != UserState::Active {
        return Err(invalid("user_id", "the user is deactivated: activate it first"));
    }
    match (kind, user.kind) {
        (TokenKind::Application, UserKind::ApplicationUser)
        | (TokenKind::Personal | TokenKind::Session, UserKind::OrganizationUser) => Ok(()),
        (TokenKind::Application, UserKind::OrganizationUser) => {
            Err(invalid("kind", "an application token needs an application user"))
        }
        (TokenKind::Personal | TokenKind::Session, UserKind::ApplicationUser) => {
            Err(invalid("kind", "an application user has application tokens only"))
        }
    }
}

fn check_binding(records: &dyn Records, new: &NewToken) -> std::result::Result<(), OperationError> {
    const FIELD: &str = "authentication_method_id";
    match (new.kind, &new.authentication_method_id) {
        (TokenKind::Application, None) => Ok(()),
        (TokenKind::Application, Some(_)) => Err(invalid(FIELD, "an application token has no login method")),
        (TokenKind::Personal | TokenKind::Session, None) => {
            Err(invalid(FIELD, "a personal or session token is bound to one of its user's login methods"))
        }
        (TokenKind::Personal | TokenKind::Session, Some(id)) => match records.authentication_method(id)? {
            Some(method) if method.user_id == new.user_id => Ok(()),
            _ => Err(not_found("authentication method", id)),
        },
    }
}

fn check_max_age(seconds: Option<u32>) -> Result<()> {
    match seconds {
        Some(seconds) if !MAX_AGE_SECONDS.contains(&seconds) => {
            let (least, most) = (MAX_AGE_SECONDS.start(), MAX_AGE_SECONDS.end());
            Err(invalid(
                "max_age_seconds",
                format!("is {seconds}, must be {least} to {most}, or absent for never"),
            ))
        }
        _ => Ok(()),
    }
}

/// The ranges as they are stored: as they were given, so that who compares them with what was asked for finds no
/// difference; only what says more than it means is cut (`10.1.2.3/8` is `10.0.0.0/8`).
fn check_allowlist(ranges: &[String]) -> Result<Vec<String>> {
    if ranges.len() > MAX_RESTRICTIONS {
        return Err(invalid(
            "ip_allowlist",
            format!("has {} ranges, at most {MAX_RESTRICTIONS}", ranges.len()),
        ));
    }
    let parse = |text: &String| {
        let range = address::parse_range(text).map_err(|error| invalid("ip_allowlist", error.to_string()))?;
        let means_what_it_says =
            text.parse().is_ok_and(|address: IpAddr| address == range.addr()) || text.parse() == Ok(range);
        Ok(if means_what_it_says { text.clone() } else { range.to_string() })
    };
    ranges.iter().map(parse).collect()
}

fn check_scopes(scopes: &[String]) -> Result<()> {
    if scopes.len() > MAX_RESTRICTIONS {
        return Err(invalid("scopes", format!("has {} scopes, at most {MAX_RESTRICTIONS}", scopes.len())));
    }
    permission::scopes(scopes).map(drop).map_err(|error| invalid("scopes", error.to_string()))
}
