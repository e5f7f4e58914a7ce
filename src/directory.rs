//! The directory: organizations, users, grants, policies and tokens together.
//!
//! [`model`] says what is stored, [`store`] how it is kept durable, [`operations`] how it may change, [`view`] how
//! workers see it in memory, and [`sync`] carries changes from the store to the view in the store's order.

pub mod author;
pub mod candidate;
pub mod concern;
pub mod error;
pub mod gather;
pub mod guarded;
pub mod model;
pub mod operations;
pub mod preview;
pub mod sqlite;
pub mod stale;
pub mod store;
pub mod summary;
pub mod sync;
pub mod view;

use std::sync::Arc;

use crate::config::StoreConfig;

pub use author::{Author, AuthoredStore, Channel};
pub use error::{OperationError, StoreError};
pub use store::{Changed, Store};
pub use sync::Synchronizer;
pub use view::DirectoryView;

/// Opens the store that the configuration names.
///
/// # Errors
///
/// If it is missing, not a store, of a newer schema, damaged, locked, or cannot be written to; the message says what
/// to do.
pub fn open(config: &StoreConfig) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(sqlite::SqliteStore::open(config)?))
}
