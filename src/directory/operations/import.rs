//! Taking in tokens that were made elsewhere, many at a time: one transaction, in which each stands for itself.

use super::tokens::{ImportedToken, NewToken, check_import, import_into};
use super::{Result, already_exists};
use crate::directory::error::OperationError;
use crate::directory::model::Timestamp;
use crate::directory::store::{Changed, Records, Store};

/// A token to be taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Whose it is and what it may do.
    pub new: NewToken,
    /// Its prefix and its digest.
    pub imported: ImportedToken,
}

/// What became of one, or would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// It is there now.
    TakenIn,
    /// It had been there: the same prefix and digest, of the same user. Nothing of it was changed.
    Known,
}

/// Takes in what can be taken in of these tokens, in one transaction. To repeat it does no harm. A token's refusal is its own:
/// the others are taken in all the same.
///
/// # Errors
///
/// If the store fails; then none was taken in. For each token: as [`super::import_token`].
pub fn import_tokens(
    store: &dyn Store,
    tokens: &[Import],
    now: Timestamp,
) -> Result<Changed<Vec<Result<Imported>>>> {
    store.change(now, |changes| {
        let one = |import: &Import| match look(changes.records(), import)? {
            Imported::Known => Ok(Imported::Known),
            Imported::TakenIn => {
                import_into(changes, &import.new, &import.imported, now).map(|_| Imported::TakenIn)
            }
        };
        tokens.iter().map(|import| of_one(one(import))).collect()
    })
}

/// What would become of these tokens. Two with the same prefix or digest among them are not noticed.
///
/// # Errors
///
/// If the store fails. For each token: as [`super::import_token`].
pub fn try_import(store: &dyn Store, tokens: &[Import]) -> Result<Vec<Result<Imported>>> {
    store.read(|records| {
        Ok(tokens.iter().map(|import| of_one(look(records, import))).collect::<Result<_>>())
    })?
}

/// The store's failures are everybody's, everything else is one token's.
fn of_one(outcome: Result<Imported>) -> Result<Result<Imported>> {
    match outcome {
        Err(error @ OperationError::Store(_)) => Err(error),
        outcome => Ok(outcome),
    }
}

fn look(records: &dyn Records, import: &Import) -> Result<Imported> {
    let Import { new, imported } = import;
    check_import(records, new, imported)?;
    if let Some(found) = records.token(&imported.prefix)? {
        let is_same = found.token.digest == imported.digest && found.token.user_id == new.user_id;
        return if is_same { Ok(Imported::Known) } else { Err(already_exists("token", &imported.prefix)) };
    }
    match records.token_by_digest(&imported.digest)? {
        Some(found) => Err(already_exists("token", &found.token.token_prefix)),
        None => Ok(Imported::TakenIn),
    }
}
