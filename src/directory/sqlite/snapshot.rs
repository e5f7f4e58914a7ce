//! One state of the whole directory, read as fast as SQLite goes: tokens in the order of their rows, merged with
//! their usage, without a text of its own per row where that can be avoided.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::Row;

use super::read::Reader;
use super::rows::{self, Interner};
use crate::directory::error::StoreError;
use crate::directory::model::{MethodKind, Word};
use crate::directory::store::{DirectorySnapshot, Records, RowBinding, SnapshotReceiver, TokenRow};
use crate::token::TokenKind;
use crate::token::usage::UserAgent;

/// Tokens handed over at once.
const BATCH: usize = 1_024;

const TOKEN_COLUMNS: &str = "number, digest, user_number, kind, create_time, max_age_seconds, extend_when_used, \
     revoked_time, method_number, ip_allowlist, scopes, imported, CASE WHEN imported THEN prefix END, end_time";

/// How many columns those are.
const TOKEN_COLUMN_COUNT: usize = 14;

/// Sends everything to the receiver.
pub(super) fn send(reader: &Reader<'_>, receiver: &mut dyn SnapshotReceiver) -> Result<(), StoreError> {
    receiver.receive_directory(directory(reader)?);
    let methods = methods(reader)?;
    let mut stream = || -> rusqlite::Result<()> {
        let mut tokens =
            reader.connection.prepare(&format!("SELECT {TOKEN_COLUMNS} FROM tokens ORDER BY number"))?;
        let mut usage = reader.connection.prepare(
            "SELECT token_number, last_used_time, last_ip, last_user_agent FROM token_usage ORDER BY token_number",
        )?;
        let mut tokens = tokens.query([])?;
        let mut usage = usage.query([])?;
        let mut used = usage.next()?;
        let mut texts = Texts::default();
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(row) = tokens.next()? {
            let mut token = token(row, &methods, &mut texts)?;
            while let Some(row) = used {
                let number = rows::number(row, 0)?;
                if number == token.number {
                    add_usage(&mut token, row, 1, &mut texts)?;
                }
                if number > token.number {
                    break;
                }
                used = usage.next()?;
            }
            batch.push(token);
            if batch.len() == BATCH {
                receiver.receive_tokens(std::mem::replace(&mut batch, Vec::with_capacity(BATCH)));
            }
        }
        receiver.receive_tokens(batch);
        Ok(())
    };
    stream().map_err(|error| reader.failures.of(error))
}

/// One token, as in a snapshot.
pub(super) fn token_row(reader: &Reader<'_>, number: u32) -> Result<Option<TokenRow>, StoreError> {
    let mut texts = Texts::default();
    let method: Option<(i64, RowBinding)> = reader.one(
        "SELECT a.number, a.kind, a.identity_provider_id FROM tokens t
             JOIN authentication_methods a ON a.number = t.method_number WHERE t.number = ?1",
        [number],
        method,
    )?;
    let methods = method.into_iter().collect();
    let sql = format!(
        "SELECT {TOKEN_COLUMNS}, s.last_used_time, s.last_ip, s.last_user_agent
         FROM tokens LEFT JOIN token_usage s ON s.token_number = number WHERE number = ?1"
    );
    reader.one(&sql, [number], |row| {
        let mut token = token(row, &methods, &mut texts)?;
        add_usage(&mut token, row, TOKEN_COLUMN_COUNT, &mut texts)?;
        Ok(token)
    })
}

fn directory(reader: &Reader<'_>) -> Result<DirectorySnapshot, StoreError> {
    let grants = reader.all(&format!("SELECT {} FROM grants", rows::GRANT), [], rows::grant)?;
    let users = format!("SELECT {}, u.number FROM users u", rows::USER);
    Ok(DirectorySnapshot {
        sequence: reader.sequence()?,
        token_count: reader
            .one("SELECT seq FROM sqlite_sequence WHERE name = 'tokens'", [], |row| rows::number(row, 0))?
            .unwrap_or(0) as usize,
        organizations: reader.organizations()?,
        units: reader.all(&format!("SELECT {} FROM units", rows::UNIT), [], rows::unit)?,
        projects: reader.all(&format!("SELECT {} FROM projects", rows::PROJECT), [], rows::project)?,
        identity_providers: reader.all(
            &format!("SELECT {} FROM identity_providers", rows::PROVIDER),
            [],
            rows::provider,
        )?,
        users: reader.all(&users, [], |row| Ok((rows::number(row, 10)?, rows::user(row)?)))?,
        memberships: reader.all(
            &format!("SELECT {} FROM memberships m", rows::MEMBERSHIP),
            [],
            rows::membership,
        )?,
        group_members: reader
            .all("SELECT group_id, user_id FROM group_members", [], |row| Ok((row.get(0)?, row.get(1)?)))?,
        grants: grants.into_iter().flatten().collect(),
    })
}

type Methods = HashMap<i64, RowBinding>;

fn methods(reader: &Reader<'_>) -> Result<Methods, StoreError> {
    let sql = "SELECT number, kind, identity_provider_id FROM authentication_methods";
    Ok(reader.all(sql, [], method)?.into_iter().collect())
}

fn method(row: &Row<'_>) -> rusqlite::Result<(i64, RowBinding)> {
    let provider: Option<Arc<str>> = row.get_ref(2)?.as_str_or_null()?.map(Into::into);
    let binding = match (MethodKind::from_word(row.get_ref(1)?.as_str()?), provider) {
        (Some(MethodKind::IdentityProvider), Some(provider)) => RowBinding::IdentityProvider(provider),
        (Some(MethodKind::IdentityProvider) | None, _) => RowBinding::None,
        (Some(kind), _) => RowBinding::Method(kind),
    };
    Ok((row.get(0)?, binding))
}

/// Texts that many rows share.
#[derive(Default)]
struct Texts {
    restrictions: Interner,
    user_agents: HashMap<Box<str>, Arc<UserAgent>>,
}

fn token(row: &Row<'_>, methods: &Methods, texts: &mut Texts) -> rusqlite::Result<TokenRow> {
    let mut digest = [0; 32];
    let stored = row.get_ref(1)?.as_blob()?;
    if stored.len() == digest.len() {
        digest.copy_from_slice(stored);
    }
    let method = row.get_ref(8)?.as_i64_or_null()?;
    Ok(TokenRow {
        number: rows::number(row, 0)?,
        digest,
        user_number: rows::number(row, 2)?,
        kind: TokenKind::from_word(row.get_ref(3)?.as_str()?),
        created_at: rows::number(row, 4)?,
        max_age_seconds: rows::max_age(row, 5)?.unwrap_or(0),
        extend_when_used: row.get_ref(6)?.as_i64()? != 0,
        end_time: rows::optional_number(row, 13)?,
        revoked: row.get_ref(7)?.as_i64_or_null()?.is_some(),
        binding: method.and_then(|number| methods.get(&number).cloned()).unwrap_or(RowBinding::None),
        ip_allowlist: row.get_ref(9)?.as_str_or_null()?.map(|text| texts.restrictions.intern(text)),
        scopes: row.get_ref(10)?.as_str_or_null()?.map(|text| texts.restrictions.intern(text)),
        imported_prefix: row.get_ref(12)?.as_str_or_null()?.map(Into::into),
        last_used_at: 0,
        last_address: None,
        last_user_agent: None,
    })
}

/// Adds the usage that stands in a row from this column on.
fn add_usage(token: &mut TokenRow, row: &Row<'_>, column: usize, texts: &mut Texts) -> rusqlite::Result<()> {
    token.last_used_at = rows::number_or_zero(row, column)?;
    token.last_address = rows::address(row, column + 1)?;
    if let Some(agent) = row.get_ref(column + 2)?.as_str_or_null()? {
        let known = texts.user_agents.get(agent).map(Arc::clone);
        token.last_user_agent = Some(known.unwrap_or_else(|| {
            let shared = Arc::new(UserAgent::from_bytes(agent.as_bytes()));
            texts.user_agents.insert(agent.into(), Arc::clone(&shared));
            shared
        }));
    }
    Ok(())
}
